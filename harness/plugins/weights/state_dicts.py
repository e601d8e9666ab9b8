"""State dicts: read from verified bytes, and compared with the metric or network before anything is copied."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from harness.plugins.weights.manifest import SUFFIX, WeightsError
from harness.plugins.weights.prefixes import convert_command, prefixes_that_fit, under_prefix

_SHOWN_DIFFERENCES = 5
_UNREADABLE = (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError)


def read_tensors(content: bytes, path: Path, key: str = "") -> dict[str, Tensor]:
    """Tensors by name, on the CPU.

    Args:
        content: What the file at `path` holds. Bytes of a pickle must have been verified by their sha256 before.
        path: For messages, and its suffix says how to read.
        key: Where the tensors are, in a file of torch's that has more than them.

    Raises:
        WeightsError: These are no tensors by name.
    """
    if path.suffix.lower() == SUFFIX:
        return _read_safetensors(content, path)
    return _read_torch(content, path, key)


def _read_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = parse_safetensors(content)
    except SafetensorError as error:
        raise WeightsError(
            f"weight file {path}: not a safetensors file ({error}). Download or convert it again."
        ) from error
    # The format knows more types of numbers than the library has tensors for, and shapes that no tensor can have.
    except KeyError as error:
        raise WeightsError(
            f"weight file {path}: holds numbers of the type {error.args[0]}, which cannot be read. Convert them to F32."
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"weight file {path}: tensors cannot be made of it ({reason}). Convert it again.") from error
    return tensors


def _read_torch(content: bytes, path: Path, key: str) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (UnpicklingError, *_UNREADABLE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"weight file {path}: torch cannot read it as weights alone ({reason}). Download it again, or give a "
            f"{SUFFIX} file."
        ) from error
    if key and isinstance(found, Mapping):
        found = found.get(key, found)
    if isinstance(found, Mapping) and not key:
        inside = [name for name, value in found.items() if isinstance(value, Mapping) and _are_tensors(value)]
        if inside:
            raise WeightsError(f"weight file {path}: its tensors are in '{inside[0]}'. Give --key {inside[0]}.")
    if not isinstance(found, Mapping) or not _are_tensors(found):
        raise WeightsError(f"weight file {path}: holds no tensors by name. Download it again.")
    return {str(name): tensor for name, tensor in found.items()}


def _are_tensors(found: Mapping[object, object]) -> bool:
    return all(isinstance(value, Tensor) for value in found.values())


def refuse_misfit(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, kind: str = "metric", file: Path | None = None
) -> None:
    """Whether tensors are a state dict of a metric, or of the network of a purifier; changes nothing.

    Args:
        module: It, built.
        tensors: The state dict.
        where: Where it is from, for messages.
        kind: "metric" or "purifier", for messages.
        file: The one file that they are from, of which a copy can be made under other names.

    Raises:
        WeightsError: Tensors are missing, unexpected, of another shape, no floats, or not finite; the first are listed.
    """
    state = module.state_dict()
    broken = [f"{key} is not finite" for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    broken += [
        f"{key} holds {str(tensor.dtype).removeprefix('torch.')}, not floats"
        for key, tensor in tensors.items()
        if key in state and state[key].is_floating_point() and not tensor.is_floating_point()
    ]
    expected, found = ({key: tuple(tensor.shape) for key, tensor in named.items()} for named in (state, tensors))
    if file is not None and (prefixes := prefixes_that_fit(expected, found)) is not None:
        raise WeightsError(f"{where} does not fit {type(module).__name__}: {_told(prefixes, expected, found, file)}")
    differences = _differences(expected, found, "metric" if kind == "metric" else "network")
    if differences:
        raise WeightsError(
            f"{where} does not fit {type(module).__name__}: {_listed([*differences, *broken])}. "
            f"Build the {kind} with the parameters the weights were trained with."
        )
    if broken:
        raise WeightsError(f"{where} holds no usable weights: {_listed(broken)}. Train or download them again.")


def _told(
    prefixes: tuple[str, str], expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], file: Path
) -> str:
    """What prefixes would make of weights none of whose names fits."""
    remove, add = prefixes
    change = " and ".join([f"without '{remove}'"] * bool(remove) + [f"with '{add}' in front"] * bool(add))
    lacking = expected.keys() - under_prefix(found, remove, add).keys()
    rest = f", though {len(lacking)} of the metric's {len(expected)} stay missing" if lacking else ""
    first = min(found)
    return (
        f"none of its {len(found)} names is expected, and all are {change} ({first} -> "
        f"{add}{first.removeprefix(remove)}){rest}. A copy with these names: {convert_command(file, remove, add)}"
    )


def _listed(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN_DIFFERENCES
    return "; ".join(differences[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], what: str) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in found]
    unexpected = [f"{key} is not part of the {what}" for key in sorted(found) if key not in expected]
    shapes = [
        f"{key} has shape {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    kinds = itertools.zip_longest(missing, unexpected, shapes)  # so that a long list of one kind hides no other
    return [difference for three in kinds for difference in three if difference is not None]
