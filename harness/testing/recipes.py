"""Does a training recipe keep its contract?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.contracts import (
    Entry,
    Metric,
    Recipe,
    TrainingBatch,
)
from harness.testing.common import (
    Report,
    Small,
    as_text,
    distorted,
    expect_reference,
    identical,
    image_pairs,
    leaves_of,
    watching_randomness,
)

_ENTRIES = 480


def check_recipe(recipe: Recipe, *, name: str | None = None, metric: Metric | None = None, size: int = 32) -> None:
    """Check a training recipe against its contract.

    Args:
        recipe: With the parameters to check.
        name: What messages call it; its registered name unless given.
        metric: What its loss is tried on; a small metric with parameters unless given. Its gradients are cleared.
        size: Side of the images in pixels.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("recipe", recipe, name)
    expect_reference(report, recipe)
    kinds = ("pairs", "triplets")
    report.expect(recipe.kind in kinds, "kind is pairs or triplets", f"it is {recipe.kind!r}", "state one of the two")
    first = _check_batches(recipe, report)
    if first is not None:
        for step in (0, 999):
            _check_loss(recipe, report, metric or Small(), size, first, step)
    report.settle()


def _check_batches(recipe: Recipe, report: Report) -> tuple[Sequence[int], Sequence[bool]] | None:
    """The first batch, if batches can be used at all."""
    entries = _entries_for(recipe)
    rule, cure = "batches() yields indices and flags of equal length", "yield (indices into entries, one flag for each)"
    size = getattr(recipe, "batch", None)
    first: tuple[Sequence[int], Sequence[bool]] | None = None
    with report.probing(rule, "batches()", cure):
        with watching_randomness(report, "batches()"):
            runs = [list(itertools.islice(recipe.batches(entries, np.random.default_rng(5)), 12)) for _ in range(2)]
        report.expect(len(runs[0]) == 12, "batches() is endless", f"it ended after {len(runs[0])}", "loop for ever")
        wrong = [
            (indices, flags)
            for indices, flags in runs[0]
            if len(indices) != len(flags) or not indices or not all(0 <= int(i) < len(entries) for i in indices)
        ]
        report.expect(not wrong, rule, f"{len(wrong)} of {len(runs[0])} batches, for example {wrong[:1]}", cure)
        sizes = sorted({len(indices) for indices, _ in runs[0]})
        report.expect(
            size is None or sizes == [size],
            "a batch has the size of the field `batch`",
            f"batch = {size}, and batches have {sizes}",
            "cut every batch to self.batch",
        )
        flagged = any(any(flags) for _, flags in runs[0])
        report.expect(
            flagged == recipe.attacks,
            "attacks says whether rows are attacked",
            f"attacks = {recipe.attacks}, and 12 batches have {'some' if flagged else 'no'} attacked rows",
            "set attacks to what the flags of batches() are",
        )
        plain = [[([int(i) for i in a], [bool(f) for f in b]) for a, b in run] for run in runs]
        report.expect(
            plain[0] == plain[1],
            "batches() is deterministic",
            "equal seeds gave other batches",
            "draw from rng and nothing else",
        )
        if runs[0] and not wrong:
            first = plain[0][0]
    return first


def _entries_for(recipe: Recipe) -> list[Entry]:
    """Made entries with labels from 0 to 1, as many as a recipe of narrow bands of labels needs."""
    shares = [i / (_ENTRIES - 1) for i in range(_ENTRIES)]
    if recipe.kind == "triplets":
        return [Entry(f"train/{i}", f"r{i // 4}", judge=share) for i, share in enumerate(shares)]
    return [
        Entry(f"train/{i}", f"r{i // 4}", opinion=share, group="g", level=i % 4 + 1) for i, share in enumerate(shares)
    ]


def _any_metric(name: str) -> Metric:
    """Stands for every metric that a recipe asks for."""
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights
        metric = Small().eval()
    metric.requires_grad_(False)
    return metric


def _batch_of(recipe: Recipe, size: int, first: tuple[Sequence[int], Sequence[bool]], step: int) -> TrainingBatch:
    """A batch as the trainer makes it, of made images."""
    indices, flags = first
    ref, clean = image_pairs(size, size, len(indices))
    attacked, shares = torch.tensor(flags), torch.tensor([index / (_ENTRIES - 1) for index in indices])
    other = distorted(clean, 0.05, 9)
    progress = {"step": torch.tensor(step), "steps": torch.tensor(1000)}
    if recipe.kind == "triplets":
        patches = {"p0": clean, "p1": other, "clean_p0": clean, "clean_p1": other}
        return TrainingBatch({"ref": ref, **patches, "judge": shares, "attacked": attacked, **progress}, _any_metric)
    dist = torch.where(attacked.view(-1, 1, 1, 1), other, clean)
    labels = {"attacked": attacked, "target": 1 + 4 * shares, "limits": torch.tensor([1.0, 5.0])}
    start = torch.full((len(indices),), torch.nan)
    return TrainingBatch({"ref": ref, "clean": clean, "dist": dist, **labels, "start": start, **progress}, _any_metric)


def _check_loss(
    recipe: Recipe,
    report: Report,
    metric: Metric,
    size: int,
    first: tuple[Sequence[int], Sequence[bool]],
    step: int,
) -> None:
    rule, cure = "loss() returns a finite scalar and figures", "return (a tensor without axes, a dict of such tensors)"
    batch = _batch_of(recipe, size, first, step)
    metric.train()
    metric.zero_grad(set_to_none=True)
    with report.probing(rule, f"step {step}", cure):
        given = leaves_of(batch)
        with watching_randomness(report, "loss()"):
            loss, figures = recipe.loss(metric, batch)
        good = isinstance(loss, Tensor) and loss.ndim == 0 and bool(loss.isfinite())
        seen = f"shape {list(loss.shape)}, {as_text(loss)}" if isinstance(loss, Tensor) else type(loss).__name__
        report.expect(good, rule, f"step {step}: {seen}", cure)
        numbers = isinstance(figures, Mapping) and all(isinstance(v, Tensor) and v.ndim == 0 for v in figures.values())
        report.expect(numbers, rule, f"step {step}: figures {figures!r:.80}", cure)
        report.expect(
            identical(tuple(given), batch), "inputs are left as they are", "loss() changed its batch", "work on a copy"
        )
        if good:
            _check_reach(report, metric, loss, step)
    metric.zero_grad(set_to_none=True)


def _check_reach(report: Report, metric: Metric, loss: Tensor, step: int) -> None:
    if loss.requires_grad:
        loss.backward()
    slopes = [p.grad for p in metric.parameters() if p.grad is not None]
    peak = max((float(s.abs().max()) for s in slopes), default=0.0)
    report.expect(
        0 < peak < float("inf"),
        "the loss has a finite gradient in the metric's parameters",
        f"step {step}: the largest slope is {peak:g}",
        "compute the loss from metric(ref=..., dist=...) without detach or no_grad",
    )
