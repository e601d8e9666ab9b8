"""Standard output, kept for what a command reports: what anything else prints goes to standard error."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NoReturn, TextIO

from harness.wording import tell

_REPORT: ContextVar[TextIO | None] = ContextVar("report", default=None)
_FOR_GOOD: ContextVar[bool] = ContextVar("for_good", default=False)
INTERRUPTED = 130
"""Exit code after a Ctrl-C."""
_OUT, _ERR = 1, 2
"""What the system calls standard output and standard error."""


def report_stream() -> TextIO:
    """Where a command writes what it reports; None, as `sys.stdout` is, where that was closed."""
    return _REPORT.get() or sys.stdout


def reserve_for_good() -> None:
    """Standard output is not given back after a command: the process ends with it."""
    _FOR_GOOD.set(True)


@contextlib.contextmanager
def reserved_output() -> Iterator[None]:
    """Standard output is that of `report_stream` alone; plugins, their threads and C code print on standard error."""
    given = sys.stdout
    own = _moved_away(given)
    before = _REPORT.set(own or given)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if (report := report_stream()) is not None:  # there is none where it was closed
            report.flush()
        if not _FOR_GOOD.get():
            sys.stdout = given
            _REPORT.reset(before)
            if own is not None:
                os.dup2(own.fileno(), _OUT)
                own.close()


def _moved_away(given: TextIO) -> TextIO | None:
    """The same output under another number, standard error in its place; None where it is no output of the system's."""
    try:
        if given.fileno() != _OUT:
            return None
        given.flush()
        moved = os.dup(_OUT)
        os.dup2(_ERR, _OUT)
    except (OSError, ValueError, AttributeError):
        return None
    return io.TextIOWrapper(
        os.fdopen(moved, "wb"),
        encoding=given.encoding,
        errors=given.errors,
        line_buffering=given.isatty(),
        write_through=bool(getattr(given, "write_through", False)),
    )


def end_process(code: int) -> NoReturn:
    """End it, whatever plugins left running, and without taking apart what the system takes back at once.

    Python would spend most of a second on that once torch is imported.

    Args:
        code: With which it ends.
    """
    left = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    if left:
        names = ", ".join(one.name for one in left)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            tell(f"note: not waited for what a plugin left running: {names}")
    elif code != INTERRUPTED:
        atexit._run_exitfuncs()
    # After a Ctrl-C through an `exec`, as of numpy's modules, Python would end by the signal itself.
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        if code != INTERRUPTED and not left:
            sys.exit(code)  # which has its own way of saying what could not be written
    os._exit(code)
