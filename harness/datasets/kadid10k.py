"""KADID-10k (Lin, Hosu and Saupe, QoMEX 2019) in its official layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.contracts import Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs

_LABEL_FILE = "dmos.csv"

_COLUMNS = ["dist_img", "ref_img", "dmos"]
_IMAGE = re.compile(r"(?P<stem>(?P<reference>I\d\d)_(?P<kind>\d\d)_(?P<level>\d\d))\.png", re.IGNORECASE)
_LOWEST, _HIGHEST = 1.0, 5.0


@register("kadid10k")
class KADID10k(RatedPairs):
    """81 references x 25 distortion types x 5 levels with scores 1..5, **higher is better** though named dmos.

    The set has no official split: ``opinion`` is (dmos - 1) / 4, by the nominal scale, whatever the split. Level 3 of
    types 18 and 25 changes nothing; 320 images are their reference, pixel by pixel.
    """

    cite = "lin2019kadid10k"
    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (("images",),)
    levels_not_strength: ClassVar[Mapping[str, str]] = {
        "07": "signed: saturation × 0.4, 0.2, 0.1, 0, −0.4",
        "18": "signed: mean shifted by 0.15, 0.08, 0, −0.08, −0.15",
        "25": "signed: contrast changed by 0.3, 0.15, 0, −0.4, −0.6",
    }

    def __init__(
        self, *, root: str | None = None, split_seed: int | None = None, folds: int | None = None, fold: int = 0
    ) -> None:
        """Choose the folder, and how to split what it holds.

        Args:
            root: Folder that holds ``dmos.csv`` and ``images``; by default ``kadid10k`` in the data folder.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        layout = OfficialLayout(
            "kadid10k",
            "KADID-10k",
            "https://database.mmsp-kn.de/kadid-10k-database.html",
            root,
            marks=(_LABEL_FILE,),
            accepts=f"{_LABEL_FILE}, images/I01.png, images/I01_01_01.png",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)

    def _read(self) -> Sequence[Entry]:
        (path,) = self._labels()
        header, rows = self._layout.table(path)
        if header[: len(_COLUMNS)] != _COLUMNS:
            raise self._layout.malformed(self._layout.where(path, 1), ",".join(header), ",".join([*_COLUMNS, "var"]))
        entries = [self._entry(self._layout.where(path, number), row) for number, row in rows]
        return self._layout.once(path, entries, ".png")

    def _entry(self, where: str, row: Sequence[str]) -> Entry:
        match = _IMAGE.fullmatch(row[0])
        dmos = self._layout.score(where, row[2], _LOWEST, _HIGHEST) if match and len(row) > 2 else None
        if match is None or dmos is None or row[1].lower() != f"{match['reference']}.png".lower():
            raise self._layout.malformed(where, ",".join(row), "I01_01_01.png,I01.png,4.57,0.496")
        return Entry(
            id=match["stem"].lower(),
            reference_id=match["reference"].upper(),
            opinion=(dmos - _LOWEST) / (_HIGHEST - _LOWEST),
            raw=dmos,
            group=match["kind"],
            level=int(match["level"]),
        )

    def _labels(self) -> Sequence[Path]:
        return [self._layout.find(_LABEL_FILE)]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        image = self._layout.image
        return image("images", f"{entry.reference_id}.png"), image("images", f"{entry.id}.png")
