"""`mini_2afc`: triplets of the embedded data set, judged by the proxy quality and by no person."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.mini import PROXY_CITED, Mini

_TESTED = 24
"""Triplets of the split test, one of each of so many references."""
_OF_A_REFERENCE: Mapping[str, int] = {"train": 20, "val": 10, "test": 1}
"""Triplets of one reference; of train and val every reference is taken."""
_LEAST_GAP, _LARGEST_GAP = 0.08, 0.35


@register("mini_2afc")
class Mini2AFC(Dataset):
    """Two distortion types of one photograph crop each; ``judge`` is 1 if p1 has the higher proxy quality, else 0.

    Those of train and val are of the procedural images of `mini`. The gap in proxy quality lies between .08 and .35:
    neither a coin toss nor obvious. Which pairs are taken follows from hashes of the image names; p1 is the better one
    in every other triplet. Scorers are calibrated on test itself, which was its only split in 0.1.
    """

    cite = PROXY_CITED
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    labels: ClassVar[Literal["human", "proxy", "none"]] = "proxy"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    calibrated_on_train: ClassVar[bool] = False
    cluster_noun: ClassVar[str] = Mini.cluster_noun

    def __init__(self) -> None:
        self._mini = Mini()

    def entries(self, split: Split) -> Sequence[Entry]:
        """The triplets of a split: 640 train, 80 val, 24 test.

        Raises:
            DataError: The split is unknown, or mini's label file cannot be used.
        """
        if split not in self.splits:
            raise DataError(f"Data set mini_2afc has no split {split!r}. Choose one of: {', '.join(self.splits)}.")
        return [
            Entry(name, p0.reference_id, judge=float(_quality(p1) > _quality(p0)), cluster=p0.cluster)
            for name, (p0, p1) in self._triplets[split].items()
        ]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref``, ``p0`` and ``p1``, each 3 x 128 x 128 in [0, 1].

        Raises:
            DataError: The entry is none of this set's, or an image cannot be made on this machine.
        """
        triplet = next((triplets[entry.id] for triplets in self._triplets.values() if entry.id in triplets), None)
        if triplet is None:
            raise DataError(f"Data set mini_2afc has no triplet {entry.id!r}. Take entries from entries(split).")
        p0, p1 = (self._mini.load(pair) for pair in triplet)
        return {"ref": p0["ref"], "p0": p0["dist"], "p1": p1["dist"]}

    def fingerprint(self) -> str:
        """Fingerprint of `mini`, from whose labels everything here follows."""
        return self._mini.fingerprint()

    def files(self) -> Sequence[Path]:
        """Those of `mini`."""
        return self._mini.files()

    def image_files(self, entry: Entry) -> Sequence[Path]:
        """None: images are made, and their hashes are among the labels."""
        return ()

    def notices(self) -> Sequence[str]:
        """What a report has to say about the images loaded so far; see `Mini.notices`."""
        return self._mini.notices()

    @cached_property
    def _triplets(self) -> Mapping[str, Mapping[str, tuple[Entry, Entry]]]:
        """Split -> id of a triplet -> its two images."""
        return {split: self._triplets_of(split) for split in self.splits}

    def _triplets_of(self, split: Split) -> Mapping[str, tuple[Entry, Entry]]:
        by_reference: dict[str, list[Entry]] = {}
        for entry in self._mini.entries(split):
            by_reference.setdefault(entry.reference_id, []).append(entry)
        wanted = _TESTED if split == "test" else len(by_reference)
        chosen = sorted(sorted(by_reference, key=_hash)[:wanted])
        count = _OF_A_REFERENCE[split]
        pairs = (
            (f"{name}/{j:03}", pair) for name in chosen for j, pair in enumerate(_pairs(by_reference[name], count))
        )
        return {name: _ordered(pair, i % 2 == 0) for i, (name, pair) in enumerate(pairs)}


def _pairs(entries: Sequence[Entry], count: int) -> Sequence[tuple[Entry, Entry]]:
    """The first so many pairs in hash order whose types differ and whose gap in quality is moderate.

    An image is in one pair at most.
    """
    found: list[tuple[Entry, Entry]] = []
    used: set[str] = set()
    for first, second in itertools.combinations(sorted(entries, key=lambda entry: _hash(entry.id)), 2):
        gap = abs(_quality(first) - _quality(second))
        if first.group != second.group and _LEAST_GAP <= gap <= _LARGEST_GAP and not used & {first.id, second.id}:
            found.append((first, second))
            used |= {first.id, second.id}
            if len(found) == count:
                break
    return found


def _ordered(pair: tuple[Entry, Entry], better_last: bool) -> tuple[Entry, Entry]:
    first, second = pair
    return pair if (_quality(second) > _quality(first)) == better_last else (second, first)


def _quality(entry: Entry) -> float:
    assert entry.opinion is not None
    return entry.opinion


def _hash(name: str) -> str:
    return hashlib.sha256(f"mini_2afc/{name}".encode()).hexdigest()
