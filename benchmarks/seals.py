"""What seals cost: records written, read and looked at per second, with seals and without, interleaved in one run.

python benchmarks/seals.py            # 400 files of 8 records
python benchmarks/seals.py --files 5000

A run writes a file when a slice of a cell has been attacked, which takes between a hundredth of a second and minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from harness.engine.record import STORED
from harness.engine.run_folder import RunFolder, _table
from harness.files import write_whole

ROWS = 8
CELLS = 20
VALUES: dict[str, Any] = {"text": "images/i01_08_3.bmp", "real": 0.7071067811865476, "whole": 12, "truth": False}


def columns(file: int) -> dict[str, list[Any]]:
    """Made-up records of one file."""
    rows = {column.name: [VALUES[column.type]] * ROWS for column in STORED}
    return rows | {"item": [f"{file}/{row}" for row in range(ROWS)], "draw": [0] * ROWS}


class Plain:
    """Files of records as they were before there were seals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, file: int) -> Path:
        """Of one file."""
        return self.folder / "records" / str(file % CELLS) / f"{file // CELLS:05d}.parquet"

    def write(self, file: int) -> None:
        """Write one file."""
        buffer = io.BytesIO()
        pq.write_table(_table(columns(file)), buffer, use_dictionary=False, write_statistics=False)
        write_whole(self.path(file), buffer.getvalue())

    def read(self, file: int) -> None:
        """Read one file."""
        with pq.ParquetFile(self.path(file)) as stored:
            stored.read()

    def look(self) -> None:
        """Find which slices have records, from names alone."""
        for cell in range(CELLS):
            os.listdir(self.folder / "records" / str(cell))  # noqa: PTH208


class Sealed(Plain):
    """Files of records with seals."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "suite.yaml").touch()
        self.store = RunFolder(folder)

    def write(self, file: int) -> None:
        """Write one file."""
        self.store.write_records(str(file % CELLS), file // CELLS, columns(file))

    def read(self, file: int) -> None:
        """Read one file."""
        self.store.read_records(str(file % CELLS), file // CELLS)

    def look(self) -> None:
        """Find which slices have records, whose files are as they were when they were last read."""
        for cell in range(CELLS):
            self.store.slices(str(cell))

    def look_anew(self) -> None:
        """The same, reading every file."""
        self.store.soundness.forget()
        self.look()


def rate(work: Callable[[], object], records: int) -> float:
    """Records per second of processor time."""
    began = time.process_time()
    work()
    return records / max(time.process_time() - began, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    records = ROWS * asked.files
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("write", "read", "look", "look, reading all")}
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("plain", "sealed")]
        for place in places:
            place.mkdir()
        plain, sealed = Plain(places[0]), Sealed(places[1])
        for _ in range(asked.rounds):
            for name, call in (("write", "write"), ("read", "read")):
                pair = [
                    rate(lambda one=one, call=call: [getattr(one, call)(i) for i in range(asked.files)], records)  # type: ignore[misc]
                    for one in (plain, sealed)
                ]
                found[name].append((pair[0], pair[1]))
            found["look"].append((rate(plain.look, records), rate(sealed.look, records)))
            found["look, reading all"].append((found["look"][-1][0], rate(sealed.look_anew, records)))
        sizes = [sum(one.path(i).stat().st_size for i in range(asked.files)) / asked.files for one in (plain, sealed)]
    print(f"{asked.files} files of {ROWS} records; records per second of processor time, median of {asked.rounds}")
    print(f"{'':18} {'without':>12} {'with seals':>12} {'time, ratio':>12}")
    for name, pairs in found.items():
        before, after = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(f"{name:18} {before:12,.0f} {after:12,.0f} {statistics.median(b / a for b, a in pairs):12.2f}")
    print(f"bytes per file: {sizes[0]:,.0f} without, {sizes[1]:,.0f} with, {sizes[1] / sizes[0]:.2f} times")


if __name__ == "__main__":
    main()
