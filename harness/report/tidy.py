"""Every record of a run as one tidy table, and a dictionary of its columns: what each is, and in which unit."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.engine.record import LABELS, STORED, Column, ColumnType
from harness.report.data import RunData
from harness.wording import for_csv

PARAMETER = "attack."
"""Begins the names of columns that hold a parameter of the attack."""
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


def tidy(data: RunData) -> pd.DataFrame:
    """A row per item, attack, direction, budget, scorer and draw: the run's records with what each row is of.

    Columns of the run first, then those of `harness.engine.record`, the attack's parameters as ``attack.<name>``, and
    what attacks noted. Rows of cells that only verdicts or maps look at are there too; `part` tells them.
    """
    parts = {"suite": data.records, "verdicts": data.verdict_records, "maps": data.map_records}
    frames = [frame.assign(part=name) for name, frame in parts.items() if len(frame)]
    if not frames:
        return pd.DataFrame(columns=[column.name for column in columns_of(data, [])])
    rows = pd.concat(frames, ignore_index=True)
    facts = {name: data.facts_of(name) for name in rows["dataset"].unique()}
    rows["run"] = data.name
    rows["split"] = rows["dataset"].map({name: one.split if one else "" for name, one in facts.items()})
    rows["labels"] = rows["dataset"].map({name: one.labels if one else "none" for name, one in facts.items()})
    rows["higher_is_better"] = ~rows["metric"].isin(list(data.lower_is_better))
    rows["weights"] = list(map(functools.cache(data.weights_of), rows["metric"], rows["defense"]))
    for name, values in _parameters(data, list(rows.columns)).items():
        rows[name] = rows["attack"].map(values.get)
    columns = columns_of(data, list(rows.columns))
    return pd.DataFrame({column.name: _typed(rows[column.name], column) for column in columns})


def columns_of(data: RunData, there: Sequence[str]) -> list[Column]:
    """What is known of the columns of `tidy`.

    Args:
        data: The run.
        there: Names of all that there are.
    """
    known = [*_OF_RUN, *LABELS, *STORED]
    others = [name for name in there if name not in {column.name for column in known}]
    values = {**_noted(data, others), **_parameters(data, [])}
    return [*known, *(_own_column(name, _type_of(values[name].values())) for name in others)]


def _own_column(name: str, kind: ColumnType) -> Column:
    """A column that an attack brings."""
    if name.startswith(PARAMETER):
        return Column(name, kind, "as suites write it", f"parameter `{name.removeprefix(PARAMETER)}` of the attack")
    return Column(name, kind, "the attack's", "noted by the attack; its documentation says more")


def _parameters(data: RunData, there: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Column -> attack's label -> value, of parameters that are not among the columns yet."""
    found: dict[str, dict[str, Any]] = {}
    for label, facts in data.attacks.items():
        for name, value in facts.parameters.items():
            if f"{PARAMETER}{name}" not in there:
                found.setdefault(f"{PARAMETER}{name}", {})[label] = value
    return dict(sorted(found.items()))


def _noted(data: RunData, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Column -> its different values, by themselves as text."""
    frames = [frame for frame in (data.records, data.verdict_records, data.map_records) if len(frame)]
    return {
        name: {str(one): one for frame in frames if name in frame for one in frame[name].dropna().unique()}
        for name in names
    }


def _type_of(values: Any) -> ColumnType:
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
    frame = tidy(data)
    columns = columns_of(data, list(frame.columns))
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
