"""How fast the machine at hand is: a matrix product, a convolution and a copy, measured in half a second and kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.nn.functional import conv2d

from harness.engine.machines.pages import Machine, cached_page, read_machine, write_machine
from harness.engine.memory import memory_of_machine
from harness.engine.priority import cores
from harness.engine.provenance import processor
from harness.errors import UserError
from harness.suite.identity import identity

_MEASURE = 1
"""Part of what a measured page is filed under. Raise it when something else is measured."""
_PATIENCE_S = 30.0
"""For another process that measures."""
_LEAST_TIMES, _SECONDS = 5, 0.1
"""Each is done so often, or for so long; the fastest counts, for what disturbs makes it slower alone."""


def machine_here(device: str) -> Machine:
    """The machine at hand, as it was measured once with this torch, or as it is measured now.

    On a CPU one thread is measured, which is what each worker has, and by its processor time, so that whatever else
    runs counts for little.

    Args:
        device: "cpu", "cuda", ...; of other devices than a GPU of CUDA that of the processor is told.
    """
    where = torch.device(device if device.partition(":")[0] == "cuda" else "cpu")
    key = _key(where)
    page = cached_page(key)
    if (known := _kept(page, _id(key))) is not None:
        return known
    with _alone(page):
        if (known := _kept(page, _id(key))) is not None:
            return known
        machine = measured_machine(where)
        with contextlib.suppress(OSError):
            write_machine(page, machine)
    return machine


def _kept(page: Path, machine: str) -> Machine | None:
    with contextlib.suppress(UserError):
        known = read_machine(page)
        return known if known.id == machine else None
    return None


@contextlib.contextmanager
def _alone(page: Path) -> Iterator[None]:
    """Of several processes that begin together one measures and the others wait for it."""
    lock = FileLock(page.with_suffix(".lock"))
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, Timeout):
            page.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock.acquire(_PATIENCE_S))
        yield


def measured_machine(device: torch.device) -> Machine:
    """The machine at hand, measured now.

    Args:
        device: The processor or a GPU.
    """
    key = _key(device)
    memory = memory_of_machine()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    large = device.type == "cuda"
    with _one_thread(), torch.no_grad():
        side, images, pixels, values = (4096, 8, 256, 2**26) if large else (768, 1, 64, 2**23)
        matrix = torch.ones(side, side, device=device)
        image, kernel = torch.ones(images, 64, pixels, pixels, device=device), torch.ones(64, 64, 3, 3, device=device)
        source = torch.ones(values, device=device)
        target = torch.empty_like(source)
        products = 2 * side**3 / _fastest(lambda: matrix @ matrix, device)
        flops = 2 * 9 * 64 * 64 * images * pixels**2 / _fastest(lambda: conv2d(image, kernel, padding=1), device)
        moved = 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)
    return Machine(
        _id(key),
        str(key["name"]),
        device.type,
        round(products / 1e9, 2),
        round(flops / 1e9, 2),
        round(moved / 1e9, 2),
        None if memory is None else round(memory, 1),
        int(key["count"]),
    )


def _key(device: torch.device) -> dict[str, Any]:
    """What makes it another machine."""
    if device.type == "cuda":
        name, count = torch.cuda.get_device_name(device), torch.cuda.device_count()
    else:
        name, count = processor(), cores()
    about = {"name": name, "count": count, "memory": memory_of_machine(), "torch": torch.__version__}
    return {**about, "device": device.type, "measure": _MEASURE}


def _id(key: dict[str, Any]) -> str:
    return f"{key['device']}-{identity('machine', key)}"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that it takes at best."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def once() -> float:
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - began

    once()
    found: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(found) < _LEAST_TIMES or time.perf_counter() < until:
        found.append(once())
    return max(min(found), 1e-9)
