"""Memory: kept between images where it suffices; where it does not, known for that, released and told."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""Parts of messages of RuntimeErrors that torch raises where an allocation failed on the CPU or in a library."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that an allocation failed."""
    import torch  # not above: whoever reads a run folder needs none

    return any(
        isinstance(cause, MemoryError | torch.OutOfMemoryError)
        or (isinstance(cause, RuntimeError) and any(sign in str(cause).lower() for sign in _SIGNS))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def release() -> None:
    """Hand what torch keeps for later back to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def went_on(who: str, most: int, cap: int | None = None) -> str:
    """What a report says of batches that had to be smaller: for lack of memory, or for a cap of so many MiB."""
    why = "Out of memory" if cap is None else f"Under --memory {cap:,} MiB"
    return (
        f"{why}: {who} went on in batches of at most {most}; the column 'batch' of the records has the size of "
        "each. Batches of another size change the last digits of a score, and an attack's result by as little."
    )


def give_back_freed() -> None:
    """Hand the memory of freed tensors, which glibc keeps, back to the system."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed tensors: clearing new pages costs an attack a tenth of its time.

    It holds for the whole process, so only worker processes and the command line ask for it.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 32 * 2**20)
        libc.mallopt(trim_threshold, 2**30)
        libc.mallopt(top_pad, 2**28)


def memory_of_machine() -> float | None:
    """GiB of memory of this machine; None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def resident_mib(key: str) -> float:
    """MiB of this process that lie in memory, as Linux tells; NaN where it is another system.

    Args:
        key: "VmRSS": now; "VmHWM": the most there ever were since the program started.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), float("nan"))


def forget_peak() -> None:
    """From now on VmHWM is the most that lies in memory from now on.

    Raises:
        OSError: This system has no such thing, or does not let a process do it.
    """
    with Path("/proc/self/clear_refs").open("r+", encoding="ascii") as file:  # never made where there is none
        file.write("5")
