"""What of a plugin counts by content: files its parameters name, tensors it holds once built, members built by name."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.plugins.model import Plugin

_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Contents:
    """What of a plugin, as it is used, counts by content.

    Attributes:
        parameters: Parameter -> its value with the sha256 of what it names in place of each path; those without paths
            are left out.
        paths: Files and folders that these paths name.
        state: Hash of the tensors that it holds once built, whatever the seed; empty for our own and where none are.
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


class RandomStateError(Exception):
    """A plugin makes its own weights anew at random; the message names the first of them."""


def by_content(value: Any, *, folders: bool) -> Any:
    """A parameter's value with ``sha256:...`` in place of each text that is the path of a file.

    Args:
        value: Text, number, or lists and mappings of them.
        folders: Whether folders count too, by the names and contents of all files in them; only those that are
            written with a slash, because a plain word is seldom meant as one.

    Raises:
        OSError: A file cannot be read.
    """
    if isinstance(value, Mapping):
        return {key: by_content(one, folders=folders) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [by_content(one, folders=folders) for one in value]
    path = _path(value, folders)
    return value if path is None else f"sha256:{_folder_hash(path) if path.is_dir() else _file_hash(path)}"


def paths_in(value: Any, *, folders: bool) -> Iterator[Path]:
    """The files and folders that `by_content` looks at, with all that is in the folders."""
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from paths_in(one, folders=folders)
    elif (path := _path(value, folders)) is not None:
        yield path
        yield from sorted(path.rglob("*")) if path.is_dir() else ()


def state_of(plugin: Plugin[Any], parameters: Mapping[str, Any], built: Any, *, weights: str | None) -> str:
    """Hash of the tensors and arrays that a plugin holds once built, where the engine did not put them there.

    It is built twice more, under two seeds: what is equal was loaded from somewhere, or is constant, and counts; what
    differs is random. Our own plugins are known by their version, so they are not built again.

    Args:
        plugin: From anywhere.
        parameters: What it is built with.
        built: It, built once.
        weights: "random", another text where the engine loads weights into it, or None where it has none.

    Raises:
        RandomStateError: Something in it is random, though it says that it needs no weights.
    """
    if not plugin.code or not any(True for _ in _tensors(built)):
        return ""
    first, second = (_hashes(_seeded(plugin, parameters, seed)) for seed in (0, 1))
    loaded: Collection[str] = ()
    if weights not in (None, "random") and isinstance(built, nn.Module):
        loaded = set(built.state_dict())
    differing = [name for name in first if first[name] != second.get(name)]
    if differing and weights is None:
        raise RandomStateError(differing[0])
    lines = [f"{name}\0{value}" for name, value in first.items() if name not in (*loaded, *differing)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _seeded(plugin: Plugin[Any], parameters: Mapping[str, Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return plugin.build(parameters)


def _hashes(built: Any) -> dict[str, str]:
    return {name: hashlib.sha256(_bytes(tensor)).hexdigest() for name, tensor in _tensors(built)}


def _tensors(
    value: Any, name: str = "", inside_of: frozenset[int] = frozenset()
) -> Iterator[tuple[str, Tensor | np.ndarray[Any, Any]]]:
    """Every tensor and array in an object, its parts and their parts, by the names they have in it."""
    if isinstance(value, Tensor | np.ndarray):
        yield name, value
        return
    inside: Mapping[Any, Any] = {}
    if isinstance(value, nn.Module):
        named = {**value._parameters, **value._buffers, **value._modules}
        inside = {**{key: one for key, one in vars(value).items() if not key.startswith("_")}, **named}
    elif isinstance(value, Mapping):
        inside = value
    elif isinstance(value, list | tuple):
        inside = dict(enumerate(value))
    elif not inside_of:
        inside = getattr(value, "__dict__", {})
    if id(value) not in inside_of:  # a part that knows its whole ends here
        for key, one in inside.items():
            yield from _tensors(one, f"{name}.{key}" if name else str(key), inside_of | {id(value)})


def _bytes(tensor: Tensor | np.ndarray[Any, Any]) -> bytes:
    """Type, shape and values."""
    if isinstance(tensor, np.ndarray):
        values = repr(tensor.tolist()).encode() if tensor.dtype.hasobject else tensor.tobytes()
        return f"{tensor.dtype} {tensor.shape}".encode() + values
    try:
        flat = tensor.detach().cpu().to_dense().contiguous().reshape(-1)
        return f"{tensor.dtype} {tuple(tensor.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # not there yet, or of no plain kind
        return str(tensor.dtype).encode()


def _path(value: Any, folders: bool) -> Path | None:
    """The file that a text names, or the folder, if it is there."""
    if not isinstance(value, str) or len(value) >= _LONGEST_PATH or not value.strip("./\\~"):
        return None
    try:
        path = Path(value).expanduser()
        if path.is_file() or (folders and path.is_dir() and set(value) & {"/", "\\"}):
            return path
    except (OSError, ValueError, RuntimeError):  # no name that a file could have, or the home of nobody
        pass
    return None


def _folder_hash(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    lines = [f"{path.relative_to(folder).as_posix()}\0{_file_hash(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    about = path.stat()
    return _hashed(path.absolute(), about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, *stamp: int) -> str:
    """The sha256 of a file of this size, these times and this place; a suite is read several times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
