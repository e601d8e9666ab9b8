"""Records laid out as arrays: one grid of draws x items per scorer and finished attack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.report.data import DatasetFacts, RunData
from harness.report.grouped import codes_of, groups_of
from harness.statistics import directions
from harness.statistics.bootstrap import RESAMPLES, Floats, Ints, cluster_codes, weightings
from harness.suite.cell_names import CLEAN, cell_name
from harness.wording import counted, marked, scorer_text

State = Literal["ok", "failed", "missing"]

RAISING_CONTROL = "restore"
"""The control whose gain an attack upwards is compared with."""
LOWERING_CONTROL = "noise"
"""The control whose loss an attack downwards is compared with."""

FURTHEST = "furthest of all"
"""In place of an attack: per image, the furthest of what all attacks and controls reached inside that budget."""
LOWEST_SROCC = "lowest SROCC of all"
"""In place of an attack: the lowest correlation under any one of them, or under the furthest of all."""
HONEST = "honest reference"
"""In place of an attack: `RAISING_CONTROL` where quality is to be raised, `LOWERING_CONTROL` where it is to be lowered.

Inside the same ball, and no attack: a metric that notices either as it should loses by it."""
MEAN_OVER_ATTACKS = "mean over attacks"
"""In place of an attack: the mean of a figure over all of them."""
OVER_ALL = (FURTHEST, LOWEST_SROCC, MEAN_OVER_ATTACKS)
"""What stands in place of an attack and is none."""
ROUNDING = 1e-6
"""What rounding to float32 may add to a recorded change; relative in l2, whose squares add up."""

_CHANGES = ("linf", "l2")
_COUNTS = ("forwards", "backwards", "queries", "seconds")
_GRIDS = ("clean", "pristine", "attacked", "attacked_8bit", *_CHANGES, *_COUNTS)
_OF_WINNER = ("attacked", "attacked_8bit", "sign", "started", *_CHANGES)
"""Fields of `Finished`, in order, before its counts."""


@dataclass(frozen=True)
class Setting:
    """An attack or control at one budget."""

    attack: str
    control: bool
    norm: str
    eps: float
    plugin: str
    """Registered name behind the label: what tells one control from another."""


@dataclass(frozen=True)
class Finished:
    """What one attack in one direction (or one control) left, each array of shape [draws, items]."""

    state: State
    attacked: Floats
    attacked_8bit: Floats
    sign: Floats
    """+1 where quality was pushed up, -1 where down (endpoint error: away from the opinion), 0 for controls."""
    started: Floats
    """1 where keep-the-better kept the unattacked start."""
    linf: Floats
    """Largest change of a value, in [0, 1] image units."""
    l2: Floats
    """Length of the whole change."""
    forwards: Floats
    backwards: Floats
    queries: Floats
    seconds: Floats


@dataclass(frozen=True)
class Chosen:
    """An attack with a direction: per sample one of two finished attacks. Arrays of shape [draws, items]."""

    state: State
    sign: Floats
    outcome: Finished


@dataclass(frozen=True)
class ScorerGrid:
    """A metric under a defense and a threat, with its qualities on one data set."""

    dataset: str
    metric: str
    defense: str
    threat: str
    source: str
    broken: str
    """Rules of its contract that the metric, or the attacked one, was found to break; empty if none."""
    state: State
    """Of its clean scores."""
    clean: Floats
    pristine: Floats
    median: float | None
    finished: Mapping[tuple[Setting, str], Finished]
    """By setting and endpoint: "up", "down", "error", or "" for controls."""
    settings: tuple[Setting, ...]
    furthest: tuple[Setting, ...] = ()
    """`FURTHEST` at every budget that two attacks or more were run at."""

    @property
    def who(self) -> tuple[str, str, str, str]:
        """Metric, defense, threat and source: which scorer it is, whatever the data set."""
        return self.metric, self.defense, self.threat, self.source

    @property
    def label(self) -> str:
        """What people read, as `harness.report.layout.scorer_of` says it of a row."""
        return marked(scorer_text(*self.who), self.broken)

    def of(self, setting: Setting, endpoint: str) -> Finished:
        """The finished attack of one endpoint ("" for a control); state "missing" when it was not run."""
        if setting.attack == HONEST:
            return self._honest(setting, endpoint)
        return self.finished.get((setting, endpoint), _absent("missing", self.clean.shape))

    @property
    def honest(self) -> tuple[Setting, ...]:
        """`HONEST` at every budget that both of its controls were run at."""
        found = dict.fromkeys(Setting(HONEST, False, one.norm, one.eps, "") for one in self.settings)
        return tuple(one for one in found if all(self._honest(one, way).state != "missing" for way in ("up", "down")))

    def _honest(self, setting: Setting, endpoint: str) -> Finished:
        names = {"up": (RAISING_CONTROL, 1.0), "down": (LOWERING_CONTROL, -1.0)}
        if endpoint not in names:
            return _absent("missing", self.clean.shape)
        name, sign = names[endpoint]
        outcome = self.control(name, setting)
        return dataclasses.replace(outcome, sign=sign + 0 * outcome.sign)

    def control(self, name: str, setting: Setting) -> Finished:
        """The control of that name at the budget of a setting."""
        for other in self.settings:
            same = (other.norm, other.eps) == (setting.norm, setting.eps)
            if other.control and same and other.plugin == name:
                return self.of(other, "")
        return _absent("missing", self.clean.shape)


@dataclass(frozen=True)
class Evaluated:
    """One data set as evaluated: what is known of its items, and every scorer's qualities on them."""

    name: str
    facts: DatasetFacts
    items: tuple[str, ...]
    samples: tuple[str, ...]
    patches: tuple[str, ...]
    references: tuple[str, ...]
    groups: tuple[str, ...]
    levels: Floats
    not_strength: Mapping[str, str]
    """Group -> why its levels are no strength of distortion; other groups are left out."""
    identical: Floats
    """1 where an image equals its reference in every pixel, 0 where it does not, nan where records do not say."""
    opinion: Floats
    judge: Floats
    codes: Ints
    """Number of each item's cluster, the independent unit that intervals take as a whole, shape [N]."""
    clusters: int
    multiplicities: Floats
    """`weightings`, shared by every row of every table, shape [C + B, C]: every cluster but one, then B resamples."""
    scorers: tuple[ScorerGrid, ...]
    seed: int
    margin: float = 0.0
    """Difference of opinions that a pair must exceed to count in pair accuracy."""
    memory: dict[Any, Any] = field(default_factory=dict, compare=False)
    """Figures several tables share."""

    @property
    def units(self) -> str:
        """How many clusters there are, in words: '8 photographs'."""
        return counted(self.clusters, self.facts.cluster_noun)

    def choose(self, scorer: ScorerGrid, setting: Setting, direction: str) -> Chosen:
        """Pick, sample by sample, between the finished attacks up and down; a control is the same in any direction."""
        if direction == "error":
            outcome = scorer.of(setting, "" if setting.control else "error")
            return Chosen(outcome.state, outcome.sign, outcome)
        sign = self.signs(scorer, direction)
        if sign is None:
            return Chosen("missing", np.zeros(scorer.clean.shape), _absent("missing", scorer.clean.shape))
        if setting.control:
            outcome = scorer.of(setting, "")
            return Chosen(outcome.state, sign, outcome)
        raised, lowered = scorer.of(setting, "up"), scorer.of(setting, "down")
        needed = [one for one, wanted in ((raised, sign > 0), (lowered, sign < 0)) if wanted.any()]
        state: State = "ok"
        for one in needed:
            state = "failed" if "failed" in (state, one.state) else "missing" if one.state == "missing" else state

        def picked(up: NDArray[Any], down: NDArray[Any]) -> Floats:
            return np.where(sign > 0, up, np.where(sign < 0, down, np.nan))

        attacked = picked(raised.attacked, lowered.attacked)
        if state == "ok" and np.isnan(attacked[sign != 0]).any():
            state = "failed"
        return Chosen(
            state,
            sign,
            Finished(
                state,
                attacked,
                picked(raised.attacked_8bit, lowered.attacked_8bit),
                sign,
                picked(raised.started, lowered.started),
                picked(raised.linf, lowered.linf),
                picked(raised.l2, lowered.l2),
                picked(raised.forwards, lowered.forwards),
                picked(raised.backwards, lowered.backwards),
                picked(raised.queries, lowered.queries),
                picked(raised.seconds, lowered.seconds),
            ),
        )

    def signs(self, scorer: ScorerGrid, direction: str) -> Floats | None:
        """Direction of every sample as an array [draws, items]; 0 for one left alone. None where no one can tell."""
        count = len(self.items)
        row: NDArray[Any]
        if direction == "up":
            row = directions.up(count)
        elif direction == "down":
            row = directions.down(count)
        elif direction == "random_sign":
            row = directions.random_sign(self.samples, self.seed)
        elif direction == "mos_split" and self.facts.mean_opinion is not None and not np.isnan(self.opinion).all():
            row = directions.mos_split(self.opinion, self.facts.mean_opinion)
        elif direction == "self_split" and scorer.median is not None:
            row = directions.self_split(scorer.clean, scorer.median)
        elif direction in directions.TRIPLETS.values() and not np.isnan(self.judge).all():
            p0, p1 = directions.pair(self.judge, direction)
            row = np.where(np.array(self.patches) == "p1", p1, p0)
        else:
            return None
        return np.array(np.broadcast_to(row, scorer.clean.shape), dtype=np.float64)


def lay_out(data: RunData, resamples: int = RESAMPLES) -> list[Evaluated]:
    """Turn the records of a run into arrays, one `Evaluated` per data set in the order of `data.datasets`."""
    failed = frozenset(failure.cell for failure in data.failures)
    found = []
    for name, facts in data.datasets.items():
        here = (data.records["dataset"] == name).to_numpy()
        if here.any():
            records = data.records if here.all() else data.records[here]
            found.append(_evaluated(data, facts, name, records.reset_index(drop=True), failed, resamples))
    return found


def _evaluated(
    data: RunData, facts: DatasetFacts, name: str, records: pd.DataFrame, failed: frozenset[str], resamples: int
) -> Evaluated:
    number, names = codes_of(records["item"])
    order = sorted(range(len(names)), key=lambda place: str(names[place]))
    rows = np.argsort(order)[number]
    first = np.empty(len(names), np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    items = records.iloc[first[order]]
    codes, clusters = cluster_codes(_words(items["cluster"]))
    scorers = _scorers(data, name, records, rows, len(items), facts.kind == "triplets", failed)
    return Evaluated(
        name=name,
        facts=facts,
        items=tuple(_words(items["item"])),
        samples=tuple(_words(items["sample"])),
        patches=tuple(_words(items["patch"])),
        references=tuple(_words(items["reference"])),
        groups=tuple(_words(items["group"])),
        levels=items["level"].to_numpy(dtype=np.float64),
        not_strength=data.levels_not_strength.get(name, {}),
        identical=_identical(records, rows, len(items)),
        opinion=items["opinion"].to_numpy(dtype=np.float64),
        judge=items["judge"].to_numpy(dtype=np.float64),
        codes=codes,
        clusters=clusters,
        multiplicities=weightings(codes, resamples, data.seed).astype(np.float64),
        scorers=scorers,
        seed=data.seed,
        margin=data.margin,
    )


def _identical(records: pd.DataFrame, rows: Ints, count: int) -> Floats:
    """Whether each item equals its reference, 1 or 0; nan where no clean record of it says."""
    clean = np.flatnonzero(records["attack"] == CLEAN)
    found = np.full(count, np.nan)
    np.fmax.at(found, rows[clean], records["identical"].iloc[clean].astype(np.float64).to_numpy())
    return found


def _words(column: pd.Series[Any]) -> list[str]:
    return [str(value) for value in column.tolist()]


def _scorers(
    data: RunData,
    dataset: str,
    records: pd.DataFrame,
    rows: Ints,
    count: int,
    triplets: bool,
    failed: frozenset[str],
) -> tuple[ScorerGrid, ...]:
    values = {name: records[name].to_numpy(dtype=np.float64) for name in (*_GRIDS, "sign")}
    values["started"] = (records["status"] == "start").to_numpy(dtype=np.float64)
    draw = records["draw"].to_numpy(dtype=np.int64)
    plugins = [(str(key[0]), str(records["plugin"].iat[index[-1]])) for key, index in groups_of(records, ["attack"])]
    plugin = dict(plugins)
    place = {name: number for number, name in enumerate(plugin)}
    unattacked = (records["attack"] == CLEAN).to_numpy()
    who_of: dict[_Who, list[tuple[tuple[Any, ...], Ints]]] = {}
    for key, index in groups_of(records, [*_Who._fields, *_SETTING]):
        who_of.setdefault(_Who(*map(str, key[:4])), []).append((key[4:], index))
    ran = {
        (_setting(key, plugin), str(key[4])) for cells in who_of.values() for key, _ in cells if str(key[0]) != CLEAN
    }
    groups = [(who, np.sort(np.concatenate([index for _, index in cells]))) for who, cells in who_of.items()]
    attacked = {who[:2] for who, index in groups if not unattacked[index].all()}
    scorers = []
    for who, index in groups:
        if who[:2] in attacked and unattacked[index].all():
            continue  # clean scores of a defended metric, shown with the attacks on it
        shape = (int(draw[index].max()) + 1, count)
        # Clean scores do not depend on the threat, so those of the same metric and defense fill in for each other.
        alike = [other[unattacked[other]] for name, other in groups if name[:2] == who[:2]]
        grids = {}
        for name in ("clean", "pristine"):
            grids[name] = np.full(shape, np.nan)
            for source in (index, *alike, index[unattacked[index]]):
                known = source[(draw[source] < shape[0]) & ~np.isnan(values[name][source])]
                grids[name][draw[known], rows[known]] = values[name][known]
        finished = {}
        for key, where in who_of[who]:
            if str(key[0]) != CLEAN:
                partial_is_whole = triplets and not key[1]
                one = _finished(values, where, draw, rows, shape, partial_is_whole)
                finished[_setting(key, plugin), str(key[4])] = one
        own = {setting for setting, _ in ran if not setting.control}
        for setting, endpoint in ran | {(setting, endpoint) for setting in own for endpoint in ("up", "down")}:
            if cell_name(dataset, *who, setting.attack, endpoint, setting.norm, setting.eps) in failed:
                finished[setting, endpoint] = _absent("failed", shape)
        settings = tuple(
            sorted(
                {setting for setting, _ in finished},
                key=lambda one: (not one.control, place[one.attack], one.norm, one.eps),
            )
        )
        furthest = _furthest(finished, settings, grids["clean"])
        whole = not np.isnan(grids["clean"]).any() and cell_name(dataset, *who, "clean", "", "", 0.0) not in failed
        scorers.append(
            ScorerGrid(
                dataset=dataset,
                **who._asdict(),
                broken=_broken(data, who),
                state="ok" if whole else "failed",
                clean=grids["clean"],
                pristine=grids["pristine"],
                median=data.medians.get((dataset, who.metric, who.defense)),
                finished=finished | furthest,
                settings=settings,
                furthest=tuple(dict.fromkeys(setting for setting, _ in furthest)),
            )
        )
    known = {who for who, _ in groups}
    missing = [who for name, *rest in data.expected if name == dataset and (who := _Who(*rest)) not in known]
    defended = {who[:2] for who in (*missing, *known) if who.threat != "none"}
    settings = tuple(dict.fromkeys(setting for scorer in scorers for setting in scorer.settings))
    for who in missing:  # every one of its cells failed
        if who.threat == "none" and who[:2] in defended:
            continue
        nothing = np.full((1, count), np.nan)
        finished = {key: _absent("failed", nothing.shape) for key in ran}
        broken = _broken(data, who)
        scorers.append(
            ScorerGrid(
                dataset, *who, broken, "failed", nothing, nothing, None, finished, settings
            )  # in order of fields
        )
    return tuple(scorers)


def _broken(data: RunData, who: _Who) -> str:
    found = {name: data.faults[name] for name in (who.metric, who.source) if name in data.faults}
    return "; ".join(f"{name}: {rules}" for name, rules in found.items())


class _Who(NamedTuple):
    metric: str
    defense: str
    threat: str
    source: str


_SETTING = ["attack", "control", "norm", "eps", "endpoint"]


def _setting(key: tuple[Any, ...], plugin: Mapping[str, str]) -> Setting:
    return Setting(str(key[0]), bool(key[1]), str(key[2]), round(float(key[3]), 9), plugin[str(key[0])])


def _finished(
    values: Mapping[str, Floats],
    where: Ints,
    draw: Ints,
    rows: Ints,
    shape: tuple[int, int],
    partial_is_whole: bool,
) -> Finished:
    """Grids of one finished attack; failed unless it covers every item, or one patch of every triplet."""
    grids = {}
    for name in (*_OF_WINNER, *_COUNTS):
        grids[name] = np.full(shape, np.nan)
        grids[name][draw[where], rows[where]] = values[name][where]
    partial = len(where) < shape[0] * shape[1] and not partial_is_whole
    return _absent("failed", shape) if partial or np.isnan(values["attacked"][where]).any() else Finished("ok", **grids)


def _furthest(
    finished: Mapping[tuple[Setting, str], Finished], settings: Sequence[Setting], clean: Floats
) -> dict[tuple[Setting, str], Finished]:
    """Per image the furthest that was reached at one budget, for each endpoint that two attacks or more have.

    Controls compete where their change lies inside the ball: an attacker has restore and noise for nothing. How far is
    the push in the mean over draws, so that none wins by a lucky draw. Costs are those of all attacks. An attack that
    failed makes it fail: the furthest of the others would be too near.
    """
    attacks = [setting for setting in settings if not setting.control]
    made = {}
    for norm, eps in dict.fromkeys((one.norm, one.eps) for one in attacks):
        controls = [
            finished[one, ""]
            for one in settings
            if one.control and (one.norm, one.eps) == (norm, eps) and finished[one, ""].state == "ok"
        ]
        for endpoint, sign in (("up", 1.0), ("down", -1.0)):
            keys = [(one, endpoint) for one in attacks if (one.norm, one.eps) == (norm, eps)]
            parts = [finished[key] for key in keys if key in finished]
            if len(parts) < 2:
                continue
            furthest = Setting(FURTHEST, False, norm, eps, "")
            if any(part.state != "ok" for part in parts):
                made[furthest, endpoint] = _absent("failed", clean.shape)
                continue
            pushed = [(sign * (part.attacked - clean)).mean(axis=0) for part in parts]
            attacked = ~np.isnan(pushed).all(axis=0)
            for one in controls:
                inside = attacked & inside_ball(norm, eps, one.linf, one.l2).all(axis=0)
                pushed.append(np.where(inside, (sign * (one.attacked - clean)).mean(axis=0), np.nan))
            winner = np.where(np.isnan(pushed), -np.inf, pushed).argmax(axis=0)
            directed = [dataclasses.replace(one, sign=sign + 0 * one.sign, started=0 * one.sign) for one in controls]
            made[furthest, endpoint] = Finished(
                "ok",
                *(_picked([getattr(one, name) for one in (*parts, *directed)], winner) for name in _OF_WINNER),
                *(np.sum([getattr(part, name) for part in parts], axis=0) for name in _COUNTS),
            )
    return made


def inside_ball(norm: str, eps: float, linf: Floats, l2: Floats) -> NDArray[np.bool_]:
    """Whether changes of these sizes lie in a ball, up to rounding; of their shape."""
    return linf <= eps + ROUNDING if norm == "linf" else l2 <= eps * (1 + 10 * ROUNDING) + ROUNDING


def _picked(grids: Sequence[Floats], winner: Ints) -> Floats:
    """For each item, all draws of the grid that is its winner's."""
    picked: Floats = np.take_along_axis(np.stack(grids), winner[None, None, :], axis=0)[0]
    return picked


def _absent(state: State, shape: Sequence[int]) -> Finished:
    empty = np.full(tuple(shape), np.nan)
    return Finished(state, *[empty] * (len(_OF_WINNER) + len(_COUNTS)))
