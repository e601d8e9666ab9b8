"""Weights between two models: (1 - share) x A + share x B, the points of a clean-robust frontier."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.files import shown
from harness.plugins.weights.locate import read_manifest, resolve
from harness.plugins.weights.manifest import SUFFIX, WeightsError
from harness.plugins.weights.state_dicts import read_tensors
from harness.training.output import list_weights, write_weights
from harness.wording import trained_name

_NAME = re.compile(r"[\w.+@-]+")
_SHOWN = 5
_WHO = "weights mix"


@dataclass(frozen=True)
class Mixed:
    """One file that `mix` wrote."""

    path: Path
    share: float
    sha256: str


@dataclass(frozen=True)
class _End:
    """One end of the line: verified tensors, and what its manifest says of them."""

    name: str
    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    entry: Mapping[str, Any]


def parse_shares(text: str) -> tuple[float, ...]:
    """The shares of ``--at 0,.25,1``: numbers from 0 to 1, each once.

    Raises:
        WeightsError: A part is none.
    """
    shares = []
    for part in text.split(","):
        try:
            share = float(part)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise WeightsError(f"--at {text}: '{part.strip()}' is no share. Give numbers from 0 (A) to 1 (B): 0,.5,1.")
        shares.append(share)
    if len(set(shares)) < len(shares):
        raise WeightsError(f"--at {text}: a share stands there twice. Give each once.")
    return tuple(shares)


def mix(a: str, b: str, shares: Sequence[float], out: Path = Path(), name: str | None = None) -> list[Mixed]:
    """Write the weights at each share of the line from A to B, and list them in the manifest of their folder.

    Share 0 is A and share 1 is B, to the bit. Buffers that are no floats are taken from A. Files are called
    ``METRIC@NAME@SHARE.safetensors``, so that a suite finds them in their folder as the defense ``NAME@SHARE``;
    ``NAME@SHARE.safetensors`` where no manifest says what metric the weights are of.

    Args:
        a: Name in the manifest, or a .safetensors file: the base.
        b: Likewise: the defended model.
        shares: How much of B, each in [0, 1].
        out: Folder to write to; made if need be.
        name: What the defense is called; by default what B is.

    Raises:
        WeightsError: Weights cannot be read, are not of one architecture, or a file of that name is no mixture of them.
    """
    first, second = _end(a), _end(b)
    _refuse_unlike(first, second)
    stem = second.name if name is None else name
    metric = _shared(first, second).get("metric")
    if isinstance(metric, str):
        stem = trained_name(metric, stem.removeprefix(f"{metric}@"))
    if not _NAME.fullmatch(stem):
        raise WeightsError(f"--name {stem}: give letters, digits and . + @ - _ alone; it becomes the name of files.")
    planned = [(share, out / f"{stem}@{share:g}{SUFFIX}") for share in shares]
    manifest = read_manifest(out) if out.is_dir() else {}
    for _, path in planned:
        _refuse_taken(path, manifest, first, second)
    written = []
    for share, path in planned:
        sha256 = write_weights(path, _between(first.tensors, second.tensors, share))
        list_weights(path, _entry(first, second, share))
        written.append(Mixed(path, share, sha256))
    return written


def _end(wanted: str) -> _End:
    """Find, verify and read one end."""
    where = f"weights mix: {wanted}"
    try:
        file = resolve(_WHO, wanted, None)
    except WeightsError as error:  # it speaks of the metric that weights are for, and here there is none
        raise WeightsError(str(error).replace(f"metric '{_WHO}'", _WHO)) from None
    if file is None:
        raise WeightsError(f"{where}: untrained weights are no file. Give a name of the manifest or a {SUFFIX} file.")
    if file.published:
        raise WeightsError(
            f"{where}: published files in the layout of their authors. Give a {SUFFIX} file of the metric's state dict."
        )
    content = file.path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise WeightsError(f"{where}: {shown(file.path)} changed while it was read. Start the command again.")
    name, entry = _listed(wanted, file.path, found)
    return _End(name, file.path, found, read_tensors(content, file.path), entry)


def _listed(wanted: str, path: Path, sha256: str) -> tuple[str, Mapping[str, Any]]:
    """What weights are called, and what a manifest says of them: the zoo's of a name, that beside it of a file."""
    if wanted in read_manifest():
        return wanted, read_manifest()[wanted]
    name = path.name.removesuffix(SUFFIX)
    beside = read_manifest(path.parent).get(name)
    known = isinstance(beside, dict) and beside.get("sha256") == sha256
    return name, beside if known and beside is not None else {}


def _refuse_unlike(a: _End, b: _End) -> None:
    """Whether both are weights of one architecture.

    Raises:
        WeightsError: They are of different metrics or parameters; keys, shapes or integers differ; one is not finite.
    """
    for key in ("metric", "parameters"):
        if a.entry.get(key) is not None and b.entry.get(key) is not None and a.entry[key] != b.entry[key]:
            ours, theirs = (json.dumps(end.entry[key]) for end in (a, b))
            raise WeightsError(
                f"weights mix: {a.name} is of {key} {ours} and {b.name} of {theirs}. Mix weights of one metric, built "
                "alike."
            )
    wrong = [f"{key} is in {a.name} alone" for key in a.tensors if key not in b.tensors]
    wrong += [f"{key} is in {b.name} alone" for key in b.tensors if key not in a.tensors]
    for key in (key for key in a.tensors if key in b.tensors):
        wrong += _difference(key, a.tensors[key], b.tensors[key])
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise WeightsError(
            f"weights mix: {shown(a.path)} and {shown(b.path)} are not of one architecture: "
            f"{'; '.join(wrong[:_SHOWN])}{more}. Mix a model with one that was trained from it, or built alike."
        )


def _difference(key: str, a: Tensor, b: Tensor) -> list[str]:
    """Why two tensors of one name cannot be mixed; empty if they can."""
    if a.shape != b.shape:
        return [f"{key} has shape {tuple(a.shape)} and {tuple(b.shape)}"]
    if a.dtype != b.dtype:
        kinds = [str(one.dtype).removeprefix("torch.") for one in (a, b)]
        return [f"{key} holds {kinds[0]} and {kinds[1]}"]
    if not a.is_floating_point():
        return [] if torch.equal(a, b) else [f"{key} holds whole numbers that differ, which nothing lies between"]
    return [] if bool(a.isfinite().all() and b.isfinite().all()) else [f"{key} is not finite"]


def _between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) a + share b, computed in float64; the ends are the tensors themselves, as 0 x b + -0.0 is 0.0."""
    if share in (0, 1):
        return dict(b if share else a)
    return {
        key: ((1 - share) * value.double() + share * b[key].double()).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in a.items()
    }


def _entry(a: _End, b: _End, share: float) -> dict[str, Any]:
    """What a manifest says of a mixture."""
    licences = dict.fromkeys(str(end.entry["licence"]) for end in (a, b) if end.entry.get("licence"))
    return {
        **_shared(a, b),
        **({"licence": " and ".join(licences)} if licences else {}),
        "mixed": {**_sources(a, b), "share": share},
    }


def _shared(a: _End, b: _End) -> dict[str, Any]:
    """What the manifests say that both are of; without what neither says."""
    about = {key: a.entry.get(key, b.entry.get(key)) for key in ("metric", "parameters")}
    return {key: value for key, value in about.items() if value is not None}


def _sources(a: _End, b: _End) -> dict[str, Any]:
    return {"from": {"name": a.name, "sha256": a.sha256}, "to": {"name": b.name, "sha256": b.sha256}}


def _refuse_taken(path: Path, manifest: Mapping[str, Any], a: _End, b: _End) -> None:
    """Weights that are no mixture of these two should not be lost to a name.

    Raises:
        WeightsError: There is such a file.
    """
    if not path.exists():
        return
    entry = manifest.get(path.name.removesuffix(SUFFIX))
    mixed = entry.get("mixed") if isinstance(entry, dict) else None
    sources = _sources(a, b)
    if not isinstance(mixed, dict) or {key: mixed.get(key) for key in sources} != sources:
        raise WeightsError(
            f"weights mix: {shown(path)} is there and is no mixture of {a.name} and {b.name}. Give another --out or "
            "--name, or remove the file and its entry."
        )
