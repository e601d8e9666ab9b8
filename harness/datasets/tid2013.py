"""TID2013 (Ponomarenko et al., Signal Processing: Image Communication 30, 2015) in its official layout."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.images import read_image
from harness.paths import data_dir, shown

LABEL_FILE = "mos_with_names.txt"

_LINE = re.compile(r"(?P<mos>\S+)\s+(?P<stem>[iI](?P<reference>\d\d)_(?P<kind>\d\d)_(?P<level>\d))\.[bB][mM][pP]")
_HIGHEST = 9.0
_TYPES, _REFERENCES = 24, 25
_GET_IT = (
    "Download TID2013 (https://www.ponomarenko.info/tid2013.htm), unpack it, and give its folder as root: "
    "or put it into $ROBUSTIQA_DATA_DIR/tid2013."
)


@register("tid2013")
class TID2013(Dataset):
    """25 references x 24 distortion types x 5 levels with mean opinion scores (mos) 0..9, higher is better.

    The set has no official split, and so no training range: ``opinion`` is mos / 9, by the nominal scale.
    """

    labels: ClassVar[Literal["human", "proxy", "none"]] = "human"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("all",)

    def __init__(
        self,
        *,
        root: str | None = None,
        types: Sequence[int] | None = None,
        references: Sequence[int] | None = None,
    ) -> None:
        """Choose the folder and what of it to use.

        Args:
            root: Folder that holds ``mos_with_names.txt``; by default ``tid2013`` in the data folder.
            types: Distortion types to keep, 1 to 24; all by default.
            references: Reference images to keep, 1 to 25; all by default.

        Raises:
            DataError: A type or a reference is outside its range.
        """
        self._root = Path(root).expanduser() if root is not None else data_dir() / "tid2013"
        self._types = _checked(types, _TYPES, "types")
        self._references = _checked(references, _REFERENCES, "references")
        self._listings: dict[Path, dict[str, Path]] = {}

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every image that the filters let through, in the order of the label file.

        Raises:
            DataError: The folder or label file is missing or malformed, or nothing is left.
        """
        if split not in self.splits:
            raise DataError(f"Data set tid2013 has no split {split!r}. Its only split is all.")
        kept = [entry for entry in self._all if self._wanted(entry)]
        if not kept:
            held = ", ".join(sorted({str(int(entry.group)) for entry in self._all}, key=int)) or "none"
            names = ", ".join(sorted({str(_number(entry)) for entry in self._all}, key=int)) or "none"
            raise DataError(
                f"Data set tid2013 in {shown(self._root)}: no image is left after the filters types and references. "
                f"{LABEL_FILE} lists types {held} and references {names}; choose among these."
            )
        return kept

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref`` and ``dist`` of one entry, 3 x 384 x 512 in the official set.

        Raises:
            DataError: An image is missing or cannot be read, or the two differ in size.
        """
        ref_path = self._find("reference_images", f"{entry.reference_id}.bmp")
        dist_path = self._find("distorted_images", f"{entry.id}.bmp")
        ref, dist = read_image(ref_path), read_image(dist_path)
        if ref.shape != dist.shape:
            sizes = " and ".join(f"{image.shape[2]} x {image.shape[1]}" for image in (ref, dist))
            raise DataError(
                f"Images {shown(ref_path)} and {shown(dist_path)} differ in size ({sizes}). Unpack TID2013 again."
            )
        return {"ref": ref, "dist": dist}

    def fingerprint(self) -> str:
        """Hash of the label file and of the names and sizes of all images; reads no pixel."""
        digest = hashlib.sha256(_content(self._find(LABEL_FILE)))
        for folder in ("reference_images", "distorted_images"):
            for name, path in sorted(self._listing(self._find(folder)).items()):
                digest.update(f"{folder}/{name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    @cached_property
    def _all(self) -> Sequence[Entry]:
        path = self._find(LABEL_FILE)
        lines = _content(path).decode("utf-8", errors="replace").splitlines()
        entries = [_entry(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        if not entries:
            raise DataError(f"Label file {shown(path)} of data set tid2013 is empty. Unpack TID2013 again.")
        counts = Counter(entry.id for entry in entries)
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise DataError(
                f"Label file {shown(path)} of data set tid2013 names {name}.bmp {count} times. Unpack TID2013 again."
            )
        return entries

    def _wanted(self, entry: Entry) -> bool:
        right_type = self._types is None or int(entry.group) in self._types
        return right_type and (self._references is None or _number(entry) in self._references)

    def _find(self, *parts: str) -> Path:
        """A file or folder below the root, whatever the case of its name."""
        place = self._root
        for part in parts:
            found = self._listing(place).get(part.lower())
            if found is None:
                raise DataError(f"Data set tid2013: {part} is missing in {shown(place)}. {_GET_IT}")
            place = found
        return place

    def _listing(self, folder: Path) -> Mapping[str, Path]:
        if folder not in self._listings:
            try:
                self._listings[folder] = {path.name.lower(): path for path in sorted(folder.iterdir())}
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise DataError(
                    f"Data set tid2013: folder {shown(folder)} cannot be read ({reason}). {_GET_IT}"
                ) from error
        return self._listings[folder]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DataError(f"Label file {shown(path)} of data set tid2013 cannot be read ({reason}). {_GET_IT}") from error


def _entry(path: Path, number: int, line: str) -> Entry:
    where = f"Label file {shown(path)} of data set tid2013, line {number}"
    match = _LINE.fullmatch(line.strip())
    try:
        mos = float(match["mos"]) if match else None
    except ValueError:
        mos = None
    if match is None or mos is None:
        raise DataError(
            f"{where}: {line.strip()[:60]!r} is not of the form '5.51429 I01_01_1.bmp'. Unpack TID2013 again."
        )
    if not 0 <= mos <= _HIGHEST:
        raise DataError(f"{where}: opinion score {mos} lies outside 0..9. Unpack TID2013 again.")
    return Entry(
        id=match["stem"].lower(),
        reference_id=f"I{match['reference']}",
        opinion=mos / _HIGHEST,
        raw=mos,
        group=match["kind"],
        level=int(match["level"]),
    )


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
