"""What faults are made of on purpose, and what they did, counted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.engine.record import NAMES
from harness.engine.record_files import decoded
from harness.engine.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
TOYS = tuple(ROOT / "tests" / "toys" / name for name in ("toy.py", "slow.py"))
PATIENCE_S = 180
SUITE = """
name: faults
datasets: [toy]
metrics: [linear, negative_mse]
defenses: [base, {name: jitter, threat: adaptive, eot: 2, draws: 2}]
attacks: [noise, leisurely, restarts, learnt]
budgets: {linf: [4/255]}
directions: [up]
slice: 4
save_examples: 3
"""


@dataclass
class Count:
    """What one kind of fault did.

    Attributes:
        fault: What was done.
        tried: How often.
        lost: Results of the undisturbed run that are missing at the end.
        double: Results that it has not.
        wrong: Results that differ, or damage that nothing noticed.
        tracebacks: Outputs with one.
        hangs: Processes that did not end within `PATIENCE_S`.
        notes: The first thing that went wrong, in a few words.
    """

    fault: str
    tried: int = 0
    lost: int = 0
    double: int = 0
    wrong: int = 0
    tracebacks: int = 0
    hangs: int = 0
    notes: list[str] = field(default_factory=list)

    def bad(self) -> int:
        """Everything that should not be."""
        return self.lost + self.double + self.wrong + self.tracebacks + self.hangs

    def compare(self, expected: dict[str, object], found: dict[str, object]) -> None:
        """Count what is lost, double and wrong of results."""
        lost, double = expected.keys() - found.keys(), found.keys() - expected.keys()
        wrong = [name for name in expected.keys() & found.keys() if not _same(expected[name], found[name])]
        self.lost, self.double, self.wrong = self.lost + len(lost), self.double + len(double), self.wrong + len(wrong)
        self.notes += [f"lost {name}" for name in sorted(lost)[:2]] + [f"double {name}" for name in sorted(double)[:2]]
        self.notes += [f"wrong {name}" for name in sorted(wrong)[:2]]

    def heard(self, said: str) -> None:
        """Count a traceback in what a process said."""
        if "Traceback (most recent call last)" in said:
            self.tracebacks += 1
            self.notes.append(said[said.index("Traceback") :][-600:])


def _same(one: object, other: object) -> bool:
    if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        return one.equals(other)
    return one == other


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbs: its folder, results and seconds."""

    folder: Path
    results: dict[str, object]
    seconds: float


def results_of(folder: Path) -> dict[str, object]:
    """Results of a run folder by name: records without seconds, facts, fits and examples."""
    found: dict[str, object] = dict(records_of(RunFolder(folder)))
    for pattern in ("facts/*.json", "fits/*.safetensors", "examples/*/*/*/attacked.png"):
        found |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob(pattern)}
    return found


def records_of(store: RunFolder) -> dict[str, pd.DataFrame]:
    """Name of a cell and slice -> what is read of it, without seconds."""
    table, parts = store.gathered(dict.fromkeys(store.held()))
    plain, found, first = decoded(table), {}, 0
    for part in parts:
        own = plain.slice(first, part.rows).select([*NAMES, *part.notes])
        found[f"records {part.cell} {part.slice}"] = own.to_pandas().drop(columns="seconds")
        first += part.rows
    return found


@contextmanager
def run_place() -> Iterator[Path]:
    """A folder with the suite, and the name of a run folder in it."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        Path(name, "suite.yaml").write_text(SUITE)
        yield Path(name, "run")
