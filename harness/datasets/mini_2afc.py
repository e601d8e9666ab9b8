"""`mini_2afc`: 24 triplets of the embedded data set, judged by the proxy quality and by no person."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import DataError, Dataset, Entry, Split, register
from harness.datasets.mini import Mini

_COUNT = 24
_LEAST_GAP, _LARGEST_GAP = 0.08, 0.35


@register("mini_2afc")
class Mini2AFC(Dataset):
    """Two distortion types of one photograph crop each; ``judge`` is 1 if p1 has the higher proxy quality, else 0.

    The gap in proxy quality lies between .08 and .35: neither a coin toss nor obvious. Which pairs are taken
    follows from hashes of the image names; p1 is the better one in every other triplet.
    """

    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    labels: ClassVar[Literal["human", "proxy", "none"]] = "proxy"
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("test",)
    cluster_noun: ClassVar[str] = Mini.cluster_noun

    def __init__(self) -> None:
        self._mini = Mini()

    def entries(self, split: Split) -> Sequence[Entry]:
        """The triplets.

        Raises:
            DataError: The split is not "test", or mini's label file cannot be used.
        """
        if split not in self.splits:
            raise DataError(f"Data set mini_2afc has no split {split!r}. Its only split is test.")
        return [
            Entry(name, p0.reference_id, judge=float(_quality(p1) > _quality(p0)), cluster=p0.cluster)
            for name, (p0, p1) in self._triplets.items()
        ]

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """``ref``, ``p0`` and ``p1``, each 3 x 128 x 128 in [0, 1].

        Raises:
            DataError: The entry is none of this set's, or an image cannot be made on this machine.
        """
        if entry.id not in self._triplets:
            raise DataError(f"Data set mini_2afc has no triplet {entry.id!r}. Take entries from entries('test').")
        p0, p1 = (self._mini.load(pair) for pair in self._triplets[entry.id])
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
    def _triplets(self) -> Mapping[str, tuple[Entry, Entry]]:
        by_reference: dict[str, list[Entry]] = {}
        for entry in self._mini.entries("test"):
            by_reference.setdefault(entry.reference_id, []).append(entry)
        chosen = sorted(sorted(by_reference, key=_hash)[:_COUNT])
        return {f"{name}/000": _pair(by_reference[name], i % 2 == 0) for i, name in enumerate(chosen)}


def _pair(entries: Sequence[Entry], better_last: bool) -> tuple[Entry, Entry]:
    """The first two images in hash order whose types differ and whose gap in quality is moderate."""
    in_order = itertools.combinations(sorted(entries, key=lambda entry: _hash(entry.id)), 2)
    first, second = next(
        pair
        for pair in in_order
        if pair[0].group != pair[1].group and _LEAST_GAP <= abs(_quality(pair[0]) - _quality(pair[1])) <= _LARGEST_GAP
    )
    return (first, second) if (_quality(second) > _quality(first)) == better_last else (second, first)


def _quality(entry: Entry) -> float:
    assert entry.opinion is not None
    return entry.opinion


def _hash(name: str) -> str:
    return hashlib.sha256(f"mini_2afc/{name}".encode()).hexdigest()
