"""Bridges: plugins of another library under the names PREFIX:NAME, the library imported when one is asked for.

A bridge is one class under `@bridge(prefix, kind, library=...)` in one file: ours are found in the packages of their
kind, those of others by an entry point in the group ``robustiqa.KIND.bridges`` or with ``--plugin``.
"""

from __future__ import annotations

import ast
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from harness.errors import UserError
from harness.plugins.decorators import decorators
from harness.plugins.model import BridgeSource, Kind

__all__ = ["Bridge", "NoSuchNameError", "bridge", "import_library"]

SEPARATOR = ":"
"""Between the prefix of a bridge and a name of its library."""

_B = TypeVar("_B", bound="type[Bridge]")


class NoSuchNameError(LookupError):
    """A library has nothing of this name; the registry adds the nearest names."""


@dataclass(frozen=True)
class Mark:
    """What `bridge` says of a class."""

    prefix: str
    kind: Kind
    library: str
    install: str


def bridge(prefix: str, kind: Kind, *, library: str, install: str = "") -> Callable[[_B], _B]:
    """Class decorator that puts a library behind a prefix; all arguments are literals, read without importing the file.

    Args:
        prefix: What stands before the colon in suites.
        kind: What the names are: "metrics", "attacks", ...
        library: The distribution that must be installed; its version is part of identity.
        install: The command that installs it; ``pip install LIBRARY`` unless given.
    """
    marked = _mark(prefix, kind, library=library, install=install)

    def mark(cls: _B) -> _B:
        cls.bridge_mark = marked
        return cls

    return mark


def _mark(prefix: str, kind: Kind, *, library: str, install: str = "") -> Mark:
    return Mark(prefix, kind, library, install or f"pip install {library}")


class Bridge(ABC):
    """What a library offers under a prefix. Its first docstring line is what `robustiqa show PREFIX` says."""

    bridge_mark: Mark
    cite: ClassVar[str | tuple[str, ...] | None] = None
    """What to cite for the library, as `harness.contracts.Citable.cite` has it."""

    def cited(self, name: str) -> str | tuple[str, ...] | None:
        """What to cite for one of its names beside `cite`, told without the library; by default nothing.

        Raises:
            NoSuchNameError: The bridge knows its names, and this is none.
        """
        return ""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Every NAME that can be had; asked for in messages and by `robustiqa show PREFIX`.

        Raises:
            UserError: The library is needed for this and cannot be imported.
        """

    @abstractmethod
    def load(self, name: str) -> type:
        """The plugin class of a NAME: a subclass of the contract of the kind, its parameters as in any plugin.

        Raises:
            NoSuchNameError: The library has no such name.
            UserError: The library cannot be imported, or what it has cannot be used; says why and what to do.
        """


def import_library(module: str, install: str = "") -> Any:
    """Import an optional library, or say in one sentence what is missing and how to get it.

    Args:
        module: Its name in Python.
        install: The command that installs it; ``pip install MODULE`` unless given.

    Raises:
        UserError: It cannot be imported. Compiled parts that do not fit raise RuntimeError or OSError at import.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        if missing == module.partition(".")[0]:
            raise UserError(f"{missing} is not installed. Get it with: {install or f'pip install {missing}'}") from None
        raise UserError(
            f"{module} needs {missing}, which is not installed. Get it with: pip install {missing}"
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{module} is installed but cannot be imported ({type(error).__name__}: {reason}). Install builds of it "
            "and of what it imports that fit the torch that is installed."
        ) from error


def bridges_written_in(text: str, module: str) -> Iterator[BridgeSource]:
    """The `@bridge(...)` decorators of a file, read without importing it."""
    for call in decorators(text, "bridge"):
        given = [ast.literal_eval(argument) for argument in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        mark = _mark(*given, **named)
        yield BridgeSource(mark.prefix, mark.kind, mark.library, mark.install, module, module)


def bridges_in(module: Any) -> Iterator[type[Bridge]]:
    """The bridges that an imported module defines."""
    for cls in vars(module).values():
        if isinstance(cls, type) and "bridge_mark" in cls.__dict__ and cls.__module__ == module.__name__:
            if not issubclass(cls, Bridge):
                raise UserError(f"{module.__file__}: class {cls.__name__} is under @bridge but is no Bridge.")
            yield cls
