"""Weights: found by name in the zoo's manifest or by path, verified by sha256 before a byte of them is used.

A metric's own weights are one safetensors file, because a pickle can run code. Published weights may be several files
in the layout of their authors; a pickle among them is read only if its sha256 is the manifest's, and as tensors alone.
Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.files import cache_dir, expanded, sha256_of, shown
from harness.plugins.weights.manifest import (
    MANIFEST,
    SUFFIX,
    Part,
    WeightsEntry,
    WeightsError,
    identity_of,
    is_page,
    pins,
    read_entry,
)
from harness.plugins.weights.prefixes import convert_command
from harness.wording import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "MANIFEST",
    "RANDOM_WEIGHTS",
    "SUFFIX",
    "Held",
    "WeightFile",
    "WeightsError",
    "check",
    "downloads",
    "entries",
    "held",
    "load",
    "read_manifest",
    "refusal",
    "resolve",
    "trained",
    "zoo",
]

RANDOM_WEIGHTS = "random"
"""What a suite writes in place of a weights name to score with untrained parameters on purpose."""
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")


@dataclass(frozen=True)
class WeightFile:
    """Weights whose files were verified once, and are verified again when loaded."""

    name: str
    """Name in the manifest, or the path as the user gave it; for messages."""
    path: Path
    """The safetensors file; of published files FOLDER/NAME, their folder and the manifest's name of them."""
    sha256: str
    """Of the file; of several files that of their names and hashes (`identity_of`)."""

    @property
    def published(self) -> bool:
        """Whether these are files in the layout of their authors."""
        return self.path.suffix.lower() != SUFFIX


@dataclass(frozen=True)
class Held:
    """Where a file of the manifest is."""

    part: Part
    place: Literal["with robustiqa", "in the cache", "missing"]
    path: Path
    """Where it is, or for a missing file where it belongs."""


def zoo() -> Path:
    """Folder of the weights that come with robustiqa."""
    spec = importlib.util.find_spec("metrics_zoo")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError("the package metrics_zoo is not installed. Reinstall robustiqa.")
    return Path(spec.submodule_search_locations[0]) / "weights"


def downloads() -> Path:
    """Folder of fetched weights, and of those put there by hand."""
    return cache_dir() / "weights"


def read_manifest(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every entry of a weights manifest, by name; empty where the folder has none.

    An entry of a trained metric holds ``file``, ``sha256``, ``size`` (bytes), ``metric``, ``parameters``, ``licence``,
    ``recipe``, ``trained_on`` and ``validation``; one of published files ``parts`` by name, ``metric``, ``parameters``,
    ``licence``, ``paper`` and ``input``.

    Args:
        folder: Folder of the manifest; the zoo's by default.

    Raises:
        WeightsError: The manifest is no JSON object.
    """
    path = (folder or zoo()) / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"weights manifest {path}: not valid JSON ({error}). Restore the file.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"weights manifest {path}: must be an object of entries by name. Restore the file.")
    return found


def entries(names: Sequence[str] = ()) -> list[WeightsEntry]:
    """Entries of the zoo's manifest: those named, or all.

    Raises:
        WeightsError: A name is unknown, or an entry lacks a key.
    """
    manifest = read_manifest()
    for name in names:
        if name not in manifest:
            known = did_you_mean(name, sorted(manifest))
            raise WeightsError(f"no weights are called '{name}'.{known} See `robustiqa weights list`.")
    return [read_entry(name, manifest[name], zoo() / MANIFEST) for name in dict.fromkeys(names or manifest)]


def trained() -> dict[str, list[str]]:
    """Name of a defense -> names of the manifest's weights that were trained by it, ``METRIC@NAME``; both sorted.

    Raises:
        WeightsError: The manifest is damaged.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(read_manifest()):
        if "@" in name:
            found.setdefault(name.partition("@")[2], []).append(name)
    return dict(sorted(found.items()))


def trained_on(file: Path, sha256: str) -> str:
    """The data set that weights were trained on, as the manifest beside them or the zoo's says; empty if neither does.

    Args:
        file: Their file, or the first of several.
        sha256: What stands for them, as `identity_of` has it.
    """
    for folder in dict.fromkeys((file.parent, zoo())):
        for name, raw in read_manifest(folder).items():
            dataset = raw.get("trained_on", {}).get("dataset", "") if isinstance(raw, dict) else ""
            if dataset and _are(read_entry(name, raw, folder / MANIFEST), file, sha256):
                return str(dataset)
    return ""


def _are(entry: WeightsEntry, file: Path, sha256: str) -> bool:
    """Whether weights are those of an entry; files without a published sha256 go by their name."""
    known = {part.name: part.sha256 for part in entry.parts}
    if all(known.values()):
        return identity_of({name: str(own) for name, own in known.items()}) == sha256
    return file.name in {part.file for part in entry.parts}


def held(entry: WeightsEntry) -> list[Held]:
    """Where each file of an entry is; reads none of them."""
    found = []
    for part in entry.parts:
        own, fetched = zoo() / part.file, downloads() / part.file
        if own.is_file() or not (part.url or fetched.is_file()):
            found.append(Held(part, "with robustiqa" if own.is_file() else "missing", own))
        else:
            found.append(Held(part, "in the cache" if fetched.is_file() else "missing", fetched))
    return found


def resolve(name: str, weights: str | None, default: str | None, *, kind: str = "metric") -> WeightFile | None:
    """The weights a metric or a purifier is to be loaded with; reads and verifies files, builds nothing.

    Args:
        name: What they are for, for messages.
        weights: What the suite asks for: a name in the manifest, a path ending in .safetensors, a folder of published
            files (of the default entry, or as FOLDER/NAME of another), a folder with one such file for a purifier
            without a default, or "random".
        default: Name in the manifest it was registered with; used when the suite asks for nothing.
        kind: "metric" or "purifier", for messages.

    Returns:
        None where there is nothing to load: neither asked for nor a default, or "random" asked for.

    Raises:
        WeightsError: Unknown name, missing file, other sha256 than the manifest's, or a pickle.
    """
    who = f"{kind} '{name}'"
    wanted = weights if weights is not None else default
    if wanted is None or wanted == RANDOM_WEIGHTS:
        return None
    manifest = read_manifest()
    if wanted in manifest:
        return _from_manifest(who, entries([wanted])[0])
    if weights is None:
        raise WeightsError(
            f"{who}: its weights do not come with robustiqa. Give a file with "
            f"`weights: FILE{SUFFIX}`, or ask for `weights: {RANDOM_WEIGHTS}`."
        )
    path = expanded(wanted, f"{who}, weights")
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(
            f"{who}: weights {wanted}: {path.suffix} files are pickles, which can run code, and are not read in a "
            f"run. Convert one that you trust, once, and give the new file: {convert_command(path, '', '')}"
        )
    if path.suffix.lower() == SUFFIX:
        return WeightFile(wanted, path, hashlib.sha256(_read(who, path)).hexdigest())
    if wanted and path.is_dir() and kind == "purifier" and default not in manifest:
        return _only_file(who, path)
    if wanted and path.is_dir():
        return _from_folder(who, path, default if default in manifest else None)
    if path.name in manifest and path.parent.is_dir():
        return _from_folder(who, path.parent, path.name)
    raise WeightsError(
        f"{who}: no weights are called '{wanted}'.{did_you_mean(wanted, sorted(manifest))} "
        f"Give a name of the manifest, a path ending in {SUFFIX}, or a folder of published files."
    )


def _from_manifest(who: str, entry: WeightsEntry) -> WeightFile:
    if not entry.published:
        file = WeightFile(entry.name, held(entry)[0].path, entry.parts[0].sha256)
        _verified(file, who)
        return file
    for folder in (zoo(), downloads()):
        if len(_files(entry, folder)) == len(entry.parts):
            return _published(who, entry, folder)
    here = _files(entry, downloads())
    missing = [f"{part.file} ({part.bytes_shown()})" for part in entry.parts if part.name not in here]
    raise WeightsError(
        f"{who}: the weights '{entry.name}' are not on this machine: {', '.join(missing)}. "
        f"Fetch them with `robustiqa weights fetch {entry.name}`, or put them into {shown(downloads())} by hand, "
        f"give a folder that holds them with `weights: FOLDER`, or ask for `weights: {RANDOM_WEIGHTS}`."
    )


def _from_folder(who: str, folder: Path, name: str | None) -> WeightFile:
    """The weights called `name` from a folder of the user's."""
    if name is None:
        raise WeightsError(
            f"{who}: weights {shown(folder)} is a folder, and this {who.partition(' ')[0]} has no published files "
            f"to look for in it. Give a path ending in {SUFFIX}."
        )
    (entry,) = entries([name])
    files = _files(entry, folder)
    lacking = [" or ".join((part.file, *part.also)) for part in entry.parts if part.name not in files]
    if lacking:
        raise WeightsError(
            f"{who}: the folder {shown(folder)} lacks {'; and '.join(lacking)}. Put the weights "
            f"'{name}' there, or fetch them with `robustiqa weights fetch {name}` and leave the folder out."
        )
    if not entry.published:
        (path,) = files.values()
        return WeightFile(str(path), path, hashlib.sha256(_read(who, path)).hexdigest())
    return _published(who, entry, folder)


def _only_file(who: str, folder: Path) -> WeightFile:
    """The one safetensors file of a folder that diffusers saved: of a model, or of a pipeline, under ``unet``."""
    files = _tensor_files(folder) or _tensor_files(folder / "unet")
    if not files:
        raise WeightsError(
            f"{who}: weights {shown(folder)} is a folder without {SUFFIX} files. "
            "Save the model with save_pretrained(safe_serialization=True)."
        )
    if len(files) > 1:
        raise WeightsError(
            f"{who}: weights {shown(folder)} is a folder with {len(files)} {SUFFIX} files. Name one of them."
        )
    return WeightFile(str(files[0]), files[0], hashlib.sha256(_read(who, files[0])).hexdigest())


def _tensor_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _published(who: str, entry: WeightsEntry, folder: Path) -> WeightFile:
    """Published files of one folder, each compared with the manifest."""
    hashes = {}
    for part, path in zip(entry.parts, _files(entry, folder).values(), strict=True):
        try:
            hashes[part.name] = sha256_of(path)
        except OSError as error:
            raise WeightsError(f"{who}: weight file {path}: {error.strerror or error}. Make it readable.") from error
        _refuse(who, entry, part, path, hashes[part.name])
    return WeightFile(entry.name, folder / entry.name, identity_of(hashes))


def _files(entry: WeightsEntry, folder: Path) -> dict[str, Path]:
    """Part -> its file in a folder, of those there; the other names of a file count in folders of the user's."""
    ours = folder.resolve() in (zoo().resolve(), downloads().resolve())
    files = {}
    for part in entry.parts:
        for name in (part.file,) if ours else (part.file, *part.also):
            if (folder / name).is_file():
                files[part.name] = folder / name
                break
    return files


def refusal(part: Part, path: Path, sha256: str) -> str:
    """Why a file is not the one the manifest names, with what it seems to be; empty if it is, or is one's own copy."""
    if path.suffix.lower() == SUFFIX and path.name != part.file:
        return ""
    reason = part.refusal(sha256, pins(path.parent).get(part.file))
    return f"{reason}; it is a web page" if reason and is_page(path) else reason


def _refuse(who: str, entry: WeightsEntry, part: Part, path: Path, sha256: str) -> None:
    if reason := refusal(part, path, sha256):
        raise WeightsError(
            f"{who}: weight file {path}: {reason}. The file was changed or is damaged, and is not read: "
            f"remove it and run `robustiqa weights fetch {entry.name}`."
        )


def _read(who: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{who}: weight file {path}: {error.strerror or error}. "
            "Give the path of an existing file, train the weights (robustiqa train), "
            f"or ask for `weights: {RANDOM_WEIGHTS}`."
        ) from error


def _verified(file: WeightFile, who: str) -> bytes:
    """The bytes of a weight file, whose sha256 is the expected one."""
    content = _read(who, file.path)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise WeightsError(
            f"{who}: weight file {file.path}: sha256 is {found}, expected {file.sha256}. "
            "The file was changed or is damaged: restore it, or give its path to use it as weights of your own."
        )
    return content


def check(module: nn.Module, weight_file: WeightFile, *, kind: str = "metric") -> None:
    """Whether weights fit a metric, or the network of a purifier; changes nothing.

    Raises:
        WeightsError: See `load`.
    """
    _fitting_state(module, weight_file, kind)


def load(module: nn.Module, weight_file: WeightFile, *, kind: str = "metric") -> None:
    """Verify weights and copy them into a metric, or into the network of a purifier.

    Args:
        module: It, built with the parameters the weights were trained with.
        weight_file: What `resolve` returned.
        kind: "metric" or "purifier", for messages.

    Raises:
        WeightsError: A file changed since, cannot be read as tensors, has missing, unexpected or differently shaped
            tensors (the first differences are listed), or holds numbers that are not finite.
    """
    module.load_state_dict(_fitting_state(module, weight_file, kind))


def _fitting_state(module: nn.Module, weight_file: WeightFile, kind: str) -> dict[str, Tensor]:
    from harness.plugins.weights.state_dicts import read_tensors, refuse_misfit

    who = f"{kind} '{type(module).__name__}'"
    if weight_file.published:
        state = _published_state(module, weight_file, who)
        where = f"weights {weight_file.path.name} in {weight_file.path.parent}"
    else:
        state = read_tensors(_verified(weight_file, who), weight_file.path)
        where = f"weight file {weight_file.path}"
    refuse_misfit(module, state, where, kind, None if weight_file.published else weight_file.path)
    return state


def _published_state(module: nn.Module, weight_file: WeightFile, who: str) -> dict[str, Tensor]:
    """What a module makes of its published files; no byte of a file is parsed before its hash was compared."""
    from harness.plugins.weights.state_dicts import read_tensors

    folder = weight_file.path.parent
    (entry,) = entries([weight_file.path.name])
    files = _files(entry, folder)
    hashes: dict[str, str] = {}
    tensors: dict[str, dict[str, Tensor]] = {}
    for part in entry.parts:
        path = files.get(part.name, folder / part.file)
        content = _read(who, path)
        hashes[part.name] = hashlib.sha256(content).hexdigest()
        _refuse(who, entry, part, path, hashes[part.name])
        tensors[part.name] = read_tensors(content, path, part.key)
    found = identity_of(hashes)
    if found != weight_file.sha256:
        raise WeightsError(
            f"{who}: weights {entry.name} in {folder}: sha256 of the files is {found}, expected {weight_file.sha256}. "
            "They were changed since: restore them, or start the command again."
        )
    published = getattr(type(module), "published_state", None)
    return published(tensors) if published else dict(*tensors.values())
