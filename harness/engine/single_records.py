"""Records as versions before wrote them: a file for each cell and slice, whose name says which."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.engine import seal
from harness.engine.folder_files import FolderFiles
from harness.engine.record import SCHEMA, row_ids
from harness.engine.record_files import CELL, OPTIONAL, SLICE, TEXTS, TYPES, RecordPart, part_of, with_columns
from harness.engine.soundness import ROWS_FIT, SOUND, UNSEALED, StoreError

RECORDS = "records"
APPENDED, COMPACT = f"{RECORDS}/appended", f"{RECORDS}/compact"
"""In a run folder: files of blocks, and of what was put together."""
NO_GROUP = "other"
"""What files are compacted with of which nobody knows it."""
_ABOUT = b"robustiqa"
"""Of a file, in its metadata: what it says of itself."""

Misfit = Callable[[int, pa.Table], str] | None
"""Number of a slice and its unsealed records -> what is wrong with them, empty if nothing is; None: nobody can tell."""


class SingleRecords(FolderFiles):
    """The files of one cell and slice each in the folder `records`."""

    def single_files(self) -> dict[str, list[int]]:
        """Id of a cell -> slices of which there are files of their own."""
        return {cell: sorted(self._single_slices(cell)) for cell in sorted(self._single_cells())}

    def _single_cells(self) -> frozenset[str]:
        try:
            with os.scandir(self.path / RECORDS) as found:
                own = [one.name for one in found if not one.name.startswith(".")]
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise self._no_records(error) from None
        return frozenset(own) - {APPENDED.split("/")[1], COMPACT.split("/")[1]}

    def _single_slices(self, cell: str) -> set[int]:
        try:
            names = os.listdir(self.path / RECORDS / cell)  # noqa: PTH208 (10,000 folders: half the time)
        except FileNotFoundError:
            return set()
        except NotADirectoryError:
            return set()
        except OSError as error:
            raise self._no_records(error) from None
        return {int(name.removesuffix(".parquet")) for name in names if re.fullmatch(r"\d+\.parquet", name)}

    def _single(self, cell: str, index: int) -> Path:
        return self.path / RECORDS / cell / f"{index:05d}.parquet"

    def _has_single(self, cell: str, index: int, misfit: Misfit) -> bool:
        path = self._single(cell, index)
        state = self.soundness.state(path)
        if state is None or (state == UNSEALED and misfit is not None):
            content = self.soundness.read(path)
            if content is None:
                return False
            return seal.is_sealed(content) or self._parsed(path, content, misfit) is not None
        return state in SOUND

    def _read_singles(
        self,
        cells: Mapping[str, Misfit],
        wanted: Mapping[str, Collection[int]] | None,
        taken: Mapping[str, set[int]],
        columns: Sequence[str] | None,
    ) -> Iterator[tuple[pa.Table, list[RecordPart]]]:
        for cell in self._single_cells() & cells.keys():
            for index in sorted(self._single_slices(cell) - taken[cell]):
                if wanted is not None and index not in wanted[cell]:
                    continue
                table = self.single_records(cell, index, cells[cell])
                if table is not None:
                    taken[cell].add(index)
                    part = part_of(cell, index, table, "")
                    names = table.column_names if columns is None else columns
                    yield with_columns(_encoded(table), names), [part]

    def single_records(self, cell: str, index: int, misfit: Misfit) -> pa.Table | None:
        """The records of a file of one cell and slice; None where there is none, or where it is damaged."""
        path = self._single(cell, index)
        if self.soundness.state(path) not in {None, *SOUND}:
            return None
        content = self.soundness.read(path)
        return None if content is None else self._parsed(path, content, misfit)

    def seal_single(self, cell: str, index: int, misfit: Misfit) -> None:
        """Seal a file of one cell and slice that carries no seal, unless it is damaged."""
        path = self._single(cell, index)
        content = self.soundness.read(path)
        if content is not None and self.single_records(cell, index, misfit) is not None:
            table = pq.read_table(pa.BufferReader(content))
            about = {"schema": 1, "cell": cell, "slice": index, "rows": row_ids(table)}
            self._write(path, seal.sealed_table(table, self.soundness.name(path), {_ABOUT.decode(): json.dumps(about)}))

    def _parsed(self, path: Path, content: bytes, misfit: Misfit) -> pa.Table | None:
        """The records that a file of one cell and slice holds; None where they cannot be, which is noted."""
        sealed = seal.is_sealed(content)
        try:
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                table = file.read(use_threads=False)  # of so few rows they cost more than they save
        except (pa.ArrowException, OSError) as error:
            self.soundness.note(path, f"it is no file of records: {error}")
            return None
        about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
        if sealed:
            self._refuse_newer(path, {"schema": SCHEMA, **about})
        if sealed and [about.get(key) for key in ("cell", "slice", "rows")] != [
            *(path.parent.name, int(path.stem), row_ids(table))
        ]:
            self.soundness.note(path, "its rows are not those that it was written for")
            return None
        table = table.rename_columns([f"{name}_" if name in (CELL, SLICE) else name for name in table.column_names])
        types = dict(zip(table.schema.names, table.schema.types, strict=True))
        for name, kind in TYPES.items():
            if name in OPTIONAL and name not in types:
                table = table.append_column(name, pa.nulls(len(table), kind))
            elif types.get(name) != kind:
                self.soundness.note(path, f"it has no column '{name}' of {kind}")
                return None
        if not sealed and misfit is not None:
            wrong = misfit(int(path.stem), table)
            self.soundness.note(path, wrong or ROWS_FIT)
            return None if wrong else table
        return table

    def _no_records(self, error: OSError) -> StoreError:
        return StoreError(
            f"{error.filename or self.path}: cannot be read as a folder of records ({error.strerror}). "
            "Remove it, or choose another run folder with --out."
        )

    def _refuse_newer(self, path: Path, said: Mapping[str, Any]) -> None:
        if said["schema"] > SCHEMA:
            raise StoreError(
                f"{path}: its records have schema {said['schema']}, of a newer version of robustiqa; this one knows "
                f"{SCHEMA}. Take that version, or choose another folder with --out."
            )


def _encoded(table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in TEXTS:
            table = table.set_column(place, name, table.column(place).dictionary_encode())
    return table
