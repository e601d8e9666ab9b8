"""Suite -> facts, fits, cells and blocks. Pure: it reads label files, never a pixel, and runs nothing.

* A *cell* is one condition (data set, source, scorer, attack, sign, budget, ...); its records are stored by slice.
* A *slice* is a fixed cut of the split in hash order: the batch, and with the cell the unit of resume.
* A *block* is one slice of one (data set, split, source) with every pending cell: the unit of work.
* A *fact* is what a slice cannot know (clean qualities on the calibration samples); a *fit* is what an attack learns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.contracts import Entry, Norm
from harness.identity import identity, order_key
from harness.registry import Registry
from harness.suite import AttackUse, DatasetUse, DefenseUse, MetricUse, Suite, Use

CALIBRATION_SAMPLES = 64
"""Samples, first in hash order, on which a scorer's clean quality is ranged. Part of a fact's identity."""

EOT_BASE = 1


@dataclass(frozen=True)
class ScorerSpec:
    """How to build a scorer: a metric with its weights, under purifiers."""

    metric: MetricUse
    purifiers: tuple[Use, ...] = ()

    @property
    def key(self) -> str:
        """Hash of everything that decides its scores."""
        return identity("scorer", self.identity())

    @property
    def label(self) -> str:
        """For people: 'birqa-tiny', 'birqa-tiny + flip'."""
        return " + ".join([self.metric.label, *(p.label for p in self.purifiers)])

    def identity(self) -> dict[str, Any]:
        """Plain values for an identity."""
        return {"metric": self.metric.identity(), "purifiers": [p.identity() for p in self.purifiers]}


@dataclass(frozen=True)
class SplitSpec:
    """A data set's split, in hash order."""

    dataset: DatasetUse
    split: str
    fingerprint: str

    @property
    def key(self) -> str:
        """Hash of everything that decides its items."""
        return identity("split", self.identity())

    @property
    def label(self) -> str:
        """For people: 'mini test'."""
        return f"{self.dataset.label} {self.split}"

    def identity(self) -> dict[str, Any]:
        """Plain values for an identity. The folder of a data set is not among them; its fingerprint is."""
        use = self.dataset.identity()
        use["parameters"] = {k: v for k, v in use["parameters"].items() if k != "root"}
        return {"dataset": use, "split": self.split, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Fact:
    """Clean qualities of one scorer on the calibration samples of a split."""

    id: str
    split: SplitSpec
    scorer: ScorerSpec


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
    sign: int
    norm: str
    eps: float
    threat: str
    defense: str
    eot: int
    draws: int

    @property
    def label(self) -> str:
        """For people: 'mini test / birqa-tiny / pgd up eps 8/255'."""
        if self.attack is None:
            return f"{self.split.label} / {self.scorer.label} / clean"
        direction = {1: " up", -1: " down", 0: ""}[self.sign]
        judge = (
            self.scorer.label if self.threat in ("none", "adaptive") else f"{self.source.label} -> {self.scorer.label}"
        )
        return f"{self.split.label} / {judge} / {self.attack.label}{direction} {self.norm} eps {255 * self.eps:g}/255"

    @property
    def attack_key(self) -> tuple[Any, ...]:
        """Cells equal in this share one attack."""
        return (self.attack and identity("attack", self.attack.identity()), self.sign, self.norm, self.eps, self.eot)


@dataclass(frozen=True)
class Block:
    """One slice of one (split, source) with its pending cells."""

    split: SplitSpec
    source: ScorerSpec
    slice: int
    cells: tuple[Cell, ...]
    facts: Mapping[str, str]
    """Fact of the source, by its key."""
    fits: Mapping[tuple[str, int], str]
    """(attack identity, sign) -> fit id."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.split.label} / {self.source.label} / slice {self.slice}"


@dataclass(frozen=True)
class Plan:
    """Everything a suite needs done, before what is done already is taken off."""

    suite: Suite
    facts: tuple[Fact, ...]
    fits: tuple[Fit, ...]
    cells: tuple[Cell, ...]
    slices: Mapping[str, int]
    """Split key -> number of slices under the suite's limit."""
    entries: Mapping[str, Sequence[Entry]] = field(repr=False)
    """Split key -> every entry of the split in hash order."""

    def limited(self, split: SplitSpec) -> Sequence[Entry]:
        """The entries that tables are made from."""
        return self.entries[split.key][: self.suite.limit]

    def blocks(self, done: Mapping[str, frozenset[int]]) -> list[Block]:
        """Blocks of the pending work.

        Args:
            done: Cell id -> slices that have records.
        """
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((cell.split.key, cell.source.key), []).append(cell)
        facts = {(f.split.dataset.label, f.scorer.key): f.id for f in self.facts if _calibrates(f)}
        fits = {(f.split.dataset.label, f.source.key, _attack_key(f.attack), f.sign): f.id for f in self.fits}
        blocks = []
        for cells in groups.values():
            first = cells[0]
            source, dataset = first.source.key, first.split.dataset.label
            for index in range(self.slices[first.split.key]):
                pending = tuple(c for c in cells if index not in done.get(c.id, frozenset()))
                if pending:
                    own_fits = {
                        (attack, sign): fit for (d, s, attack, sign), fit in fits.items() if (d, s) == (dataset, source)
                    }
                    own_facts = {source: facts[dataset, source]} if (dataset, source) in facts else {}
                    blocks.append(Block(first.split, first.source, index, pending, own_facts, own_fits))
        return sorted(blocks, key=lambda b: b.slice)


def _calibrates(fact: Fact) -> bool:
    return fact.split.split == fact.split.dataset.calibration_split


def _attack_key(attack: AttackUse) -> str:
    return identity("attack", attack.identity())


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


def make_plan(suite: Suite, registry: Registry) -> Plan:
    """What a suite needs.

    Raises:
        DataError: A data set's label file cannot be read.
    """
    cells: dict[str, Cell] = {}
    facts: dict[str, Fact] = {}
    fits: dict[str, Fit] = {}
    entries: dict[str, Sequence[Entry]] = {}
    slices: dict[str, int] = {}
    for use in suite.datasets:
        dataset = registry.dataset(use.name).build(use.parameters)
        split = SplitSpec(use, use.split, dataset.fingerprint())
        calibration = SplitSpec(use, use.calibration_split, split.fingerprint)
        entries[split.key] = in_hash_order(dataset.entries(use.split))
        evaluated = len(entries[split.key]) if suite.limit is None else min(suite.limit, len(entries[split.key]))
        slices[split.key] = math.ceil(evaluated / suite.slice_size)
        for cell in _cells(suite, split):
            cells.setdefault(cell.id, cell)
            if cell.attack is not None and not cell.attack.control:
                fact = _fact(calibration, cell.source)
                facts.setdefault(fact.id, fact)
                if cell.attack.fits:
                    fit = _fit(suite, calibration, cell, fact.id)
                    fits.setdefault(fit.id, fit)
            if "self_split" in suite.directions and cell.attack is None and use.shape == "pairs":
                fact = _fact(split, cell.scorer)
                facts.setdefault(fact.id, fact)
    return Plan(suite, tuple(facts.values()), tuple(fits.values()), tuple(cells.values()), slices, entries)


def _fact(split: SplitSpec, scorer: ScorerSpec) -> Fact:
    parts = {"split": split.identity(), "scorer": scorer.identity(), "samples": CALIBRATION_SAMPLES}
    return Fact(identity("fact", parts), split, scorer)


def _fit(suite: Suite, split: SplitSpec, cell: Cell, fact: str) -> Fit:
    assert cell.attack is not None
    parts = {
        "split": split.identity(),
        "source": cell.source.identity(),
        "attack": cell.attack.identity(),
        "sign": cell.sign,
        "eot": cell.eot,
        "seed": suite.seed,
        "slice": suite.slice_size,
    }
    return Fit(identity("fit", parts), split, cell.source, cell.attack, cell.sign, cell.eot, fact)


def _cells(suite: Suite, split: SplitSpec) -> Iterator[Cell]:
    for source, scorer, defense in _pairs(suite):
        threat = defense.threat if source.metric is scorer.metric else "transfer"
        yield _cell(suite, split, scorer, scorer, None, 0, "", 0.0, "none", defense)
        for attack in suite.attacks:
            for norm, eps in suite.budgets:
                if norm in attack.norms:
                    for sign in _signs(suite, split.dataset, attack):
                        yield _cell(suite, split, source, scorer, attack, sign, norm, eps, threat, defense)


def _pairs(suite: Suite) -> Iterator[tuple[ScorerSpec, ScorerSpec, DefenseUse]]:
    """(source, scorer, defense) of every declared combination, transfers last."""
    base = DefenseUse("base", (), "none", 1, 1)
    by_label = {metric.label: metric for metric in suite.metrics}
    for metric in suite.metrics:
        for defense in suite.defenses:
            scorer = ScorerSpec(metric, defense.purifiers)
            yield (scorer if defense.threat == "adaptive" else ScorerSpec(metric)), scorer, defense
    for source, judge in suite.transfer:
        yield ScorerSpec(by_label[source]), ScorerSpec(by_label[judge]), base


def _signs(suite: Suite, dataset: DatasetUse, attack: AttackUse) -> tuple[int, ...]:
    if attack.control:
        return (0,)
    if dataset.shape == "triplets":
        return (1, -1)
    split = {"mos_split", "self_split"} & set(suite.directions)
    return tuple(s for s, name in ((1, "up"), (-1, "down")) if name in suite.directions or split)


def _cell(
    suite: Suite,
    split: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    attack: AttackUse | None,
    sign: int,
    norm: Norm | str,
    eps: float,
    threat: str,
    defense: DefenseUse,
) -> Cell:
    adaptive = attack is not None and threat == "adaptive" and not attack.control
    eot = defense.eot if adaptive else EOT_BASE
    parts = {
        "split": split.identity(),
        "source": source.identity(),
        "scorer": scorer.identity(),
        "attack": attack.identity() if attack else "clean",
        "sign": sign,
        "norm": norm,
        "eps": eps,
        "threat": threat,
        "eot": eot,
        "draws": defense.draws,
        "precision": "fp32",
        "seed": suite.seed,
        "slice": suite.slice_size,
    }
    return Cell(
        identity("cell", parts),
        split,
        source,
        scorer,
        attack,
        sign,
        norm,
        eps,
        threat,
        defense.label,
        eot,
        defense.draws,
    )
