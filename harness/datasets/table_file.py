"""Reading a table that a person wrote: rows with their line numbers, whatever spreadsheet it came out of."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.files import shown

_SEPARATORS = ",;\t"
_SAID = re.compile(r'"?sep=(?P<separator>.)"?[ \t]*(?=[\r\n])', re.IGNORECASE)
"""The first line by which Excel is told what separates cells."""
_LONGEST = 60
"""Letters of a cell that a message repeats."""
_AS_UTF8 = "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')."


@dataclass(frozen=True)
class TableRow:
    """One row of a table: its cells by the names of their columns, in small letters, stripped."""

    path: Path
    line: int
    cells: Mapping[str, str]
    decimal_comma: bool
    """Whether 3,5 may stand for 3.5, as in files whose cells are separated by something else."""

    @property
    def where(self) -> str:
        """The row as messages name it."""
        return f"{shown(self.path)}, line {self.line}"

    def text(self, column: str) -> str:
        """A cell; empty where there is no such column."""
        return self.cells.get(column, "")

    def number(self, column: str) -> float | None:
        """A cell as a finite number; None where it is empty.

        Raises:
            DataError: It is something else.
        """
        text = self.text(column)
        if not text:
            return None
        try:
            # float() takes 1_0 for 10, as Python writes numbers and nobody else.
            value = math.nan if "_" in text else float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
        comma = " Write decimals with a point." if "," in text else ""
        raise DataError(
            f"{self.where}: {column} {shortened(text)!r} is no number.{comma} Mend it, or take the row out."
        )


@dataclass(frozen=True)
class TableFile:
    """A table: the names of its columns, in small letters, and its rows."""

    columns: Sequence[str]
    rows: Sequence[TableRow]


def read_table(path: Path, known: Collection[str]) -> TableFile:
    """A file of cells with commas, semicolons or tabs between them, whose first line names the columns.

    A byte order mark and empty lines are passed over, and so are columns without a name. Excel's first line ``sep=;``
    says what the separator is.

    Args:
        path: The file.
        known: Names of columns by which the separator is recognised.

    Raises:
        DataError: It cannot be read, is not UTF-8, has no rows, a column twice, or a row of another length.
    """
    text = _decoded(path)
    said = _SAID.match(text)
    text = text[said.end() :] if said else text  # its line stays, empty, so that lines keep their numbers
    separator = said["separator"] if said else _separator(text, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        cure = "Mend the quotes of this line" + (", or shorten its cell." if "limit" in str(error) else ".")
        raise DataError(f"{shown(path)}, line {reader.line_num}: {error}. {cure}") from error
    if len(lines) < 2:
        raise DataError(f"{shown(path)}: no rows below the names of the columns. Add a row for each image.")
    (first, header), *rows = lines
    columns = [name.lower() for name in header]
    for name in filter(None, columns):
        if columns.count(name) > 1:
            raise DataError(f"{shown(path)}, line {first}: the column '{shortened(name)}' stands twice. Take one out.")
    return TableFile(
        [name for name in columns if name],
        [TableRow(path, line, _cells(path, line, columns, row), separator != ",") for line, row in rows],
    )


def shortened(text: str) -> str:
    """A cell as a message repeats it: of a long one, such as a path, the beginning and the end."""
    third = _LONGEST // 3
    return text if len(text) <= _LONGEST else f"{text[: third - 3]}...{text[-2 * third :]}"


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DataError(f"{shown(path)} cannot be read ({reason}). Give the path of a table as file.") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{shown(path)} is UTF-16. {_AS_UTF8}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{shown(path)}, line {line}: a letter that is not UTF-8. {_AS_UTF8}") from error


def _separator(text: str, known: Collection[str]) -> str:
    """The one that gives the first line most of the known names, then most cells."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def fit(separator: str) -> tuple[int, int]:
        names = [name.strip().strip('"').lower() for name in header.split(separator)]
        return sum(name in known for name in names), len(names)

    return max(_SEPARATORS, key=fit)


def _cells(path: Path, line: int, columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if any(row[len(columns) :]) or len(row) < len(columns):
        raise DataError(
            f"{shown(path)}, line {line}: {len(row)} cell{'' if len(row) == 1 else 's'} under {len(columns)} "
            f"column{'' if len(columns) == 1 else 's'}. Mend the row; a text with a separator in it goes between "
            'double quotes ("a, b.png").'
        )
    return {name: cell for name, cell in zip(columns, row, strict=False) if name}
