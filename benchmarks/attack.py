"""What attacks cost per image: PGD-10 here, in torchattacks and at its floor; a query of Square; what bf16 changes.

python benchmarks/attack.py                                  # birqa, lpips-vgg, topiq at 512 x 384
python benchmarks/attack.py --cpu --size 256x192 --rounds 3 --pairs 4

PGD. The *floor* is steps x (forward and backward to the image, of the distorted branch, the reference encoded before).
*ours* is `PGD.perturb` on the engine's objective: random start, steps, projections, counting, nothing scored.
*ours, bf16* is the same with `precision: bf16`. *torchattacks* is its PGD on `metric(ref=ref, dist=images)` as logits
[z, -z, -20, -20], as its users write it: the reference is encoded at every step. *torchattacks, cached* is the same on
a reference encoded before, which its users have to write themselves. *encode* is that encoding, once. *ours, again* is
ours once more: as far as its ratio lies from 1, other ratios say nothing.

Square. *forwards* is queries x (forward of the distorted branch without gradients); *square* is `Square.perturb` on the
engine's black-box objective, which also counts queries and remembers the best image.

bf16's shift. PGD-10 in both directions on pairs of the embedded data set, its images scored in fp32: the mean change
of quality in the attacked direction, over the standard deviation of quality before. Only birqa-tiny's weights are
trained, so only its shifts mean something by themselves; for the others look at what of fp32's shift bf16 reaches.

Weights are random but for birqa-tiny's; they decide nothing about time. Rounds are interleaved in shuffled order, and a
ratio is the median of the rounds' own. Peak memory is what a run of two steps or queries needs above what was there.
Seconds are wall clock; on a machine with other work take --cpu, the processor time of this one thread. A processor
without bf16 instructions makes bf16 slow.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping

import torch
import torchattacks
from forward import built, embedded_pairs
from measured import peak_memory, seconds
from torch import Tensor

from attacks.pgd import PGD
from attacks.square import Square
from harness.contracts import Budget, Metric, SampleRng
from harness.engine.memory import keep_freed_memory
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.suite.model import Precision

METRICS = ("birqa", "lpips-vgg", "topiq")
CHEAP = ("birqa-tiny", "ssim")
"""Metrics that Square is timed on besides: the cheaper a forward, the more of a query is Square's own."""
TRAINED = "birqa-tiny"
EPS, STEP, STEPS, QUERIES = 8 / 255, 2 / 255, 10, 20

Ways = Mapping[str, Callable[[int], object]]
"""What is timed, by name, as functions of the number of steps or queries."""


class AsClassifier(torch.nn.Module):
    """A metric as a classifier whose cross-entropy for class 0 grows with its quality."""

    def __init__(self, metric: Metric, quality: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.metric, self.quality = metric, quality

    def forward(self, images: Tensor) -> Tensor:
        """Logits N x 4."""
        z = 1 - self.quality(images)
        low = torch.full_like(z, -20.0)
        return torch.stack([z, -z, low, low], dim=1)


def pgd(
    scorer: Scorer, ref: Tensor, dist: Tensor, encoded: object, steps: int, sign: float, precision: Precision
) -> Tensor:
    """What our PGD makes of a batch."""
    count, device = len(ref), ref.device
    attack = PGD(steps=steps, step_size=STEP)
    budget = Budget("linf", torch.full((count,), EPS, device=device))
    objective = ScorerObjective(
        scorer,
        ref,
        dist,
        torch.full((count,), sign, device=device),
        budget if attack.uses_best() else None,
        SampleRng([]),
        encoded=encoded,
        precision=precision,
    )
    rng = SampleRng.for_samples(0, [str(i) for i in range(count)], "pgd", device)
    return attack.perturb(objective, dist.clone(), budget, rng)


def pgd_ways(metric: Metric, ref: Tensor, dist: Tensor) -> Ways:
    """PGD of any number of steps."""
    scorer = Scorer(metric)
    encoded = scorer.encode(ref, SampleRng([]))
    direction = 1.0 if metric.higher_is_better else -1.0
    plain = AsClassifier(metric, lambda images: direction * metric(ref=ref, dist=images)).eval()
    cached = AsClassifier(metric, lambda images: scorer.quality(encoded, images)).eval()
    labels = torch.zeros(len(ref), dtype=torch.int64, device=ref.device)

    def floor(steps: int) -> None:
        for _ in range(steps):
            leaf = dist.detach().requires_grad_(True)
            torch.autograd.grad(scorer.quality(encoded, leaf).sum(), leaf)

    def theirs(model: AsClassifier, steps: int) -> Tensor:
        with torch.random.fork_rng():
            attacked: Tensor = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=steps)(dist, labels)
        return attacked

    return {
        "floor": floor,
        "ours": lambda steps: pgd(scorer, ref, dist, encoded, steps, 1.0, "fp32"),
        "ours, bf16": lambda steps: pgd(scorer, ref, dist, encoded, steps, 1.0, "bf16"),
        "torchattacks": functools.partial(theirs, plain),
        "torchattacks, cached": functools.partial(theirs, cached),
        "encode": lambda _: scorer.encode(ref, SampleRng([])),
    }


def square_ways(metric: Metric, ref: Tensor, dist: Tensor) -> Ways:
    """Square of any number of queries."""
    count, device = len(ref), ref.device
    scorer = Scorer(metric)
    encoded = scorer.encode(ref, SampleRng([]))
    budget = Budget("linf", torch.full((count,), EPS, device=device))
    sign = torch.ones(count, device=device)

    def forwards(queries: int) -> None:
        with torch.inference_mode():
            for _ in range(queries):
                scorer.quality(encoded, dist)

    def square(queries: int) -> Tensor:
        rng = SampleRng.for_samples(0, [str(i) for i in range(count)], "square", device)
        objective = ScorerObjective(
            scorer, ref, dist, sign, budget, SampleRng([]), encoded=encoded, white_box=False, query_limit=queries
        )
        return Square(queries=queries).perturb(objective, dist.clone(), budget, rng)

    return {"forwards": forwards, "square": square}


def timed(ways: Ways, amount: int, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each way, a round each, in an order shuffled anew; a short run of each comes before."""
    for way in ways.values():
        way(2)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in random.Random(number).sample(list(ways), len(ways)):
            began = clock()
            ways[name](amount)
            found[name].append(clock() - began)
    return found


def ratio(one: list[float], other: list[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def pgd_rows(name: str, found: Mapping[str, list[float]], memory: Mapping[str, float], batch: int) -> Iterator[str]:
    """What each way takes of one metric."""
    for way, taken in found.items():
        low, middle, high = (1e3 * f(taken) / batch for f in (min, statistics.median, max))
        of_floor = "" if way == "encode" else f"{ratio(taken, found['floor']):.3f}"
        slower = f"{ratio(taken, found['ours']):.3f}" if way.startswith(("torchattacks", "ours, again")) else ""
        yield row(
            f"{name:9}",
            f"{way:20}",
            f"{middle:9.1f}",
            f"{f'{low:.1f} to {high:.1f}':>20}",
            f"{of_floor:>7}",
            f"{slower:>6}",
            f"{memory[way]:8.0f}",
        )


def square_row(name: str, found: Mapping[str, list[float]], memory: Mapping[str, float], batch: int) -> str:
    """What a query takes of one metric."""
    forward, query = (1e3 * statistics.median(found[way]) / QUERIES / batch for way in ("forwards", "square"))
    each = [a / b for a, b in zip(found["square"], found["forwards"], strict=True)]
    return row(
        f"{name:10}",
        f"{forward:10.2f}",
        f"{query:8.2f}",
        f"{statistics.median(each):9.3f}",
        f"{f'{min(each):.3f} to {max(each):.3f}':>16}",
        f"{memory['forwards']:7.0f}",
        f"{memory['square']:8.0f}",
    )


def shift(metric: Metric, pairs: tuple[Tensor, Tensor], sign: float, precision: Precision) -> float:
    """Mean change of quality in a direction, in standard deviations of the quality before; all of it in fp32."""
    scorer, before, after = Scorer(metric), [], []
    for ref, dist in zip(*(images.split(1) for images in pairs), strict=True):
        encoded = scorer.encode(ref, SampleRng([]))
        attacked = pgd(scorer, ref, dist, encoded, STEPS, sign, precision)
        with torch.no_grad():
            before.append(float(scorer.quality(encoded, dist)))
            after.append(float(scorer.quality(encoded, attacked)))
    return sign * (statistics.mean(after) - statistics.mean(before)) / statistics.stdev(before)


def shift_row(name: str, metric: Metric, pairs: tuple[Tensor, Tensor]) -> str:
    """What PGD reaches in either precision, up and down."""
    reached = {(p, sign): shift(metric, pairs, sign, p) for p in ("fp32", "bf16") for sign in (1.0, -1.0)}
    shares = " / ".join(f"{reached['bf16', sign] / reached['fp32', sign]:.3f}" for sign in (1.0, -1.0))
    both = (" / ".join(f"{reached[p, sign]:.4g}" for sign in (1.0, -1.0)) for p in ("fp32", "bf16"))
    return row(f"{name:10}", *(f"{text:>15}" for text in both), f"{shares:>15}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x384", metavar="WxH")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=16, help="for bf16's shift; at most 32, 0 leaves it out")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--cheap", nargs="*", default=list(CHEAP), help="further metrics, for Square alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu", action="store_true", help="processor time in place of wall clock; takes one thread")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.cpu else options.threads)
    device = torch.device(options.device)
    clock = functools.partial(seconds, device, processor=options.cpu)
    names = dict.fromkeys([*options.metrics, *options.cheap, *([TRAINED] if options.pairs else [])])
    metrics = {name: built(name, device, torch.contiguous_format) for name in names}

    width, height = (int(side) for side in options.size.split("x"))
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(options.batch, 3, height, width, generator=generator)
    dist = (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1)
    pair = ref.to(device), dist.to(device)

    def memory(ways: Ways) -> dict[str, float]:
        for way in ways.values():
            way(2)  # what a library sets up once is not counted
        return {name: peak_memory(functools.partial(way, 2), device) for name, way in ways.items()}

    searches = {name: square_ways(metrics[name], *pair) for name in dict.fromkeys([*options.metrics, *options.cheap])}
    descents = {name: pgd_ways(metrics[name], *pair) for name in options.metrics}
    descents = {name: {**ways, "ours, again": ways["ours"]} for name, ways in descents.items()}
    held = {name: memory(ways) for name, ways in searches.items()}
    needed = {name: memory(ways) for name, ways in descents.items()}
    keep_freed_memory()

    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s), {options.size}, batch "
        f"{options.batch}, {'processor time' if options.cpu else 'wall clock'}, median of {options.rounds}\n\n"
        f"PGD-{STEPS}\n\n{row('metric', '', 'ms an image', 'lowest to highest', 'x floor', 'x ours', 'peak MiB')}\n"
        f"{row('---', '---', '---:', '---:', '---:', '---:', '---:')}"
    )
    for name, ways in descents.items():
        found = timed(ways, STEPS, options.rounds, clock)
        print("\n".join(pgd_rows(name, found, needed[name], options.batch)), flush=True)
    print(
        f"\nSquare, {QUERIES} queries\n\n"
        f"{row('metric', 'ms a forward', 'ms a query', 'x forward', 'lowest to highest', 'peak MiB', 'of Square')}\n"
        f"{row('---', '---:', '---:', '---:', '---:', '---:', '---:')}"
    )
    for name, ways in searches.items():
        found = timed(ways, QUERIES, options.rounds, clock)
        print(square_row(name, found, held[name], options.batch), flush=True)
    if options.pairs:
        given = embedded_pairs()
        given = given[:: math.ceil(len(given) / options.pairs)]
        stacked = (torch.stack([pair[0] for pair in given]).to(device), torch.stack([p[1] for p in given]).to(device))
        side = "{} x {}".format(*stacked[0].shape[-2:])
        print(
            f"\nShift of PGD-{STEPS}, up / down, on {len(given)} pairs of {side}\n\n"
            f"{row('metric', 'fp32, in σ', 'bf16, in σ', 'share')}\n{row('---', '---:', '---:', '---:')}"
        )
        for name in dict.fromkeys([TRAINED, *options.metrics]):
            print(shift_row(name, metrics[name], stacked), flush=True)


if __name__ == "__main__":
    main()
