"""NIGHTS (Fu et al., "DreamSim", NeurIPS 2023): which of two generated images people found more like a third."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from harness.contracts import DataError, Entry, Split, register
from harness.datasets.images import to_tensor
from harness.datasets.layout import RESTORE, LaidOut, OfficialLayout

_LABEL_FILE = "data.csv"
_PATHS = ("ref_path", "left_path", "right_path")
_COLUMNS = ("id", "left_vote", "right_vote", "votes", *_PATHS, "split", "is_imagenet")


@register("nights")
class NIGHTS(LaidOut):
    """Triplets of generated images: ``p0`` is the left one, ``p1`` the right one, ``judge`` 1 where the right one won.

    The public readers keep triplets on which at least six votes agree and show them at 224 px, by bicubic resampling of
    the stored image; so it is here by default. ``group`` is "imagenet" where the category of the prompt is one of
    ImageNet, else "no_imagenet": the two parts of the test split that their tables have. Images of a triplet show
    different scenes of one category: differences are of content and layout, not of image quality.
    """

    cite = "fu2023dreamsim"
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, *, root: str | None = None, size: int | None = 224, votes: int = 6) -> None:
        """Choose the folder, and how its images are shown.

        Args:
            root: Folder that holds ``data.csv``, ``ref`` and ``distort``; by default ``nights`` in the data folder.
            size: Side in pixels that images are resized to; null leaves them as they are stored.
            votes: Least number of agreeing votes (column ``votes``).

        Raises:
            DataError: The size is not positive.
        """
        if size is not None and size < 1:
            raise DataError(f"Data set nights, size: {size} is no side. Give pixels, or null.")
        self._layout = OfficialLayout(
            "nights",
            "NIGHTS",
            "https://dreamsim-nights.github.io",
            root,
            marks=(_LABEL_FILE,),
            accepts=f"{_LABEL_FILE}, ref/000/000.png, distort/000/000_0.png",
        )
        self._size, self._votes = size, votes

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every triplet of a split with enough agreeing votes, in the order of the label file.

        Raises:
            DataError: There is no such split, or the label file is missing or malformed.
        """
        if split not in self.splits:
            raise DataError(f"Data set nights has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        return [entry for entry, _ in self._triplets.values() if entry.id.startswith(f"{split}/")]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref``, ``p0`` and ``p1``, each 3 x size x size in [0, 1].

        Raises:
            DataError: The entry is none of this set's, an image is missing or cannot be read, or sizes differ.
        """
        ref, p0, p1 = self.image_files(entry)
        if self._size is None:
            return self._layout.images(ref=ref, p0=p0, p1=p1)
        return {name: self._resized(path, self._size) for name, path in (("ref", ref), ("p0", p0), ("p1", p1))}

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference, left and right image of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing, or the entry is none of this set's.
        """
        if entry.id not in self._triplets:
            raise DataError(f"Data set nights has no triplet {entry.id!r}. Take entries from entries('test').")
        return [self._layout.image(*parts) for parts in self._triplets[entry.id][1]]

    def fingerprint(self) -> str:
        """Hash of what the label file says and of the names and sizes of all images it names; reads no pixel."""
        digest = hashlib.sha256(self._layout.said(self._layout.find(_LABEL_FILE)))
        for entry, _ in self._triplets.values():
            digest.update(repr([path.stat().st_size for path in self.image_files(entry)]).encode())
        return digest.hexdigest()

    @cached_property
    def _triplets(self) -> Mapping[str, tuple[Entry, Sequence[tuple[str, ...]]]]:
        """Id -> entry, and the names on the way to each of its images."""
        path = self._layout.find(_LABEL_FILE)
        header, rows = self._layout.table(path)
        if absent := [name for name in _COLUMNS if name not in header]:
            raise DataError(f"{self._layout.where(path, 1)}: no column {', '.join(absent)}. {self._layout.mend}")
        found: list[tuple[Entry, Sequence[tuple[str, ...]]]] = []
        for number, row in rows:
            cells, where = dict(zip(header, row, strict=False)), self._layout.where(path, number)
            left, right, votes = (self._count(where, cells, name) for name in ("left_vote", "right_vote", "votes"))
            names = [PurePosixPath(cells.get(name, "")).parts for name in _PATHS]
            split, truth = cells.get("split", ""), cells.get("is_imagenet", "").lower()
            strange = any(not parts or set(parts) & {"/", ".."} for parts in names)
            if strange or split not in self.splits or truth not in ("true", "false") or not left + right:
                raise self._layout.malformed(where, ",".join(row), "0,1,0,9,ref/000/000.png,...,train,True")
            if votes >= self._votes:
                group = "imagenet" if truth == "true" else "no_imagenet"
                entry = Entry(f"{split}/{cells['id']}", "/".join(names[0]), judge=right / (left + right), group=group)
                found.append((entry, names))
        self._layout.once(path, [entry for entry, _ in found], "")
        return {entry.id: (entry, names) for entry, names in found}

    def _count(self, where: str, cells: Mapping[str, str], name: str) -> float:
        value = self._layout.score(where, cells.get(name, ""), 0, 1e6)
        if value is None:
            raise self._layout.malformed(where, f"{name} {cells.get(name, '')}", f"{name} 1")
        return value

    def _resized(self, path: Path, size: int) -> Tensor:
        pixels = self._layout.reader.pixels(path, missing=RESTORE)
        if pixels.shape[:2] == (size, size):
            return to_tensor(pixels)
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        return to_tensor(np.asarray(image))
