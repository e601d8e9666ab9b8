"""What a suite will cost, from what earlier runs measured: seconds per image of each attack, and of each scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.engine.run_folder import RunFolder, StoreError
from harness.suite.plan import Block, Cell, Plan

Work = Literal["attack", "score"]
PACES_PAGE = "paces"
"""The page of provenance that says what calibrating took: scorings of clean images, by which blocks are compared whose
scorers were never measured in one."""


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


_LEAST_OWN = 0.1
"""Share of its seconds that work computes itself; with less it waits for something else."""
_SIZES_KEPT = 8
"""Image sizes of which the peak is kept for one key: those that take most."""


@dataclass(frozen=True)
class Cost(Key):
    """What was measured for one key: images, and seconds of one worker for all of them."""

    items: int
    seconds: float
    cpu: float = 0.0
    """Of these seconds, those that its process computed; 0 where it was not measured."""
    pixels: int = 0
    """Of all images together; 0 where they were not counted."""
    machine: str = ""
    """Id of the machine (`harness.engine.machines`); empty where that is not known."""
    peaks: tuple[Peak, ...] = ()
    """Memory by image size, the size that takes most first; empty where it was not measured, as before it was."""

    def __post_init__(self) -> None:
        found = [one if isinstance(one, Peak) else Peak(**one) for one in self.peaks]  # as a page has them
        object.__setattr__(self, "peaks", tuple(found))

    @property
    def spent(self) -> float:
        """Seconds that the work itself took, whatever else the machine did.

        On a CPU those that its process computed. A metric that waits for something else goes by the clock.
        """
        own = self.device == "cpu" and self.cpu >= _LEAST_OWN * self.seconds
        return self.cpu if own and self.cpu else self.seconds

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
    return Key("attack", cell.split.key, cell.source.key, cell.attack.key, cell.eot, device.partition(":")[0])


def score_key(cell: Cell, device: str) -> Key:
    """What scoring the images of a cell costs."""
    return Key("score", cell.split.key, cell.scorer.key, "", cell.draws, device.partition(":")[0])


def measured(
    key: Key, items: int, seconds: float, peaks: Sequence[Peak] = (), *, cpu: float = 0.0, pixels: int = 0
) -> Cost:
    """The cost of a key."""
    return Cost(**asdict(key), items=items, seconds=seconds, cpu=cpu, pixels=pixels, peaks=_most(peaks))


def _most(peaks: Iterable[Peak]) -> tuple[Peak, ...]:
    """The highest peak of each size, the highest of all first."""
    highest = sorted(peaks, key=lambda one: (-one.mib, one.width, one.height, one.rows, one.base))
    by_size: dict[tuple[int, int], Peak] = {}
    for one in highest:
        by_size.setdefault((one.width, one.height), one)
    return tuple(by_size.values())[:_SIZES_KEPT]


def merged(costs: Iterable[Cost]) -> dict[Key, Cost]:
    """Costs of one key added up, whichever machine they were measured on."""
    found: dict[Key, Cost] = {}
    for cost in costs:
        known = found.get(cost.key)
        found[cost.key] = _both(cost, known) if known else cost
    return found


def merged_by_machine(costs: Iterable[Cost]) -> list[Cost]:
    """Costs of one key on one machine added up."""
    found: dict[str, list[Cost]] = {}
    for cost in costs:
        found.setdefault(cost.machine, []).append(cost)
    return [cost for alike in found.values() for cost in merged(alike).values()]


def _both(one: Cost, other: Cost) -> Cost:
    """Two costs of one key as one; its images and processor seconds are known where those of both are."""
    return replace(
        one,
        items=one.items + other.items,
        seconds=one.seconds + other.seconds,
        cpu=one.cpu + other.cpu if one.cpu and other.cpu else 0.0,
        pixels=one.pixels + other.pixels if one.pixels and other.pixels else 0,
        machine=one.machine if one.machine == other.machine else "",
        peaks=_most((*one.peaks, *other.peaks)),
    )


def pages_beside(folder: Path, name: str) -> list[Any]:
    """A page of provenance of runs in this folder and in those beside it; one that is damaged is passed over."""
    pages = RunFolder(folder).read_provenance(name)
    for other in sorted(folder.parent.glob("*")):
        if other != folder and (other / "suite.yaml").is_file():
            try:
                pages += RunFolder(other).read_provenance(name)
            except StoreError:
                continue
    return pages


def read_costs(folder: Path) -> dict[Key, Cost]:
    """What runs in this folder and in those beside it measured; a page that is damaged is passed over."""
    return merged(Cost(**page) for page in pages_beside(folder, "costs"))


def read_paces(folder: Path) -> dict[Key, Cost]:
    """What calibrating scorers took in this folder and in those beside it."""
    return merged(Cost(**page) for page in pages_beside(folder, PACES_PAGE))


def keep_costs(store: RunFolder, costs: Iterable[Cost], page: str = "costs") -> None:
    """Add what this invocation measured to a page of the run folder."""
    added = list(costs)
    if added:
        store.change_provenance(
            page,
            lambda known: [asdict(cost) for cost in merged_by_machine([*(Cost(**one) for one in known), *added])],
        )


def estimate(plan: Plan, blocks: Sequence[Block], known: Mapping[Key, Cost], device: str) -> Estimate:
    """What the given blocks will cost; cells that share one attack are attacked once."""
    counts = {key: amount.images for key, amount in loads(plan, blocks, device).items()}
    missing = {key: count for key, count in counts.items() if key not in known}
    spent = (count * known[key].seconds / known[key].items for key, count in counts.items() if key in known)
    return Estimate(sum(spent), sum(counts.values()), sum(missing.values()), frozenset(missing))


class Amount(NamedTuple):
    """How much there is to do of one kind."""

    images: int
    evaluations: float
    """Of the metric for each image, as far as an attack's parameters tell."""


def loads(plan: Plan, blocks: Sequence[Block], device: str) -> Mapping[Key, Amount]:
    """Kind of work -> how much the given blocks have of it; cells that share one attack are attacked once."""
    return loads_of(works_of(plan, blocks, device))


def loads_of(works: Iterable[tuple[int, ImageWork]]) -> Mapping[Key, Amount]:
    """Kind of work -> how much blocks have of it, as `works_of` has them."""
    found: dict[Key, Amount] = {}
    for images, work in _shared(works):
        for (key, evaluations), times in work.items():
            before = found[key].images if key in found else 0
            found[key] = Amount(before + images * times, evaluations)
    return found


def seconds_of_blocks(
    plan: Plan, blocks: Sequence[Block], known: Mapping[Key, Cost], device: str, paces: Mapping[Key, Cost]
) -> Sequence[float]:
    """What each of the given blocks will cost, so that they can be compared, whatever was measured.

    What never was counts by the evaluations that it takes, each as long as one took when its scorer was calibrated, and
    all of them as much longer as what was measured took.

    Args:
        plan: What the blocks are of.
        blocks: Blocks of it.
        known: What was measured in blocks.
        device: Where they run.
        paces: What calibrating took.
    """
    price = {key: cost.spent / cost.items for key, cost in known.items()}
    each_of = _seconds_of_evaluation(paces, device)
    works = works_of(plan, blocks, device)
    spent = evaluated = 0.0
    for images, work in _shared(works):
        timed = [(key, images * times, each * each_of(key)) for (key, each), times in work.items() if key in price]
        spent += sum(count * price[key] for key, count, _ in timed)
        evaluated += sum(count * each for _, count, each in timed)
    pace = spent / evaluated if evaluated else 1.0
    image = {
        id(work): sum(times * price.get(key, each * each_of(key) * pace) for (key, each), times in work.items())
        for _, work in _shared(works)
    }
    return [images * image[id(work)] for images, work in works]


def _seconds_of_evaluation(paces: Mapping[Key, Cost], device: str) -> Callable[[Key], float]:
    """Key -> seconds of one evaluation of its scorer, on its split or else on any.

    A scorer that was never calibrated counts as the mean of those that were; a second where none was.
    """
    known: dict[tuple[str, str], list[Cost]] = {}
    for key, cost in paces.items():
        if key.device == device.partition(":")[0]:
            known.setdefault((key.scorer, key.split), []).append(cost)
            known.setdefault((key.scorer, ""), []).append(cost)
    found = {of: sum(cost.spent for cost in some) / sum(cost.items for cost in some) for of, some in known.items()}
    every = [one for (_, split), one in found.items() if not split]
    mean = sum(every) / len(every) if every else 1.0
    return lambda key: found.get((key.scorer, key.split), found.get((key.scorer, ""), mean))


ImageWork = Mapping[tuple[Key, float], int]
"""What is done with one image of a block: (of which kind, with how many evaluations) -> how often."""


def _shared(works: Iterable[tuple[int, ImageWork]]) -> list[tuple[int, ImageWork]]:
    """Each different work of blocks once, with the images of all blocks that have it."""
    images: Counter[int] = Counter()
    once: dict[int, ImageWork] = {}
    for count, work in works:
        images[id(work)] += count
        once[id(work)] = work
    return [(images[key], work) for key, work in once.items()]


def works_of(plan: Plan, blocks: Sequence[Block], device: str) -> Sequence[tuple[int, ImageWork]]:
    """Of each block its images, and what is done with each of them; blocks with the same pending cells share it."""
    size = plan.suite.slice_size
    known: dict[int, ImageWork] = {}
    found = []
    for block in blocks:
        if id(block.cells) not in known:
            known[id(block.cells)] = _work_of_image(block.cells, device)
        images = min(size, len(plan.entries[block.split.key]) - block.slice * size)
        found.append((images, known[id(block.cells)]))
    return found


def _work_of_image(cells: Sequence[Cell], device: str) -> ImageWork:
    work: Counter[tuple[Key, float]] = Counter()
    attacks: dict[Any, Cell] = {}
    scorings: dict[tuple[str, int], Key] = {}
    for cell in cells:
        scoring = scorings.get((cell.scorer.key, cell.draws))
        if scoring is None:
            scoring = scorings[cell.scorer.key, cell.draws] = score_key(cell, device)
        work[scoring, float(cell.draws)] += _patches(cell)
        if cell.attack is not None:
            attacks.setdefault(cell.attack_key, cell)
    for cell in attacks.values():
        key = attack_key(cell, device)
        if key is not None:
            work[key, _evaluations(cell)] += _patches(cell)
    return work


def _evaluations(cell: Cell) -> float:
    """How often an attack asks the metric for an image, as far as its parameters tell."""
    parameters = cell.attack.parameters if cell.attack else {}
    counts = [parameters.get(name) for name in ("queries", "steps")]
    return cell.eot * max([1.0, *(float(count) for count in counts if isinstance(count, int | float))])


def _patches(cell: Cell) -> int:
    """Items of one sample in a cell: a triplet's two patches are attacked in opposite directions."""
    return 2 if cell.split.dataset.shape == "triplets" and cell.sign == 0 else 1
