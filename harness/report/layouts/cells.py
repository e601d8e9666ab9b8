"""The figures of a run's tables as cells: each with what it is the figure of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.report.build import build_tables
from harness.report.data import RunData
from harness.report.over_splits import DEVIATION
from harness.report.ranking import COMPARED
from harness.report.rows import CONTROL, Row
from harness.report.table import Table
from harness.suite.cell_names import CLEAN
from harness.suite.layout_names import ALL_BUDGETS, DIMENSIONS, NO_ATTACK, NO_PURIFIER, NO_TRAINING, WHOLE_SET
from harness.suite.tables import table_sources
from harness.wording import NO_DEFENSE, budget_text, scorer_text, trained_name

__all__ = ["DIMENSIONS", "STATISTICS", "Cell", "cells_of", "tables_of"]

NOT_RUN = "not run"
"""Why a cell that the suite asks for is missing."""
NO_LIMIT = "none"
"""The fact `limit` of a cell of a run that has none."""
AS_IN_PAPER = "a dash as in the paper (paper_dashes)"


@dataclass(frozen=True)
class Cell:
    """One figure with what it is the figure of."""

    at: Mapping[str, str]
    """Dimension -> value as suites write it; dimensions that do not apply are left out."""
    value: float = math.nan
    """Not a number where the state is not "ok", or where `text` says what there is."""
    low: float = math.nan
    """Lower end of the 95 % interval."""
    high: float = math.nan
    deviation: float = math.nan
    """Standard deviation over splits, or between draws of a randomised defense."""
    state: str = "ok"
    """ok, failed or missing."""
    why: str = ""
    """Of a failed or missing cell."""
    protocol: str = ""
    """Protocol line of the table it is from."""
    run: str = ""
    """The run folder, or "published"."""
    text: str = ""
    """What is printed of what is no number."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What has to be the same of cells that stand in one table: labels, images, seed, limit, versions, weights, ..."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Dimension -> the registered name that stands behind a label, with the parameters that are no defaults."""


@dataclass(frozen=True)
class _Source:
    """Where a statistic stands: a column of a table, and the column of its clean figure."""

    table: str
    column: str
    clean: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value of its rows."""
    integrated: bool = False
    """Whether it is one figure of all budgets, the same in the row of each."""


STATISTICS: Mapping[str, _Source] = {
    "srocc": _Source("srocc", "srocc", "clean_srocc"),
    "krocc": _Source("agreement", "krocc"),
    "plcc": _Source("agreement", "plcc"),
    "plcc_logistic4": _Source("agreement", "plcc4"),
    "plcc_logistic5": _Source("agreement", "plcc5"),
    "rmse": _Source("agreement", "rmse4"),
    "rmse_logistic5": _Source("agreement", "rmse5"),
    "accuracy": _Source("two_afc", "accuracy", "clean_accuracy", {"kind": "hard"}),
    "accuracy_soft": _Source("two_afc", "accuracy", "clean_accuracy", {"kind": "soft"}),
    "pair_accuracy": _Source("pair_accuracy", "accuracy", "clean_accuracy"),
    "shift": _Source("shift", "shift_over_sigma"),
    "milliseconds": _Source("shift", "milliseconds"),
    "forwards": _Source("shift", "forwards"),
    "queries": _Source("shift", "queries"),
    "r": _Source("ir_score", "r"),
    "ir_score": _Source("ir_score", "mean_r", integrated=True),
    "ir_relative": _Source("ir_score", "relative_area", integrated=True),
    "delta_srocc": _Source("ranks", "difference", where={"kind": COMPARED}),
}
"""Statistics of the report's own tables; a table with the columns `statistic` and `value` brings its own."""
_PATCHES = {"both": "pair", "worse one up": "worse_up", "better one down": "better_down"}
"""What a table says of the images that were attacked -> the direction; others keep their words, with underscores."""


def tables_of(data: RunData, statistics: Sequence[str] | None = None) -> list[Table]:
    """The tables that some statistics stand in, whether or not the suite asks for them; None for every statistic.

    Statistics that no table of `STATISTICS` has are looked for in all that the suite asks for.
    """
    wanted = list(STATISTICS) if statistics is None else statistics
    known = {STATISTICS[name].table for name in wanted if name in STATISTICS}
    own = {source.name for source in table_sources() if source.default} if not data.tables else set(data.tables)
    if statistics is None or set(wanted) - set(STATISTICS):
        known |= own
    names = [source.name for source in table_sources() if source.name in known]
    return build_tables(dataclasses.replace(data, tables=names)) if names else []


def cells_of(data: RunData, run: str = "", statistics: Sequence[str] | None = None) -> list[Cell]:
    """The cells of a run, in the order of its tables.

    Args:
        data: The run.
        run: What its cells say they are from.
        statistics: Those wanted; None for all.
    """
    wanted = list(STATISTICS) if statistics is None else list(statistics)
    found: dict[tuple[tuple[str, str], ...], Cell] = {}
    for table in tables_of(data, statistics):
        for cell in (*_known(data, table, wanted), *_brought(table, statistics)):
            facts, made = _facts(data, table, cell), _made(data, cell)
            whole = dataclasses.replace(cell, protocol=table.protocol, run=run, facts=facts, made=made)
            found.setdefault(tuple(sorted(cell.at.items())), whole)
    return list(found.values())


def _known(data: RunData, table: Table, wanted: Sequence[str]) -> Iterator[Cell]:
    """The cells of a table that the report comes with."""
    for statistic in wanted:
        source = STATISTICS.get(statistic)
        if source is None or source.table != table.name:
            continue
        for row in table.frame.to_dict("records"):
            if all(str(row[column]) == value for column, value in source.where.items()):
                yield from _of_row(data, {str(key): value for key, value in row.items()}, statistic, source)


def _of_row(data: RunData, row: Row, statistic: str, source: _Source) -> Iterator[Cell]:
    at = _scorer(data, row) | {"statistic": statistic, "subset": str(row.get("subset") or WHOLE_SET)}
    attack = str(row["attack"])
    if source.clean:
        unmeasured = math.isnan(row.get(source.clean, math.nan))
        clean = {"why": _why(data, row)} if unmeasured else {"state": "ok"}
        yield _cell(at | {"attack": NO_ATTACK}, row | clean, source.clean)
    if attack in ("", CLEAN):
        if not source.clean or attack == CLEAN:
            yield from _contrasted(data, at | {"attack": NO_ATTACK}, row, statistic, source)
        return
    at |= {"attack": attack, "direction": _direction(row), "norm": str(row["norm"])}
    at["budget"] = ALL_BUDGETS if source.integrated else budget_text(row["norm"], row["eps"])
    dash = data.ir_score.paper_dashes and source.table == "ir_score" and row["defense"] == NO_DEFENSE
    state = {"state": "missing", "why": AS_IN_PAPER} if dash else {"why": _why(data, row)}
    yield from _contrasted(data, at, row | state, statistic, source)


def _contrasted(data: RunData, at: Mapping[str, str], row: Row, statistic: str, source: _Source) -> Iterator[Cell]:
    """The cell of a row; of a contrast both ways round, since a table may have either metric in its rows."""
    cell = _cell(at, row, source.column)
    if statistic != "delta_srocc":
        yield cell
        return
    names = {scorer: _named(data, scorer) for scorer in (str(row["name"]), str(row["against"]))}
    one, other = names
    at = {name: value for name, value in at.items() if name != "threat"}  # of two scorers, each with its own
    yield dataclasses.replace(cell, at={**at, **names[one], "against": other})
    turned = {**at, **names[other], "against": one}
    yield dataclasses.replace(cell, at=turned, value=-cell.value, low=-cell.high, high=-cell.low)


def _named(data: RunData, name: str) -> dict[str, str]:
    """Metric, training and defense of a scorer that a contrast names: ``LABEL`` or ``LABEL@DEFENSE``."""
    metric, _, defense = name.rpartition("@")
    if not metric or defense not in {who[2] for who in data.expected}:
        metric, defense = name, NO_DEFENSE
    return _defended(data, metric, defense)


def _scorer(data: RunData, row: Row) -> dict[str, str]:
    """Whose figure a row is."""
    at = {"dataset": str(row["dataset"]), **_defended(data, str(row["metric"]), str(row["defense"]))}
    threat = str(row["threat"])
    return at | {"threat": threat} | ({"against": str(row["source"])} if threat == "transfer" else {})


def _defended(data: RunData, metric: str, defense: str) -> dict[str, str]:
    """Metric, training and purifiers, and what the weights were trained on where that is known."""
    none = NO_PURIFIER if defense in (NO_DEFENSE, "") else defense
    training, purifier = data.trainings.get(defense, (NO_TRAINING, none))
    name = metric if training == NO_TRAINING else trained_name(metric, training)
    known = {"trained_on": data.trained_on[name]} if name in data.trained_on else {}
    return {"metric": metric, "training": training, "defense": purifier, **known}


def _direction(row: Row) -> str:
    told = str(row.get("attacked") or row["direction"])
    if told == CONTROL:
        return CONTROL
    return _PATCHES.get(told, told.replace(" ", "_"))


def _cell(at: Mapping[str, str], row: Row, column: str) -> Cell:
    at = {name: at[name] for name in DIMENSIONS if at.get(name)}
    state, value = str(row["state"]), float(row.get(column, math.nan))
    if state == "ok" and not math.isfinite(value):
        return Cell(at, state="missing", why="has no value here")
    if state != "ok":
        return Cell(at, state=state, why=str(row.get("why") or (NOT_RUN if state == "missing" else state)))
    spread = f"{column}{DEVIATION}" if f"{column}{DEVIATION}" in row else f"{column}_draw_sd"
    low, high, deviation = (float(row.get(name, math.nan)) for name in (f"{column}_low", f"{column}_high", spread))
    return Cell(at, value, low, high, deviation)


def _why(data: RunData, row: Row) -> str:
    """What went wrong with a failed row, from the failures of its cells."""
    if row["state"] != "failed":
        return ""
    scorer = scorer_text(row["metric"], row["defense"], row["threat"], row["source"])
    start = f"{row['dataset']} / {scorer} / "
    budget = f"eps {budget_text(row['norm'], row['eps'])}" if row["norm"] else CLEAN
    own = [one for one in data.failures if one.cell.startswith(start)]
    exact = [one for one in own if one.cell.startswith(f"{start}{row['attack']} ") and one.cell.endswith(budget)]
    messages = list(dict.fromkeys(one.message for one in exact or own))
    # Tables call a scorer failed that has no records at all, whatever the reason.
    return f"failed: {messages[0]}" if messages else NOT_RUN


def _brought(table: Table, statistics: Sequence[str] | None) -> Iterator[Cell]:
    """The cells of a table that names statistics itself: columns `statistic`, `value`, and dimensions."""
    if not {"statistic", "value"} <= set(table.frame.columns):
        return
    for row in table.frame.to_dict("records"):
        if statistics is not None and row["statistic"] not in statistics:
            continue
        at = {name: str(row[name]) for name in DIMENSIONS if _said(row.get(name))}
        value, state = float(row["value"]), str(row.get("state") or "ok")
        low, high, deviation = (float(row.get(name, math.nan)) for name in ("low", "high", "deviation"))
        why = str(row.get("why") or "") if _said(row.get("why")) else ""
        if state == "ok" and not math.isfinite(value):
            state, why = "missing", why or "has no value here"
        yield Cell(at, value, low, high, deviation, state, why)


def _said(value: Any) -> bool:
    """Whether a column says something in a row."""
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _facts(data: RunData, table: Table, cell: Cell) -> dict[str, str]:
    found = {"seed": str(data.seed), "limit": str(data.limit or NO_LIMIT)}
    found |= {f"version of {name}": version for name, version in data.versions.items() if name != "python"}
    found |= _settings(data, cell) | _weights(data, cell)
    facts = data.facts_of(cell.at.get("dataset", ""))
    if facts is None:
        return found
    found |= {"labels": facts.labels, "split": facts.split}
    counts = [] if "images" not in table.frame else list(table.frame["images"].dropna())
    return found | ({"images": str(int(max(counts)))} if counts else {})


def _settings(data: RunData, cell: Cell) -> dict[str, str]:
    """The settings of a suite that a cell depends on, and other cells may not."""
    statistic, attack = cell.at.get("statistic", ""), cell.at.get("attack", NO_ATTACK)
    found = {}
    if attack != NO_ATTACK:
        found["precision"] = data.precision
        facts = data.facts_of(cell.at.get("dataset", ""))
        if facts is not None and facts.kind == "triplets":
            found["which"] = data.which
    if statistic in STATISTICS and STATISTICS[statistic].table == "ir_score":
        asked = dataclasses.asdict(data.ir_score)
        found["ir_score"] = ", ".join(f"{name} {value}" for name, value in asked.items() if name != "paper_dashes")
    if statistic == "pair_accuracy":
        found["margin"] = f"{data.margin:g}"
    return found


def _weights(data: RunData, cell: Cell) -> dict[str, str]:
    """Whose figure a cell is -> its weights; metrics may have others for each data set, and for what trained them."""
    metric, training = cell.at.get("metric", ""), cell.at.get("training", NO_TRAINING)
    name = metric if training == NO_TRAINING else trained_name(metric, training)
    on, by = cell.at.get("dataset", ""), cell.at.get("trained_on", "")
    key = f"weights of {name}{f' trained on {by}' if by else ''}{f' for {on}' if on else ''}"
    found = {key: data.weights[name]} if name in data.weights else {}
    purifiers = cell.at.get("defense", "").split("+")
    return found | {f"weights of {one}": text for (_, one), text in data.networks.items() if one in purifiers}


def _made(data: RunData, cell: Cell) -> dict[str, str]:
    return {name: data.made[name][cell.at[name]] for name in data.made if cell.at.get(name) in data.made[name]}
