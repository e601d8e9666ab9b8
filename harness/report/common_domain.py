"""The domain in which scorers are compared: maps fitted on clean train qualities, and the scale they end on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.report.arrays import Evaluated, ScorerGrid
from harness.report.data import RunData
from harness.statistics.bootstrap import Floats
from harness.statistics.transport import LEAST_VALUES, PiecewiseMap, fit_map, min_max
from harness.suite.cell_names import CLEAN
from harness.suite.model import NO_MAP, OPINIONS
from harness.wording import NO_DEFENSE, scorer_text


class NoDomainError(Exception):
    """A scorer cannot be taken to the domain; says which and why."""


@dataclass(frozen=True)
class Scaled:
    """How the qualities of one scorer come to the common scale: scaled, mapped, scaled again."""

    source: Floats
    """Clean qualities that fill [0, 1] before the map."""
    map: PiecewiseMap | None
    ends: Floats
    """Mapped clean qualities that fill [0, 1] after it."""

    def __call__(self, quality: Floats) -> Floats:
        """Qualities of any shape on the common scale; attacked ones may leave [0, 1]."""
        return min_max(_mapped(quality, self.source, self.map), self.ends)


class CommonDomain:
    """The domain of one data set, as the suite's key `ir_score` has it.

    Args:
        data: The run.
        one: The data set.

    Attributes:
        apart: Whether maps are fitted on a split of their own, and not on the evaluated images.
    """

    def __init__(self, data: RunData, one: Evaluated) -> None:
        self._asked, self._seed = data.ir_score, data.seed
        learnt, judged = data.map_records, data.records
        learnt = learnt[learnt["dataset"] == one.name] if len(learnt) else learnt
        self.apart = one.name in data.mapped_apart
        self._clean = learnt if self.apart else judged[(judged["dataset"] == one.name) & (judged["attack"] == CLEAN)]

    def scaled(self, scorer: ScorerGrid) -> Scaled:
        """How a scorer's qualities come to the domain.

        Raises:
            NoDomainError: Its clean qualities, or the domain's, are too few or all alike.
        """
        source = self._qualities(scorer.metric, scorer.defense)
        try:
            if len(np.unique(source)) < LEAST_VALUES:
                raise ValueError(f"fewer than {LEAST_VALUES} of its clean scores are distinct")
            mapping = None
            if self._asked.mapping != NO_MAP:
                mapping = fit_map(self._asked.mapping, min_max(source, source), self._target(), self._seed)
        except ValueError as error:
            raise NoDomainError(f"{_name(scorer.metric, scorer.defense)} ({error})") from error
        ends = _mapped(source if self._asked.scaler == "train" else scorer.clean.ravel(), source, mapping)
        if not np.ptp(ends) > 0:
            raise NoDomainError(f"{_name(scorer.metric, scorer.defense)} (its clean scores are mapped to one value)")
        return Scaled(source, mapping, ends)

    def _target(self) -> Floats:
        """The distribution that maps lead to, filling [0, 1].

        Raises:
            ValueError: It has fewer than two values.
        """
        if self._asked.reference == OPINIONS:
            target = self._clean.drop_duplicates("item")["opinion"].dropna().to_numpy(dtype=np.float64)
        else:
            target = self._qualities(self._asked.reference, NO_DEFENSE)
        if not len(target) or not np.ptp(target) > 0:
            raise ValueError(f"{self._asked.reference}, which it is mapped to, have no two values")
        return min_max(target, target)

    def _qualities(self, metric: str, defense: str) -> Floats:
        """Clean qualities of every draw.

        Raises:
            NoDomainError: Some are missing.
        """
        own = self._clean[(self._clean["metric"] == metric) & (self._clean["defense"] == defense)]
        found = own["clean"].to_numpy(dtype=np.float64)
        if not len(own) or own["item"].nunique() < self._clean["item"].nunique() or np.isnan(found).any():
            where = " on the split that maps are fitted on" if self.apart else ""
            raise NoDomainError(f"{_name(metric, defense)} (not all of its clean scores{where} are there)")
        return found


def _mapped(quality: Floats, source: Floats, mapping: PiecewiseMap | None) -> Floats:
    scaled = min_max(quality, source)
    return scaled if mapping is None else mapping(scaled)


def _name(metric: str, defense: str) -> str:
    return scorer_text(metric, defense, "", "")
