"""What the checks share: faults, made images, and comparisons."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contracts import (
    Citable,
    Metric,
    Norm,
    Tree,
    map_tree,
)
from harness.plugins.guard import calling
from harness.plugins.references import DECLARE, BibtexError, references_in
from harness.plugins.returned import told

RELATIVE = 1e-5
"""How far a score may move with the size of its batch, relative to the largest score of the batch."""
RADII: Mapping[Norm, Mapping[str, float]] = {
    "linf": {"usual": 4 / 255, "tiny": 1e-4, "large": 1.0},
    "l2": {"usual": 1.0, "tiny": 1e-3, "large": 100.0},
}
"""Budgets an attack is tried on, in [0, 1] image units."""
SEED = 20240229
_STRENGTHS = (0.15, 0.35, 0.6, 0.9)


@dataclass(frozen=True)
class Fault:
    """One broken rule of a contract."""

    rule: str
    seen: str
    cure: str


class ConformanceError(AssertionError):
    """A plugin breaks its contract.

    Args:
        plugin: Kind and name of the plugin.
        faults: Every broken rule.
    """

    def __init__(self, plugin: str, faults: Sequence[Fault]) -> None:
        count = f"{len(faults)} rules" if len(faults) > 1 else "a rule"
        lines = [f"  {i}. {f.rule}.\n     Seen: {f.seen}.\n     Cure: {f.cure}." for i, f in enumerate(faults, 1)]
        super().__init__("\n".join([f"{plugin} breaks {count} of its contract (harness/contracts.py):", *lines]))
        self.plugin = plugin
        self.faults = tuple(faults)


class Report:
    """The faults of one plugin, gathered while it is probed; a rule broken several times is told once."""

    def __init__(self, kind: str, plugin: object, name: str | None) -> None:
        registered = getattr(type(plugin), "registrations", ())
        called = name or (registered[0].name if registered else type(plugin).__name__)
        self._plugin = f"{kind} '{called}' (class {type(plugin).__name__})"
        self._faults: dict[str, list[Fault]] = {}

    def expect(self, kept: bool, rule: str, seen: str, cure: str) -> None:
        """Note a fault unless the rule was kept."""
        if not kept:
            self._faults.setdefault(rule, []).append(Fault(rule, seen, cure))

    @contextlib.contextmanager
    def probing(self, rule: str, where: str, cure: str) -> Iterator[None]:
        """Whatever the plugin raises inside is a fault, and the check goes on after the block."""
        try:
            with calling(self._plugin):
                yield
        except Exception as error:
            self.expect(False, rule, f"{where}: {told(error)}", cure)

    def settle(self) -> None:
        """Raise what was found.

        Raises:
            ConformanceError: A rule is broken.
        """
        if self._faults:
            raise ConformanceError(self._plugin, [_merged(same) for same in self._faults.values()])


def expect_reference(report: Report, plugin: Citable) -> None:
    """Report a plugin that does not say what to cite, or in a way that cannot be read."""
    rule, cure = "says what to cite", f"state it on the class: {DECLARE}"
    cite = type(plugin).cite
    report.expect(cite is not None, rule, "cite is not stated", cure)
    try:
        references_in(cite)
    except (BibtexError, TypeError) as error:
        report.expect(False, rule, f"it cannot be read: {error}".rstrip("."), cure)


def _merged(same: Sequence[Fault]) -> Fault:
    more = f"; and {len(same) - 3} more" if len(same) > 3 else ""
    return dataclasses.replace(same[0], seen="; ".join(fault.seen for fault in same[:3]) + more)


def natural(seed: int, height: int, width: int) -> Tensor:
    """A made image with the 1/f spectrum of photographs and an edge, 3 x height x width in [0.1, 0.9]."""
    rng = np.random.default_rng([SEED, seed])
    down, right = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(down, right), 1 / max(height, width))
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((4, height, width))) / frequency).real
    noise /= np.maximum(noise.std(axis=(1, 2), keepdims=True), 1e-6)
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(y - height * rng.uniform(0.3, 0.7), x - width * rng.uniform(0.3, 0.7)) < min(height, width) / 4
    pixels = 0.5 + 0.4 * np.tanh(0.5 * noise[:1] + 0.25 * noise[1:] + 0.4 * disc - 0.2)
    return torch.from_numpy(pixels.astype(np.float32))


def distorted(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """The images (N x 3 x H x W) blurred and made noisy; strength 0 is nothing, 1 is hardly recognisable."""
    blurred = images
    for _ in range(8):
        blurred = F.avg_pool2d(blurred, 3, stride=1, padding=1, count_include_pad=False)
    noise = np.random.default_rng([SEED, 1, seed]).uniform(-1, 1, tuple(images.shape)).astype(np.float32)
    return (images + strength * (blurred - images) + 0.25 * strength * torch.from_numpy(noise)).clamp(0.02, 0.98)


def image_pairs(height: int, width: int, count: int = 4) -> tuple[Tensor, Tensor]:
    """References and distorted images of growing strength, count x 3 x height x width."""
    ref = torch.stack([natural(i, height, width) for i in range(count)])
    strengths = itertools.islice(itertools.cycle(_STRENGTHS), count)
    return ref, torch.cat([distorted(ref[i : i + 1], s, i) for i, s in enumerate(strengths)])


def _directions(like: Tensor, count: int) -> Iterator[Tensor]:
    """Smooth random directions of root mean square 1."""
    rng = np.random.default_rng([SEED, 2])
    for _ in range(count):
        coarse = torch.from_numpy(rng.standard_normal((len(like), like.shape[1], 4, 4)))
        smooth = F.interpolate(coarse, size=like.shape[-2:], mode="bilinear", align_corners=True).to(like.dtype)
        yield smooth / smooth.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)


def leaves_of(tree: Tree) -> list[Tensor]:
    """Every tensor of a tree, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor.detach().clone())
        return tensor

    map_tree(keep, tree)
    return found


def identical(first: Tree, second: Tree) -> bool:
    """Whether two trees hold the same tensors, bit for bit (NaN equals NaN)."""
    pairs = list(itertools.zip_longest(leaves_of(first), leaves_of(second)))
    return all(
        a is not None
        and b is not None
        and a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        and torch.equal(a.isnan(), b.isnan())
        for a, b in pairs
    )


def take_rows(tree: Tree, index: Tensor) -> Tree:
    """The given rows of every tensor of a tree."""
    return map_tree(lambda t: t[index], tree)


def largest_gap(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference; infinite where shapes differ."""
    return float((first - second).abs().max()) if first.shape == second.shape and first.numel() else float("inf")


def as_text(values: Tensor) -> str:
    """The first six numbers, for a message."""
    return "[" + ", ".join(f"{v:.7g}" for v in values.detach().flatten()[:6].tolist()) + "]"


def _random_state() -> tuple[Any, ...]:
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 (the global state is what is being watched)
    state = legacy["state"]
    return (random.getstate(), state["key"].tobytes(), state["pos"], torch.get_rng_state().numpy().tobytes())


@contextlib.contextmanager
def watching_randomness(report: Report, who: str) -> Iterator[None]:
    """Report it if the block touches the global random state of torch, numpy or random."""
    before = _random_state()
    yield
    names = ("random", "numpy.random", "numpy.random", "torch")
    used = sorted({n for n, a, b in zip(names, before, _random_state(), strict=True) if a != b})
    report.expect(
        not used,
        "no global random numbers",
        f"{who} moved the global state of {', '.join(used)}",
        "draw from the rng that is passed in, or make a generator of your own with a fixed seed",
    )


@dataclass(frozen=True)
class Slope:
    """The directional derivative where autograd and central differences disagree most."""

    autograd: float
    finite: float
    excess: float
    """Their difference over what is allowed; above 1 they disagree."""


def worst_slope(function: Callable[[Tensor], Tensor], images: Tensor) -> Slope:
    """Compare autograd with central differences of a row-wise function along smooth directions.

    Allowed are 0.1 % in float64 and 3 % in float32, plus what the differences at one and two steps disagree by, and
    rounding. In float64 the best of several steps counts: a kink nearer than the step (an absolute difference close to
    0) spoils large ones, and a wrong gradient agrees with none.
    """
    exact = images.dtype == torch.float64
    steps, tolerance = ((1e-5, 1e-7, 1e-8), 1e-3) if exact else ((2e-3,), 3e-2)
    leaf = images.clone().requires_grad_(True)
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    worst = Slope(0.0, 0.0, 0.0)
    for direction in _directions(images, 3):
        slope = (gradient * direction).flatten(1).sum(1)
        length = gradient.flatten(1).norm(dim=1) * direction.flatten(1).norm(dim=1)
        tried: list[tuple[Tensor, Tensor]] = []
        for step in steps:
            tried.append(_central(function, images, value.detach(), direction, slope, length, step, tolerance))
            excess, which = torch.stack([excess for excess, _ in tried]).min(0)
            if float(excess.max()) <= 1:
                break
        row = int(excess.argmax())
        if float(excess[row]) > worst.excess:
            worst = Slope(float(slope[row]), float(tried[int(which[row])][1][row]), float(excess[row]))
    return worst


def _central(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    value: Tensor,
    direction: Tensor,
    slope: Tensor,
    length: Tensor,
    step: float,
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """(disagreement with the slope in units of what is allowed, central difference), each of shape [N]."""
    with torch.no_grad():
        near, far = (
            (function(images + k * step * direction) - function(images - k * step * direction)) / (2 * k * step)
            for k in (1, 2)
        )
    rounding = 8 * torch.finfo(value.dtype).eps * value.abs() / step
    scale = torch.maximum(slope.abs(), near.abs()) + 1e-3 * length
    allowed = tolerance * scale + (near - far).abs() + rounding + 1e-12
    return ((slope - near).abs() / allowed).nan_to_num(nan=torch.inf), near


class Small(Metric):
    """With parameters, lower is better: the distance of two small feature maps."""

    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        rng = np.random.default_rng([SEED, 4])
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(rng.uniform(-0.4, 0.4, tuple(parameter.shape))))

    def encode(self, ref: Tensor) -> Tensor:
        """Feature maps of the references."""
        return torch.tanh(self.features(ref))

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """Mean squared distance of feature maps, [N]."""
        distance: Tensor = (torch.tanh(self.features(dist)) - reference).square().flatten(1).mean(1)
        return distance
