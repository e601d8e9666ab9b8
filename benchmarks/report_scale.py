"""How long the readers of a run folder take that holds as many records as a paper's, and the memory they need.

python benchmarks/report_scale.py                      # 100,000 records
python benchmarks/report_scale.py --records 1000000 --keep FOLDER

The run is made up: 12 scorers, 4 attacks upwards and downwards and 2 controls at 4 budgets, human opinions of as many
distorted images of 100 references as the records need (2,032 for a million), some with ties. Its plan is a real one and
its records are written as a block writes them, so that every reader works on it; no image exists. Each reader is a
process of its own, of one thread. Processor seconds (user and system) say more than the clock where others work beside.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.compaction import compact
from harness.engine.record import STORED
from harness.engine.record_files import group_of
from harness.engine.run_folder import RunFolder
from harness.flow import planned_text
from harness.plugins.registry import Registry
from harness.suite.cell_names import CLEAN
from harness.suite.plan import Cell, Plan
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite

SCORERS, REFERENCES, TYPES = 12, 100, 5
STRENGTHS = {"noise": -0.2, "restore": 0.4, "fgsm": 0.5, "pgd": 1.3, "square": 0.7, "cw": 1.1}
"""How far an attack moves quality at 8/255, in standard deviations of opinions."""
PLUGIN = f'''
"""A metric and a data set that nobody runs."""

from harness.contracts import Dataset, Entry, Metric, register


@register("scorer")
class Scorer(Metric):
    """Scores nothing."""

    cite = ""
    higher_is_better = True

    def __init__(self, *, number: int) -> None:
        super().__init__()

    def score(self, reference, dist):
        raise AssertionError("no image of this run exists")


@register("as_many")
class AsMany(Dataset):
    """Images of {REFERENCES} references under {TYPES} distortions, each in levels."""

    cite = ""
    labels = "human"
    splits = ("test",)

    def __init__(self, *, images: int) -> None:
        self.images = images

    def entries(self, split):
        return [self._entry(i) for i in range(self.images)]

    def _entry(self, i):
        reference, more = f"r{{i % {REFERENCES}:03}}", i // {REFERENCES}
        opinion = round((i * 7919 % 1009) / 1009, 3)
        name, group, level = f"{{reference}}_{{i:06}}.png", f"{{more % {TYPES}:02}}", 1 + more // {TYPES}
        return Entry(name, reference, group=group, level=level, opinion=opinion)

    def load(self, entry):
        raise AssertionError("no image of this set exists")

    def fingerprint(self):
        return str(self.images)
'''
SUITE = """\
name: report_scale
datasets: [{{name: as_many, images: {images}}}]
metrics: [{metrics}]
attacks: [noise, restore, fgsm, {{name: pgd, steps: 10, step_size: 2/255}}, square, cw]
budgets: {{linf: [2/255, 4/255, 8/255, 10/255]}}
directions: [up, down]
"""
LAYOUT = """\
name: by_attack
rows: {metric: "*"}
columns: {attack: [none, fgsm, pgd, square, cw]}
where: {statistic: srocc, direction: up, norm: linf, budget: 8/255}
"""
CELLS = SCORERS * (1 + 4 * (2 + 2 * 4))
READERS = ("report", "status", "claims", "tables", "compare", "export")


def make_run(folder: Path, records: int) -> Path:
    """A run folder of so many records; the plugin file of its suite and a layout are made beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    plugin, suite, run = folder / "plugin.py", folder / "suite.yaml", folder / "run"
    plugin.write_text(PLUGIN, encoding="utf-8")
    metrics = ", ".join(f"{{name: scorer, number: {one}, label: scorer{one:02}}}" for one in range(SCORERS))
    suite.write_text(SUITE.format(images=-(-records // CELLS), metrics=metrics), encoding="utf-8")
    (folder / "layout.yaml").write_text(LAYOUT, encoding="utf-8")
    registry = Registry([plugin])
    plan = make_plan(load_suite(suite, registry), registry)
    store = RunFolder(run)
    store.open(plan.suite)
    store.write_plan(plan.suite, planned_text(plan, registry))
    for fact in plan.facts:
        store.write_fact(fact.id, {"range": 1.0, "std": 0.3, "median": 0.5, "line": None})
    for probe in plan.probes:
        store.write_probe(probe.id, {"faults": []})
    write_records(plan, store)
    return run


def write_records(plan: Plan, store: RunFolder) -> None:
    """Plausible records of every cell of a plan, block by block, put together as a run does that ends."""
    sources: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        sources.setdefault(cell.source.key, []).append(cell)
    size = plan.suite.slice_size
    for number, cells in enumerate(sources.values()):
        columns = {cell.id: _figures(plan, cell, number) for cell in cells}
        groups = {cell.id: group_of(cell) for cell in cells}
        for index in range(plan.slices_of(cells[0])):
            own = slice(index * size, (index + 1) * size)
            store.write_block(
                index,
                {cell: {name: values[own] for name, values in of.items()} for cell, of in columns.items()},
                groups,
            )
    compact(store, plan)


_OF_ENTRY = {"item": "id", "sample": "id", "reference": "reference_id", "cluster": "reference_id", "group": "group"}
_OF_ENTRY |= {"level": "level", "opinion": "opinion"}


def _figures(plan: Plan, cell: Cell, source: int) -> dict[str, list[Any]]:
    """All columns of a cell's records."""
    entries = plan.entries_of(cell)
    count, attack = len(entries), cell.attack.name if cell.attack else CLEAN
    opinion = np.array([entry.opinion for entry in entries])
    quality = opinion + np.random.default_rng(source).normal(0, 0.05 + 0.03 * source, count)
    draws = np.random.default_rng(int(cell.id[:12], 16))
    push = np.zeros(count)
    if cell.attack is not None:
        push = 0.29 * STRENGTHS[attack] * cell.eps * 255 / 8 * draws.uniform(0.2, 1.8, count) * (cell.sign or 1)
    steps = 0 if attack in ("noise", "restore", CLEAN) else 1 if attack == "fgsm" else 10
    figures: dict[str, Any] = {name: [getattr(entry, key) for entry in entries] for name, key in _OF_ENTRY.items()}
    figures |= {"sign": cell.sign, "attack": attack, "norm": cell.norm, "eps": cell.eps, "draw": 0, "batch": 8}
    figures |= {"source": cell.source.label, "scorer": cell.scorer.label, "clean": quality, "attacked": quality + push}
    figures |= {"attacked_8bit": quality + 0.9 * push, "pristine": None if cell.attack else 2.0, "linf": cell.eps}
    figures |= {
        "l2": cell.eps * draws.uniform(100, 400, count),
        "seconds": 0.1 * steps * draws.uniform(0.9, 1.1, count),
    }
    figures |= {"forwards": steps + 1, "backwards": steps, "queries": 10 * (attack == "square"), "identical": False}
    figures |= {"zero_gradients": 0, "constant_gradients": 0, "torch": "2.9.0", "device": "cpu", "status": "ok"}
    return {column.name: _column(figures.get(column.name), column.type, count) for column in STORED}


def _column(value: Any, kind: str, count: int) -> list[Any]:
    if isinstance(value, list | np.ndarray):
        return list(value) if isinstance(value, list) else value.tolist()
    return [("" if value is None and kind == "text" else value)] * count


def measured(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds, seconds and MiB at the peak of a command.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    began = time.perf_counter()
    environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said.decode())
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def command_of(reader: str, folder: Path) -> list[str]:
    """The call of a reader on the run that `make_run` made."""
    run = str(folder / "run")
    more = {
        "compare": ["compare", run, "scorer00", "scorer01"],
        "export": ["export", run, "-o", str(folder / "export.parquet")],
        "tables": ["tables", run, "--layout", str(folder / "layout.yaml"), "--out", str(folder / "tables")],
    }
    return [sys.executable, "-m", "harness", *more.get(reader, [reader, run])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=READERS)
    parser.add_argument("--keep", type=Path, help="Make the run here, or take the one that is here, and leave it.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        if not (folder / "run").exists():
            make_run(folder, asked.records)
        for reader in asked.readers:
            processor, wall, peak = measured(command_of(reader, folder))
            print(f"{reader:8} {processor:7.1f} s of processor time, {wall:7.1f} s, {peak:7.0f} MiB")


if __name__ == "__main__":
    main()
