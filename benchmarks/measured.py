"""What the benchmarks read off a run: seconds and peak memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness.engine.memory import resident_mib


def seconds(device: torch.device, *, processor: bool) -> float:
    """A clock: of the wall, or the processor time of this one thread. Waits for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.thread_time() if processor else time.perf_counter()


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """MiB that a run needs above what was there before; NaN where neither CUDA nor Linux tells."""
    refs = Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
    elif os.access(refs, os.W_OK):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        refs.write_text("5")  # the peak starts anew
        before = resident_mib("VmRSS")
    else:
        return float("nan")
    run()
    after = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib("VmHWM")
    return after - before
