"""What data sets in their official layouts share: finding files whatever their case, labels, pairs of images."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split
from harness.datasets.images import ImageReader
from harness.datasets.splits import UNSPLIT, ReferenceSplits
from harness.files import data_dir, expanded, shown

_OF_FILES = frozenset({".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".mat", ".txt", ".csv", ".xlsx"})
"""Suffixes that no folder has which holds a set."""
RESTORE = "Restore the file, or unpack the data set again."
"""What to do where an image of an official set is missing."""
_NAMES_TOLD = 6
"""Names of a folder that a message lists; of more it says how many there are."""


class OfficialLayout:
    """The unpacked folder of one data set; file names are found whatever their case."""

    def __init__(
        self,
        name: str,
        title: str,
        page: str,
        root: str | None,
        *,
        folder: str = "",
        marks: Sequence[str] = (),
        accepts: str = "",
    ) -> None:
        """Nothing is read yet.

        Args:
            name: Registered name, for messages and the default folder.
            title: Name people know it by.
            page: Where it is to be had.
            root: The folder; by default `folder` in the data folder.
            folder: Its name there, `name` unless given.
            marks: Files or folders of which its folder holds at least one; where it does not, a folder in it that does
                is taken.
            accepts: What it may hold, for messages, such as ``dmos.csv, images/I01.png``.
        """
        self.name = name
        self.given = expanded(root, f"root of {name}") if root is not None else data_dir() / (folder or name)
        self.mend = f"Unpack {title} again."
        self.reader = ImageReader()
        self._marks = marks
        self._accepted = f"It is read as: {accepts}. " if accepts else ""
        self._get_it = (
            f"Download {title} ({page}), unpack it, and give its folder as root: or put it into "
            f"$ROBUSTIQA_DATA_DIR/{folder or name}."
        )
        self._listings: dict[Path, dict[str, Path]] = {}
        self._looked_at: dict[Path, None] = {}

    @cached_property
    def root(self) -> Path:
        """The folder that was given, or the one in it that holds the set, as an archive unpacks it.

        Raises:
            DataError: The folder cannot be read, or several in it hold such a set.
        """
        if not self._marks or self._marked(self.given):
            return self.given
        # Thousands of images need not be looked at one by one; any other name, dots and all, may be that of a folder.
        inside = [path for path in self.listing(self.given).values() if path.suffix.lower() not in _OF_FILES]
        found = [path for path in inside if self._marked_inside(path)]
        if len(found) > 1:
            raise DataError(
                f"Data set {self.name}: {' and '.join(shown(path) for path in found)} both hold such a set. "
                "Give one of them as root."
            )
        return found[0] if found else self.given

    def _marked(self, folder: Path) -> bool:
        return any(mark.lower() in self.listing(folder) for mark in self._marks)

    def _marked_inside(self, folder: Path) -> bool:
        with contextlib.suppress(DataError):  # a folder beside the set that may not be read
            return folder.is_dir() and self._marked(folder)
        return False

    def find(self, *parts: str) -> Path:
        """A file or folder below the root.

        Raises:
            DataError: It is missing, or a folder on the way cannot be read.
        """
        place = self.root
        for part in parts:
            found = self.listing(place).get(part.lower())
            if found is None:
                raise DataError(
                    f"Data set {self.name}: {part} is missing in {shown(place)}, which {self._held(place)}. "
                    f"{self._accepted}{self._get_it}"
                )
            place = found
        return place

    def image(self, *parts: str) -> Path:
        """An image below the root, or where it should be: an incomplete set is told when it is read, or counted.

        Raises:
            DataError: Its folder is missing or cannot be read.
        """
        folder = self.find(*parts[:-1])
        return self.listing(folder).get(parts[-1].lower(), folder / parts[-1])

    def _held(self, folder: Path) -> str:
        """What is found in a folder, in words."""
        names = [path.name for path in self.listing(folder).values()]
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        return f"holds {', '.join(names[:_NAMES_TOLD])}{more}" if names else "is empty"

    def listing(self, folder: Path) -> Mapping[str, Path]:
        """Lower-case name -> path of everything in a folder.

        Raises:
            DataError: The folder cannot be read.
        """
        self._looked_at[folder] = None
        if folder not in self._listings:
            try:
                self._listings[folder] = {path.name.lower(): path for path in sorted(folder.iterdir())}
            except OSError as error:
                raise DataError(
                    f"Data set {self.name}: folder {shown(folder)} cannot be read ({_reason(error)}). {self._get_it}"
                ) from error
        return self._listings[folder]

    def files(self) -> Sequence[Path]:
        """Label files read and folders listed so far."""
        return list(self._looked_at)

    def content(self, path: Path) -> bytes:
        """A label file as it is.

        Raises:
            DataError: It cannot be read.
        """
        self._looked_at[path] = None
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"Label file {shown(path)} of data set {self.name} cannot be read ({_reason(error)}). {self._get_it}"
            ) from error

    def lines(self, path: Path) -> list[tuple[int, str]]:
        """The lines of a label file that hold something, stripped, with their numbers."""
        return [(n, line.strip()) for n, line in enumerate(self._text(path).splitlines(), start=1) if line.strip()]

    def table(self, path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
        """A label file with commas: the names of its columns, and its rows with their line numbers; cells stripped.

        Raises:
            DataError: It cannot be read, is empty or no such table.
        """
        reader = csv.reader(self._text(path).splitlines())
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
        except csv.Error as error:
            raise DataError(f"{self.where(path, reader.line_num)}: {error}. {self.mend}") from error
        if len(rows) < 2:
            raise DataError(f"{self.where(path)} is empty. {self.mend}")
        header = rows[0][1]
        # A comma at the end of the line names no column.
        while not header[-1]:
            header.pop()
        return header, rows[1:]

    def score(self, where: str, text: object, low: float, high: float) -> float | None:
        """A score within the nominal scale of the set, or None for what is no number.

        Raises:
            DataError: It lies outside the scale.
        """
        try:
            value = float(str(text))
        except ValueError:
            return None
        if not low <= value <= high:
            raise DataError(f"{where}: opinion score {value} lies outside {low:g}..{high:g}. {self.mend}")
        return value

    def malformed(self, where: str, found: object, example: str) -> DataError:
        """The error for a line that is not like the example."""
        return DataError(f"{where}: {str(found)[:60]!r} is not of the form {example!r}. {self.mend}")

    def where(self, path: Path, line: int | None = None) -> str:
        """A label file, or a line of it, as messages name it."""
        place = f"Label file {shown(path)} of data set {self.name}"
        return place if line is None else f"{place}, line {line}"

    def once(self, path: Path, entries: Sequence[Entry], suffix: str) -> Sequence[Entry]:
        """The entries, if there are any and none has the name of another.

        Raises:
            DataError: There are none, or an image is named twice.
        """
        if not entries:
            raise DataError(f"{self.where(path)} is empty. {self.mend}")
        name, count = Counter(entry.id for entry in entries).most_common(1)[0]
        if count > 1:
            raise DataError(f"{self.where(path)} names {name}{suffix} {count} times. {self.mend}")
        return entries

    def images(self, **paths: Path) -> Mapping[str, Tensor]:
        """The images of one item, each 3 x H x W.

        Raises:
            DataError: An image cannot be read, or they differ in size.
        """
        images = {key: self.reader.image(path, missing=RESTORE) for key, path in paths.items()}
        (_, first), *others = images.items()
        for key, image in others:
            if image.shape != first.shape:
                sizes = " and ".join(f"{i.shape[2]} x {i.shape[1]}" for i in (first, image))
                place = " and ".join(shown(path) for path in (next(iter(paths.values())), paths[key]))
                raise DataError(f"Images {place} differ in size ({sizes}). {self.mend}")
        return images

    def notices(self) -> Sequence[str]:
        """How the images read so far were converted, a line for each kind."""
        return self.reader.notices(self.name)

    def _text(self, path: Path) -> str:
        # A byte order mark is no letter of the first name.
        return self.content(path).decode("utf-8", errors="replace").removeprefix("\ufeff")

    def fingerprint(self, labels: Iterable[Path], folders: Mapping[str, Path]) -> str:
        """Hash of label files, and of the names and sizes of the files in folders (name -> path); reads no pixel."""
        digest = hashlib.sha256()
        for path in labels:
            digest.update(self.content(path))
        for folder, path in folders.items():
            self._looked_at[path] = None
            for name, file in sorted(self.listing(path).items()):
                digest.update(f"{folder}/{name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()


class RatedPairs(Dataset):
    """Pairs of reference and distorted image with opinion scores and no official split; see `ReferenceSplits`.

    A set says which `folders` hold images, and reads its labels in `_read`.
    """

    neutral: ClassVar[Mapping[str, Any]] = UNSPLIT
    folders: ClassVar[tuple[tuple[str, ...], ...]]
    """Folders of images, each as the names on the way to it."""

    def __init__(self, layout: OfficialLayout, *, split_seed: int | None, folds: int | None, fold: int) -> None:
        self._layout = layout
        self._parts = ReferenceSplits(layout.name, split_seed=split_seed, folds=folds, fold=fold)
        self.splits = self._parts.names  # type: ignore[misc]

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every image of a split, in the order of the label file.

        Raises:
            DataError: The folder or label file is missing or malformed, or there is no such split.
        """
        self._parts.check(split)
        return self._parts.choose(self._kept, split)

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref`` and ``dist`` of one entry, each 3 x H x W in [0, 1].

        Raises:
            DataError: An image is missing or cannot be read, or the two differ in size.
        """
        ref, dist = self._paths(entry)
        return self._layout.images(ref=ref, dist=dist)

    def fingerprint(self) -> str:
        """Hash of the label files and of the names and sizes of all images; reads no pixel."""
        folders = {"/".join(parts): self._layout.find(*parts) for parts in self._folders()}
        return self._layout.fingerprint(self._labels(), folders)

    def files(self) -> Sequence[Path]:
        """The label files and the folders of images."""
        return self._layout.files()

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference and distorted image of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing.
        """
        return self._paths(entry)

    def notices(self) -> Sequence[str]:
        """How the images loaded so far were converted."""
        return self._layout.notices()

    @cached_property
    def _kept(self) -> Sequence[Entry]:
        return self._read()

    def _read(self) -> Sequence[Entry]:
        """Every entry, after filters."""
        raise NotImplementedError

    def _folders(self) -> Sequence[tuple[str, ...]]:
        """`folders`, of a set whose layouts have others those of the layout that is found."""
        return self.folders

    def _labels(self) -> Sequence[Path]:
        """The label files, in a fixed order."""
        raise NotImplementedError

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        """Reference and distorted image of an entry, by `OfficialLayout.image`."""
        raise NotImplementedError


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
