"""Frames per second of a metric: whole forwards on full images, in a process of its own, with the memory they take.

The protocol of the BiRQA paper's Figure 3 (Section 4): so many forwards on as many images of one size, end to end, that
is from two images to a score, whatever the metric computes of them included. What the paper leaves open is in
`SpeedProtocol`, and every row says it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Metric
from harness.engine.memory import resident_mib
from harness.engine.provenance import device_name, processor
from harness.engine.scorer import device_named, load_metric
from harness.errors import DataError, UserError
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS
from harness.suite.alone import metric_from_options
from harness.suite.model import DatasetUse, MetricUse

PAPER_FORWARDS = 100


@dataclass(frozen=True)
class SpeedProtocol:
    """How frames per second are measured.

    Attributes:
        width: Of the images, in pixels; those of a data set have their own.
        height: Likewise.
        forwards: Timed forwards, each on an image of its own, one image at a time.
        warmup: Forwards before them that do not count.
        device: "cpu", "cuda", ...
        precision: "fp32", or "bf16" by autocast.
        threads: Of torch on the CPU; None takes as many as torch does.
        dataset: Where images come from; None makes noise, since time does not depend on what images show.
        seed: Of the choice of images.
    """

    width: int = 1920
    height: int = 1080
    forwards: int = PAPER_FORWARDS
    warmup: int = 10
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = None
    dataset: DatasetUse | None = None
    seed: int = 0


@dataclass(frozen=True)
class Speed:
    """What one metric took."""

    seconds: tuple[float, ...]
    """Of each forward."""
    parameters: int
    """Numbers that the metric's networks hold, trained or not."""
    peak_memory: float
    """MiB: on a GPU the most that torch held there; on a CPU the most of the whole process, with python and torch."""
    memory_before: float
    """MiB: the same, before the metric was built."""
    width: int
    height: int
    device: str
    threads: int

    def row(self) -> dict[str, Any]:
        """The figures that tables show: rates in frames per second, times in seconds, memory in MiB."""
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75))
        mean = statistics.fmean(self.seconds)
        return {
            "fps": 1 / mean,
            "fps_median": 1 / middle,
            "fps_low": 1 / high,
            "fps_high": 1 / low,
            "seconds_mean": mean,
            "seconds_median": middle,
            "seconds_low": low,
            "seconds_high": high,
            "seconds_sd": statistics.stdev(self.seconds) if len(self.seconds) > 1 else math.nan,
            "parameters": self.parameters,
            "peak_memory": self.peak_memory,
            "memory_before": self.memory_before,
            "width": self.width,
            "height": self.height,
            "forwards": len(self.seconds),
            "device": self.device,
            "threads": self.threads,
        }


def timed_metric(name: str, sets: Sequence[str], registry: Registry) -> MetricUse:
    """A metric to be timed: with random weights unless some are given, for time does not depend on them.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    plugin = registry.metric(name)
    untrained = plugin.cls.needs_weights or plugin.weights is not None
    given = any(text.partition("=")[0].strip() == "weights" for text in sets)
    own = [f"weights={RANDOM_WEIGHTS}"] if untrained and not given else []
    return metric_from_options(name, [*sets, *own, f"label={name}"], registry)


def measure_speed(use: MetricUse, protocol: SpeedProtocol, plugins: Sequence[Path] = ()) -> Speed:
    """Time a metric in a fresh process, which holds nothing else.

    Args:
        use: The metric.
        protocol: How.
        plugins: ``--plugin`` files.

    Raises:
        UserError: The metric or the device cannot be used, or memory did not suffice.
        DataError: The images cannot be read, or are smaller than the metric can score.
    """
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_speed_here, use, protocol, tuple(plugins)).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"metric '{use.label}': its process was ended from outside, as happens where memory does not suffice. "
                f"Take smaller images than {protocol.width} x {protocol.height}, or another machine."
            ) from error
        except (MemoryError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"metric '{use.label}' could not score images of {protocol.width} x {protocol.height} ({reason}). "
                "Take smaller ones."
            ) from error


def _speed_here(use: MetricUse, protocol: SpeedProtocol, plugins: Sequence[Path]) -> Speed:
    device = device_named(protocol.device)
    if protocol.threads is not None:
        torch.set_num_threads(protocol.threads)
    registry = Registry(plugins)
    before = _memory(device, "VmRSS")
    metric = load_metric(use, registry, device)
    seconds, height, width = [], 0, 0
    for number, (ref, dist) in enumerate(_pairs(protocol, registry)):
        height, width = ref.shape[-2:]
        if min(height, width) < metric.minimum_size:
            raise DataError(
                f"metric '{use.label}' needs images of at least {metric.minimum_size} px a side, and these have "
                f"{width} x {height}. Give a larger --size."
            )
        ref, dist = ref.to(device), dist.to(device)
        for _ in range(protocol.warmup if number == 0 else 0):
            _forward(metric, ref, dist, protocol.precision)
        seconds.append(_forward(metric, ref, dist, protocol.precision))
    return Speed(
        tuple(seconds),
        sum(parameter.numel() for parameter in metric.parameters()),
        _memory(device, "VmHWM"),
        before,
        width,
        height,
        device_name(device),
        torch.get_num_threads(),
    )


def _forward(metric: Metric, ref: Tensor, dist: Tensor, precision: str) -> float:
    """Seconds from two images on the device to a score that has been computed."""
    narrow = precision == "bf16"
    with torch.no_grad(), torch.autocast(ref.device.type, torch.bfloat16) if narrow else contextlib.nullcontext():
        _wait(ref.device)
        began = time.perf_counter()
        metric(ref=ref, dist=dist)
        _wait(ref.device)
        return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device, key: str) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib(key)


def _pairs(protocol: SpeedProtocol, registry: Registry) -> Iterator[tuple[Tensor, Tensor]]:
    """As many pairs as there are forwards, 1 x 3 x H x W, one in memory at a time."""
    if protocol.dataset is None:
        generator = torch.Generator().manual_seed(protocol.seed)
        for _ in range(protocol.forwards):
            ref = torch.rand(1, 3, protocol.height, protocol.width, generator=generator)
            yield ref, (ref + 0.1 * torch.rand(ref.shape, generator=generator) - 0.05).clamp(0, 1)
        return
    data = registry.dataset(protocol.dataset.name).build(protocol.dataset.parameters)
    entries = data.entries(protocol.dataset.split)
    order = np.random.default_rng(protocol.seed).permutation(len(entries))
    for place in np.resize(order, protocol.forwards):
        images = data.load(entries[int(place)])
        yield images["ref"][None], images["dist"][None]


def machine(device: str) -> Mapping[str, Any]:
    """What the times were taken on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": device_name(torch.device(device)),
        "processor": processor(),
        "cores": cores,
        "platform": platform.platform(),
    }
