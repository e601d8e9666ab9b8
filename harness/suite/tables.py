"""Names of the report's tables and what they show, read from their files without importing them.

A suite is validated without pandas, and a new table is one file: a function under ``@table("name", explains="...")``
in `harness/report/tables/`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "report" / "tables"
PACKAGE = "harness.report.tables"


@dataclass(frozen=True)
class TableSource:
    """A table by name; nothing is imported yet.

    Attributes:
        name: What suites call it.
        explains: What it shows.
        place: Where it stands in a report: smaller numbers come first.
        module: Where its maker is.
    """

    name: str
    explains: str
    place: int
    module: str


@functools.cache
def table_sources() -> tuple[TableSource, ...]:
    """Every table, in the order of a report."""
    found = [source for file in sorted(FOLDER.glob("*.py")) for source in _in_file(file)]
    return tuple(sorted(found, key=lambda source: (source.place, source.name)))


def table_names() -> tuple[str, ...]:
    """What a suite may ask for under ``tables:``, in the order of a report."""
    return tuple(source.name for source in table_sources())


def _in_file(file: Path) -> Iterator[TableSource]:
    for node in ast.parse(file.read_text(encoding="utf-8"), filename=str(file)).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("table"):
                given: dict[str, Any] = {str(k.arg): ast.literal_eval(k.value) for k in decorator.keywords}
                yield TableSource(
                    ast.literal_eval(decorator.args[0]),
                    given["explains"],
                    given.get("place", 1000),
                    f"{PACKAGE}.{file.stem}",
                )
