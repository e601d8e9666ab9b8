"""What a plugin is to the engine: its kind, where its name comes from, its class with its parameters.

It imports no plugin and nothing of ours but errors.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from harness.errors import UserError

_T = TypeVar("_T")
Kind = Literal["metrics", "attacks", "purifiers", "datasets", "recipes"]

KINDS: Mapping[Kind, tuple[str, str]] = {
    "metrics": ("metrics_zoo", "Metric"),
    "attacks": ("attacks", "Attack"),
    "purifiers": ("defenses.purifiers", "Purifier"),
    "datasets": ("harness.datasets", "Dataset"),
    "recipes": ("defenses.recipes", "Recipe"),
}
"""Kind -> (package whose files are read for names, contract the plugin must subclass)."""


class PluginError(UserError):
    """A plugin is unknown, or cannot be used as it is."""


@dataclass(frozen=True)
class Contents:
    """What of a plugin, as it is used, counts by content.

    Attributes:
        parameters: Parameter -> its value with the sha256 of what it names in place of each path; those without paths
            are left out.
        paths: Files and folders that these paths name.
        state: Hash of the values that it holds once built, whatever the seed; empty for our own and where none are.
        members: What decides results of each other metric that it was built of.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    state: str = ""
    members: tuple[Mapping[str, Any], ...] = ()

    def identity(self) -> dict[str, Any]:
        """What of it is part of identity, beside the parameters."""
        return {
            **({"state": self.state} if self.state else {}),
            **({"members": self.members} if self.members else {}),
        }


@dataclass(frozen=True)
class Parameter:
    """One YAML parameter of a plugin."""

    name: str
    annotation: Any
    default: Any
    """`inspect.Parameter.empty` where it must be given."""


@dataclass(frozen=True)
class BridgeSource:
    """A prefix and where its bridge will come from; nothing is imported yet."""

    prefix: str
    kind: Kind
    library: str
    """The distribution behind it; empty where only the bridge's own code knows."""
    install: str
    module: str
    origin: str
    """Where the bridge itself comes from: a module, a distribution, or a file."""
    file: Path | None = None
    version: str = ""
    """Distribution and version of an installed package that brings the bridge."""

    @property
    def status(self) -> str:
        """What a person is told of the library: 'piq 0.8.0', or that it is missing and how to get it."""
        if not self.library:
            return self.origin
        version = library_version(self.library)
        return f"{self.library} {version}" if version else f"{self.library}, not installed: {self.install}"


@dataclass(frozen=True)
class Source:
    """A name and where its class will come from; nothing is imported yet."""

    name: str
    kind: Kind
    module: str
    origin: str
    """What a person is told: a module, a distribution, or a file."""
    file: Path | None = None
    """Set for ``--plugin`` files: loaded from here, and its hash is part of identity."""
    version: str = ""
    """Distribution and version of an installed plugin; part of identity."""
    bridge: BridgeSource | None = None
    """The bridge that the name goes through."""


@dataclass(frozen=True)
class Plugin(Generic[_T]):
    """A loaded plugin: its class under one of its registered names."""

    name: str
    cls: type[_T]
    preset: Mapping[str, Any]
    weights: str | None
    origin: str
    code: str
    """What changes when its code does: hash of a ``--plugin`` file and of what it imports, versions of packages it is
    from, hash of a package developed in place; empty for ours (see `harness.plugins.code`)."""
    files: Mapping[Path, str] = field(default_factory=dict, compare=False)
    """The files that this hash is over, each with its sha256 when this process took it."""

    def parameters(self) -> list[Parameter]:
        """Its YAML parameters with defaults, presets applied."""
        if dataclasses.is_dataclass(self.cls):
            hints = _hints(self.cls)
            found = [
                Parameter(f.name, hints[f.name], _field_default(f)) for f in dataclasses.fields(self.cls) if f.init
            ]
        else:
            init: Any = self.cls.__init__
            hints = _hints(init) if isinstance(init, types.FunctionType) else {}
            found = [
                Parameter(p.name, hints.get(p.name, Any), p.default)
                for p in inspect.signature(init).parameters.values()
                if p.kind is inspect.Parameter.KEYWORD_ONLY
            ]
        return [dataclasses.replace(p, default=self.preset.get(p.name, p.default)) for p in found]

    def described(self, parameters: Mapping[str, Any]) -> str:
        """Docstring of its class; where it names a parameter in braces stands its value."""
        text = inspect.getdoc(self.cls) or ""
        for parameter in self.parameters():
            text = text.replace(f"{{{parameter.name}}}", str(parameters.get(parameter.name, parameter.default)))
        return text

    def build(self, parameters: Mapping[str, Any]) -> _T:
        """An instance with the given parameters over the presets."""
        from harness.plugins.guard import called_in_messages, calling

        with calling(called_in_messages(self.cls, f"'{self.name}' from {self.origin}"), "__init__"):
            return self.cls(**{**self.preset, **parameters})


@functools.cache
def _hints(annotated: Any) -> Mapping[str, Any]:
    """Types of a class's fields or a function's arguments."""
    return typing.get_type_hints(annotated)


def _field_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty


def singular(kind: Kind) -> str:
    """The name of one thing of a kind, for messages."""
    return "data set" if kind == "datasets" else kind.removesuffix("s")


def library_version(library: str) -> str:
    """Version of an installed distribution, else of a module of that name that was imported; empty if there is none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(library), "__version__", ""))
