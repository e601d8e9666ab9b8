"""Weights that would fit but for a prefix of their names: one too many, as of a wrapper, or one that lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from harness.plugins.weights.manifest import SUFFIX

_T = TypeVar("_T")
_Shapes = Mapping[str, tuple[int, ...]]


def under_prefix(named: Mapping[str, _T], remove: str, add: str) -> dict[str, _T]:
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
        if all(expected.get(name) == shape for name, shape in under_prefix(found, remove, add).items()):
            return remove, add
    return None


def convert_command(file: Path, remove: str, add: str) -> str:
    """The command that writes a weight file as safetensors, under other names."""
    options = [*(["--remove", remove] if remove else []), *(["--add", add] if add else [])]
    again = file.suffix.lower() == SUFFIX
    out = file.with_name(f"{file.stem}-renamed{SUFFIX}" if again else f"{file.stem}{SUFFIX}")
    return shlex.join(["robustiqa", "weights", "convert", str(file), *options, "--out", str(out)])


def _common(names: _Shapes) -> list[str]:
    """Every prefix of whole parts that all names begin with, the empty one first."""
    parts = next(iter(names)).split(".")[:-1]
    whole = [".".join(parts[:count]) + "." * bool(count) for count in range(len(parts) + 1)]
    return [prefix for prefix in whole if all(name.startswith(prefix) for name in names)]


def _heads(names: _Shapes) -> list[str]:
    """Every prefix of whole parts that a name begins with, the empty one among them."""
    parts = [name.split(".")[:-1] for name in names]
    return sorted({".".join(one[:count]) + "." * bool(count) for one in parts for count in range(len(one) + 1)})
