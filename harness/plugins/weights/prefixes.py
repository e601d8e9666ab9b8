"""Weights whose names lack a prefix or have one too many, as of a network that was saved by itself or in a wrapper."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from harness.files import write_whole
from harness.plugins.weights.manifest import SUFFIX, WeightsError

_T = TypeVar("_T")
_Shapes = Mapping[str, tuple[int, ...]]


def renamed(named: Mapping[str, _T], remove: str, add: str) -> dict[str, _T]:
    """What is there under names without a prefix that they have, and with another in front."""
    return {add + name.removeprefix(remove): value for name, value in named.items()}


def prefixes_that_fit(expected: _Shapes, found: _Shapes) -> tuple[str, str] | None:
    """What to take away from the names of a file, and what to put in front, so that they are a metric's.

    Args:
        expected: Names and shapes of the metric.
        found: Those of the file.

    Returns:
        The two prefixes, one of which may be empty; None where none makes all of the file's tensors the metric's.
    """
    if not found or any(name in expected for name in found):
        return None
    choices = [(remove, add) for remove in _common(found) for add in _heads(expected)]
    for remove, add in sorted(choices, key=lambda both: (len(both[0]) + len(both[1]), both)):
        if all(expected.get(name) == shape for name, shape in renamed(found, remove, add).items()):
            return remove, add
    return None


def rename_command(file: Path, remove: str, add: str) -> str:
    """The command that writes a weight file under other names."""
    options = [*(["--remove", remove] if remove else []), *(["--add", add] if add else [])]
    out = file.with_name(f"{file.stem}-renamed{file.suffix}")
    return shlex.join(["robustiqa", "weights", "rename", str(file), *options, "--out", str(out)])


def rename_file(file: Path, remove: str, add: str, out: Path) -> list[str]:
    """Write a weight file under other names.

    Args:
        file: A safetensors file.
        remove: What every name begins with, and is taken away; may be empty.
        add: What is put in front; may be empty.
        out: The new file.

    Returns:
        The new names.

    Raises:
        WeightsError: The file cannot be read, not every name begins so, or the new file is there or cannot be written.
    """
    from safetensors.torch import save

    from harness.plugins.weights.state_dicts import read_tensors

    if not remove and not add:
        raise WeightsError(f"weights rename {file}: nothing to do. Give --add, --remove or both.")
    if file.suffix.lower() != SUFFIX or out.suffix.lower() != SUFFIX:
        raise WeightsError(f"weights rename {file}: both files should end in {SUFFIX}. Give such names.")
    if out.exists():
        raise WeightsError(f"weights rename {file}: {out} is there already. Give another name with --out.")
    try:
        tensors = read_tensors(file.read_bytes(), file)
        without = [name for name in tensors if not name.startswith(remove)]
        if without:
            raise WeightsError(f"weights rename {file}: {without[0]} does not begin with '{remove}'. Mend --remove.")
        new = renamed(tensors, remove, add)
        write_whole(out, save({name: tensor.contiguous() for name, tensor in new.items()}))
    except OSError as error:
        raise WeightsError(f"weights rename: {error.filename or file}: {error.strerror or error}.") from error
    return sorted(new)


def _common(names: _Shapes) -> list[str]:
    """Every prefix of whole parts that all names begin with, the empty one first."""
    parts = next(iter(names)).split(".")[:-1]
    whole = [".".join(parts[:count]) + "." * bool(count) for count in range(len(parts) + 1)]
    return [prefix for prefix in whole if all(name.startswith(prefix) for name in names)]


def _heads(names: _Shapes) -> list[str]:
    """Every prefix of whole parts that a name begins with, the empty one among them."""
    parts = [name.split(".")[:-1] for name in names]
    return sorted({".".join(one[:count]) + "." * bool(count) for one in parts for count in range(len(one) + 1)})
