"""A plan as plain values, so that it can be read again where nothing it was made of is left: no data, no plugin.

What many cells share (data sets, scorers, attacks) is written once, and cells name its place. Of entries those are kept
that the plan evaluates. Where files lie on the machine that ran it, and the layouts of its tables, which stand in the
suite, are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar, cast

import pydantic

from harness.rng import Entry
from harness.suite.model import AttackUse, DefenseUse, MetricUse, Precision, PurifierUse, Resources, Suite, Use
from harness.suite.plan import Cell, Endpoint, Fact, Fit, Plan, Probe, ScorerSpec, SplitSpec

_T = TypeVar("_T")
_U = TypeVar("_U", bound=Use)


class _FactRow(NamedTuple):
    id: str
    split: int
    scorer: int


class _FitRow(NamedTuple):
    id: str
    split: int
    source: int
    attack: int
    sign: int
    eot: int
    fact: str


class _CellRow(NamedTuple):
    """A `Cell`, with places in the lists of splits, scorers and attacks."""

    id: str
    split: int
    source: int
    scorer: int
    attack: int | None
    endpoint: Endpoint
    norm: str
    eps: float
    threat: str
    defense: str
    eot: int
    draws: int
    fact: str
    fits: tuple[tuple[int, str], ...]
    patch: str
    precision: Precision
    together: tuple[float, ...]
    for_verdicts: bool
    for_maps: bool


@dataclass(frozen=True)
class _StoredPlan:
    suite: Suite
    splits: tuple[SplitSpec, ...]
    scorers: tuple[ScorerSpec, ...]
    attacks: tuple[AttackUse, ...]
    probes: tuple[Probe, ...]
    facts: tuple[_FactRow, ...]
    fits: tuple[_FitRow, ...]
    cells: tuple[_CellRow, ...]
    slices: dict[str, int]
    entries: dict[str, tuple[Entry, ...]]


def plan_written(plan: Plan) -> Any:
    """A plan as values that `plan_text` takes."""
    splits, scorers, attacks = (
        _Table(SplitSpec, _split_kept),
        _Table(ScorerSpec, _scorer_kept),
        _Table(AttackUse, _kept),
    )
    facts = [_FactRow(fact.id, splits.place(fact.split), scorers.place(fact.scorer)) for fact in plan.facts]
    fits = [
        _FitRow(
            *(fit.id, splits.place(fit.split), scorers.place(fit.source), attacks.place(fit.attack)),
            *(fit.sign, fit.eot, fit.fact),
        )
        for fit in plan.fits
    ]
    cells = [
        _CellRow(
            *(cell.id, splits.place(cell.split), scorers.place(cell.source), scorers.place(cell.scorer)),
            attacks.place(cell.attack) if cell.attack else None,
            *(getattr(cell, name) for name in _CellRow._fields[5:]),
        )
        for cell in plan.cells
    ]
    size = plan.suite.slice_size
    entries = {key: plan.entries[key][: count * size] for key, count in plan.slices.items()}
    stored = _StoredPlan(
        _suite_kept(plan.suite),
        tuple(splits.values),
        tuple(scorers.values),
        tuple(attacks.values),
        tuple(replace(probe, metric=_kept(probe.metric)) for probe in plan.probes),
        tuple(facts),
        tuple(fits),
        tuple(cells),
        dict(plan.slices),
        {key: tuple(found) for key, found in entries.items()},
    )
    return adapter(_StoredPlan).dump_python(stored)


def plan_read(value: Any) -> Plan:
    """The plan that `plan_written` wrote, from its JSON: its suite has no layouts, and its weights no files.

    Raises:
        ValueError: It is none.
    """
    stored: _StoredPlan = adapter(_StoredPlan).validate_python(value)
    splits, scorers, attacks = stored.splits, stored.scorers, stored.attacks
    try:
        return Plan(
            stored.suite,
            stored.probes,
            tuple(Fact(row.id, splits[row.split], scorers[row.scorer]) for row in stored.facts),
            tuple(
                Fit(row.id, splits[row.split], scorers[row.source], attacks[row.attack], row.sign, row.eot, row.fact)
                for row in stored.fits
            ),
            tuple(_cell(row, splits, scorers, attacks) for row in stored.cells),
            stored.slices,
            stored.entries,
        )
    except IndexError:
        raise ValueError("a cell, fact or fit names what is not there") from None


def _cell(
    row: _CellRow, splits: Sequence[SplitSpec], scorers: Sequence[ScorerSpec], attacks: Sequence[AttackUse]
) -> Cell:
    parts: dict[str, Any] = row._asdict()
    parts |= {"split": splits[row.split], "source": scorers[row.source], "scorer": scorers[row.scorer]}
    return Cell(**parts | {"attack": None if row.attack is None else attacks[row.attack]})


def adapter(kind: type[_T]) -> pydantic.TypeAdapter[_T]:
    """What brings a dataclass to plain values and back."""
    return _adapter(cast(Any, kind))


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """Made once, because making one takes long."""
    return pydantic.TypeAdapter(kind)


def plan_text(value: Any) -> str:
    """JSON of what adapters give, the same whatever the order of sets."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


@dataclass
class _Table(Generic[_T]):
    """Each different value once, in the order of first use."""

    kind: type[_T]
    kept: Callable[[_T], _T]
    values: list[_T] = field(default_factory=list)
    _seen: dict[int, tuple[_T, int]] = field(default_factory=dict)
    """Id of a value -> it, so that the id stays its own, and its place."""
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, value: _T) -> int:
        if id(value) not in self._seen:
            own = self.kept(value)
            place = self._places.setdefault(plan_text(adapter(self.kind).dump_python(own)), len(self.values))
            if place == len(self.values):
                self.values.append(own)
            self._seen[id(value)] = value, place
        return self._seen[id(value)][1]


def _kept(use: _U) -> _U:
    """A use without the places of files."""
    parts: dict[str, Any] = {"contents": replace(use.contents, paths=())}
    if isinstance(use, MetricUse | PurifierUse):
        parts["weights_file"] = None
    if isinstance(use, AttackUse):
        parts["metrics"] = tuple(map(_kept, use.metrics))
    return replace(use, **parts)


def _split_kept(split: SplitSpec) -> SplitSpec:
    return replace(split, dataset=_kept(split.dataset))


def _scorer_kept(scorer: ScorerSpec) -> ScorerSpec:
    return replace(scorer, metric=_kept(scorer.metric), purifiers=tuple(map(_kept, scorer.purifiers)))


def _defense_kept(use: DefenseUse) -> DefenseUse:
    trained = use.trained and replace(
        use.trained, metrics={label: _kept(metric) for label, metric in use.trained.metrics.items()}
    )
    return replace(use, purifiers=tuple(map(_kept, use.purifiers)), trained=trained)


def _suite_kept(suite: Suite) -> Suite:
    return dataclasses.replace(
        suite,
        datasets=tuple(map(_kept, suite.datasets)),
        metrics=tuple(map(_kept, suite.metrics)),
        defenses=tuple(map(_defense_kept, suite.defenses)),
        attacks=tuple(map(_kept, suite.attacks)),
        parts=tuple(map(_suite_kept, suite.parts)),
        layouts=(),
        resources=Resources(),
        cluster=(),
        relative=frozenset(),
    )
