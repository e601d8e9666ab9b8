"""What the benchmarks read off a run: seconds and peak memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(device: torch.device, *, processor: bool) -> float:
    """A clock: of the wall, or the processor time of this one thread. Waits for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.thread_time() if processor else time.perf_counter()


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """MiB that a run needs above what was there before; NaN where neither CUDA nor Linux tells."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = float(torch.cuda.memory_allocated(device))
    elif os.access(refs, os.W_OK):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        refs.write_text("5")  # the peak starts anew
        before = _bytes(status, "VmRSS")
    else:
        return float("nan")
    run()
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _bytes(status, "VmHWM")
    return (after - before) / 2**20


def _bytes(status: Path, key: str) -> float:
    return 1024 * float(next(line for line in status.read_text().splitlines() if line.startswith(key)).split()[1])
