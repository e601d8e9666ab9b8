"""A few sentences a stranger understands, made from the tables' own figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.report.arrays import OVER_ALL
from harness.report.layout import usual_of
from harness.report.masking import failed_verdicts
from harness.report.ranking import COMPARED, METRIC, lowest_conditions
from harness.report.rows import CONTROL
from harness.report.table import Table
from harness.report.triplets import overall_accuracy
from harness.statistics.directions import TRIPLETS
from harness.statistics.ranking import APART
from harness.suite.cell_names import CLEAN
from harness.wording import attack_text, base_name, budget_text, counted, joined, marked, number, scorer_text

_TOLD = ("attacks", "srocc", "ranks", "shift", "two_afc")
_SCORERS = 3
"""Scorers that get a sentence of their own."""


def sentences(tables: Sequence[Table]) -> list[str]:
    """At most eight sentences: shifts, ranks, which metric, two-alternative choices, failures."""
    out: list[str] = []
    by_name = {name: [table for table in tables if table.name == name] for name in _TOLD}
    for name in ("srocc", "shift"):
        by_name[name] = by_name[name] or by_name["attacks"]
    pairs = [table for table in by_name["shift"] if not set(TRIPLETS.values()) & set(table.frame["direction"])]
    for table in pairs[:1]:
        out += _shifts(table.frame)
    for table in by_name["srocc"][:1]:
        out += _ranks(table)
    for table in by_name["ranks"][:1]:
        out.append(_which_metric(table))
    for table in by_name["two_afc"][:1]:
        out += _choices(table)
    out = out[:7]
    failed = failed_verdicts([table for table in tables if table.name == "verdicts"])
    out = [*out[:6], failed] if failed else out
    out += [f"{len(t.frame)} failure(s): see the list of failures." for t in tables if t.name == "failures"]
    return out


def _shifts(frame: pd.DataFrame) -> list[str]:
    """For each scorer, what raising its scores achieved and the strongest of the other directions."""
    rows = [row for row in _strongest_threat(_at_usual_budget(_attacked(frame))) if pd.notna(row["shift_over_sigma"])]
    names = list(dict.fromkeys(_name(row) for row in sorted(rows, key=lambda row: row["defense"] != "base")))
    told = []
    for name in names[:_SCORERS]:
        own = [row for row in rows if _name(row) == name]
        up = [row for row in own if row["direction"] == "up"]
        other = [row for row in own if row["direction"] != "up"]
        strongest = [max(part, key=lambda row: row["shift_over_sigma"]) for part in (up, other) if part]
        told.append(f"{name} at {_budget(strongest[0])}: " + "; ".join(_moved(row) for row in strongest) + ".")
    if len(names) > _SCORERS:
        more = len(names) - _SCORERS
        told.append(f"{more} more scorer{'s are' if more > 1 else ' is'} in the tables.")
    return told


def _moved(row: dict[str, Any]) -> str:
    """'pgd up moves it 0.57σ, 0.13σ less than the honest control (restoring the reference)'."""
    text = f"{_attack(row)} {row['direction']} moves it {number(row['shift_over_sigma'])}σ"
    excess = row["excess_over_own_control"]
    if pd.isna(excess):
        return text + " (no control was run beside it: add noise and restore)"
    controls = {
        "up": "restoring the reference inside the same budget does",
        "down": "random noise of the same size does",
    }
    control = controls.get(row["direction"], "restoring and random noise do")
    if abs(excess) < 0.005:
        return f"{text}, as far as {control}"
    return f"{text}, {number(abs(excess))}σ {'more' if excess > 0 else 'less'} than {control}"


def _ranks(table: Table) -> list[str]:
    rows = [row for row in _at_usual_budget(_attacked(table.frame)) if pd.notna(row["srocc"])]
    if not rows:
        clean = table.frame.drop_duplicates(["metric", "defense", "threat", "source"]).to_dict("records")
        known = [f"{_name(row)} {number(row['clean_srocc'])}" for row in clean if pd.notna(row["clean_srocc"])]
        return [f"Clean SROCC on {table.dataset}: {', '.join(known[:6])}."] if known else []
    lowest: dict[str, dict[str, Any]] = {}
    for row in _strongest_threat(rows):
        name = _name(row)
        if name not in lowest or row["srocc"] < lowest[name]["srocc"]:
            lowest[name] = row
    ordered = sorted(lowest.values(), key=lambda row: (row["defense"] != "base", -row["srocc"]))
    parts = [
        f"{_name(row)} {number(row['clean_srocc'])} → {number(row['srocc'])} ({_attack(row)} {row['direction']})"
        for row in ordered[: _SCORERS + 1]
    ]
    what = "SROCC with proxy quality" if "proxy" in table.title else "SROCC with opinions"
    more = f"; {len(ordered) - len(parts)} more in the table" if len(ordered) > len(parts) else ""
    return [f"{what} on {table.dataset} at {_budget(ordered[0])}, clean → worst attack: {'; '.join(parts)}{more}."]


def _which_metric(table: Table) -> str:
    """The metrics that none is better than, clean and under attack in the direction that breaks most."""
    rows = _records(table.frame[table.frame["kind"] == METRIC])
    first = rows[0]
    labels = "proxy quality" if first["labels"] == "proxy" else "opinions"
    what = f"Which metric, by SROCC with {labels} on {table.dataset} ({first['images']} images, "
    what += f"{first['clusters']} independent)"
    if first["interval"] != "95 % studentised":
        return f"{what}: too few to tell metrics apart."
    conditions = {name: [row for row in rows if row["condition"] == name] for name in lowest_conditions(rows)}
    attacked = [part for part in conditions.values() if any(pd.notna(row["srocc"]) for row in part)]
    worst = min(attacked, key=lambda part: float(pd.Series([row["srocc"] for row in part]).mean()), default=[])
    every_two = any(row["group"] for row in rows)
    contrasts = _records(table.frame[table.frame["kind"] == COMPARED])

    def told(part: list[dict[Any, Any]]) -> str:
        mine = [row for row in contrasts if row["condition"] == part[0]["condition"]]
        return _unbeaten(part) if every_two else _decided(mine)

    parts = [f"clean, {told([row for row in rows if row['condition'] == CLEAN])}"]
    parts += [f"at {_budget(worst[0])} ({worst[0]['condition']}), {told(worst)}"] if worst else []
    return f"{what}: {'; '.join(parts)}."


def _unbeaten(rows: Sequence[dict[Any, Any]]) -> str:
    """'ssim and psnr are beaten by none of the 5', of metrics under one condition."""
    known = [row for row in rows if pd.notna(row["srocc"])]
    names = [marked(row["name"], row["broken"]) for row in known if not row["beaten_by"]]
    if not known:
        return "no metric has a figure"
    if len(names) == len(known) > 1:
        return f"no two of {joined(names)} can be told apart"
    return f"{joined(names)} {'is' if len(names) == 1 else 'are'} shown to be beaten by none of the {len(known)}"


def _decided(contrasts: Sequence[dict[Any, Any]]) -> str:
    """'of 5 contrasts declared ssim beats psnr', of those that a suite declares under one condition."""
    apart = [row for row in contrasts if row["verdict"] == APART]
    pairs = [(row["name"], row["against"]) if row["difference"] > 0 else (row["against"], row["name"]) for row in apart]
    found = joined([f"{better} beats {worse}" for better, worse in pairs]) if pairs else "none is decided"
    return f"of {counted(len(contrasts), 'contrast')} declared {found}"


def _strongest_threat(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the oblivious ones of defenses that were attacked adaptively, too: what the latter leave holds."""
    adaptive = {(row["metric"], row["defense"]) for row in rows if row["threat"] == "adaptive"}
    return [row for row in rows if row["threat"] != "oblivious" or (row["metric"], row["defense"]) not in adaptive]


def _choices(table: Table) -> list[str]:
    frame = table.frame
    rows = _attacked(frame[overall_accuracy(frame) & ~frame["attacked"].isin(["", CONTROL])])
    lowest: dict[str, dict[str, Any]] = {}
    for row in _strongest_threat(_at_usual_budget(rows)):
        name = _name(row)
        if pd.notna(row["accuracy"]) and (name not in lowest or row["accuracy"] < lowest[name]["accuracy"]):
            lowest[name] = row
    parts = [
        f"{_name(row)} {number(row['clean_accuracy'])} → {number(row['accuracy'])} ({_attack(row)})"
        for row in sorted(lowest.values(), key=lambda row: (row["defense"] != "base", -row["accuracy"]))[: _SCORERS + 1]
    ]
    parts += [f"{len(lowest) - len(parts)} more in the table"] if len(lowest) > len(parts) else []
    if not parts:
        return []
    budget = _budget(next(iter(lowest.values())))
    proxy = "proxy " if "proxy" in table.title else ""
    return [f"2AFC {proxy}accuracy on {table.dataset} at {budget}, clean → worst attack: {'; '.join(parts)}."]


def _attacked(frame: pd.DataFrame) -> list[dict[str, Any]]:
    own = (frame["state"] == "ok") & (frame["threat"] != "transfer")
    kept = frame[own & ~frame["attack"].isin(["", CLEAN, *OVER_ALL]) & (frame["direction"] != CONTROL)]
    return _records(kept)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _at_usual_budget(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    linf = [row for row in rows if row["norm"] == "linf"] or rows
    chosen = usual_of(row["eps"] for row in linf)
    return [row for row in linf if row["eps"] == chosen]


def _name(row: dict[Any, Any]) -> str:
    return marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"])


def _attack(row: dict[str, Any]) -> str:
    return attack_text(base_name(row["attack"]), row["norm"])


def _budget(row: dict[str, Any]) -> str:
    return budget_text(row["norm"], row["eps"])
