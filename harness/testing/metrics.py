"""Does a metric keep its contract?"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from harness.contracts import (
    Metric,
)
from harness.plugins.returned import told
from harness.testing.common import (
    RELATIVE,
    SEED,
    Report,
    Slope,
    as_text,
    distorted,
    expect_reference,
    identical,
    image_pairs,
    largest_gap,
    leaves_of,
    take_rows,
    watching_randomness,
    worst_slope,
)

_LARGEST_SIDE = 512


def check_metric(metric: Metric, *, name: str | None = None, trained: bool = True) -> None:
    """Check a metric against its contract.

    An identical pair may score infinity (then document it), never NaN. `differentiable` False: no gradient is asked.

    Args:
        metric: On the CPU; its weights loaded. Probed in evaluation mode and frozen, and left as it was.
        name: What messages call it; its registered name unless given.
        trained: False for random weights, whose scores have no sense to check.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("metric", metric, name)
    expect_reference(report, metric)
    probe_contract(metric, report, trained=trained)
    report.settle()


def probe_contract(metric: Metric, report: Report, *, trained: bool) -> None:
    """Every rule that scores depend on; a run asks these alone.

    Args:
        metric: As `check_metric` takes it.
        report: Gets what is broken.
        trained: Whether its scores have a sense to check.
    """
    with _as_scored(metric):
        probe = _MetricProbe(metric, report)
        if probe.declares() and probe.scores():
            probe.finite()
            probe.sizes()
            if probe.pure():  # else everything below would only say so again
                probe.encoding()
                probe.rows()
                if trained:
                    probe.sense()
                if metric.differentiable:
                    probe.gradient()


def scores_of(metric: Metric, ref: Tensor, dist: Tensor) -> list[float] | None:
    """Scores without NaN, or None where the metric cannot give them."""
    try:
        with torch.no_grad():
            scores = metric.score(metric.encode(ref), dist)
        values = [float(value) for value in scores.flatten().tolist()]
    except Exception:
        return None
    return values if len(values) == len(dist) and not any(value != value for value in values) else None


def smallest_side(metric: Metric) -> int | None:
    """Smallest square side in pixels that gets finite scores; None if none up to 512 does.

    By doubling, then bisection: sizes that work are taken to have no gap.
    """
    low, high = 0, 1
    while not _works(metric, high):
        low, high = high, 2 * high
        if high > _LARGEST_SIDE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _works(metric, middle) else (middle, high)
    return high


def _works(metric: Metric, side: int) -> bool:
    scores = scores_of(metric, *image_pairs(side, side, 1))
    return scores is not None and abs(scores[0]) != float("inf")


@contextlib.contextmanager
def _as_scored(metric: Metric) -> Iterator[None]:
    """The metric as the engine holds it, evaluation mode and frozen; as it was afterwards."""
    modes = [(module, module.training) for module in metric.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in metric.parameters()]
    metric.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


class _MetricProbe:
    def __init__(self, metric: Metric, report: Report) -> None:
        self._metric, self._report = metric, report
        least = metric.minimum_size if isinstance(metric.minimum_size, int) else 1
        self._side = max(least, 32)
        self._ref, self._dist = image_pairs(self._side, self._side)
        self._size_rule = "every size from minimum_size up is scored"

    def declares(self) -> bool:
        metric, expect = self._metric, self._report.expect
        sense = getattr(metric, "higher_is_better", None)
        expect(
            isinstance(sense, bool),
            "higher_is_better is True or False",
            f"it is {sense!r}",
            "state it on the class: higher_is_better: ClassVar[bool] = True (or False)",
        )
        least = metric.minimum_size
        good = isinstance(least, int) and least >= 1
        expect(
            good, "minimum_size is a whole number of pixels", f"it is {least!r}", "state the smallest side, at least 1"
        )
        return good and isinstance(sense, bool)

    def score(self, ref: Tensor, dist: Tensor, metric: Metric | None = None) -> Tensor:
        """Scores as the engine gets them: the reference encoded without gradients."""
        scored = metric or self._metric
        with torch.no_grad():
            encoded = scored.encode(ref)
        return scored.score(encoded, dist)

    def scores(self) -> bool:
        """Shape and type of what comes back; nothing else can be probed without them."""
        rule, cure = "score() returns one float per image", "return a float tensor of shape [N], one number per row"
        for count in (len(self._ref), 1):
            try:
                with torch.no_grad():
                    got = self.score(self._ref[:count], self._dist[:count])
            except Exception as error:
                self._report.expect(False, rule, f"a batch of {count}: {told(error)}", cure)
                return False
            good = isinstance(got, Tensor) and got.shape == (count,) and got.is_floating_point()
            seen = f"{got.dtype} of shape {list(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
            self._report.expect(good, rule, f"a batch of {count} gives {seen}", cure)
            if not good:
                return False
        return True

    def _cases(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        ref, dist = self._ref, self._dist
        rng = np.random.default_rng([SEED, 3])
        noise = torch.from_numpy(rng.random((2, *ref.shape), dtype=np.float32))
        levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(-1, 1, 1, 1)
        flat = torch.zeros_like(ref) + levels
        yield "random pairs", noise[0], noise[1]
        yield "natural pairs", ref, dist
        yield "two flat images", flat, flat.flip(0)
        yield "a flat reference", flat, dist
        yield "a flat distorted image", ref, flat
        yield "identical images", ref, ref.clone()
        yield "identical flat images", flat, flat.clone()

    def finite(self) -> None:
        """Scores, and their gradients, on random, natural, flat and identical pairs."""
        rule = "scores are finite (an identical pair may score infinity)"
        cure = "keep divisions, logarithms and roots away from 0 with a small constant"
        for label, ref, dist in self._cases():
            with self._report.probing(rule, label, "score every image in [0, 1]"):
                leaf = dist.clone().requires_grad_(self._metric.differentiable)
                score = self.score(ref, leaf)
                bad = score.isnan() if label.startswith("identical") else ~score.isfinite()
                self._report.expect(not bool(bad.any()), rule, f"{label} score {as_text(score)}", cure)
                if score.requires_grad and bool(score.isfinite().all()):
                    (gradient,) = torch.autograd.grad(score.sum(), leaf)
                    wrong = int((~gradient.isfinite()).sum())
                    self._report.expect(
                        wrong == 0,
                        "the gradient is finite wherever the score is",
                        f"{label}: {wrong} of {gradient.numel()} values of the gradient are not finite",
                        "add a small constant under roots and norms, and mask before dividing, not after (torch.where "
                        "passes NaN on through its unused branch)",
                    )

    def sizes(self) -> None:
        """Every size from minimum_size up; the rule that is broken says which size is not, and what would be right."""
        least = self._metric.minimum_size
        odd = self._side + 1 - self._side % 2
        sizes = ((least, least), (least, least + 1), (odd, odd + 6), (odd + 10, odd), (2 * odd + 3, odd))
        unscored = {size: seen for size in sizes if (seen := self._unscored(*size))}
        if not unscored:
            return
        (height, width), right = next(iter(unscored)), smallest_side(self._metric)
        cure = "pad inside the metric"
        if right is not None and right > max(map(min, unscored)):
            cure = f"declare minimum_size = {right}"
        self._size_rule += f" ({width} x {height} px is not: {cure})"
        for seen in unscored.values():
            self._report.expect(False, self._size_rule, seen, f"{cure}; it says {least}")

    def _unscored(self, height: int, width: int) -> str:
        """What is wrong with the scores of images of a size; empty if nothing."""
        try:
            score = self.score(*image_pairs(height, width, 2)).detach()
            good = score.shape == (2,) and bool(score.isfinite().all())
            return "" if good else f"{width} x {height} px scores {as_text(score)}"
        except Exception as error:  # whatever the metric raises
            return f"{width} x {height} px: {told(error)}"

    def pure(self) -> bool:
        """Determinism, no global random numbers, inputs left alone; whether the same pairs score the same twice."""
        same = False
        metric, report = self._metric, self._report
        ref, dist = self._ref.clone(), self._dist.clone()
        with report.probing("deterministic", "a second call", "keep no state between calls"), torch.no_grad():
            with watching_randomness(report, "encode() or score()"):
                first = self.score(ref, dist)
            report.expect(
                identical(ref, self._ref) and identical(dist, self._dist),
                "inputs are left as they are",
                f"pixels moved by up to {max(largest_gap(ref, self._ref), largest_gap(dist, self._dist)):g}",
                "work on a copy: no in-place operations (+=, clamp_, sub_) on ref and dist",
            )
            second = self.score(self._ref.clone(), self._dist.clone())
            same = identical(first, second)
            report.expect(
                same,
                "deterministic",
                f"the same pairs scored {as_text(first)}, then {as_text(second)}",
                "no randomness and no state in a metric; dropout must stop in evaluation mode",
            )
            called = metric(ref=self._ref, dist=self._dist)
            report.expect(
                identical(first, called),
                "the keyword call equals encode and score",
                f"metric(ref=..., dist=...) gives {as_text(called)}, score(encode(ref), dist) {as_text(first)}",
                "leave forward() as the contract has it and put the work into encode() and score()",
            )
        return same

    def encoding(self) -> None:
        """An encoded reference can be used again, in any rows, in any grad mode."""
        metric, report = self._metric, self._report
        rule, cure = "an encoded reference can be reused", "return a tree of tensors with the batch on axis 0"
        with report.probing(rule, "score() with a reused encoding", cure), torch.no_grad():
            encoded = metric.encode(self._ref)
            kept, count = leaves_of(encoded), len(self._ref)
            shapes = [list(t.shape) for t in kept if t.ndim == 0 or t.shape[0] != count]
            report.expect(not shapes, "encode() keeps the batch on axis 0", f"tensors of shape {shapes[:3]}", cure)
            first = metric.score(encoded, self._dist)
            metric.score(encoded, self._ref)
            report.expect(
                identical(tuple(kept), encoded) and identical(metric.score(encoded, self._dist), first),
                rule,
                "score() changed what encode() returned",
                "copy before changing a tensor in place",
            )
            with torch.inference_mode():
                fast = metric.score(encoded, self._dist).clone()
            report.expect(
                identical(fast, first),
                "the same scores in inference mode",
                f"{as_text(fast)} in place of {as_text(first)}",
                "do not branch on the grad mode",
            )
            if not shapes:
                index = torch.tensor([2, 0, 2])
                chosen = metric.score(take_rows(encoded, index), self._dist[index])
                report.expect(
                    _close(chosen, first[index]),
                    "rows of an encoded reference stand for their images",
                    f"rows 2, 0, 2 score {as_text(chosen)} in place of {as_text(first[index])}",
                    cure,
                )

    def rows(self) -> None:
        """Sample i depends on row i alone."""
        report, ref, dist = self._report, self._ref, self._dist
        rule = "sample i depends on row i alone"
        cure = "no statistics over the batch: flatten(1).mean(1), not mean(); normalise each image by itself"
        with report.probing(rule, "a batch in another order or size", cure):
            with torch.no_grad():
                whole = self.score(ref, dist)
                order = torch.tensor([2, 0, 3, 1])
                moved = self.score(ref[order], dist[order])
                report.expect(
                    identical(moved, whole[order]),
                    rule,
                    f"reordered, the batch scores {as_text(moved)} in place of {as_text(whole[order])}",
                    cure,
                )
                other, noise = ref.flip(-1), dist.flip(-2)
                other[0], noise[0] = ref[0], dist[0]
                beside = self.score(other, noise)[:1]
                report.expect(
                    identical(beside, whole[:1]),
                    rule,
                    f"beside other images, row 0 scores {as_text(beside)} in place of {as_text(whole[:1])}",
                    cure,
                )
                alone = torch.cat([self.score(ref[i : i + 1], dist[i : i + 1]) for i in range(len(ref))])
                report.expect(
                    _close(alone, whole),
                    rule,
                    f"alone, the images score {as_text(alone)} in place of {as_text(whole)}",
                    cure,
                )
            if self._metric.differentiable:
                leaf = dist.clone().requires_grad_(True)
                score = self.score(ref, leaf)
                if score.requires_grad:
                    (gradient,) = torch.autograd.grad(score[0], leaf)
                    leak = float(gradient[1:].abs().max())
                    report.expect(leak == 0, rule, f"score 0 has a slope of up to {leak:g} in other rows", cure)

    def sense(self) -> None:
        """A strongly distorted image scores worse than a slightly distorted one."""
        rule = "higher_is_better says the sense of the score"
        with self._report.probing(rule, "slight and strong distortion", "score natural images"), torch.no_grad():
            slight = self.score(self._ref, distorted(self._ref, 0.1))
            strong = self.score(self._ref, distorted(self._ref, 1.0))
            gain = slight - strong if self._metric.higher_is_better else strong - slight
            self._report.expect(
                bool((gain > 0).all()),
                rule,
                f"higher_is_better = {self._metric.higher_is_better}, but slight blur and noise score "
                f"{as_text(slight)} and strong {as_text(strong)}",
                "set higher_is_better to the direction of the raw score, or load trained weights",
            )

    def gradient(self) -> None:
        """The gradient exists, reaches the whole image, and is that of the score where it says so."""
        report, exact = self._report, self._metric.exact_gradient
        rule = "the score follows the image by differentiable operations"
        cure = "no detach, numpy, item or rounding between image and score; or set differentiable = False"
        with report.probing(rule, "backward", cure):
            leaf = self._dist.clone().requires_grad_(True)
            score = self.score(self._ref, leaf)
            report.expect(score.requires_grad, rule, "the score has no graph", cure)
            if not score.requires_grad:
                return
            (gradient,) = torch.autograd.grad(score.sum(), leaf)
            self._reaches(gradient)
        # Larger than what networks crop to (224, 256), and odd, so that a remainder left out is seen as well.
        side = max(3 * self._side, 257)
        side += 1 - side % 2
        rule, cure = self._size_rule, "see that large images are scored, too"
        with report.probing(rule, f"the gradient at {side + 2} x {side} px", cure):
            ref, dist = image_pairs(side, side + 2, 1)
            leaf = dist.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.score(ref, leaf).sum(), leaf)
            self._reaches(gradient)
        agree = "the gradient is that of the score"
        if exact:
            with report.probing(agree, "finite differences", "see that score() can be evaluated near any image"):
                kind, slope = self._slope()
                report.expect(
                    slope.excess <= 1,
                    agree,
                    f"along a smooth direction autograd gives {slope.autograd:.6g} and central differences in {kind} "
                    f"{slope.finite:.6g}",
                    "mend the backward pass, or set exact_gradient = False if it is a surrogate on purpose",
                )

    def _reaches(self, gradient: Tensor) -> None:
        """No part of the images is cut off."""
        height, width = gradient.shape[-2:]
        dead = _unreached(gradient)
        self._report.expect(
            not dead,
            "the gradient reaches the whole image",
            f"at {width} x {height} px it is exactly 0 in {len(dead)} of the parts looked at: {', '.join(dead[:3])}"
            + (" ..." if len(dead) > 3 else ""),
            "see that no crop, clamp, rounding or detach cuts part of the image off",
        )

    def _slope(self) -> tuple[str, Slope]:
        """In float64 if the metric can compute in it, in float32 otherwise."""
        try:
            precise = copy.deepcopy(self._metric).double()
            ref, dist = self._ref.double(), self._dist.double()
            if self.score(ref, dist, precise).dtype == torch.float64:
                return "float64", worst_slope(lambda x: self.score(ref, x, precise), dist)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            pass  # A metric need not support float64.
        return "float32", worst_slope(lambda x: self.score(self._ref, x), self._dist)


_TILES = 8
"""Parts of a side in which a gradient is looked for: finer ones may lie in a flat or saturated part of an image."""
_STRIP = 2
"""Width of the border strips, px: pooling by 2 may leave out the last line of an odd side."""


def _unreached(gradient: Tensor) -> list[str]:
    """Where the gradient of a batch is exactly 0: quadrants of any image, tiles and border strips of all images.

    What is cut off by its place is cut off in every image, while a fine tile of a single image may rightly have no say.
    """
    size = gradient.abs().amax(1)
    height, width = size.shape[-2:]
    dead = [
        f"image {row}, quadrant {number}"
        for number, (rows, columns) in enumerate(_grid(height, width, 2), 1)
        for row in (size[:, rows, columns].flatten(1).amax(1) == 0).nonzero().flatten().tolist()
    ]
    common = size.amax(0)
    parts = {
        f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}": common[rows, columns]
        for rows, columns in _grid(height, width, _TILES)
    }
    parts |= {
        f"the {_STRIP} px at the top": common[:_STRIP],
        f"the {_STRIP} px at the bottom": common[-_STRIP:],
        f"the {_STRIP} px at the left": common[:, :_STRIP],
        f"the {_STRIP} px at the right": common[:, -_STRIP:],
    }
    return dead + [name for name, part in parts.items() if not bool(part.any())]


def _grid(height: int, width: int, parts: int) -> list[tuple[slice, slice]]:
    """An image cut into parts x parts tiles that cover it."""
    rows, columns = ([round(side * i / parts) for i in range(parts + 1)] for side in (height, width))
    return [(slice(*y), slice(*x)) for y in itertools.pairwise(rows) for x in itertools.pairwise(columns)]


def _close(scores: Tensor, expected: Tensor) -> bool:
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(scores, expected, rtol=RELATIVE, atol=RELATIVE * largest, equal_nan=True)
