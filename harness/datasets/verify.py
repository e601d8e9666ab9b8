"""Looking at every image of a split: does it decode, are sizes equal, are images equal that should differ?"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.contracts import DataError, Dataset, Entry
from harness.datasets.image_files import CONVERSIONS
from harness.datasets.images import image_head


@dataclass(frozen=True)
class Looked:
    """What was found of the entries of a split."""

    unreadable: Sequence[str]
    """What cannot be loaded: messages of the data set, which name the file."""
    identical: Sequence[str]
    """Entries two of whose images are equal in every pixel, such as a distorted image that is its reference."""
    sizes: Mapping[str, int]
    """'512 x 384' -> how many entries have that size."""
    converted: Mapping[str, Sequence[Path]]
    """What files are on being read ("expanded from grey to RGB") -> the files."""


def look_at(dataset: Dataset, entries: Iterable[Entry]) -> Looked:
    """Decode the images of every entry.

    Args:
        dataset: The set.
        entries: Those of a split.
    """
    unreadable: dict[str, None] = {}
    identical: list[str] = []
    sizes: dict[str, int] = {}
    files: dict[Path, None] = {}
    for entry in entries:
        try:
            images = list(dataset.load(entry).values())
        except Exception as error:  # whatever a data set raises is what is wrong with its image
            unreadable[str(error)] = None
            continue
        size = f"{images[0].shape[2]} x {images[0].shape[1]}"
        sizes[size] = sizes.get(size, 0) + 1
        if any(torch.equal(one, other) for one, other in itertools.combinations(images, 2)):
            identical.append(entry.id)
        files.update(dict.fromkeys(dataset.image_files(entry) or ()))
    return Looked(list(unreadable), identical, sizes, _converted(files))


def _converted(files: Iterable[Path]) -> Mapping[str, Sequence[Path]]:
    """What files are on being read -> the files; of one that is no image file of `read_image` nothing is known."""
    found: dict[str, list[Path]] = {what: [] for what in CONVERSIONS}
    for file in files:
        with contextlib.suppress(DataError):
            for what in image_head(file).converted:
                found[what].append(file)
    return {what: those for what, those in found.items() if those}


def duplicates(contents: Mapping[Path, str]) -> Sequence[Sequence[Path]]:
    """Files of equal content, each group in order.

    Args:
        contents: File -> hash of what it holds.
    """
    groups: dict[str, list[Path]] = {}
    for path, content in sorted(contents.items()):
        groups.setdefault(content, []).append(path)
    return [group for group in groups.values() if len(group) > 1]
