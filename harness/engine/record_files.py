"""What a file of records is: rows of many cells and slices, and what the file says of itself.

A parquet file with the columns of `harness.engine.record`, those of attacks' notes, and `CELL` and `SLICE`. Rows stand
by cell, then by slice, then as they were computed. Its metadata say which cells and slices it holds, with how many rows
each and a digest of which these are; each row group has a sha256 of its own bytes, and the end of the file, where all
of this stands, has one too. So where one bit of a large file is flipped, what lies in other row groups is known to be
whole, and a file can be asked what it holds without being read as parquet.
"""

from __future__ import annotations

import hashlib
import io
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.engine import seal
from harness.engine.record import NAMES, SCHEMA, STORED, row_ids
from harness.engine.soundness import HeldSlices

if TYPE_CHECKING:
    from harness.suite.plan import Cell

CELL, SLICE = "cell", "slice"
"""Columns of which cell and slice a row is."""
TEXTS = tuple(column.name for column in STORED if column.type == "text")
_SPREAD = ("attacked", "attacked_8bit", "l2", "seconds")
"""Numbers that hardly repeat: split into their bytes they are smaller."""
_GROUP_ROWS = 1024, 32768
"""Least and most rows of a row group: what one flipped bit costs, against what the description of each takes."""
_GROUPS = 16
_ABOUT = "robustiqa"
_BEGINS = b'{"schema": '
"""How the text of `_ABOUT` begins; within a text that it holds, the quotes would be escaped."""
_OF_GROUPS, _OF_END = b"row-groups:", b"end-of-file:"
_DIGITS = 64
_LENGTH_AND_MAGIC = 8
_LONG = 64
"""Rows of a run, in the mean, from which on it is copied as a whole."""
_ARROW = {"text": pa.string(), "real": pa.float64(), "whole": pa.int64(), "truth": pa.bool_()}
TYPES = {column.name: _ARROW[column.type] for column in STORED}
"""Column of a record -> its type."""
OPTIONAL = frozenset(column.name for column in STORED if column.optional)
CONTENT = "_" * 16
"""In the name of a file: it becomes 16 hex digits of its content."""


class RecordPart(NamedTuple):
    """The rows of one cell and slice in a file."""

    cell: str
    slice: int
    rows: int
    ids: str
    """Digest of which rows these are, as `row_ids` gives it."""
    notes: tuple[str, ...]
    """Columns that its attack noted."""
    group: str
    """What it is compacted with."""


def group_of(cell: Cell) -> str:
    """What the records of a cell are compacted with: those of its split, its source and its scorer."""
    return "-".join(key[:8] for key in (cell.split.key, cell.source.key, cell.scorer.key))


def sealed_file(table: pa.Table, parts: Sequence[RecordPart], name: str) -> tuple[str, bytes]:
    """A file of records.

    Args:
        table: The rows, without `CELL` and `SLICE`.
        parts: What they are, in their order, which is by cell and slice.
        name: What the file is called, perhaps with `CONTENT` in it.

    Returns:
        Its name, and its bytes.
    """
    cuts = _cuts(parts)
    told = {_ABOUT: _told(parts), "row-groups-sha256": _OF_GROUPS.decode() + "0" * _DIGITS * len(cuts)}
    told |= {"end-sha256": _OF_END.decode() + "0" * _DIGITS, seal.KEY: seal.unfilled(name)}
    whole = _with_places(table, parts).replace_schema_metadata(None)
    buffer = io.BytesIO()
    writer = pq.ParquetWriter(
        *(buffer, whole.schema),
        compression="zstd",
        use_dictionary=[*TEXTS, CELL],
        use_byte_stream_split=list(_SPREAD),
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    )
    for first, count in cuts:
        writer.write_table(whole.slice(first, count), row_group_size=max(count, 1))
    writer.add_key_value_metadata(told)
    writer.close()
    return _filled(buffer.getvalue(), name)


def _with_places(table: pa.Table, parts: Sequence[RecordPart]) -> pa.Table:
    """The rows with the columns that say which cell and slice they are of."""
    counts = [part.rows for part in parts]
    names = list(dict.fromkeys(part.cell for part in parts))
    number = {cell: place for place, cell in enumerate(names)}
    codes = np.repeat(np.array([number[part.cell] for part in parts], np.int32), counts)
    cells = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))
    slices = pa.array(np.repeat(np.array([part.slice for part in parts], np.int64), counts))
    return table.append_column(CELL, cells).append_column(SLICE, slices)


def _cuts(parts: Sequence[RecordPart]) -> list[tuple[int, int]]:
    """(first row, rows) of each row group; none ends within a part."""
    least, most = _GROUP_ROWS
    enough = min(max(sum(part.rows for part in parts) // _GROUPS, least), most)
    cuts, first, count = [], 0, 0
    for part in parts:
        count += part.rows
        if count >= enough:
            cuts.append((first, count))
            first, count = first + count, 0
    return [*cuts, (first, count)] if count or not cuts else cuts


def _told(parts: Sequence[RecordPart]) -> str:
    """What a file says that it holds: cells that are alike in all but their name are told together."""
    alike: dict[Any, list[str]] = {}
    for cell, those in groupby(parts, operator.itemgetter(0)):
        found = list(those)
        rows = tuple((part.slice, part.rows, part.ids, part.notes, part.group) for part in found)
        alike.setdefault(rows, []).append(cell)
    holds = []
    for rows, cells in alike.items():
        slices, counts, ids, notes, groups = map(list, zip(*rows, strict=True))
        same = {"notes": _once(notes), "groups": _once(groups)}
        holds.append({"cells": cells, "slices": slices, "rows": _once(counts), "ids": ids, **same})
    return json.dumps({"schema": SCHEMA, "holds": holds})


def _once(values: list[Any]) -> list[Any]:
    """A list that says once what is the same everywhere."""
    return values[:1] if all(value == values[0] for value in values) else values


def _filled(content: bytes, name: str) -> tuple[str, bytes]:
    """A file with its digests and its name in it."""
    altered, at = bytearray(content), content.rfind(_OF_GROUPS) + len(_OF_GROUPS)
    for number, (first, last) in enumerate(_ranges(content)):
        place = at + number * _DIGITS
        altered[place : place + _DIGITS] = _sha256(content[first:last])
    own = name.replace(CONTENT, hashlib.sha256(altered[_end_of(content) :]).hexdigest()[: len(CONTENT)])
    place = content.rfind(seal.unfilled(name).encode())
    altered[place : place + len(seal.unfilled(own))] = seal.unfilled(own).encode()
    place = content.rfind(_OF_END) + len(_OF_END)
    altered[place : place + _DIGITS] = _sha256(bytes(altered[_end_of(content) :]))
    return own, seal.filled(bytes(altered), own)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _end_of(content: bytes) -> int:
    """Where the description of a parquet file begins, whose length stands at its very end."""
    length = int.from_bytes(content[-_LENGTH_AND_MAGIC : -_LENGTH_AND_MAGIC // 2], "little")
    return max(len(content) - _LENGTH_AND_MAGIC - length, 0)


def _ranges(content: bytes) -> list[tuple[int, int]]:
    """(begin, end) of each row group in a file whose description is whole."""
    about = pq.read_metadata(pa.BufferReader(content))
    begins = []
    for number in range(about.num_row_groups):
        column = about.row_group(number).column(0)
        begins.append(min(place for place in (column.dictionary_page_offset, column.data_page_offset) if place))
    return list(zip(begins, [*begins[1:], _end_of(content)], strict=True)) if begins else []


def whole_groups(content: bytes) -> frozenset[int]:
    """Row groups of a damaged file whose bytes are as they were written; none where its description is damaged."""
    begin = _end_of(content)
    end = bytearray(content[begin:])
    at, digits = end.rfind(_OF_END) + len(_OF_END), seal.digits_in(bytes(end))
    if at < len(_OF_END) or digits < 0:
        return frozenset()
    noted = bytes(end[at : at + _DIGITS])
    for place in (at, digits):
        end[place : place + _DIGITS] = b"0" * _DIGITS
    if _sha256(bytes(end)) != noted:
        return frozenset()
    place = content.rfind(_OF_GROUPS) + len(_OF_GROUPS)
    return frozenset(
        number
        for number, (first, last) in enumerate(_ranges(content))
        if content[place + number * _DIGITS : place + (number + 1) * _DIGITS] == _sha256(content[first:last])
    )


def said_by(content: bytes) -> dict[str, Any]:
    """What a file of records says of itself; found without reading it as parquet.

    Raises:
        ValueError: It says nothing.
    """
    end = content[_end_of(content) :]
    began = end.rfind(_BEGINS)
    if began < 0:
        raise ValueError("it does not say which cells and slices it holds")
    value, _ = json.JSONDecoder().raw_decode(end[began:].decode(errors="replace"))
    return dict(value)


def holds_of(said: Mapping[str, Any]) -> HeldSlices:
    """Which cells and slices a file says that it holds."""
    return tuple((tuple(one["cells"]), tuple(one["slices"])) for one in said["holds"])


def holds_of_parts(parts: Iterable[RecordPart]) -> HeldSlices:
    """Which cells and slices some parts are of, which stand by cell and slice."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for cell, those in groupby(parts, operator.itemgetter(0)):
        alike.setdefault(tuple(part.slice for part in those), []).append(cell)
    return tuple((tuple(cells), slices) for slices, cells in alike.items())


def pairs_of(holds: HeldSlices) -> Iterator[tuple[str, int]]:
    """(cell, slice) of everything that a file holds."""
    return ((cell, index) for cells, slices in holds for cell in cells for index in slices)


def parts_of(said: Mapping[str, Any]) -> list[RecordPart]:
    """What a file says that it holds, in the order of its rows."""
    found: list[RecordPart] = []
    for one in said["holds"]:
        count = len(one["slices"])
        rows, notes, groups = (_each(one[name], count) for name in ("rows", "notes", "groups"))
        noted = [tuple(names) for names in notes]
        for cell in one["cells"]:
            found += map(RecordPart, [cell] * count, one["slices"], rows, one["ids"], noted, groups)
    return sorted(found)


def _each(values: list[Any], count: int) -> list[Any]:
    return values * count if len(values) == 1 else values


class RecordFile:
    """A file of records that can be read.

    Args:
        content: All of its bytes.
        groups: Its row groups that are whole; None for all.

    Attributes:
        parts: What can be read of it, in the order of its rows.
        lost: Number of rows that cannot be read.

    Raises:
        ValueError: It does not hold what it should.
    """

    def __init__(self, content: bytes, groups: frozenset[int] | None = None) -> None:
        reader = pa.BufferReader(content)
        try:
            self._file = pq.ParquetFile(reader, read_dictionary=list(TEXTS), page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"it is no file of records: {error}") from error
        about, schema = self._file.metadata, self._file.schema_arrow
        counts = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        self._group_ends = np.cumsum(counts, dtype=np.int64)
        parts = parts_of(said_by(content))
        ends = np.cumsum([part.rows for part in parts], dtype=np.int64)
        if sum(counts) != (ends[-1] if len(ends) else 0):
            raise ValueError("its rows are not those that it says it holds")
        self._types = {name: schema.field(name).type for name in schema.names}
        for name, kind in TYPES.items():
            given = pa.dictionary(pa.int32(), kind) if name in TEXTS else kind
            if self._types.get(name) != given and not (name in OPTIONAL and name not in self._types):
                raise ValueError(f"it has no column '{name}' of {kind}")
        whole = frozenset(range(len(counts))) if groups is None else groups
        of_group = np.searchsorted(self._group_ends, ends, side="left")
        placed = zip(parts, ends.tolist(), of_group.tolist(), strict=True)
        self._first = {part: (end - part.rows, group) for part, end, group in placed if group in whole or not part.rows}
        self.parts = list(self._first)
        self.lost = sum(counts) - sum(part.rows for part in self.parts)

    def read(self, parts: Sequence[RecordPart], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some of its parts, in the order of these; texts are dictionary-encoded.

        Args:
            parts: Of `parts`.
            columns: Of records and of notes; None for those of records and whatever these parts noted. One that is not
                there is null.
        """
        noted = dict.fromkeys(name for part in parts for name in part.notes)
        names = [*NAMES, *sorted(noted)] if columns is None else list(columns)
        filled = [part for part in parts if part.rows]
        groups = sorted({self._first[part][1] for part in filled})
        present = [name for name in names if name in self._types]
        try:
            table = self._file.read_row_groups(groups, columns=present, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"it is no file of records: {error}") from error
        begins = np.concatenate([[0], self._group_ends])
        shift, read = {}, 0
        for group in groups:
            shift[group] = int(begins[group]) - read
            read += int(begins[group + 1] - begins[group])
        spans = [(first - shift[group], part.rows) for part in filled for first, group in [self._first[part]]]
        return with_columns(picked(table, spans), names)


def records_table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Columns of fixed types in a fixed order, then the attack's notes sorted by name."""
    arrays = {name: pa.array(columns[name], type=TYPES[name]) for name in NAMES}
    notes = {name: pa.array(columns[name]) for name in sorted(set(columns) - set(NAMES))}
    return pa.table({**arrays, **notes})


def notes_of(table: pa.Table) -> tuple[str, ...]:
    """Columns of records that an attack noted, sorted."""
    return tuple(sorted(set(table.column_names) - set(NAMES)))


def note_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Types of what attacks noted, but for notes that are all empty."""
    others = {*NAMES, CELL, SLICE}
    return {field.name: field.type for field in schema if field.name not in others and not pa.types.is_null(field.type)}


def alike_in_notes(noted: Iterable[Mapping[str, pa.DataType]]) -> list[list[int]]:
    """Places of tables, by the types of their notes, in sets that agree: one file holds each of these as it is."""
    groups: list[tuple[dict[str, pa.DataType], list[int]]] = []
    for place, own in enumerate(noted):
        for types, places in groups:
            if all(types.get(name, kind) == kind for name, kind in own.items()):
                types.update(own)
                places.append(place)
                break
        else:
            groups.append((dict(own), [place]))
    return [places for _, places in groups]


def part_of(cell: str, index: int, table: pa.Table, group: str) -> RecordPart:
    """What a table is that holds the records of one cell and slice."""
    return RecordPart(cell, index, len(table), row_ids(table), notes_of(table), group)


def decoded(table: pa.Table) -> pa.Table:
    """A table whose texts are plain."""
    for place, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table.schema.field(name).type):
            table = table.set_column(place, name, table.column(place).cast(pa.string()))
    return table


def with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Some columns of a table; one that it lacks is null."""
    there = table.column_names  # which takes as long as a column does
    for name in names:
        if name not in there:
            table = table.append_column(name, pa.nulls(table.num_rows, TYPES.get(name, pa.null())))
    return table if list(names) == there else table.select(list(names))


def picked(table: pa.Table, spans: Sequence[tuple[int, int]]) -> pa.Table:
    """Rows of a table: spans of (first row, rows), in their order."""
    if not spans:
        return table.slice(0, 0)
    firsts, counts = (np.array(values, np.int64) for values in zip(*spans, strict=True))
    ends = firsts + counts
    new = np.flatnonzero(firsts[1:] != ends[:-1])
    starts, stops = firsts[np.append(0, new + 1)], ends[np.append(new, len(ends) - 1)]
    if len(starts) == 1:
        return table.slice(int(starts[0]), int(counts.sum()))
    if len(starts) * _LONG <= counts.sum():  # whole runs of rows are copied in a fraction of the time of single ones
        runs = zip(starts.tolist(), stops.tolist(), strict=True)
        return pa.concat_tables([table.slice(start, stop - start) for start, stop in runs]).combine_chunks()
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return table.combine_chunks().take(pa.array(np.repeat(firsts, counts) + within))
