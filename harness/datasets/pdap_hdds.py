"""PDAP-HDDS (Liu et al., 2018): full-HD images, in the layout of its archive and with the public list of its scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs

_KINDS = (
    *("awgn", "brightness", "color_distortion", "contrast", "Fast_Fading"),
    *("gblur", "jpeg", "jpeg2000", "mblur", "scaling"),
)
_LISTS = ("PDAP-HDDS.txt", "PDAP-HDDS.csv")
_COLUMNS = ("dis_img_path", "score")
_NAME = re.compile(
    rf"(?P<stem>(?P<reference>.+_type\d+)_(?P<kind>{'|'.join(_KINDS)})_(?P<level>\d))\.bmp", re.IGNORECASE
)
_LOWEST, _HIGHEST = 1.0, 5.0


@register("pdap_hdds")
class PDAPHDDS(RatedPairs):
    """250 references of 1920 x 1080, ten distortion types, 12,000 images, mean opinions 1..5, higher is better.

    ``opinion`` is (mos - 1) / 4 by the nominal scale, whatever the split. The archive's own file of scores is not read:
    what is read is the list that the public reader IQA-Dataset made of it, ``PDAP-HDDS.txt``, put into the root. The
    numbers of fast fading are no strengths: opinions of one image go up and down along them.
    """

    cite = "liu2018hdds"
    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("reference_image", "all_reference_image"),
        *(("distorted_image", kind) for kind in _KINDS),
    )
    levels_not_strength: ClassVar[Mapping[str, str]] = {"fast_fading": "numbers that grade nothing"}

    def __init__(
        self, *, root: str | None = None, split_seed: int | None = None, folds: int | None = None, fold: int = 0
    ) -> None:
        """Choose the folder, and how to split what it holds.

        Args:
            root: Folder that holds ``PDAP-HDDS.txt``, ``reference_image`` and ``distorted_image``; by default
                ``pdap_hdds`` in the data folder.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        page = (
            "https://sites.google.com/site/eelab907/zi-liao-ku; its list of scores PDAP-HDDS.txt lies in "
            "https://github.com/icbcbicc/IQA-Dataset, folder csv"
        )
        layout = OfficialLayout(
            "pdap_hdds",
            "PDAP-HDDS",
            page,
            root,
            marks=(*_LISTS, "distorted_image"),
            accepts="PDAP-HDDS.txt, reference_image/all_reference_image/NAME_typeK.bmp, "
            "distorted_image/awgn/NAME_typeK_awgn_1.bmp",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)

    def _read(self) -> Sequence[Entry]:
        (path,) = self._labels()
        header, rows = self._layout.table(path)
        if absent := [name for name in _COLUMNS if name not in header]:
            raise DataError(f"{self._layout.where(path, 1)}: no column {', '.join(absent)}. {self._layout.mend}")
        entries = []
        for number, row in rows:
            cells = dict(zip(header, row, strict=False))
            entries.append(self._entry(self._layout.where(path, number), *(cells.get(name, "") for name in _COLUMNS)))
        return self._layout.once(path, entries, ".bmp")

    def _entry(self, where: str, image: str, score: str) -> Entry:
        match = _NAME.fullmatch(image.rpartition("/")[2])
        mos = self._layout.score(where, score, _LOWEST, _HIGHEST)
        if match is None or mos is None:
            raise self._layout.malformed(where, f"{image} {score}", "Animals_type1_awgn_1.bmp 3.6522")
        return Entry(
            id=match["stem"].lower(),
            reference_id=match["reference"].lower(),
            opinion=(mos - _LOWEST) / (_HIGHEST - _LOWEST),
            raw=mos,
            group=match["kind"].lower(),
            level=int(match["level"]),
        )

    def _labels(self) -> Sequence[Path]:
        listing = self._layout.listing(self._layout.root)
        there = [name for name in _LISTS if name.lower() in listing]
        return [self._layout.find(there[0] if there else _LISTS[0])]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        image = self._layout.image
        ref = image("reference_image", "all_reference_image", f"{entry.reference_id}.bmp")
        return ref, image("distorted_image", entry.group, f"{entry.id}.bmp")
