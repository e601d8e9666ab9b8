"""Is BiRQA at stem stride 8 as accurate as at stride 4? Both presets trained alike, compared on validation.

python benchmarks/stride.py --out results/runs/stride                                    # the embedded data set
python benchmarks/stride.py --out results/runs/stride --tid2013 FOLDER                   # and people's opinions

1,000 steps of batch 8 on 96 px crops, seeds 0, 1, 2, from scratch; each pair of trainings sees the same batches. On
TID2013 (types 8, 16, 17, references 1 to 24) a seed also draws the split by reference, 6:2:2. The weights of the best
validation are compared on that validation split, so both sides are chosen alike. The test split is not touched.

The difference is the mean over seeds of SROCC at stride 8 minus SROCC at stride 4. Its 95 % interval resamples seeds,
and within each seed references, 1,000 times. Equivalent means: the interval lies within -.01 to .01. A killed command
goes on. About half an hour a data set on a free CPU core.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from harness.contracts import Dataset, Entry
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve
from harness.statistics.bootstrap import cluster_codes, cluster_multiplicities, sample_weights
from harness.statistics.correlation import srocc, weighted_srocc
from harness.training import train

SEEDS = (0, 1, 2)
STRIDES = (8, 4)
MARGIN = 0.01
RESAMPLES = 1000


def data_use(name: str, root: str, seed: int) -> dict[str, object]:
    """A data set as a recipe file names it."""
    if name == "mini":
        return {"name": "mini"}
    return {
        "name": "tid2013", "root": root, "types": [8, 16, 17], "references": list(range(1, 25)), "split_seed": seed,
    }  # fmt: skip


def weights_of(folder: Path, name: str, data: dict[str, object], stride: int, seed: int) -> Path:
    """The weight file of one training, which is made if it is not there."""
    label = f"{name}-s{stride}-seed{seed}"
    path = folder / f"{label}.safetensors"
    if path.is_file():
        return path
    recipe = {
        "name": label,
        "metric": {"name": "birqa", "stride": stride},
        "dataset": data,
        "recipe": {"name": "clean", "alpha": 0.7, "warm": 0.3},
        "steps": 1000,
        "batch": 8,
        "learning_rate": 3e-4,
        "crop": 96,
        "seed": seed,
        "evaluate_every": 250,
        "cache_images": 8000,
        "output": str(path.with_suffix("")),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{label}.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    train(file, folder / "runs" / label)
    return path


def scores(path: Path, stride: int, data: Dataset, entries: Sequence[Entry]) -> list[float]:
    """Scores of a trained metric, one image at a time."""
    metric = Registry().metric("birqa").build({"stride": stride})
    file = resolve("birqa", str(path), None)
    assert file is not None
    load(metric, file)
    metric.eval()
    with torch.no_grad():
        pairs = (data.load(entry) for entry in entries)
        return [float(metric(ref=pair["ref"][None], dist=pair["dist"][None])[0]) for pair in pairs]


def lines(name: str, folder: Path, root: str) -> Iterator[str]:
    """What the comparison on one data set gave."""
    rng = np.random.default_rng(0)
    differences, resampled = [], []
    for seed in SEEDS:
        use = data_use(name, root, seed)
        data = Registry().dataset(str(use["name"])).build({key: value for key, value in use.items() if key != "name"})
        entries = list(data.entries("val"))
        opinions = [entry.opinion for entry in entries]
        codes, count = cluster_codes([entry.reference_id for entry in entries])
        copies = sample_weights(
            cluster_multiplicities([entry.reference_id for entry in entries], RESAMPLES, seed), codes
        )
        found, spread = {}, {}
        for stride in STRIDES:
            predicted = scores(weights_of(folder, name, use, stride, seed), stride, data, entries)
            found[stride], spread[stride] = srocc(predicted, opinions), weighted_srocc(predicted, opinions, copies)
        differences.append(found[8] - found[4])
        resampled.append(spread[8] - spread[4])
        yield (
            f"  seed {seed}: stride 8 {found[8]:.4f}, stride 4 {found[4]:.4f}, difference {differences[-1]:+.4f} "
            f"({len(entries)} images, {count} references)"
        )
    drawn = rng.integers(len(SEEDS), size=(RESAMPLES, len(SEEDS)))
    means = np.array([[resampled[s][b] for s in row] for b, row in enumerate(drawn)]).mean(axis=1)
    low, high = np.nanpercentile(means, [2.5, 97.5])
    verdict = "equivalent" if low > -MARGIN and high < MARGIN else "not shown to be equivalent"
    yield (
        f"  mean {statistics.mean(differences):+.4f}, 95 % interval {low:+.4f} to {high:+.4f}: "
        f"{verdict} within {MARGIN}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of weights and training runs")
    parser.add_argument("--tid2013", default="", metavar="FOLDER", help="folder that holds mos_with_names.txt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("mini", "human") if options.tid2013 else ("mini",):
        print(f"{name}: validation SROCC, BiRQA at stem stride 8 and 4")
        for line in lines(name, options.out, options.tid2013):
            print(line, flush=True)


if __name__ == "__main__":
    main()
