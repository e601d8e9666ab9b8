"""`csv`: anyone's own images, listed in one table."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.image_files import TURNED, ImageHead
from harness.datasets.images import ImageReader, image_head
from harness.datasets.splits import UNSPLIT, ReferenceSplits
from harness.datasets.table_file import TableRow, read_table, shortened
from harness.files import expanded, shown

_PAIR, _TRIPLET = ("ref", "dist"), ("ref", "p0", "p1")
_OF_PAIRS = ("opinion", "level")
_OF_BOTH = ("id", "reference_id", "group", "split")
_KNOWN = frozenset({*_PAIR, *_TRIPLET, "judge", *_OF_PAIRS, *_OF_BOTH})
_OPINIONS = frozenset({"mos", "dmos", "score", "elo", "rating", "opinions"})
"""What a column of opinions is often called, which must not be passed over in silence."""
_WHOLE = "all"
_SPLITS = frozenset({_WHOLE, "train", "val", "test"})
"""Splits that mean something to a suite, in whatever case a table writes them."""
_HIGHEST_LEVEL = 10_000
_SHOWN = 3
"""How many of several faults a message names."""


@register("csv")
class CSV(Dataset):
    """Own images in a table: ``ref,dist`` and what is known of each pair, or ``ref,p0,p1,judge`` for triplets.

    Paths are relative to the table, and one file is one image however its path is spelled; PNG, JPEG, BMP, TIFF, WebP
    and the like will do, grey, palette or RGB of 8 or 16 bits a channel, if they are opaque. Of pairs ``opinion`` (a
    number, in all rows or in none) and ``level`` (a whole number from 1, the weakest, to 10,000) may follow; of both
    ``group`` (distortion type or subset), ``reference_id`` (else the path of the reference), ``id`` (else the path of
    the distorted image) and ``split``. Other columns are passed over. ``judge`` is the share of people, 0 to 1, who
    preferred p1. Cells are separated by commas, semicolons or tabs. With ``split`` the splits are those of the column
    and ``all``.

    ``opinion`` of an entry is linear in the column: 0 and 1 are the ends of `scale`, by default the lowest and highest
    opinion of the whole table, whatever the split. Without opinions, labels are "none".
    """

    cite = ""
    neutral: ClassVar[Mapping[str, Any]] = UNSPLIT

    def __init__(
        self,
        *,
        file: str,
        higher_is_better: bool = True,
        scale: Sequence[float] | None = None,
        labels: Literal["human", "proxy"] = "human",
        split_seed: int | None = None,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        """Read the table; no image is looked at yet.

        Args:
            file: The table.
            higher_is_better: Whether a higher opinion is a better image; false for difference scores (DMOS).
            scale: Lowest and highest opinion that there can be, two numbers; by default those of the table.
            labels: Whose opinions they are: people's, or another metric's (proxy).
            split_seed: Seed of splits train, val and test, 6:2:2 by reference, for a table without a column ``split``.
            folds: Number of folds by reference, 3 or more, likewise.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The table or a parameter cannot be used; names file and line.
        """
        self._path = expanded(file, "file of csv")
        self._name = shown(self._path)
        self._reader = ImageReader()
        table = read_table(self._path, _KNOWN)
        self._columns, self._rows = frozenset(table.columns), table.rows
        self._images = self._form()
        if scale is not None and (len(scale) != 2 or not scale[0] < scale[1]):
            raise DataError(f"{self._name}, scale: {list(scale)} is no range. Give [lowest, highest].")
        self._higher_is_better, self._scale = higher_is_better, scale
        self._parts = ReferenceSplits("csv", split_seed=split_seed, folds=folds, fold=fold)
        self.kind = "triplets" if self._images == _TRIPLET else "pairs"  # type: ignore[misc]
        rated = self.kind == "triplets" or any(row.text("opinion") for row in self._rows)
        self.labels = labels if rated else "none"  # type: ignore[misc]
        self.splits = self._splits_named() or self._parts.names  # type: ignore[misc]

    def entries(self, split: Split) -> Sequence[Entry]:
        """The rows of a split, in the order of the table.

        Raises:
            DataError: There is no such split, or a row cannot be used; names file and line.
        """
        if "split" not in self._columns:
            return self._parts.choose([entry for entry, _ in self._listed.values()], split)
        if split not in self.splits:
            raise DataError(f"{self._name} has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        return [entry for entry, row in self._listed.values() if split in (_WHOLE, _split(row))]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref`` and ``dist``, or ``ref``, ``p0`` and ``p1``, each 3 x H x W in [0, 1].

        Raises:
            DataError: The entry is none of this table's, an image cannot be read, or sizes differ.
        """
        row = self._row(entry)
        try:
            images = {name: self._reader.image(path) for name, path in self._paths(row).items()}
        except DataError as error:
            raise DataError(f"{row.where}: {error}") from error
        self._refuse_mixed(row, {name: (image.shape[2], image.shape[1]) for name, image in images.items()})
        return images

    def fingerprint(self) -> str:
        """Hash of what the table says and of the names and sizes of the images.

        It looks at the heads of all images, so that a row whose images differ in size, or one that is no image or has
        no exact RGB form, is refused before anything is computed.

        Raises:
            DataError: A row cannot be used; names file and line.
        """
        digest = hashlib.sha256()
        heads: dict[Path, ImageHead] = {}
        for entry, row in self._listed.values():
            paths = self._paths(row)
            for path in paths.values():
                if path not in heads:
                    heads[path] = _head(row, path)
            self._refuse_mixed(row, {name: heads[path].size for name, path in paths.items()})
            about = [(row.text(name), path.stat().st_size) for name, path in paths.items()]
            # Once they were read as they are stored: what was recorded of them is of other images.
            turned = [name for name, path in paths.items() if TURNED in heads[path].converted]
            digest.update(repr((entry, _split(row), about, *([turned] if turned else []))).encode())
        return digest.hexdigest()

    def files(self) -> Sequence[Path]:
        """The table, and the folders of the images."""
        folders = {path.parent: None for row in self._rows for path in self._paths(row).values()}
        return [self._path, *folders]

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """The images of a row."""
        return list(self._paths(self._row(entry)).values())

    def notices(self) -> Sequence[str]:
        """Images outside the folder of the table, names that differ in case only, and how images were converted."""
        return (*self._of_names, *self._reader.notices(self._name))

    @cached_property
    def _of_names(self) -> Sequence[str]:
        """What is to be said of the names in the table, looked at once."""
        outside = [text for row in self._rows for text in map(row.text, self._images) if _leaves(text)]
        told = []
        if outside:
            told.append(
                f"{self._name} lists {len(outside)} image{'' if len(outside) == 1 else 's'} outside its folder, such "
                f"as {outside[0]}: a copy of the folder does not hold all."
            )
        if alike := self._alike():
            told.append(
                f"{self._name} lists {' and '.join(map(shortened, alike))}, which differ in case only: on a disk that "
                "ignores case they are one file."
            )
        return told

    def _alike(self) -> Sequence[str]:
        """The first two images whose names differ in case only; none where there are no such."""
        first: dict[str, tuple[Path, str]] = {}
        for row in self._rows:
            for name, place in zip(self._images, self._places(row), strict=True):
                other, text = first.setdefault(str(place).lower(), (place, row.text(name)))
                if other != place:
                    return text, row.text(name)
        return ()

    def _form(self) -> tuple[str, ...]:
        """The columns of images: those of pairs or those of triplets."""
        where = f"{self._name}: the columns are {', '.join(map(shortened, sorted(self._columns)))}"
        judged = self._columns >= {*_TRIPLET, "judge"}
        if judged == (self._columns >= set(_PAIR)):
            both = "dist belongs to pairs, p0 and p1 to triplets: take one out" if judged else "name them in line 1"
            raise DataError(f"{where}. A table has ref,dist (pairs) or ref,p0,p1,judge (triplets); {both}.")
        astray = sorted(self._columns & _OPINIONS)
        if not judged and "opinion" not in self._columns and astray:
            raise DataError(
                f"{where}, and none is called opinion. Call '{astray[0]}' opinion to use it (with higher_is_better: "
                "false where a lower one is better), or take it out."
            )
        return _TRIPLET if judged else _PAIR

    def _splits_named(self) -> tuple[str, ...]:
        """The splits of the column `split`; none without it.

        Raises:
            DataError: A row has none, "all" is one, or the table is to be split in another way as well.
        """
        if "split" not in self._columns:
            return ()
        if self._parts.names != (_WHOLE,):
            raise DataError(f"{self._name} has a column split, so split_seed and folds have no use. Take out either.")
        for row in self._rows:
            if _split(row) in ("", _WHOLE):
                raise DataError(f"{row.where}: split is {row.text('split')!r}. Give a name such as train, val or test.")
        return (_WHOLE, *dict.fromkeys(map(_split, self._rows)))

    @cached_property
    def _listed(self) -> Mapping[str, tuple[Entry, TableRow]]:
        """Id -> entry and row, every row checked."""
        self._refuse_missing()
        self._refuse_torn_references()
        low, high = self._ends()
        found: dict[str, tuple[Entry, TableRow]] = {}
        unnamed: dict[tuple[Path, ...], TableRow] = {}
        for row in self._rows:
            entry, places = self._entry(row, low, high), tuple(self._places(row)[1:])
            if len(set(places)) < len(places):
                raise DataError(f"{row.where}: p0 and p1 are one file, '{entry.id}'. Name two images.")
            first = found[entry.id][1] if entry.id in found else row
            if not row.text("id"):  # then its images are its name, however their paths are spelled
                first = first if first is not row else unnamed.setdefault(places, row)
            if first is not row:
                raise DataError(
                    f"{row.where}: '{shortened(entry.id)}' stands in line {first.line}, too. Take one of the two "
                    "out, or tell them apart by a column id."
                )
            found[entry.id] = entry, row
        return found

    def _entry(self, row: TableRow, low: float, high: float) -> Entry:
        pairs = self._images == _PAIR
        raw = row.number("opinion") if pairs else None
        opinion = None if raw is None else (raw - low) / (high - low)
        return Entry(
            id=row.text("id") or " | ".join(_plain(row.text(name)) for name in self._images[1:]),
            reference_id=self._reference_id(row),
            opinion=opinion if opinion is None or self._higher_is_better else 1 - opinion,
            raw=raw,
            judge=None if pairs else _judge(row),
            group=row.text("group"),
            level=_level(row) if pairs else None,
        )

    def _ends(self) -> tuple[float, float]:
        """The opinions that become 0 and 1, or 1 and 0.

        Raises:
            DataError: An opinion is missing, no number or outside the scale, or all are equal.
        """
        if self.labels == "none" or self._images != _PAIR:
            return 0.0, 1.0
        opinions = [self._opinion(row) for row in self._rows]
        low, high = self._scale if self._scale is not None else (min(opinions), max(opinions))
        if not low < high:
            raise DataError(
                f"{self._name}: every opinion is {low:g}, which ranks nothing. Give scale: [lowest, highest], or "
                "take the column out."
            )
        for row, opinion in zip(self._rows, opinions, strict=True):
            if not low <= opinion <= high:
                raise DataError(
                    f"{row.where}: opinion {opinion:g} lies outside the scale {low:g}..{high:g}. Mend either."
                )
        return low, high

    def _opinion(self, row: TableRow) -> float:
        value = row.number("opinion")
        if value is None:
            raise DataError(f"{row.where}: no opinion, and other rows have one. Give it one, or take the row out.")
        return value

    def _refuse_missing(self) -> None:
        named: dict[tuple[str, Path], int] = {}
        for row in self._rows:
            for name, path in self._paths(row).items():
                named.setdefault((row.text(name), path), row.line)
        missing = [
            f"{shortened(text) or 'an empty cell'} (line {line})"
            for (text, path), line in named.items()
            if not text or not _is_file(path)
        ]
        if missing:
            told = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
            raise DataError(
                f"{self._name}: {len(missing)} of {len(named)} images {'is' if len(missing) == 1 else 'are'} missing: "
                f"{told}. Paths are relative to {shown(self._path.parent.resolve())}."
            )

    def _refuse_torn_references(self) -> None:
        """A reference has one image, one id and one split."""
        kept: dict[tuple[str, str], tuple[str, TableRow]] = {}
        for row in self._rows:
            image, name = self._spellings[self._places(row)[0]], self._reference_id(row)
            for key, value, cure in (
                (("reference_id", name), image, "Give one id to each image"),
                (("ref", image), name, "Give one reference_id to each image"),
                (("reference", name), _split(row), "Put all rows of a reference into one split"),
            ):
                other, first = kept.setdefault(key, (value, row))
                if other != value:
                    raise DataError(
                        f"{row.where}: {key[0]} '{shortened(key[1])}' goes with '{shortened(value)}', and in line "
                        f"{first.line} with '{shortened(other)}'. {cure}, so that no content is on both sides of a "
                        "split."
                    )

    def _refuse_mixed(self, row: TableRow, sizes: Mapping[str, tuple[int, int]]) -> None:
        if len(set(sizes.values())) > 1:
            told = ", ".join(
                f"{shortened(row.text(name))} {width} x {height}" for name, (width, height) in sizes.items()
            )
            raise DataError(
                f"{row.where}: the images differ in size ({told}). Bring them to one size, or take the row out."
            )

    def _paths(self, row: TableRow) -> dict[str, Path]:
        return {name: self._path.parent / _expanded(_slashed(row.text(name))) for name in self._images}

    def _places(self, row: TableRow) -> Sequence[Path]:
        """The images of a row, one path for each file however it is spelled."""
        return [self._place(path) for path in self._paths(row).values()]

    def _place(self, path: Path) -> Path:
        if path not in self._resolved:
            self._resolved[path] = path.resolve()
        return self._resolved[path]

    @cached_property
    def _resolved(self) -> dict[Path, Path]:
        return {}

    @cached_property
    def _spellings(self) -> Mapping[Path, str]:
        """File of a reference -> its path as the table has it first."""
        found: dict[Path, str] = {}
        for row in self._rows:
            found.setdefault(self._places(row)[0], _plain(row.text("ref")))
        return found

    def _reference_id(self, row: TableRow) -> str:
        return row.text("reference_id") or self._spellings[self._places(row)[0]]

    def _row(self, entry: Entry) -> TableRow:
        if entry.id not in self._listed:
            raise DataError(f"{self._name} lists no '{entry.id}'. Take entries from entries(split).")
        return self._listed[entry.id][1]


def _slashed(path: str) -> str:
    """A path with slashes, as tables from Windows have them the other way."""
    return path.replace("\\", "/")


def _plain(path: str) -> str:
    """The name of an image: its path with slashes, without any ./ or x/../ in it."""
    return posixpath.normpath(_slashed(path)) if path else ""


def _split(row: TableRow) -> str:
    """The split of a row: Train is train."""
    text = row.text("split")
    return text.lower() if text.lower() in _SPLITS else text


def _expanded(path: str) -> Path:
    """With the home of the user for ~/; any other tilde is a letter of a name."""
    return Path(path).expanduser() if path.startswith("~/") else Path(path)


def _is_file(path: Path) -> bool:
    """Whether there is a file; a name that the file system cannot have is that of none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _leaves(path: str) -> bool:
    plain = os.path.normpath(_plain(path))
    return plain.startswith(("..", "~")) or Path(plain).is_absolute()


def _head(row: TableRow, path: Path) -> ImageHead:
    try:
        return image_head(path)
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error


def _judge(row: TableRow) -> float:
    judge = row.number("judge")
    if judge is None or not 0 <= judge <= 1:
        raise DataError(
            f"{row.where}: judge {shortened(row.text('judge'))!r} is no share. Give the share of people who preferred "
            "p1, 0 to 1."
        )
    return judge


def _level(row: TableRow) -> int | None:
    level = row.number("level")
    if level is not None and not (level.is_integer() and 1 <= level <= _HIGHEST_LEVEL):
        raise DataError(
            f"{row.where}: level {level:g} is no whole number from 1 to {_HIGHEST_LEVEL:,}. Number the levels from 1, "
            "the weakest; leave the cell empty where there is no strength."
        )
    return None if level is None else int(level)
