"""What every call into a plugin passes through: how it ends is the plugin's own, what it leaves behind is undone.

A plugin is Python code with the rights of whoever runs it. This is no wall against one that means harm; it keeps one
that exits, changes directory or sets a global switch from ending a run in silence or bending the numbers of others.
"""

from __future__ import annotations

import _signal as _signals  # type: ignore[import-not-found]
import contextlib
import functools
import os
import random
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import nn

from harness.errors import PluginFaultError, note_plugin, place_of

_getsignal, _signal = (getattr(_signals, name) for name in ("getsignal", "signal"))
"""Those of `signal` without the enumerations that it dresses numbers in, which take longer than all else here."""
_CALLED = "_called_in_messages"
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name))
"""Signals whose handlers are looked at beside that of SIGINT."""


class calling:  # noqa: N801 (reads as the statement that it is)
    """A stretch of a plugin's code, or of ours that calls plugins.

    What changes in it of the process is put back: torch's settings always, the rest (`_Process`, `_Signals`) after the
    outermost of nested stretches, because an attack calls a metric a thousand times.

    Args:
        plugin: What it is called in messages, with where it comes from: "metric 'mae' from mae.py".
        method: Which of its methods; empty for none.
        ours: Whether it is our code, `plugin` saying what it does: whoever ends the program there is blamed all the
            same, while other exceptions are nobody's.

    Raises:
        PluginFaultError: It raised what would have ended the program: SystemExit, or a KeyboardInterrupt that no
            Ctrl-C was the cause of. Other exceptions pass, with a note of whose they are.
        KeyboardInterrupt: A Ctrl-C, even where the plugin made another error of it or none.
    """

    __slots__ = ("_method", "_ours", "_outer", "_plugin", "_process", "_signals", "_torch")

    def __init__(self, plugin: str, method: str = "", *, ours: bool = False) -> None:
        self._plugin, self._method, self._ours = plugin, method, ours

    @property
    def who(self) -> str:
        """What is run, as messages have it: metric 'mae' from mae.py: score()."""
        return f"{self._plugin}: {self._method}()" if self._method else self._plugin

    def __enter__(self) -> Self:
        self._outer, self._torch = _RUNNING.get(), [] if _BESIDE.get() else _torch_settings()
        outermost = (self._outer is None or self._outer._ours) and not _BESIDE.get()
        self._process = _Process() if outermost and not self._ours else None
        self._signals: _Signals = self._outer._signals if self._outer else _Signals()
        try:
            _announce(self)
            _RUNNING.set(self)
        except BaseException:  # a Ctrl-C
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._leave()
        if self._signals.interrupted and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        if isinstance(error, Exception):
            if not self._ours:
                note_plugin(error, self.who)
        elif not (error is None or isinstance(error, GeneratorExit) or self._signals.interrupted):
            raise self._fault(error) from error

    def _leave(self) -> None:
        _RUNNING.set(self._outer)
        _announce(self._outer)
        _put_torch_back(self._torch)
        if self._process is not None:
            self._process.put_back()
        if self._outer is None:
            self._signals.put_back()

    def _fault(self, error: BaseException) -> PluginFaultError:
        said = f": {error}" if error.args not in ((), (None,)) else ""
        who = f"{self.who}: a plugin" if self._ours else self.who
        fault = PluginFaultError(
            f"{who} raised {type(error).__name__}{said}{place_of(error)}; a plugin must not end the program"
        )
        note_plugin(fault, who)
        return fault


@contextlib.contextmanager
def importing(plugin: str) -> Iterator[None]:
    """`calling` for code that runs once, so that there is time to put the global random generators back too.

    Args:
        plugin: What it is called in messages.
    """
    python, legacy, drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (kept)
    try:
        with calling(plugin):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(drawn)


_RUNNING: ContextVar[calling | None] = ContextVar("running", default=None)
_ANNOUNCE: ContextVar[Callable[[str], None] | None] = ContextVar("announce", default=None)


_BESIDE: ContextVar[bool] = ContextVar("beside", default=False)


@contextlib.contextmanager
def beside_the_worker() -> Iterator[None]:
    """Plugins of ours that are called by a thread beside the one that works: nothing of the process is put back.

    What it was when one was called may be what another, in the thread that works, had changed for a moment.
    """
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def _announce(running: calling | None) -> None:
    if (hear := _ANNOUNCE.get()) is not None:
        hear("" if running is None or running._ours else running.who)


def announce_to(hear: Callable[[str], None]) -> None:
    """From now on tell, at every change, whose code runs in this thread: `calling.who`, and "" outside of plugins."""
    _ANNOUNCE.set(hear)


class _Signals:
    """How signals are answered, and how Python leaves: as it was when plugins began to be called."""

    def __init__(self) -> None:
        self.interrupted = False
        """Whether a Ctrl-C was answered by KeyboardInterrupt meanwhile."""
        self._pid = os.getpid()
        self._reached = threading.current_thread() is threading.main_thread()
        """Whether signals reach this thread."""
        if self._reached:
            self._handlers = {number: _getsignal(number) for number in _ENDING}
            self._alarm = _alarm_set()
            self._leave, os._exit = os._exit, self._refuse_to_leave
            self._on_ctrl_c = _getsignal(signal.SIGINT)
            if callable(self._on_ctrl_c):
                _signal(signal.SIGINT, self._ctrl_c)

    def put_back(self) -> None:
        """Undo what was changed."""
        if os.getpid() != self._pid:  # a child that a plugin forked and let run on must not go on as we do
            os._exit(1)
        if not self._reached:
            return
        os._exit = self._leave
        if _alarm_set() and not self._alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._on_ctrl_c is not None:
            _signal(signal.SIGINT, self._on_ctrl_c)
        for number, handler in self._handlers.items():
            if handler is not None and _getsignal(number) != handler:
                _signal(number, handler)

    def _ctrl_c(self, number: int, frame: types.FrameType | None) -> None:
        """Answer as before, and remember where that raises."""
        try:
            self._on_ctrl_c(number, frame)
        except KeyboardInterrupt:
            self.interrupted = True
            raise

    def _refuse_to_leave(self, status: int = 0) -> NoReturn:
        if os.getpid() != self._pid:  # of a process that the plugin started, this is how it ends
            self._leave(status)
        raise SystemExit(f"os._exit({status})")


def _alarm_set() -> bool:
    """Whether an alarm is to come; never where the system has none."""
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


class _Process:
    """What else plugins may change of a process, as it was when the outermost of them was called."""

    def __init__(self) -> None:
        self._folder = _folder()
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._warnings = list(warnings.filters), warnings.showwarning
        self._numpy = np.geterr()
        self._device = torch.empty(0).device  # of new tensors, and quicker to ask for than the default
        self._cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        self._matmul = torch.get_float32_matmul_precision()

    def put_back(self) -> None:
        """Undo what was changed."""
        if _folder() != self._folder:
            with contextlib.suppress(OSError):
                os.chdir(self._folder)
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            sys.stdin, sys.stdout, sys.stderr = self._streams
        filters, warnings.showwarning = self._warnings
        kept: Any = warnings.filters  # a list, whatever its stub says
        if kept != filters:
            kept[:] = filters
        if np.geterr() != self._numpy:
            np.seterr(**self._numpy)
        if torch.empty(0).device != self._device:
            torch.set_default_device(None if self._device.type == "cpu" else self._device)
        if torch.get_float32_matmul_precision() != self._matmul:
            torch.set_float32_matmul_precision(self._matmul)
        if (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) != self._cudnn:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self._cudnn


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (as text, asked at every call)
    except OSError:  # it was removed
        return ""


_TORCH: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
)
"""What of torch bends the very next computation: quick to ask for, because every step of an attack does."""


def _torch_settings() -> list[Any]:
    return [get() for get, _ in _TORCH]


def _put_torch_back(settings: list[Any]) -> None:
    for (get, put), value in zip(_TORCH, settings, strict=False):
        if get() != value:
            put(value)


def guard(cls: type, contract: type, called: str) -> None:
    """Let every method that a plugin's class has of its contract pass through `calling`; once, however often called.

    Args:
        cls: The class, which is changed; classes that it inherits from are not.
        contract: What it is a subclass of.
        called: What it is called in messages.
    """
    if _CALLED in vars(cls):
        return
    setattr(cls, _CALLED, called)
    theirs = [owner for owner in cls.__mro__ if owner not in contract.__mro__]
    own = {name: value for owner in reversed(theirs) for name, value in vars(owner).items()}
    for name, value in own.items():
        if hasattr(contract, name) and not name.startswith("__"):
            guarded = _through(value, name)
            if guarded is not value:
                setattr(cls, name, guarded)
    if issubclass(cls, nn.Module) and "__call__" not in own:  # where its hooks run
        cls.__call__ = _through_guard(nn.Module.__call__, "__call__")  # type: ignore[method-assign]


def called_in_messages(cls: type, otherwise: str) -> str:
    """What a guarded class is called in messages."""
    return str(vars(cls).get(_CALLED, otherwise))


def _through(value: Any, name: str) -> Any:
    """A method or property whose code passes through the guard; anything else as it is."""
    if isinstance(value, types.FunctionType):
        return value if hasattr(value, "is_guarded") else _through_guard(value, name)
    if isinstance(value, classmethod) and not hasattr(value.__func__, "is_guarded"):
        return classmethod(_through_guard(value.__func__, name))
    if isinstance(value, property) and value.fget is not None and not hasattr(value.fget, "is_guarded"):
        return property(_through_guard(value.fget, name), value.fset, value.fdel, value.__doc__)
    return value


def _through_guard(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        called = getattr(self if isinstance(self, type) else type(self), _CALLED)
        with calling(called, name):
            found = function(self, *args, **kwargs)
        return _step_by_step(found, called, name) if isinstance(found, types.GeneratorType) else found

    guarded.is_guarded = True  # type: ignore[attr-defined]
    return guarded


def _step_by_step(generator: Iterator[Any], called: str, name: str) -> Iterator[Any]:
    """What a generator yields, each step through the guard."""
    while True:
        with calling(called, name):
            try:
                found = next(generator)
            except StopIteration:
                return
        yield found
