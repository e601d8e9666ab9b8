"""Finished records put together: one file for each split, source and scorer, in place of one for each block.

Of notes of one name that differ in type there are several, so that every value stays what it was.

Killed at any moment, nothing is lost and nothing counts twice: a new file is there whole, under a name of its own
content, before those are removed that it replaces, and what two files hold is read once. Readers need no lock, and
others may append meanwhile: only what was there in the beginning is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.engine.done import record_misfit
from harness.engine.folder_files import again_if_gone
from harness.engine.record import NAMES
from harness.engine.record_files import (
    CONTENT,
    RecordPart,
    alike_in_notes,
    group_of,
    note_types,
    pairs_of,
    parts_of,
    said_by,
    sealed_file,
)
from harness.engine.run_folder import RunFolder
from harness.engine.single_records import APPENDED, COMPACT, NO_GROUP, RECORDS, Misfit
from harness.engine.soundness import HeldSlices, StoreError
from harness.files import locked, stamp_of
from harness.suite.plan import Plan

_MOST_TOGETHER = 50_000
"""Cells and slices that are put together at once; of slices of 8 some 400,000 rows, a few hundred MiB."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Attributes:
        before: Files of records, and their bytes.
        after: Likewise.
    """

    before: tuple[int, int]
    after: tuple[int, int]


@dataclass
class _Survey:
    """What there is to do.

    Attributes:
        groups: Id of a cell -> what it is compacted with.
        files: Appended or compact file -> what can be read of it; those that were replaced leave it.
        singles: Id of a cell of the plan -> its slices that have a file of their own.
        stamps: File -> size, times and inode before it was looked at.
        concerned: Groups that are written anew.
        written: Files that were.
        there: Id of a cell -> its slices that these hold.
    """

    groups: dict[str, str]
    files: dict[str, HeldSlices]
    singles: Mapping[str, Collection[int]]
    stamps: Mapping[str, str]
    concerned: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    there: dict[str, set[int]] = field(default_factory=dict)

    def of(self, holds: HeldSlices) -> set[str]:
        """The groups that a file holds anything of."""
        return {self.groups[cell] for cells, _ in holds for cell in cells}


def compact(store: RunFolder, plan: Plan | None, told: Collection[str] = ()) -> Compacted:
    """Put together what is finished; nothing happens where that was done already.

    Args:
        store: The run folder.
        plan: Knows the cells that versions before stored in a file for each slice; these stay where it is None.
        told: Damaged files that were told of; those of them of which nothing can be read are removed.

    Raises:
        StoreError: The folder cannot be written, or memory does not suffice; what was finished is there, once or twice.
    """
    if not (store.path / RECORDS).is_dir():
        return Compacted((0, 0), (0, 0))
    before = _sizes(store)
    if not _anything(store, plan, told):
        return Compacted(before, before)
    store.require()
    try:
        with locked(store.path / RECORDS):
            _compact(store, plan, told)
    except OSError as error:
        raise store.unwritable(store.path / RECORDS, error) from error
    except MemoryError as error:
        raise StoreError(
            f"{store.path / RECORDS}: putting records together takes more memory than there is. All of them are kept; "
            f"run 'robustiqa compact {store.path}' where there is more."
        ) from error
    return Compacted(before, _sizes(store))


def _anything(store: RunFolder, plan: Plan | None, told: Collection[str]) -> bool:
    """Whether there is anything to do, leftovers of a compaction that was killed included."""
    survey = _surveyed(store, plan)
    empty = not all(survey.singles.values())
    return bool(survey.concerned or empty or _left_over(store) or _to_drop(survey, told))


def _left_over(store: RunFolder) -> list[Path]:
    return list((store.path / COMPACT).glob(".*.tmp"))


def _to_drop(survey: _Survey, told: Collection[str]) -> list[str]:
    return [name for name, holds in survey.files.items() if not holds and name in told]


def _compact(store: RunFolder, plan: Plan | None, told: Collection[str]) -> None:
    for path in _left_over(store):
        path.unlink(missing_ok=True)
    survey = _surveyed(store, plan)
    misfits = {cell.id: record_misfit(plan, cell) for cell in plan.cells} if plan is not None else {}
    of_group: dict[str, list[str]] = {}
    for cell in sorted(survey.groups):
        of_group.setdefault(survey.groups[cell], []).append(cell)
    for _, family in groupby(sorted(survey.concerned), _family):
        groups = list(family)
        for some in _batched(groups, survey):  # all may be more than memory holds
            _put_together(
                store, survey, {group: {cell: misfits.get(cell) for cell in of_group[group]} for group in some}
            )
        _remove_replaced(store, survey, set(groups))
    for cell in survey.singles:
        with contextlib.suppress(OSError):  # something is left in it
            (store.path / RECORDS / cell).rmdir()
    for path in [store.path / name for name in _to_drop(survey, told)]:
        if not path.is_dir():  # whoever made it may remove it
            path.unlink(missing_ok=True)


def _family(group: str) -> str:
    """What is the same of a group for all scorers of one source, whose records stand in the same appended files."""
    return group.rpartition("-")[0]


def _sizes(store: RunFolder) -> tuple[int, int]:
    """Number of files of records, and bytes in them."""
    return again_if_gone(lambda: _sizes_now(store))


def _sizes_now(store: RunFolder) -> tuple[int, int]:
    sizes = [
        os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 (50,000 files)
        for folder, _, names in os.walk(store.path / RECORDS)
        for name in names
        if not name.startswith(".")
    ]
    return len(sizes), sum(sizes)


def _surveyed(store: RunFolder, plan: Plan | None) -> _Survey:
    groups = {cell.id: group_of(cell) for cell in plan.cells} if plan is not None else {}
    singles = {cell: slices for cell, slices in store.single_files().items() if cell in groups}
    single_names = [_single(cell, index) for cell, slices in singles.items() for index in slices]
    stamps = {name: stamp_of(f"{store.path}/{name}") for name in [*store.record_names(), *single_names]}
    survey = _Survey(groups, dict(store.record_holds()), singles, stamps)
    for name, holds in survey.files.items():
        unknown = {cell for cells, _ in holds for cell in cells if cell not in groups}
        groups |= _groups_in(store, name, unknown) if unknown else {}
    damaged, compacted = store.soundness.damaged(), dict[str, list[str]]()
    for name, holds in survey.files.items():
        own = survey.of(holds)
        survey.concerned |= own if name.startswith(APPENDED) or name in damaged else set()
        for group in own:
            compacted.setdefault(group, []).append(name)
    several = {group: names for group, names in compacted.items() if len(names) > 1 and group not in survey.concerned}
    survey.concerned |= {group for group, names in several.items() if not _stay_apart(store, names)}
    survey.concerned |= {groups[cell] for cell, slices in survey.singles.items() if slices}
    return survey


def _stay_apart(store: RunFolder, names: Sequence[str]) -> bool:
    """Whether no two of some files could be one, as notes in them differ in type."""
    types = []
    for name in names:
        try:
            types.append(note_types(pq.read_schema(store.path / name)))
        except (OSError, ValueError):  # read anew, it is found damaged
            return False
    return len(alike_in_notes(types)) == len(names)


def _groups_in(store: RunFolder, name: str, cells: Collection[str]) -> dict[str, str]:
    """Of cells that the plan does not have: what they are compacted with."""
    if name.startswith(COMPACT):
        return dict.fromkeys(cells, Path(name).name.rpartition("-")[0])
    parts: list[RecordPart] = []
    with contextlib.suppress(OSError, ValueError):
        parts = parts_of(said_by((store.path / name).read_bytes()))
    return {**dict.fromkeys(cells, NO_GROUP), **{p.cell: p.group or NO_GROUP for p in parts if p.cell in cells}}


def _batched(groups: Sequence[str], survey: _Survey) -> Iterator[list[str]]:
    """Groups that are read together: each file once for all of them, as far as memory allows."""
    sizes = Counter[str]()
    for holds in survey.files.values():
        for cells, slices in holds:
            for cell in cells:
                sizes[survey.groups[cell]] += len(slices)
    some: list[str] = []
    for group in groups:
        if some and sum(sizes[one] for one in [*some, group]) > _MOST_TOGETHER:
            yield some
            some = []
        some.append(group)
    yield some


def _put_together(store: RunFolder, survey: _Survey, groups: Mapping[str, Mapping[str, Misfit]]) -> None:
    """Write the file of each group, or the files where notes differ in type."""
    for group, table, parts in store.gathered_alike(groups):
        survey.written.add(_write(store, table, [part._replace(group=group) for part in parts], group))
        for part in parts:
            survey.there.setdefault(part.cell, set()).add(part.slice)


def _remove_replaced(store: RunFolder, survey: _Survey, groups: Collection[str]) -> None:
    """Remove files all of which is in those that were written, single ones if they are of some groups."""
    replaced = [
        name
        for name, holds in survey.files.items()
        if holds and name not in survey.written  # not all is there of a file that was found damaged only now
        if all(index in survey.there.get(cell, ()) for cell, index in pairs_of(holds))
    ]
    replaced += [
        _single(cell, index)
        for cell, slices in survey.singles.items()
        if survey.groups[cell] in groups
        for index in slices
        if index in survey.there.get(cell, ())
    ]
    if replaced:
        for folder in (COMPACT, RECORDS):
            _sync(store.path / folder)
    for name in replaced:
        if stamp_of(store.path / name) == survey.stamps.get(name):  # else somebody has put another in its place
            (store.path / name).unlink(missing_ok=True)
        survey.files.pop(name, None)


def _single(cell: str, index: int) -> str:
    return f"{RECORDS}/{cell}/{index:05d}.parquet"


def _sync(folder: Path) -> None:
    """Have the names in a folder outlast a loss of power, where a system can."""
    if os.name == "nt":  # it opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of network file systems some have no such thing
            raise
    finally:
        os.close(handle)


def _write(store: RunFolder, table: pa.Table, parts: list[RecordPart], group: str) -> str:
    """One file, unless it is there; its name."""
    noted = {name for notes in {part.notes for part in parts} for name in notes}
    name, content = sealed_file(table.select([*NAMES, *sorted(noted)]), parts, f"{COMPACT}/{group}-{CONTENT}.parquet")
    if store.soundness.read(store.path / name) is None:
        store.accept(name, content)
    return name
