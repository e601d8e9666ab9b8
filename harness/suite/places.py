"""Where data sets and weights lie that a suite names by relative paths: beside the file that says so.

A path that leads nowhere from there is taken from the current folder, as those of the command line are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plugins.weights.locate import RANDOM_WEIGHTS, read_manifest
from harness.suite.over_splits import NUMBER
from harness.suite.strict_yaml import Document, YamlPath

_KEYS: Mapping[str, Collection[str]] = {
    "datasets": ("root", "file"),
    "metrics": ("weights",),
    "defenses": ("weights",),
}
"""Where a suite lists plugins -> the keys of an entry that name files or folders."""
_MOST_SPLITS = 1000


def settle(document: Document) -> frozenset[str]:
    """Make relative paths that lead somewhere from the file that has them lead there from the current folder, in place.

    Args:
        document: A suite as it was written.

    Returns:
        The absolute forms of every such path, of each split's where it has the number of one.
    """
    found: set[str] = set()
    value = document.value
    if not isinstance(value, dict):
        return frozenset()
    named, count = _named_weights(), value.get("splits")
    splits = range(count if isinstance(count, int) and 0 < count <= _MOST_SPLITS else 1)

    def settled(path: YamlPath, text: str) -> str:
        if not _is_relative(text) or (path[0] != "datasets" and (text == RANDOM_WEIGHTS or text in named)):
            return text
        key = next(str(part) for part in reversed(path) if part in _KEYS[str(path[0])])
        place = document.values.get(path)
        written_in = Path(place.shown).parent if place is not None and place.line > 0 else Path()
        for base in dict.fromkeys((written_in, Path())):
            there = base / text
            if _there(key, Path(str(there).replace(NUMBER, "0"))):
                found.update(str(there.absolute()).replace(NUMBER, str(index)) for index in splits)
                return text if base == Path() else str(there)
        return text

    for kind in _KEYS:
        if isinstance(value.get(kind), list):
            value[kind] = _each(value[kind], (kind,), settled)
    return frozenset(found)


def written_beside(suite: Mapping[str, Any], relative: Collection[str], folder: Path) -> dict[str, Any]:
    """A resolved suite with paths that its file had relative made relative to a folder: that of its run.

    Args:
        suite: What `Suite.resolved` says.
        relative: What `settle` returned.
        folder: The folder.
    """

    def beside(path: YamlPath, text: str) -> str:
        absolute = str(Path(text).absolute())
        if not any(absolute == one or absolute.startswith(one + os.sep) for one in relative):
            return text
        try:
            return os.path.relpath(os.path.realpath(text), os.path.realpath(folder))
        except ValueError:  # on another drive
            return text

    return {key: _each(value, (key,), beside) if key in _KEYS else value for key, value in suite.items()}


def led_from(suite: Mapping[str, Any], folder: Path, other: Path) -> dict[str, Any]:
    """The suite of a run folder with paths that lead somewhere from it leading there from another folder.

    Args:
        suite: What its ``suite.yaml`` says, as `written_beside` made it.
        folder: The run folder.
        other: The other one.
    """

    def moved(path: YamlPath, text: str) -> str:
        if not _is_relative(text) or not (folder / text).exists():
            return text
        return os.path.relpath(os.path.realpath(folder / text), os.path.realpath(other))

    return {key: _each(value, (key,), moved) if key in _KEYS else value for key, value in suite.items()}


def _each(value: Any, path: YamlPath, change: Callable[[YamlPath, str], str]) -> Any:
    """Entries with every text changed that stands under one of the keys."""
    if isinstance(value, list):
        return [_each(one, (*path, i), change) for i, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {
        key: _changed(one, (*path, key), change)
        if key in _KEYS[str(path[0])]
        else _each(one, (*path, key), change)
        if key in ("chain", "matrix")
        else one
        for key, one in value.items()
    }


def _changed(value: Any, path: YamlPath, change: Callable[[YamlPath, str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _changed(one, (*path, key), change) for key, one in value.items()}
    if isinstance(value, list):
        return [_changed(one, (*path, i), change) for i, one in enumerate(value)]
    return change(path, value) if isinstance(value, str) else value


def _named_weights() -> Collection[str]:
    """Names of the manifest; none where it is damaged, which is told where an entry asks for one."""
    try:
        return read_manifest().keys()
    except UserError:
        return ()


def _is_relative(text: str) -> bool:
    return bool(text) and "\0" not in text and not text.startswith("~") and not Path(text).is_absolute()


def _there(key: str, path: Path) -> bool:
    """Whether what a key means is there: a folder, a file, or for weights either, and published ones as FOLDER/NAME."""
    try:
        if key == "file":
            return path.is_file()
        return path.exists() or (key == "weights" and path.parent.is_dir() and path.name in _named_weights())
    except (OSError, ValueError):
        return False
