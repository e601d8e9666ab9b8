"""Worker processes are made ahead: a server imports what they need while the command itself still imports and plans.

Each worker is a copy of that server, which takes milliseconds and shares its memory, where a process of its own would
import torch again. The server does nothing but import: no tensor is made in it and no plugin is loaded, so it has no
thread that a copy would lack. It is Python's own (`multiprocessing.forkserver`), and for this program alone: whoever
calls robustiqa from Python keeps what they have, and gets processes that start from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

THREAD_VARIABLES = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of a process whose libraries are to have one thread each."""
_IMPORTED = ["harness.engine.executors.processes", "harness.testing.probes"]
_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""There where a driver of NVIDIA, WSL or AMD has found one."""


@contextlib.contextmanager
def workers_ahead(device: str | None) -> Iterator[None]:
    """Workers on a CPU are made ahead while this lasts, where the system can.

    Args:
        device: What was asked for; None for an accelerator where there is one.
    """
    server = _server() if _is_for_cpu(device) else None
    if server is None:
        yield
        return
    # Modules are to be found where this program finds them, and no others in the folder that it was called in.
    places = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}
    server.set_forkserver_preload(_IMPORTED)
    try:
        with contextlib.suppress(OSError), environment({**THREAD_VARIABLES, **places}), signals_held_back():
            server.ensure_running()
        yield
    finally:
        _end(server)


def start_method() -> str:
    """How `multiprocessing` is to start workers on a CPU."""
    server = _server_there_is()
    ours = server is not None and server._preload_modules == _IMPORTED
    return "forkserver" if ours else "spawn"


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that processes started meanwhile have."""
    saved = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """A process that is started inherits that Ctrl-C and SIGTERM wait, so that none ends it while it imports.

    Ours come after.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets Ctrl-C through again when it starts its process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_for_cpu(device: str | None) -> bool:
    """Whether a run will compute on the CPU, as far as that is known before torch is imported."""
    if device is not None:
        return device == "cpu"
    return not any(Path(one).exists() for one in _ACCELERATORS)


def _server() -> Any:
    """Python's server of processes, if none is running yet; None where there is none or copies are not safe."""
    if not sys.platform.startswith("linux") or "forkserver" not in mp.get_all_start_methods():
        return None  # elsewhere libraries of the system do not stand being copied
    from multiprocessing import forkserver

    return forkserver._forkserver if _server_there_is() is None else None


def _server_there_is() -> Any:
    """The running one."""
    module = sys.modules.get("multiprocessing.forkserver")
    server = getattr(module, "_forkserver", None)
    return server if getattr(server, "_forkserver_pid", None) is not None else None


def _end(server: Any) -> None:
    """End it at once, also while it imports."""
    with contextlib.suppress(OSError):
        if server._forkserver_pid is not None:
            os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()
    server.set_forkserver_preload(["__main__"])
