"""The one schema of a record: a row per item and draw of a cell.

Add a column here, and compute it where a block is scored (`harness.engine.score_batch`) or, for a label, where
records are collected (`harness.report.collect`). Store, report and docs/concepts.md take theirs from here. Records
that were stored before a column was added lack it, and are refused as damaged: raise `PROTOCOL` with it, or make it
`optional`, where what is not known does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["text", "real", "whole", "truth"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its name.
        type: "text", "real" (64-bit float, null where there is none), "whole" (64-bit) or "truth".
        unit: Unit or range, in words; empty where there is none.
        meaning: What it is.
        optional: Whether records without it are read, as null.
    """

    name: str
    type: ColumnType
    unit: str
    meaning: str
    optional: bool = False


STORED: Sequence[Column] = (
    Column("item", "text", "", "what was scored; a triplet is one sample with the items `id#p0` and `id#p1`"),
    Column("sample", "text", "", "the entry of the data set; of a pair the same as `item`"),
    Column("patch", "text", "", "`p0` or `p1` of a triplet; empty for pairs"),
    Column("reference", "text", "", "the reference image"),
    Column("cluster", "text", "", "the independent unit that intervals take as a whole; mostly the reference"),
    Column("group", "text", "", "distortion type or subset"),
    Column("level", "real", "1 = weakest", "strength of the distortion within its reference and group"),
    Column("opinion", "real", "[0, 1]", "opinion score, higher is better"),
    Column("judge", "real", "[0, 1]", "share of people who preferred p1"),
    Column("sign", "whole", "-1, 0, +1", "where quality was pushed; 0 for clean cells and controls"),
    Column("attack", "text", "", "registered name of the attack, `clean` for none; its label once collected"),
    Column("norm", "text", "", "`linf` or `l2`; empty for clean cells"),
    Column("eps", "real", "images in [0, 1]", "radius of the budget"),
    Column(
        "source",
        "text",
        "",
        "the attacked scorer, with `@` training and `+` purifiers; its label once collected",
    ),
    Column("scorer", "text", "", "the judging scorer, likewise"),
    Column("draw", "whole", "from 0", "number of the scorer's draw, where a defense is randomised"),
    Column("clean", "real", "the metric's", "quality (higher is better) of the distorted image"),
    Column("pristine", "real", "the metric's", "quality of the reference against itself; in clean cells only"),
    Column("attacked", "real", "the metric's", "quality of the attacked image"),
    Column("attacked_8bit", "real", "the metric's", "quality of the attacked image rounded to 8 bit"),
    Column("linf", "real", "images in [0, 1]", "largest change of a value"),
    Column("l2", "real", "images in [0, 1]", "length of the whole change"),
    Column("forwards", "whole", "evaluations", "forward passes of the attack for this item"),
    Column("backwards", "whole", "evaluations", "backward passes, likewise"),
    Column("queries", "whole", "evaluations", "queries of a black-box attack, likewise"),
    Column("zero_gradients", "whole", "evaluations", "backward passes whose gradient was zero or not finite"),
    Column(
        "constant_gradients",
        "whole",
        "evaluations",
        "backward passes that gave the last gradient again, at another image (no fault in a linear score)",
    ),
    Column("seconds", "real", "s", "time of the attack divided by the items of its batch"),
    Column("batch", "whole", "images", "how many were attacked at once: these, and whatever was in flight with them"),
    Column("torch", "text", "", "version of torch that computed the row"),
    Column("device", "text", "", "where: `cpu`, or the type of accelerator with its name, `cuda NVIDIA H200`"),
    Column(
        "identical",
        "truth",
        "",
        "whether the distorted image equals its reference in every pixel; null in records of before this was noted",
        optional=True,
    ),
    Column("status", "text", "", "`ok`; `start`: nothing beat the unattacked image; `floor`: restoring did more"),
)
"""Columns of the record files, in their order; an attack's notes follow them, sorted by name."""

LABELS: Sequence[Column] = (
    Column("dataset", "text", "", "label of the data set"),
    Column("metric", "text", "", "label of the judging metric"),
    Column("defense", "text", "", "label of the defense; `base` for none"),
    Column("threat", "text", "", "`none`, `oblivious`, `adaptive` or `transfer`"),
    Column("plugin", "text", "", "registered name of the attack, whatever its label; `clean` for none"),
    Column("control", "truth", "", "whether the attack is a control"),
    Column("endpoint", "text", "", "what was aimed at: `up`, `down`, `error`; empty for clean cells and controls"),
)
"""Columns that are the cell's own: a run folder keeps them once, in its suite, and collecting records adds them."""

SCHEMA = 2
"""Of the record files; raised where an older version could not read them. 1 was a file for each cell and slice."""
NAMES = tuple(column.name for column in STORED)
"""Names of the columns of the record files."""
EVERY_NAME = tuple(column.name for column in (*LABELS, *STORED))
"""Names of the columns of collected records, which no note of an attack may take."""


def row_ids(table: pa.Table) -> str:
    """Digest of which rows records have, in their order: item and draw of each, 16 hex digits."""
    rows = zip(table["item"].to_pylist(), table["draw"].to_pylist(), strict=True)
    return hashlib.sha256("\n".join(f"{item}\t{draw}" for item, draw in rows).encode()).hexdigest()[:16]


def as_table() -> Iterator[str]:
    """The columns as lines of a Markdown table, for docs/concepts.md."""
    yield "| column | type | unit or range | what it is |"
    yield "|---|---|---|---|"
    for column in (*STORED, *LABELS):
        yield f"| `{column.name}` | {column.type} | {column.unit} | {column.meaning} |"
