"""What one score costs: BiRQA, TOPIQ, LPIPS-VGG and SSIM in one process, interleaved, as ratios to TOPIQ.

python benchmarks/forward.py                        # 512 x 384 and 1920 x 1080, fp32 and bf16, all threads torch takes
python benchmarks/forward.py --rounds 9 --threads 1 --sizes 512x384

Batch 1, features included, weights random but for birqa-tiny's (time does not depend on them), every network in the
same memory layout (`--layout`). "pair" encodes the reference too; "distorted" is the forward of an attack's step. bf16
is autocast; BiRQA's features stay in fp32. Its error is the mean |score - fp32 score| over pairs of the embedded data
set over the standard deviation of the fp32 scores there. Only birqa-tiny's means something: untrained networks score
all pairs almost alike, so whatever rounding does to them is large beside that.
Seconds are wall clock; on a machine with other work take --cpu, the processor time of this one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from measured import peak_memory, seconds
from torch import Tensor

from harness.contracts import Metric
from harness.engine.memory import keep_freed_memory
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve

METRICS = ("birqa", "birqa-s8", "birqa-tiny", "topiq", "lpips-vgg", "ssim")
BASE = "topiq"
PAIRS = 32
"""Of the embedded data set, for the error of bf16."""


@dataclass
class Times:
    """Seconds of one metric in one setting, a round each."""

    pair: list[float] = field(default_factory=list)
    distorted: list[float] = field(default_factory=list)


def built(name: str, device: torch.device, layout: torch.memory_format) -> Metric:
    """A metric ready to score, with the weights that come with robustiqa where there are any."""
    plugin = Registry().metric(name)
    metric = plugin.build({})
    if name == "birqa-tiny":
        file = resolve(name, None, plugin.weights)
        assert file is not None
        load(metric, file)
    ready: Metric = metric.eval().requires_grad_(False).to(device).to(memory_format=layout)  # type: ignore[call-overload]
    return ready


def precision(name: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast to bf16, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bf16")


def images(height: int, width: int, device: torch.device, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    """A noise pair: time does not depend on what it shows."""
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(1, 3, height, width, generator=generator)
    dist = (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1)
    return ref.to(device, memory_format=layout), dist.to(device, memory_format=layout)


def rounds(
    metrics: dict[str, Metric], pair: tuple[Tensor, Tensor], count: int, bits: str, clock: Callable[[], float]
) -> dict[str, Times]:
    """Every metric once a round, in an order that turns; the first round warms up and does not count."""
    ref, dist = pair
    found = {name: Times() for name in metrics}
    names = list(metrics)
    for number in range(count + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            metric = metrics[name]
            with torch.no_grad(), precision(bits, ref.device):
                began = clock()
                reference = metric.encode(ref)
                encoded = clock()
                metric.score(reference, dist)
                ended = clock()
            if number:
                found[name].pair.append(ended - began)
                found[name].distorted.append(ended - encoded)
    return found


def once(metric: Metric, pair: tuple[Tensor, Tensor], bits: str) -> None:
    """One score."""
    with torch.no_grad(), precision(bits, pair[0].device):
        metric(ref=pair[0], dist=pair[1])


def rounding_error(metric: Metric, pairs: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Mean |bf16 score - fp32 score| over the standard deviation of the fp32 scores."""
    scores = {}
    for bits in ("fp32", "bf16"):
        with torch.no_grad(), precision(bits, device):
            scores[bits] = np.array(
                [float(metric(ref=r[None].to(device), dist=d[None].to(device))[0]) for r, d in pairs]
            )
    return float(np.abs(scores["bf16"] - scores["fp32"]).mean() / scores["fp32"].std())


def embedded_pairs() -> list[tuple[Tensor, Tensor]]:
    """The first pairs of the embedded data set's test split."""
    data = Registry().dataset("mini").build({})
    loaded = (data.load(entry) for entry in data.entries("test")[:: len(data.entries("test")) // PAIRS][:PAIRS])
    return [(pair["ref"], pair["dist"]) for pair in loaded]


def lines(
    found: dict[str, Times], memory: dict[str, float], errors: dict[str, float], size: str, bits: str
) -> Iterator[str]:
    """The table of one size and precision."""
    base = {part: float(np.median(getattr(found[BASE], part))) for part in ("pair", "distorted")}
    yield f"{size} {bits}"
    yield (
        f"  {'metric':11} {'pair ms':>9} {'quartiles':>15} {'x TOPIQ':>8} {'distorted ms':>13} {'x TOPIQ':>8} "
        f"{'peak MiB':>9}" + (f" {'error/σ':>8}" if bits == "bf16" else "")
    )
    for name, times in found.items():
        low, middle, high = (1e3 * q for q in np.quantile(times.pair, (0.25, 0.5, 0.75)))
        part = 1e3 * float(np.median(times.distorted))
        yield (
            f"  {name:11} {middle:9.1f} {f'{low:.1f} to {high:.1f}':>15} {1e3 * base['pair'] / middle:8.2f} "
            f"{part:13.1f} {1e3 * base['distorted'] / part:8.2f} {memory[name]:9.0f}"
            + (f" {errors[name]:8.4f}" if bits == "bf16" else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["512x384", "1920x1080"], metavar="WxH")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), help=f"{BASE} is always there")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "plain"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu", action="store_true", help="processor time in place of wall clock; takes one thread")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.cpu else options.threads)
    device = torch.device(options.device)
    layout = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format

    clock = functools.partial(seconds, device, processor=options.cpu)
    metrics = {name: built(name, device, layout) for name in dict.fromkeys([*options.metrics, BASE])}
    sized = {size: images(*reversed([int(side) for side in size.split("x")]), device, layout) for size in options.sizes}
    settings = [(size, bits) for size in options.sizes for bits in options.precision]
    memory = {
        (size, bits): {
            n: peak_memory(functools.partial(once, m, sized[size], bits), device) for n, m in metrics.items()
        }
        for size, bits in settings
    }
    pairs = embedded_pairs() if "bf16" in options.precision else []
    errors = {name: rounding_error(metric, pairs, device) for name, metric in metrics.items()} if pairs else {}
    keep_freed_memory()
    timed = "processor time" if options.cpu else "wall clock"
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s), {options.layout}, batch 1, "
        f"{timed}, median of {options.rounds}; 'x TOPIQ' above 1 is faster than TOPIQ"
    )
    for size, bits in settings:
        found = rounds(metrics, sized[size], options.rounds, bits, clock)
        print("\n".join(lines(found, memory[size, bits], errors, size, bits)), flush=True)


if __name__ == "__main__":
    main()
