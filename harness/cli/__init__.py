"""The command line. It imports torch and plugins only in the commands that need them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from harness.cli.app import app
from harness.errors import UserError
from harness.wording import for_screen


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; exit code 0 all done, 1 some cells failed, 2 bad usage or input, 130 interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of typer's
        if show is None:
            raise
        if hasattr(error, "message"):
            error.message = for_screen(str(error.message).replace("Value error, ", ""))
        show()
        code = int(getattr(error, "exit_code", 2))
    if code == 130:  # typer may also return it for a KeyboardInterrupt of its own accord
        _complain("interrupted. What was finished is kept; run the same command again to go on.")
    sys.exit(code or 0)


def _complain(message: str) -> None:
    lines = message.splitlines()
    more = f"{len(lines)} problems:\n" if len(lines) > 1 else ""
    print(for_screen(f"error: {more}{message}"), file=sys.stderr)
