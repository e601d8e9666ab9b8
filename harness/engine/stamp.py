"""Whether anything that a finished run was made from has changed: told by files' stamps, before anything heavy loads.

A run that has nothing left to do notes what is seen of every input (size, times, inode), beside its report. The same
call again compares these alone, which takes milliseconds, where reading suite, plugins and data sets takes torch and
pandas. What differs, was never noted, or was touched while the run went on takes the long way; so does a plugin that
opens files, reads the environment or imports by computed names. Not seen is what the file system does not tell.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.files import OWN_PACKAGES, PLAN, RESULT_FOLDERS, SUITE, TERMINAL, sha256_of, stamp_of, write_whole

NOTE = "inputs.json"
"""In the folder of a report."""
_VARIABLES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "PYTHONPATH")
"""Of the environment, beside our own, that decide which files are meant."""
_INSTALLED = ("site-packages", "dist-packages")
"""Folders whose time changes when a package is installed, upgraded or removed."""


def note(folder: Path, call: Mapping[str, Any], name: str, inputs: Iterable[Path], began_ns: int) -> None:
    """Note that a run has nothing left to do, and what that was found from; not if an input was touched meanwhile.

    Args:
        folder: The run folder; its report is of what it holds.
        call: What was asked for, as plain values.
        name: Of the suite.
        inputs: Files and folders that decide what a run does, beside our own packages; a folder stands for the files
            in it. One that is not there is noted as such.
        began_ns: When the call began, before any input was read; nanoseconds since the epoch.
    """
    paths = sorted({Path(os.path.abspath(path)) for path in inputs})  # noqa: PTH100 (a link stays what it is)
    files = [file for path in paths for file in _files_of(path)]
    if any(_touched(file) >= began_ns for file in [*files, *_own_files()]):
        return
    value = {"call": _plain(call), "name": name, "state": _state(folder), "inputs": {str(p): _seen(p) for p in paths}}
    value["printed"] = _printed(folder)
    write_whole(folder / "report" / NOTE, (json.dumps(value, indent=1) + "\n").encode())


def recall(folder: Path, call: Mapping[str, Any]) -> str | None:
    """The suite's name, if this very call was found to have nothing left to do and nothing has changed since."""
    try:
        noted = json.loads((folder / "report" / NOTE).read_text(encoding="utf-8"))
        if noted["call"] != _plain(call) or any(_seen(Path(path)) != seen for path, seen in noted["inputs"].items()):
            return None
        same = noted["state"] == _state(folder) and noted["printed"] == _printed(folder)
        return str(noted["name"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def imported_by(files: Iterable[Path]) -> set[Path] | None:
    """Python files and what they import, wherever in them, as far as it is neither Python's nor an installed package's.

    Args:
        files: Where to start, such as ``--plugin`` files.

    Returns:
        The files and the folders of packages; None where one depends on what its text does not name.
    """
    from harness.plugins.code import code_of  # not above: what is found unchanged needs nothing of it

    code = code_of(files)
    return None if code.open_ended else {*code.files, *code.packages}


def _printed(folder: Path) -> str:
    """The sha256 of what would be printed again; empty where there is nothing."""
    path = folder / "report" / TERMINAL
    return sha256_of(path) if path.is_file() else ""


def _state(folder: Path) -> str:
    """Everything that is looked at whatever the suite: the run folder, our own packages, the installed ones, Python."""
    kept = [folder / part for part in (*RESULT_FOLDERS, "report")]
    lines = [f"{path}\0{stamp_of(path)}" for part in kept for path in _below(part) if path.name != NOTE]
    lines += [f"{path}\0{stamp_of(path)}" for path in (folder / SUITE, folder / PLAN, *_own_files())]
    lines += [f"{place}\0{_packages_in(Path(place))}" for place in sys.path]
    ours = {key: value for key, value in os.environ.items() if key.startswith("ROBUSTIQA_") or key in _VARIABLES}
    lines += [str(Path.cwd()), sys.executable, sys.version, repr(sorted(ours.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _packages_in(place: Path) -> str:
    """What changes when a distribution in a folder of `sys.path` does."""
    if place.name in _INSTALLED:
        return stamp_of(place)
    try:
        return repr(sorted(one.name for one in place.iterdir() if one.suffix in (".dist-info", ".egg-info")))
    except OSError:
        return ""


def _own_files() -> Iterator[Path]:
    for name in OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        for place in spec.submodule_search_locations or [] if spec else []:
            yield from _below(Path(place))


def _below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order; caches and names with a dot in front are nobody's."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _files_of(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.name != NOTE) if path.is_dir() else [path]


def _seen(path: Path) -> str:
    """What is seen of an input: of a folder, of every file in it."""
    if not path.is_dir():
        return stamp_of(path)
    lines = [f"{file.name}\0{stamp_of(file)}" for file in _files_of(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _touched(path: Path) -> int:
    """When a file, or the link that leads to it, was last written, renamed or put in place."""
    try:
        about = [os.stat(path), os.lstat(path)]  # noqa: PTH116
    except OSError:
        return 0
    return max(max(one.st_mtime_ns, one.st_ctime_ns) for one in about)


def _plain(call: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(call, default=str, sort_keys=True))
