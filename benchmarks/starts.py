"""What an attacker has for nothing: every metric's best image from the image itself against starts and points nearby.

python benchmarks/starts.py                                   # every metric of the zoo; about 20 minutes on a core
python benchmarks/starts.py psnr ssim birqa-tiny --steps 100

Upwards: `restore`, the point of the ball nearest to the reference, and APGD from there, against APGD from the image.
Downwards: random noise, the image pushed away from its reference by the radius, and everyday changes clipped to the
ball, against APGD from the image. Figures are mean shifts over photographs of the embedded data set's test split
(nothing is chosen by them) in standard deviations of clean quality over them; "wins" counts images where the free point
is further than APGD from the image. Images are enlarged for metrics that need more than 128 px. Metrics whose weights
are not at hand have random ones, and are marked *. With --triplets the images are the patches of `mini_2afc`, the one
that the judge rejected raised and the other lowered.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from attacks.apgd import APGD
from attacks.benign import Benign
from harness.contracts import Budget, Metric, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.errors import UserError
from harness.plugins.build import fresh, frozen
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve

NO_PHOTOGRAPHS = ("folds",)
"""Needs a weight file of its own."""
EVERYDAY = ("shift1", "shift2", "jpeg95", "resize")


def main() -> None:
    """Measure and print one line per metric and radius."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="*")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--triplets", action="store_true", help="patches of mini_2afc in place of photographs")
    parser.add_argument("--lpips", help="folder of LPIPS's published weights")
    parser.add_argument("--eps", type=float, nargs="*", default=[4 / 255, 8 / 255])
    options = parser.parse_args()
    registry = Registry()
    ref, dist = (patches if options.triplets else photographs)(registry, options.images)
    print("| metric | ε | restore | apgd | apgd from reference | wins of restore | gain of the start |", end="")
    print(" down: apgd | noise | away | everyday, clipped | wins of these |\n" + "|---" * 12 + "|")
    for name in options.metrics or [one for one in registry.names("metrics") if one not in NO_PHOTOGRAPHS]:
        metric, mark = metric_of(name, registry, options.lpips)
        for eps in options.eps:
            print(line(f"{name}{mark}", metric, ref, dist, eps, options.steps), flush=True)


def photographs(registry: Registry, count: int) -> tuple[Tensor, Tensor]:
    """Some pairs of the embedded set's test split, spread over its references and distortions."""
    mini = registry.dataset("mini").build({})
    entries = mini.entries("test")
    items = [mini.load(entry) for entry in entries[:: max(1, len(entries) // count)][:count]]
    return torch.stack([item["ref"] for item in items]), torch.stack([item["dist"] for item in items])


def patches(registry: Registry, count: int) -> tuple[Tensor, Tensor]:
    """The patches of some triplets, in turn the one that was rejected and the one that was preferred."""
    triplets = registry.dataset("mini_2afc").build({})
    entries = [entry for entry in triplets.entries("test") if entry.judge != 0.5]
    ref, dist = [], []
    for entry in entries[:: max(1, 2 * len(entries) // count)][: count // 2]:
        images = triplets.load(entry)
        ref += [images["ref"]] * 2
        dist += [images["p0"], images["p1"]]
    return torch.stack(ref), torch.stack(dist)


def metric_of(name: str, registry: Registry, folder: str | None) -> tuple[Metric, str]:
    """A metric with its default weights, or random ones and a mark."""
    metric, plugin = fresh(registry, name, {}), registry.metric(name)
    mark = ""
    if plugin.cls.needs_weights:
        try:
            file = resolve(name, folder if name.startswith("lpips") else None, plugin.weights)
            assert file is not None
            load(metric, file)
        except (UserError, AssertionError):
            mark = "*"
    return frozen(metric, torch.device("cpu")), mark


def line(name: str, metric: Metric, ref: Tensor, dist: Tensor, eps: float, steps: int) -> str:
    """One line of the table."""
    if min(dist.shape[2:]) < metric.minimum_size:
        factor = -(-metric.minimum_size // min(dist.shape[2:]))
        ref, dist = (torch.nn.functional.interpolate(one, scale_factor=factor, mode="nearest") for one in (ref, dist))
    count, scorer = len(dist), Scorer(metric)
    ids = [str(i) for i in range(count)]
    budget = Budget("linf", torch.full((count,), eps))
    encoded = scorer.encode(ref, SampleRng([]))
    with torch.no_grad():
        clean = scorer.quality(encoded, dist)
    sigma = float(clean.std(correction=0))

    def shift(images: Tensor, sign: float) -> Tensor:
        with torch.no_grad():
            return sign * (scorer.quality(encoded, images) - clean) / sigma

    def climbed(start: str, sign: float) -> Tensor:
        signs = torch.full((count,), sign)
        draws = SampleRng.for_samples(0, ids, "defense")
        objective = ScorerObjective(scorer, ref, dist, signs, None, draws, encoded=encoded)
        rng = SampleRng.for_samples(0, ids, "apgd")
        return shift(APGD(steps=steps, start=start).perturb(objective, dist, budget, rng), sign).clamp_min(0)  # type: ignore[arg-type]

    objective = ScorerObjective(scorer, ref, dist, torch.zeros(count), None, SampleRng([]), encoded=encoded)
    restore = shift(budget.project(ref, dist), 1)
    up, near = climbed("zero", 1.0), climbed("reference", 1.0)
    down = climbed("zero", -1.0)
    noise = shift((dist + eps * SampleRng.for_samples(0, ids, "noise").signs(*dist.shape[1:])).clamp(0, 1), -1)
    away = shift(budget.project(2 * dist - ref, dist), -1)
    changed = [
        budget.project(
            Benign(transform=way).perturb(objective, dist, budget, SampleRng.for_samples(0, ids, "benign")),  # type: ignore[arg-type]
            dist,
        )
        for way in EVERYDAY
    ]
    everyday = torch.stack([shift(images, -1) for images in changed]).amax(0)
    free = torch.stack([noise, away, everyday]).amax(0)
    gain = float((near.mean() / up.mean() - 1) * 100) if float(up.mean()) > 0 else float("nan")
    cells = [
        *(f"{float(one.mean()):+.2f}" for one in (restore, up, near)),
        f"{int((restore > up + 1e-6).sum())} of {count}",
        f"{gain:+.1f} %",
        *(f"{float(one.mean()):+.2f}" for one in (down, noise, away, everyday)),
        f"{int((free > down + 1e-6).sum())} of {count}",
    ]
    return f"| {name} | {255 * eps:g}/255 | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
