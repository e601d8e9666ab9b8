"""What a slice cannot know: clean quality on the calibration samples, and what an attack learns before it attacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import (
    Attack,
    DataError,
    Entry,
    SampleRng,
)
from harness.engine.attack_batch import Tools
from harness.engine.batches import Batch, SampleError, blame, blaming, not_finite, refuse_nan, split_batches, too_large
from harness.engine.memory import out_of_memory, release
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.suite.plan import CALIBRATION_SAMPLES, Fact, Fit

Load = Callable[[Sequence[Entry]], list[Batch]]


def compute_fact(
    fact: Fact,
    entries: Sequence[Entry],
    load: Load,
    scorer: Scorer,
    seed: int,
    device: torch.device,
    slice_size: int = 8,
    told: Callable[[str], None] = lambda text: None,
    took: Callable[[int, float, float], None] = lambda images, seconds, cpu: None,
) -> dict[str, Any]:
    """Clean qualities of a scorer on the calibration samples, with range, spread, median and line to the opinions.

    Args:
        fact: What to compute.
        entries: Entries of its split in hash order.
        load: Gives the batches of some entries.
        scorer: The scorer.
        seed: Root seed of a randomised scorer's draws.
        device: Where to score.
        slice_size: Batch size.
        told: Hears how far it is.
        took: Hears of each batch its images, and seconds of scoring it: by the clock, and of this process.

    Raises:
        SampleError: A score is not finite.
    """
    chosen = list(entries[:CALIBRATION_SAMPLES])
    ids: list[str] = []
    quality: list[float] = []
    opinion: list[float | None] = []
    for start in range(0, len(chosen), slice_size):
        told(f"{start} of {len(chosen)} samples")
        for batch in load(chosen[start : start + slice_size]):
            began, computed = time.perf_counter(), time.process_time()
            values = _clean_quality(fact, batch, scorer, seed, device)
            refuse_nan(
                batch,
                values,
                not_finite(fact.scorer.label, scorer, "a clean image"),
            )
            ids += batch.ids
            quality += values.tolist()
            took(len(batch.items), time.perf_counter() - began, time.process_time() - computed)
            opinion += [item.entry.opinion for item in batch.items]
    return {
        "split": fact.split.label,
        "scorer": fact.scorer.label,
        "items": ids,
        "quality": quality,
        **summarise(np.array(quality), opinion),
    }


def _clean_quality(fact: Fact, batch: Batch, scorer: Scorer, seed: int, device: torch.device) -> Tensor:
    """Clean quality of a batch; in halves where memory is too short for all of it."""
    try:
        with torch.no_grad(), blaming(lambda error: blame(scorer, batch, error, fact.scorer.label, seed)):
            rng = SampleRng.for_samples(seed, batch.samples, "defense/score/0", device)
            return scorer.quality(scorer.encode(batch.ref, rng), batch.dist)
    except DataError as error:
        raise SampleError(batch.ids[0], str(error), bad_input=True) from error
    except Exception as error:
        if not out_of_memory(error):
            raise
        if len(batch.items) == 1:
            raise SampleError(batch.ids[0], too_large(batch)) from error
    release()
    halves = split_batches([batch], len(batch.items) // 2)
    return torch.cat([_clean_quality(fact, half, scorer, seed, device) for half in halves])


def summarise(quality: np.ndarray[Any, Any], opinion: Sequence[float | None]) -> dict[str, Any]:
    """Range, standard deviation and median of clean quality, and its least-squares line to the opinions."""
    known = np.array([o is not None for o in opinion], dtype=bool)
    line: list[float] | None = None
    if known.sum() > 2 and quality[known].std() > 0:
        values = np.array([o for o in opinion if o is not None])
        line = [float(c) for c in np.polyfit(quality[known], values, 1)]
    return {
        "range": float(np.ptp(quality)),
        "std": float(quality.std()),
        "median": float(np.median(quality)),
        "line": line,
    }


def run_fit(
    fit: Fit, entries: Sequence[Entry], load: Load, scorer: Scorer, attack: Attack, tools: Tools, slice_size: int
) -> Mapping[str, Tensor]:
    """Let an attack learn on a split: endless shuffled batches, as many as it takes.

    Raises:
        SampleError: An image cannot be used.
    """
    rng = np.random.Generator(np.random.PCG64DXSM(int(fit.id, 16)))
    scale = float(tools.fact(fit.fact)["range"])

    total = attack.fit_batches()

    def batches() -> Iterator[tuple[ScorerObjective, Tensor]]:
        visit = 0
        while True:
            order = rng.permutation(len(entries))
            for start in range(0, len(order), slice_size):
                chosen = [entries[i] for i in order[start : start + slice_size]]
                for batch in load(chosen):
                    tools.tell(f"{visit} of {total} batches" if total else f"{visit} batches")
                    visit += 1
                    draws = SampleRng.for_samples(tools.seed, batch.samples, f"defense/fit/{visit}", tools.device)
                    sign = torch.full((len(batch.items),), float(fit.sign), device=tools.device)
                    yield (
                        ScorerObjective(
                            scorer,
                            batch.ref,
                            batch.dist,
                            sign,
                            None,
                            draws,
                            eot=fit.eot,
                            scale=scale,
                            build=tools.metric,
                        ),
                        batch.dist,
                    )

    return attack.fit(batches(), rng)
