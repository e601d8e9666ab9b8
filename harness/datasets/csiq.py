"""CSIQ (Larson and Chandler, Journal of Electronic Imaging 19(1), 2010) in its official layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs

WORKBOOK, TEXT = "csiq.DMOS.xlsx", "csiq_label.txt"
FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
"""Distortion types, by their folders in ``dst_imgs``."""

_SHEET = "all_by_image"
_COLUMNS = ("image", "dst_type", "dst_lev", "dmos")
_LEVELS = ("1", "2", "3", "4", "5")


@register("csiq")
class CSIQ(RatedPairs):
    """30 references, six distortion types, 866 images with difference scores (DMOS) 0..1, **lower is better**.

    Labels are read from the published workbook ``csiq.DMOS.xlsx``, or where there is none from the list
    ``csiq_label.txt`` made from it by others (``1600.AWGN.1.png 0.062``). Distorted images lie in ``dst_imgs`` by type,
    or all of them directly in it or in ``dst_imgs_all``. The set has no official split: ``opinion`` is 1 - dmos, by the
    nominal scale, whatever the split.
    """

    cite = "larson2010mad"
    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (("src_imgs",), *(("dst_imgs", name) for name in FOLDERS))

    def __init__(
        self, *, root: str | None = None, split_seed: int | None = None, folds: int | None = None, fold: int = 0
    ) -> None:
        """Choose the folder, and how to split what it holds.

        Args:
            root: Folder that holds ``src_imgs`` and ``dst_imgs``; by default ``csiq`` in the data folder.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        page = "http://vision.eng.shizuoka.ac.jp/mod/page/view.php?id=23"
        layout = OfficialLayout(
            "csiq",
            "CSIQ",
            page,
            root,
            marks=(WORKBOOK, TEXT),
            accepts=f"{WORKBOOK} or {TEXT}, src_imgs/1600.png, and dst_imgs/awgn/1600.AWGN.1.png or, all types in one "
            "folder, dst_imgs/1600.AWGN.1.png or dst_imgs_all/1600.AWGN.1.png",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)

    def _read(self) -> Sequence[Entry]:
        (path,) = self._labels()
        rows, example = self._text(path), "1600.AWGN.1.png 0.062"
        if path.suffix.lower() == ".xlsx":
            rows, example = self._workbook(path), "1600 noise 1 0.062"
        entries = []
        for number, line, parts in rows:
            where = self._layout.where(path, number)
            entry = self._entry(where, *parts) if len(parts) == len(_COLUMNS) else None
            if entry is None:
                raise self._layout.malformed(where, line, example)
            entries.append(entry)
        return self._layout.once(path, entries, ".png")

    def _entry(self, where: str, image: str, kind: str, level: str, dmos: str) -> Entry | None:
        """The entry of a line, or None where that cannot be read."""
        group = kind.lower().replace(" ", "")
        group = "awgn" if group == "noise" else group
        raw = self._layout.score(where, dmos, 0, 1)
        plain = image and not set(image) & set("/\\")
        if raw is None or not plain or group not in FOLDERS or level not in _LEVELS:
            return None
        return Entry(
            id=f"{image}.{group}.{level}".lower(),
            reference_id=image.lower(),
            opinion=1 - raw,
            raw=raw,
            group=group,
            level=int(level),
        )

    def _text(self, path: Path) -> Iterator[tuple[int, str, list[str]]]:
        """Line number, line and its image, type, level and score."""
        for number, line in self._layout.lines(path):
            name, *score = line.split(None, 1)
            yield number, line, [*name.removesuffix(".png").rsplit(".", 2), *score]

    def _workbook(self, path: Path) -> Iterator[tuple[int, str, list[str]]]:
        """The same of the workbook."""
        columns: list[int] = []
        for number, row in enumerate(self._cells(path), start=1):
            cells = [_plain(cell) for cell in row]
            if not columns:
                # The header stands below a title, and the table does not begin in the first column.
                columns = [cells.index(name) for name in _COLUMNS] if set(_COLUMNS) <= set(cells) else []
            elif any(cells[i] for i in columns):
                parts = [cells[i] for i in columns]
                yield number, " ".join(parts), parts
        if not columns:
            raise DataError(
                f"{self._layout.where(path)} has no row with the headings {', '.join(_COLUMNS)} in the sheet {_SHEET}. "
                f"{self._layout.mend}"
            )

    def _cells(self, path: Path) -> list[tuple[Any, ...]]:
        from openpyxl import load_workbook

        self._layout.content(path)
        try:
            workbook = load_workbook(path, read_only=True, data_only=True)
            try:
                return list(workbook[_SHEET].iter_rows(values_only=True))
            finally:
                workbook.close()
        # A damaged file ends in whatever the parser stumbles over.
        except Exception as error:
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DataError(
                f"{self._layout.where(path)} holds no sheet {_SHEET} that can be read ({reason}). {self._layout.mend}"
            ) from error

    def _labels(self) -> Sequence[Path]:
        listing = self._layout.listing(self._layout.root)
        there = [name for name in (WORKBOOK, TEXT) if name.lower() in listing]
        return [self._layout.find(there[0] if there else WORKBOOK)]

    def _folders(self) -> Sequence[tuple[str, ...]]:
        return (("src_imgs",), (self._flat,)) if self._flat else self.folders

    @cached_property
    def _flat(self) -> str:
        """The folder that holds the distorted images of all types; empty where they lie by type."""
        held = self._layout.listing(self._layout.root)
        if "dst_imgs" in held and set(FOLDERS) & self._layout.listing(held["dst_imgs"]).keys():
            return ""
        return next((name for name in ("dst_imgs_all", "dst_imgs") if name in held), "")

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        image = self._layout.image
        distorted = (self._flat,) if self._flat else ("dst_imgs", entry.group)
        return image("src_imgs", f"{entry.reference_id}.png"), image(*distorted, f"{entry.id}.png")


def _plain(cell: Any) -> str:
    """A cell as text; the image 1600 and the levels are numbers in the workbook."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
