"""The table of how long weights were trained: the training minutes of the paper's Table 3."""

from __future__ import annotations

import pandas as pd

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout
from harness.report.table import Table, table
from harness.suite.layout_names import NO_PURIFIER, NO_TRAINING
from harness.wording import MISSING, number, trained_name

_HEADER = ("metric", "minutes", "device", "what was done")


@table(
    "training",
    place=90,
    default=False,
    explains="Minutes that the weights of each metric were trained, and on what, from the manifest beside them "
    "(statistic `training_minutes` in layouts); a dash, with the reason, where nobody noted them.",
)
def training_table(data: RunData, one: Evaluated) -> Table | None:
    """A row for each metric's own weights and for each training of them that the suite has."""
    rows, lines = [], []
    for (metric, training), time in data.training_times.items():
        at = {"dataset": one.name, "metric": metric, "training": training, "defense": NO_PURIFIER}
        told = {"statistic": "training_minutes", "value": time.minutes, "work": time.work, "device": time.device}
        rows.append({**at, **told, "state": "missing" if time.why else "ok", "why": time.why})
        name = trained_name(metric, "" if training == NO_TRAINING else training)
        found = (MISSING, MISSING, time.why) if time.why else (number(time.minutes, 1), time.device, time.work)
        lines.append((name, *found))
    layout = Layout(_HEADER, tuple(lines), 1)
    return Table(
        "training",
        one.name,
        f"{one.name}: Training minutes",
        "Of the training that made the weights, validations in between included. Weights that began as others were "
        "trained on from these. Minutes of different devices do not compare.",
        pd.DataFrame(rows),
        layout,
        layout,
        "Protocol: as the manifests beside the weight files have them; not measured in this run.",
    )
