"""What ``robustiqa`` and ``python -m harness`` start: quiet under Ctrl-C while the first things are imported."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def start() -> NoReturn:
    """Run the command line with the arguments of the process; see `harness.cli.main`."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _leave)
    from harness.cli import main as command_line

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


def _leave(number: int, frame: object) -> NoReturn:
    """Nothing has begun that would have to be ended."""
    os.write(2, b"error: interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    start()
