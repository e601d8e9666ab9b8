"""Two runs side by side: where both measured the same condition on the same images, and by how much they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.report.data import RunData
from harness.statistics.bootstrap import Floats, cluster_codes, resampled_mean, weightings
from harness.statistics.correlation import OpinionRanks, srocc
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.statistics.levels import holm
from harness.statistics.ranking import difference, verdict

CHANGES = ("srocc_change", "quality_change")
KEYS = ["dataset", "metric", "defense", "threat", "source", "attack", "norm", "eps", "endpoint"]
_MATCH = [*KEYS, "item", "draw"]


def compare(a: RunData, b: RunData, resamples: int = 1000) -> pd.DataFrame:
    """One row for each condition that both runs have, over the images both have.

    Args:
        a: The first run.
        b: The second; differences are b minus a.
        resamples: Resamples of clusters that the bias is taken from, shared by both runs.

    Returns:
        The keys of the condition, ``images``, ``references``, ``clusters`` (independent units), ``quality_change``
        (mean change of attacked quality) and ``srocc_a``, ``srocc_b``, ``srocc_change``, each change with ``_low`` and
        ``_high`` (95 %, paired), ``_bias`` (of the bootstrap), ``_p`` (two-sided), ``_p_adjusted`` (Holm, over the
        conditions in which the runs differ at all), ``_smallest_shown`` (true change that would be found at 5 % with a
        chance of 80 %) and ``_verdict``; that of SROCC with ``_papers_rule``. SROCC is nan where opinions are missing.
        ``broken``: rules of its contract that the metric was found to break.
    """
    both = a.records.merge(b.records[[*_MATCH, "attacked"]], on=_MATCH, suffixes=("", "_b"), how="inner")
    faults = {**a.faults, **b.faults}
    rows = []
    for key, part in both.groupby(KEYS, sort=False):
        row = {**dict(zip(KEYS, key, strict=True)), **_row(part, resamples)}
        broken = {name: faults[name] for name in (row["metric"], row["source"]) if name in faults}
        rows.append({**row, "broken": "; ".join(f"{name}: {rules}" for name, rules in broken.items())})
    for name in CHANGES:
        _judge(rows, name)
    return pd.DataFrame(rows)


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
