"""Errors a user can cause. Each is printed as one message naming the thing, the place and the cure; exit code 2."""

import traceback
from pathlib import Path


class UserError(Exception):
    """A mistake of the user's. Printed as one message, without a traceback, exit code 2.

    >>> import harness
    >>> try:
    ...     harness.run("nowhere.yaml")
    ... except harness.UserError as error:
    ...     print(error)
    nowhere.yaml: no such file. Give the path of a YAML file.
    """


class DataError(UserError):
    """A data set or an image cannot be used as it is."""


def network_reason(error: Exception) -> str:
    """Why a download failed, in few words: the server's answer, or the innermost reason."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    innermost: BaseException = error
    while innermost.__context__ is not None:
        innermost = innermost.__context__
    text = getattr(innermost, "strerror", None) or str(innermost).splitlines()[0] if str(innermost) else ""
    return text or type(innermost).__name__


class PluginFaultError(Exception):
    """A plugin broke its contract; the message names it, where it comes from, what it did and the cure."""


_PLUGIN = "_raised_in_plugin"


def note_plugin(error: BaseException, who: str) -> None:
    """Note on an error that it came out of a plugin; the innermost plugin it came through is kept."""
    if not raised_in(error):
        setattr(error, _PLUGIN, who)


def raised_in(error: BaseException) -> str:
    """The plugin that an error came out of, "metric 'mae' from mae.py: score()"; empty where it came out of none."""
    return str(getattr(error, _PLUGIN, ""))


_PASSED_THROUGH = ("site-packages", str(Path("harness", "plugins", "guard.py")), "<frozen ")


def place_of(error: BaseException) -> str:
    """Where an error was raised, " (mae.py:7)", libraries aside; empty where that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in _PASSED_THROUGH)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
