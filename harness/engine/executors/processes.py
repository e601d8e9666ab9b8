"""Jobs in worker processes, one torch thread each. A job whose worker dies is tried once more, then failed.

A pool of our own, because `concurrent.futures` gives up on every job when one worker dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import multiprocessing as mp
import os
import signal
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from harness.engine.memory import keep_freed_memory
from harness.engine.nursery import THREAD_VARIABLES, environment, signals_held_back, start_method
from harness.engine.priority import stand_back
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Done, Job, Worker
from harness.errors import UserError
from harness.plugins.guard import announce_to

_TRIES = 2
_NAME_BYTES = 256
_LEAVE = os._exit
"""As it is now: while a plugin runs, its guard has another in this place."""


@dataclass
class _Hand:
    """One worker process as its parent sees it."""

    process: BaseProcess
    pipe: Connection
    plugin: Any
    """Shared memory of `_NAME_BYTES`: the plugin whose code runs in it, as its guard calls it; empty for none."""
    job: Job | None = None

    def death(self) -> str:
        """How it ended, in words: by which plugin, as far as can be known."""
        self.process.join(timeout=5)
        plugin = self.plugin.value.decode(errors="replace")
        return _how_it_ended(self.process.exitcode, f" in {plugin}" if plugin else "")


class ProcessExecutor:
    """Worker processes.

    Args:
        context: What each worker must know.
        workers: How many.
    """

    def __init__(self, context: Context, workers: int) -> None:
        self._context = context
        self.workers = workers
        self._start: Any = mp.get_context(start_method() if context.device == "cpu" else "spawn")
        self._hands: list[_Hand] = []

    def run(
        self,
        jobs: Sequence[Job],
        stop: Callable[[], bool],
        began: Callable[[int, Job], None],
        at: Callable[[int, str], None],
    ) -> Iterator[Done]:
        """Run the jobs, yielding each as it ends; once told to stop, only those that workers have begun.

        Raises:
            UserError: A worker could not write the run folder, or read a label file.
        """
        waiting: deque[Job] = deque(jobs)
        tries: dict[int, int] = {}
        left = len(jobs)
        while len(self._hands) < min(self.workers, len(jobs)):
            self._hands.append(self._hire())
        while left:
            if stop():
                left -= len(waiting)
                waiting.clear()
            for number, hand in enumerate(self._hands):
                if hand.job is None and waiting:
                    hand.job = waiting.popleft()
                    tries[id(hand.job)] = tries.get(id(hand.job), 0) + 1
                    began(number, hand.job)
                    self._send(hand)
            for hand in self._ready():
                result = self._receive(hand)
                if isinstance(result, str):
                    at(self._hands.index(hand), result)
                    continue
                job, hand.job = hand.job, None
                if result is None:
                    death = hand.death()
                    self._replace(hand)
                    if job is None:
                        continue
                    if tries[id(job)] < _TRIES:  # where all is to stop, it is left for the next time
                        again = job.again()
                        tries[id(again)] = tries[id(job)]
                        waiting.append(again)
                        continue
                    message = f"its worker process died {_TRIES} times: {death}"
                    result = job.fail(RunFolder(self._context.folder), message)
                left -= 1
                yield result

    def close(self) -> None:
        """End the workers: idle ones at once, busy ones too."""
        for hand in self._hands:
            hand.pipe.close()
            hand.process.kill()  # files are there whole or not at all
        for hand in self._hands:
            hand.process.join(timeout=5)
        self._hands.clear()

    def _hire(self) -> _Hand:
        ours, theirs = self._start.Pipe()
        plugin = self._start.RawArray(ctypes.c_char, _NAME_BYTES)
        with environment(THREAD_VARIABLES), _without_main(), signals_held_back():
            given = (theirs, self._context, plugin, dict(os.environ))
            process = self._start.Process(target=_work, args=given, daemon=True)
            process.start()
        theirs.close()
        return _Hand(process, ours, plugin)

    def _replace(self, hand: _Hand) -> None:
        hand.pipe.close()
        hand.process.kill()
        hand.process.join()
        self._hands[self._hands.index(hand)] = self._hire()

    def _send(self, hand: _Hand) -> None:
        with contextlib.suppress(OSError):  # it died; `_receive` will see the end of the pipe
            hand.pipe.send(hand.job)

    def _ready(self) -> list[_Hand]:
        busy = [hand for hand in self._hands if hand.job is not None]
        ready: list[Any] = wait([hand.pipe for hand in busy]) if busy else []
        return [hand for hand in busy if hand.pipe in ready]

    def _receive(self, hand: _Hand) -> Done | str | None:
        """What the worker says of its job: how far it is, or what became of it; None if it died."""
        try:
            answer = hand.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Done | str)
        return answer


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Spawned processes import the main module again, which in a script without a guard would run the suite again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _how_it_ended(code: int | None, where: str) -> str:
    if code is None or code >= 0:
        return f"it left with exit code {code}{where}"
    known = -code in set(signal.Signals)
    ended = f"it was ended by {signal.Signals(-code).name if known else f'signal {-code}'}{where}"
    return f"{ended}, as the kernel does where memory runs out" if -code == signal.SIGKILL else ended


def _work(pipe: Connection, context: Context, plugin: Any, variables: Mapping[str, str]) -> None:
    """A worker's life: do jobs until the parent hangs up; Ctrl-C and SIGTERM are the parent's to answer.

    What is printed goes to standard error, since standard output is the report's.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a scheduler may send the latter to all of a job
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _be_ones_own(variables)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    announce_to(functools.partial(_write_down, plugin))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    keep_freed_memory()
    stand_back(context.nice)
    worker: Worker | None = None
    try:
        while True:
            job = pipe.recv()
            try:
                worker = worker or Worker(context, pipe.send)
                answer: Any = worker.execute(job)
            except UserError as error:
                answer = error
            except Exception as error:
                answer = RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            pipe.send(answer)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


def _be_ones_own(variables: Mapping[str, str]) -> None:
    """What a copy of a server shares with the other copies, and a process that starts from nothing has of its own."""
    gc.freeze()  # what was imported stays: it need not be looked through for garbage, nor its memory be written to
    os.environ.clear()
    os.environ.update(variables)
    np.random.seed()  # noqa: NPY002 (plugins may draw from it)


def _write_down(plugin: Any, who: str) -> None:
    plugin.value = who.encode(errors="replace")[: _NAME_BYTES - 1]


def _die_with_parent() -> None:
    """A worker whose parent was killed must not go on writing beside a resumed run."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        _LEAVE(1)
