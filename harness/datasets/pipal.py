"""PIPAL (Gu et al., ECCV 2020): the published training part, in its official layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.contracts import DataError, Entry, register
from harness.datasets.layout import OfficialLayout, RatedPairs
from harness.files import shown

_LINE = re.compile(r"(?P<stem>(?P<reference>A\d{4})_(?P<kind>\d\d)_\d\d)\.bmp\s*,\s*(?P<elo>\S+)", re.IGNORECASE)
_LABEL_FILE = re.compile(r"a\d{4}\.txt")
_DISTORTED = re.compile(r"train_dist?(_?\d+)?|distortion_?\d+|dist_imgs")
_LOWEST, _HIGHEST = 800.0, 2000.0


@register("pipal")
class PIPAL(RatedPairs):
    """200 references x 116 distorted images of 288 px, many by restoration networks, with Elo scores; higher is better.

    Only the training labels of the challenge are public, so they are all there is: val and test here are parts of them
    by reference, never the challenge's own val and test, and figures on these are not comparable. Elo scores have
    no bounds: ``opinion`` is (elo - 800) / 1200, whatever the split, a range of 600 around the initial 1400 that
    encloses the labels (about 900 to 1850). ``group`` is one of seven distortion types, 00 to 06; the numbers within
    one are no levels. Distorted images may lie in ``Train_Dist``, ``Train_Dis`` or ``Dist_Imgs`` or, as the archives
    unpack, in ``Distortion_1`` to ``Distortion_4``, each of them once more in a folder of such a name; an image in
    two of them is refused.
    """

    cite = "gu2020pipal"
    version: ClassVar[int] = 1

    def __init__(
        self, *, root: str | None = None, split_seed: int | None = None, folds: int | None = None, fold: int = 0
    ) -> None:
        """Choose the folder, and how to split what it holds.

        Args:
            root: Folder that holds ``Train_Label`` and ``Train_Ref``; by default ``pipal`` in the data folder.
            split_seed: Seed of splits train, val and test, 6:2:2 by reference; without it and `folds` all is one.
            folds: Number of folds by reference, 3 or more: train, val and test are made of them.
            fold: The fold that is test, from 0; the next one is val.

        Raises:
            DataError: The seed or a fold is outside its range.
        """
        page = "https://www.jasongt.com/projectpages/pipal.html"
        layout = OfficialLayout(
            "pipal",
            "PIPAL",
            page,
            root,
            marks=("Train_Label",),
            accepts="Train_Label/A0001.txt, Train_Ref/A0001.bmp, and A0001_00_00.bmp in Train_Dist, Train_Dis, "
            "Dist_Imgs or Distortion_1 to Distortion_4, also in Distortion_1/Distortion_1",
        )
        super().__init__(layout, split_seed=split_seed, folds=folds, fold=fold)

    def _image_folders(self) -> Mapping[str, Path]:
        folders = [self._layout.find("Train_Ref"), *self._distorted]
        return {folder.relative_to(self._layout.root).as_posix().lower(): folder for folder in folders}

    def _read(self) -> Sequence[Entry]:
        entries: list[Entry] = []
        for path in self._labels():
            read = [self._entry(self._layout.where(path, number), line) for number, line in self._layout.lines(path)]
            entries += self._layout.once(path, read, ".bmp")
        return self._layout.once(self._layout.find("Train_Label"), entries, ".bmp")

    def _entry(self, where: str, line: str) -> Entry:
        match = _LINE.fullmatch(line)
        elo = self._layout.score(where, match["elo"], _LOWEST, _HIGHEST) if match else None
        if match is None or elo is None:
            raise self._layout.malformed(where, line, "A0000_00_00.bmp,1537.2")
        return Entry(
            id=match["stem"].upper(),
            reference_id=match["reference"].upper(),
            opinion=(elo - _LOWEST) / (_HIGHEST - _LOWEST),
            raw=elo,
            group=match["kind"],
        )

    def _labels(self) -> Sequence[Path]:
        listing = self._layout.listing(self._layout.find("Train_Label"))
        named = sorted(name for name in listing if _LABEL_FILE.fullmatch(name))
        return [self._layout.find("Train_Label", name) for name in named]

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        name = f"{entry.id}.bmp"
        distorted = self._images.get(name.lower(), self._distorted[0] / name)
        return self._layout.image("Train_Ref", f"{entry.reference_id}.bmp"), distorted

    @cached_property
    def _distorted(self) -> Sequence[Path]:
        """The folders of distorted images: those that hold some, or all where none does."""
        outer = self._distorted_in(self._layout.root) or [self._layout.find("Train_Dist")]
        every = [folder for place in outer for folder in (place, *self._distorted_in(place))]
        return [folder for folder in every if any(map(_is_image, self._layout.listing(folder)))] or every

    def _distorted_in(self, place: Path) -> Sequence[Path]:
        listing = self._layout.listing(place)
        return [path for name, path in sorted(listing.items()) if _DISTORTED.fullmatch(name) and path.is_dir()]

    @cached_property
    def _images(self) -> Mapping[str, Path]:
        """Lower-case name -> the distorted image, of those that labels name.

        Raises:
            DataError: Two folders hold one of that name, or two files of one folder have it.
        """
        named = {f"{entry.id}.bmp".lower() for entry in self._kept}
        found: dict[str, Path] = {}
        for folder in self._distorted:
            for name in named & self._layout.listing(folder).keys():
                path = self._layout.inside(folder, name)
                if path is not None and found.setdefault(name, path) != path:
                    raise DataError(
                        f"Data set pipal: {shown(found[name])} and {shown(path)} are one image of the set in two "
                        "folders. Keep one of the folders, and move the other away."
                    )
        return found


def _is_image(name: str) -> bool:
    return name.endswith(".bmp")
