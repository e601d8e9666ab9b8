"""`mini`, the embedded data set: 68 references, 20 distortion types in 5 levels, labelled with a proxy quality.

Nothing is shipped but two label files. Images are made when first asked for, kept as PNG in the cache, and compared
with the hash of the image that was labelled. The proxy quality is no opinion of people: see `labels`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image
from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.images import Pixels, read_pixels, to_tensor
from harness.files import cache_dir, shown, write_whole

LABELS_FILE = Path(__file__).with_name("labels.csv")
REFERENCES_FILE = Path(__file__).with_name("references.csv")

PROCEDURAL = "procedural"
"""Source, in the file of references, of images that are drawn and cut from no photograph."""

PROXY_CITED = ("robustiqa", "xue2014gmsd", "reisenhofer2018haarpsi", "zhang2011fsim", "sheikh2006vif")
"""What to cite for the images, and for GMSD, HaarPSI, FSIM and VIFp, which the proxy quality is made of."""

_REFERENCES_KEPT = 16


@dataclass(frozen=True)
class _Label:
    """What the label file says of one distorted image."""

    entry: Entry
    split: str
    sha: str


def pixel_hash(pixels: Pixels) -> str:
    """Twelve hex digits of the sha256 of an image's 8-bit RGB pixels, row by row."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:12]


@register("mini")
class Mini(Dataset):
    """Photograph crops (test) and procedural images (train, val), 128 px, with a proxy quality in [0, 1].

    The proxy quality is already normalised, so ``opinion`` and ``raw`` are the same number. No reference is shared
    between splits, and no photograph: ``cluster`` is the photograph that a reference is cut from.
    """

    cite = PROXY_CITED
    labels: ClassVar[Literal["human", "proxy", "none"]] = "proxy"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    cluster_noun: ClassVar[str] = "photograph"

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Pixels] = OrderedDict()
        self._differing: set[str] = set()

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every distorted image of a split; reads the label file alone.

        Raises:
            DataError: The split is unknown, or the label file is missing or malformed.
        """
        if split not in self.splits:
            raise DataError(f"Data set mini has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        return [label.entry for label in self._labels.values() if label.split == split]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref`` and ``dist`` of one entry, each 3 x 128 x 128; made and cached if this is the first time.

        Raises:
            DataError: The entry is none of this set's, or an image cannot be made on this machine.
        """
        label = self._labels.get(entry.id)
        if label is None:
            raise DataError(f"Data set mini has no image {entry.id!r}. Take entries from entries(split).")
        name, kind, level = label.entry.reference_id, label.entry.group, label.entry.level or 0
        ref = self._reference(name, label.split)
        path = self._folder / label.split / name / f"{kind}-{level}.png"
        dist = _cached(path, label.sha)
        if dist is None:
            from harness.datasets.mini.distortions import distort  # slow to import, and seldom needed

            dist = distort(ref, name, kind, level)
            _keep(path, dist)
            self._compare(entry.id, kind, dist, label.sha)
        return {"ref": to_tensor(ref), "dist": to_tensor(dist)}

    def fingerprint(self) -> str:
        """Hash of the two label files, which hold the hash of every image."""
        return hashlib.sha256(_content(LABELS_FILE) + _content(REFERENCES_FILE)).hexdigest()

    def files(self) -> Sequence[Path]:
        """The two label files; images that were changed are made again."""
        return [LABELS_FILE, REFERENCES_FILE]

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """None: images are made, and their hashes are among the labels."""
        return ()

    def notices(self) -> Sequence[str]:
        """What a report has to say about the images loaded so far; empty if all are those that were labelled."""
        return [
            f"mini: images of type {kind} differ from those labelled: a codec or library build here changes pixels, "
            "and the proxy labels may not fit them."
            for kind in sorted(self._differing)
        ]

    @functools.cached_property
    def _labels(self) -> Mapping[str, _Label]:
        photographs = _photographs(_content(REFERENCES_FILE))
        return {label.entry.id: label for label in _read_labels(LABELS_FILE, photographs)}

    @functools.cached_property
    def _reference_hashes(self) -> Mapping[str, str]:
        return {row["reference"]: row["sha"] for row in _rows(REFERENCES_FILE, ("reference", "sha"))}

    @functools.cached_property
    def _folder(self) -> Path:
        # The fingerprint keeps images of an older label file from being taken for today's.
        return cache_dir() / "mini" / self.fingerprint()[:12]

    def _reference(self, name: str, split: str) -> Pixels:
        if name in self._recent:
            self._recent.move_to_end(name)
            return self._recent[name]
        sha, path = self._reference_hashes.get(name), self._folder / split / f"{name}.png"
        if sha is None:
            raise DataError(
                f"Data set mini: reference {name} is missing in {shown(REFERENCES_FILE)}. "
                "Restore the file, or make it with python -m harness.datasets.mini.labels."
            )
        pixels = _cached(path, sha)
        if pixels is None:
            from harness.datasets.mini.references import reference  # slow to import, and seldom needed

            pixels = reference(name)
            _keep(path, pixels)
            self._compare(name, "reference", pixels, sha)
        self._recent[name] = pixels
        if len(self._recent) > _REFERENCES_KEPT:
            self._recent.popitem(last=False)
        return pixels

    def _compare(self, name: str, kind: str, pixels: Pixels, sha: str) -> None:
        if pixel_hash(pixels) != sha and kind not in self._differing:
            self._differing.add(kind)
            warnings.warn(
                f"Data set mini: image {name!r} ({kind}) differs from the one that was labelled. A codec or library "
                "build here changes pixels; the proxy label may not fit. Runs on it compare with runs made here only.",
                stacklevel=3,
            )


def _cached(path: Path, sha: str) -> Pixels | None:
    """The cached image, or None if it is absent, damaged or not the labelled one, and so is to be made again."""
    try:
        pixels = read_pixels(path)
    except DataError:
        return None
    return pixels if pixel_hash(pixels) == sha else None


def _keep(path: Path, pixels: Pixels) -> None:
    """Put an image into the cache in one step; a cache that cannot be written is done without."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    with contextlib.suppress(OSError):
        write_whole(path, buffer.getvalue())


def _content(path: Path) -> bytes:
    try:
        # A checkout on Windows may have turned the line ends.
        return path.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise DataError(
            f"Data set mini: label file {shown(path)} cannot be read. "
            "Install robustiqa again, or make it with python -m harness.datasets.mini.labels."
        ) from error


def _rows(path: Path, needed: Sequence[str], content: bytes | None = None) -> list[dict[str, str]]:
    table = csv.DictReader((_content(path) if content is None else content).decode("utf-8").splitlines())
    if missing := [column for column in needed if column not in (table.fieldnames or ())]:
        raise DataError(
            f"Data set mini: label file {shown(path)} has no column {', '.join(missing)}. "
            "Restore it, or make it with python -m harness.datasets.mini.labels."
        )
    return list(table)


def _photographs(content: bytes) -> Mapping[str, str]:
    """Reference -> the photograph it is cut from, by the file of references; procedural ones have none."""
    rows = _rows(REFERENCES_FILE, ("reference", "source"), content)
    return {row["reference"]: Path(row["source"]).stem for row in rows if row["source"] != PROCEDURAL}


def _read_labels(path: Path, photographs: Mapping[str, str]) -> Sequence[_Label]:
    return _parsed(path, _content(path), tuple(photographs.items()))


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, content: bytes, photographs: Sequence[tuple[str, str]]) -> Sequence[_Label]:
    """The labels in the content of a label file; a suite builds the data set several times."""
    labels, photograph = [], dict(photographs)
    needed = ("id", "split", "reference", "type", "level", "quality", "sha")
    for line, row in enumerate(_rows(path, needed, content), start=2):
        try:
            quality, level = float(row["quality"]), int(row["level"])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Data set mini: {shown(path)}, line {line}: quality or level is no number. "
                "Restore the file, or make it with python -m harness.datasets.mini.labels."
            ) from error
        entry = Entry(
            row["id"],
            row["reference"],
            opinion=quality,
            raw=quality,
            group=row["type"],
            level=level,
            cluster=photograph.get(row["reference"], ""),
        )
        labels.append(_Label(entry, row["split"], row["sha"]))
    return tuple(labels)
