"""A metric under its purifiers: the thing that is attacked and the thing that scores."""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.contracts import DataError, Metric, Purifier, SampleRng, Tree
from harness.errors import UserError
from harness.plugins.build import fresh, frozen, noting_members
from harness.plugins.model import singular
from harness.plugins.registry import Registry
from harness.plugins.returned import check_images, check_range, check_scores
from harness.plugins.weights.locate import RANDOM_WEIGHTS, WeightFile, load
from harness.suite.identity import identity
from harness.suite.model import MetricUse, PurifierUse, Use
from harness.suite.plan import ScorerSpec
from harness.suite.uses import Built, contents_of


class Scorer:
    """A metric (base or trained weights) under zero or more purifiers. All randomness enters through `encode`.

    Args:
        metric: In evaluation mode, on its device.
        purifiers: Applied in order to reference and distorted image alike, with one draw per sample.
        names: What metric and purifiers are called in messages, with where they come from; their classes if left out.
        networks: Of each purifier, with its weights, frozen, on the device; None for those without, or for all.
    """

    def __init__(
        self,
        metric: Metric,
        purifiers: Sequence[Purifier] = (),
        names: Sequence[str] = (),
        networks: Sequence[nn.Module | None] = (),
    ) -> None:
        self.metric = metric
        self.purifiers = tuple(purifiers)
        self._networks = tuple(networks) or (None,) * len(self.purifiers)
        self._stand_in = False
        self.name, *self._names = names or [type(part).__name__ for part in (metric, *purifiers)]
        self.randomised = any(p.randomised for p in self.purifiers)
        self.both_gradients = any(p.gradient == "both" for p in self.purifiers)
        """Whether an adaptive attack is to be run with exact gradients, and with those of `standing_in`."""

    def standing_in(self) -> Scorer:
        """The same scorer; purifiers whose gradient is "both" are differentiated by their surrogates (BPDA)."""
        other = copy.copy(self)
        other._stand_in = True
        return other

    def encode(self, ref: Tensor, rng: SampleRng) -> Tree:
        """Everything that depends on the reference and the draws; never inference mode, or gradients would break.

        Args:
            ref: Reference images, N x 3 x H x W in [0, 1].
            rng: One generator per sample, from which the purifiers draw.

        Raises:
            DataError: The images are smaller than the metric can score.
        """
        height, width = ref.shape[-2:]
        if min(height, width) < self.metric.minimum_size:
            raise DataError(
                f"{self.name} needs images of at least {self.metric.minimum_size} px a side, and these have "
                f"{width} x {height}. Leave the metric out, or take larger images."
            )
        draws = []
        with torch.no_grad():
            for purifier, network, name in self._parts():
                draw = purifier.draw(ref, rng)
                if purifier.applies_to_reference():
                    ref = check_images(purifier.purify(ref, draw, network), ref, name, same_size=False)
                draws.append(draw)
            return self.metric.encode(ref), tuple(draws)

    def quality(self, reference: Tree, dist: Tensor, *, inspect: bool = False) -> Tensor:
        """Quality of each distorted image, shape [N], higher is better; deterministic given `reference`.

        Args:
            reference: What `encode` returned.
            dist: Distorted images, N x 3 x H x W in [0, 1].
            inspect: Also check the range of what purifiers return, which waits for the device.

        Raises:
            PluginFaultError: The metric or a purifier returned something that its contract does not allow.
        """
        encoded, dist = self._purified(reference, dist, inspect)
        score = check_scores(self.metric.score(encoded, dist), dist, self.name)
        return score if self.metric.higher_is_better else -score

    def surrogate(self, reference: Tree, dist: Tensor) -> Tensor:
        """What the metric names as its differentiable stand-in, as quality, shape [N]; arguments as of `quality`.

        Raises:
            PluginFaultError: The metric or a purifier returned something that its contract does not allow.
        """
        encoded, dist = self._purified(reference, dist, inspect=False)
        score = check_scores(self.metric.surrogate(encoded, dist), dist, f"{self.name}: surrogate()")
        return score if self.metric.higher_is_better else -score

    def _purified(self, reference: Tree, dist: Tensor, inspect: bool) -> tuple[Tree, Tensor]:
        """The encoded reference, and the images after every purifier."""
        encoded, draws = reference
        for (purifier, network, name), draw in zip(self._parts(), draws, strict=True):
            dist = check_images(self._purify(purifier, network, dist, draw), dist, name, same_size=False)
            if inspect:
                check_range(dist, name)
        return encoded, dist

    def _parts(self) -> Iterator[tuple[Purifier, nn.Module | None, str]]:
        """Every purifier with its network, and with what its method is called in messages."""
        for purifier, network, name in zip(self.purifiers, self._networks, self._names, strict=True):
            own = type(purifier).purify is Purifier.purify
            yield purifier, network, f"{name}: {'apply' if own else 'purify'}()"

    def _purify(self, purifier: Purifier, network: nn.Module | None, images: Tensor, draw: Any) -> Tensor:
        exact = purifier.gradient == "exact" or (purifier.gradient == "both" and not self._stand_in)
        if exact or not (torch.is_grad_enabled() and images.requires_grad):
            return purifier.purify(images, draw, network)
        return straight_through(purifier, network, images, draw)


def straight_through(purifier: Purifier, network: nn.Module | None, images: Tensor, draw: Any) -> Tensor:
    """What a purifier gives, with the gradient of its surrogate."""
    with torch.no_grad():
        purified = purifier.purify(images, draw, network)
    stand_in = purifier.surrogate(images, draw)
    return purified + (stand_in - stand_in.detach())


def build_scorer(
    spec: ScorerSpec,
    registry: Registry,
    device: torch.device,
    networks: MutableMapping[str, nn.Module] | None = None,
) -> Scorer:
    """A scorer ready to be attacked: weights loaded and verified, evaluation mode, frozen, on the device.

    Args:
        spec: What it is made of.
        registry: Where its plugins come from.
        device: Where it is to be.
        networks: Those of purifiers that are there already, by identity; others are added.

    Raises:
        UserError: The weights cannot be loaded.
    """
    purifiers: list[Purifier] = [registry.purifier(p.name).build(p.parameters) for p in spec.purifiers]
    names = [in_messages(part, registry) for part in (spec.metric, *spec.purifiers)]
    kept = {} if networks is None else networks
    loaded = [_network(use, one, device, kept) for use, one in zip(spec.purifiers, purifiers, strict=True)]
    return Scorer(load_metric(spec.metric, registry, device), purifiers, names, loaded)


def _network(
    use: PurifierUse, purifier: Purifier, device: torch.device, kept: MutableMapping[str, nn.Module]
) -> nn.Module | None:
    """The network of a purifier with its weights; untrained ones are the same whatever the seed."""
    if not use.weights:
        return None
    key = identity("network", use.identity())
    if key not in kept:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = purifier.network()
        assert network is not None
        if use.weights_file is not None:
            load(network, WeightFile(use.name, use.weights_file, use.weights), kind="purifier")
        kept[key] = frozen(network, device)
    return kept[key]


def load_metric(use: MetricUse, registry: Registry, device: torch.device) -> Metric:
    """A metric with its weights loaded and verified, in evaluation mode, frozen, on the device.

    Raises:
        UserError: The weights cannot be loaded, or what it loads by itself is not what the suite was read with.
    """
    with noting_members() as members:
        metric = fresh(registry, use.name, use.parameters)
    if use.weights_file is not None and use.weights != RANDOM_WEIGHTS:
        load(metric, WeightFile(use.name, use.weights_file, use.weights))
    plugin = registry.metric(use.name)
    found = contents_of(plugin, use.parameters, Built(metric, members), weights=use.weights or None)
    if (use.contents.state, use.contents.members) != (found.state, found.members):
        raise UserError(
            f"{in_messages(use, registry)} holds other values than when this was planned: what it loads when it is "
            "built was changed meanwhile. Leave it as it is and run the same command again; a value that is another in "
            "every process should not be kept in it."
        )
    return frozen(metric, device)


def in_messages(use: Use, registry: Registry) -> str:
    """What a plugin is called in messages: "metric 'mae' from mae.py"."""
    return f"{singular(use.kind)} '{use.name}' from {registry.source(use.kind, use.name).origin}"


def device_named(name: str) -> torch.device:
    """A device that holds numbers, by torch's name for it.

    Raises:
        UserError: There is no such device here.
    """
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise UserError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}). Give cpu or cuda.") from error
