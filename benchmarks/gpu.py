"""One GPU in six minutes: are its numbers those of a CPU, how fast does it attack and score, what does the engine add?

python benchmarks/gpu.py --out results/gpu                  # needs a GPU
python benchmarks/gpu.py --device cpu --short               # the same work in small, as the tests run it

*Numbers*: the embedded suite (FGSM, PGD-10, noise, restore at 8/255, up and down) on a CPU and on the device. Clean
scores, controls included, must agree to `CLEAN_WITHIN` of their standard deviation, where an attack moves them to on
average to `ATTACKED_WITHIN`: an attack follows signs of slopes, which may turn where a slope is almost 0, so single
images may end elsewhere. *Attack*: PGD-10 beside its floor and torchattacks, as `benchmarks/attack.py` has them.
*Frames per second*: whole forwards of one pair at 1920 x 1080, a process for each metric (`harness.engine.speed`), in
fp32 and bf16, the latter with the error of its scores on embedded pairs. *Engine*: the whole run over the seconds of
its attacks, as records keep them; `benchmarks/overhead.py` has it for a block. *In flight*: PGD-10 of the embedded
suite with cells attacked one by one and packed (`max_batch_memory`), by what records keep. *Compiled*: a step of PGD
(forward, and backward to the image) as it is, under `torch.compile`, and on a GPU with CUDA graphs
(`mode="reduce-overhead"`): nothing of robustiqa uses either, and this is to tell whether it should. Peak memory is
torch's on a GPU, the process's on a CPU.
The exit code is 1 where numbers do not agree.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from attack import STEPS, pgd_rows, pgd_ways, ratio, row, timed
from forward import built, embedded_pairs, rounding_error
from measured import peak_memory, seconds
from torch import Tensor

import robustiqa
from harness.engine.memory import keep_freed_memory
from harness.engine.speed import SpeedProtocol, machine, measure_speed, timed_metric
from harness.plugins.registry import Registry

CLEAN_WITHIN = 1e-4
"""Standard deviations of clean scores: float32 sums in another order."""
ATTACKED_WITHIN = 0.02
"""The same, of the mean over images under an attack."""
METRICS = ("birqa", "lpips-vgg", "topiq")
FRAMES = ("birqa", "birqa-s8", "topiq", "lpips-vgg")
_KEY = ["metric", "attack", "endpoint", "eps", "item", "draw"]


def suite(*, short: bool) -> dict[str, Any]:
    """What both devices run."""
    return {
        "name": "gpu",
        "datasets": ["mini"],
        "metrics": ["birqa-tiny"] if short else ["psnr", "ssim", "birqa-tiny"],
        "attacks": ["noise", "restore", "fgsm", {"name": "pgd", "steps": 2 if short else STEPS, "step_size": 2 / 255}],
        "budgets": {"linf": [8 / 255]},
        "directions": ["up", "down"],
        "limit": 2 if short else 32,
        "slice": 2 if short else 8,
    }


def both(device: str, folder: Path, *, short: bool) -> tuple[pd.DataFrame, float]:
    """Records of a CPU (``_cpu``) and of the device side by side, and the seconds that the device took."""
    frames, took = [], 0.0
    for name in ("cpu", device):
        began = time.perf_counter()
        run = robustiqa.run(
            suite(short=short), out=folder / f"{name}-{len(frames)}", device=name, executor="serial", probes=False
        )
        took = time.perf_counter() - began
        frames.append(run.records())
    cpu, other = frames
    return other.merge(cpu, on=_KEY, suffixes=("", "_cpu"), validate="one_to_one"), took


def number_rows(records: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    """Metric, condition, disagreement in standard deviations of clean scores, and how much is allowed."""
    for metric, mine in records.groupby("metric", sort=False):
        clean = mine[mine["attack"] == "clean"]
        spread = float(clean["clean_cpu"].std(ddof=0))
        yield str(metric), "clean", float((clean["clean"] - clean["clean_cpu"]).abs().max()) / spread, CLEAN_WITHIN
        for (attack, endpoint), part in mine[mine["attack"] != "clean"].groupby(["attack", "endpoint"], sort=False):
            differences = part["attacked"] - part["attacked_cpu"]
            if bool(part["control"].all()):
                found, allowed = float(differences.abs().max()) / spread, CLEAN_WITHIN
            else:
                found, allowed = abs(float(differences.mean())) / spread, ATTACKED_WITHIN
            yield str(metric), f"{attack} {endpoint}".strip(), found, allowed


def speed_rows(device: str, *, short: bool) -> Iterator[str]:
    """Frames per second of each metric and precision."""
    registry, place = Registry(), torch.device(device)
    pairs = embedded_pairs()[: 4 if short else None]
    for name in ("birqa-tiny",) if short else FRAMES:
        for bits in ("bf16",) if short else ("fp32", "bf16"):
            size = {"width": 192, "height": 108, "forwards": 2, "warmup": 1} if short else {"forwards": 30}
            protocol = SpeedProtocol(device=device, precision=bits, **size)  # type: ignore[arg-type]
            one = measure_speed(timed_metric(name, (), registry), protocol).row()
            error = (
                f"{rounding_error(built(name, place, torch.channels_last), pairs, place):.4f}" if bits == "bf16" else ""
            )
            fps = f"{one['fps_median']:.2f}", f"{one['fps_low']:.2f} to {one['fps_high']:.2f}"
            yield row(name, bits, *fps, f"{one['peak_memory']:.0f}", error)


def attack_rows(device: torch.device, *, short: bool) -> Iterator[str]:
    """PGD-10 of each metric, beside its floor and torchattacks."""
    width, height, batch = (64, 64, 2) if short else (512, 384, 8)
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(batch, 3, height, width, generator=generator)
    dist = (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1)
    clock = functools.partial(seconds, device, processor=False)
    for name in ("birqa-tiny",) if short else METRICS:
        ways = pgd_ways(built(name, device, torch.contiguous_format), ref.to(device), dist.to(device))
        found = timed(ways, 2 if short else STEPS, 1 if short else 3, clock)
        memory = {way: peak_memory(functools.partial(run, 2), device) for way, run in ways.items()}
        yield from pgd_rows(name, found, memory, batch)


def flight_rows(device: str, folder: Path, *, short: bool) -> Iterator[str]:
    """The attack's seconds an image, apart and packed, and how far the two scores lie apart."""
    given = {**suite(short=short), "attacks": suite(short=short)["attacks"][-1:]}
    given |= {"budgets": {"linf": [2 / 255, 8 / 255]}, "tables": ["attacks"]}
    packed = None if device.startswith("cuda") else "1GiB"
    frames = {
        name: robustiqa.run(
            {**given, "name": name},
            out=folder / name,
            device=device,
            executor="serial",
            probes=False,
            max_batch_memory=memory,
        ).records()
        for name, memory in (("apart", "0"), ("packed", packed))
    }
    apart, together = (frame[frame["attack"] != "clean"] for frame in frames.values())
    pairs = together.merge(apart, on=_KEY, suffixes=("", "_apart"), validate="one_to_one")
    for metric, mine in pairs.groupby("metric", sort=False):
        each = mine["seconds_apart"].mean(), mine["seconds"].mean()
        apart_by = float((mine["attacked"] - mine["attacked_apart"]).abs().max() / mine["clean"].std(ddof=0))
        at_once = f"{int(mine['batch_apart'].max())} and {int(mine['batch'].max())}"
        yield row(
            str(metric), at_once, *(f"{1e3 * one:.1f}" for one in each), f"{each[1] / each[0]:.3f}", f"{apart_by:.2g}"
        )


def compiled_rows(device: torch.device, *, short: bool) -> Iterator[str]:
    """A step of PGD as it is and compiled: seconds to compile, ms a step, and what of the slope's signs changed."""
    width, height, batch = (64, 64, 2) if short else (512, 384, 8)
    modes: dict[str, dict[str, Any]] = {"torch.compile": {"backend": "aot_eager"} if short else {}}
    if device.type == "cuda":
        modes["with CUDA graphs"] = {"mode": "reduce-overhead"}
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(batch, 3, height, width, generator=generator)
    dist = (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1).to(device)
    clock = functools.partial(seconds, device, processor=False)
    for name in ("lpips-alex",) if short else ("birqa-tiny", *METRICS):
        metric = built(name, device, torch.contiguous_format)
        score = functools.partial(inspect.unwrap(type(metric).score), metric)  # without what guards plugins
        with torch.no_grad():
            encoded = metric.encode(ref.to(device))
        plain = functools.partial(_step, score, encoded, dist)
        slope = plain()
        for mode, given in modes.items():
            step = functools.partial(_step, torch.compile(score, **given), encoded, dist)
            began = clock()
            turned = (step().sign() != slope.sign()).float().mean()
            compiling = clock() - began
            found = timed({"plain": lambda _: plain(), "compiled": lambda _: step()}, 1, 2 if short else 9, clock)  # noqa: B023
            both = (f"{1e3 * statistics.median(taken):.1f}" for taken in found.values())
            gain = ratio(found["compiled"], found["plain"])
            yield row(name, mode, f"{compiling:.1f}", *both, f"{gain:.3f}", f"{float(turned):.2g}")


def _step(score: Callable[[Any, Tensor], Tensor], encoded: Any, images: Tensor) -> Tensor:
    leaf = images.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(score(encoded, leaf).sum(), leaf)
    return slope.clone()


def engine_share(records: pd.DataFrame, took: float) -> float:
    """Seconds of the whole run over those that records say attacks took."""
    attacked = float(records.loc[records["attack"] != "clean", "seconds"].sum())
    return took / attacked if attacked else float("nan")


def report(device: str, *, short: bool) -> tuple[list[str], Sequence[str]]:
    """Lines of Markdown, and what does not agree."""
    about = machine(device)
    told = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"torch {torch.__version__}; {told}{'; SHORT: the figures mean nothing' if short else ''}", ""]
    with tempfile.TemporaryDirectory() as folder:
        records, took = both(device, Path(folder), short=short)
    lines += ["Numbers: disagreement with a CPU, in standard deviations of clean scores", ""]
    lines += [row("metric", "condition", "found", "allowed"), row("---", "---", "---:", "---:")]
    wrong = []
    for metric, condition, found, allowed in number_rows(records):
        lines.append(row(metric, condition, f"{found:.2g}", f"{allowed:g}"))
        if not found <= allowed:
            wrong.append(f"{metric}, {condition}: {found:.2g}, allowed {allowed:g}")
    share = engine_share(records, took)
    lines += [
        "",
        f"The whole run took {took:.1f} s, {share:.2f} times what its attacks took; the rest is start and scoring.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        lines += ["In flight: PGD on the embedded set, cells one by one and packed", ""]
        lines += [row("metric", "images at once", "ms an image", "packed", "ratio", "apart by, σ")]
        lines += [row("---", "---", "---:", "---:", "---:", "---:")]
        lines += [*flight_rows(device, Path(folder), short=short), ""]
    size = "64 x 64, batch 2" if short else "512 x 384, batch 8"
    lines += [f"A step of PGD compiled, {size}", ""]
    lines += [row("metric", "", "s to compile", "ms a step", "compiled", "ratio", "signs turned")]
    lines += [row("---", "---", "---:", "---:", "---:", "---:", "---:")]
    lines += [*compiled_rows(torch.device(device), short=short), ""]
    lines += [
        f"PGD-{STEPS}, {size}",
        "",
        row("metric", "", "ms an image", "lowest to highest", "x floor", "x ours", "MiB"),
    ]
    lines += [
        row("---", "---", "---:", "---:", "---:", "---:", "---:"),
        *attack_rows(torch.device(device), short=short),
    ]
    lines += ["", f"Frames per second, {'192 x 108' if short else '1920 x 1080'}, one pair at a time", ""]
    lines += [row("metric", "precision", "median", "quartiles", "peak MiB", "error, σ")]
    lines += [row("---", "---", "---:", "---:", "---:", "---:"), *speed_rows(device, short=short)]
    return lines, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short", action="store_true", help="small work that only shows that the script runs")
    parser.add_argument("--out", type=Path, help="a folder for README.md")
    options = parser.parse_args()
    keep_freed_memory()
    began = time.perf_counter()
    lines, wrong = report(options.device, short=options.short)
    text = "\n".join([*lines, "", f"In {time.perf_counter() - began:.0f} s.", ""])
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "README.md").write_text(f"# What a GPU does\n\n{text}", encoding="utf-8")
    for line in wrong:
        print(f"does not agree: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
