"""LIVE Image Quality Assessment Database, release 2 (Sheikh, Sabir and Bovik, IEEE TIP 15(11), 2006)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs
from harness.datasets.splits import UNSPLIT
from harness.files import shown

COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
"""Images of each distortion type, in the order of the label files."""

_IMAGES = tuple((group, number) for group, count in COUNTS.items() for number in range(1, count + 1))
"""Type and number of each image, in the same order."""
_LOWEST, _HIGHEST = -5.0, 115.0
_NAMES = "refnames_all.mat"
_SCORES: Mapping[str, tuple[str, str]] = {
    "dmos": ("dmos.mat", "dmos"),
    "realigned": ("dmos_realigned.mat", "dmos_new"),
}
"""Value of the parameter `labels` -> the file, and the variable in it that holds the scores."""


@register("live")
class LIVE(RatedPairs):
    """29 references, five distortion types, 779 images with difference scores (DMOS), **lower is better**.

    The label files list 982 images; the 203 marked as undistorted copies (``orgs``) are left out. There are two sets of
    scores: those of ``dmos.mat`` lie in 0..84.49, the realigned ones of ``dmos_realigned.mat`` in -2.64..111.77, and
    most published correlations are with the latter. So that none is clipped and both are on one linear scale,
    ``opinion`` is (115 - dmos) / 120 whatever the split: 0..100 becomes .96 to .125. The release grades no levels, so
    an entry has none. The references include the Kodak photographs that TID2013 has too.
    """

    cite = "sheikh2006statistical"
    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (("refimgs",), *((name,) for name in COUNTS))
    neutral: ClassVar[Mapping[str, Any]] = {**UNSPLIT, "labels": "dmos"}

    def __init__(
        self,
        *,
        root: str | None = None,
        labels: Literal["dmos", "realigned"] = "dmos",
        split_seed: int | None = None,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        """Choose the folder, the scores, and how to split what it holds.

        Args:
            root: Folder that holds ``dmos.mat`` or ``dmos_realigned.mat``, and ``refnames_all.mat``; by default
                ``live`` in the data folder.
            labels: The scores of ``dmos.mat``, or those of ``dmos_realigned.mat``.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        page = "https://live.ece.utexas.edu/research/quality/subjective.htm"
        layout = OfficialLayout(
            "live",
            "LIVE release 2",
            page,
            root,
            marks=(*(file for file, _ in _SCORES.values()), _NAMES),
            accepts=f"dmos.mat or dmos_realigned.mat, {_NAMES}, refimgs/bikes.bmp, and img1.bmp in {', '.join(COUNTS)}",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)
        self._file, self._variable = _SCORES[labels]

    def label_source(self) -> str:
        """The file that the scores are of."""
        return self._file

    def _read(self) -> Sequence[Entry]:
        scores, names = self._labels()
        dmos, copies = self._array(scores, self._variable), self._array(scores, "orgs")
        references = self._array(names, "refnames_all")
        entries = []
        for i, (group, number) in enumerate(_IMAGES):
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

    def _named_files(self) -> Iterable[Path]:
        yield from super()._named_files()
        # The copies, which have no score of their own, are images of the release too.
        yield from (self._layout.image(group, f"img{number}.bmp") for group, number in _IMAGES)

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
        held = self._layout.listing(self._layout.root)
        for labels, (file, _) in _SCORES.items():
            if self._file not in held and file in held:
                raise DataError(
                    f"Data set live: {shown(self._layout.root)} holds {file}, and {self._file} is missing. These are "
                    f"two sets of scores: say 'labels: {labels}' to take those of {file}, or add {self._file}."
                )
        return [self._layout.find(self._file), self._layout.find(_NAMES)]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        folder, stem = entry.id.split("/")
        image = self._layout.image
        return image("refimgs", f"{entry.reference_id}.bmp"), image(folder, f"{stem}.bmp")
