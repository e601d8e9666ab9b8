"""Faults of files of records: compactions that are killed, and files that are cut, copied, renamed or swapped."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pandas as pd
from fault_counts import TOYS, Count, Undisturbed, records_of, run_place

from harness.engine import record_files
from harness.engine.compaction import compact
from harness.engine.run_folder import RunFolder
from harness.flow import reopen
from harness.plugins.registry import Registry


def compaction(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """SIGKILL over the whole of a compaction; what is there then, and after another one, is compared."""
    count = Count("SIGKILL at a random moment of a compaction")
    with run_place() as folder:
        scattered(whole.folder, folder)
        plan, _ = reopen(folder, Registry(TOYS))
        expected = dict(records_of(RunFolder(folder)))
        for number in range(-1, times):
            place = folder.with_name("cut")
            shutil.copytree(folder, place)
            began, child = time.monotonic(), os.fork()
            if child == 0:
                compact(RunFolder(place), plan)
                os._exit(0)
            if number < 0:  # to see how long it takes
                os.waitpid(child, 0)
                seconds = time.monotonic() - began
            else:
                time.sleep(rng.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                count.tried += 1
            for _ in range(2):
                store = RunFolder(place)
                count.compare(dict(expected), dict(records_of(store)))
                rows = store.read_cells(dict.fromkeys(store.held())).num_rows
                count.double += rows != sum(map(len, expected.values()))
                compact(RunFolder(place), plan)
            shutil.rmtree(place)
    return count


def scattered(source: Path, target: Path) -> None:
    """A copy of a run folder whose records lie in a file for each cell and slice, as a run appends them."""
    shutil.copytree(source, target)
    store = RunFolder(target)
    tables = {(cell, index): store.read_records(cell, index) for cell, them in store.held().items() for index in them}
    for name in store.record_names():
        (target / name).unlink()
    for (cell, index), table in tables.items():
        store.write_records(cell, index, {name: table[name].to_pylist() for name in table.column_names})


def of_many_groups(source: Path, target: Path) -> None:
    """A copy of a run folder whose records are compact, in as many row groups as a large run has."""
    scattered(source, target)
    usual, record_files._GROUP_ROWS = record_files._GROUP_ROWS, (12, 12)
    compact(*reopen(target, Registry(TOYS))[::-1])
    record_files._GROUP_ROWS = usual


def moved(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """Files of records cut, copied, renamed, or swapped; what is read is compared with what was there."""
    count = Count("a file of records cut, copied, renamed or swapped")
    with run_place() as folder:
        apart, compact_one = folder, folder.with_name("compact")
        scattered(whole.folder, apart)
        of_many_groups(whole.folder, compact_one)
        for _ in range(times):
            with tempfile.TemporaryDirectory(prefix="faults-") as name:
                place = shutil.copytree(rng.choice((apart, compact_one)), Path(name, "run"))
                paths = sorted((place / "records").rglob("*.parquet"))
                one, other = rng.sample(paths, 2)
                deed = rng.choice(("cut", "copied", "renamed", "swapped"))
                if deed == "cut":
                    one.write_bytes(one.read_bytes()[: rng.randrange(one.stat().st_size)])
                elif deed == "copied":
                    shutil.copy(one, one.with_name(f"{rng.randrange(99999):05d}-{rng.randrange(10**9)}.parquet"))
                elif deed == "renamed":
                    one.rename(one.with_name(f"{rng.randrange(99999):05d}.parquet"))
                else:
                    content = one.read_bytes()
                    one.write_bytes(other.read_bytes())
                    other.write_bytes(content)
                only_true(place, whole, count, deed)
            count.tried += 1
    return count


def only_true(folder: Path, whole: Undisturbed, count: Count, what: str) -> None:
    """Count a row that is not as it was, or is there twice, and damage that is not told."""
    store = RunFolder(folder)
    for name, frame in records_of(store).items():
        before = whole.results[name]
        if not (isinstance(before, pd.DataFrame) and frame.equals(before)):
            count.wrong += 1
            count.notes.append(f"{what}: {name}")
    if not store.soundness.damaged():
        count.wrong += 1
        count.notes.append(f"{what}: not told")
