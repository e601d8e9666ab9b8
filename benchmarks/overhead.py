"""What the engine adds to a block (PGD-10 on birqa-tiny, 8 images of 128 px, up and down) to the same work by hand.

python benchmarks/overhead.py            # nine repetitions
python benchmarks/overhead.py 25

Both do one block on one thread in float32: the clean cell, and PGD in both directions at 8/255. A repetition does the
next slice of `mini`, first one way then the other, the order changing from one to the next; the ratio is taken within
it, so what slows the machine down for a while slows both. Both must arrive at the same scores, to the bit.

*By hand* is the metric's and the attack's own tensor work, and no image is scored twice. The reference is encoded once.
Each direction draws its start, makes ten forwards with backwards to the image, and the operations of PGD's ten updates
and projections. Each image that the protocol wants a score of is scored once: distorted, reference against itself,
attacked, and the 8-bit versions of distorted and attacked; the better of attacked and distorted is taken from these.
Images, weights and generators are there before its clock starts.

*The engine* is `Worker.execute`. All that it does beyond this is overhead: reading, decoding and checking images,
looking up facts, making generators, counting evaluations, finding the best image of the budget, projecting what the
attack returned, checks of what plugins return, records, writing them, and any image scored more than once.

CPU seconds say more than the clock on a busy machine; only the clock sees waiting for the disk.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import harness.engine.attack_batch
import harness.engine.objective
import harness.engine.score_batch
import harness.engine.scorer
import harness.engine.worker
from harness.contracts import SampleRng
from harness.engine.batches import Batch, load_batches
from harness.engine.jobs import BlockJob, FactJob
from harness.engine.memory import keep_freed_memory
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Worker
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry
from harness.suite.plan import Block
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

STEPS, STEP_SIZE, EPS = 10, 2 / 255, 8 / 255
SUITE = f"""\
name: overhead
datasets: [mini]
metrics: [birqa-tiny]
attacks: [{{name: pgd, steps: {STEPS}, step_size: {STEP_SIZE}}}]
budgets: {{linf: [{EPS}]}}
directions: [up, down]
slice: 8
"""
Seconds = tuple[float, float]
"""CPU and wall clock."""
Scores = dict[str, Tensor]
"""Direction ("" is the clean cell) and column of the records, joined by a space -> scores of the slice."""


def by_hand(metric: Any, batch: Batch, draws: dict[str, SampleRng]) -> Scores:
    """The metric's and the attack's own work on one slice."""
    scores = {}
    with torch.no_grad():
        encoded = metric.encode(batch.ref)
        scores[" clean"] = metric.score(encoded, batch.dist)
        scores[" pristine"] = metric.score(encoded, batch.ref)
        scores[" attacked_8bit"] = metric.score(encoded, torch.round(batch.dist * 255) / 255)
    for direction, sign in (("up", 1.0), ("down", -1.0)):
        noise = draws[direction].uniform(*batch.dist.shape[1:], low=-1.0) * EPS
        images = projected(batch.dist + noise, batch.dist)
        for _ in range(STEPS):
            leaf = images.requires_grad_(True)
            (slope,) = torch.autograd.grad((sign * metric.score(encoded, leaf)).sum(), leaf)
            images = projected(images.detach() + STEP_SIZE * slope.sign(), batch.dist)
        with torch.no_grad():
            clean, attacked = scores[" clean"], metric.score(encoded, images)
            worse = sign * attacked - sign * clean < 0
            images = torch.where(worse.view(-1, 1, 1, 1), batch.dist, images)
            scores[f"{direction} attacked"] = torch.where(worse, clean, attacked)
            scores[f"{direction} attacked_8bit"] = metric.score(encoded, torch.round(images * 255) / 255)
    return scores


def projected(images: Tensor, centre: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(images, centre - EPS), centre + EPS).clamp(0, 1)


def by_engine(worker: Worker, block: Block) -> None:
    done = worker.execute(BlockJob(block))
    if done.failed or done.cells != len(block.cells):
        sys.exit(f"the engine failed: {[failure.message for failure in worker.store.failures()]}")


def recorded(store: RunFolder, block: Block) -> Scores:
    """What the engine wrote of a block, by the names that `by_hand` uses."""
    scores = {}
    for cell in block.cells:
        table = store.read_records(cell.id, block.slice)
        for column in ("clean", "pristine", "attacked", "attacked_8bit"):
            scores[f"{cell.endpoint} {column}"] = torch.tensor(table.column(column).to_pylist())
    return scores


def timed(work: Callable[[], Any]) -> Seconds:
    """CPU and wall-clock seconds."""
    began, spent = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - spent, time.perf_counter() - began


class Meter:
    """CPU seconds of each part of the engine, those of the parts inside it taken off."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner = [0.0]

    def measured(self, part: str, function: Any) -> Any:
        """The function, measured as a part."""

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.process_time() - began
                self.seconds[part] += taken - self._inner.pop()
                self.calls[part] += 1
                self._inner[-1] += taken

        return measured


METRIC, ATTACK, FREEING = "the metric", "the attack", "freeing the metric's graphs"
LOADING, BEST, LEDGER = "reading, decoding, checking images", "best image of the budget", "counting evaluations"
CHECKS, RECORDS, WRITING, REST = "checks", "records", "writing them", "the rest: copies, sums, facts, generators"
OWN = (METRIC, ATTACK, FREEING)
OVERHEAD = (LOADING, BEST, LEDGER, CHECKS, RECORDS, WRITING, REST)


@contextlib.contextmanager
def taken_apart(meter: Meter, metric: type, attack: type) -> Iterator[None]:
    """Measure the engine's parts for a while."""
    scoring, batch, scorer = harness.engine.score_batch, harness.engine.attack_batch, harness.engine.scorer
    objective = harness.engine.objective.ScorerObjective
    parts: dict[str, list[tuple[Any, str]]] = {
        METRIC: [(metric, "encode"), (metric, "score"), (torch.autograd, "grad")],
        ATTACK: [(attack, "perturb")],
        FREEING: [(objective, "_gradient")],
        LOADING: [(harness.engine.worker, "load_batches")],
        BEST: [(objective, "_remember")],
        LEDGER: [(objective, "_count")],
        CHECKS: [
            *((batch, name) for name in ("check_images", "refuse_nan", "within")),
            (scoring, "refuse_nan"),
            (scorer, "check_scores"),
        ],
        RECORDS: [(scoring.Scoring, "records")],
        WRITING: [(RunFolder, "write_block")],
        REST: [(Worker, "execute"), (objective, "_evaluate"), (scorer.Scorer, "quality")],
    }
    with contextlib.ExitStack() as stack:
        for part, places in parts.items():
            for place, name in places:
                stack.enter_context(mock.patch.object(place, name, meter.measured(part, getattr(place, name))))
        yield


class Bench:
    """A worker whose run folder knows everything but the blocks, and what the same blocks need by hand.

    Args:
        folder: Where the run folder goes.
    """

    def __init__(self, folder: Path) -> None:
        self.registry = Registry()
        self.suite = validate(parse_text(SUITE, "overhead.yaml"), self.registry)
        self.plan = make_plan(self.suite, self.registry)
        self.blocks = self.plan.blocks({})
        self.worker = Worker(Context(folder, (), self.suite.seed, self.suite.slice_size, "cpu"))
        self.worker.store.open(self.suite)
        for fact in self.plan.facts:
            self.worker.execute(FactJob(fact))
        self.metric = default_metric("birqa-tiny", self.registry, self.worker.device)
        # A data set of its own, so that the engine finds no image decoded.
        self.dataset = self.registry.dataset("mini").build({})

    def prepared(self, block: Block) -> Callable[[], Scores]:
        """The work by hand, ready to begin; images that the cache does not have are made."""
        size = self.suite.slice_size
        entries = self.plan.entries[block.split.key][block.slice * size : (block.slice + 1) * size]
        (batch,) = load_batches(self.dataset, entries, self.worker.device)
        draws = {way: SampleRng.for_samples(self.suite.seed, batch.ids, "pgd") for way in ("up", "down")}
        return lambda: by_hand(self.metric, batch, draws)

    def compared(self, block: Block, *, engine_first: bool) -> tuple[Seconds, Seconds]:
        """CPU and wall-clock seconds by hand, and by the engine."""
        work, scores = self.prepared(block), {}
        jobs = [lambda: scores.update(work()), lambda: by_engine(self.worker, block)]
        order = reversed(jobs) if engine_first else jobs
        taken = [timed(job) for job in order]
        written = recorded(self.worker.store, block)
        wrong = [name for name, values in scores.items() if not torch.equal(values, written[name])]
        if wrong:
            sys.exit(f"{block.label}: by hand and engine differ in {', '.join(wrong)}")
        hand, engine = reversed(taken) if engine_first else taken
        return hand, engine

    def metered(self, block: Block) -> Meter:
        """The engine taken apart."""
        meter = Meter()
        with taken_apart(meter, type(self.metric), self.registry.attack("pgd").cls):
            by_engine(self.worker, block)
        return meter


def show_ratio(pairs: Sequence[tuple[Seconds, Seconds]]) -> None:
    print(f"{'':6}{'by hand':>12}{'engine':>12}{'ratio':>10}   quartiles")
    overhead = []
    for i, clock in enumerate(("CPU", "wall")):
        low, middle, high = statistics.quantiles((e[i] / h[i] for h, e in pairs), n=4, method="inclusive")
        hand, engine = (statistics.median(seconds[i] for seconds in column) for column in zip(*pairs, strict=True))
        print(f"{clock:6}{hand:10.3f} s{engine:10.3f} s{middle:10.4f}   {low:.4f} to {high:.4f}")
        overhead.append(f"{100 * (middle - 1):.1f} % ({clock})")
    print(f"overhead {', '.join(overhead)}\n")


def show_parts(meters: Sequence[Meter]) -> None:
    median = {part: statistics.median(m.seconds[part] for m in meters) for part in (*OWN, *OVERHEAD)}
    own = sum(median[part] for part in OWN)
    print("the engine taken apart             CPU ms   % of the first three")
    for part, seconds in (*median.items(), ("all but the first three", sum(median[part] for part in OVERHEAD))):
        print(f"{part:34}{1000 * seconds:7.1f}{100 * seconds / own:9.2f}")
    calls = 1 + 3 + 2 * (2 * STEPS + 2)
    print(f"calls of the metric, forward and backward: {max(m.calls[METRIC] for m in meters)}, by hand {calls}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "run")
        first, *blocks = bench.blocks[: 2 * count + 1]
        for block in blocks[count:]:
            bench.prepared(block)
        bench.compared(first, engine_first=False)
        pairs = [bench.compared(block, engine_first=turn % 2 == 1) for turn, block in enumerate(blocks[:count])]
        meters = [bench.metered(block) for block in blocks[count:]]
    print(f"{count} blocks of {bench.suite.slice_size} images, medians")
    show_ratio(pairs)
    show_parts(meters)


if __name__ == "__main__":
    main()
