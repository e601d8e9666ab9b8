"""What of a plugin counts by content: files its parameters name, values it holds once built, members built by name."""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
import sys
import types
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.files import sha256_of
from harness.plugins.model import Plugin

_LONGEST_PATH = 4096
_OBJECTS_DEEP = 3
"""How many objects, each held by the one before, are looked into; modules and containers do not count."""
_MODULES_OWN = frozenset(vars(nn.Module()))
"""What torch keeps in every module: its parts go by name, and the rest says nothing of values."""
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|hpu)(:\d+)?")
_Value = Tensor | np.ndarray[Any, Any] | np.generic | bool | int | float | complex | str | bytes | None
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class RandomStateError(Exception):
    """A plugin makes tensors anew at random that no weights are loaded into; the message names the first of them."""


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
    """Hash of the values that a plugin holds once built, where the engine did not put them there.

    It is built twice more, under two seeds: what is equal was loaded from somewhere, or is constant, and counts; what
    differs is random, or another each time. Our own plugins are known by their version, so they are not built again.

    Args:
        plugin: From anywhere.
        parameters: What it is built with.
        built: It, built once.
        weights: "random", another text where the engine loads weights into it, or None where it has none.

    Raises:
        RandomStateError: A tensor in it is random, and it needs no weights, or those given do not reach it.
    """
    if not plugin.code or not any(True for _ in _values(built)):
        return ""
    first, second = (_seeded(plugin, parameters, seed) for seed in (0, 1))
    loaded = _loaded_into(first) if weights not in (None, "random") else frozenset()
    values = {name: value for name, value in _values(first) if _storage(value) not in loaded}
    others = _hashes(dict(_values(second)))
    hashes = _hashes(values)
    equal = {name: value for name, value in hashes.items() if value == others.get(name)}
    made = [name for name in hashes if name not in equal and isinstance(values[name], Tensor | np.ndarray)]
    if weights is not None:  # what torch works out of parameters (weight_norm) it works out again
        made = [name for name in made if getattr(values[name], "grad_fn", None) is None]
    if made and weights != "random":
        raise RandomStateError(made[0])
    lines = [f"{name}\0{value}" for name, value in equal.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _seeded(plugin: Plugin[Any], parameters: Mapping[str, Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return plugin.build(parameters)


def _hashes(values: Mapping[str, _Value]) -> dict[str, str]:
    return {name: hashlib.sha256(_bytes(value)).hexdigest() for name, value in values.items()}


def _loaded_into(built: Any) -> frozenset[int]:
    """Where the tensors of a state dict lie, which weights are copied into."""
    tensors = built.state_dict().values() if isinstance(built, nn.Module) else ()
    return frozenset(place for tensor in tensors if (place := _storage(tensor)))


def _storage(value: Any) -> int:
    """Where a tensor's values lie; 0 for anything else, and where there is no such place."""
    try:
        return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else 0
    except (RuntimeError, NotImplementedError):  # sparse, or not there yet
        return 0


def _values(
    value: Any, name: str = "", inside_of: frozenset[int] = frozenset(), objects: int = 0
) -> Iterator[tuple[str, _Value]]:
    """Every tensor, array, number and text in an object, its parts and their parts, by the names they have in it."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        yield name, value
    elif isinstance(value, _PLAIN):
        if not _tells_where(value):
            yield name, value
    elif id(value) not in inside_of:  # a part that knows its whole ends here
        deeper = objects + (not isinstance(value, nn.Module | Mapping | list | tuple | Set))
        for key, one in _inside(value).items() if deeper <= _OBJECTS_DEEP else ():
            yield from _values(one, f"{name}.{key}" if name else key, inside_of | {id(value)}, deeper)


def _inside(value: Any) -> Mapping[str, Any]:
    """What an object consists of, by name; nothing for code and for the machinery of Python's own library."""
    if isinstance(value, nn.Module):
        named = {**value._parameters, **value._buffers, **value._modules}
        return {**{key: one for key, one in vars(value).items() if key not in _MODULES_OWN}, **named}
    if isinstance(value, Mapping):
        keys = [str(key) if isinstance(key, _PLAIN) else f"#{i}" for i, key in enumerate(value)]
        return dict(zip(keys, value.values(), strict=True))
    if isinstance(value, list | tuple | Set):
        ordered = sorted(value, key=repr) if isinstance(value, Set) else value
        return {str(i): one for i, one in enumerate(ordered)}
    library = type(value).__module__.partition(".")[0] in sys.stdlib_module_names
    if isinstance(value, type) or (library and not isinstance(value, types.SimpleNamespace | argparse.Namespace)):
        return {}
    slots = [slot for cls in type(value).__mro__ for slot in _texts(cls.__dict__.get("__slots__", ()))]
    slotted = {slot: getattr(value, slot) for slot in slots if not slot.startswith("__") and hasattr(value, slot)}
    return {**slotted, **getattr(value, "__dict__", {})}


def _texts(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _tells_where(value: Any) -> bool:
    """Whether it is a place on this machine (a path, a device), which decides no result."""
    if not isinstance(value, str):
        return False
    return bool(_DEVICE.fullmatch(value)) or value.startswith(("/", "~")) or _path(value, folders=True) is not None


def _bytes(value: _Value) -> bytes:
    """Type, shape and values."""
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        return f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
    if not isinstance(value, Tensor):
        values = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
        return f"{value.dtype} {value.shape}".encode() + values
    try:
        flat = value.detach().cpu().to_dense().contiguous().reshape(-1)
        return f"{value.dtype} {tuple(value.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # not there yet, or of no plain kind
        return str(value.dtype).encode()


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
    return sha256_of(path)
