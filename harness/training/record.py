"""The record of a training: run.json (who, with what, how long) and summary.json (how good)."""

from __future__ import annotations

import datetime
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.engine.provenance import git_state, versions
from harness.files import write_whole
from harness.training.finite_json import finite_json
from harness.training.measures import MEASURES, merit
from harness.training.members import Member
from harness.training.recipe_file import RecipeFile
from harness.training.trainer import Trained

RUN, SUMMARY = "run.json", "summary.json"


class RunRecord:
    """run.json of a run folder: every invocation, and what is known of every member so far.

    Args:
        folder: The run folder.
        path: The recipe file.
        file: What it says, with the command line's changes.
        device: Where it is trained.
        plugins: ``--plugin`` files.
    """

    def __init__(self, folder: Path, path: Path, file: RecipeFile, device: str, plugins: Sequence[Path]) -> None:
        self._path = folder / RUN
        before = _read(self._path)
        self._content: dict[str, Any] = {
            "recipe_file": str(path),
            "recipe": file.model_dump(mode="json"),
            "invocations": [
                *before.get("invocations", []),
                {
                    "started": _now(),
                    "command": sys.argv,
                    "plugins": [str(plugin) for plugin in plugins],
                    "git": git_state(Path(__file__).parents[2]),
                    "versions": versions(device),
                    "threads": file.threads,
                    "finished": None,
                },
            ],
            "members": before.get("members", {}),
        }
        self._write()

    def trained(self, member: Member, trained: Trained) -> None:
        """One member is done."""
        self._content["members"][member.name or "only"] = {
            **trained.facts,
            "seed": member.file.seed,
            "dataset": member.file.dataset.model_dump(mode="json"),
            "seconds": round(trained.seconds, 3),
            "stopped_early": trained.stopped,
            "link": trained.link,
            "collapse_alarm": trained.alarm,
            "cost": dict(trained.spent),
            "history": [point._asdict() for point in trained.history],
        }
        self._write()

    def finished(self) -> None:
        """All of them are done."""
        self._content["invocations"][-1]["finished"] = _now()
        self._write()

    def _write(self) -> None:
        write_whole(self._path, (finite_json(self._content, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    """What an earlier invocation left; a damaged record is begun anew, because the state is in the checkpoints."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def summary_of(file: RecipeFile, members: Sequence[Member], trained: Sequence[Trained], kind: str) -> dict[str, Any]:
    """Validation and test figures of every member, and their mean and standard deviation over members.

    Folds are ``joined``. Of seeds ``chosen`` is the member with the best validation figure, of those that did not
    collapse if there are any; the test figures play no part in it.
    """
    measure = MEASURES[kind]
    rows = [
        {
            "name": member.name or file.name,
            "seed": member.file.seed,
            "step": one.best.step,
            "stopped_early": one.stopped,
            "collapsed": one.best.collapsed,
            "collapse_alarm": one.alarm,
            "validation": {measure: one.best.figure, "spread": one.best.spread, **one.best.robust()},
            "test": dict(one.test) if one.test is not None else None,
        }
        for member, one in zip(members, trained, strict=True)
    ]
    summary: dict[str, Any] = {"name": file.name, "measure": measure, "members": rows}
    summary["validation"] = _spread([one.best.figure for one in trained])
    tests = [one.test for one in trained if one.test is not None]
    if len(tests) == len(trained):
        keys = [key for key in ("srocc", "plcc", "accuracy") if key in tests[0]]
        summary["test"] = {key: _spread([float(test[key]) for test in tests]) for key in keys}
    summary["collapsed"] = sum(row["collapsed"] for row in rows)
    summary["joined"] = file.folds is not None
    summary["chosen"] = None if summary["joined"] else rows[chosen(trained)]["name"]
    return summary


def chosen(trained: Sequence[Trained]) -> int:
    """The member whose best validation has the highest `merit`; of equals the first."""
    return max(range(len(trained)), key=lambda i: merit(trained[i].best))


def _spread(values: Sequence[float]) -> Mapping[str, float | None]:
    """Mean and standard deviation (n - 1) over members; of a single one, no deviation."""
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json whole."""
    write_whole(folder / SUMMARY, (finite_json(summary, indent=1) + "\n").encode())
