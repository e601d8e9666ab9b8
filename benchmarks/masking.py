"""Which verdict, or which probe, sees which planted masked metric; and how often honest metrics are suspected.

python benchmarks/masking.py planted --out results/runs/masking                        # one seed
python benchmarks/masking.py honest 1 2 3 4 5 --out results/runs/masking --lpips FOLDER   # five seeds

Ten images a seed, 64 px of the middle of `mini`'s test images of medium strength (enlarged to 192 px for ms_ssim), each
of another reference, and other images for every seed; `pgd` at 4/255 and 8/255, both ways, and what `verdicts: 10`
adds. *Before* are the seven verdicts of version 0.1 with the cells that it added (no transfer), *after* all twelve,
both with today's intervals, so that only the claims differ. Version 0.1 had narrower ones, and what is open here may
have failed or passed there. A probe is a rule of the contract that the metric breaks on made images, which is looked at
before any attack. A killed command goes on. Half a minute a metric and seed on a free core.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.flow import Options, RunResult, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

TOYS = Path(__file__).parents[1] / "tests" / "toys"
OLD = ("iterative", "black_box", "budget", "unbounded", "noise", "smoothed")
"""Of the seven verdicts of version 0.1 those that its added cells decided; transfers were the suite's to list."""
PLANTED = (
    "mse_backward", "constant_off_grid", "stochastic_rounding", "tiny_gradient", "saturating", "quantised",
    "noise_detector", "batch_relative", "call_counting", "flipped_near_start", "mixed_resolution", "detached_branch",
    "clipped", "fitted_backward", "shifted_off_grid",
)  # fmt: skip
HONEST = ("psnr", "ssim", "ms_ssim", "gmsd", "fsim", "lpips-alex", "birqa-tiny")
AGAINST = ("FAIL", "inconclusive")
IMAGES = 10

SUITE = """
name: masking
seed: {seed}
datasets: [{{name: mini_crops, split: test, size: 64, part: {part}, enlarge: {enlarge}}}]
metrics: [{metric}]
attacks: [pgd]
budgets: {{linf: [4/255, 8/255]}}
directions: [up, down]
limit: {images}
slice: {images}
tables: [verdicts]
verdicts: {images}
"""


def run(metric: str, seed: int, out: Path, lpips: str, registry: Registry, *, probe: bool) -> RunResult:
    """One metric on one seed's images; resumes."""
    use = f"{{name: {metric}, weights: {lpips}}}" if metric == "lpips-alex" and lpips else metric
    enlarge = 3 if metric == "ms_ssim" else 1
    text = SUITE.format(seed=seed, part=seed % 5, metric=use, enlarge=enlarge, images=IMAGES)
    folder = out / f"{metric}-{seed}"
    options = Options(out=folder, executor="serial", probe=probe)
    return run_suite(validate(parse_text(text, "suite.yaml"), registry), registry, options)


def planted(out: Path, metrics: Sequence[str], seed: int, registry: Registry) -> None:
    """The table of planted metrics, as Markdown."""
    print("| planted | before, with today's intervals | after: fails | inconclusive | probes |\n|---|---|---|---|---|")
    for metric in metrics:
        result = run(metric, seed, out, "", registry, probe=True)
        named = {word: [r["verdict"] for r in result.verdicts if r["outcome"] == word] for word in AGAINST}
        before = ", ".join(name for name in named["FAIL"] if name in OLD) or "passes"
        probes = result.data.faults.get(metric, "").replace("|", "/") or "keeps all"
        failed, open_ = (", ".join(named[word]) or "–" for word in AGAINST)
        print(f"| `{metric}` | {before} | {failed} | {open_} | {probes} |", flush=True)


def honest(out: Path, metrics: Sequence[str], seeds: Sequence[int], lpips: str, registry: Registry) -> None:
    """The table of honest metrics, as Markdown: of so many seeds, how many failed or left open which verdict."""
    print("| honest | measured | pass | inconclusive | FAIL |\n|---|---|---|---|---|")
    for metric in metrics:
        rows = [row for seed in seeds for row in run(metric, seed, out, lpips, registry, probe=False).verdicts]
        measured = [row for row in rows if row["outcome"] != "not measured"]
        cells = []
        for word in reversed(AGAINST):
            found = Counter(row["verdict"] for row in rows if row["outcome"] == word)
            named = ", ".join(f"{name} {count}" for name, count in found.items())
            cells.append(f"{found.total()}" + (f" ({named})" if named else ""))
        passed = [row["outcome"] for row in rows].count("pass")
        print(f"| `{metric}` | {len(measured)} | {passed} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "honest"])
    parser.add_argument("seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/runs/masking"))
    parser.add_argument("--lpips", default="", help="folder with the files of lpips-alex; its default weights without")
    parser.add_argument("--metrics", default="", help="only these, separated by commas")
    given = parser.parse_args()
    registry = Registry([TOYS / "masked.py", TOYS / "planted.py"])
    metrics = given.metrics.split(",") if given.metrics else {"planted": PLANTED, "honest": HONEST}[given.what]
    if given.what == "planted":
        planted(given.out, metrics, given.seeds[0], registry)
    else:
        honest(given.out, metrics, given.seeds, given.lpips, registry)


if __name__ == "__main__":
    main()
