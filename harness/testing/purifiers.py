"""Does a purifier keep its contract?"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.contracts import (
    Purifier,
    SampleRng,
    Tree,
    map_tree,
)
from harness.plugins.returned import RANGE
from harness.testing.common import (
    Report,
    expect_reference,
    identical,
    image_pairs,
    largest_gap,
    leaves_of,
    natural,
    take_rows,
    watching_randomness,
    worst_slope,
)

_OF_NETWORKS = 1e-5
"""By how much a network's pixels may differ with the batch that an image is in: its sums are taken in other orders."""


def check_purifier(
    purifier: Purifier, *, name: str | None = None, size: int = 32, network: nn.Module | None = None
) -> None:
    """Check a purifier against its contract.

    Args:
        purifier: With the parameters to check.
        name: What messages call it; its registered name unless given.
        size: Side of the images in pixels.
        network: That of a purifier that has one, with its weights; left out, an untrained one of a fixed seed.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("purifier", purifier, name)
    expect_reference(report, purifier)
    probe = _PurifierProbe(purifier, report, size, network)
    if probe.has_network() and probe.applies():
        probe.draws()
        probe.rows()
        probe.gradient()
    report.settle()


class _PurifierProbe:
    def __init__(self, purifier: Purifier, report: Report, size: int, network: nn.Module | None) -> None:
        self._purifier, self._report, self._network = purifier, report, network
        self._rounding = RANGE
        self._says = "apply()" if type(purifier).purify is Purifier.purify else "purify()"
        self._ref, self._dist = image_pairs(size, size)
        self._ids = [f"sample {i}" for i in range(len(self._ref))]

    def _draw(self, images: Tensor, rows: Sequence[int], seed: int = 0) -> Tree:
        return self._purifier.draw(images, SampleRng.for_samples(seed, [self._ids[r] for r in rows], "defense"))

    def _apply(self, images: Tensor, draw: Tree) -> Tensor:
        """What the engine calls, on images of either precision."""
        network = self._network
        if network is not None and images.dtype == torch.float64:
            network = copy.deepcopy(network).double()
        return self._purifier.purify(images, draw, network)

    def has_network(self) -> bool:
        """A network is a module, of the same names and shapes each time; False if nothing else can be probed."""
        rule, cure = "network() gives an untrained torch module, or None", "build it of the parameters alone"
        with self._report.probing(rule, "network()", cure), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            made, again = self._purifier.network(), self._purifier.network()
            good = made is None or isinstance(made, nn.Module)
            self._report.expect(good, rule, f"it gives {type(made).__name__}", cure)
            if not good:
                return False
            if made is not None and again is not None:
                shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in (made, again)]
                self._report.expect(
                    shapes[0] == shapes[1], rule, "a second one has other weights by name or shape", cure
                )
            given = self._network if self._network is not None else made
            if given is not None:
                self._network, self._rounding = given.eval().requires_grad_(False), _OF_NETWORKS
            return True
        return False

    def applies(self) -> bool:
        """Shape, range, determinism and sizes; False if nothing else can be probed."""
        report = self._report
        whole = False
        height, width = self._ref.shape[-2:]
        for h, w in ((height, width), (height + 1, width + 7)):
            rule, cure = f"{self._says} returns images", "return float32 images N x 3 x H' x W'"
            with report.probing(rule, f"{w} x {h} px", cure):
                images = image_pairs(h, w)[1]
                given = images.clone()
                with torch.no_grad(), watching_randomness(report, f"draw() or {self._says}"):
                    draw = self._draw(images, range(len(images)))
                    kept = leaves_of(draw)
                    purified = self._apply(images, draw)
                good = (
                    isinstance(purified, Tensor)
                    and purified.ndim == 4
                    and purified.shape[:2] == images.shape[:2]
                    and purified.dtype == images.dtype
                )
                got = getattr(purified, "shape", type(purified).__name__)
                report.expect(good, rule, f"{w} x {h} px gives {got} {getattr(purified, 'dtype', '')}", cure)
                if not good:
                    continue
                low, high = float(purified.min()), float(purified.max())
                report.expect(
                    bool(purified.isfinite().all()) and low >= -RANGE and high <= 1 + RANGE,
                    "purified images lie in [0, 1]",
                    f"values from {low:g} to {high:g}",
                    "end with clamp(0, 1)",
                )
                report.expect(
                    identical(images, given) and identical(tuple(kept), draw),
                    "inputs are left as they are",
                    f"{self._says} changed the images or the draw it was given",
                    "work on a copy: no in-place operations",
                )
                with torch.no_grad():
                    again = self._apply(given, draw)
                report.expect(
                    identical(purified, again),
                    f"{self._says} is a deterministic function of images and draw",
                    f"a second call differs by up to {largest_gap(purified, again):g}",
                    "make every random choice in draw()",
                )
                whole = True
        return whole

    def draws(self) -> None:
        """One draw per sample whatever the batch, and others under another seed."""
        report, purifier, images = self._report, self._purifier, self._dist
        rule = "one draw per sample, whatever the batch"
        cure = "draw with rng.uniform, normal, signs or integers and nothing else; they give one row per sample"
        count = len(images)
        with report.probing(rule, "draw() on another batch", cure), torch.no_grad():
            draw = self._draw(images, range(count))
            shapes = [list(t.shape) for t in leaves_of(draw) if t.ndim == 0 or t.shape[0] != count]
            report.expect(not shapes, "a draw has the batch on axis 0", f"tensors of shape {shapes[:3]}", cure)
            if shapes:
                return
            purified = self._apply(images, draw)
            for label, rows in (("another order", (2, 0, 3, 1)), ("a batch of one", (3,))):
                index = torch.tensor(rows)
                other = self._draw(images[index], rows)
                gap = largest_gap(self._apply(images[index], other), purified[index])
                report.expect(
                    identical(other, take_rows(draw, index)) and gap <= self._rounding,
                    rule,
                    f"in {label}, samples {list(rows)} drew something else: their images differ by up to {gap:g}",
                    cure,
                )
        rule = "randomised says whether draws follow the rng"
        with report.probing(rule, "other seeds", cure), torch.no_grad():
            results = [self._apply(images, self._draw(images, range(count), seed)) for seed in range(8)]
            changed = sum(not identical(results[0], other) for other in results[1:])
            report.expect(
                (changed > 0) == purifier.randomised,
                rule,
                f"randomised = {purifier.randomised}, and {changed} of 7 other seeds gave other images",
                "set randomised to False if draw() uses no randomness, to True if it does",
            )

    def rows(self) -> None:
        """Row i depends on row i and its draw alone, so reference and distorted image are purified alike."""
        report, purifier = self._report, self._purifier
        rule = "reference and distorted image are purified alike"
        cure = f"let row i of {self._says} depend on row i of images and draw alone"
        count = len(self._ref)
        with report.probing(rule, "rows in another order or batch", cure), torch.no_grad():
            draw = self._draw(self._ref, range(count))
            ref, dist = self._apply(self._ref, draw), self._apply(self._dist, draw)
            twice = self._apply(torch.cat((self._ref, self._dist)), map_tree(lambda t: torch.cat((t, t)), draw)).split(
                count
            )
            gap = max(largest_gap(twice[0], ref), largest_gap(twice[1], dist))
            report.expect(gap <= self._rounding, rule, f"stacked with one draw, images differ by up to {gap:g}", cure)
            order = torch.tensor([2, 0, 3, 1])
            moved = self._apply(self._dist[order], take_rows(draw, order))
            gap = largest_gap(moved, dist[order])
            allowed = 0 if self._network is None else self._rounding
            report.expect(gap <= allowed, rule, f"in another order, images differ by up to {gap:g}", cure)
            if not purifier.applies_to_reference():
                size, cure = list(dist.shape[2:]), "keep the size, or let it apply to the reference, too"
                rule = "images keep their size where the reference is not purified"
                report.expect(size == list(self._dist.shape[2:]), rule, f"{self._dist.shape[2:]} became {size}", cure)

    def gradient(self) -> None:
        """The exact gradient is exact; a surrogate is differentiable and fits; of "both", both."""
        if self._purifier.gradient in ("exact", "both"):
            self._exact()
        if self._purifier.gradient in ("surrogate", "both"):
            self._stand_in()

    def _exact(self) -> None:
        report = self._report
        images = 0.2 + 0.6 * self._dist  # and not clipped: where neighbours are equal a median has no derivative
        rule = f"an exact gradient is that of {self._says}"
        cure = "use differentiable operations, or set gradient = 'surrogate' and offer surrogate()"
        with report.probing(rule, "backward", cure):
            draw = self._draw(images, range(len(images)))
            shape = self._apply(images, draw).shape
            weight = natural(7, int(shape[-2]), int(shape[-1]))

            def function(x: Tensor) -> Tensor:
                weighed: Tensor = (self._apply(x, draw) * weight.to(x.dtype)).flatten(1).sum(1)
                return weighed

            kind = "float64"
            try:
                slope = worst_slope(function, images.double())
            except (RuntimeError, TypeError, ValueError, NotImplementedError):
                kind, slope = "float32", worst_slope(function, images)
            report.expect(
                slope.excess <= 1,
                rule,
                f"autograd gives {slope.autograd:.6g} and central differences in {kind} {slope.finite:.6g}",
                cure,
            )

    def _stand_in(self) -> None:
        report, purifier = self._report, self._purifier
        rule, cure = f"a surrogate is differentiable and has the shape of {self._says}", "mend surrogate()"
        with report.probing(rule, "surrogate()", cure):
            draw = self._draw(self._dist, range(len(self._dist)))
            with torch.no_grad():
                purified = self._apply(self._dist, draw)
            leaf = self._dist.clone().requires_grad_(True)
            stand_in = purifier.surrogate(leaf, draw)
            good = stand_in.shape == purified.shape and stand_in.requires_grad
            report.expect(
                good,
                rule,
                f"shape {list(stand_in.shape)} for {list(purified.shape)}, requires_grad {stand_in.requires_grad}",
                cure,
            )
            if good:
                (gradient,) = torch.autograd.grad(stand_in.sum(), leaf)
                peak = float(gradient.abs().max())
                report.expect(0 < peak < float("inf"), rule, f"the largest slope is {peak:g}", cure)
