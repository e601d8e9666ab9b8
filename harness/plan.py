"""Suite -> facts, fits, cells and blocks. Pure: it reads label files, never a pixel, and runs nothing.

* A *cell* is one condition (data set, source, scorer, attack, sign, budget, ...); its records are stored by slice.
* A *slice* is a fixed cut of the split in hash order: the batch, and with the cell the unit of resume.
* A *block* is one slice of one (data set, split, source) with every pending cell: the unit of work.
* A *fact* is what a slice cannot know (clean qualities on the calibration samples); a *fit* is what an attack learns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.contracts import Entry
from harness.identity import identity, order_key
from harness.registry import Registry
from harness.select import Condition
from harness.suite import AttackUse, DatasetUse, DefenseUse, MetricUse, Precision, Suite, Use
from harness.verdicts import added_attacks

PROBES = 2
"""Part of a probe's identity. Raise it when a metric is asked for more."""

CALIBRATION_SAMPLES = 64
"""Samples, first in hash order, on which a scorer's clean quality is ranged. Part of a fact's identity."""

Endpoint = Literal["", "up", "down", "error"]
"""What an attack aims at: quality up, quality down, or the error of the prediction; "" for clean cells and controls."""
_UP_AND_DOWN: tuple[Endpoint, ...] = ("up", "down")
_SIGNS: Mapping[Endpoint, tuple[int, ...]] = {"": (), "up": (1,), "down": (-1,), "error": (1, -1)}


@dataclass(frozen=True)
class ScorerSpec:
    """How to build a scorer: a metric with its weights, under purifiers."""

    metric: MetricUse
    purifiers: tuple[Use, ...] = ()

    @functools.cached_property
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

    @functools.cached_property
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
class Probe:
    """The probes of one metric's contract, with its weights."""

    id: str
    metric: MetricUse


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

    @property
    def sign(self) -> int:
        """+1 raises quality, -1 lowers it; 0 where each sample has its own sign (error) or none (clean, controls)."""
        return {"up": 1, "down": -1}.get(self.endpoint, 0)

    @property
    def label(self) -> str:
        """For people: 'mini test / birqa-tiny / pgd up eps 8/255'."""
        if self.attack is None:
            return f"{self.split.label} / {self.scorer.label} / clean"
        endpoint = f" {self.endpoint}" if self.endpoint else ""
        judge = (
            self.scorer.label if self.threat in ("none", "adaptive") else f"{self.source.label} -> {self.scorer.label}"
        )
        return f"{self.split.label} / {judge} / {self.attack.label}{endpoint} {self.norm} eps {255 * self.eps:g}/255"

    @property
    def attack_key(self) -> tuple[Any, ...]:
        """Cells of one block that are equal in this share one attack."""
        attack = self.attack and identity("attack", self.attack.identity())
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
    def label(self) -> str:
        """For people."""
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

    @property
    def splits(self) -> tuple[SplitSpec, ...]:
        """The evaluated splits."""
        return tuple({cell.split.key: cell.split for cell in self.cells}.values())

    def limited(self, split: SplitSpec) -> Sequence[Entry]:
        """The entries that tables are made from."""
        return self.entries[split.key][: self.suite.limit]

    def entries_of(self, cell: Cell) -> Sequence[Entry]:
        """The entries that a cell is for."""
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
            blocks += [Block(split, source, index, tuple(left)) for index, left in enumerate(pending) if left]
        return blocks


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
        for source, scorer, defense in _pairs(suite):
            if suite.excludes(_condition(split, source, scorer, defense)):
                continue
            for part in _cells(suite, split, calibration, source, scorer, defense):
                if isinstance(part, Cell):
                    cells.setdefault(part.id, part)
                elif isinstance(part, Fact):
                    facts.setdefault(part.id, part)
                else:
                    fits.setdefault(part.id, part)
            if "self_split" in suite.directions and use.shape == "pairs":
                fact = _fact(suite, split, scorer)
                facts.setdefault(fact.id, fact)
        for source, scorer, defense in _pairs(suite):  # after the suite's own cells, which may be the same
            for part in _for_verdicts(suite, registry, split, calibration, source, scorer, defense):
                if isinstance(part, Cell):
                    cells.setdefault(part.id, part)
                else:
                    facts.setdefault(part.id, part)
    metrics = {spec.metric.label: spec.metric for cell in cells.values() for spec in (cell.source, cell.scorer)}
    probes = tuple(_probe(metric) for metric in metrics.values())
    return Plan(suite, probes, tuple(facts.values()), tuple(fits.values()), tuple(cells.values()), slices, entries)


def _probe(metric: MetricUse) -> Probe:
    return Probe(identity("probe", {"metric": metric.identity(), "probes": PROBES}), metric)


def _fact(suite: Suite, split: SplitSpec, scorer: ScorerSpec) -> Fact:
    parts = {
        "split": split.identity(),
        "scorer": scorer.identity(),
        "samples": CALIBRATION_SAMPLES,
        "seed": suite.seed if scorer.purifiers else None,
        "slice": suite.slice_size,
    }
    return Fact(identity("fact", parts), split, scorer)


def _fit(suite: Suite, split: SplitSpec, source: ScorerSpec, attack: AttackUse, sign: int, eot: int, fact: Fact) -> Fit:
    parts = {
        "split": split.identity(),
        "source": source.identity(),
        "attack": attack.identity(),
        "sign": sign,
        "eot": eot,
        "fact": fact.id,
        "seed": suite.seed,
        "slice": suite.slice_size,
    }
    return Fit(identity("fit", parts), split, source, attack, sign, eot, fact.id)


def _cells(
    suite: Suite,
    split: SplitSpec,
    calibration: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
) -> Iterator[Fact | Fit | Cell]:
    """The clean cell of a scorer, then the attacked ones of (source, scorer), after the facts and fits they need."""
    threat = defense.threat if source.metric is scorer.metric else "transfer"
    yield _cell(suite, split, scorer, scorer, defense)
    for attack in suite.attacks:
        wanted = [
            (norm, eps)
            for norm, eps in suite.budgets
            if norm in attack.norms
            and not suite.excludes(_condition(split, source, scorer, defense, attack.label, norm, eps))
        ]
        if not wanted:
            continue
        eot = defense.eot if threat == "adaptive" and not attack.control else 1
        fact = None if attack.control else _fact(suite, calibration, source)
        if fact is not None:
            yield fact
        for endpoint in _endpoints(suite, split.dataset, attack):
            signs = _SIGNS[endpoint] if attack.fits and fact else ()
            fits = tuple(_fit(suite, calibration, source, attack, sign, eot, fact) for sign in signs if fact)
            yield from fits
            for norm, eps in wanted:
                radii = tuple(sorted(radius for other, radius in wanted if other == norm))
                together = radii if suite.batch_budgets and len(radii) > 1 and not attack.control else ()
                condition = _Condition(attack, endpoint, norm, eps, threat, eot, fact, fits, together)
                yield _cell(suite, split, source, scorer, defense, condition)


def _for_verdicts(
    suite: Suite,
    registry: Registry,
    split: SplitSpec,
    calibration: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
) -> Iterator[Fact | Cell]:
    """The cells that verdicts on a scorer need beyond the suite's own; masking is of the scorer that is attacked."""
    if source.key != scorer.key or suite.excludes(_condition(split, source, scorer, defense)):
        return
    for attack, norm, eps in added_attacks(suite, registry, scorer.metric):
        if suite.excludes(_condition(split, source, scorer, defense, attack.label, norm, eps)):
            continue
        eot = defense.eot if not attack.control else 1
        fact = None if attack.control else _fact(suite, calibration, source)
        if fact is not None:
            yield fact
        endpoints: tuple[Endpoint, ...] = ("",) if attack.control else _UP_AND_DOWN
        for endpoint in endpoints:
            condition = _Condition(attack, endpoint, norm, eps, defense.threat, eot, fact)
            yield replace(_cell(suite, split, source, scorer, defense, condition), for_verdicts=True)


def _condition(
    split: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
    attack: str = "",
    norm: str = "",
    eps: float = 0.0,
) -> Condition:
    labels = (split.dataset.label, source.metric.label, scorer.metric.label, defense.label)
    return Condition(*labels, attack, norm, eps)


@dataclass(frozen=True)
class _Condition:
    """What an attacked cell has beyond a clean one."""

    attack: AttackUse | None = None
    endpoint: Endpoint = ""
    norm: str = ""
    eps: float = 0.0
    threat: str = "none"
    eot: int = 1
    fact: Fact | None = None
    fits: tuple[Fit, ...] = ()
    together: tuple[float, ...] = ()


_CLEAN = _Condition()


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


def _endpoints(suite: Suite, dataset: DatasetUse, attack: AttackUse) -> tuple[Endpoint, ...]:
    """What an attack is run for; every other direction is chosen sample by sample between up and down."""
    if attack.control:
        return ("",)
    if dataset.shape == "triplets":
        return {"rejected_up": _UP_AND_DOWN[:1], "preferred_down": _UP_AND_DOWN[1:]}.get(suite.which, _UP_AND_DOWN)
    split = {"mos_split", "self_split", "random_sign"} & set(suite.directions)
    both: tuple[Endpoint, ...] = tuple(e for e in _UP_AND_DOWN if e in suite.directions or split)
    return (*both, "error") if "error" in suite.directions else both


def _cell(
    suite: Suite,
    split: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
    condition: _Condition = _CLEAN,
) -> Cell:
    c = condition
    fact, fits = c.fact.id if c.fact else "", [fit.id for fit in c.fits]
    searches = c.attack is not None and not c.attack.control
    precision = suite.precision if searches and c.attack and c.attack.needs_gradient else "fp32"
    patch = "p0" if searches and split.dataset.shape == "triplets" and suite.which == "p0" else ""
    parts = {
        "split": split.identity(),
        "source": source.identity(),
        "scorer": scorer.identity(),
        "attack": c.attack.identity() if c.attack else "clean",
        "sign": {"": 0, "up": 1, "down": -1}.get(c.endpoint, c.endpoint),
        "norm": c.norm,
        "eps": c.eps,
        "threat": c.threat,
        "eot": c.eot,
        "draws": defense.draws,
        "precision": precision,
        "fact": fact,
        "fit": fits if len(fits) > 1 else "".join(fits),
        "seed": suite.seed,
        "slice": suite.slice_size,
        **({"patch": patch} if patch else {}),
        **({"together": c.together} if c.together else {}),
    }
    return Cell(
        identity("cell", parts),
        split,
        source,
        scorer,
        c.attack,
        c.endpoint,
        c.norm,
        c.eps,
        c.threat,
        defense.label,
        c.eot,
        defense.draws,
        fact,
        tuple((fit.sign, fit.id) for fit in c.fits),
        patch,
        precision,
        c.together,
    )
