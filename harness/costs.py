"""What a suite will cost: from what earlier runs measured, or by timing two images of each condition."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.identity import identity
from harness.plan import Block, Cell, Plan
from harness.store import RunFolder

if TYPE_CHECKING:
    from harness.registry import Registry

_TIMED_IMAGES = 2

Key = tuple[str, str, str, str]
"""Split, source, attack (its identity, or "clean") and device type: conditions of one key cost alike per image."""


@dataclass(frozen=True)
class Cost:
    """What was measured for one key: images evaluated, and seconds of one worker for all of them."""

    split: str
    source: str
    attack: str
    device: str
    items: int
    seconds: float

    @property
    def key(self) -> Key:
        """What it is the cost of."""
        return self.split, self.source, self.attack, self.device


@dataclass(frozen=True)
class Estimate:
    """What is left to do: seconds of one worker as far as is known, and how many images of conditions are not."""

    seconds: float
    images: int
    unknown: int
    unknown_keys: frozenset[Key]


def key_of(cell: Cell, device: str) -> Key:
    """The key of a cell on a device."""
    return cell.split.key, cell.source.key, _attack_key(cell), device.partition(":")[0]


def _attack_key(cell: Cell) -> str:
    return "clean" if cell.attack is None else identity("attack", cell.attack.identity())


def merged(costs: Iterable[Cost]) -> dict[Key, Cost]:
    """Costs of one key added up."""
    found: dict[Key, Cost] = {}
    for cost in costs:
        known = found.get(cost.key)
        both = replace(cost, items=cost.items + known.items, seconds=cost.seconds + known.seconds) if known else cost
        found[cost.key] = both
    return found


def read_costs(folder: Path) -> dict[Key, Cost]:
    """What runs in this folder and in those beside it measured."""
    folders = [folder, *sorted(f for f in folder.parent.glob("*") if f != folder and (f / "suite.yaml").is_file())]
    return merged(Cost(**page) for one in folders for page in RunFolder(one).read_provenance("costs"))


def keep_costs(store: RunFolder, costs: Iterable[Cost]) -> None:
    """Add what this invocation measured to the run folder's page."""
    measured = list(costs)
    if measured:
        store.change_provenance(
            "costs", lambda page: [asdict(c) for c in merged([*(Cost(**p) for p in page), *measured]).values()]
        )


def estimate(plan: Plan, blocks: Sequence[Any], known: Mapping[Key, Cost], device: str) -> Estimate:
    """What the given blocks will cost; cells that share one attack are attacked once."""
    size = plan.suite.slice_size
    keys = {cell.id: (key_of(cell, device), cell.attack_key) for cell in plan.cells}
    images = unknown = 0
    seconds = 0.0
    missing: set[Key] = set()
    for block in blocks:
        if not isinstance(block, Block):
            continue
        count = min(size, len(plan.entries[block.split.key]) - block.slice * size)
        for key, _ in {keys[cell.id] for cell in block.cells}:
            images += count
            cost = known.get(key)
            if cost is None:
                unknown += count
                missing.add(key)
            else:
                seconds += count * cost.seconds / cost.items
    return Estimate(seconds, images, unknown, frozenset(missing))


def time_unknown(plan: Plan, registry: Registry, device: str, keys: frozenset[Key]) -> dict[Key, Cost]:
    """Time the conditions of the given keys on two images each, in a folder that is thrown away."""
    from harness.worker import Context, Worker

    with tempfile.TemporaryDirectory() as folder:
        files = tuple(file.resolve() for file in registry.files)
        worker = Worker(Context(Path(folder), files, plan.suite.seed, _TIMED_IMAGES, device))
        cells = {key: cell for cell in plan.cells if (key := key_of(cell, device)) in keys}
        facts = {cell.fact for cell in cells.values()}
        for fact in (fact for fact in plan.facts if fact.id in facts):
            worker.execute(fact)
        costs: list[Cost] = []
        for cell in cells.values():
            if not cell.fits:  # learning is not timed: it takes as long as the attack says
                costs += worker.execute(Block(cell.split, cell.source, 0, (cell,))).costs
    return merged(costs)
