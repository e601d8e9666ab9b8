"""Splits by reference for data sets that come without official ones: 6:2:2, or folds of a cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.contracts import DataError, Entry
from harness.rng import HIGHEST_SEED

UNSPLIT: Mapping[str, Any] = {"split_seed": None, "folds": None, "fold": 0}
"""Parameters that leave a data set whole: `Dataset.neutral` of every set that has these."""

_WHOLE, _PARTS = ("all",), ("all", "train", "val", "test")
_HELD_OUT = 0.2
_FEWEST = 3


class ReferenceSplits:
    """How a data set is split; whole references, so no content is in two of train, val and test.

    References stand in the order of a hash of seed and name: it needs nothing but these two, so the same seed gives the
    same split on any machine and whatever the order of the label file. Without `split_seed` and `folds` there is only
    the split "all". With `split_seed`, two tenths of the references are val, two tenths test, six train. With `folds`,
    the references are dealt into that many parts in turn: part `fold` is test, the next one val, the rest train; so
    every reference is tested once over all folds.
    """

    def __init__(self, dataset: str, *, split_seed: int | None, folds: int | None, fold: int) -> None:
        """Check what is asked for.

        Args:
            dataset: Name of the data set, for messages.
            split_seed: Seed of the order of references, 0 or more; in folds 0 unless given.
            folds: Number of folds, 3 or more.
            fold: Which of them is tested, from 0.

        Raises:
            DataError: A value is outside its range, or there is a fold without folds.
        """
        self._dataset, self._seed, self._folds, self._fold = dataset, split_seed or 0, folds, fold
        self._asked = split_seed is not None or folds is not None
        if not 0 <= self._seed <= HIGHEST_SEED:
            bound = "at least 0" if self._seed < 0 else f"at most {HIGHEST_SEED}"
            raise DataError(f"Data set {dataset}, split_seed: should be {bound}, got {split_seed}.")
        if folds is None:
            if fold != 0:
                raise DataError(f"Data set {dataset}, fold: {fold} means nothing without folds. Add folds: 5, say.")
        elif folds < _FEWEST:
            raise DataError(
                f"Data set {dataset}, folds: {folds} cannot hold train, val and test. Give {_FEWEST} or more."
            )
        elif not 0 <= fold < folds:
            raise DataError(f"Data set {dataset}, fold: {fold} does not exist. Choose from 0 to {folds - 1}.")

    @property
    def names(self) -> tuple[str, ...]:
        """What `Dataset.splits` of the instance is."""
        return _PARTS if self._asked else _WHOLE

    def check(self, split: str) -> None:
        """Refuse an unknown split before anything is read.

        Raises:
            DataError: The split does not exist.
        """
        if split not in self.names:
            raise DataError(f"Data set {self._dataset} has no split {split!r}. {self._cure}")

    def choose(self, entries: Sequence[Entry], split: str) -> Sequence[Entry]:
        """The entries of one split, in their order. Filters come first: what is not here is in no split.

        Raises:
            DataError: The split does not exist, or there are too few references to split.
        """
        self.check(split)
        if split == "all":
            return list(entries)
        kept = self.references([entry.reference_id for entry in entries])[split]
        return [entry for entry in entries if entry.reference_id in kept]

    def references(self, references: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Split -> its references, of train, val and test.

        Raises:
            DataError: There are fewer references than parts.
        """
        order = sorted(set(references), key=self._place)
        parts = _FEWEST if self._folds is None else self._folds
        if len(order) < parts:
            held = f"{len(order)} reference{'' if len(order) == 1 else 's'}"
            wish = "train, val and test" if self._folds is None else f"folds: {parts}"
            cure = "" if self._folds is None or len(order) < _FEWEST else f" Give folds from {_FEWEST} to {len(order)}."
            cure = cure or " Keep more references, or leave the set whole."
            raise DataError(f"Data set {self._dataset} has {held} left, too few for {wish}.{cure}")
        if self._folds is None:
            held_out = max(1, round(_HELD_OUT * len(order)))
            test, val = order[:held_out], order[held_out : 2 * held_out]
        else:
            test, val = order[self._fold :: parts], order[(self._fold + 1) % parts :: parts]
        train = set(order) - {*val, *test}
        return {"train": frozenset(train), "val": frozenset(val), "test": frozenset(test)}

    @property
    def _cure(self) -> str:
        if self._asked:
            return f"Choose one of: {', '.join(self.names)}."
        return "Its only split is all; split_seed: 0 or folds: 5 would give train, val and test by reference."

    def _place(self, reference: str) -> bytes:
        return hashlib.blake2b(f"{self._seed}\x00{reference}".encode(), digest_size=16).digest()
