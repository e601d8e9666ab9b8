"""The folder `records` of a run folder: appended to while a run goes on, compacted when it ends, read without a lock.

A block appends a file with all its cells (`APPENDED`); `harness.engine.compaction` puts what is finished together
(`COMPACT`). Versions before wrote a file for each cell and slice (`harness.engine.single_records`). What is there
twice, as where a compaction was cut off, is read once: what was appended last counts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.engine import seal
from harness.engine.folder_files import damaged
from harness.engine.record import NAMES
from harness.engine.record_files import (
    CELL,
    SLICE,
    TYPES,
    RecordFile,
    RecordPart,
    alike_in_notes,
    decoded,
    holds_of,
    holds_of_parts,
    note_types,
    part_of,
    picked,
    said_by,
    sealed_file,
    whole_groups,
    with_columns,
)
from harness.engine.single_records import APPENDED, COMPACT, Misfit, SingleRecords
from harness.engine.soundness import NOT_SEALED, HeldSlices

_Read = tuple[pa.Table, Sequence[RecordPart]]
"""What was read of a file: rows, and what they are."""
_TRIES = 20
"""How often files are listed anew because one is gone that was listed."""


class RecordStore(SingleRecords):
    """The folder `records` of a run folder."""

    def slices(self, cell: str, misfit: Misfit = None) -> frozenset[int]:
        """Slices of a cell that have records, but for those that are damaged.

        Args:
            cell: Its id.
            misfit: Says what is wrong with records that carry no seal.
        """
        return self.slices_of({cell: misfit})[cell]

    def slices_of(self, cells: Mapping[str, Misfit]) -> dict[str, frozenset[int]]:
        """Slices of many cells that have records, but for those that are damaged.

        Args:
            cells: Id -> says what is wrong with records that carry no seal.
        """
        old = self._single_cells()
        alike: dict[tuple[str, ...], set[int]] = {}
        for _, holds in self.record_holds():
            for names, slices in holds:
                alike.setdefault(names, set()).update(slices)
        found: dict[str, frozenset[int]] = dict.fromkeys(cells, frozenset())
        for names, many in alike.items():
            those = frozenset(many)
            for cell in names:
                if cell in found:
                    found[cell] = found[cell] | those if found[cell] else those
        for cell in old & found.keys():
            found[cell] |= {index for index in self._single_slices(cell) if self._has_single(cell, index, cells[cell])}
        return found

    def held(self) -> dict[str, frozenset[int]]:
        """Every cell that has records, whatever plan it is of, with its slices; damaged ones left out."""
        cells = {cell for _, holds in self.record_holds() for names, _ in holds for cell in names}
        found = self.slices_of(dict.fromkeys(sorted(cells | self._single_cells())))
        return {cell: slices for cell, slices in found.items() if slices}

    def append_records(
        self,
        index: int,
        found: Mapping[str, pa.Table],
        groups: Mapping[str, str],
        then: Callable[[Sequence[str]], None] = lambda cells: None,
    ) -> None:
        """Store the records of some cells of one slice as one file.

        Args:
            index: Of the slice.
            found: Id of a cell -> its records, as `records_table` makes them.
            groups: Id of a cell -> what it is to be compacted with; a cell that is not in it with whatever else is not.
            then: Called with the cells of a file when it is there.
        """
        tables = {cell: found[cell] for cell in sorted(found)}
        for places in alike_in_notes(note_types(table.schema) for table in tables.values()):
            cells = [list(tables)[place] for place in places]
            parts = [part_of(cell, index, tables[cell], groups.get(cell, "")) for cell in cells]
            whole = pa.concat_tables([tables[cell] for cell in cells], promote_options="default")
            unique = hashlib.blake2b(json.dumps([index, *cells]).encode(), digest_size=8).hexdigest()
            name, content = sealed_file(whole, parts, f"{APPENDED}/{index:05d}-{unique}.parquet")
            self._write(self.path / name, content, partial(then, cells))

    def records(self, cell: str, index: int, misfit: Misfit = None) -> pa.Table | None:
        """The records of one cell and slice; None where there are none, or where they are damaged.

        Args:
            cell: The cell's id.
            index: Of the slice.
            misfit: Says what is wrong with records that carry no seal.

        Raises:
            StoreError: A newer version of robustiqa wrote them.
        """
        table, parts = self.gathered({cell: misfit}, {cell: (index,)})
        return decoded(table) if parts else None

    def read_records(self, cell: str, index: int) -> pa.Table:
        """The records of one cell and slice.

        Raises:
            UserError: There are none, or they are damaged.
        """
        table = self.records(cell, index)
        if table is None:
            path = self._single(cell, index)
            raise damaged(path, self.soundness.state(path) or "there are none that are whole")
        return table

    def read_cells(
        self,
        cells: Mapping[str, Misfit],
        columns: Sequence[str] | None = None,
        slices: Mapping[str, int] | None = None,
        *,
        encoded: bool = False,
    ) -> pa.Table:
        """The records of many cells as one table, each file read once and column by column.

        Args:
            cells: Id of each cell -> says what is wrong with records of it that carry no seal.
            columns: Those wanted, of records and notes, or `SLICE`; None for all but `SLICE`. One that is not there is
                null.
            slices: Id of a cell -> how many of its slices are wanted, from the first on; None for all of each.
            encoded: Whether texts stay dictionary-encoded.

        Returns:
            `CELL`, dictionary-encoded with the cells in the order in which they are given, and the columns asked for.
            Rows stand in this order of cells, then by slice, then as they were computed. What is damaged is left out,
            and noted. Where attacks noted values of different types under one name, all are floats if these are the
            same numbers, else texts.

        Raises:
            StoreError: A newer version of robustiqa wrote them.
        """
        wanted = None if slices is None else {cell: range(slices[cell]) for cell in cells}
        names = None if columns is None else [name for name in columns if name != SLICE]
        found = _of_one_type(self._gathered(cells, wanted, names))
        table, parts = _in_order(found, list(cells), names)
        places, counts = {cell: place for place, cell in enumerate(cells)}, [part.rows for part in parts]
        codes = np.repeat(np.array([places[part.cell] for part in parts], np.int32), counts)
        whole = table if encoded else decoded(table)
        if columns is not None and SLICE in columns:
            slice_of = np.repeat(np.array([part.slice for part in parts], np.int64), counts)
            whole = whole.append_column(SLICE, pa.array(slice_of)).select(list(columns))
        ids = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(cells), pa.string()))
        return whole.add_column(0, CELL, ids)

    def gathered(
        self,
        cells: Mapping[str, Misfit],
        wanted: Mapping[str, Collection[int]] | None = None,
        columns: Sequence[str] | None = None,
    ) -> tuple[pa.Table, list[RecordPart]]:
        """Rows of some cells and slices, texts dictionary-encoded, and what they are, by cell as given, then by slice.

        Args:
            cells: As of `read_cells`.
            wanted: Id of a cell -> slices wanted; None for all of each.
            columns: As of `read_cells`, without `SLICE`.
        """
        return _in_order(self._gathered(cells, wanted, columns), list(cells), columns)

    def gathered_alike(
        self, groups: Mapping[str, Mapping[str, Misfit]], wanted: Mapping[str, Collection[int]] | None = None
    ) -> Iterator[tuple[str, pa.Table, list[RecordPart]]]:
        """What `gathered` gives of each group, apart where notes of one name differ in type: values are as stored.

        Args:
            groups: Name of a group -> its cells, as of `read_cells`; each file is read once for all of them.
            wanted: As of `gathered`.

        Yields:
            The group, rows of it, and what they are.
        """
        every = {cell: misfit for cells in groups.values() for cell, misfit in cells.items()}
        read = self._gathered(every, wanted, None)
        for group, cells in groups.items():
            place = {cell: number for number, cell in enumerate(cells)}
            found = sorted(
                (own for table, parts in read if (own := _only(table, parts, cells))[1]),
                key=lambda one: min((place[part.cell], part.slice) for part in one[1]),
            )
            for numbers in alike_in_notes(note_types(table.schema) for table, _ in found):
                yield group, *_in_order([found[number] for number in numbers], list(cells), None)

    def _gathered(
        self,
        cells: Mapping[str, Misfit],
        wanted: Mapping[str, Collection[int]] | None,
        columns: Sequence[str] | None,
    ) -> list[_Read]:
        found: list[_Read] = []
        taken: dict[str, set[int]] = {cell: set() for cell in cells}
        for _ in range(_TRIES):
            gone = False
            for name, holds in self._newest_first():
                asked = {
                    (cell, index)
                    for names, slices in holds
                    for cell in names
                    if cell in taken
                    for index in slices
                    if index not in taken[cell] and (wanted is None or index in wanted[cell])
                }
                read = self._read_parts(name, asked, columns) if asked else ((), ())
                if read is None:
                    gone = True
                elif asked:
                    found.append(read)
                    for part in read[1]:
                        taken[part.cell].add(part.slice)
            found += self._read_singles(cells, wanted, taken, columns)
            if not gone:
                break
        return found

    def _read_parts(
        self, name: str, asked: Collection[tuple[str, int]], columns: Sequence[str] | None
    ) -> tuple[pa.Table, list[RecordPart]] | None:
        """Parts of one file; fewer where it turns out to be damaged, None where it is gone."""
        path = self.path / name
        try:
            file = self._record_file(path)
            if file is None:
                return (pa.table({}), []) if path.exists() else None
            if file.lost or self.soundness.holds(name) is None:
                self.soundness.note_holds(path, holds_of_parts(file.parts))
            parts = [part for part in file.parts if part[:2] in asked]
            return file.read(parts, columns), parts
        except ValueError as error:
            self.soundness.note(path, str(error))
            self.soundness.note_holds(path, ())
            return pa.table({}), []

    def _record_file(self, path: Path) -> RecordFile | None:
        """A file, or what of it is whole; None where nothing is, which is noted.

        Raises:
            ValueError: It does not hold what it should.
        """
        content = self._sealed(path)
        if content is not None:
            self._refuse_newer(path, said_by(content))
            return RecordFile(content)
        return self._salvaged(path)

    def look_at_records(self, path: Path) -> None:
        """Look at an appended or compact file, all of its bytes, and note what is found."""
        self._read_parts(self.soundness.name(path), (), ())

    def _sealed(self, path: Path) -> bytes | None:
        content = self.soundness.read(path)
        if content is not None and not seal.is_sealed(content):  # of this kind there never was one without
            self.soundness.note(path, NOT_SEALED)
            return None
        return content

    def _salvaged(self, path: Path) -> RecordFile | None:
        """What is whole of a damaged file, as long as it lies where it was written."""
        try:
            content = path.read_bytes()
            name = seal.name_in(content)
            groups = whole_groups(content) if name == self.soundness.name(path) else frozenset()
            return RecordFile(content, groups) if groups else None
        except (OSError, ValueError):
            return None

    def record_names(self) -> list[str]:
        """Paths within the run folder of all appended and compact files, damaged ones too."""
        return [*self._listing(APPENDED), *self._compact_names()]

    def _compact_names(self) -> list[str]:
        """Listed until nothing changes: a compaction puts the new file there before it removes the old one."""
        before = self._listing(COMPACT)
        while (now := self._listing(COMPACT)) != before:
            before = now
        return now

    def _listing(self, part: str) -> list[str]:
        try:
            names = os.listdir(self.path / part)  # noqa: PTH208 (50,000 files)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._no_records(error) from None
        return sorted(f"{part}/{name}" for name in names if name.endswith(".parquet") and not name.startswith("."))

    def record_holds(self) -> Iterator[tuple[str, HeldSlices]]:
        """Every appended and compact file, and what can be read of it."""
        told: set[str] = set()
        for _ in range(_TRIES):
            gone = False
            for name in self.record_names():
                if name in told:
                    continue
                holds = self.soundness.holds(name)
                holds = self._holds(name) if holds is None else holds
                if not holds and not (self.path / name).exists():  # put together with others since it was listed
                    gone = True
                    continue
                told.add(name)
                yield name, holds
            if not gone:
                return

    def _holds(self, name: str) -> HeldSlices:
        """What a file holds that is read for it."""
        path = self.path / name
        try:
            content = self._sealed(path)
            if content is not None:
                self._refuse_newer(path, said := said_by(content))
                holds = holds_of(said)
            else:
                file = self._salvaged(path)
                holds = holds_of_parts(file.parts) if file is not None else ()
        except (ValueError, TypeError, KeyError) as error:
            self.soundness.note(path, f"it does not say which cells and slices it holds: {error}")
            holds = ()
        return self.soundness.note_holds(path, holds)

    def _newest_first(self) -> list[tuple[str, HeldSlices]]:
        """Files in the order in which they count."""
        found = list(self.record_holds())
        times = {name: self.soundness.written(name) for name, _ in found if name.startswith(APPENDED)}
        return sorted(found, key=lambda one: (-times.get(one[0], 0), one[0]))


def _of_one_type(found: Sequence[_Read]) -> list[_Read]:
    """What was read with one type for each note: numbers as floats where none is altered by it, all else as texts."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table, _ in found:
        for name, kind in note_types(table.schema).items():
            kinds.setdefault(name, set()).add(kind)
    tables = [table for table, _ in found]
    for name in (name for name, own in kinds.items() if len(own) > 1):
        having = [number for number, table in enumerate(tables) if name in table.column_names]
        columns = [tables[number].column(name) for number in having]
        for number, column in zip(having, _cast_alike(columns), strict=True):
            tables[number] = tables[number].set_column(tables[number].column_names.index(name), name, column)
    return [(table, parts) for table, (_, parts) in zip(tables, found, strict=True)]


def _cast_alike(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    schemas = [pa.schema([("note", column.type)]) for column in columns]
    try:
        kind = pa.unify_schemas(schemas, promote_options="permissive").field("note").type
        return [column.cast(kind) for column in columns]
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # an int that no float is, or a text
        texts = [[None if value is None else str(value) for value in column.to_pylist()] for column in columns]
        return [pa.chunked_array([pa.array(values, pa.string())]) for values in texts]


def _only(table: pa.Table, parts: Sequence[RecordPart], cells: Collection[str]) -> _Read:
    """The rows of some cells, with the columns that they have."""
    ends = itertools.accumulate(part.rows for part in parts)
    own = [(end - part.rows, part) for part, end in zip(parts, ends, strict=True) if part.cell in cells]
    noted = {name for _, part in own for name in part.notes}
    rows = picked(table, [(first, part.rows) for first, part in own if part.rows])
    return with_columns(rows, [*NAMES, *sorted(noted)]), [part for _, part in own]


def _in_order(
    found: Iterable[_Read], cells: Sequence[str], columns: Sequence[str] | None
) -> tuple[pa.Table, list[RecordPart]]:
    """What was read of several files as one table, its parts by cell, then by slice."""
    place = {cell: number for number, cell in enumerate(cells)}
    tables, placed, before = [], [], 0
    for table, parts in found:
        if parts:
            tables.append(table)
            for part in parts:
                placed.append((place[part.cell], part.slice, before, part))
                before += part.rows
    placed.sort(key=lambda one: one[:3])
    parts = [part for *_, part in placed]
    noted = dict.fromkeys(name for notes, _ in groupby(parts, lambda part: part.notes) for name in notes)
    names = [*NAMES, *noted] if columns is None else list(columns)
    if not tables:
        return pa.table({name: pa.array([], TYPES.get(name, pa.null())) for name in names}), []
    whole = pa.concat_tables(tables, promote_options="permissive")
    if len(tables) > 1:
        whole = whole.unify_dictionaries()
    # Of several files the chunks are combined once they are in order: what is copied once is copied fast enough.
    return picked(whole.select(names), [(first, part.rows) for _, _, first, part in placed]).combine_chunks(), parts
