"""PieAPP (Prashnani et al., CVPR 2018): the scored images of its test split, in the official layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.layout import OfficialLayout

_REFERENCE = re.compile(r"[^/\\]+\.png", re.IGNORECASE)
_DISTORTED = re.compile(r"distort_\d+_(?P<kind>.+)_(inter|intra)_[^_]+", re.IGNORECASE)


class PieAPPFolder(OfficialLayout):
    """Where the files of PieAPP lie; `pieapp` and `pieapp_2afc` are two views of one folder."""

    def __init__(self, name: str, root: str | None) -> None:
        """See `OfficialLayout`."""
        page = "https://github.com/prashnani/PerceptualImageError"
        lists = tuple(f"{split}_reference_list.txt" for split in ("train", "val", "test"))
        accepts = (
            "test_reference_list.txt, labels/test/ref_161_per_image_score.csv and ref_161_pairwise_labels.csv, "
            "reference_images/test/ref_161.png, distorted_images/test/ref_161/distort_161_TYPE_inter_0.png, "
            "and likewise train and val"
        )
        super().__init__(name, "PieAPP", page, root, folder="pieapp", marks=lists, accepts=accepts)

    def references(self, split: str) -> Sequence[str]:
        """Names of the references of a split, without suffix.

        Raises:
            DataError: The list is missing, empty or malformed.
        """
        path = self.find(f"{split}_reference_list.txt")
        lines = self.lines(path)
        for number, line in lines:
            if not _REFERENCE.fullmatch(line):
                raise self.malformed(self.where(path, number), line, "ref_1.png")
        if not lines:
            raise DataError(f"{self.where(path)} is empty. {self.mend}")
        return list(dict.fromkeys(line[:-4] for _, line in lines))

    def labels(self, split: str, kind: str) -> Sequence[Path]:
        """The reference list of a split and the label files of its references: their paths."""
        named = [self.find("labels", split, f"{name}_{kind}.csv") for name in self.references(split)]
        return [self.find(f"{split}_reference_list.txt"), *named]

    def images_of(self, split: str) -> Mapping[str, Path]:
        """The folders of images of a split."""
        folders = {f"reference_images/{split}": self.find("reference_images", split)}
        for name in self.references(split):
            folders[f"distorted_images/{split}/{name}"] = self.find("distorted_images", split, name)
        return folders

    def stem(self, where: str, name: str) -> str:
        """Name of an image without its suffix.

        Raises:
            DataError: It is no name of an image.
        """
        if not _REFERENCE.fullmatch(name):
            raise self.malformed(where, name, "distort_1_blur_inter_0.png")
        return name[:-4]


@register("pieapp")
class PieAPP(Dataset):
    """40 test references x 15 distorted images of 256 px with a score of error each, **lower is better**.

    Only the test split has scores of single images; for pairs of all three splits see `pieapp_2afc`. A score is the
    error of a Bradley-Terry model with the reference at 0: it has no upper bound and the set no scored training split,
    so ``opinion`` is linear in it by the range of the published scores themselves: 1 at the lowest score (or 0, if none
    is below), 0 at the highest. ``group`` is the distortion type in the file name, where it is of the published form.
    """

    cite = "prashnani2018pieapp"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("test",)

    def __init__(self, *, root: str | None = None) -> None:
        """Choose the folder.

        Args:
            root: Folder that holds ``labels``, ``reference_images`` and ``distorted_images``; by default ``pieapp``
                in the data folder.
        """
        self._layout = PieAPPFolder("pieapp", root)

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every scored image, in the order of the reference list and its label files.

        Raises:
            DataError: The split is not "test", or a file is missing or malformed.
        """
        if split not in self.splits:
            raise DataError(
                f"Data set pieapp has no split {split!r}. Its only split with scores is test; pieapp_2afc has others."
            )
        return self._entries

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref`` and ``dist`` of one entry, 3 x 256 x 256 in the official set.

        Raises:
            DataError: An image is missing or cannot be read, or the two differ in size.
        """
        ref, dist = self.image_files(entry)
        return self._layout.images(ref=ref, dist=dist)

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference and distorted image of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing.
        """
        image, name = self._layout.image, entry.reference_id
        ref = image("reference_images", "test", f"{name}.png")
        return ref, image("distorted_images", "test", name, f"{entry.id}.png")

    def fingerprint(self) -> str:
        """Hash of the label files and of the names and sizes of the test images; reads no pixel."""
        return self._layout.fingerprint(self._layout.labels("test", "per_image_score"), self._layout.images_of("test"))

    def files(self) -> Sequence[Path]:
        """The label files and the folders of images."""
        return self._layout.files()

    def notices(self) -> Sequence[str]:
        """How the images loaded so far were converted."""
        return self._layout.notices()

    @cached_property
    def _entries(self) -> Sequence[Entry]:
        path, *tables = self._layout.labels("test", "per_image_score")
        scores: list[tuple[str, str, float]] = []
        for reference, table in zip(self._layout.references("test"), tables, strict=True):
            for number, row in self._layout.table(table)[1]:
                where = self._layout.where(table, number)
                error = self._layout.score(where, row[2], -1e3, 1e3) if len(row) > 2 else None
                if error is None or row[0].lower() != f"{reference}.png".lower():
                    raise self._layout.malformed(where, ",".join(row), "ref_1.png,distort_1_blur_inter_0.png,1.37")
                # The reference itself stands at 0 by definition.
                if row[1].lower() != row[0].lower():
                    scores.append((reference, self._layout.stem(where, row[1]), error))
        errors = [error for _, _, error in scores]
        low, high = min([0.0, *errors]), max([0.0, *errors])
        if low == high:
            raise DataError(f"{self._layout.where(path)}: no image has a score of error. {self._layout.mend}")
        entries = [
            Entry(name, reference, opinion=(high - error) / (high - low), raw=error, group=_kind(name))
            for reference, name, error in scores
        ]
        return self._layout.once(path, entries, ".png")


def _kind(name: str) -> str:
    match = _DISTORTED.fullmatch(name)
    return match["kind"].lower() if match else ""
