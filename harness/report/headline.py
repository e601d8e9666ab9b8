"""The figures that a report begins with: what each scorer is left with under its worst attack, and beside what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.report.arrays import Evaluated, State
from harness.report.data import RunData

EVERY_DIRECTION = ""
"""In place of a direction: the worst of all that were run."""
NOT_FLAGGED, UNDECIDED, SUSPECT, NOT_JUDGED = "clean", "open", "suspect", "not judged"
"""Whether gradients mislead attacks on a metric: nothing speaks for it, too few images to tell, they do by a verdict, or
no verdict could be measured."""


class Ball(NamedTuple):
    """A ball: its norm ("linf", "l2") and its radius in [0, 1] image units."""

    norm: str
    eps: float


@dataclass(frozen=True)
class Reading:
    """A figure with its 95 % interval; nan for what does not exist."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Masking:
    """What verdicts on gradient masking say of a scorer.

    Attributes:
        verdict: `NOT_FLAGGED`, `UNDECIDED`, `SUSPECT` or `NOT_JUDGED`.
        claims: The claims that failed, or that are open; empty otherwise.
        decided: The one that speaks most against the metric with its figure, in words: "white-box at least black-box:
            −0.41 σ, least −0.05 σ"; empty where nothing was judged.
    """

    verdict: Literal["clean", "open", "suspect", "not judged"] = "not judged"
    claims: tuple[str, ...] = ()
    decided: str = ""


@dataclass(frozen=True)
class UnderAttack:
    """A scorer at one budget in one direction, or in the worst of all (`EVERY_DIRECTION`).

    Attributes:
        state: "ok", "failed" or "missing"; figures other than of an "ok" one are nan.
        direction: The direction itself; of `EVERY_DIRECTION` the one that leaves least.
        left: SROCC (2AFC accuracy) under the worst attack; the same as the row "lowest SROCC of all" of the table
            `srocc`, or that of the only attack.
        attack: Label of that attack, or "furthest of all".
        honest: The same figure under the honest reference (restore where quality is raised, noise where it is lowered,
            inside the same ball): no attack, and what an attack should be compared with.
        controls: Lowest and highest figure that the controls alone leave: noise, restore and the honest reference.
        excess: Largest excess of an attack over its own control, in standard deviations of clean scores, as the table
            `shift` has it.
        excess_attack: Label of the attack that has it.
        shift: Largest mean shift of scores along an attack, in standard deviations of clean scores.
        shift_attack: Label of the attack that has it.
        rank: First and last rank among the scorers of this data set that paired differences over clusters allow: 1 to 2
            for the two best that cannot be told apart. None where there are too few clusters to tell anything, for a
            scorer without a figure, and for oblivious attacks, which say nothing of robustness.
    """

    state: State
    direction: str
    left: Reading = Reading()
    attack: str = ""
    honest: Reading = Reading()
    controls: tuple[float, float] = (math.nan, math.nan)
    excess: Reading = Reading()
    excess_attack: str = ""
    shift: Reading = Reading()
    shift_attack: str = ""
    rank: tuple[int, int] | None = None


@dataclass(frozen=True)
class HeadlineRow:
    """One scorer: a metric, with a defense and how the attacker met it where it has one.

    Attributes:
        label: What people read: "sweepy(steps=10)", "birqa-tiny + flip (adaptive)"; with a dagger where the metric broke
            its contract.
        metric: Label of the metric.
        defense: Label of the defense; "base" for none.
        threat: "none", "oblivious" or "adaptive".
        broken: Rules of the contract that were broken; empty for none.
        state: Of its clean scores.
        clean: SROCC (2AFC accuracy) without an attack.
        at: (budget, direction) -> what is left; of every budget and direction of the data set, and of `EVERY_DIRECTION`.
        masking: Whether its gradients mislead.
    """

    label: str
    metric: str
    defense: str
    threat: str
    broken: str
    state: State
    clean: Reading
    at: Mapping[tuple[Ball, str], UnderAttack]
    masking: Masking


@dataclass(frozen=True)
class Headline:
    """One data set.

    Attributes:
        dataset: Its name in the run.
        statistic: "SROCC", "2AFC accuracy", or "" where there are no labels to compare with: then shifts alone are known.
        labels: What the labels are, in words: "proxy quality (not human opinions)", "human opinion scores", "no labels".
        labels_kind: "human", "proxy" or "none".
        images: Number of images (triplets).
        clusters: Number of independent units.
        noun: What they are called, in the singular.
        descriptive: Whether they are too few to claim anything; then nothing is ranked.
        first: The budget that is told of first; None without attacks.
        budgets: All budgets, by norm and radius.
        directions: The directions that were run, in the suite's order.
        rows: The scorers: those with a figure under the worst attack at `first` in all directions, highest first, then
            those without, then those attacked obliviously; equal ones as the suite has them.
    """

    dataset: str
    statistic: str
    labels: str
    labels_kind: str
    images: int
    clusters: int
    noun: str
    descriptive: bool
    first: Ball | None
    budgets: tuple[Ball, ...]
    directions: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]


def headlines(data: RunData, evaluated: Sequence[Evaluated]) -> list[Headline]:
    """The headline of each data set, in order.

    Args:
        data: The run.
        evaluated: Its data sets, laid out as arrays.
    """
    raise NotImplementedError
