"""What data sets in their official layouts share: finding files whatever their case, labels, pairs of images."""

from __future__ import annotations

import codecs
import contextlib
import csv
import filecmp
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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
_OF_TEXT = frozenset({".txt", ".csv"})
"""Suffixes of label files that an editor may write anew with other ends of lines, and say the same."""


class OfficialLayout:
    """The unpacked folder of one data set; file names are found whatever their case.

    What begins with a dot (``._I01.png``, ``.DS_Store``) is never part of a set, wherever it lies. Of two names that
    differ in case only none is guessed: they are refused where a label asks for them, unless they hold the same.
    """

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
        self._doubled: dict[Path, Sequence[Path]] = {}
        self._alike: dict[Path, Sequence[Path]] = {}
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
            found = self.inside(place, part)
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
            DataError: Its folder is missing or cannot be read, or two files have its name.
        """
        folder = self.find(*parts[:-1])
        return self.inside(folder, parts[-1]) or folder / parts[-1]

    def inside(self, folder: Path, name: str) -> Path | None:
        """A file in a folder, whatever the case of its name; None where there is none.

        Raises:
            DataError: The folder cannot be read, or two files have the name.
        """
        found = self.listing(folder).get(name.lower())
        return None if found is None else self._single(found)

    def _single(self, found: Path) -> Path:
        """What was found, if nothing else beside it has its name.

        Raises:
            DataError: Several files differ from it in case only and hold something else, or folders do.
        """
        for other in self._doubled.get(found, ()):
            if not (found.is_file() and other.is_file() and filecmp.cmp(found, other, shallow=False)):
                raise DataError(
                    f"Data set {self.name}: {other.name} and {found.name} in {shown(found.parent)} differ in case "
                    "only, so it is not known which of them is meant. Move one of them away."
                )
        if found in self._doubled:
            self._alike[found] = self._doubled[found]
        return found

    def notices(self) -> Sequence[str]:
        """What is to be said of the files so far: which are there in two cases, and how images were converted."""
        return [
            f"Data set {self.name}: {' and '.join(path.name for path in (*others, found))} in {shown(found.parent)} "
            f"differ in case only and hold the same; {found.name} is read."
            for found, others in self._alike.items()
        ] + list(self.reader.notices(self.name))

    def _held(self, folder: Path) -> str:
        """What is found in a folder, in words."""
        names = [path.name for path in self.listing(folder).values()]
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        return f"holds {', '.join(names[:_NAMES_TOLD])}{more}" if names else "is empty"

    def listing(self, folder: Path) -> Mapping[str, Path]:
        """Lower-case name -> path of everything in a folder but what is hidden.

        Raises:
            DataError: The folder cannot be read.
        """
        self._looked_at[folder] = None
        if folder not in self._listings:
            try:
                paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
            except OSError as error:
                raise DataError(
                    f"Data set {self.name}: folder {shown(folder)} cannot be read ({_reason(error)}). {self._get_it}"
                ) from error
            listing = {path.name.lower(): path for path in paths}
            if len(listing) < len(paths):
                for path in paths:
                    kept = listing[path.name.lower()]
                    if path != kept:
                        self._doubled[kept] = [*self._doubled.get(kept, ()), path]
            self._listings[folder] = listing
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

    def _text(self, path: Path) -> str:
        content = self.content(path)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{self.where(path)} is UTF-16. Save it as UTF-8, or {self.mend[0].lower()}{self.mend[1:]}")
        # A byte order mark is no letter of the first name.
        return content.decode("utf-8", errors="replace").removeprefix("\ufeff")

    def said(self, path: Path) -> bytes:
        """What a label file says, for an identity: without byte order mark, and with one end of a line for all."""
        content = self.content(path)
        if path.suffix.lower() not in _OF_TEXT:
            return content
        return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def fingerprint(self, labels: Iterable[Path], folders: Mapping[str, Path], named: Collection[Path]) -> str:
        """Hash of what labels say, and of the names and sizes of the images; reads no pixel.

        Args:
            labels: The label files.
            folders: Name of a folder of images -> where it is.
            named: The files that labels name. Whatever else lies in the folders (a ``Thumbs.db``, a readme, the same
                images in another format) is no part of the set.

        Raises:
            DataError: A file or folder cannot be read, or two images have one name.
        """
        digest = hashlib.sha256()
        for path in labels:
            digest.update(self.said(path))
        for folder, path in folders.items():
            self._looked_at[path] = None
            for name, file in sorted(self.listing(path).items()):
                if file in named:
                    digest.update(f"{folder}/{name} {self._single(file).stat().st_size}\n".encode())
        return digest.hexdigest()


class LaidOut(Dataset):
    """A data set in an official layout."""

    _layout: OfficialLayout

    def files(self) -> Sequence[Path]:
        """The label files and the folders of images."""
        return self._layout.files()

    def notices(self) -> Sequence[str]:
        """Images that are there twice, in another case, and how those read so far were converted."""
        return self._layout.notices()


class RatedPairs(LaidOut):
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
        """Hash of what the labels say and of the names and sizes of the images they name; reads no pixel."""
        return self._layout.fingerprint(self._labels(), self._image_folders(), frozenset(self._named_files()))

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference and distorted image of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing.
        """
        return self._paths(entry)

    @cached_property
    def _kept(self) -> Sequence[Entry]:
        return self._read()

    def _read(self) -> Sequence[Entry]:
        """Every entry, after filters."""
        raise NotImplementedError

    def _folders(self) -> Sequence[tuple[str, ...]]:
        """`folders`, of a set whose layouts have others those of the layout that is found."""
        return self.folders

    def _image_folders(self) -> Mapping[str, Path]:
        """Name -> folder of images, as the fingerprint has them."""
        return {"/".join(parts): self._layout.find(*parts) for parts in self._folders()}

    def _named_files(self) -> Iterable[Path]:
        """The images that labels name, those that filters leave out among them."""
        return (path for entry in self._kept for path in self._paths(entry))

    def _labels(self) -> Sequence[Path]:
        """The label files, in a fixed order."""
        raise NotImplementedError

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        """Reference and distorted image of an entry, by `OfficialLayout.image`."""
        raise NotImplementedError


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
