"""The engine's own jobs: a fact, a fit, a block. Others bring theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.engine.batches import SampleError
from harness.engine.calibrate import compute_fact, run_fit
from harness.engine.evaluate_block import BlockRun
from harness.engine.keeping import Keeping
from harness.engine.memory import out_of_memory, release, went_on
from harness.engine.memory_cap import MemoryCap, slice_under
from harness.engine.run_folder import FailureRecord, RunFolder, StoreError
from harness.engine.worker import Done, Job, Worker
from harness.errors import UserError
from harness.plugins.returned import check_learnt, told
from harness.suite.plan import Block, Fact, Fit


def cap_of(worker: Worker) -> MemoryCap | None:
    """What a worker may take, where that is limited."""
    return None if worker.context.memory is None else MemoryCap(worker.context.memory)


def noting_failure(job: Job, store: RunFolder, work: Callable[[], None]) -> Done:
    """Do a job; where it fails, note why in the run folder.

    Raises:
        StoreError: The run folder cannot be written.
    """
    try:
        work()
    except StoreError:
        raise
    except SampleError as error:
        message = str(error) if error.bad_input else f"{job.label}: {error}"
        store.write_failure(FailureRecord(job.id, 0, error.sample, message, error.bad_input))
        return Done(job.label, 0, 1)
    except Exception as error:
        bad_input = isinstance(error, UserError)
        cure = " Take a smaller `slice`, smaller images, or fewer workers." if out_of_memory(error) else ""
        message = str(error) if bad_input else f"{job.label}: {told(error)}{cure}"
        store.write_failure(FailureRecord(job.id, 0, "", message, bad_input))
        return Done(job.label, 0, 1)
    store.forget_failure(job.id, 0)
    return Done(job.label, 1, 0)


@dataclass(frozen=True)
class FactJob(Job):
    """Computes a fact."""

    fact: Fact

    @property
    def id(self) -> str:
        """That of the fact."""
        return self.fact.id

    @property
    def label(self) -> str:
        """'calibrate psnr on mini test'."""
        return f"calibrate {self.fact.scorer.label} on {self.fact.split.label}"

    def work(self, worker: Worker) -> Done:
        """Compute and store it."""
        return noting_failure(self, worker.store, lambda: self._compute(worker))

    def _compute(self, worker: Worker) -> None:
        fact, seed, size = self.fact, worker.seed, worker.context.slice_size
        scorer, load = worker.scorer(fact.scorer), worker.loader(fact.split.dataset)
        entries = worker.entries(fact.split)
        size = slice_under(cap_of(worker), scorer, load, entries, size, seed, gradient=False)
        value = compute_fact(fact, entries, load, scorer, seed, worker.device, size, worker.tell)
        worker.store.write_fact(fact.id, value)


@dataclass(frozen=True)
class FitJob(Job):
    """Lets an attack learn."""

    fit: Fit

    @property
    def id(self) -> str:
        """That of the fit."""
        return self.fit.id

    @property
    def label(self) -> str:
        """'fit facpa to psnr'."""
        return f"fit {self.fit.attack.label} to {self.fit.source.label}"

    def work(self, worker: Worker) -> Done:
        """Let it learn, and store what it learnt."""
        return noting_failure(self, worker.store, lambda: self._learn(worker))

    def _learn(self, worker: Worker) -> None:
        fit, size = self.fit, worker.context.slice_size
        scorer, load = worker.scorer(fit.source), worker.loader(fit.split.dataset)
        attack, entries = worker.attack(fit.attack), worker.entries(fit.split)
        cap = cap_of(worker)
        size = slice_under(cap, scorer, load, entries, size, worker.seed, gradient=True)
        while True:  # from the start with smaller batches where memory was too short
            try:
                learnt = run_fit(fit, entries, load, scorer, attack, worker, size)
                break
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
            size //= 2
            release()
        if size < worker.context.slice_size:
            who = f"fitting {fit.attack.label} to {fit.source.label}"
            why = "Out of memory" if cap is None else f"Under --memory {cap.mib:,} MiB"
            worker.shortages[fit.id] = f"{why}: {who} went on in batches of {size}, with other draws."
        worker.store.write_fit(fit.id, check_learnt(learnt, worker.called(fit.attack)))


@dataclass(frozen=True)
class BlockJob(Job):
    """Does every pending cell of a block."""

    block: Block
    careful: bool = False
    """Whether each cell is stored as soon as it is finished, because the process died that did it before."""

    @property
    def id(self) -> str:
        """The block's place in the plan; its failures are noted under its cells."""
        return "-".join(map(str, self.block.key))

    @property
    def label(self) -> str:
        """'mini test / psnr / slice 0'."""
        return self.block.label

    def work(self, worker: Worker) -> Done:
        """Evaluate it; a cell that fails is recorded and the rest goes on."""
        block, size = self.block, worker.context.slice_size
        entries = worker.entries(block.split)[block.slice * size : (block.slice + 1) * size]
        try:
            batches = worker.loader(block.split.dataset)(entries)
        except SampleError as error:
            return self.fail(worker.store, str(error), error.sample, bad_input=error.bad_input)
        ranks = {entry.id: block.slice * size + i for i, entry in enumerate(entries)}
        context = worker.context
        keeping = Keeping(ranks, context.save_examples, context.exact, context.pool)
        most = worker.most_images.get(block.source.key)
        cap = cap_of(worker)
        run = BlockRun(block, batches, worker, worker.store, keeping, most, cap, careful=self.careful)
        done, failed = run.run()
        if run.most is not None and run.most != most:
            worker.most_images[block.source.key] = run.most
            who = f"{block.source.label} on {block.split.label}"
            worker.shortages[block.source.key] = went_on(who, max(run.most, 1), None if cap is None else cap.mib)
        return Done(self.label, done, failed, tuple(run.costs))

    def again(self) -> BlockJob:
        """The same, storing each cell at once: what kills the process is to cost no other cell."""
        return replace(self, careful=True)

    def fail(self, store: RunFolder, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
        """Note those of its cells that have no records as failed."""
        cells, index = self.block.cells, self.block.slice
        done = store.slices_of({cell.id: None for cell in cells})
        lost = [cell for cell in cells if index not in done[cell.id]]
        for cell in lost:
            store.write_failure(FailureRecord(cell.id, index, sample, message, bad_input))
        return Done(self.label, len(cells) - len(lost), len(lost))
