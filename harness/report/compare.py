"""Two runs side by side: where both measured the same condition on the same images, and by how much they differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.report.data import RunData
from harness.report.grouped import as_texts
from harness.report.pairing import LABEL_COLUMNS, Paired, differences_in, labels_in, pair_labels
from harness.statistics.bootstrap import Floats, cluster_codes, resampled_mean, weightings
from harness.statistics.correlation import OpinionRanks, srocc
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.statistics.levels import holm
from harness.statistics.ranking import difference, verdict
from harness.suite.cell_names import CLEAN
from harness.wording import attack_text, budget_text, counted, joined

CHANGES = ("srocc_change", "quality_change")
KEYS = ["dataset", "metric", "defense", "threat", "source", "attack", "norm", "eps", "endpoint"]
_MATCH = [*KEYS, "item", "draw"]
_Key = tuple[Any, ...]
PARAMETERS = ("what", "label_a", "label_b", "parameter", "value_a", "value_b")
LEFT_OUT = ("side", "what", "reason", "conditions")


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What two runs, or two metrics of one, differ by.

    Attributes:
        a: What A is.
        b: What B is.
        rows: A row for each condition that both have.
        parameters: Of two runs, the parameters in which what was paired differs: ``what`` (dataset, metric, defense,
            attack), ``label_a``, ``label_b``, ``parameter``, ``value_a``, ``value_b``.
        left_out: What one side alone has: ``side``, ``what``, ``reason`` and the number of ``conditions``.
        sentences: It in short.

    >>> nothing = pd.DataFrame()
    >>> Comparison("before", "after", nothing, nothing, nothing)
    <comparison of before and after: 0 rows, 0 left out>
    """

    a: str
    b: str
    rows: pd.DataFrame
    parameters: pd.DataFrame
    left_out: pd.DataFrame
    sentences: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<comparison of {self.a} and {self.b}: {len(self.rows)} rows, {len(self.left_out)} left out>"


def compare_runs(a: RunData, b: RunData, names: tuple[str, str] = ("A", "B"), resamples: int = 1000) -> Comparison:
    """Each condition that both runs have, over the images both have.

    What has another label in B is paired by the plugin behind it, where that is clear (`harness.report.pairing`).

    Args:
        a: The first run.
        b: The second; differences are b minus a.
        names: What they are called.
        resamples: Resamples of clusters that the bias is taken from, shared by both runs.

    Returns:
        In its rows, the keys of the condition as A calls them, ``metric_b``, ``defense_b`` and ``attack_b``,
        ``differs`` (the parameters that do), ``images``, ``images_a`` and ``images_b`` (of which ``images`` are in
        both), ``references``, ``clusters`` (independent units), ``quality_change`` (mean change of attacked quality)
        and ``srocc_a``, ``srocc_b``, ``srocc_change``, each change with ``_low`` and ``_high`` (95 %, paired),
        ``_bias`` (of the bootstrap), ``_p`` (two-sided), ``_p_adjusted`` (Holm, over the conditions in which the runs
        differ at all), ``_smallest_shown`` (true change that would be found at 5 % with a chance of 80 %) and
        ``_verdict``; that of SROCC with ``_papers_rule``. SROCC is nan where opinions are missing. ``broken``: rules
        of its contract that the metric was found to break.
    """
    paired = {
        name: pair_labels(labels_in(a, name), labels_in(b, name), a.uses.get(name, {}), b.uses.get(name, {}))
        for name in LABEL_COLUMNS
    }
    own, other = as_texts(a.records), _as_in_a(as_texts(b.records), paired)
    both = own.merge(other[[*_MATCH, "attacked"]], on=_MATCH, suffixes=("", "_b"), how="inner")
    found = [one for name in LABEL_COLUMNS for one in differences_in(name, paired[name], a, b)]
    parameters = pd.DataFrame(found, columns=list(PARAMETERS))
    counted_in = [dict(records.groupby(KEYS, sort=False)["item"].nunique().items()) for records in (own, other)]
    faults = {**a.faults, **b.faults}
    rows = []
    for found_key, part in both.groupby(KEYS, sort=False):
        key: _Key = tuple(found_key)
        row = {**dict(zip(KEYS, key, strict=True)), **_called_in_b(key, paired), "differs": _differs(key, parameters)}
        row |= {**_row(part, resamples), "images_a": counted_in[0][key], "images_b": counted_in[1][key]}
        broken = {name: faults[name] for name in (row["metric"], row["source"]) if name in faults}
        rows.append({**row, "broken": "; ".join(f"{name}: {rules}" for name, rules in broken.items())})
    for name in CHANGES:
        _judge(rows, name)
    left_out = list(_left_out(own, other, both, paired))
    told = _sentences(rows)
    return Comparison(*names, pd.DataFrame(rows), parameters, pd.DataFrame(left_out, columns=list(LEFT_OUT)), told)


def _as_in_a(records: pd.DataFrame, paired: Mapping[str, Paired]) -> pd.DataFrame:
    """The records of B under the labels that A has for the same; what A has not got keeps its own."""
    renamed: dict[str, Any] = {}
    for dimension, columns in LABEL_COLUMNS.items():
        other = {label_b: label_a for label_a, label_b in paired[dimension].of_a.items() if label_a != label_b}
        if other:
            renamed |= {name: records[name].map(lambda label, other=other: other.get(label, label)) for name in columns}
    return records.assign(**renamed)


def _called_in_b(key: _Key, paired: Mapping[str, Paired]) -> dict[str, str]:
    return {f"{name}_b": paired[name].of_a.get(key[KEYS.index(name)], "") for name in ("metric", "defense", "attack")}


def _differs(key: _Key, parameters: pd.DataFrame) -> str:
    """The parameters of a condition's plugins that differ: "steps 5 | 10"."""
    mine = {(name, key[KEYS.index(column)]) for name, columns in LABEL_COLUMNS.items() for column in columns}
    rows = [row for row in parameters.to_dict("records") if (row["what"], row["label_a"]) in mine]
    return "; ".join(
        f"{'' if row['what'] == 'attack' else row['what'] + ' '}{row['parameter']} {row['value_a']} | {row['value_b']}"
        for row in rows
    )


def _left_out(
    own: pd.DataFrame, other: pd.DataFrame, both: pd.DataFrame, paired: Mapping[str, Paired]
) -> Iterator[dict[str, Any]]:
    """What one side alone has, put together by reason, and images that one side alone has."""
    shared = _conditions(both)
    sides = {"A": (_conditions(own), _conditions(other)), "B": (_conditions(other), _conditions(own))}
    for side, (mine, theirs) in sides.items():
        there = "B" if side == "A" else "A"
        told: dict[tuple[str, str], int] = {}
        known = _Known(theirs, [set(values) for values in zip(*theirs, strict=True)], {key[5:8] for key in theirs})
        for key in (key for key in mine if key not in shared):
            why = _why(key, known, paired, there)
            told[why] = told.get(why, 0) + 1
        yield from ({"side": side, "what": what, "reason": why, "conditions": n} for (what, why), n in told.items())
    for dataset in dict.fromkeys(both["dataset"]):
        of_a, of_b = (set(one.loc[one["dataset"] == dataset, "item"]) for one in (own, other))
        for side, alone in (("A", len(of_a - of_b)), ("B", len(of_b - of_a))):
            if alone:
                what = f"{counted(alone, 'image')} of {dataset}"
                yield {"side": side, "what": what, "reason": f"not in {'B' if side == 'A' else 'A'}", "conditions": 0}


def _conditions(records: pd.DataFrame) -> dict[_Key, None]:
    return dict.fromkeys(records[KEYS].drop_duplicates().itertuples(index=False, name=None))


class _Known(NamedTuple):
    """The conditions of a run, the values that each key takes, and the attacks with their budgets."""

    keys: Collection[_Key]
    values: Sequence[set[Any]]
    budgets: set[_Key]


def _why(key: _Key, theirs: _Known, paired: Mapping[str, Paired], there: str) -> tuple[str, str]:
    """What of a condition the other run has not got, and why."""
    at = dict(zip(KEYS, key, strict=True))
    for name, columns in LABEL_COLUMNS.items():
        for column in columns:
            label = at[column]
            if theirs.values and label in theirs.values[KEYS.index(column)]:
                continue
            what = f"{'data set' if name == 'dataset' else name} {label}"
            if several := paired[name].unclear.get(label):
                return what, f"{there} has {joined(list(several))}, and which of them is meant cannot be told"
            return what, f"not in {there}"
    if key[5:8] not in theirs.budgets:
        norm = " in l2" if at["norm"] == "l2" else ""
        return f"{at['attack']} at {budget_text(at['norm'], at['eps'])}{norm}", f"not in {there}"
    if at["endpoint"] not in theirs.values[KEYS.index("endpoint")]:
        return f"attacks {at['endpoint']}", f"not in {there}"
    if key in theirs.keys:
        return f"{_condition_text(at)} on {at['dataset']}", f"no image in {there} is the same"
    return f"{_condition_text(at)} of {at['metric']} on {at['dataset']}", f"excluded, failed or not finished in {there}"


def _condition_text(at: Mapping[str, Any]) -> str:
    if at["attack"] == CLEAN:
        return CLEAN
    return " ".join((attack_text(at["attack"], at["norm"]), at["endpoint"], budget_text(at["norm"], at["eps"])))


def _sentences(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """How many conditions are told apart."""
    if not rows:
        return ()
    apart = {name: sum(row[f"{name}_verdict"] == "told apart" for row in rows) for name in CHANGES}
    claims = sum(row["clusters"] >= DESCRIPTIVE_BELOW for row in rows)
    told = f"Of {counted(len(rows), 'condition')} in both, {apart['srocc_change']} are told apart by SROCC and "
    told += f"{apart['quality_change']} by mean quality"
    few = len(rows) - claims
    if few == len(rows):
        return (f"{counted(few, 'condition')} in both; too few independent references to tell any apart.",)
    return (f"{told}; {few} have too few independent references to tell." if few else f"{told}.",)


def _judge(rows: list[dict[str, Any]], name: str) -> None:
    """Adjust the p-values of a change for the number of conditions, and say which are told apart."""
    # The same records in both runs are no question that was asked of the data.
    asked = [float("nan") if row.pop(f"{name}_none") else row[f"{name}_p"] for row in rows]
    for row, p in zip(rows, holm(asked).tolist(), strict=True):
        row[f"{name}_p_adjusted"] = row[f"{name}_p"] if np.isnan(p) else p
        row[f"{name}_verdict"] = verdict(row[f"{name}_p_adjusted"], row["clusters"] >= DESCRIPTIVE_BELOW)


def _row(part: pd.DataFrame, resamples: int) -> dict[str, Any]:
    part = part.groupby("item", sort=False).agg(
        {"reference": "first", "cluster": "first", "opinion": "first", "attacked": "mean", "attacked_b": "mean"}
    )
    one, other = part["attacked"].to_numpy(float), part["attacked_b"].to_numpy(float)
    opinion = part["opinion"].to_numpy(float)
    codes, clusters = cluster_codes(part["cluster"].tolist())
    m = weightings(codes, resamples)
    row: dict[str, Any] = {
        "images": len(part),
        "references": part["reference"].nunique(),
        "clusters": clusters,
        **_change("quality_change", float(np.mean(other - one)), resampled_mean(other - one, codes, m), clusters),
        "srocc_a": float("nan"),
        "srocc_b": float("nan"),
        **_change("srocc_change", float("nan"), np.full(len(m), np.nan), clusters),
    }
    if not np.isnan(opinion).any():
        ranks = OpinionRanks(opinion, codes, m)
        first, second = srocc(one, opinion), srocc(other, opinion)
        changes = ranks.srocc(other) - ranks.srocc(one)
        row |= {"srocc_a": first, "srocc_b": second} | _change("srocc_change", second - first, changes, clusters)
    return row


def _change(name: str, value: float, spread: Floats, clusters: int) -> dict[str, Any]:
    found = difference(value, spread, clusters)
    row = {name: value, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_bias": found.bias}
    row |= {f"{name}_p": found.p, f"{name}_smallest_shown": found.detectable, f"{name}_none": found.error == 0}
    return row | ({"srocc_change_papers_rule": found.by_paper} if name == "srocc_change" else {})
