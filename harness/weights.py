"""Weight files: found by name in the zoo's manifest or by path, verified by sha256 before a byte of them is used.

Only safetensors are read: a pickle can run code. Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.paths import cache_dir
from harness.registry import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts import Metric

MANIFEST = "manifest.json"
SUFFIX = ".safetensors"
RANDOM = "random"
"""What a suite writes in place of a weights name to score with untrained parameters on purpose."""
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")
_SHOWN_DIFFERENCES = 5


class WeightsError(UserError):
    """A weight file is missing, altered, or does not fit its metric."""


@dataclass(frozen=True)
class WeightFile:
    """A weight file whose contents were verified once, and are verified again when loaded."""

    name: str
    """Name in the manifest, or the path as the user gave it; for messages."""
    path: Path
    sha256: str


def zoo() -> Path:
    """Folder of the weights that come with robustiqa."""
    spec = importlib.util.find_spec("metrics_zoo")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError("the package metrics_zoo is not installed. Reinstall robustiqa.")
    return Path(spec.submodule_search_locations[0]) / "weights"


def read_manifest(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every entry of a weights manifest, by name; empty where the folder has none.

    An entry holds ``file``, ``sha256``, ``size`` (bytes), ``metric``, ``parameters``, ``licence``, ``recipe``,
    ``trained_on`` and ``validation``.

    Args:
        folder: Folder of the manifest; the zoo's by default.

    Raises:
        WeightsError: The manifest is no JSON object.
    """
    path = (folder or zoo()) / MANIFEST
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"weights manifest {path}: not valid JSON ({error}). Restore the file.") from error
    if not isinstance(entries, dict):
        raise WeightsError(f"weights manifest {path}: must be an object of entries by name. Restore the file.")
    return entries


def resolve(metric_name: str, weights: str | None, default: str | None) -> WeightFile | None:
    """The weight file a metric is to be loaded with; reads and verifies the file, builds nothing.

    Args:
        metric_name: The metric, for messages.
        weights: What the suite asks for: a name in the manifest, a path ending in .safetensors, or "random".
        default: Name in the manifest the metric was registered with; used when the suite asks for nothing.

    Returns:
        None where there is nothing to load: neither asked for nor a default, or "random" asked for.

    Raises:
        WeightsError: Unknown name, missing file, other sha256 than the manifest's, or a pickle.
    """
    wanted = weights if weights is not None else default
    if wanted is None or wanted == RANDOM:
        return None
    if weights is None and wanted not in read_manifest():
        raise WeightsError(
            f"metric '{metric_name}': its weights do not come with robustiqa. Give a file with "
            f"`weights: FILE{SUFFIX}`, or ask for `weights: {RANDOM}`."
        )
    path = Path(wanted).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(
            f"metric '{metric_name}': weights {wanted}: {path.suffix} files are pickles, which can run code, and are "
            f"not read. Convert the state dict with safetensors.torch.save_file and give the {SUFFIX} file."
        )
    if path.suffix.lower() == SUFFIX:
        return WeightFile(wanted, path, hashlib.sha256(_read(metric_name, path)).hexdigest())
    return _from_manifest(metric_name, wanted)


def _from_manifest(metric_name: str, name: str) -> WeightFile:
    manifest = read_manifest()
    if name not in manifest:
        raise WeightsError(
            f"metric '{metric_name}': no weights are called '{name}'.{did_you_mean(name, sorted(manifest))} "
            f"Give a name of the manifest, or a path ending in {SUFFIX}."
        )
    entry = manifest[name]
    if not isinstance(entry, dict) or not {"file", "sha256"} <= entry.keys():
        raise WeightsError(
            f"weights manifest {zoo() / MANIFEST}: the entry '{name}' lacks 'file' or 'sha256'. Restore the file."
        )
    file = WeightFile(name, _locate(str(entry["file"])), str(entry["sha256"]))
    _verified(file, metric_name)
    return file


def _locate(file: str) -> Path:
    """The zoo's own copy, else the cached download."""
    own = zoo() / file
    cached = cache_dir() / "weights" / file
    return cached if cached.is_file() and not own.is_file() else own


def _read(metric_name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"metric '{metric_name}': weight file {path}: {error.strerror or error}. "
            "Give the path of an existing file, train the weights (robustiqa train), "
            f"or ask for `weights: {RANDOM}`."
        ) from error


def _verified(file: WeightFile, metric_name: str) -> bytes:
    """The bytes of a weight file, whose sha256 is the expected one."""
    content = _read(metric_name, file.path)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise WeightsError(
            f"metric '{metric_name}': weight file {file.path}: sha256 is {found}, expected {file.sha256}. "
            "The file was changed or is damaged: restore it, or give its path to use it as weights of your own."
        )
    return content


def check(metric: Metric, weight_file: WeightFile) -> None:
    """Whether a weight file fits a metric; builds and changes nothing.

    Raises:
        WeightsError: It is no safetensors file, has missing, unexpected or differently shaped tensors, or holds numbers
            that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weight_file.path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"weight file {weight_file.path}: not a safetensors file ({error}). Download or convert it again."
        ) from error
    _refuse_misfit(metric, tensors, weight_file)


def load(metric: Metric, weight_file: WeightFile) -> None:
    """Verify a weight file and copy its tensors into a metric.

    Args:
        metric: The metric, built with the parameters the weights were trained with.
        weight_file: What `resolve` returned.

    Raises:
        WeightsError: The file changed since, is no safetensors file, has missing, unexpected or differently shaped
            tensors (the first differences are listed), or holds numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    content = _verified(weight_file, type(metric).__name__)
    try:
        tensors: dict[str, Tensor] = parse(content)
    except SafetensorError as error:
        raise WeightsError(
            f"weight file {weight_file.path}: not a safetensors file ({error}). Download or convert it again."
        ) from error
    _refuse_misfit(metric, tensors, weight_file)
    metric.load_state_dict(tensors)


def _refuse_misfit(metric: Metric, tensors: Mapping[str, Tensor], weight_file: WeightFile) -> None:
    state = metric.state_dict()
    broken = [f"{key} is not finite" for key, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    broken += [
        f"{key} holds {str(tensor.dtype).removeprefix('torch.')}, not floats"
        for key, tensor in tensors.items()
        if key in state and state[key].is_floating_point() and not tensor.is_floating_point()
    ]
    differences = _differences(
        {key: tuple(tensor.shape) for key, tensor in state.items()},
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
    )
    where = f"weight file {weight_file.path}"
    if differences:
        raise WeightsError(
            f"{where} does not fit {type(metric).__name__}: {_listed([*differences, *broken])}. "
            "Build the metric with the parameters the weights were trained with."
        )
    if broken:
        raise WeightsError(f"{where} holds no usable weights: {_listed(broken)}. Train or download them again.")


def _listed(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN_DIFFERENCES
    return "; ".join(differences[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in found]
    unexpected = [f"{key} is not part of the metric" for key in found if key not in expected]
    shapes = [
        f"{key} has shape {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    return [*missing, *unexpected, *shapes]
