"""Several cells of one source in flight: radii, directions and slices packed into one batch, up to what memory allows.

What fits is measured: the first batch of an attack and image size is attacked as it is, and what it took says how many
images the next ones may have. What goes wrong in a pack is done again cell by cell, so a fault is told as ever.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.engine.attack_batch import Tools, attack_parts
from harness.engine.costs import attack_key
from harness.engine.evaluate_block import BlockRun, Flight
from harness.engine.memory import out_of_memory, release
from harness.engine.packing import Packing
from harness.engine.parts import AttackedBatch, AttackPart
from harness.engine.run_folder import StoreError
from harness.suite.plan import Cell


@dataclass(frozen=True)
class _Unit:
    """What is attacked together in any case: a batch of one block, for cells that share one attack."""

    run: BlockRun
    cells: Sequence[Cell]
    parts: Sequence[AttackPart]

    @property
    def rows(self) -> int:
        return sum(len(part.batch.items) for part in self.parts)

    @property
    def group(self) -> tuple[int, Any]:
        """Of which run, and of which attack there."""
        return id(self.run), self.cells[0].attack_key


def fly(runs: Sequence[BlockRun], packing: Packing, tools: Tools) -> None:
    """Do some blocks of one source side by side, their attacks packed.

    Args:
        runs: The blocks, with `in_flight`.
        packing: How many images may be attacked at once.
        tools: What the worker provides.

    Raises:
        StoreError: The run folder cannot be written.
    """
    steps = [run.steps() for run in runs]
    try:
        while flights := [(run, flight) for run, step in zip(runs, steps, strict=True) if (flight := next(step, None))]:
            _attack_ahead(flights, packing, tools)
    finally:
        for step in steps:
            step.close()


def _attack_ahead(flights: Sequence[tuple[BlockRun, Flight]], packing: Packing, tools: Tools) -> None:
    """Attack what can be packed with something else, and hand each block what is its own."""
    units = [_Unit(run, cells, parts) for run, flight in flights for cells in flight for parts in run.units(cells)]
    by_size: dict[tuple[int, int], list[_Unit]] = defaultdict(list)
    for unit in units:
        by_size[unit.parts[0].batch.size].append(unit)
    results: dict[tuple[int, Any], list[tuple[float, AttackedBatch]]] = defaultdict(list)
    complete, units_of = {unit.group: unit for unit in units}, Counter(unit.group for unit in units)
    for size, alike in by_size.items():
        alone = len(alike) == 1 and units_of[alike[0].group] == 1
        for unit, attacked in _packed(alike, size, packing, tools) if not alone else [(alike[0], None)]:
            if attacked is None:
                complete.pop(unit.group, None)
            else:
                results[unit.group] += [(part.eps, one) for part, one in zip(unit.parts, attacked, strict=True)]
    for group, unit in complete.items():
        found = sorted(results[group], key=lambda one: one[1].index)
        radii = [part.eps for part in unit.parts]
        unit.run.attacked_ahead(unit.cells, {eps: [one for at, one in found if at == eps] for eps in radii})


def _packed(
    units: Sequence[_Unit], size: tuple[int, int], packing: Packing, tools: Tools
) -> Iterator[tuple[_Unit, Sequence[AttackedBatch] | None]]:
    """Each unit with what came of it; None where it is left to its block."""
    key = attack_key(units[0].cells[0], packing.meter.device.type)
    if key is None:
        yield from ((unit, None) for unit in units)
        return
    waiting = deque(units)
    while waiting:
        taken = _fitting(waiting, packing.rows(key, *size))
        rows = sum(unit.rows for unit in taken)
        parts = [part for unit in taken for part in unit.parts]
        too_much, attacked = False, None
        try:
            if packing.cap is not None:
                packing.cap.begin()
            with packing.meter.watching(key, *size, rows):
                attacked = iter(attack_parts(parts, tools, partial(_tell, tools, taken)))
            if packing.cap is not None:
                packing.cap.check()
        except StoreError:
            raise
        except Exception as error:
            too_much, attacked = out_of_memory(error) and len(taken) > 1, None
        if attacked is None and too_much:  # now that the error is gone, so is what it held
            packing.fewer(key, *size, rows)
            release()
            waiting.extendleft(reversed(taken))
            continue
        if attacked is None:
            yield from ((unit, None) for unit in taken)
            continue
        yield from ((unit, [next(attacked) for _ in unit.parts]) for unit in taken)


def _fitting(waiting: deque[_Unit], most: int | None) -> list[_Unit]:
    """The next units that are no more images than that, at least one; one where nothing is known."""
    taken = [waiting.popleft()]
    rows = taken[0].rows
    while waiting and most is not None and rows + waiting[0].rows <= most:
        rows += waiting[0].rows
        taken.append(waiting.popleft())
    return taken


def _tell(tools: Tools, taken: Sequence[_Unit], evaluations: int) -> None:
    cell = taken[0].cells[0]
    attack = cell.attack.label if cell.attack else ""
    images = sum(unit.rows for unit in taken)
    tools.tell(f"{attack}: {images} images at once, {evaluations} evaluations")
