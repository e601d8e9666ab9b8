"""What the engine adds to a block: PGD-10 on birqa-tiny, 8 images of 128 px, up and down, next to the same work by hand.

python benchmarks/overhead.py            # nine repetitions
python benchmarks/overhead.py 25

Both do one block on one thread in float32: the clean cell, and PGD in both directions at 8/255. A repetition does the
next slice of `mini`, first one way then the other, the order changing from one to the next; the share is taken within
it, so what slows the machine down for a while slows both.

*By hand* is the metric's and the attack's own tensor work, and nothing is done twice: the reference is encoded once;
each direction draws its start, makes ten forwards with backwards to the image, ten updates and their projections;
and each image that the protocol wants a score of is scored once: distorted, reference against itself, attacked, and
the 8-bit versions of distorted and attacked. Images, weights and generators are there before its clock starts.

*The engine* is `Worker.execute`. All it does beyond that is overhead: reading, decoding and checking images, looking
up facts, generators, counting evaluations, finding the best image of the budget, projecting what the attack returned,
keeping the better of result and start, checks of what plugins return, records, writing them, and any image it scores
more than once. Both must arrive at the same scores, to the bit.

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import harness.batches
import harness.evaluate
import harness.objective
import harness.scorer
import harness.worker
from harness.batches import Batch, load_batches
from harness.contracts import SampleRng
from harness.located import parse_text
from harness.plan import Block, make_plan
from harness.registry import Registry
from harness.resolve import validate
from harness.store import RunFolder
from harness.worker import Context, Worker

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
        low, high = batch.dist - EPS, batch.dist + EPS
        images = batch.dist + draws[direction].uniform(*batch.dist.shape[1:], low=-1.0) * EPS
        images = images.maximum(low).minimum(high).clamp(0, 1)
        for _ in range(STEPS):
            leaf = images.requires_grad_(True)
            (slope,) = torch.autograd.grad((sign * metric.score(encoded, leaf)).sum(), leaf)
            images = (images.detach() + STEP_SIZE * slope.sign()).maximum(low).minimum(high).clamp(0, 1)
        with torch.no_grad():
            scores[f"{direction} attacked"] = metric.score(encoded, images)
            scores[f"{direction} attacked_8bit"] = metric.score(encoded, torch.round(images * 255) / 255)
    return scores


def by_engine(worker: Worker, block: Block) -> None:
    done = worker.execute(block)
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


def timed(work: Callable[[], Any]) -> tuple[float, float]:
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


METRIC, ATTACK = "the metric", "the attack"
LOADING, BEST, LEDGER = "reading, decoding, checking images", "best image of the budget", "counting evaluations"
CHECKS, RECORDS, WRITING, REST = "checks", "records", "writing them", "the rest (clones, sums, facts, generators, glue)"
OVERHEAD = (LOADING, BEST, LEDGER, CHECKS, RECORDS, WRITING, REST)


@contextlib.contextmanager
def taken_apart(meter: Meter, metric: type, attack: type) -> Iterator[None]:
    """Measure the engine's parts for a while."""
    engine, objective = harness.evaluate, harness.objective.ScorerObjective
    parts = [
        (METRIC, [(metric, "encode"), (metric, "score"), (torch.autograd, "grad")]),
        (ATTACK, [(attack, "perturb")]),
        (LOADING, [(harness.worker, "load_batches")]),
        (BEST, [(objective, "_remember")]),
        (LEDGER, [(objective, "_count")]),
        (CHECKS, [(place, name) for place, name in _CHECKS if hasattr(place, name)]),
        (RECORDS, [(engine.BlockRun, "_records")]),
        (WRITING, [(RunFolder, "write_records")]),
        (REST, [(Worker, "execute"), (objective, "gradient"), (harness.scorer.Scorer, "quality")]),
    ]
    with contextlib.ExitStack() as stack:
        for part, places in parts:
            for place, name in places:
                stack.enter_context(mock.patch.object(place, name, meter.measured(part, getattr(place, name))))
        yield


_CHECKS = (
    (harness.scorer, "check_scores"),
    (harness.scorer, "check_images"),
    (harness.evaluate, "check_images"),
    (harness.evaluate, "refuse_nan"),
    (harness.evaluate, "within"),
)


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry()
        suite = validate(parse_text(SUITE, "overhead.yaml"), registry)
        plan = make_plan(suite, registry)
        worker = Worker(Context(Path(folder) / "run", (), suite.seed, suite.slice_size, "cpu"))
        worker.store.open(suite)
        for fact in plan.facts:
            worker.execute(fact)
        blocks = plan.blocks({})[: 2 * repetitions + 1]
        if len(blocks) < 2 * repetitions + 1:
            sys.exit(f"{repetitions} repetitions need {2 * repetitions + 1} slices; the split has {len(blocks)}")
        # A data set of its own, so that the engine finds no image decoded.
        images = registry.dataset("mini").build({})
        metric = harness.worker.default_metric("birqa-tiny", registry, worker.device)
        attack = registry.attack("pgd").cls

        def prepared(block: Block) -> Callable[[], Scores]:
            start = block.slice * suite.slice_size
            (batch,) = load_batches(images, plan.entries[block.split.key][start : start + suite.slice_size], worker.device)
            draws = {way: SampleRng.for_samples(suite.seed, batch.ids, "pgd", "cpu") for way in ("up", "down")}
            return lambda: by_hand(metric, batch, draws)

        for block in blocks:
            prepared(block)  # images are made when first asked for, which is no part of a block
        by_engine(worker, blocks[0])
        expected = prepared(blocks[0])()
        written = recorded(worker.store, blocks[0])
        wrong = [name for name, scores in expected.items() if not torch.equal(scores.double(), written[name].double())]
        if wrong:
            sys.exit(f"by hand and engine differ in: {', '.join(wrong)}")

        hand, engine = [], []
        for turn, block in enumerate(blocks[1 : repetitions + 1]):
            floor = prepared(block)
            if turn % 2:
                engine.append(timed(lambda block=block: by_engine(worker, block)))
            hand.append(timed(floor))
            if not turn % 2:
                engine.append(timed(lambda block=block: by_engine(worker, block)))

        meters = []
        for block in blocks[repetitions + 1 :]:
            meters.append(Meter())
            with taken_apart(meters[-1], type(metric), attack):
                by_engine(worker, block)

    print(f"{repetitions} blocks of {suite.slice_size} images; medians, and quartiles of the ratio\n")
    print(f"{'':6}{'by hand':>12}{'engine':>12}{'ratio':>10}")
    over = {}
    for i, clock in enumerate(("CPU", "wall")):
        ratios = [e[i] / h[i] for e, h in zip(engine, hand, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        over[clock] = 100 * (middle - 1)
        seconds = [statistics.median(row[i] for row in rows) for rows in (hand, engine)]
        print(f"{clock:6}{seconds[0]:10.3f} s{seconds[1]:10.3f} s{middle:10.4f}   ({low:.4f} to {high:.4f})")
    print(f"\noverhead {over['CPU']:.1f} % (CPU), {over['wall']:.1f} % (wall)\n")

    median = {part: statistics.median(m.seconds[part] for m in meters) for part in (METRIC, ATTACK, *OVERHEAD)}
    own = median[METRIC] + median[ATTACK]
    print(f"the engine taken apart, CPU ms of {len(meters)} blocks (median)      share of the first two")
    for part, seconds in median.items():
        print(f"  {part:50}{1000 * seconds:9.2f}{100 * seconds / own:9.2f} %")
    added = sum(median[part] for part in OVERHEAD)
    print(f"  {'all but the first two':50}{1000 * added:9.2f}{100 * added / own:9.2f} %")
    print(f"calls of the metric: {meters[0].calls[METRIC]}, by hand {1 + 3 + 2 * (2 * STEPS + 2)}")


if __name__ == "__main__":
    main()
