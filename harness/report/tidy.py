"""Every record of a run as one tidy table, and a dictionary of its columns: what each is, and in which unit."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.engine.record import LABELS, STORED, Column, ColumnType
from harness.report.attack_parameters import PREFIX, with_attack_parameters
from harness.report.data import RunData
from harness.report.grouped import as_texts
from harness.wording import for_csv

ExportForm = Literal["parquet", "csv"]
_ARROW: Mapping[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "real": pa.float64(),
    "whole": pa.int64(),
    "truth": pa.bool_(),
}
_PANDAS: Mapping[ColumnType, str] = {"text": "object", "real": "float64", "whole": "Int64", "truth": "boolean"}
_OF_RUN: Sequence[Column] = (
    Column("run", "text", "", "name of the suite"),
    Column("part", "text", "", "`suite`: a row of its tables; `verdicts`, `maps`: of cells added for these alone"),
    Column("split", "text", "", "split of the data set"),
    Column("labels", "text", "", "whose opinions: `human`, `proxy` (of other metrics, no people's) or `none`"),
    Column("higher_is_better", "truth", "", "of the metric's own scores; qualities here are higher-is-better always"),
    Column("weights", "text", "", "the metric, and the beginning of the sha256 of its weights; empty without any"),
)


def _rows(data: RunData) -> pd.DataFrame:
    """A row per item, attack, direction, budget, scorer and draw: the run's records with what each row is of.

    Columns of the run first, then those of `harness.engine.record`, the attack's parameters as ``attack.<name>``, and
    what attacks noted. Rows of cells that only verdicts or maps look at are there too; `part` tells them.
    """
    parts = {"suite": data.records, "verdicts": data.verdict_records, "maps": data.map_records}
    frames = [as_texts(frame).assign(part=name) for name, frame in parts.items() if len(frame)]
    if not frames:
        return pd.DataFrame(columns=[column.name for column in (*_OF_RUN, *LABELS, *STORED)])
    rows = with_attack_parameters(pd.concat(frames, ignore_index=True), data.attacks)
    facts = {name: data.facts_of(name) for name in rows["dataset"].unique()}
    return rows.assign(
        run=data.name,
        split=rows["dataset"].map({name: one.split if one else "" for name, one in facts.items()}),
        labels=rows["dataset"].map({name: one.labels if one else "none" for name, one in facts.items()}),
        higher_is_better=~rows["metric"].isin(list(data.lower_is_better)),
        weights=list(map(functools.cache(data.weights_of), rows["metric"], rows["defense"])),
    )


def _columns(data: RunData, rows: pd.DataFrame) -> list[Column]:
    """What is known of the columns: of the run and of its records first, then what attacks bring."""
    known = [*_OF_RUN, *LABELS, *STORED]
    others = [name for name in rows.columns if name not in {column.name for column in known}]
    return [*known, *(_own_column(data, str(name), rows[name]) for name in sorted(others))]


def _own_column(data: RunData, name: str, values: pd.Series[Any]) -> Column:
    """A column that an attack brings: a parameter of it, or what it noted."""
    parameter = name.removeprefix(PREFIX)
    if parameter == name:
        about = "noted by the attack; its documentation says more"
        return Column(name, _type_of(values.dropna()), "the attack's", about)
    given = [one.parameters[parameter] for one in data.attacks.values() if parameter in one.parameters]
    kind = _type_of(given or values.dropna())
    return Column(name, kind, "as suites write it", f"parameter `{parameter}` of the attack")


def _type_of(values: Iterable[Any]) -> ColumnType:
    """The one type that all values have; numbers of two kinds are real, and anything mixed is text."""
    found = [value.item() if hasattr(value, "item") else value for value in values if value is not None]
    if all(isinstance(value, bool) for value in found) and found:
        return "truth"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in found) and found:
        return "whole"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found) and found:
        return "real"
    return "text"


def _typed(values: pd.Series[Any], column: Column) -> pd.Series[Any]:
    """A column in its type; in one of text lists and mappings are JSON."""
    if column.type == "text":
        return pd.Series([_as_text(value) for value in values], values.index, dtype=object)
    return pd.Series(values, dtype=_PANDAS[column.type])


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return None
    return json.dumps(value, default=str) if isinstance(value, list | tuple | dict) else str(value)


def dictionary(columns: Sequence[Column]) -> pd.DataFrame:
    """The columns ``column``, ``type``, ``unit`` and ``meaning``, a row for each column."""
    rows = [(column.name, column.type, column.unit, column.meaning) for column in columns]
    return pd.DataFrame(rows, columns=["column", "type", "unit", "meaning"])


class Exported(NamedTuple):
    """A run's records for other programs."""

    table: bytes
    """The file."""
    dictionary: bytes
    """What its columns are, as CSV."""
    rows: int


def exported(data: RunData, form: ExportForm) -> Exported:
    """The tidy table as a file, with its dictionary.

    Numbers are exact: what is read back is what was recorded. A Parquet file has unit and meaning in the metadata of
    its columns too.
    """
    rows = _rows(data)
    columns = _columns(data, rows)
    frame = pd.DataFrame({column.name: _typed(rows[column.name], column) for column in columns})
    table = _parquet(frame, columns, data) if form == "parquet" else _exact_csv(frame)
    return Exported(table, _exact_csv(dictionary(columns)), len(frame))


def _parquet(frame: pd.DataFrame, columns: Sequence[Column], data: RunData) -> bytes:
    fields = [
        pa.field(column.name, _ARROW[column.type], metadata={"unit": column.unit, "meaning": column.meaning})
        for column in columns
    ]
    protocol = {"run": data.name, "seed": str(data.seed), "limit": str(data.limit), "slice": str(data.slice_size)}
    schema = pa.schema(fields, metadata=protocol)
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(protocol)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _exact_csv(frame: pd.DataFrame) -> bytes:
    safe = {str(name): list(_safe(column)) for name, column in frame.items() if column.dtype == object}
    whole = frame.assign(**{name: pd.Series(values, frame.index, dtype=object) for name, values in safe.items()})
    return str(whole.rename(columns=for_csv).to_csv(index=False, lineterminator="\n")).encode()


def _safe(column: pd.Series[Any]) -> Iterator[Any]:
    for value in column:
        yield for_csv(value) if isinstance(value, str) else value
