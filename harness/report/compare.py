"""Two runs side by side: where both measured the same condition on the same images, and by how much they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.report.data import RunData
from harness.statistics.bootstrap import (
    cluster_codes,
    cluster_multiplicities,
    percentile_interval,
    resampled_mean,
    sample_weights,
)
from harness.statistics.correlation import srocc, weighted_srocc

KEYS = ["dataset", "metric", "defense", "threat", "source", "attack", "norm", "eps", "endpoint"]
_MATCH = [*KEYS, "item", "draw"]


def compare(a: RunData, b: RunData, resamples: int = 1000) -> pd.DataFrame:
    """One row for each condition that both runs have, over the images both have.

    Args:
        a: The first run.
        b: The second; differences are b minus a.
        resamples: Resamples of references, shared by both runs (paired bootstrap).

    Returns:
        The keys of the condition, ``images``, ``references``, ``quality_change`` (mean change of attacked quality) and
        ``srocc_a``, ``srocc_b``, ``srocc_change``, each change with ``_low`` and ``_high`` (95 %). SROCC is nan
        where opinions are missing. ``broken``: rules of its contract that the metric was found to break.
    """
    both = a.records.merge(b.records[[*_MATCH, "attacked"]], on=_MATCH, suffixes=("", "_b"), how="inner")
    faults = {**a.faults, **b.faults}
    rows = []
    for key, part in both.groupby(KEYS, sort=False):
        row = {**dict(zip(KEYS, key, strict=True)), **_row(part, resamples)}
        broken = {name: faults[name] for name in (row["metric"], row["source"]) if name in faults}
        rows.append({**row, "broken": "; ".join(f"{name}: {rules}" for name, rules in broken.items())})
    return pd.DataFrame(rows)


def _row(part: pd.DataFrame, resamples: int) -> dict[str, Any]:
    part = part.groupby("item", sort=False).agg(
        {"cluster": "first", "opinion": "first", "attacked": "mean", "attacked_b": "mean"}
    )
    one, other = part["attacked"].to_numpy(float), part["attacked_b"].to_numpy(float)
    opinion = part["opinion"].to_numpy(float)
    codes, clusters = cluster_codes(part["cluster"].tolist())
    multiplicities = cluster_multiplicities(codes, resamples)
    weights = sample_weights(multiplicities, codes)
    quality = percentile_interval(resampled_mean(other - one, codes, multiplicities), clusters)
    row: dict[str, Any] = {
        "images": len(part),
        "references": clusters,
        "quality_change": float(np.mean(other - one)),
        "quality_change_low": quality.low,
        "quality_change_high": quality.high,
        "srocc_a": float("nan"),
        "srocc_b": float("nan"),
        "srocc_change": float("nan"),
        "srocc_change_low": float("nan"),
        "srocc_change_high": float("nan"),
    }
    if not np.isnan(opinion).any():
        changes = weighted_srocc(other, opinion, weights) - weighted_srocc(one, opinion, weights)
        change = percentile_interval(changes, clusters)
        first, second = srocc(one, opinion), srocc(other, opinion)
        row |= {"srocc_a": first, "srocc_b": second, "srocc_change": second - first}
        row |= {"srocc_change_low": change.low, "srocc_change_high": change.high}
    return row
