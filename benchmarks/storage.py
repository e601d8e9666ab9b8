"""What records cost: bytes a row, files, and processor time, in a file for each cell and slice, appended and compact.

python benchmarks/storage.py                      # 64 cells of 160 slices of 8 rows, as many as fit in minutes
python benchmarks/storage.py --blocks 50000       # and `status` and compaction of a run of so many blocks

The rows are made up, of numbers that do not repeat where those of a run do not. "A file for each" is how versions up to
0.1 stored them. Reading is what a report does: all columns of all rows as one table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine import seal
from harness.engine.compaction import compact
from harness.engine.record import row_ids
from harness.engine.record_files import records_table
from harness.engine.run_folder import RunFolder
from harness.files import write_whole
from harness.flow import run_status
from harness.plugins.registry import Registry
from harness.report.planned import planned_text
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

ROWS = 8
GROUP = "split000-source00-scorer00"
SUITE = """
name: storage
datasets: [mini]
metrics: [psnr, ssim, gmsd, haarpsi, fsim, vifp, birqa-tiny, ms_ssim, ssim-matlab]
defenses: [base, {name: flip, threat: adaptive}]
attacks: [noise]
budgets: {linf: [4/255]}
directions: [up]
slice: 1
"""
_MINI = 2800


class Rows:
    """Made-up records of one slice after the other.

    Args:
        cells: How many cells a slice has.
    """

    def __init__(self, cells: int) -> None:
        self.cells = [f"{number:016x}" for number in range(cells)]
        self._rng = np.random.default_rng(0)

    def slice(self, index: int, count: int = ROWS) -> dict[str, dict[str, list[Any]]]:
        """Id of a cell -> columns of its records of a slice."""
        items = [f"i{(index * count + row) // 120:02d}_{row:02d}_{index % 5 + 1}.bmp" for row in range(count)]
        same = {"clean": self._numbers(count), "opinion": [round(one, 4) for one in self._rng.random(count)]}
        return {cell: self._cell(items, same, f"attack{number % 8}") for number, cell in enumerate(self.cells)}

    def _cell(self, items: list[str], same: dict[str, list[float]], attack: str) -> dict[str, list[Any]]:
        count = len(items)
        texts = {"patch": "", "norm": "linf", "source": "ssim", "scorer": "ssim", "torch": "2.9.1+cpu", "device": "cpu"}
        texts |= {"group": items[0][4:6], "status": "ok", "attack": attack}
        short = [one[:3] for one in items]
        names = {"item": items, "sample": items, "reference": short, "cluster": short}
        whole = {"sign": 1, "draw": 0, "forwards": 12, "backwards": 11, "queries": 0, "zero_gradients": 0}
        whole |= {"constant_gradients": 0, "batch": 8}
        numbers = {"level": 1.0, "judge": None, "eps": 8 / 255, "linf": 8 / 255, "pristine": None}
        own = {name: self._numbers(count) for name in ("attacked", "attacked_8bit", "l2")}
        fixed = {**texts, **whole, **numbers, "seconds": self._rng.random(), "identical": False}
        return {**names, **same, **own, **{name: [value] * count for name, value in fixed.items()}}

    def _numbers(self, count: int) -> list[float]:
        return [float(one) for one in self._rng.random(count, np.float32)]


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and what came of it."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def write_single(store: RunFolder, index: int, found: dict[str, dict[str, list[Any]]]) -> None:
    """A file for each cell and slice."""
    for cell, columns in found.items():
        table, path = records_table(columns), store.path / "records" / cell / f"{index:05d}.parquet"
        about = {"schema": 1, "cell": cell, "slice": index, "rows": row_ids(table)}
        write_whole(path, seal.sealed_table(table, store.soundness.name(path), {"robustiqa": json.dumps(about)}))


def append(store: RunFolder, index: int, found: dict[str, dict[str, list[Any]]], groups: dict[str, str]) -> None:
    """One file for all cells."""
    store.append_records(index, {cell: records_table(columns) for cell, columns in found.items()}, groups)


def folder(place: Path, name: str) -> RunFolder:
    """An empty run folder."""
    (place / name).mkdir()
    (place / name / "suite.yaml").touch()
    return RunFolder(place / name)


def measured(cells: int, slices: int) -> dict[str, dict[str, float]]:
    """Layout -> what is said of it."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        single, appended = folder(Path(name), "single"), folder(Path(name), "appended")
        rows, times = Rows(cells), {"single": 0.0, "appended": 0.0}
        for index in range(slices):
            block = rows.slice(index)
            times["single"] += spent(lambda block=block, index=index: write_single(single, index, block))[0]  # type: ignore[misc]
            groups = dict.fromkeys(block, GROUP)
            times["appended"] += spent(
                lambda block=block, index=index, groups=groups: append(appended, index, block, groups)  # type: ignore[misc]
            )[0]
        count, ids = ROWS * cells * slices, dict.fromkeys(rows.cells)
        for label, store in (("a file for each", single), ("appended", appended)):
            found[label] = {"write, s": times["single" if store is single else "appended"], **_said(store, ids, count)}
        whole = appended.read_cells(ids)
        took, done = spent(lambda: compact(appended, None))
        assert done.after[0] == 1 and appended.read_cells(ids).equals(whole) and single.read_cells(ids).equals(whole)
        found["compact"] = {"write, s": took, **_said(appended, ids, count)}
    return found


def _said(store: RunFolder, ids: dict[str, None], count: int) -> dict[str, float]:
    sizes = [path.stat().st_size for path in (store.path / "records").rglob("*.parquet")]
    store.soundness.forget()
    first, _ = spent(lambda: store.slices_of(ids))
    store.soundness.keep()
    again = statistics.median(spent(lambda: RunFolder(store.path).slices_of(ids))[0] for _ in range(3))
    read = statistics.median(spent(lambda: RunFolder(store.path).read_cells(ids))[0] for _ in range(3))
    say = {"find what is done at first, s": first, "again, s": again, "read all, s": read}
    return {"files": len(sizes), "bytes a row": sum(sizes) / count, **say}


def status(blocks: int) -> dict[str, float]:
    """Processor seconds of `status` of a run of about so many blocks, all done: block files, then compact."""
    registry = Registry()
    plan = make_plan(validate(parse_text(SUITE, "suite.yaml"), registry), registry)
    with tempfile.TemporaryDirectory() as name:
        store = RunFolder(Path(name) / "run")
        store.open(plan.suite)
        store.write_plan(plan.suite, planned_text(plan, registry))
        wanted, rows = plan.blocks({})[:blocks], Rows(1)
        (columns,) = rows.slice(0, 1).values()
        flush, os.fsync = os.fsync, lambda fd: None  # of made-up records nothing is lost
        for block in wanted:
            entry = plan.entries[block.split.key][block.slice]
            row = {**columns, "item": [entry.id], "sample": [entry.id]}
            append(store, block.slice, {cell.id: row for cell in block.cells}, {})
        os.fsync = flush
        found = {"blocks": float(len(wanted))}
        for label in ("at first", "again"):
            found[f"status, block files, {label}, s"] = _command(store.path)
            run_status(store.path, registry)
            store.soundness.keep()
        found["compact them, s"] = spent(lambda: compact(store, plan))[0]
        found["peak memory until then, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found["status, compact, s"] = _command(store.path)
    return found


def _command(folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "harness", "status", str(folder)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--slices", type=int, default=160)
    parser.add_argument("--blocks", type=int, default=0, help=f"for status; at most {18 * _MINI:,}")
    asked = parser.parse_args()
    found = measured(asked.cells, asked.slices)
    rows = ROWS * asked.cells * asked.slices
    print(f"{rows:,} rows, {ROWS} of each cell and slice; processor seconds")
    print(f"{'':32}{''.join(f'{label:>18}' for label in found)}")
    for what in found["compact"]:
        values = [found[label][what] for label in found]
        ratio = values[0] / values[2] if values[2] else float("nan")
        print(f"{what:32}{''.join(f'{value:18,.2f}' for value in values)}   {ratio:,.1f} x")
    if asked.blocks:
        for what, value in status(asked.blocks).items():
            print(f"{what:48}{value:12,.2f}")


if __name__ == "__main__":
    main()
