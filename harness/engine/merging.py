"""The files of several run folders as those of one: what is the same counts once, and what contradicts is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.engine import seal
from harness.engine.costs import PACES_PAGE, Cost, merged_by_machine
from harness.engine.gallery_choice import fitting, page_limit
from harness.engine.gallery_store import GALLERY, GalleryCase, GalleryKept
from harness.engine.record import NAMES
from harness.engine.record_files import CONTENT, decoded, pairs_of, sealed_file
from harness.engine.run_folder import RunFolder
from harness.engine.single_records import COMPACT, NO_GROUP, RECORDS, Misfit
from harness.errors import UserError
from harness.suite.pixels import FileSeen, ledger_text, merged_ledgers
from harness.wording import counted, joined

HOW = ("seconds", "batch", "torch", "device")
"""Columns of records that say how they were computed: two that differ in these alone are the same."""
MERGED = "merged"
"""The page of provenance that says what a folder was merged of."""
_TOLD = 5
_COUNTED, _CITED = ("costs", PACES_PAGE), "cited"


@dataclass
class Merging:
    """What is put together.

    Attributes:
        conflicts: File -> in what two runs contradict each other there.
        taken: Run -> number of slices of records taken from it.
        shared: Slices of records that several runs have alike.
    """

    conflicts: dict[str, str] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    shared: int = 0


@dataclass(frozen=True)
class MergedRun:
    """A run folder that is merged.

    Attributes:
        name: What messages call it.
        store: It.
        files: Its files in which nothing is wrong, but for its suite, its plan and its report.
    """

    name: str
    store: RunFolder
    files: Sequence[str]


def merge_files(
    sources: Sequence[MergedRun], target: Path, named: Callable[[str], str], *, first_wins: bool = False
) -> Merging:
    """Copy the files of several run folders into one.

    Args:
        sources: The run folders; where it does not matter, the first that has a file gives it.
        target: The new folder.
        named: Id of a cell or fact -> what people call it.
        first_wins: Whether the first run's file is taken where two contradict each other.

    Raises:
        UserError: Two contradict each other; the message says where and in what.
    """
    found = Merging(taken={source.name: 0 for source in sources})
    whose: dict[str, MergedRun] = {}
    groups: dict[str, str] = {}
    for source in sources:
        for name in source.files:
            part = name.split("/")[0]
            if part in ("provenance", "pixels", GALLERY, RECORDS):
                continue
            if name in whose:
                if wrong := _contradiction(name, whose[name], source):
                    found.conflicts[name] = f"{_called(name, named)}: {wrong}"
                continue
            if part == "examples" and groups.setdefault(_group(name), source.name) != source.name:
                continue
            whose[name] = source
    whose_records = _whose_records(sources, named, found)
    if found.conflicts and not first_wins:
        raise _refusal(found.conflicts, sources)
    results = {name.rpartition(".")[0] for name in whose}
    for name, source in whose.items():
        if not (name.startswith("failures/") and _done(name, results, whose_records)):
            _put(target / name, (source.store.path / name).read_bytes())
    for source in sources:
        _put_records(source, {one for one, owner in whose_records.items() if owner is source}, target)
    _merge_pixels(sources, target)
    return found


def _whose_records(
    sources: Sequence[MergedRun], named: Callable[[str], str], found: Merging
) -> dict[tuple[str, int], MergedRun]:
    """(cell, slice) -> the run whose records of it are taken; notes what several have, and contradictions."""
    whose: dict[tuple[str, int], MergedRun] = {}
    for source in sources:
        own = [(cell, index) for cell, slices in source.store.held().items() for index in sorted(slices)]
        shared: dict[str, list[tuple[str, int]]] = {}
        for one in own:
            if one in whose:
                shared.setdefault(whose[one].name, []).append(one)
        for other in sources:
            both = shared.get(other.name, [])
            found.shared += len(both)
            tables = [_tables(run.store, both) for run in (other, source)] if both else []
            for cell, index in both:
                if wrong := _rows_differ(*(table[cell, index] for table in tables)):
                    found.conflicts[f"{RECORDS}/{cell}/{index}"] = f"{named(cell) or cell}, slice {index}: {wrong}"
        new = [one for one in own if one not in whose]
        found.taken[source.name] += len(new)
        whose |= dict.fromkeys(new, source)
    return whose


def _tables(store: RunFolder, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], pa.Table]:
    """(cell, slice) -> its records, each file read once."""
    cells, slices = _asked(wanted)
    found = {}
    for _, table, parts in store.gathered_alike({NO_GROUP: cells}, slices):
        plain, first = decoded(table), 0
        for part in parts:
            found[part.cell, part.slice] = plain.slice(first, part.rows).select([*NAMES, *part.notes])
            first += part.rows
    return found


def _asked(wanted: Collection[tuple[str, int]]) -> tuple[dict[str, Misfit], dict[str, set[int]]]:
    slices: dict[str, set[int]] = {}
    for cell, index in sorted(wanted):
        slices.setdefault(cell, set()).add(index)
    return dict.fromkeys(slices), slices


def _put_records(source: MergedRun, taken: Collection[tuple[str, int]], target: Path) -> None:
    """Copy files of which all is taken; of others what is taken goes into a new one."""
    whole, left, files = frozenset(taken), set(taken), frozenset(source.files)
    for name, holds in source.store.record_holds():
        held = set(pairs_of(holds))
        if name in files and held <= whole:
            _put(target / name, (source.store.path / name).read_bytes())
            left -= held
    for cell, slices in source.store.single_files().items():
        for index in slices:
            name = f"{RECORDS}/{cell}/{index:05d}.parquet"
            if name in files and (cell, index) in left:
                _put(target / name, (source.store.path / name).read_bytes())
                left.discard((cell, index))
    if left:
        cells, wanted = _asked(left)
        for _, table, parts in source.store.gathered_alike({NO_GROUP: cells}, wanted):
            name, content = sealed_file(table, parts, f"{COMPACT}/{NO_GROUP}-{CONTENT}.parquet")
            _put(target / name, content)


def _refusal(conflicts: Mapping[str, str], sources: Sequence[MergedRun]) -> UserError:
    more = f"; and {len(conflicts) - _TOLD} more" if len(conflicts) > _TOLD else ""
    return UserError(
        f"Not merged: {joined([source.name for source in sources])} contradict each other where they computed the same "
        f"condition on the same images, in {counted(len(conflicts), 'place')}: "
        f"{'; '.join(list(conflicts.values())[:_TOLD])}{more}. Where other versions or processors round otherwise, "
        "nothing is wrong with either: --first-wins takes those of the run named first, and the merged run says so."
    )


def _group(name: str) -> str:
    """What of the kept images belongs together: those of one cell and slice."""
    return "/".join(name.split("/")[:3])


def _done(name: str, results: Collection[str], records: Collection[tuple[str, int]]) -> bool:
    """Whether what failed in one run was done in another, whose files are given without their endings."""
    cell, _, index = Path(name).stem.rpartition("-")
    alone = [f"{part}/{cell}" for part in ("facts", "fits", "probes")]
    return any(one in results for one in alone) or (cell, int(index)) in records


def _called(name: str, named: Callable[[str], str]) -> str:
    identity = Path(name).with_suffix("").parts[1]
    return named(identity) or identity


def _contradiction(name: str, one: MergedRun, other: MergedRun) -> str:
    """In what two runs' files of one name contradict each other; empty where they do not."""
    paths = [source.store.path / name for source in (one, other)]
    match name.split("/"):
        case ["facts", _]:
            return _pages_differ(*map(_page, paths))
        case ["probes", _]:
            faults = [_page(path).get("faults") for path in paths]
            return "" if faults[0] == faults[1] else "its probes found other faults"
        case ["fits", _]:
            return "" if paths[0].read_bytes() == paths[1].read_bytes() else "what the attack learnt"
    return ""


def _page(path: Path) -> Any:
    return seal.without_seal(json.loads(path.read_bytes()))


def _rows_differ(one: pa.Table, other: pa.Table) -> str:
    names = [name for name in one.column_names if name not in HOW]
    others = [name for name in other.column_names if name not in HOW]
    if sorted(names) != sorted(others) or len(one) != len(other):
        return f"{len(one)} rows of {len(names)} columns, and {len(other)} of {len(others)}"
    told = [text for name in names if (text := _values_differ(name, one[name].to_pylist(), other[name].to_pylist()))]
    if not told:
        return ""
    made = [f"torch {table['torch'][0].as_py()} on {table['device'][0].as_py()}" for table in (one, other)]
    return f"{'; '.join(told[:3])} ({made[0]}, and {made[1]})" if made[0] != made[1] else "; ".join(told[:3])


def _values_differ(name: str, one: Sequence[Any], other: Sequence[Any]) -> str:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if not _equal(a, b)]
    if not pairs:
        return ""
    numbers = [abs(a - b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    size = f" by up to {max(numbers):.2g}" if numbers and not any(map(math.isnan, numbers)) else ""
    return f"{name} differs{size} in {len(pairs)} of {len(one)} rows"


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)))


def _pages_differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return f"{', '.join(keys)} of its clean scores on the calibration samples" if keys else ""


def merge_gallery(sources: Sequence[MergedRun], store: RunFolder) -> None:
    """The attacked images that the page shows: of each metric those of the first run that has any, as far as fits.

    Args:
        sources: The runs.
        store: The merged run folder, with its suite.
    """
    kept = [source.store.read_gallery() for source in sources]
    cases: dict[tuple[str, str], GalleryCase] = {}
    for one in kept:
        known = {metric for metric, _ in cases}
        cases |= {(c.about["metric"], c.about["case"]): c for c in one.cases if c.about["metric"] not in known}
    if not cases:
        return
    limit = page_limit(len({metric for metric, _ in cases}))
    stays = fitting([(*key, list(case.pictures.values())) for key, case in cases.items()], limit)
    out = [f"{metric}: {case}" for (metric, case), stay in zip(cases, stays, strict=True) if not stay]
    out = list(dict.fromkeys([*(text for one in kept for text in one.left_out), *out]))
    competed = {metric: count for one in reversed(kept) for metric, count in one.competed.items()}
    shown = [case for case, stay in zip(cases.values(), stays, strict=True) if stay]
    store.write_gallery(GalleryKept(shown, out, limit, competed))


def _merge_pixels(sources: Sequence[MergedRun], target: Path) -> None:
    """What was recorded of image files: what the first run recorded first stays first."""
    pages: dict[str, Any] = {}
    for source in sources:
        for name in source.files:
            if not name.startswith("pixels/"):
                continue
            page = _page(source.store.path / name)
            files = {key: FileSeen(*map(str, row)) for key, row in page["files"].items()}
            known, label = pages.get(name, ({}, page["split"]))
            new = {key: one for key, one in files.items() if key not in known}
            pages[name] = merged_ledgers(known, new), label
    for name, (files, label) in pages.items():
        _put(target / name, seal.sealed_json(ledger_text(label, files), name))


def merged_provenance(sources: Sequence[MergedRun], of_merge: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The pages of provenance of several runs, but for what to cite.

    Args:
        sources: The runs.
        of_merge: What is said of each of them.
    """
    pages: dict[str, list[Any]] = {}
    for source in sources:
        for name in source.files:
            if name.startswith("provenance/"):
                page = Path(name).stem
                known = pages.setdefault(page, [])
                known += [one for one in source.store.read_provenance(page) if one not in known]
    pages.pop(_CITED, None)
    for name in _COUNTED:
        if name in pages:
            pages[name] = [asdict(cost) for cost in merged_by_machine(Cost(**one) for one in pages[name])]
    return {**pages, MERGED: [*pages.get(MERGED, []), *of_merge]}


def write_pages(pages: Mapping[str, Any], target: Path) -> None:
    """Write pages of provenance into a folder that is not read yet."""
    for page, value in pages.items():
        name = f"provenance/{page}.json"
        _put(target / name, seal.sealed_json(json.dumps(value, indent=1, default=str), name))


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def stored_cited(sources: Sequence[MergedRun]) -> Iterator[Mapping[str, Any]]:
    """What each run kept of what to cite."""
    for source in sources:
        stored = source.store.read_plan()
        pages = source.store.read_provenance(_CITED)
        yield from (page for page in pages[-1:] if stored is not None and page.get("planned") == stored.sha256)
