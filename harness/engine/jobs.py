"""The engine's own jobs: a fact, a fit, a block. Others bring theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.contracts import Entry
from harness.engine.ahead import Read
from harness.engine.batches import Batch, SampleError
from harness.engine.calibrate import compute_fact, run_fit
from harness.engine.costs import Cost, Key, measured
from harness.engine.evaluate_block import BlockRun
from harness.engine.in_flight import fly
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
        took: list[tuple[int, float, float]] = []
        done = noting_failure(self, worker.store, lambda: self._compute(worker, took))
        return done if done.failed else replace(done, paces=self._pace(worker.device.type, took))

    def _pace(self, device: str, took: Sequence[tuple[int, float, float]]) -> tuple[Cost, ...]:
        """What scoring took; without the first of several batches, in which is what is done once."""
        if not took:
            return ()
        items, seconds, cpu = map(sum, zip(*(took[1:] or took), strict=True))
        key = Key("score", self.fact.split.key, self.fact.scorer.key, "", 1, device)
        return (measured(key, round(items), seconds, cpu=cpu),)

    def _compute(self, worker: Worker, took: list[tuple[int, float, float]]) -> None:
        fact, seed, size = self.fact, worker.seed, worker.context.slice_size
        scorer, load = worker.scorer(fact.scorer), worker.loader(fact.split.dataset)
        entries = worker.entries(fact.split)
        size = slice_under(cap_of(worker), scorer, load, entries, size, seed, gradient=False)
        note = lambda *batch: took.append(batch)  # noqa: E731
        value = compute_fact(fact, entries, load, scorer, seed, worker.device, size, worker.tell, note)
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
        return do_blocks(worker, [self], {})[0]

    def entries(self, worker: Worker) -> Sequence[Entry]:
        """The entries of its slice."""
        size = worker.context.slice_size
        return worker.entries(self.block.split)[self.block.slice * size : (self.block.slice + 1) * size]

    def reader(self, worker: Worker) -> Read | None:
        """What reads its images on the host, in any thread; None where the data set's code is not ours."""
        try:
            read = worker.host_loader(self.block.split.dataset)
            return None if read is None else partial(read, self.entries(worker))
        except Exception:  # whoever does the job finds out
            return None

    def run_of(self, worker: Worker, batches: Sequence[Batch]) -> BlockRun:
        """Its evaluation, ready to begin."""
        context, size = worker.context, worker.context.slice_size
        ranks = {entry.id: self.block.slice * size + i for i, entry in enumerate(self.entries(worker))}
        keeping = Keeping(ranks, context.save_examples, context.exact, context.pool)
        most = worker.most_images.get(self.block.source.key)
        store, cap = worker.store, cap_of(worker)
        options = {"in_flight": worker.packing is not None, "careful": self.careful}
        return BlockRun(self.block, batches, worker, store, keeping, most, cap, worker.peaks, **options)

    def ended(self, worker: Worker, run: BlockRun) -> Done:
        """What became of its evaluation; smaller batches are remembered and told."""
        source = self.block.source
        if run.most is not None and run.most != worker.most_images.get(source.key):
            worker.most_images[source.key] = run.most
            who, memory = f"{source.label} on {self.block.split.label}", worker.context.memory
            worker.shortages[source.key] = went_on(who, max(run.most, 1), memory)
        return Done(self.label, len(self.block.cells) - run.failed, run.failed, tuple(run.costs))

    def again(self) -> BlockJob:
        """The same, storing each cell at once: what kills the process is to cost no other cell."""
        return replace(self, careful=True)

    def fail(self, store: RunFolder, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
        """Note those of its cells that have no records as failed."""
        cells, index = self.block.cells, self.block.slice
        if store.behind is not None:
            store.behind.drain()
        done = store.slices_of({cell.id: None for cell in cells})
        lost = [cell for cell in cells if index not in done[cell.id]]
        for cell in lost:
            store.write_failure(FailureRecord(cell.id, index, sample, message, bad_input))
        return Done(self.label, len(cells) - len(lost), len(lost))


def do_blocks(worker: Worker, jobs: Sequence[BlockJob], read: Mapping[str, Sequence[Batch]]) -> list[Done]:
    """Evaluate blocks of one source, side by side where there is room for several.

    Args:
        worker: Does it.
        jobs: The blocks; several only where the worker packs attacks.
        read: Id of a job -> its images, where they have been read already.

    Raises:
        StoreError: The run folder cannot be written.
    """
    done: dict[str, Done] = {}
    runs: dict[str, BlockRun] = {}
    for job in jobs:
        try:
            known = read.get(job.id)
            load = worker.loader(job.block.split.dataset)
            batches = load(job.entries(worker)) if known is None else [batch.to(worker.device) for batch in known]
            runs[job.id] = job.run_of(worker, batches)
        except SampleError as error:
            done[job.id] = job.fail(worker.store, str(error), error.sample, bad_input=error.bad_input)
    if worker.packing is None:
        for run in runs.values():
            run.run()
    else:
        fly(list(runs.values()), worker.packing, worker)
    return [done[job.id] if job.id in done else job.ended(worker, runs[job.id]) for job in jobs]
