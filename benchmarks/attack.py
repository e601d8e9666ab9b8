"""What PGD-10 costs per image: this attack loop, torchattacks' PGD on the same metric, and the floor, in one run.

python benchmarks/attack.py                                  # birqa, lpips-vgg, topiq at 512 x 384
python benchmarks/attack.py --size 256x256 --batch 4 --rounds 5

The *floor* is steps x (forward and backward to the image, of the distorted branch, the reference encoded before).
*ours* is `PGD.perturb` on the engine's objective: random start, steps, projections, counting, nothing scored.
*torchattacks* is its PGD on `metric(ref=ref, dist=images)` as logits [z, -z, -20, -20], as its users write it: the
reference is encoded at every step. *torchattacks, cached* is the same on a reference encoded before, which its users
have to write themselves. Weights are random; they decide nothing about time. Rounds are interleaved, their order
turns, ratios are of medians. Seconds are wall clock; on a machine with other work take --cpu, the processor time of
this one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchattacks
from torch import Tensor

from harness.contracts import Budget, Metric, SampleRng
from harness.memory import keep_freed_memory
from harness.objective import ScorerObjective
from harness.registry import Registry
from harness.scorer import Scorer

METRICS = ("birqa", "lpips-vgg", "topiq")
EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


class AsClassifier(torch.nn.Module):
    """A metric as a classifier whose cross-entropy for class 0 grows with its quality."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, images: Tensor) -> Tensor:
        """Logits N x 4."""
        z = 1 - self.score(images)
        low = torch.full_like(z, -20.0)
        return torch.stack([z, -z, low, low], dim=1)


def ways(metric: Metric, ref: Tensor, dist: Tensor) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    count, device = len(ref), ref.device
    scorer = Scorer(metric)
    encoded = scorer.encode(ref, SampleRng([]))
    budget = Budget("linf", torch.full((count,), EPS, device=device))
    attack = Registry().attack("pgd").build({"steps": STEPS, "step_size": STEP})
    sign = torch.ones(count, device=device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    quality = 1.0 if metric.higher_is_better else -1.0
    plain = AsClassifier(lambda images: quality * metric(ref=ref, dist=images)).eval()
    cached = AsClassifier(lambda images: scorer.quality(encoded, images)).eval()

    def floor() -> None:
        for _ in range(STEPS):
            leaf = dist.detach().requires_grad_(True)
            torch.autograd.grad(scorer.quality(encoded, leaf).sum(), leaf)

    def ours() -> Tensor:
        rng = SampleRng.for_samples(0, [str(i) for i in range(count)], "pgd", device)
        objective = ScorerObjective(
            scorer, ref, dist, sign, budget if attack.uses_best() else None, SampleRng([]), encoded=encoded
        )
        return attack.perturb(objective, dist.clone(), budget, rng)

    def theirs(model: AsClassifier) -> Tensor:
        with torch.random.fork_rng():
            attacked: Tensor = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)(dist, labels)
        return attacked

    return {
        "floor": floor,
        "ours": ours,
        "torchattacks": lambda: theirs(plain),
        "torchattacks, cached": lambda: theirs(cached),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x384", metavar="WxH")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu", action="store_true", help="processor time in place of wall clock; takes one thread")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.cpu else options.threads)
    keep_freed_memory()
    device = torch.device(options.device)
    width, height = (int(side) for side in options.size.split("x"))

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.thread_time() if options.cpu else time.perf_counter()

    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(options.batch, 3, height, width, generator=generator)
    dist = (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1)
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s), fp32, PGD-{STEPS}, {options.size}, "
        f"batch {options.batch}, {'processor time' if options.cpu else 'wall clock'}, median of {options.rounds}"
    )
    print(f"{'metric':11} {'':21} {'ms an image':>12} {'spread':>18} {'x floor':>8} {'ours is':>10}")
    for name in options.metrics:
        metric = Registry().metric(name).build({}).eval().requires_grad_(False).to(device)
        timed = ways(metric, ref.to(device), dist.to(device))
        taken: dict[str, list[float]] = {way: [] for way in timed}
        names = list(timed)
        for number in range(options.rounds + 1):
            for way in names[number % len(names) :] + names[: number % len(names)]:
                began = clock()
                timed[way]()
                if number:  # the first round warms up
                    taken[way].append(1e3 * (clock() - began) / options.batch)
        middle = {way: statistics.median(values) for way, values in taken.items()}
        for way, values in taken.items():
            faster = f"{middle[way] / middle['ours']:8.2f} x" if way.startswith("torchattacks") else ""
            print(
                f"{name:11} {way:21} {middle[way]:12.1f} {f'{min(values):.1f} to {max(values):.1f}':>18} "
                f"{middle[way] / middle['floor']:8.3f} {faster:>10}",
                flush=True,
            )


if __name__ == "__main__":
    main()
