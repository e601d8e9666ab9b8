"""How often do 95 % intervals hold the true value? A study on made-up data sets whose true figures are known.

python benchmarks/coverage.py                            # 1,000 trials, 5 to 80 clusters, four designs
python benchmarks/coverage.py --trials 100 --clusters 8  # a look
python benchmarks/coverage.py --figures "SROCC less another's"  # that of the ranks table alone

A trial draws C clusters of about eight images and computes every kind of figure that the tables have. Its interval is
that of `harness.statistics.intervals`; beside it stand the percentile interval of the cluster bootstrap, which the
tables had before, BCa, and the jackknife's standard error with Student's t. The true figure is that of 60,000
clusters of the same design. About fifteen minutes on a free CPU core.

Designs. Opinions are uniform. Quality is the opinion plus an offset of the cluster (what makes images of one
reference dependent, sd .2) plus noise (sd .15); attacks push by lognormal amounts whose scale is the cluster's own.
Another metric, whose SROCC is compared with the first's, has an offset of its own and more noise (sd .25).
`offsets`: as said. `none`: clusters make no difference. `heavy`: offsets and noise have Student's t with 3 degrees of
freedom, cut off at 4 sd. `unequal`: as `offsets`, with 5 to 20 images in a cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy import special

from harness.statistics import pairs, robustness
from harness.statistics.bootstrap import Floats, Ints, resampled_mean, weightings
from harness.statistics.correlation import OpinionRanks, srocc
from harness.statistics.intervals import Scale, interval

DESIGNS = ("offsets", "none", "heavy", "unequal")
CLUSTERS = (5, 8, 10, 25, 80)
SIZES = {"unequal": (20, 16, 15, 15, 10, 10, 5, 5)}
"""Images of the eight photographs in the first 96 of `mini`; repeated where there are more clusters."""
RESAMPLES = 250
"""For the percentile and BCa intervals; the noise of their ends averages out over trials."""
POPULATION = 60_000

Figure = tuple[float, Floats]
Sample = Mapping[str, Floats]
Ends = tuple[float, float]

FIGURES: Mapping[str, Scale] = {
    "SROCC": "correlation",
    "SROCC attacked": "correlation",
    "change of SROCC": "plain",
    "SROCC less another's": "plain",
    "pair accuracy": "share",
    "robust pair accuracy": "share",
    "shift/σ": "plain",
    "excess/σ": "plain",
    "2AFC": "share",
    "2AFC near 1": "share",
    "R-score": "plain",
}


COLUMNS = (
    *("design", "clusters", "figure", "interval", "true", "bias", "bootstrap_bias"),
    *("coverage", "true_below", "true_above", "mean_width", "trials"),
)


def draw(design: str, clusters: int, rng: np.random.Generator) -> tuple[Ints, Sample]:
    """Cluster of each image, and what is known of it."""
    sizes = np.resize(SIZES.get(design, (8,)), clusters)
    codes = np.repeat(np.arange(clusters), sizes)

    def noise(count: int, sd: float) -> Floats:
        drawn = rng.standard_t(3, count) / np.sqrt(3) if design == "heavy" else rng.normal(size=count)
        return np.asarray(sd * np.clip(drawn, -4, 4))

    def own(sd: float) -> Floats:
        return noise(clusters, 0 if design == "none" else sd)[codes]

    opinion = np.round(rng.uniform(size=len(codes)), 2)
    clean = opinion + own(0.2) + noise(len(codes), 0.15)
    yielding = np.exp(own(0.5))
    raised = clean + 0.3 * yielding * np.exp(noise(len(codes), 0.3))
    lowered = clean - 0.3 * np.exp(own(0.5)) * np.exp(noise(len(codes), 0.3))
    restored = clean + 0.15 * yielding * np.exp(noise(len(codes), 0.3))
    scaled = np.clip((clean + 0.5) / 2, 0, 1)
    return codes, {
        "opinion": opinion,
        "clean": clean,
        "raised": raised,
        "lowered": lowered,
        "restored": restored,
        "split": np.where(opinion <= 0.5, raised, lowered),
        "credit": (rng.uniform(size=len(codes)) < special.expit(1 + own(1.0))).astype(np.float64),
        "credit near 1": (rng.uniform(size=len(codes)) < special.expit(3.5 + own(1.0))).astype(np.float64),
        "robustness": np.log10(np.maximum(1 - scaled, scaled) / (np.abs(raised - clean) / 2 + 1e-6)),
        "other": opinion + own(0.2) + noise(len(codes), 0.25),
    }


def figures(codes: Ints, data: Sample, m: Ints, wanted: Collection[str]) -> dict[str, Figure]:
    """The figures wanted of a sample, and under each row of multiplicities."""
    ranks = OpinionRanks(data["opinion"], codes, m)

    def correlation(name: str) -> Figure:
        return srocc(data[name], data["opinion"]), ranks.srocc(data[name])

    def less(name: str, other: str) -> Figure:
        (value, spread), (minus, minus_spread) = correlation(name), correlation(other)
        return value - minus, spread - minus_spread

    def accuracy(better: str, worse: str) -> Figure:
        counts = pairs.pair_counts(data["opinion"], data[better], data[worse], codes, m.shape[1])
        return counts.accuracy(), counts.resampled(m)

    def over_sigma(more: str, less: str) -> Figure:
        values = data[more] - data[less]
        shift = robustness.mean_over_sigma(values, data["clean"])
        return shift, robustness.resampled_mean_over_sigma(values, data["clean"], codes, m)

    def mean(name: str) -> Figure:
        return float(data[name].mean()), resampled_mean(data[name], codes, m)

    makers: dict[str, Callable[[], Figure]] = {
        "SROCC": lambda: correlation("clean"),
        "SROCC attacked": lambda: correlation("split"),
        "change of SROCC": lambda: less("split", "clean"),
        "SROCC less another's": lambda: less("clean", "other"),
        "pair accuracy": lambda: accuracy("clean", "clean"),
        "robust pair accuracy": lambda: accuracy("lowered", "raised"),
        "shift/σ": lambda: over_sigma("raised", "clean"),
        "excess/σ": lambda: over_sigma("raised", "restored"),
        "2AFC": lambda: mean("credit"),
        "2AFC near 1": lambda: mean("credit near 1"),
        "R-score": lambda: mean("robustness"),
    }
    return {name: make() for name, make in makers.items() if name in wanted}


def truth(design: str) -> dict[str, float]:
    """The figures of a very large sample; pairs are then of two clusters, and so many are drawn that it matters not."""
    rng = np.random.default_rng(99)
    codes, data = draw(design, POPULATION, rng)
    known = {
        "SROCC": srocc(data["clean"], data["opinion"]),
        "SROCC attacked": srocc(data["split"], data["opinion"]),
        "shift/σ": robustness.shift_over_sigma(data["clean"], data["raised"]),
        "excess/σ": robustness.mean_over_sigma(data["raised"] - data["restored"], data["clean"]),
        "2AFC": float(data["credit"].mean()),
        "2AFC near 1": float(data["credit near 1"].mean()),
        "R-score": float(data["robustness"].mean()),
    }
    right, total = np.zeros(2), 0
    for _ in range(20):
        other = rng.permutation(len(codes))
        pair = (data["opinion"] > data["opinion"][other]) & (codes != codes[other])
        right[0] += pairs.credit(data["clean"], data["clean"][other])[pair].sum()
        right[1] += pairs.credit(data["lowered"], data["raised"][other])[pair].sum()
        total += int(pair.sum())
    known |= {"pair accuracy": right[0] / total, "robust pair accuracy": right[1] / total}
    other = srocc(data["other"], data["opinion"])
    return known | {
        "change of SROCC": known["SROCC attacked"] - known["SROCC"],
        "SROCC less another's": known["SROCC"] - other,
    }


def studentised(value: float, spread: Floats, clusters: int, scale: Scale) -> Ends:
    found = interval(value, spread, clusters, scale)
    return found.low, found.high


def percentile(_: float, spread: Floats, clusters: int, __: Scale) -> Ends:
    low, high = np.nanpercentile(spread[clusters:], [2.5, 97.5])
    return float(low), float(high)


def bca(value: float, spread: Floats, clusters: int, _: Scale) -> Ends:
    """Bias-corrected and accelerated percentiles (Efron & Tibshirani 1993, section 14.3)."""
    out, drawn = spread[:clusters], spread[clusters:]
    drawn = drawn[~np.isnan(drawn)]
    below = float(np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    shift = special.ndtri(np.clip(below, 1e-3, 1 - 1e-3))
    away = out.mean() - out
    acceleration = (away**3).sum() / max(6 * (away**2).sum() ** 1.5, 1e-30)
    moved = shift + special.ndtri([0.025, 0.975])
    low, high = np.quantile(drawn, special.ndtr(shift + moved / (1 - acceleration * moved)))
    return float(low), float(high)


def jackknife(value: float, spread: Floats, clusters: int, scale: Scale) -> Ends:
    """Standard error of the jackknife times Student's t, on Fisher's z for correlations."""
    out = spread[:clusters]
    centre = value
    if scale == "correlation":
        centre, out = float(np.arctanh(value)), np.arctanh(np.clip(out, -1 + 1e-6, 1 - 1e-6))
    half = float(special.stdtrit(clusters - 1, 0.975) * np.sqrt((clusters - 1) * np.var(out)))
    ends = centre - half, centre + half
    return (float(np.tanh(ends[0])), float(np.tanh(ends[1]))) if scale == "correlation" else ends


METHODS: Mapping[str, Callable[[float, Floats, int, Scale], Ends]] = {
    "studentised": studentised,
    "percentile": percentile,
    "bca": bca,
    "jackknife t": jackknife,
}


def study(
    design: str, clusters: int, trials: int, true: Mapping[str, float], wanted: Collection[str]
) -> Iterator[dict[str, object]]:
    """A row for every figure and kind of interval."""
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    ends: dict[tuple[str, str], list[Ends]] = {(name, method): [] for name in wanted for method in METHODS}
    for trial in range(trials):
        codes, data = draw(design, clusters, np.random.default_rng([clusters, trial]))
        m = weightings(np.arange(clusters), RESAMPLES, trial)
        for name, (value, spread) in figures(codes, data, m, wanted).items():
            points[name].append((value, float(np.nanmean(spread[clusters:])) - value))
            for method, make in METHODS.items():
                ends[name, method].append(make(value, spread, clusters, FIGURES[name]))
    for (name, method), found in ends.items():
        low, high = np.array(found).T
        value, bias = np.array(points[name]).T
        known = ~np.isnan(low)
        below, above = np.mean(true[name] < low[known]), np.mean(true[name] > high[known])
        yield {
            "design": design,
            "clusters": clusters,
            "figure": name,
            "interval": method,
            "true": f"{true[name]:.4f}",
            "bias": f"{value.mean() - true[name]:+.4f}",
            "bootstrap_bias": f"{bias.mean():+.4f}",
            "coverage": f"{100 * (1 - below - above):.1f}",
            "true_below": f"{100 * below:.1f}",
            "true_above": f"{100 * above:.1f}",
            "mean_width": f"{np.mean((high - low)[known]):.3f}",
            "trials": int(known.sum()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTERS)
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=DESIGNS)
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--out", type=Path, help="a CSV file; by default the rows are printed")
    chosen = parser.parse_args()
    known = {design: truth(design) for design in chosen.designs}
    with (
        chosen.out.open("w", newline="", encoding="utf-8") if chosen.out else contextlib.nullcontext(sys.stdout) as file
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for clusters, design in itertools.product(chosen.clusters, chosen.designs):
            writer.writerows(study(design, clusters, chosen.trials, known[design], chosen.figures))
            file.flush()


if __name__ == "__main__":
    main()
