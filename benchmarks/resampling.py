"""How long figures take that are found anew in 1,000 resamples, next to scipy and numpy doing it plainly.

python benchmarks/resampling.py

SROCC: ten metrics over 23,200 images of 200 references (PIPAL's public labels), without each reference and in 1,000
resamples of them, paired. Beside it `scipy.stats.spearmanr` of a few resamples written out, times their number.
Pair accuracy: 10,125 images of 81 references (KADID-10k), by clusters, beside numpy comparing floats row by row.
IR-Score: the table of 12 scorers under 4 attacks at 4 budgets on 2,000 images of 100 references, with the quantile map;
beside it the same means of a few resamples written out, times their number.
SROCC and pair accuracy must be the same either way. Processor seconds of one thread; memory is the peak above what was
there before.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from measured import peak_memory
from scipy.stats import spearmanr

from harness.engine.record import EVERY_NAME
from harness.report.arrays import lay_out
from harness.report.data import DatasetFacts, RunData
from harness.report.tables.ir_score import ir_score_table
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


def attacked_run(scorers: int, attacks: int, images: int, references: int) -> RunData:
    """Records of so many scorers under so many attacks upwards at the paper's budgets, and of a train split."""
    rng = np.random.default_rng(2)
    opinion = np.round(rng.uniform(size=images), 2)
    names = [f"image {number:04}" for number in range(images)]
    items = {"dataset": "made", "item": names, "sample": names, "opinion": opinion, "draw": 0, "control": False}
    items |= {"reference": [f"reference {number % references:03}" for number in range(images)], "threat": "none"}
    items |= {"norm": "", "eps": 0.0, "sign": 0, "endpoint": "", "attack": "clean", "plugin": "clean", "patch": ""}
    items |= {"group": "", "defense": "base", "torch": "", "device": "", "status": "ok", "seconds": 0.0}
    items["cluster"] = items["reference"]
    parts, learnt = [], []
    for scorer in range(scorers):
        clean = opinion + rng.normal(0, 0.1, images)
        who = {**items, "metric": f"metric {scorer}", "source": f"metric {scorer}", "clean": clean}
        parts.append(pd.DataFrame({**who, "attacked": clean, "pristine": 1.2}))
        learnt.append(pd.DataFrame({**who, "clean": opinion + rng.normal(0, 0.1, images), "attacked": clean}))
        for attack in range(attacks):
            for eps in (2, 4, 8, 10):
                moved = clean + 0.02 * eps * rng.uniform(0.5, 1.5, images)
                how = {"attack": f"attack {attack}", "plugin": "attack", "norm": "linf", "eps": eps / 255, "sign": 1}
                parts.append(pd.DataFrame({**who, **how, "endpoint": "up", "attacked": moved}))
    facts = DatasetFacts("made", "test", "human", "pairs", images, references, 0.5)
    records, train = (pd.concat(tables).reindex(columns=list(EVERY_NAME)) for tables in (parts, learnt))
    words: dict[str, Any] = {"name": "made", "seed": 0, "slice_size": 8, "limit": None, "versions": {}, "weights": {}}
    words |= {"medians": {}, "directions": ["up"], "tables": [], "notices": [], "failures": []}
    return RunData(records=records, datasets={"made": facts}, map_records=train, **words)


def integrals() -> None:
    scorers, attacks, images = 12, 4, 2000
    data = attacked_run(scorers, attacks, images, 100)
    (one,) = lay_out(data)
    began = time.thread_time()
    table = ir_score_table(data, one)
    spent = time.thread_time() - began
    assert table is not None and table.frame["mean_r"].notna().all()
    figures = scorers * (attacks + 2) * 6  # R at four budgets and both integrals, of each attack, all and their mean
    values = np.random.default_rng(0).normal(size=images)
    began = time.thread_time()
    for row in range(WRITTEN_OUT):
        np.repeat(values, one.multiplicities[-1 - row][one.codes]).mean()
    plainly = (time.thread_time() - began) / WRITTEN_OUT * len(one.multiplicities) * figures
    print(f"IR-Score, {scorers} scorers x {attacks} attacks x 4 budgets x {images} images: {spent:.1f} s")
    print(f"means of resamples written out, without the maps: {plainly:.0f} s, {plainly / spent:.1f} x as long")


if __name__ == "__main__":
    correlations()
    accuracy()
    integrals()
