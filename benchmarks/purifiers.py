"""What purifiers cost per image, over birqa-tiny's forward, and the memory of an adaptive attack through one.

python benchmarks/purifiers.py --cpu                             # 128 px, every purifier but diffpure
python benchmarks/purifiers.py --cpu --memory 512x384 --pairs 4  # and the peak memory of adaptive steps of this size

*forward* is `purify` without gradients on a batch; *and backward* is the same with the gradient to the image: exact, or
of the surrogate where that is what an adaptive attack takes. *plain* is that without checkpointing, of the purifiers
that have it. The base is the forward of birqa-tiny's distorted branch on the same batch. Rounds are interleaved, and a
ratio is the median of the rounds' own. Weights are the shipped ones; time does not depend on them.

Memory is the peak of the whole process, in MiB, while it takes two steps of an adaptive attack: birqa-tiny through the
purifier, on --pairs images at once, forward and backward.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from forward import built
from measured import peak_memory, seconds
from safetensors.torch import load_file
from torch import Tensor, nn

import metrics_zoo
from defenses.denoiser import reverse
from harness.contracts import Metric, Purifier, SampleRng, Tree
from harness.engine.memory import keep_freed_memory
from harness.engine.scorer import straight_through
from harness.plugins.registry import Registry

MINI = "diffpure-mini"
PURIFIERS = (
    "flip",
    "rotate",
    "jpeg",
    "blur",
    "quantise",
    "resize",
    "noise",
    "median",
    "transform_ensemble",
    "denoise",
    MINI,
)
CHECKPOINTED = {MINI}


@dataclass(frozen=True)
class Ready:
    """A purifier with what it has drawn for a batch, and its network."""

    purifier: Purifier
    draw: Tree
    network: nn.Module | None

    def purify(self, images: Tensor) -> Tensor:
        """Purified images; the surrogate takes the place of the gradient where the purifier says so."""
        way = straight_through if self.purifier.gradient == "surrogate" and images.requires_grad else _purified
        return way(self.purifier, self.network, images, self.draw)


def _purified(purifier: Purifier, network: nn.Module | None, images: Tensor, draw: Tree) -> Tensor:
    return purifier.purify(images, draw, network)


def ready(name: str, images: Tensor) -> Ready:
    """A shipped purifier with its defaults, on images of this size."""
    purifier: Purifier = Registry().purifier(name).build({})
    network = purifier.network()
    if network is not None:
        network.load_state_dict(load_file(Path(metrics_zoo.__path__[0]) / "weights" / f"{MINI}.safetensors"))
        network = network.eval().requires_grad_(False).to(images.device)
    rng = SampleRng.for_samples(0, [str(i) for i in range(len(images))], "defense", images.device)
    return Ready(purifier, purifier.draw(images, rng), network)


def forward(one: Ready, images: Tensor) -> None:
    """Purification alone."""
    with torch.no_grad():
        one.purify(images)


def backward(one: Ready, images: Tensor) -> None:
    """Purification and the gradient to the image."""
    leaf = images.clone().requires_grad_(True)
    torch.autograd.grad(one.purify(leaf).sum(), leaf)


@contextlib.contextmanager
def without_checkpoints() -> Iterator[None]:
    """Every step of the reverse process remembered."""
    with mock.patch.object(reverse, "_repeatable", lambda step, x, whole: step(x)):
        yield


def ways(images: Tensor) -> dict[tuple[str, str], Callable[[], None]]:
    """What is timed: (purifier, column) -> a call."""
    found: dict[tuple[str, str], Callable[[], None]] = {}

    def plain(one: Ready) -> None:
        with without_checkpoints():
            backward(one, images)

    for name in PURIFIERS:
        one = ready(name, images)
        found[name, "forward"] = lambda one=one: forward(one, images)
        found[name, "and backward"] = lambda one=one: backward(one, images)
        if name in CHECKPOINTED:
            found[name, "plain"] = lambda one=one: plain(one)
    return found


def base(metric: Metric, images: Tensor) -> Callable[[], None]:
    """The forward of a metric's distorted branch."""
    with torch.no_grad():
        encoded = metric.encode(images)

    def run() -> None:
        with torch.no_grad():
            metric.score(encoded, images)

    return run


def timed(call: Callable[[], None], device: torch.device, processor: bool) -> float:
    """Seconds of one call."""
    begun = seconds(device, processor=processor)
    call()
    return seconds(device, processor=processor) - begun


def table_of_times(images: Tensor, metric: Metric, count: int, processor: bool) -> None:
    """Print seconds per image and their ratios to the base."""
    calls = {("birqa-tiny", "forward"): base(metric, images), **ways(images)}
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for number in range(count + 1):
        for key, call in calls.items():
            taken = timed(call, images.device, processor) / len(images)
            if number:  # the first round warms up
                spent[key].append(taken)
    bases = spent["birqa-tiny", "forward"]
    print(f"{'':20}{'forward':>18}{'and backward':>18}{'plain':>18}   ms an image (x birqa-tiny's forward)")
    for name in ("birqa-tiny", *PURIFIERS):
        cells = []
        for column in ("forward", "and backward", "plain"):
            taken_ = spent.get((name, column))
            if taken_ is None:
                cells.append("")
                continue
            ratio = statistics.median(a / b for a, b in zip(taken_, bases, strict=True))
            cells.append(f"{1000 * statistics.median(taken_):.1f} ({ratio:.2f})")
        print(f"{name:20}" + "".join(f"{cell:>18}" for cell in cells))


def memory(images: Tensor, metric: Metric) -> None:
    """Print the peak memory of adaptive steps through `diffpure-mini`."""
    one = ready(MINI, images)
    with torch.no_grad():
        encoded = metric.encode(one.purify(images))

    def steps() -> None:
        leaf = images.clone()
        for _ in range(2):
            leaf = leaf.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(metric.score(encoded, one.purify(leaf)).sum(), leaf)
            leaf = (leaf + gradient.sign() / 255).clamp(0, 1)

    width, height = images.shape[-1], images.shape[-2]
    needed = peak_memory(steps, images.device)
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{MINI}, adaptive, {len(images)} x {width} x {height}: {needed:.0f} MiB above before, {whole:.0f} in all")
    with without_checkpoints():
        needed = peak_memory(steps, images.device)
    print(f"  without checkpointing: {needed:.0f} MiB above before")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="128x128", help="width x height of the images that are timed")
    parser.add_argument("--pairs", type=int, default=4, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="", help="width x height at which to measure memory")
    parser.add_argument("--cpu", action="store_true", help="processor time of one thread")
    given = parser.parse_args()
    keep_freed_memory()
    if given.cpu:
        torch.set_num_threads(1)
    device = torch.device("cpu" if given.cpu or not torch.cuda.is_available() else "cuda")
    metric = built("birqa-tiny", device, torch.contiguous_format)

    def noise(size: str) -> Tensor:
        width, height = (int(side) for side in size.split("x"))
        return torch.rand(given.pairs, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)

    if given.rounds:
        table_of_times(noise(given.size), metric, given.rounds, given.cpu)
    if given.memory:
        memory(noise(given.memory), metric)


if __name__ == "__main__":
    main()
