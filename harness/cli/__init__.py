"""The command line. It imports torch and plugins only in the commands that need them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from harness.cli.app import app
from harness.cli.output import INTERRUPTED, end_process, reserve_for_good
from harness.errors import UserError, place_of, raised_in
from harness.wording import for_screen

_KEEP_NOTHING = ("plan", "doctor")
"""Verbs of which nothing is left where they are interrupted."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; exit code 0 all done, 1 some cells failed, 2 bad usage or input, 130 interrupted.

    Args:
        arguments: Those of the process if left out, which then ends with the command, whatever plugins left running.
    """
    interrupted = _interruptions() if arguments is None else []
    if arguments is None:
        reserve_for_good()
    try:
        code = app(args=arguments, standalone_mode=False)
    except BaseException as error:
        # An import that a Ctrl-C broke off may end in any other error.
        code = INTERRUPTED if interrupted else _answered(error)
    if code == INTERRUPTED:  # typer may also return it for a KeyboardInterrupt of its own accord
        verb = next((word for word in (sys.argv[1:] if arguments is None else arguments) if word[:1] != "-"), "")
        kept = (
            "Nothing is kept."
            if verb in _KEEP_NOTHING
            else "What was finished is kept; run the same command again to go on."
        )
        _complain(f"interrupted. {kept}")
        if interrupted:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # another would end it while it ends
    if arguments is None:
        end_process(code or 0)
    sys.exit(code or 0)


def _interruptions() -> list[int]:
    """A list to which every Ctrl-C adds something before it raises KeyboardInterrupt, where it raises that."""
    found: list[int] = []

    def raise_it(number: int, frame: object) -> NoReturn:
        found.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, raise_it)
    return found


def _answered(error: BaseException) -> int:
    """Say what went wrong, and with which code that ends the program; what nobody foresaw is raised again."""
    if isinstance(error, UserError):
        _complain(str(error), len(getattr(error, "lines", ())))
        return 2
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED
    if isinstance(error, SystemExit):  # of ours there is none inside of a command
        if isinstance(error.__context__, BrokenPipeError):  # as typer ends where nobody reads on, such as `| head`
            return _nobody_reads()
        _complain(f"a plugin ended the program{place_of(error)}. Mend the plugin, or leave it out.")
        return 2
    if isinstance(error, BrokenPipeError):
        return _nobody_reads()
    if hasattr(error, "show"):
        return _show_usage(error)
    if isinstance(error, Exception) and raised_in(error):
        return _blame_plugin(error)
    raise error


def _nobody_reads() -> int:
    """What was to be printed is not wanted any more, which is no failure."""
    sys.stderr.close()
    return 0


def _show_usage(error: Any) -> int:
    """A usage error of typer's."""
    if hasattr(error, "message"):
        error.message = for_screen(str(error.message).replace("Value error, ", ""))
    error.show()
    return int(getattr(error, "exit_code", 2))


def _blame_plugin(error: Exception) -> int:
    """What a plugin raised where nothing else was prepared for it."""
    from harness.plugins.returned import MEND, told_of_plugin

    _complain(f"{told_of_plugin(error)}. {MEND}")
    return 2


def _complain(message: str, count: int = 0) -> None:
    """Print what is wrong; `count` says how many problems it tells of where not each has a line of its own."""
    count = max(count, len(message.splitlines()))
    more = f"{count} problems:\n" if count > 1 else ""
    print(for_screen(f"error: {more}{message}"), file=sys.stderr)
