"""One block -> records: attack what its cells ask for, have it scored, store what is finished, note what fails.

Three independent random streams per sample: the attack's own, one to compare result and start, and one for scoring;
a randomised defense is drawn afresh in each.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from harness.contracts import DataError
from harness.engine.attack_batch import Tools, attack_parts
from harness.engine.batches import Batch, SampleError, most_images, split_batches, too_large
from harness.engine.costs import Cost, Key, attack_key, measured, score_key
from harness.engine.keeping import Keeping
from harness.engine.memory import out_of_memory, release
from harness.engine.memory_cap import MemoryCap, OverCapError
from harness.engine.parts import AttackedBatch, AttackPart, Seen, flight_key, unattacked
from harness.engine.peak import PeakMeter
from harness.engine.record_files import group_of, records_table
from harness.engine.run_folder import FailureRecord, RunFolder, StoreError
from harness.engine.score_batch import Scoring
from harness.errors import UserError
from harness.plugins.returned import told
from harness.suite.cell_names import CLEAN
from harness.suite.plan import Block, Cell
from harness.wording import counted

Flight = Sequence[Sequence[Cell]]
"""Cells whose attacks may be one batch; of each attack those that share it."""
AttackedByRadius = Mapping[float, Sequence[AttackedBatch]]
"""Radius -> attacked batches, in the order of the block's batches."""
_WRITE_EVERY_S = 60.0
"""A block that takes longer stores what it has finished now and then; one that does not makes one file of records."""


class BlockRun:
    """The evaluation of one block.

    Args:
        block: What to do.
        batches: Its images.
        tools: What the worker provides.
        store: Where records are kept.
        keeping: What is kept of its attacked images.
        most: Images in a batch where memory has been too short for more, 0 for one image at one radius; None where it
            has not.
        cap: What the worker may take, where that is limited.
        peaks: Measures what batches take of the device's memory; None where it is not to be known.
        in_flight: Whether cells of one attack are done one after the other, so that they can be attacked together.
        careful: Whether each cell is stored as soon as it is finished, since the worker may not live to store several.
    """

    def __init__(
        self,
        block: Block,
        batches: Sequence[Batch],
        tools: Tools,
        store: RunFolder,
        keeping: Keeping,
        most: int | None = None,
        cap: MemoryCap | None = None,
        peaks: PeakMeter | None = None,
        *,
        in_flight: bool = False,
        careful: bool = False,
    ) -> None:
        self._block = block
        self._tools = tools
        self._store = store
        self._keeping = keeping
        self._cap = cap
        self._peaks = peaks or PeakMeter(torch.device("meta"))
        self._scoring = Scoring(tools, self._peaks)
        self._seen = Seen(batches if most is None else split_batches(batches, max(most, 1)))
        self._done = self.failed = 0
        self._in_flight = in_flight
        self._ahead: dict[tuple[Any, ...], AttackedByRadius] = {}
        self._careful = careful
        self._groups = {cell.id: group_of(cell) for cell in block.cells}
        self._finished: dict[str, pa.Table] = {}
        self._written = time.monotonic()
        self.costs: list[Cost] = []
        self.most = most
        """As given, or less if memory was too short again, or the cap asks for less."""

    def run(self) -> tuple[int, int]:
        """Do every cell of the block; one that fails is recorded and the rest goes on.

        Returns:
            Number of cells done, and of cells failed.
        """
        for _ in self.steps():
            pass
        return len(self._block.cells) - self.failed, self.failed

    def steps(self) -> Generator[Flight]:
        """Do every cell of the block, telling which come next: until it is asked to go on, they may be attacked ahead.

        Yields:
            Cells that share one attack, of all radii and both directions where they are to be in flight together.
        """
        if self._cap is not None and self._seen.batches:
            self._fit_under(self._cap)
        try:
            for flight in self._flights():
                yield flight
                for cells in flight:
                    left = list(cells)
                    while left:  # again with smaller batches where memory was too short
                        self.failed += self._share(left)
        except StoreError:
            raise
        except BaseException:  # stopped at once: what is finished is kept
            self._write()
            raise
        self._write()

    def units(self, cells: Sequence[Cell]) -> list[list[AttackPart]]:
        """What may be attacked ahead for cells that share one attack: of each batch, the parts that go together."""
        return [] if cells[0].attack is None or self.most is not None else list(self._units(cells[0]))

    def _units(self, cell: Cell) -> Iterator[list[AttackPart]]:
        for k, whole in enumerate(self._seen.batches):
            batch = whole.of_sign(cell.sign, cell.patch)
            if batch is not None:
                yield [AttackPart(cell, eps, batch, k, self._seen) for eps in cell.together or (cell.eps,)]

    def attacked_ahead(self, cells: Sequence[Cell], attacked: AttackedByRadius) -> None:
        """Take what came of the units of these cells, so that they need not be attacked again."""
        self._ahead[cells[0].attack_key] = attacked

    def _write(self, *, at_once: bool = True) -> None:
        """Store the records of finished cells, unless others were stored a short while ago."""
        if self._finished and (at_once or self._careful or time.monotonic() - self._written > _WRITE_EVERY_S):
            try:
                self._store.write_block(self._block.slice, self._finished, self._groups)
            except StoreError:
                raise
            except Exception:
                self._write_each()
            self._finished = {}  # not before they are stored: what stops that tries it again
            self._written = time.monotonic()

    def _write_each(self) -> None:
        """Store finished cells one by one, so that one whose notes no file can hold fails alone."""
        for cell in self._block.cells:
            if cell.id in self._finished:
                try:
                    self._store.write_block(self._block.slice, {cell.id: self._finished[cell.id]}, self._groups)
                except StoreError:
                    raise
                except Exception as error:
                    self.failed += self._fail([cell], error)

    def _fit_under(self, cap: MemoryCap) -> None:
        """Cut batches to what fits under a cap, by what one of the largest images takes."""
        cells, tools = self._block.cells, self._tools
        judges = {cell.scorer.key: cell.scorer for cell in cells}
        scorers = [self._block.source, *(spec for key, spec in judges.items() if key != self._block.source.key)]
        attacks = [tools.attack(cell.attack) for cell in cells if cell.attack is not None]
        white_box = any(attack.needs_gradient and not attack.control for attack in attacks)
        largest = max(self._seen.batches, key=lambda batch: batch.dist[0].numel())
        try:
            built = [tools.scorer(spec) for spec in scorers]
        except Exception:  # the cells themselves say what is wrong
            return
        fitting = cap.images(largest, built, tools.seed, gradient=white_box)
        rows = max(len(cell.together) or 1 for cell in cells)
        if fitting < rows * most_images(self._seen.batches):
            self.most = int(fitting) // rows
            self._seen = Seen(split_batches(self._seen.batches, max(self.most, 1)))

    def _share(self, left: list[Cell]) -> int:
        """Do cells that share one attack, and take off the list what is finished; says how many failed."""
        began = _now()
        self._tell(left[0], "")
        try:
            ahead = self._ahead.pop(left[0].attack_key, None)
            if self._cap is not None and ahead is None:
                self._cap.begin()
            attacked = ahead or self._attack(left[0])
            self._check_cap()
        except Exception as error:
            if out_of_memory(error) and self._halve():
                return 0
            failed = self._fail(left, error)
            left.clear()
            return failed
        failed = 0
        every = [result for results in attacked.values() for result in results]
        took = (sum(result.seconds for result in every), 0.0) if ahead else _since(began)
        self._took(attack_key(left[0], self._tools.device.type), sum(len(one.batch.items) for one in every), took)
        for cell in list(left):
            began = _now()
            self._tell(cell, "scoring ")
            results = attacked[cell.eps]
            try:
                columns = self._scoring.records(cell, results, self._seen)
                self._check_cap()
                self._keeping.keep(cell, self._block.slice, results, columns, self._store)
                self._finished[cell.id] = records_table(columns)
                self._write(at_once=False)
                self._took(score_key(cell, self._tools.device.type), len(columns["item"]) // cell.draws, _since(began))
            except StoreError:
                raise
            except Exception as error:
                if out_of_memory(error) and self._halve():
                    return failed
                failed += self._fail([cell], error)
            left.remove(cell)
            self._done += 1
        return failed

    def _tell(self, cell: Cell, doing: str, evaluations: int = 0) -> None:
        """'3 of 40 cells: pgd up, 120 evaluations': cells that are done, and what is being done."""
        what = f"{cell.attack.label} {cell.endpoint}".strip() if cell.attack is not None else CLEAN
        evaluated = f", {counted(evaluations, 'evaluation')}" if evaluations else ""
        self._tools.tell(f"{self._done} of {len(self._block.cells)} cells: {doing}{what}{evaluated}")

    def _attack(self, cell: Cell) -> AttackedByRadius:
        """Every batch, for every radius that the attack takes together."""
        attacked: dict[float, list[AttackedBatch]] = {eps: [] for eps in cell.together or (cell.eps,)}
        kind = attack_key(cell, self._tools.device.type)
        for parts in self._units(cell):
            batch, k = parts[0].batch, parts[0].index
            if cell.attack is None:
                attacked[cell.eps].append(unattacked(batch, k))
                continue
            apart = len(self._seen.batches[k].items) == 1 and self.most == 0
            for some in [[part] for part in parts] if apart else [parts]:
                with self._peaks.watching(kind, *batch.size, len(some) * len(batch.items)):
                    results = attack_parts(some, self._tools, partial(self._tell, cell, ""))
                for part, result in zip(some, results, strict=True):
                    attacked[part.eps].append(result)
        return attacked

    def _check_cap(self) -> None:
        """Raise where more memory was taken than the cap allows; to the rest it is a lack of memory."""
        if self._cap is not None:
            self._cap.check()

    def _halve(self) -> bool:
        """Go on with batches half as large; at one image, with its radii one by one. False where nothing is left."""
        if self.most == 0:
            return False
        self.most = most_images(self._seen.batches) // 2
        self._seen = Seen(split_batches(self._seen.batches, max(self.most, 1)))
        self._ahead.clear()
        release()
        return True

    def _took(self, key: Key | None, count: int, spent: tuple[float, float]) -> None:
        """Note what images took: by the clock, and of this process, 0 where that is not known."""
        if key is not None and count:
            seconds, cpu = spent
            batches = self._seen.batches
            pixels = sum(math.prod(batch.size) * len(batch.items) for batch in batches)
            mean = pixels / sum(len(batch.items) for batch in batches)
            found = self._peaks.found(key)
            self.costs.append(measured(key, count, seconds, found, cpu=cpu, pixels=round(count * mean)))

    def _flights(self) -> Iterator[Flight]:
        groups: dict[Any, list[Cell]] = defaultdict(list)
        for cell in self._block.cells:
            groups[cell.attack_key].append(cell)
        flights: dict[Any, list[list[Cell]]] = defaultdict(list)
        for key, cells in groups.items():
            flights[flight_key(cells[0]) if self._in_flight else key].append(cells)
        yield from flights.values()

    def _fail(self, cells: Sequence[Cell], error: Exception) -> int:
        if isinstance(error, SampleError):
            cause = (error.sample, str(error), error.bad_input)
        elif out_of_memory(error):
            batch = max(self._seen.batches, key=lambda batch: batch.dist[0].numel())
            over_cap = str(error) if isinstance(error, OverCapError) else ""
            cause = (", ".join(self._samples()), too_large(batch, over_cap), False)
        elif isinstance(error, UserError):
            sample = self._samples()[0] if isinstance(error, DataError) else ""
            cause = (sample, str(error), True)
        else:
            cause = (", ".join(self._samples()), told(error), False)
        for cell in cells:
            self._store.write_failure(FailureRecord(cell.id, self._block.slice, *cause))
        return len(cells)

    def _samples(self) -> list[str]:
        return [item.id for batch in self._seen.batches for item in batch.items]


def _now() -> tuple[float, float]:
    """The clock's seconds, and those that this process has computed."""
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    seconds, cpu = (now - then for now, then in zip(_now(), began, strict=True))
    return seconds, cpu
