"""How long figures take that are found anew in 1,000 resamples, next to scipy and numpy doing it plainly.

python benchmarks/resampling.py

SROCC: ten metrics over 23,200 images of 200 references (PIPAL's public labels), without each reference and in 1,000
resamples of them, paired. Beside it `scipy.stats.spearmanr` of a few resamples written out, times their number.
Pair accuracy: 10,125 images of 81 references (KADID-10k), by clusters, beside numpy comparing floats row by row.
Both must arrive at the same figures. Processor seconds of one thread; memory is the peak above what was there before.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from measured import peak_memory
from scipy.stats import spearmanr

from harness.statistics.bootstrap import Floats, Ints, weightings
from harness.statistics.correlation import OpinionRanks
from harness.statistics.pairs import OpinionPairs, PairCounts

METRICS, WRITTEN_OUT = 10, 5
"""Metrics, and resamples that scipy is given."""


def sample(images: int, references: int, seed: int) -> tuple[Floats, Ints, Floats]:
    """Opinions with ties, the reference of each image, and the quality by every metric [METRICS, images]."""
    rng = np.random.default_rng(seed)
    codes = np.resize(np.arange(references), images)
    opinion = np.round(rng.normal(size=images), 2)
    return opinion, codes, opinion + rng.normal(size=(METRICS, images))


def correlations() -> None:
    opinion, codes, qualities = sample(23_200, 200, 0)
    m = weightings(codes, 1000)
    ours: list[Floats] = []

    def run() -> None:
        ranks = OpinionRanks(opinion, codes, m)
        ours.extend(ranks.srocc(quality) for quality in qualities)

    began = time.thread_time()
    memory = peak_memory(run, torch.device("cpu"))
    spent = time.thread_time() - began
    began = time.thread_time()
    for row in range(WRITTEN_OUT):
        copies = m[-1 - row][codes]
        theirs = spearmanr(np.repeat(qualities[0], copies), np.repeat(opinion, copies)).statistic
        assert abs(theirs - ours[0][-1 - row]) < 1e-12
    plainly = (time.thread_time() - began) / WRITTEN_OUT * len(m) * METRICS
    print(f"SROCC, {METRICS} metrics x {len(m)} weightings x {len(opinion)} images: {spent:.1f} s, {memory:.0f} MiB")
    print(f"scipy.stats.spearmanr of resamples written out: {plainly:.0f} s, {plainly / spent:.0f} x as long")


def accuracy() -> None:
    opinion, codes, qualities = sample(10_125, 81, 1)
    lowered, raised = qualities[0] - 0.1, qualities[0] + 0.1
    pairs = OpinionPairs(opinion, codes, 81)
    began = time.thread_time()
    total = pairs.total
    shared = time.thread_time() - began
    counts: list[PairCounts] = []
    began = time.thread_time()
    memory = peak_memory(lambda: counts.append(pairs.counts(lowered, raised)), torch.device("cpu"))
    spent = time.thread_time() - began
    began = time.thread_time()
    right = sum(
        float(((opinion[i] > opinion) * ((lowered[i] > raised) + 0.5 * (lowered[i] == raised))).sum())
        for i in range(len(opinion))
    )
    plainly = time.thread_time() - began
    assert right == counts[0].correct.sum() and total.sum() == counts[0].total.sum()
    print(
        f"pair accuracy, {len(opinion)} images: {spent:.3f} s a row, {memory:.0f} MiB; {shared:.3f} s once for all rows"
    )
    print(f"numpy on floats, without the clusters: {plainly:.2f} s, {plainly / spent:.0f} x as long")


if __name__ == "__main__":
    correlations()
    accuracy()
