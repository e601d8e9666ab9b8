"""What a training left of its way: ``steps.jsonl`` and ``history.jsonl`` as tables, and what they come to.

Anchored recipes log Theorem 1 of the BiRQA paper on every batch: ``bound`` is anchor_error + spacing + R x hinge_max
where ``coverage`` is 1, and nothing where it is 0, as an image lies outside all anchors. ``worst`` is the largest error
of the batch, clean anchors and attacked images together, and ``largest`` the largest label or prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.files import csv_of, shown, write_whole
from harness.training.checkpoint import HISTORY
from harness.training.measures import COLLAPSE
from harness.training.recipe_file import TrainingError
from harness.training.steps import STEPS, logged

OWN = ("step", "loss", "gradient_norm", "forwards", "backwards", "attack_s", "step_s", "spread", "start")
"""What the trainer itself logs of a step; all else are figures of the recipe."""
_ROUNDING = 1e-6
"""By how much, times 1 + the largest label or prediction, an error may exceed its bound (protocol, section 9).

The rule by which `defenses.recipes.bound` stops a training; neither may import the other.
"""
_ENDS = 20
"""Steps at either end that are averaged."""


@dataclass(frozen=True)
class Curves:
    """One training."""

    name: str
    steps: pd.DataFrame
    """A row per step: `OWN`, and the recipe's figures; empty for a training that logged none."""
    history: pd.DataFrame
    """A row per validation: step, figure, spread, loss, collapsed; of a robust one shift_up, shift_down, pair."""

    def figures(self) -> list[str]:
        """The recipe's figures that have a value."""
        return [str(name) for name in self.steps if name not in OWN and self.steps[name].notna().any()]


def read_curves(folders: Sequence[Path]) -> list[Curves]:
    """The curves of run folders; of one with folds or seeds, those of every member.

    Raises:
        TrainingError: A folder holds no training, or a line of its logs cannot be read.
    """
    found: dict[Path, Curves] = {}
    for folder in folders:
        members = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())] if folder.is_dir() else []
        own = [path for path in members if (path / STEPS).is_file() or (path / HISTORY).is_file()]
        if not own:
            raise TrainingError(
                f"{shown(folder)}: holds no training, neither {STEPS} nor {HISTORY}. Give the run folder of a "
                "`robustiqa train`, results/runs/train-NAME by default."
            )
        for path in own:
            name = folder.name if path == folder else f"{folder.name}/{path.name}"
            found.setdefault(
                path.resolve(), Curves(name or str(folder), _steps(path / STEPS), _history(path / HISTORY))
            )
    names = [one.name for one in found.values()]
    if len(set(names)) == len(names):
        return list(found.values())
    return [Curves(str(path), one.steps, one.history) for path, one in found.items()]


def _steps(path: Path) -> pd.DataFrame:
    rows = []
    for row in logged(path):
        figures = row.pop("figures", None)
        taken = figures if isinstance(figures, dict) else {}
        rows.append({**row, **{f"figure_{name}" if name in OWN else name: value for name, value in taken.items()}})
    return _numbers(rows)


def _history(path: Path) -> pd.DataFrame:
    return _numbers(list(logged(path)))


def _numbers(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows in order of steps, everything a number; of a step that stands there twice, the later row."""
    frame = pd.DataFrame(list(rows))
    if frame.empty:
        return pd.DataFrame({"step": []})
    frame = pd.DataFrame({name: pd.to_numeric(frame[name], errors="coerce").astype(float) for name in frame})
    return frame.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)


def write_tables(curves: Sequence[Curves], folder: Path) -> list[Path]:
    """Write ``steps.csv`` and ``history.csv`` of all runs, one under the other; returns the paths."""
    paths = []
    for name, frames in (("steps", [one.steps for one in curves]), ("history", [one.history for one in curves])):
        named = [frame.assign(run=one.name) for one, frame in zip(curves, frames, strict=True) if len(frame)]
        if named:
            whole = pd.concat(named, ignore_index=True)
            whole = whole[["run", *(column for column in whole if column != "run")]]
            paths.append(folder / f"{name}.csv")
            write_whole(paths[-1], csv_of(whole).encode())
    return paths


def summary_of_curves(one: Curves) -> dict[str, Any]:
    """What a training came to, in numbers; nan where it logged nothing of the kind.

    Keys: run, steps, loss_first and loss_last, hinge_first and hinge_last (means over 20 steps at either end),
    spread_last and spread_lowest (std ratio), collapsed, bounds (batches with one), violated (batches whose error
    exceeds it), pair (last robust validation), seconds and attack_share (of the time).
    """
    spreads = _column(one.steps, "spread") if _column(one.steps, "spread").size else _column(one.history, "spread")
    bounds = one.steps.reindex(columns=["worst", "bound", "largest"]).dropna(subset=["worst", "bound"])
    largest = bounds["largest"].fillna(bounds[["worst", "bound"]].max(axis=1))  # the first logs had none
    seconds = float(_column(one.steps, "step_s").sum())
    pair = _column(one.history, "pair")
    return {
        "run": one.name,
        "steps": int(one.steps["step"].max()) + 1 if len(one.steps) else 0,
        **_ends_of(one.steps, "loss", "loss"),
        **_ends_of(one.steps, "hinge_top", "hinge"),
        "spread_last": float(spreads[-1]) if spreads.size else math.nan,
        "spread_lowest": float(spreads.min()) if spreads.size else math.nan,
        "collapsed": bool(spreads.size and spreads[-1] < COLLAPSE),
        "bounds": len(bounds),
        "violated": violations(bounds["worst"], bounds["bound"], largest),
        "pair": float(pair[-1]) if pair.size else math.nan,
        "seconds": seconds,
        "attack_share": float(_column(one.steps, "attack_s").sum()) / seconds if seconds else math.nan,
    }


def violations(worst: Any, bound: Any, largest: Any) -> int:
    """On how many batches the error exceeds its bound by more than rounding; arrays of shape [T]."""
    error, allowed, scale = (np.asarray(values, dtype=float) for values in (worst, bound, largest))
    return int((error > allowed + _ROUNDING * (1 + scale)).sum())


def _column(frame: pd.DataFrame, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return frame[name].dropna().to_numpy(float) if name in frame else np.empty(0)


def _ends_of(frame: pd.DataFrame, name: str, key: str) -> dict[str, float]:
    values = _column(frame, name)
    first, last = (values[:_ENDS].mean(), values[-_ENDS:].mean()) if values.size else (math.nan, math.nan)
    return {f"{key}_first": float(first), f"{key}_last": float(last)}
