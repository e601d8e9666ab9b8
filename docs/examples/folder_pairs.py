"""A data set in one file: PNG pairs in a folder, listed in labels.csv: reference, distorted, opinion, type, level."""

import csv
import hashlib
from pathlib import Path

from harness.contracts import DataError, Dataset, Entry, Tree, register
from harness.datasets.images import read_image


@register("folder_pairs")
class FolderPairs(Dataset):
    """PNG pairs with opinions between `worst` and `best`, whichever of the two is the larger number."""

    cite = ""

    def __init__(self, *, root: str, worst: float = 1.0, best: float = 5.0) -> None:
        self.root, self.worst, self.best = Path(root).expanduser(), worst, best

    def entries(self, split: str) -> list[Entry]:
        """One entry for each line of the label file; no pixel is read."""
        if split != "all":
            raise DataError(f"folder_pairs has no split {split!r}. Its only split is all.")
        try:
            table = csv.DictReader((self.root / "labels.csv").read_text(encoding="utf-8").splitlines())
            return [self._entry(row) for row in table]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.root}/labels.csv: {error!r}. Mend it, or give another root.") from error

    def _entry(self, row: dict[str, str]) -> Entry:
        opinion = (float(row["opinion"]) - self.worst) / (self.best - self.worst)
        return Entry(row["distorted"], row["reference"], opinion, group=row["type"], level=int(row["level"]))

    def load(self, entry: Entry) -> dict[str, Tree]:
        """Both images, each 3 x H x W in [0, 1]."""
        return {"ref": read_image(self.root / entry.reference_id), "dist": read_image(self.root / entry.id)}

    def fingerprint(self) -> str:
        """Hash of the names and sizes of the files, and of what the label file says."""
        files = [(p.relative_to(self.root).as_posix(), p.stat().st_size) for p in sorted(self.root.rglob("*.png"))]
        return hashlib.sha256(repr([files, self.entries("all")]).encode()).hexdigest()
