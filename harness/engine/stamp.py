"""Whether anything that a finished run was made from has changed: told by sizes and times, before anything heavy loads.

A run that has nothing left to do notes path, size and time of every input beside its report. The same call again
compares these alone, which takes milliseconds, where reading suite, plugins and data sets takes torch and pandas. What
differs, or was never noted, goes the long way; so this may be wrong in one direction only: towards too much work.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.files import write_whole

NOTE = "inputs.json"
"""In the folder of a report."""
_OURS = ("harness", "metrics_zoo", "attacks", "defenses")
_STORED = ("records", "facts", "fits", "probes", "examples", "failures", "provenance")


def note(folder: Path, call: Mapping[str, Any], inputs: Iterable[Path]) -> None:
    """Note that a run has nothing left to do, and what that was found from.

    Args:
        folder: The run folder; its report has been written.
        call: What was asked for, as plain values.
        inputs: Files and folders that decide what a run does, beside our own packages; a folder stands for the files
            in it. One that is not there is noted as such.
    """
    value = {"call": _plain(call), "state": _state(folder), "inputs": dict(_stamps(inputs))}
    write_whole(folder / "report" / NOTE, (json.dumps(value, indent=1) + "\n").encode())


def recall(folder: Path, call: Mapping[str, Any]) -> bool:
    """Whether this very call was found to have nothing left to do, and nothing has changed since."""
    try:
        noted = json.loads((folder / "report" / NOTE).read_text(encoding="utf-8"))
        inputs = noted["inputs"]
        same = noted["call"] == _plain(call) and dict(_stamps(map(Path, inputs))) == inputs
        return bool(same and noted["state"] == _state(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def imported_by(files: Iterable[Path]) -> set[Path]:
    """Python files and what they import, wherever in them, as far as it is neither Python's nor an installed package's.

    Args:
        files: Where to start, such as ``--plugin`` files.
    """
    found: set[Path] = set()
    left = [file.resolve() for file in files]
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        left += _imports(file)
    return found


def _imports(file: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    for top in sorted({name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)):
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        origin = Path(spec.origin).resolve() if spec and spec.origin and spec.has_location else None
        if origin is None or top in _OURS or set(_INSTALLED).intersection(origin.parts):
            continue
        yield from origin.parent.rglob("*.py") if origin.name == "__init__.py" else [origin]


def _state(folder: Path) -> str:
    """Everything that is looked at whatever the suite: the run folder, our own packages, the installed ones, Python."""
    digest = hashlib.sha256()
    for part in _STORED:
        for line in _tree(folder / part):
            digest.update(line.encode())
    for name in ("suite.yaml", "report"):
        for path, stamp in _stamps([folder / name]):
            if Path(path).name != NOTE:
                digest.update(f"{path} {stamp}".encode())
    for name in _OURS:
        spec = importlib.util.find_spec(name)
        for place in spec.submodule_search_locations or [] if spec else []:
            for line in _tree(Path(place), skip="__pycache__"):
                digest.update(line.encode())
    places = [(place, _time(place) if Path(place).name in _INSTALLED else 0) for place in sys.path]
    digest.update(repr((places, str(Path.cwd()), sys.executable, sys.version)).encode())
    ours = {key: value for key, value in os.environ.items() if key.startswith("ROBUSTIQA_") or key in _PLACES}
    digest.update(repr(sorted(ours.items())).encode())
    return digest.hexdigest()


_PLACES = ("HOME", "XDG_CACHE_HOME", "PYTHONPATH")
_INSTALLED = ("site-packages", "dist-packages")
"""Folders whose time changes when a package is installed, upgraded or removed."""


def _time(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns  # noqa: PTH116 (a path may be empty, or a zip file)
    except OSError:
        return 0


def _tree(folder: Path, skip: str = "") -> Iterator[str]:
    """Name, size and time of every file below a folder; names with a dot in front are nobody's."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != skip)
        for name in sorted(names):
            if not name.startswith("."):
                path = os.path.join(place, name)  # noqa: PTH118 (10,000 files: half the time)
                about = os.stat(path)  # noqa: PTH116
                yield f"{path} {about.st_size} {about.st_mtime_ns}"


def _stamps(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Path -> what is seen of it."""
    for path in sorted({path.absolute() for path in paths}):
        if path.is_dir():
            seen = hashlib.sha256("\n".join(_flat(path)).encode()).hexdigest()
        elif path.is_file():
            about = path.stat()
            seen = f"{about.st_size} {about.st_mtime_ns}"
        else:
            seen = "missing"
        yield str(path), seen


def _flat(folder: Path) -> list[str]:
    """Name, size and time of every file in a folder."""
    with os.scandir(folder) as found:
        about = [(one.name, one.stat()) for one in found if one.name != NOTE]
    return sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in about)


def _plain(call: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(call, default=str, sort_keys=True))
