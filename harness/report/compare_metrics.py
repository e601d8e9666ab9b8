"""Two metrics of one run, paired: which is harder to move, which keeps more of its order, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.report.arrays import FURTHEST, LOWEST_SROCC, Evaluated, ScorerGrid, Setting, State, lay_out
from harness.report.attack_parameters import with_attack_parameters
from harness.report.compare import LEFT_OUT, PARAMETERS, Comparison
from harness.report.data import RunData
from harness.report.layout import usual_of
from harness.report.measure import (
    ALL_TYPES,
    LEAST_IMAGES,
    LEAST_REFERENCES,
    attacked_sroccs,
    clean_sroccs,
    rated,
    rated_types,
    references_of,
    type_sroccs,
)
from harness.report.rows import (
    Bools,
    Measured,
    choose,
    clusters_of,
    clusters_with_values,
    in_order,
    interval_mark,
    mean_of,
)
from harness.report.shifts import pushes, shifts_over_sigma
from harness.report.table import has_opinions, labels_text
from harness.statistics.bootstrap import Floats, Ints
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.statistics.levels import holm
from harness.statistics.ranking import ALIKE, APART, difference, verdict
from harness.suite.cell_names import CLEAN
from harness.wording import NO_DEFENSE, attack_text, budget_text, did_you_mean, trained_name, with_interval

SHIFT, SROCC = "shift_over_sigma", "srocc"
"""What is compared: how far quality moved along the attack in σ, and rank correlation with the opinions."""
_OVER_ALL = {SHIFT: FURTHEST, SROCC: LOWEST_SROCC}
"""What stands for all attacks."""


class _Figure(NamedTuple):
    """A figure of one metric under one condition: mean over draws, and which clusters have a part in it."""

    measured: Measured
    present: Bools


@dataclass(frozen=True)
class _Cell:
    """A condition: which figure, of which images, under what; clean without a setting."""

    figure: str
    kind: str
    setting: Setting | None
    direction: str

    @property
    def text(self) -> str:
        if self.setting is None:
            return CLEAN
        attack = attack_text(self.setting.attack, self.setting.norm)
        return f"{attack} {self.direction} {budget_text(self.setting.norm, self.setting.eps)}"


_Found = dict[_Cell, tuple[State, _Figure | None]]


def names_of_metrics(data: RunData) -> list[str]:
    """What `compare_metrics` knows: every metric, and with each of its defenses as ``LABEL@DEFENSE``."""
    who = data.records[data.records["threat"] != "transfer"][["metric", "defense"]].drop_duplicates()
    return [_name(metric, defense) for metric, defense in who.itertuples(index=False, name=None)]


def _name(metric: str, defense: str) -> str:
    return trained_name(metric, "" if defense == NO_DEFENSE else defense)


def compare_metrics(data: RunData, a: str, b: str, evaluated: Sequence[Evaluated] | None = None) -> Comparison:
    """Two metrics of a run under each attack and budget that both were put to, and within each type of distortion.

    Args:
        data: The run.
        a: Label of a metric, or ``LABEL@DEFENSE``.
        b: Another; differences are a minus b.
        evaluated: The run's data sets, if they are laid out already.

    Returns:
        In its rows, for each data set and ``figure`` ("shift_over_sigma", the lower the harder to move, in standard
        deviations of each metric's own clean scores as in the table `shift`, or "srocc"), ``type`` ("all", or one type
        of distortion, these at the budget that is told of first), attack, norm, eps and direction: ``value_a``,
        ``value_b``, ``difference`` with ``_low`` and ``_high`` (95 %, paired over clusters), ``_bias``, ``_error``,
        ``p`` (two-sided), ``p_adjusted`` (Holm, over the rows of one data set and figure: those that sentences tell of,
        the others, and those of types, each for themselves),
        ``smallest_shown`` and ``verdict``; ``images``, ``references`` and ``clusters`` that have a part in it.

    Raises:
        UserError: One is no metric of the run, or both are the same.
    """
    known = names_of_metrics(data)
    for name in (a, b):
        if name not in known:
            raise UserError(f"no metric '{name}' in this run.{did_you_mean(name, known)}")
    if a == b:
        raise UserError(f"'{a}' is compared with itself. Name two metrics of the run: {', '.join(known)}.")
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    told: list[str] = []
    for one in evaluated if evaluated is not None else lay_out(data):
        scorers = [_scorer(one, name) for name in (a, b)]
        absent = [side for side, scorer in zip("AB", scorers, strict=True) if scorer is None]
        if absent:
            if len(absent) == 1:
                side, lacking = ("A", b) if absent == ["B"] else ("B", a)
                left_out.append(_left(side, f"data set {one.name}", f"{lacking} is not judged on it", 0))
            continue
        found = [_figures(data, one, scorer) for scorer in scorers if scorer is not None]
        mine = [_row(data, one, (a, b), cell, *pair) for cell, pair in _pairs(*found)]
        _adjust(mine)
        rows += mine
        left_out += _lacking(found, one)
        told += _sentences(one, mine, (a, b))
    frame = with_attack_parameters(pd.DataFrame(rows), data.attacks)
    nothing = pd.DataFrame(columns=list(PARAMETERS))
    return Comparison(a, b, frame, nothing, pd.DataFrame(left_out, columns=list(LEFT_OUT)), tuple(told))


def _left(side: str, what: str, reason: str, conditions: int) -> dict[str, Any]:
    return dict(zip(LEFT_OUT, (side, what, reason, conditions), strict=True))


def _scorer(one: Evaluated, name: str) -> ScorerGrid | None:
    """The metric of that name; of one under a defense that attacked through it, if there is one."""
    own = [s for s in one.scorers if s.threat != "transfer" and _name(s.metric, s.defense) == name]
    return min(own, key=lambda scorer: scorer.threat != "adaptive", default=None)


def _figures(data: RunData, one: Evaluated, scorer: ScorerGrid) -> _Found:
    """Every figure of a metric on a data set; under oblivious attacks, which say nothing of robustness, none."""
    found: _Found = {}
    directions = data.directions_of(one.facts)
    opinions = one.facts.kind == "pairs" and has_opinions(one)
    if opinions:
        everything = clusters_of(one, one.codes[rated(one)])
        state: State = scorer.state
        found[_Cell(SROCC, ALL_TYPES, None, "")] = state, _figure(clean_sroccs(one, scorer), everything)
        for setting, direction, state, attacked, _ in attacked_sroccs(one, scorer, directions):
            if not setting.control:
                found[_Cell(SROCC, ALL_TYPES, setting, direction)] = state, _figure(attacked, everything)
        for kind, items in rated_types(one).items():
            clean = (scorer, None, "")
            figures = type_sroccs(one, clean, scorer.clean, kind, items) if scorer.state == "ok" else []
            found[_Cell(SROCC, kind, None, "")] = scorer.state, _figure(figures, clusters_of(one, one.codes[items]))
    usual = _usual(scorer)
    for setting, direction in in_order(scorer, directions, scorer.furthest):
        if setting.control:
            continue
        chosen = choose(one, scorer, setting, direction)
        pushed = pushes(scorer, chosen) if chosen.state == "ok" else None
        where: dict[str, Ints] = {ALL_TYPES: np.arange(len(one.items))}
        where |= _types(one) if setting.eps == usual[setting.norm] else {}
        for kind, items in where.items():
            found[_Cell(SHIFT, kind, setting, direction)] = chosen.state, _shift(one, scorer, pushed, items)
        if opinions and setting.eps == usual[setting.norm]:
            for kind, items in rated_types(one).items():
                draws = chosen.outcome.attacked
                whose = (scorer, setting, direction)
                figures = type_sroccs(one, whose, draws, kind, items) if chosen.state == "ok" else []
                present = clusters_of(one, one.codes[items])
                found[_Cell(SROCC, kind, setting, direction)] = chosen.state, _figure(figures, present)
    return {cell: one for cell, one in found.items() if cell.setting is None or scorer.threat != "oblivious"}


def _usual(scorer: ScorerGrid) -> Mapping[str, float]:
    """Norm -> the budget that is told of first."""
    radii: dict[str, list[float]] = {}
    for setting in scorer.settings:
        radii.setdefault(setting.norm, []).append(setting.eps)
    return {norm: usual_of(own) for norm, own in radii.items()}


def _types(one: Evaluated) -> dict[str, Ints]:
    """Type of distortion -> its images, for types with as many as have figures in the table `per_type`."""
    groups = np.array(one.groups, dtype=object)
    parts = {str(name): np.flatnonzero(groups == name) for name in dict.fromkeys(groups.tolist()) if name}
    kept = {
        name: items
        for name, items in parts.items()
        if len(items) >= LEAST_IMAGES and references_of(one, items) >= LEAST_REFERENCES
    }
    return kept if len(parts) > 1 else {}


def _figure(draws: Sequence[Measured], present: Bools) -> _Figure | None:
    return _Figure(mean_of(draws), present) if draws else None


def _shift(one: Evaluated, scorer: ScorerGrid, pushed: Floats | None, items: Ints) -> _Figure | None:
    if pushed is None:
        return None
    kept = np.full_like(pushed, np.nan)
    kept[:, items] = pushed[:, items]
    return _figure(shifts_over_sigma(one, scorer.clean, kept), clusters_with_values(one, kept))


def _pairs(a: _Found, b: _Found) -> Iterator[tuple[_Cell, tuple[_Figure, _Figure]]]:
    """The conditions in which both have a figure."""
    for cell, (_, mine) in a.items():
        theirs = b.get(cell, ("missing", None))[1]
        if mine is not None and theirs is not None and not np.isnan(mine.measured[0] - theirs.measured[0]):
            yield cell, (mine, theirs)


def _lacking(found: Sequence[_Found], one: Evaluated) -> Iterator[dict[str, Any]]:
    """Conditions of all images that one of two metrics has a figure of, and the other not."""
    a, b = found
    for side, mine, theirs in (("A", a, b), ("B", b, a)):
        told: dict[tuple[str, str], int] = {}
        for cell, (_, figure) in mine.items():
            state, other = theirs.get(cell, ("missing", None))
            if cell.kind == ALL_TYPES and figure is not None and other is None:
                reason = {"failed": "failed", "missing": "not run"}.get(state, "without a figure")
                key = f"{cell.text} on {one.name}", f"{reason} for {'B' if side == 'A' else 'A'}"
                told[key] = told.get(key, 0) + 1
        yield from (_left(side, what, reason, count) for (what, reason), count in told.items())


def _row(data: RunData, one: Evaluated, names: tuple[str, str], cell: _Cell, a: _Figure, b: _Figure) -> dict[str, Any]:
    present = a.present & b.present
    (mine, spread), (theirs, other) = a.measured, b.measured
    found = difference(mine - theirs, spread - other, one.clusters, present)
    groups = np.array(one.groups, dtype=object)
    items = rated(one) if cell.figure == SROCC else np.arange(len(one.items))
    items = items if cell.kind == ALL_TYPES else items[groups[items] == cell.kind]
    clusters = int(present.sum())
    return {
        "dataset": one.name,
        "a": names[0],
        "b": names[1],
        "figure": cell.figure,
        "type": cell.kind,
        "type_name": data.group_names.get(one.name, {}).get(cell.kind, cell.kind),
        "attack": cell.setting.attack if cell.setting else CLEAN,
        "norm": cell.setting.norm if cell.setting else "",
        "eps": cell.setting.eps if cell.setting else 0.0,
        "direction": cell.direction,
        "labels": one.facts.labels,
        "images": len(items),
        "references": references_of(one, items),
        "clusters": clusters,
        "interval": interval_mark(clusters),
        "value_a": mine,
        "value_b": theirs,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "difference_bias": found.bias,
        "difference_error": found.error,
        "p": found.p,
        "smallest_shown": found.detectable,
    }


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Adjust p-values for the number of conditions: of each figure those told of first, the others, and those of types.

    Which of two metrics is harder to move is one question, however many attacks and budgets there are beside it.
    """
    first = [id(row) for figure, over_all in _OVER_ALL.items() for row in told_of_first(rows, figure, over_all)]
    families: dict[tuple[str, bool, bool], list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault((row["figure"], row["type"] == ALL_TYPES, id(row) in first), []).append(row)
    for family in families.values():
        for row, p in zip(family, holm([row["p"] for row in family]).tolist(), strict=True):
            row["p_adjusted"] = p
            row["verdict"] = verdict(p, row["clusters"] >= DESCRIPTIVE_BELOW)


def told_of_first(rows: Sequence[Mapping[Any, Any]], figure: str, over_all: str) -> list[Mapping[Any, Any]]:
    """Of each norm and direction the row that stands for all attacks at the usual budget, or of the only attack.

    Args:
        rows: Rows of one data set.
        figure: Of which figure.
        over_all: What stands for all attacks.
    """
    own = [row for row in rows if row["figure"] == figure and row["type"] == ALL_TYPES and row["attack"] != CLEAN]
    found = []
    for norm in dict.fromkeys(row["norm"] for row in own):
        eps = usual_of(row["eps"] for row in own if row["norm"] == norm)
        at = [row for row in own if (row["norm"], row["eps"]) == (norm, eps)]
        for direction in dict.fromkeys(row["direction"] for row in at):
            there = [row for row in at if row["direction"] == direction]
            found += [row for row in there if row["attack"] == over_all] or (there if len(there) == 1 else [])
    return found


def _sentences(one: Evaluated, rows: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> Iterator[str]:
    """'ssim is harder to move than psnr by 0.52 [0.30, 0.75] σ', and what it keeps of its order."""
    what = labels_text(one)
    for figure, over_all in _OVER_ALL.items():
        better = -1 if figure == SHIFT else 1
        for row in told_of_first(rows, figure, over_all):
            sign = 1.0 if better * row["difference"] >= 0 else -1.0
            first, second = names if sign > 0 else names[::-1]
            low, high = sorted(sign * better * row[f"difference_{end}"] for end in ("low", "high"))
            by = with_interval(abs(row["difference"]), low, high, 2)
            moved = f"{first} is harder to move than {second} by {by} σ"
            kept = f"{first} keeps a higher SROCC with {what} than {second}, by {by}"
            place = f"{one.name}, {budget_text(row['norm'], row['eps'])} {row['direction']}"
            under = f"{attack_text(row['attack'], row['norm'])}, {row['images']} images"
            firm = {ALIKE: "; not told from 0", APART: ""}
            few = firm.get(row["verdict"], f"; descriptive: {one.units} are too few to claim it")
            yield f"{place}: {moved if figure == SHIFT else kept} ({under}{few})."
