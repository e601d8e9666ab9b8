"""What a weights manifest says: its entries, their files, and whether a file is the one it names.

An entry is either one safetensors file (``file``, ``sha256``, ``size``), as `train` writes it, or the published files
of a metric (``parts``), which are fetched. Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import locked, write_whole

MANIFEST = "manifest.json"
SUFFIX = ".safetensors"
PINS = "fetched.json"
"""Beside fetched files: the whole sha256 of those of which only the first digits are published."""
WHOLE = 64
"""Hexadecimal digits of a whole sha256."""


def file_in_folder(name: str) -> str:
    """What the file of a metric's trained weights is called in a folder of such: labels may have fractions in them."""
    return name.replace("/", ":") + SUFFIX


class WeightsError(UserError):
    """A weight file is missing, altered, or does not fit its metric."""


@dataclass(frozen=True)
class Part:
    """One file of an entry."""

    name: str
    """What `Metric.published_state` calls it; empty for the only file of a trained metric."""
    file: str
    sha256: str
    """All 64 digits, or the first ones where no more are published."""
    also: Sequence[str] = ()
    """Other names it goes by; a safetensors file among them is one's own copy and is not compared with `sha256`."""
    url: str = ""
    """Empty: it cannot be fetched."""
    size: int | None = None
    """Bytes; None where they are not published."""
    size_about: int = 0
    """Bytes of its tensors, said where the size is not published."""
    licence: str = ""
    source: str = ""
    key: str = ""
    """Where the tensors are in the file, if not at its top."""

    def refusal(self, found: str, pinned: str | None = None) -> str:
        """Why a file with this sha256 is not the one the manifest names; empty if it is.

        Args:
            found: The sha256 of what is there.
            pinned: The sha256 it had when it was fetched, if that was written down.
        """
        if not found.startswith(self.sha256):
            digits = "" if len(self.sha256) == WHOLE else "..."
            return f"sha256 is {found}, expected {self.sha256}{digits}"
        if pinned is not None and found != pinned:
            return f"sha256 is {found}, and was {pinned} when it was fetched"
        return ""

    def bytes_shown(self) -> str:
        """Its size for people: "244 MB", or "about 180 MB"."""
        return megabytes(self.size) if self.size is not None else f"about {megabytes(self.size_about)}"


@dataclass(frozen=True)
class WeightsEntry:
    """One name of a manifest."""

    name: str
    metric: str
    """The metric they are for, or the purifier."""
    licence: str
    parts: tuple[Part, ...]
    published: bool
    """True: files of others in their own layout. False: one safetensors file of a metric's state dict."""
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)
    """Everything the manifest says of it."""

    def bytes_shown(self) -> str:
        """The size of all files for people."""
        about = "about " if any(part.size is None for part in self.parts) else ""
        return about + megabytes(sum(part.size or part.size_about for part in self.parts))


def read_entry(name: str, raw: Any, path: Path) -> WeightsEntry:
    """An entry of a manifest.

    Args:
        name: The entry's name.
        raw: What the manifest holds under it.
        path: The manifest, for messages.

    Raises:
        WeightsError: A key is missing.
    """
    here = f"weights manifest {path}: the entry '{name}'"
    if isinstance(raw, dict) and isinstance(raw.get("parts"), dict):
        parts = []
        for part, keys in raw["parts"].items():
            sha256 = keys.get("sha256") or keys.get("sha256_prefix")
            if not {"file", "url"} <= keys.keys() or not sha256:
                raise WeightsError(f"{here} lacks 'file', 'url' or 'sha256' in its part '{part}'. Restore the file.")
            known = {key: keys[key] for key in _OPTIONAL if key in keys}
            parts.append(Part(part, str(keys["file"]), str(sha256), url=str(keys["url"]), **known))
    elif isinstance(raw, dict) and {"file", "sha256"} <= raw.keys():
        licence = str(raw.get("licence", ""))
        parts = [Part("", str(raw["file"]), str(raw["sha256"]), size=raw.get("size"), licence=licence)]
    else:
        raise WeightsError(f"{here} lacks 'file' or 'sha256'. Restore the file.")
    metric, licence = str(raw.get("metric") or raw.get("purifier", "")), str(raw.get("licence", ""))
    return WeightsEntry(name, metric, licence, tuple(parts), "parts" in raw, raw)


_OPTIONAL = ("also", "size", "size_about", "licence", "source", "key")


def identity_of(hashes: Mapping[str, str]) -> str:
    """The sha256 that stands for the files of an entry: of the only one, or of the sorted lines "part sha256"."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "\n".join(f"{name} {sha256}" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_page(path: Path) -> bool:
    """Whether a file begins as HTML or XML does, as the page of a proxy, a log-in or an error would."""
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def pins(folder: Path) -> dict[str, str]:
    """File name -> sha256 it had when it was fetched, of the files that were pinned; empty if that cannot be read."""
    try:
        noted = json.loads((folder / PINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(file): str(sha256) for file, sha256 in noted.items()} if isinstance(noted, dict) else {}


def pin(folder: Path, file: str, sha256: str) -> None:
    """Write down the sha256 of a fetched file."""
    with locked(folder / PINS):
        noted = {**pins(folder), file: sha256}
        write_whole(folder / PINS, (json.dumps(dict(sorted(noted.items())), indent=2) + "\n").encode())


def megabytes(size: int) -> str:
    """Bytes for people, in decimal units: "244 MB", "6 kB"."""
    return f"{size / 1e6:.0f} MB" if size >= 999_500 else f"{max(size, 1) / 1e3:.0f} kB"
