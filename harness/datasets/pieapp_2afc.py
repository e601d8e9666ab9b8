"""PieAPP (Prashnani et al., CVPR 2018): judged pairs of distorted images, in the official layout and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.pieapp import PieAPPFolder

_FEWEST_COLUMNS = 4
_EXAMPLE = "ref_1.png,distort_1_blur_inter_0.png,distort_1_noise_inter_0.png,0.65"


@register("pieapp_2afc")
class PieAPP2AFC(Dataset):
    """Triplets: 140 references for training, 20 for validation, 40 for test, official; ``judge`` = 1 - P(prefer A).

    ``p0`` is the image A of a label file and ``p1`` its image B. The probability is the last of the published ones: on
    train and val the processed preference (filled in by a model where no one was asked), on test the votes. Rows
    without one are left out, and so are those in which one of the two images is the reference itself: 4,200 test
    triplets are left.
    """

    cite = "prashnani2018pieapp"
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, *, root: str | None = None) -> None:
        """Choose the folder.

        Args:
            root: Folder that holds ``labels``, ``reference_images`` and ``distorted_images``; by default ``pieapp``
                in the data folder.
        """
        self._layout = PieAPPFolder("pieapp_2afc", root)
        self._read: dict[tuple[str, str], Mapping[str, tuple[Entry, str, str]]] = {}

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every judged triplet of a split, in the order of the reference list and its label files.

        Raises:
            DataError: There is no such split, or a file is missing or malformed.
        """
        if split not in self.splits:
            raise DataError(f"Data set pieapp_2afc has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        references = self._layout.references(split)
        return [entry for name in references for entry, *_ in self._triplets(split, name).values()]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref``, ``p0`` and ``p1``, each 3 x 256 x 256 in the official set.

        Raises:
            DataError: The entry is none of this set's, an image is missing or cannot be read, or sizes differ.
        """
        split, name = entry.id.partition("/")[0], entry.reference_id
        if split not in self.splits or entry.id not in self._triplets(split, name):
            raise DataError(f"Data set pieapp_2afc has no triplet {entry.id!r}. Take entries from entries('test').")
        ref, p0, p1 = self.image_files(entry)
        return self._layout.images(ref=ref, p0=p0, p1=p1)

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """Reference, p0 and p1 of an entry, whether they are there or not.

        Raises:
            DataError: Their folder is missing.
        """
        image, split, name = self._layout.image, entry.id.partition("/")[0], entry.reference_id
        _, *patches = self._triplets(split, name)[entry.id]
        distorted = [image("distorted_images", split, name, f"{patch}.png") for patch in patches]
        return [image("reference_images", split, f"{name}.png"), *distorted]

    def fingerprint(self) -> str:
        """Hash of the label files and of the names and sizes of all images; reads no pixel."""
        labels = [path for split in self.splits for path in self._layout.labels(split, "pairwise_labels")]
        folders = {name: path for split in self.splits for name, path in self._layout.images_of(split).items()}
        return self._layout.fingerprint(labels, folders)

    def files(self) -> Sequence[Path]:
        """The label files and the folders of images."""
        return self._layout.files()

    def notices(self) -> Sequence[str]:
        """How the images loaded so far were converted."""
        return self._layout.notices()

    def _triplets(self, split: str, reference: str) -> Mapping[str, tuple[Entry, str, str]]:
        """Id -> the entry of a judged pair with the names of its images A and B, of one reference."""
        if (split, reference) not in self._read:
            path = self._layout.find("labels", split, f"{reference}_pairwise_labels.csv")
            header, rows = self._layout.table(path)
            if len(header) < _FEWEST_COLUMNS:
                raise self._layout.malformed(self._layout.where(path, 1), ",".join(header), _EXAMPLE)
            found: dict[str, tuple[Entry, str, str]] = {}
            for number, row in rows:
                where = self._layout.where(path, number)
                name, first, second, *shares = row + [""] * (len(header) - len(row))
                own = f"{reference}.png".lower()
                share = shares[len(header) - _FEWEST_COLUMNS]
                preferred = self._layout.score(where, share, 0, 1) if share else None
                if name.lower() != own or (share and preferred is None):
                    raise self._layout.malformed(where, ",".join(row), _EXAMPLE)
                if preferred is not None and own not in (first.lower(), second.lower()):
                    entry = Entry(f"{split}/{reference}/{number:05}", reference, judge=1 - preferred)
                    found[entry.id] = entry, self._layout.stem(where, first), self._layout.stem(where, second)
            self._read[split, reference] = found
        return self._read[split, reference]
