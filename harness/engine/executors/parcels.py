"""What jobs need that lies in files of this machine: found, taken along by content, and put into place on another one.

No path is part of an identity, so a job whose paths are changed is the same job.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.files import sha256_of, write_whole
from harness.plugins.weights.locate import MANIFEST, read_manifest
from harness.plugins.weights.manifest import PINS, read_entry
from harness.suite.model import DatasetUse, Use

_T = TypeVar("_T")
_Place = Callable[[Path], Path]
_Roots = Callable[[DatasetUse], Mapping[str, str]]


@dataclass(frozen=True)
class Parcel:
    """One file.

    Attributes:
        path: Where it lies on the machine that it comes from, absolute.
        sha256: Of its content.
    """

    path: Path
    sha256: str


def parcel(path: Path) -> tuple[Parcel, bytes]:
    """A file to take along, and its content.

    Args:
        path: The file.
    """
    content = path.read_bytes()
    return Parcel(path.absolute(), hashlib.sha256(content).hexdigest()), content


def files_needed(value: Any) -> list[Path]:
    """Files that jobs, or whatever is made of dataclasses, name: weights, manifests, and what parameters name.

    Images and labels are none of them: each machine has its own copy of a data set.

    Args:
        value: Jobs.
    """
    return list(dict.fromkeys(_needed(value, set())))


def _needed(value: Any, seen: set[int]) -> Iterator[Path]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | frozenset):
        for one in value:
            yield from _needed(one, seen)
    if not dataclasses.is_dataclass(value) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Use) and not isinstance(value, DatasetUse):
        named = [*value.contents.paths, *([file] if (file := getattr(value, "weights_file", None)) else [])]
        for path in named:
            yield from _files_at(path)
    for field in dataclasses.fields(value):
        yield from _needed(getattr(value, field.name), seen)


def _files_at(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(one for one in path.rglob("*") if one.is_file())
        return
    entry = None if path.is_file() else read_manifest().get(path.name)  # published ones are called FOLDER/NAME
    parts = read_entry(path.name, entry, path).parts if entry else ()
    names = [path.name, *(name for part in parts for name in (part.file, *part.also)), MANIFEST, PINS]
    there = [one for name in names if (one := path.with_name(name)).is_file()]
    yield from there if path.is_file() or parts else ()


def relocated(value: _T, place: _Place, roots: _Roots) -> _T:
    """A job as another machine needs it: the same, with the paths of that machine.

    Args:
        value: The job, or whatever is made of dataclasses.
        place: Where a file of the machine that the job comes from lies there.
        roots: Parameters of a data set that are other ones there, such as its folder.
    """
    found: Any = _moved(value, place, roots, {})
    return found  # type: ignore[no-any-return]


def _moved(value: Any, place: _Place, roots: _Roots, done: dict[int, Any]) -> Any:
    if isinstance(value, Path):
        return place(value)
    if isinstance(value, Mapping):
        return {key: _moved(one, place, roots, done) for key, one in value.items()}
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_moved(one, place, roots, done) for one in value)
    if isinstance(value, list):
        return [_moved(one, place, roots, done) for one in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    if id(value) in done:
        return done[id(value)][1]
    changed = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        new = _moved(old, place, roots, done)
        if new is not old and new != old:
            changed[field.name] = new
    if isinstance(value, Use):
        parameters = dict(value.parameters)
        if isinstance(value, DatasetUse):
            parameters |= roots(value)
        else:
            names = {str(path): str(place(path)) for path in value.contents.paths}
            parameters = {key: _renamed(one, names) for key, one in parameters.items()}
        if parameters != value.parameters:
            changed["parameters"] = parameters
    new = dataclasses.replace(value, **changed) if changed else value
    done[id(value)] = value, new  # the value too, so that its id stays its own
    return new


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value) or names.get(str(Path(value).expanduser().absolute()), value)
    if isinstance(value, Mapping):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_renamed(one, names) for one in value)
    return value


class Depot:
    """Where parcels lie on a machine: each content once, and a folder in which each file has the path it came from.

    Args:
        contents: A folder for contents, shared by all processes of the machine.
        tree: A folder of this process alone.
    """

    def __init__(self, contents: Path, tree: Path) -> None:
        self._contents = contents
        self._tree = tree

    def place(self, path: Path) -> Path:
        """Where a file that came from this absolute path lies, or would lie."""
        return self._tree.joinpath(*path.parts[1:])

    def put_also(self, folder: Path, there: Path) -> None:
        """Give what came from a folder a second place, where files of their names do not lie yet.

        Args:
            folder: The folder that they came from.
            there: The folder that they are also looked for in.
        """
        for path in sorted(self.place(folder).rglob("*")):
            if path.is_file() and not (target := there / path.relative_to(self.place(folder))).exists():
                write_whole(target, path.read_bytes())

    def put(self, parcels: Iterable[Parcel], content_of: Callable[[Parcel], bytes]) -> None:
        """Put files into place.

        Args:
            parcels: The files.
            content_of: Asked for what this machine does not have yet.

        Raises:
            ValueError: A content is not the one that was announced.
        """
        for one in parcels:
            there = self.place(one.path)
            if there.exists():
                continue
            kept = self._contents / one.sha256
            if not kept.is_file() or sha256_of(kept) != one.sha256:
                content = content_of(one)
                if hashlib.sha256(content).hexdigest() != one.sha256:
                    raise ValueError(f"{one.path}: what arrived is not what was sent")
                write_whole(kept, content)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(kept, there)
            except OSError:  # no links there, or on another file system
                shutil.copyfile(kept, there)
