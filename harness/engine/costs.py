"""What a suite will cost, from what earlier runs measured: seconds per image of each attack, and of each scoring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from harness.engine.run_folder import RunFolder, StoreError
from harness.suite.identity import identity
from harness.suite.plan import Block, Cell, Plan

Work = Literal["attack", "score"]


@dataclass(frozen=True)
class Key:
    """What costs alike per image: an attack on a source, or a scoring by a scorer, on one split and device type."""

    kind: Work
    split: str
    scorer: str
    attack: str
    """Identity of the attack; empty for scorings."""
    draws: int
    """Draws averaged per evaluation of the attack, or draws scored."""
    device: str


@dataclass(frozen=True)
class Peak:
    """What a batch took of the device's memory, of images of one size.

    Attributes:
        width: Of the images, in pixels.
        height: Likewise.
        mib: MiB for each image of the batch, above what was there before.
        base: MiB that were there before: libraries, weights, the batch itself.
        rows: Images of the batch.
    """

    width: int
    height: int
    mib: float
    base: float
    rows: int


_SIZES_KEPT = 8
"""Image sizes of which the peak is kept for one key: those that take most."""


@dataclass(frozen=True)
class Cost(Key):
    """What was measured for one key: images, and seconds of one worker for all of them."""

    items: int
    seconds: float
    peaks: tuple[Peak, ...] = ()
    """Memory by image size, the size that takes most first; empty where it was not measured, as before it was."""

    def __post_init__(self) -> None:
        found = [one if isinstance(one, Peak) else Peak(**one) for one in self.peaks]  # as a page has them
        object.__setattr__(self, "peaks", tuple(found))

    @property
    def mib(self) -> float | None:
        """MiB for each image of the size that takes most; None where it was not measured."""
        return self.peaks[0].mib if self.peaks else None

    @property
    def key(self) -> Key:
        """What it is the cost of."""
        return Key(self.kind, self.split, self.scorer, self.attack, self.draws, self.device)


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        seconds: Of one worker, as far as is known.
        images: Images to be attacked or scored.
        unknown: Those of kinds that were never measured.
        unknown_keys: The kinds.
    """

    seconds: float
    images: int
    unknown: int
    unknown_keys: frozenset[Key]


def attack_key(cell: Cell, device: str) -> Key | None:
    """What attacking for a cell costs; None for clean cells."""
    if cell.attack is None:
        return None
    attack = identity("attack", cell.attack.identity())
    return Key("attack", cell.split.key, cell.source.key, attack, cell.eot, device.partition(":")[0])


def score_key(cell: Cell, device: str) -> Key:
    """What scoring the images of a cell costs."""
    return Key("score", cell.split.key, cell.scorer.key, "", cell.draws, device.partition(":")[0])


def measured(key: Key, items: int, seconds: float, peaks: Sequence[Peak] = ()) -> Cost:
    """The cost of a key."""
    return Cost(**asdict(key), items=items, seconds=seconds, peaks=_most(peaks))


def _most(peaks: Iterable[Peak]) -> tuple[Peak, ...]:
    """The highest peak of each size, the highest of all first."""
    highest = sorted(peaks, key=lambda one: (-one.mib, one.width, one.height, one.rows, one.base))
    by_size: dict[tuple[int, int], Peak] = {}
    for one in highest:
        by_size.setdefault((one.width, one.height), one)
    return tuple(by_size.values())[:_SIZES_KEPT]


def merged(costs: Iterable[Cost]) -> dict[Key, Cost]:
    """Costs of one key added up."""
    found: dict[Key, Cost] = {}
    for cost in costs:
        known = found.get(cost.key)
        found[cost.key] = _both(cost, known) if known else cost
    return found


def _both(one: Cost, other: Cost) -> Cost:
    """Two costs of one key as one."""
    items, seconds = one.items + other.items, one.seconds + other.seconds
    return replace(one, items=items, seconds=seconds, peaks=_most((*one.peaks, *other.peaks)))


def read_costs(folder: Path) -> dict[Key, Cost]:
    """What runs in this folder and in those beside it measured; a page that is damaged is passed over."""
    pages = RunFolder(folder).read_provenance("costs")
    for other in sorted(folder.parent.glob("*")):
        if other != folder and (other / "suite.yaml").is_file():
            try:
                pages += RunFolder(other).read_provenance("costs")
            except StoreError:
                continue
    return merged(Cost(**page) for page in pages)


def keep_costs(store: RunFolder, costs: Iterable[Cost]) -> None:
    """Add what this invocation measured to the run folder's page."""
    added = list(costs)
    if added:
        store.change_provenance(
            "costs", lambda page: [asdict(cost) for cost in merged([*(Cost(**p) for p in page), *added]).values()]
        )


def estimate(plan: Plan, blocks: Sequence[Block], known: Mapping[Key, Cost], device: str) -> Estimate:
    """What the given blocks will cost; cells that share one attack are attacked once."""
    images = unknown = 0
    seconds = 0.0
    missing: set[Key] = set()
    for wanted in _wanted(plan, blocks, device):
        for key, count, _ in wanted:
            cost = known.get(key)
            images += count
            if cost is None:
                unknown += count
                missing.add(key)
            else:
                seconds += count * cost.seconds / cost.items
    return Estimate(seconds, images, unknown, frozenset(missing))


def seconds_of_blocks(plan: Plan, blocks: Sequence[Block], known: Mapping[Key, Cost], device: str) -> Sequence[float]:
    """What each of the given blocks will cost, so that they can be compared, whatever was measured.

    What never was counts by the evaluations that it takes, at the mean pace of what was measured, or of one a second.
    """
    wanted = list(_wanted(plan, blocks, device))
    timed = [(known[key], count, evaluations) for one in wanted for key, count, evaluations in one if key in known]
    spent = sum(count * cost.seconds / cost.items for cost, count, _ in timed)
    pace = spent / sum(count * evaluations for _, count, evaluations in timed) if timed else 1.0
    price = {key: cost.seconds / cost.items for key, cost in known.items()}
    return [sum(count * price.get(key, evaluations * pace) for key, count, evaluations in one) for one in wanted]


def _wanted(plan: Plan, blocks: Sequence[Block], device: str) -> Iterator[list[tuple[Key, int, float]]]:
    """Of each block what is to be done in it: of which kind, for how many images, with how many evaluations each."""
    size = plan.suite.slice_size
    keys = {cell.id: (cell.attack_key, attack_key(cell, device), score_key(cell, device)) for cell in plan.cells}
    for block in blocks:
        entries = min(size, len(plan.entries[block.split.key]) - block.slice * size)
        wanted = [(keys[cell.id][2], entries * _patches(cell), float(cell.draws)) for cell in block.cells]
        attacks = {keys[cell.id][0]: (keys[cell.id][1], cell) for cell in block.cells}
        wanted += [
            (key, entries * _patches(cell), _evaluations(cell)) for key, cell in attacks.values() if key is not None
        ]
        yield wanted


def _evaluations(cell: Cell) -> float:
    """How often an attack asks the metric for an image, as far as its parameters tell."""
    parameters = cell.attack.parameters if cell.attack else {}
    counts = [parameters.get(name) for name in ("queries", "steps")]
    return cell.eot * max([1.0, *(float(count) for count in counts if isinstance(count, int | float))])


def _patches(cell: Cell) -> int:
    """Items of one sample in a cell: a triplet's two patches are attacked in opposite directions."""
    return 2 if cell.split.dataset.shape == "triplets" and cell.sign == 0 else 1
