"""LIVE Image Quality Assessment Database, release 2 (Sheikh, Sabir and Bovik, IEEE TIP 15(11), 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs

COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
"""Images of each distortion type, in the order of the label files."""

_LOWEST, _HIGHEST = -5.0, 115.0


@register("live")
class LIVE(RatedPairs):
    """29 references, five distortion types, 779 images with difference scores (DMOS), **lower is better**.

    The label files list 982 images; the 203 marked as undistorted copies (``orgs``) are left out. DMOS is nominally
    0..100, and where scores were realigned some lie a little outside. So that none is clipped and the scale stays
    linear, ``opinion`` is (115 - dmos) / 120 whatever the split: 0..100 becomes .96 to .125. The release grades no
    levels, so an entry has none. The references include the Kodak photographs that TID2013 has too.
    """

    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (("refimgs",), *((name,) for name in COUNTS))

    def __init__(
        self, *, root: str | None = None, split_seed: int | None = None, folds: int | None = None, fold: int = 0
    ) -> None:
        """Choose the folder, and how to split what it holds.

        Args:
            root: Folder that holds ``dmos.mat`` and ``refnames_all.mat``; by default ``live`` in the data folder.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        page = "https://live.ece.utexas.edu/research/quality/subjective.htm"
        super().__init__(
            OfficialLayout("live", "LIVE release 2", page, root), split_seed=split_seed, folds=folds, fold=fold
        )

    def _read(self) -> Sequence[Entry]:
        scores, names = self._labels()
        dmos, copies = self._array(scores, "dmos"), self._array(scores, "orgs")
        references = self._array(names, "refnames_all")
        images = [(group, number) for group, count in COUNTS.items() for number in range(1, count + 1)]
        entries = []
        for i, (group, number) in enumerate(images):
            where = f"{self._layout.where(scores)}, {group}/img{number}.bmp"
            if copies[i] not in (0, 1):
                raise self._layout.malformed(where, copies[i], "orgs 0 or 1")
            if copies[i] == 0:
                reference = self._reference(f"{self._layout.where(names)}, {group}/img{number}.bmp", references[i])
                value = self._layout.score(where, dmos[i], _LOWEST, _HIGHEST)
                if value is None:
                    raise self._layout.malformed(where, dmos[i], "52.3")
                opinion = (_HIGHEST - value) / (_HIGHEST - _LOWEST)
                entries.append(Entry(f"{group}/img{number}", reference, opinion=opinion, raw=value, group=group))
        return self._layout.once(scores, entries, ".bmp")

    def _reference(self, where: str, cell: Any) -> str:
        """Name of a reference without its suffix; a cell of text is an array around it."""
        name = str(cell.flat[0]) if getattr(cell, "size", 0) == 1 else str(cell)
        if not name.lower().endswith(".bmp") or "/" in name or "\\" in name:
            raise self._layout.malformed(where, name, "bikes.bmp")
        return name[:-4].lower()

    def _array(self, path: Path, name: str) -> list[Any]:
        """One variable of a label file, one value an image."""
        from scipy.io import loadmat

        self._layout.content(path)
        try:
            values = list(loadmat(path, variable_names=[name])[name].ravel())
        # A damaged file ends in whatever the parser stumbles over.
        except Exception as error:
            reason = " ".join(str(error).split())[:80] or type(error).__name__
            raise DataError(
                f"{self._layout.where(path)} holds no variable {name} that can be read ({reason}). {self._layout.mend}"
            ) from error
        if len(values) != sum(COUNTS.values()):
            raise DataError(
                f"{self._layout.where(path)}: {name} has {len(values)} values; release 2 has {sum(COUNTS.values())}. "
                f"{self._layout.mend}"
            )
        return values

    def _labels(self) -> Sequence[Path]:
        return [self._layout.find("dmos.mat"), self._layout.find("refnames_all.mat")]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        folder, stem = entry.id.split("/")
        find = self._layout.find
        return find("refimgs", f"{entry.reference_id}.bmp"), find(folder, f"{stem}.bmp")
