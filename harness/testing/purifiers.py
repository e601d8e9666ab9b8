"""Does a purifier keep its contract?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.contracts import (
    Purifier,
    SampleRng,
    Tree,
    map_tree,
)
from harness.plugins.returned import RANGE
from harness.testing.common import (
    Report,
    identical,
    image_pairs,
    largest_gap,
    leaves_of,
    natural,
    take_rows,
    watching_randomness,
    worst_slope,
)


def check_purifier(purifier: Purifier, *, name: str | None = None, size: int = 32) -> None:
    """Check a purifier against its contract.

    Args:
        purifier: With the parameters to check.
        name: What messages call it; its registered name unless given.
        size: Side of the images in pixels.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("purifier", purifier, name)
    probe = _PurifierProbe(purifier, report, size)
    if probe.applies():
        probe.draws()
        probe.rows()
        probe.gradient()
    report.settle()


class _PurifierProbe:
    def __init__(self, purifier: Purifier, report: Report, size: int) -> None:
        self._purifier, self._report = purifier, report
        self._ref, self._dist = image_pairs(size, size)
        self._ids = [f"sample {i}" for i in range(len(self._ref))]

    def _draw(self, images: Tensor, rows: Sequence[int], seed: int = 0) -> Tree:
        return self._purifier.draw(images, SampleRng.for_samples(seed, [self._ids[r] for r in rows], "defense"))

    def applies(self) -> bool:
        """Shape, range, determinism and sizes; False if nothing else can be probed."""
        report, purifier = self._report, self._purifier
        whole = False
        height, width = self._ref.shape[-2:]
        for h, w in ((height, width), (height + 1, width + 7)):
            rule, cure = "apply() returns images", "return float32 images N x 3 x H' x W'"
            with report.probing(rule, f"{w} x {h} px", cure):
                images = image_pairs(h, w)[1]
                given = images.clone()
                with torch.no_grad(), watching_randomness(report, "draw() or apply()"):
                    draw = self._draw(images, range(len(images)))
                    kept = leaves_of(draw)
                    purified = purifier.apply(images, draw)
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
                    "apply() changed the images or the draw it was given",
                    "work on a copy: no in-place operations",
                )
                with torch.no_grad():
                    again = purifier.apply(given, draw)
                report.expect(
                    identical(purified, again),
                    "apply() is a deterministic function of images and draw",
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
            purified = purifier.apply(images, draw)
            for label, rows in (("another order", (2, 0, 3, 1)), ("a batch of one", (3,))):
                index = torch.tensor(rows)
                other = self._draw(images[index], rows)
                gap = largest_gap(purifier.apply(images[index], other), purified[index])
                report.expect(
                    identical(other, take_rows(draw, index)) and gap <= RANGE,
                    rule,
                    f"in {label}, samples {list(rows)} drew something else: their images differ by up to {gap:g}",
                    cure,
                )
        rule = "randomised says whether draws follow the rng"
        with report.probing(rule, "other seeds", cure), torch.no_grad():
            results = [purifier.apply(images, self._draw(images, range(count), seed)) for seed in range(8)]
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
        cure = "let row i of apply() depend on row i of images and draw alone"
        count = len(self._ref)
        with report.probing(rule, "rows in another order or batch", cure), torch.no_grad():
            draw = self._draw(self._ref, range(count))
            ref, dist = purifier.apply(self._ref, draw), purifier.apply(self._dist, draw)
            twice = purifier.apply(
                torch.cat((self._ref, self._dist)), map_tree(lambda t: torch.cat((t, t)), draw)
            ).split(count)
            gap = max(largest_gap(twice[0], ref), largest_gap(twice[1], dist))
            report.expect(gap <= RANGE, rule, f"stacked with one draw, images differ by up to {gap:g}", cure)
            order = torch.tensor([2, 0, 3, 1])
            moved = purifier.apply(self._dist[order], take_rows(draw, order))
            gap = largest_gap(moved, dist[order])
            report.expect(gap == 0, rule, f"in another order, images differ by up to {gap:g}", cure)

    def gradient(self) -> None:
        """The exact gradient is exact; a surrogate is differentiable and fits."""
        if self._purifier.gradient == "exact":
            self._exact()
        else:
            self._stand_in()

    def _exact(self) -> None:
        report, purifier = self._report, self._purifier
        images = 0.2 + 0.6 * self._dist  # and not clipped: where neighbours are equal a median has no derivative
        rule = "an exact gradient is that of apply()"
        cure = "use differentiable operations, or set gradient = 'surrogate' and offer surrogate()"
        with report.probing(rule, "backward", cure):
            draw = self._draw(images, range(len(images)))
            shape = purifier.apply(images, draw).shape
            weight = natural(7, int(shape[-2]), int(shape[-1]))

            def function(x: Tensor) -> Tensor:
                weighed: Tensor = (purifier.apply(x, draw) * weight.to(x.dtype)).flatten(1).sum(1)
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
        rule, cure = "a surrogate is differentiable and has the shape of apply()", "mend surrogate()"
        with report.probing(rule, "surrogate()", cure):
            draw = self._draw(self._dist, range(len(self._dist)))
            with torch.no_grad():
                purified = purifier.apply(self._dist, draw)
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
