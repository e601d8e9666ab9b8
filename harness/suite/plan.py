"""What a plan is: facts, fits, cells and blocks. `harness.suite.planning` makes one from a suite.

* A *cell* is one condition (data set, source, scorer, attack, sign, budget, ...); its records are stored by slice.
* A *slice* is a fixed cut of the split in hash order: the batch, and with the cell the unit of resume.
* A *block* is one slice of one (data set, split, source) with every pending cell: the unit of work.
* A *fact* is what a slice cannot know (clean qualities on the calibration samples); a *fit* is what an attack learns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.rng import Entry
from harness.suite.cell_names import CLEAN, cell_name
from harness.suite.identity import Written, as_written, identity, order_key
from harness.suite.model import AttackUse, DatasetUse, MetricUse, Precision, PurifierUse, Suite
from harness.suite.pixels import Images
from harness.wording import NO_DEFENSE, scorer_text, trained_name

CALIBRATION_SAMPLES = 64
"""Samples, first in hash order, on which a scorer's clean quality is ranged. Part of a fact's identity."""

Endpoint = Literal["", "up", "down", "error"]
"""What an attack aims at: quality up, quality down, or the error of the prediction; "" for clean cells and controls."""


@dataclass(frozen=True)
class ScorerSpec:
    """How to build a scorer: a metric with its weights, under purifiers."""

    metric: MetricUse
    purifiers: tuple[PurifierUse, ...] = ()
    training: str = ""
    """What the defense is called that the weights are of; empty for the metric's own. The weights count, not this."""

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides its scores."""
        return identity("scorer", self.identity())

    @functools.cached_property
    def written(self) -> Written:
        """Its identity as it stands in that of facts, fits and cells."""
        return as_written(self.identity())

    @property
    def label(self) -> str:
        """For people: 'birqa-tiny', 'birqa-tiny + flip', 'birqa-tiny@aat + flip'."""
        return " + ".join([trained_name(self.metric.label, self.training), *(p.label for p in self.purifiers)])

    def identity(self) -> dict[str, Any]:
        """Plain values for an identity."""
        return {"metric": self.metric.identity(), "purifiers": [p.identity() for p in self.purifiers]}


@dataclass(frozen=True)
class SplitSpec:
    """A data set's split, in hash order."""

    dataset: DatasetUse
    split: str
    fingerprint: str
    pixels: str = ""
    """What of the contents of its image files counts; empty where nothing does."""

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides its items."""
        return identity("split", self.identity())

    @functools.cached_property
    def written(self) -> Written:
        """Its identity as it stands in that of facts, fits and cells."""
        return as_written(self.identity())

    @property
    def label(self) -> str:
        """For people: 'mini test'."""
        return f"{self.dataset.label} {self.split}"

    def identity(self) -> dict[str, Any]:
        """Plain values for an identity. The folder of a data set is not among them; its fingerprint is."""
        use = self.dataset.identity()
        use["parameters"] = {k: v for k, v in use["parameters"].items() if k != "root"}
        pixels = {"pixels": self.pixels} if self.pixels else {}
        return {"dataset": use, "split": self.split, "fingerprint": self.fingerprint, **pixels}


@dataclass(frozen=True)
class Fact:
    """Clean qualities of one scorer on the calibration samples of a split."""

    id: str
    split: SplitSpec
    scorer: ScorerSpec


@dataclass(frozen=True)
class Probe:
    """The probes of one metric's contract, with its weights."""

    id: str
    metric: MetricUse
    training: str = ""
    """As of `ScorerSpec`."""

    @property
    def label(self) -> str:
        """For people: 'birqa-tiny', 'birqa-tiny@aat'."""
        return trained_name(self.metric.label, self.training)


@dataclass(frozen=True)
class Fit:
    """What an attack learns about one source in one direction on a split."""

    id: str
    split: SplitSpec
    source: ScorerSpec
    attack: AttackUse
    sign: int
    eot: int
    fact: str


@dataclass(frozen=True)
class Cell:
    """One condition; its identity names the folder of its records."""

    id: str
    split: SplitSpec
    source: ScorerSpec
    scorer: ScorerSpec
    attack: AttackUse | None
    """None is the clean cell."""
    endpoint: Endpoint
    norm: str
    eps: float
    threat: str
    defense: str
    eot: int
    draws: int
    fact: str
    """Id of the fact that ranges the source's clean quality; empty for clean cells and controls."""
    fits: tuple[tuple[int, str], ...]
    """(sign, id) of what the attack learnt of this source for each sign it needs; empty where it learns nothing."""
    patch: str = ""
    """The only patch of a triplet that is attacked; empty for both."""
    precision: Precision = "fp32"
    """In which the attack searches."""
    together: tuple[float, ...] = ()
    """Radii that the attack takes in one batch, this one among them; empty where each is attacked alone."""
    for_verdicts: bool = False
    """Added for verdicts alone, on the first few samples. No part of identity."""
    for_maps: bool = False
    """A clean cell on the train split, added for maps that are fitted on it. No part of identity."""

    @property
    def sign(self) -> int:
        """+1 raises quality, -1 lowers it; 0 where each sample has its own sign (error) or none (clean, controls)."""
        return {"up": 1, "down": -1}.get(self.endpoint, 0)

    @property
    def label(self) -> str:
        """For people: 'mini / birqa-tiny / pgd up eps 8/255'."""
        if self.for_maps:
            return f"{self.split.label} / {self.scorer.label} / {CLEAN}, for maps"
        attack = self.attack.label if self.attack else CLEAN
        return cell_name(*self.who, attack, self.endpoint, self.norm, self.eps)

    @property
    def who(self) -> tuple[str, str, str, str, str]:
        """Data set, metric, defense, threat and source, as tables name them."""
        defense = self.defense if self.scorer.purifiers or self.scorer.training else NO_DEFENSE
        return self.split.dataset.label, self.scorer.metric.label, defense, self.threat, self.source.label

    @property
    def scored(self) -> str:
        """For people: 'mini / birqa-tiny + flip (adaptive)', what its records say something of."""
        dataset, *scorer = self.who
        return f"{dataset} / {scorer_text(*scorer)}"

    @property
    def attack_key(self) -> tuple[Any, ...]:
        """Cells of one block that are equal in this share one attack."""
        attack = self.attack and self.attack.key
        radii = self.together or self.eps
        return (attack, self.endpoint, self.norm, radii, self.eot, self.fact, self.fits, self.patch, self.precision)


@dataclass(frozen=True)
class Block:
    """One slice of one (split, source) with its pending cells."""

    split: SplitSpec
    source: ScorerSpec
    slice: int
    cells: tuple[Cell, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """Its place in the plan, whatever of it is pending."""
        return self.split.key, self.source.key, self.slice

    @property
    def label(self) -> str:
        """For people: 'mini test / psnr / slice 0'."""
        return f"{self.split.label} / {self.source.label} / slice {self.slice}"


@dataclass(frozen=True)
class Plan:
    """Everything a suite needs done, before what is done already is taken off."""

    suite: Suite
    probes: tuple[Probe, ...]
    facts: tuple[Fact, ...]
    fits: tuple[Fit, ...]
    cells: tuple[Cell, ...]
    slices: Mapping[str, int]
    """Split key -> number of slices under the suite's limit."""
    entries: Mapping[str, Sequence[Entry]] = field(repr=False)
    """Split key -> every entry of the split in hash order."""
    files: tuple[Path, ...] | None = None
    """Files and folders that data sets were read from; None where one does not say, or all is to be looked at."""
    images: Mapping[str, Images] = field(default_factory=dict, repr=False)
    """Split key -> its image files, of evaluated splits and of those that facts come from."""

    @property
    def metrics(self) -> tuple[MetricUse, ...]:
        """Every metric that is attacked, scores, or is a part of an attack, with each weights that it has."""
        helpers = [metric for cell in self.cells if cell.attack for metric in cell.attack.metrics]
        scorers = [spec.metric for cell in self.cells for spec in (cell.source, cell.scorer)]
        return tuple({(metric.label, metric.weights): metric for metric in (*scorers, *helpers)}.values())

    @property
    def splits(self) -> tuple[SplitSpec, ...]:
        """The evaluated splits."""
        return tuple({cell.split.key: cell.split for cell in self.cells if not cell.for_maps}.values())

    def samples_read(self, split: str) -> Sequence[str]:
        """Entries of a split, by its key, whose images are loaded: whole slices, and what facts and fits learn from."""
        found = self.entries.get(split, ())[: self.slices.get(split, 0) * self.suite.slice_size]
        read = {entry.id: None for entry in found}
        if any(fit.split.key == split for fit in self.fits):
            read |= dict.fromkeys(self.images[split].names)
        elif any(fact.split.key == split for fact in self.facts):
            read |= dict.fromkeys(self.images[split].first(CALIBRATION_SAMPLES))
        return list(read)

    def limited(self, split: SplitSpec) -> Sequence[Entry]:
        """The entries that tables are made from."""
        return self.entries[split.key][: self.suite.limit]

    def entries_of(self, cell: Cell) -> Sequence[Entry]:
        """The entries that a cell is for."""
        if cell.for_maps:
            return self.entries[cell.split.key][: limit_of_maps(self.suite)]
        limited = self.limited(cell.split)
        return limited[: self.suite.verdict_samples] if cell.for_verdicts else limited

    def slices_of(self, cell: Cell) -> int:
        """Number of slices of a cell, from the first on."""
        return math.ceil(len(self.entries_of(cell)) / self.suite.slice_size)

    def blocks(self, done: Mapping[str, frozenset[int]]) -> list[Block]:
        """Blocks of the pending work, all slices of one source before the next, so that a worker loads a model once.

        Args:
            done: Cell id -> slices that have records.
        """
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((cell.split.key, cell.source.key), []).append(cell)
        blocks = []
        for cells in groups.values():
            pending: list[list[Cell]] = [[] for _ in range(self.slices[cells[0].split.key])]
            for cell in cells:
                for index in set(range(self.slices_of(cell))) - done.get(cell.id, frozenset()):
                    pending[index].append(cell)
            split, source = cells[0].split, cells[0].source
            before: tuple[Cell, ...] = ()
            for index, left in enumerate(map(tuple, pending)):
                before = before if left == before else left  # slices of which the same is left share it
                blocks += [Block(split, source, index, before)] if left else []
        return blocks


def limit_of_maps(suite: Suite) -> int | None:
    """How many samples of a train split maps are fitted on: the suite's limit, but not fewer than a fact's."""
    return None if suite.limit is None else max(suite.limit, CALIBRATION_SAMPLES)


def in_hash_order(entries: Sequence[Entry]) -> list[Entry]:
    """Entries in the order of slices and limits: fair, nested, and the same whatever order they come in.

    References take turns, each giving one *series* a turn: all levels of one distortion (a sample without a level is a
    series of its own). So a short prefix covers many references and still holds whole series, which the test of level
    order needs; samples drawn one by one would hardly ever share one. References, series, levels: each in hash order.
    """
    series: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        own = entry.group if entry.level is not None else entry.id
        series.setdefault((entry.reference_id, own), []).append(entry)
    turns: dict[str, list[tuple[str, str]]] = {}
    for key in sorted(series, key=lambda key: order_key("/".join(key))):
        turns.setdefault(key[0], []).append(key)
    order = [(turn, order_key("/".join(key)), key) for keys in turns.values() for turn, key in enumerate(keys)]
    return [e for _, _, key in sorted(order) for e in sorted(series[key], key=lambda entry: order_key(entry.id))]
