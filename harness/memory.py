"""How a process that only attacks treats freed memory."""

from __future__ import annotations

import contextlib
import ctypes


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
