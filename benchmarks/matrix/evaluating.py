"""Evaluates what was trained on the test split: a suite of the strongest attacks, a check on masking, a frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from cells import Cell, Work
from declared import BASE, Evaluation

from harness.api import run
from harness.files import write_whole

KINDS = ("evaluation", "check", "frontier")
SLICE = 8


def part_of(work: Work, kind: str) -> Evaluation | None:
    """What the matrix file says of a kind of evaluation."""
    part: Evaluation | None = getattr(work.matrix, kind)
    return part


def run_part(work: Work, part: Evaluation, kind: str, workers: int | None = None) -> None:
    """Run, resume or extend one evaluation; its run folder is called after its kind."""
    if missing := work.untrained():
        print(f"not trained, left out: {', '.join(missing)}", flush=True)
    suite = suite_of(work, part, kind)
    path = work.folder / "suites" / f"{kind}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(suite, sort_keys=False).encode())
    run(path, out=work.folder / kind, workers=workers, executor="serial" if workers == 1 else None)


def suite_of(work: Work, part: Evaluation, kind: str) -> dict[str, Any]:
    """The suite of one evaluation: a metric per member, with its base's weights, and a defense per arm."""
    matrix = work.matrix
    cells = work.evaluated(part, kind)
    members = sorted({cell.member for cell in cells})
    label = {member: member_label(work, member) for member in members}
    metric = matrix.metric.model_dump(exclude_none=True)
    defenses: list[Any] = [BASE]
    exclude: list[dict[str, str]] = []
    for arm in dict.fromkeys(cell.arm for cell in cells if cell.arm != BASE):
        own = [cell for cell in cells if cell.arm == arm]
        for name, files in _files(work, part, own):
            defenses.append({"name": name, "weights": {label[m]: str(file) for m, file in files.items()}})
            missing = [member for member in members if member not in files]
            exclude += [{"metric": label[member], "defense": name} for member in missing]
    datasets: list[Any] = [{**work.dataset(0), "split": "test"}]
    if matrix.members.folds:
        datasets = [{**work.dataset(m), "split": "test", "label": label[m]} for m in members]
        exclude += [{"dataset": label[a], "metric": label[b]} for a in members for b in members if a != b]
    return {
        "name": f"{matrix.name}-{kind}",
        "seed": 0,
        "datasets": datasets,
        "metrics": [{**metric, "label": label[m], "weights": str(work.weights(Cell(BASE, m)))} for m in members],
        "defenses": defenses,
        "attacks": part.attacks,
        "budgets": matrix.budgets,
        "directions": ["up", "down", "mos_split"],
        "verdicts": False,
        "limit": part.limit,
        "slice": SLICE,
        **({"exclude": exclude} if exclude else {}),
    }


def member_label(work: Work, member: int) -> str:
    """What a metric with the base weights of a member is called in suites."""
    return f"{work.matrix.members.word} {member}"


def _files(work: Work, part: Evaluation, cells: Sequence[Cell]) -> list[tuple[str, dict[int, Path]]]:
    """Defense -> member -> weight file: of the arm itself, or of its mixtures with the base."""
    arm = cells[0].arm
    if not part.shares:
        return [(arm, {cell.member: work.weights(cell) for cell in cells})]
    from harness.training.mix import mix

    folder = work.folder / "mixtures"
    found: dict[str, dict[int, Path]] = {}
    for cell in cells:
        base = work.weights(Cell(BASE, cell.member))
        for one in mix(str(base), str(work.weights(cell)), part.shares, folder, cell.name):
            found.setdefault(f"{arm}@{one.share:g}", {})[cell.member] = one.path
    return list(found.items())
