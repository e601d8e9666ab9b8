"""TID2013 (Ponomarenko et al., Signal Processing: Image Communication 30, 2015) in its official layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs
from harness.files import shown

_LABEL_FILE = "mos_with_names.txt"

_LINE = re.compile(r"(?P<mos>\S+)\s+(?P<stem>[iI](?P<reference>\d\d)_(?P<kind>\d\d)_(?P<level>\d))\.[bB][mM][pP]")
_HIGHEST = 9.0
_TYPES, _REFERENCES = 24, 25
_TYPE_NAMES = (
    *("Additive Gaussian noise", "Additive noise in color components", "Spatially correlated noise", "Masked noise"),
    *("High frequency noise", "Impulse noise", "Quantization noise", "Gaussian blur", "Image denoising"),
    *("JPEG compression", "JPEG2000 compression", "JPEG transmission errors", "JPEG2000 transmission errors"),
    *("Non eccentricity pattern noise", "Local block-wise distortions", "Mean shift", "Contrast change"),
    *("Change of color saturation", "Multiplicative Gaussian noise", "Comfort noise"),
    *("Lossy compression of noisy images", "Image color quantization with dither", "Chromatic aberrations"),
    "Sparse sampling and reconstruction",
)


@register("tid2013")
class TID2013(RatedPairs):
    """25 references x 24 distortion types x 5 levels with mean opinion scores (mos) 0..9, higher is better.

    The set has no official split, and so no training range: ``opinion`` is mos / 9, by the nominal scale, whatever the
    split.
    """

    cite = "ponomarenko2015tid2013"
    version: ClassVar[int] = 1
    folders: ClassVar[tuple[tuple[str, ...], ...]] = (("reference_images",), ("distorted_images",))
    group_names: ClassVar[Mapping[str, str]] = {
        f"{number:02}": f"{number:02} {name}" for number, name in enumerate(_TYPE_NAMES, start=1)
    }
    levels_not_strength: ClassVar[Mapping[str, str]] = {
        "15": "blocks of different intensity, in no order",
        "16": "signed: shifts of −6, 10, −20, 30, −40 grey levels, darker and brighter in turn",
        "17": "signed: contrast × 0.9, 1.2, 0.75, 1.45, 0.5",
    }

    def __init__(
        self,
        *,
        root: str | None = None,
        types: Sequence[int] | None = None,
        references: Sequence[int] | None = None,
        split_seed: int | None = None,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        """Choose the folder, what of it to use, and how to split that.

        Args:
            root: Folder that holds ``mos_with_names.txt``; by default ``tid2013`` in the data folder.
            types: Distortion types to keep, 1 to 24; all by default.
            references: Reference images to keep, 1 to 25; all by default. They are filtered first and split then.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: A type, a reference, the seed or a fold is outside its range.
        """
        layout = OfficialLayout(
            "tid2013",
            "TID2013",
            "https://www.ponomarenko.info/tid2013.htm",
            root,
            marks=(_LABEL_FILE,),
            accepts=f"{_LABEL_FILE}, reference_images/I01.BMP, distorted_images/i01_01_1.bmp",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)
        self._types = _checked(types, _TYPES, "types")
        self._references = _checked(references, _REFERENCES, "references")

    def _read(self) -> Sequence[Entry]:
        kept = [entry for entry in self._all if self._wanted(entry)]
        if not kept:
            held = ", ".join(sorted({str(int(entry.group)) for entry in self._all}, key=int)) or "none"
            names = ", ".join(sorted({str(_number(entry)) for entry in self._all}, key=int)) or "none"
            raise DataError(
                f"Data set tid2013 in {shown(self._layout.root)}: no image is left after the filters types and "
                f"references. {_LABEL_FILE} lists types {held} and references {names}; choose among these."
            )
        return kept

    def _named_files(self) -> Iterable[Path]:
        return (path for entry in self._all for path in self._paths(entry))

    def _labels(self) -> Sequence[Path]:
        return [self._layout.find(_LABEL_FILE)]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        image = self._layout.image
        return image("reference_images", f"{entry.reference_id}.bmp"), image("distorted_images", f"{entry.id}.bmp")

    @cached_property
    def _all(self) -> Sequence[Entry]:
        (path,) = self._labels()
        entries = [self._entry(self._layout.where(path, number), line) for number, line in self._layout.lines(path)]
        return self._layout.once(path, entries, ".bmp")

    def _entry(self, where: str, line: str) -> Entry:
        match = _LINE.fullmatch(line)
        mos = self._layout.score(where, match["mos"], 0, _HIGHEST) if match else None
        if match is None or mos is None:
            raise self._layout.malformed(where, line, "5.51429 I01_01_1.bmp")
        return Entry(
            id=match["stem"].lower(),
            reference_id=f"I{match['reference']}",
            opinion=mos / _HIGHEST,
            raw=mos,
            group=match["kind"],
            level=int(match["level"]),
        )

    def _wanted(self, entry: Entry) -> bool:
        right_type = self._types is None or int(entry.group) in self._types
        return right_type and (self._references is None or _number(entry) in self._references)


def _number(entry: Entry) -> int:
    return int(entry.reference_id[1:])


def _checked(chosen: Sequence[int] | None, highest: int, name: str) -> frozenset[int] | None:
    if chosen is None:
        return None
    if wrong := [value for value in chosen if not 1 <= value <= highest]:
        raise DataError(
            f"Data set tid2013, {name}: {', '.join(map(str, wrong))} does not exist. Choose from 1 to {highest}."
        )
    return frozenset(chosen)
