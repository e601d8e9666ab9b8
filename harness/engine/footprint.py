"""What a plan takes beside time: memory of each worker, and room on the disk."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.datasets.catalogue import CATALOGUE
from harness.engine.costs import Amount, Cost, Key, Peak
from harness.engine.forecast import Recorded
from harness.engine.gallery_choice import page_limit
from harness.engine.machines.pages import Machine
from harness.plugins.registry import Registry
from harness.suite.model import DatasetUse
from harness.suite.plan import Block, Plan

_BASE_OF_GPU = 512.0
"""MiB that a worker takes of a GPU before it has an image, where that was measured on a CPU alone."""
_BYTES_OF_ROW = 100.0
"""Of a record on the disk where none is there to be measured: appended by blocks of some 200 rows."""
_BYTES_OF_PIXEL, _PICTURES = 3.0, 4
"""Of a PNG at most, and how many of an example: reference, image, attacked image, difference."""
_FLOATS_OF_PIXEL = 36.0
"""Bytes of a pixel where the three images are kept as floats too."""
_FILES_LOOKED_AT, _IMAGES_LOOKED_AT = 64, 3

Size = tuple[int, int]
"""Width and height of images in pixels."""


@dataclass(frozen=True)
class MemoryNeed:
    """What one kind of work takes of a worker's memory.

    Attributes:
        what: The metric, and the attack where it is attacked.
        data: The split.
        size: Of the largest image that is known of it.
        rows: Images in a batch.
        mib: MiB of a worker with a batch.
        one: MiB of a worker with one image alone.
        fits: Images of a batch that fit; None where the memory of the machine is not known.
        measured: Whether it was measured on this type of device and this size, and is not scaled.
    """

    what: str
    data: str
    size: Size
    rows: int
    mib: float
    one: float
    fits: int | None
    measured: bool


def memory_needs(
    plan: Plan, kinds: Iterable[Key], recorded: Recorded, machine: Machine, sizes: Mapping[str, Size]
) -> list[MemoryNeed]:
    """What work takes of each worker's memory, what takes most first; kinds never measured are left out.

    Args:
        plan: The plan.
        kinds: What is left of it.
        recorded: What was measured.
        machine: Where it is to run.
        sizes: Key of a split -> the size of its images.
    """
    names = names_of_work(plan)
    peaks: dict[tuple[str, str, str], list[Cost]] = {}
    for cost in recorded.costs:
        if cost.peaks:
            peaks.setdefault((cost.kind, cost.scorer, cost.attack), []).append(cost)
    room = None if machine.memory_of_worker is None else machine.memory_of_worker * 1024
    found, kinds = [], list(kinds)
    doubled = _doubled(plan, kinds)
    for key in kinds:
        costs, size = peaks.get((key.kind, key.scorer, key.attack), []), sizes.get(key.split)
        if not costs or size is None:
            continue
        device, peak = _nearest(costs, machine.device, size)
        base = peak.base if device == machine.device else _BASE_OF_GPU
        each = peak.mib * math.prod(size) / (peak.width * peak.height)
        rows = _rows(plan, key, doubled)
        fits = None if room is None else _fitting(room - base, each, rows)
        what = what_is_done(key, names)
        exact = device == machine.device and (peak.width, peak.height) == size
        need = (what, names.get(key.split, ""), size, rows, base + rows * each, base + each, fits, exact)
        found.append(MemoryNeed(*need))
    return sorted(found, key=lambda need: -need.mib)


def what_is_done(key: Key, names: Mapping[str, str]) -> str:
    """'lpips-alex / cw', or 'lpips-alex' where it scores, by what `names_of_work` has."""
    return " / ".join(filter(None, (names.get(key.scorer, ""), names.get(key.attack, ""))))


def _fitting(room: float, each: float, rows: int) -> int:
    """Images of so many that fit into MiB; what one takes may be too little to be measured."""
    if rows * each <= room:
        return rows
    return max(int(room // each), 0) if each else 0


def _nearest(costs: Sequence[Cost], device: str, size: Size) -> tuple[str, Peak]:
    """What was measured on this type of device, if anything was, and on images most like these."""
    every = [(cost.device, peak) for cost in costs for peak in cost.peaks]
    pixels = math.prod(size)
    return min(
        every,
        key=lambda one: (one[0] != device, abs(math.log(pixels / (one[1].width * one[1].height))), -one[1].mib),
    )


def _rows(plan: Plan, key: Key, doubled: Container[Key]) -> int:
    """Images of a batch of a kind of work: a slice, each at all radii that are attacked together.

    Both patches of triplets are scored at once, and attacked at once where each has its own sign or none.
    """
    radii = Counter(norm for norm, _ in plan.suite.budgets)
    together = max(radii.values(), default=1) if key.kind == "attack" and plan.suite.batch_budgets else 1
    return plan.suite.slice_size * together * (2 if key in doubled else 1)


def _doubled(plan: Plan, kinds: Iterable[Key]) -> set[Key]:
    """Kinds of work on triplets that have both patches in a batch: scoring, and attacks whose cells have no sign."""
    triplets = [cell for cell in plan.cells if cell.split.dataset.shape == "triplets"]
    scored = {cell.split.key for cell in triplets}
    both = {(cell.split.key, cell.source.key, cell.attack.key) for cell in triplets if cell.attack and cell.sign == 0}
    return {
        key
        for key in kinds
        if (key.split in scored if key.kind == "score" else (key.split, key.scorer, key.attack) in both)
    }


def names_of_work(plan: Plan) -> dict[str, str]:
    """Key of a scorer, an attack or a split -> what people call it."""
    found: dict[str, str] = {}
    for cell in plan.cells:
        for spec in (cell.split, cell.source, cell.scorer):
            if spec.key not in found:
                found[spec.key] = spec.label
        if cell.attack is not None:
            found.setdefault(cell.attack.key, cell.attack.label)
    return found


def sizes_of(plan: Plan, recorded: Recorded, registry: Registry) -> dict[str, Size]:
    """Key of a split -> the size of its images: the largest that a run has seen, of a few that are read now otherwise.

    A split whose images cannot be read has the size that is published of it, if one is.

    Args:
        plan: The plan.
        recorded: What was measured.
        registry: Where data sets come from.
    """
    found: dict[str, Size] = {}
    for cost in recorded.costs:
        for peak in cost.peaks:
            found[cost.split] = max(found.get(cost.split, (0, 0)), (peak.width, peak.height), key=math.prod)
    splits = {cell.split.key: cell.split for cell in plan.cells}
    for key, split in splits.items():
        if key not in found and (size := _size(split.dataset, plan, key, registry)) is not None:
            found[key] = size
    return found


def _size(use: DatasetUse, plan: Plan, key: str, registry: Registry) -> Size | None:
    try:
        dataset = registry.dataset(use.name).build(use.parameters)
        images = [image for entry in plan.entries[key][:_IMAGES_LOOKED_AT] for image in dataset.load(entry).values()]
        return max(((image.shape[-1], image.shape[-2]) for image in images), key=math.prod)
    except Exception:  # what is wrong with it is told when it is run
        page = CATALOGUE.get(use.name)
        wide, _, tall = page.resolution.partition(" x ") if page else ("", "", "")
        return (int(wide), int(tall)) if wide.isdecimal() and tall.isdecimal() else None


@dataclass(frozen=True)
class DiskNeed:
    """Room on the disk, in bytes.

    Attributes:
        rows: Records to come.
        records: Of these.
        examples: Of attacked images that the suite keeps, at most.
        gallery: Of the pictures of the page, at most.
        measured: Whether the size of a record is that of records that are there.
    """

    rows: int
    records: float
    examples: float
    gallery: float
    measured: bool

    @property
    def total(self) -> float:
        """Of all of it."""
        return self.records + self.examples + self.gallery


def disk_need(
    plan: Plan, blocks: Sequence[Block], work: Mapping[Key, Amount], folder: Path, sizes: Mapping[str, Size]
) -> DiskNeed:
    """Room that the given blocks take on the disk.

    Args:
        plan: The plan.
        blocks: What is left of it.
        work: What there is to do in these blocks (`harness.engine.costs.loads`).
        folder: The run folder; what a record takes is measured there and beside it.
        sizes: Key of a split -> the size of its images.
    """
    rows = sum(amount.images * key.draws for key, amount in work.items() if key.kind == "score")
    each = _bytes_of_row(folder)
    examples = 0.0
    if plan.suite.save_examples:
        pixel = _PICTURES * _BYTES_OF_PIXEL + (_FLOATS_OF_PIXEL if plan.suite.exact else 0.0)
        for cell in {cell.id: cell for block in blocks for cell in block.cells if cell.attack is not None}.values():
            kept = min(plan.suite.save_examples, len(plan.entries_of(cell)))
            examples += kept * pixel * math.prod(sizes.get(cell.split.key, (0, 0)))
    gallery = page_limit(len(plan.suite.metrics)) if blocks else 0
    return DiskNeed(rows, rows * (each or _BYTES_OF_ROW), examples, gallery, each is not None)


def _bytes_of_row(folder: Path) -> float | None:
    """Of records that are there, in this folder or else in those beside it; None where there are none."""
    for place in (folder, folder.parent):
        size = rows = 0
        for path in itertools.islice(_record_files(place, beside=place != folder), _FILES_LOOKED_AT):
            try:
                rows += pq.read_metadata(path).num_rows
                size += path.stat().st_size
            except (OSError, pa.ArrowInvalid):
                continue
        if rows:
            return size / rows
    return None


def _record_files(folder: Path, *, beside: bool) -> Iterator[Path]:
    for records in sorted(folder.glob("*/records")) if beside else (folder / "records",):
        yield from records.rglob("*.parquet")
