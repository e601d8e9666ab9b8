"""BAPPS (Zhang et al., CVPR 2018): patches of 64 px and which of two distorted ones people found nearer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from harness.contracts import DataError, Entry, Split, register
from harness.datasets.images import Pixels, to_tensor
from harness.datasets.layout import RESTORE, LaidOut, OfficialLayout
from harness.files import shown

Subset = Literal["traditional", "cnn", "superres", "deblur", "color", "frameinterp", "mix"]
_SUBSETS: Mapping[str, tuple[Subset, ...]] = {
    "val": ("traditional", "cnn", "superres", "deblur", "color", "frameinterp"),
    "train": ("traditional", "cnn", "mix"),
}
_PLACES: tuple[tuple[str, ...], ...] = ((), ("2afc",), ("dataset", "2afc"))
"""Where the folders of splits lie below the root."""
_IMAGES = ("ref", "p0", "p1")
_JUDGE = ".npy"
"""Suffix of the files of judges."""


@register("bapps")
class BAPPS(LaidOut):
    """Triplets of patches: ``judge`` is the share of people who preferred ``p1``, ``group`` the subset.

    The split that papers call the test set is ``val`` (36 thousand triplets, five judges each, six subsets); ``train``
    (151,400, two judges, who may be split evenly) is a split where it is there and holds one of the chosen subsets, and
    then what scorers are calibrated on. Stored patches of 256 px are 64 px enlarged by nearest neighbour: `size` 64
    gives the originals, on which results are published, and refuses a patch that is no such enlargement. Each triplet
    is a reference of its own; from which photographs patches were cut is not published.
    """

    cite = "zhang2018unreasonable"
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = tuple(_SUBSETS)

    def __init__(
        self, *, root: str | None = None, subsets: Sequence[Subset] | None = None, size: Literal[64, 256] = 64
    ) -> None:
        """Choose the folder and what of it to use.

        Args:
            root: Folder that holds ``val`` or ``train``, or ``2afc`` with them in it; by default ``bapps`` in the data
                folder.
            subsets: Those to keep; by default all of the split.
            size: Side of the patches in pixels: 64, the originals, or 256, enlarged.
        """
        self._layout = OfficialLayout(
            "bapps",
            "BAPPS",
            "https://github.com/richzhang/PerceptualSimilarity",
            root,
            marks=("2afc", "dataset", *_SUBSETS),
            accepts="val/cnn/ref/000000.png, p0, p1 and judge/000000.npy beside ref, and all of "
            "it in 2afc, in dataset/2afc or in neither",
        )
        self._subsets, self._size = subsets, size
        there = [split for split, own in _SUBSETS.items() if self._place(split) and set(subsets or own) & set(own)]
        self.splits = tuple(there) or type(self).splits  # type: ignore[misc]
        self._read: dict[str, Mapping[str, Entry]] = {}

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every triplet of a split, subset by subset, in the order of names.

        Raises:
            DataError: There is no such split or subset, or a file is missing or malformed.
        """
        if split not in _SUBSETS:
            raise DataError(f"Data set bapps has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        return list(self._triplets(split).values())

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref``, ``p0`` and ``p1``, each 3 x size x size in [0, 1].

        Raises:
            DataError: The entry is none of this set's, an image cannot be read, or is of another size.
        """
        return {name: to_tensor(self._patch(path)) for name, path in zip(_IMAGES, self.image_files(entry), strict=True)}

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference, p0 and p1 of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing, or the entry is none of this set's.
        """
        split, _, rest = entry.id.partition("/")
        subset, _, stem = rest.partition("/")
        if split not in _SUBSETS or subset not in _SUBSETS[split]:
            raise DataError(f"Data set bapps has no triplet {entry.id!r}. Take entries from entries('val').")
        return [self._layout.image(*self._folder(split), subset, name, f"{stem}.png") for name in _IMAGES]

    def fingerprint(self) -> str:
        """Hash of all judges and of the names and sizes of their files and images; reads no pixel."""
        judges = [(entry.id, entry.judge) for split in self.splits for entry in self._triplets(split).values()]
        folders = {
            f"{split}/{subset}/{name}": self._layout.find(*self._folder(split), subset, name)
            for split in self.splits
            for subset in self._chosen(split)
            for name in ("judge", *_IMAGES)
        }
        named = frozenset(
            path
            for name, folder in folders.items()
            for path in self._of_triplets(folder, _JUDGE if name.endswith("/judge") else ".png", name)
        )
        return hashlib.sha256(f"{self._layout.fingerprint((), folders, named)}{judges}".encode()).hexdigest()

    def _of_triplets(self, folder: Path, suffix: str, name: str) -> Iterator[Path]:
        """The files in a folder of a subset that belong to a triplet."""
        split, subset, _ = name.split("/")
        for file, path in self._layout.listing(folder).items():
            if file.endswith(suffix) and f"{split}/{subset}/{file.removesuffix(suffix)}" in self._triplets(split):
                yield path

    def _place(self, split: str) -> tuple[str, ...]:
        """The names on the way to the folder of a split; none where it is not there."""
        for place in _PLACES:
            try:
                self._layout.find(*place, split)
            except DataError:
                continue
            return (*place, split)
        return ()

    def _folder(self, split: str) -> tuple[str, ...]:
        return self._place(split) or (split,)

    def _chosen(self, split: str) -> Sequence[str]:
        kept = [subset for subset in _SUBSETS[split] if subset in (self._subsets or _SUBSETS[split])]
        if not kept:
            own = ", ".join(_SUBSETS[split])
            raise DataError(f"Data set bapps, subsets: none of them is in the split {split}. Choose from {own}.")
        return kept

    def _triplets(self, split: str) -> Mapping[str, Entry]:
        """Id -> entry."""
        if split not in self._read:
            self._read[split] = {
                f"{split}/{subset}/{stem}": Entry(
                    f"{split}/{subset}/{stem}", f"{split}/{subset}/{stem}", judge=judge, group=subset
                )
                for subset in self._chosen(split)
                for stem, judge in self._judges(split, subset).items()
            }
        return self._read[split]

    def _judges(self, split: str, subset: str) -> Mapping[str, float]:
        """Name of a triplet -> judge."""
        folder = self._layout.find(*self._folder(split), subset, "judge")
        files = {
            name.removesuffix(_JUDGE): path
            for name, path in self._layout.listing(folder).items()
            if name.endswith(_JUDGE)
        }
        if not files:
            raise DataError(f"Data set bapps: {shown(folder)} holds no judges ({_JUDGE} files). {self._layout.mend}")
        read = _JudgeFiles(self._layout)
        return {stem: read.judge(path) for stem, path in sorted(files.items())}

    def _patch(self, path: Path) -> Pixels:
        """A patch at the size that was asked for."""
        stored = self._layout.reader.pixels(path, missing=RESTORE)
        height, width = stored.shape[:2]
        if (height, width) == (self._size, self._size):
            return stored
        if (height, width) not in ((64, 64), (256, 256)):
            raise DataError(f"Image {shown(path)} is {width} x {height}; patches are 64 or 256 px. {self._layout.mend}")
        if self._size > height:
            return _enlarged(stored, self._size // height)
        factor = height // self._size
        small = stored[::factor, ::factor]
        if not np.array_equal(_enlarged(small, factor), stored):
            raise DataError(
                f"Image {shown(path)} is no enlargement of {self._size} px by nearest neighbour; it was resampled. "
                "Unpack BAPPS again, or take the patches as they are with size: 256."
            )
        return small


class _JudgeFiles:
    """Reads judges, each an array of one number in a file; files of one shape and type begin alike."""

    def __init__(self, layout: OfficialLayout) -> None:
        self._layout = layout
        self._types: dict[bytes, np.dtype[np.generic]] = {}
        """Head of a file -> type of its number."""

    def judge(self, path: Path) -> float:
        """The share of people who preferred p1.

        Raises:
            DataError: The file holds no such number.
        """
        try:
            content = path.read_bytes()
            head = content[: 10 + int.from_bytes(content[8:10], "little")]
            if head not in self._types:
                array = np.load(io.BytesIO(content), allow_pickle=False)
                if array.shape not in ((), (1,)) or array.dtype.kind not in "fiu":
                    raise ValueError(f"an array of {array.dtype}, shape {array.shape}")
                self._types[head] = array.dtype
            (value,) = np.frombuffer(content[len(head) :], dtype=self._types[head]).tolist()
        except (OSError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DataError(f"{self._layout.where(path)} is no judge ({reason}). {self._layout.mend}") from error
        judge = float(value)
        if not 0 <= judge <= 1:
            raise DataError(f"{self._layout.where(path)}: judge {judge} lies outside 0..1. {self._layout.mend}")
        return judge


def _enlarged(pixels: Pixels, factor: int) -> Pixels:
    """Every pixel as a square of pixels."""
    return pixels.repeat(factor, 0).repeat(factor, 1)
