"""Times one step of every arm and one slice of every evaluation, and plans what fits into the minutes there are."""

from __future__ import annotations

import fnmatch
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cells import PLAN, Cell, Work
from declared import BASE, merged
from evaluating import KINDS, SLICE, part_of, run_part
from training import SIDE_BY_SIDE, train_one

from harness.files import write_whole
from harness.training.steps import STEPS, logged

_STEPS = 6
"""Steps that are timed; the first one is left out."""


def plan(work: Work, minutes: float | None) -> None:
    """Say what each cell takes and what all do, and write down which are dropped.

    Args:
        work: The matrix.
        minutes: Training, two at a time, and evaluation, by two workers, should end within so many.
    """
    write_whole(work.folder / PLAN, b'{"dropped": []}\n')
    costs = dict(_costs(Work(work.matrix, work.folder)))
    dropped: list[str] = []
    for pattern in work.matrix.drop if minutes is not None else ():
        for name in reversed(fnmatch.filter(costs, pattern)):
            if name not in dropped and minutes is not None and _minutes(costs, dropped) > minutes:
                dropped.append(name)
    total = _minutes(costs, dropped)
    content = {"dropped": dropped, "minutes": round(total, 1), "seconds": {k: round(v, 1) for k, v in costs.items()}}
    write_whole(work.folder / PLAN, (json.dumps(content, indent=1) + "\n").encode())
    for name, taken in costs.items():
        print(f"{name:32} {taken / 60:6.1f} core minutes{'  dropped' if name in dropped else ''}")
    print(f"all: {_minutes(costs, []):.0f} minutes on {SIDE_BY_SIDE} cores; as planned: {total:.0f}")
    if minutes is not None and total > minutes:
        print(f"this is more than {minutes:g}: name further cells under `drop`")


def _minutes(costs: Mapping[str, float], dropped: Sequence[str]) -> float:
    return sum(value for name, value in costs.items() if name not in dropped) / 60 / SIDE_BY_SIDE


def _costs(work: Work) -> Iterator[tuple[str, float]]:
    """Core seconds by name: of a cell with its evaluation, of an arm in the rate's grid and in the other parts."""
    matrix = work.matrix
    with tempfile.TemporaryDirectory() as name:
        scratch = Work(matrix, Path(name))
        alike: dict[str, tuple[float, float]] = {}  # arms that differ in what costs nothing are timed once
        steps = {}
        for arm in (BASE, *matrix.arms):
            keys = merged(matrix.keys(arm), {"label_scale": None})
            told = json.dumps(keys | {"inner": {**keys.get("inner", {}), "direction": None}}, sort_keys=True)
            steps[arm] = alike[told] = alike.get(told) or _timed(scratch, arm)
        image = {kind: _per_image(scratch, kind) for kind in KINDS if part_of(work, kind)}
    for arm in matrix.rate.arms if matrix.rate else ():
        assert matrix.rate is not None
        step, validation = steps[arm]
        yield f"rate/{arm}", len(matrix.rate.grid) * (matrix.rate.steps * step + validation)
    for cell in work.cells():
        keys, (step, validation) = matrix.keys(cell.arm), steps[cell.arm]
        validations = -(-keys["steps"] // keys.get("evaluate_every", 100))
        scored = matrix.evaluation.limit * image["evaluation"]
        yield cell.name, keys["steps"] * step + validations * validation + scored
    for kind in (kind for kind in image if kind != "evaluation"):
        part = part_of(work, kind)
        cells = work.evaluated(part, kind, planned=True)
        for arm in dict.fromkeys(cell.arm for cell in cells):
            scorers = sum(cell.arm == arm for cell in cells) * (1 if arm == BASE else len(part.shares) or 1)
            yield f"{kind}/{arm}", scorers * part.limit * image[kind]


def _timed(work: Work, arm: str) -> tuple[float, float]:
    """Processor seconds of a step and of a validation: what the clock would say on a machine without other work."""
    recipe = work.recipe(Cell(arm, 0), steps=_STEPS, evaluate_every=_STEPS)
    (work.folder / "training").mkdir(exist_ok=True)
    run = work.run(Cell(arm, 0))
    wall, processor = time.perf_counter(), time.process_time()
    minutes = train_one(recipe, run)["minutes"]
    alone = min(1.0, (time.process_time() - processor) / (time.perf_counter() - wall))
    taken = [row["step_s"] for row in logged(run / STEPS)]
    return alone * statistics.median(taken[1:]), alone * max(0.0, 60 * minutes - sum(taken))


def _per_image(work: Work, kind: str) -> float:
    """Processor seconds of one image of one scorer, on one worker."""
    part = part_of(work, kind).model_copy(update={"limit": SLICE, "arms": [], "members": 1, "shares": []})
    began = time.process_time()
    run_part(work, part, kind, workers=1)
    return (time.process_time() - began) / SLICE
