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

from harness.plugins.decorators import decorators
from harness.plugins.model import PluginError

FOLDER = Path(__file__).parents[1] / "report" / "tables"
PACKAGE = "harness.report.tables"
LAST = 1000
"""Place of a table that says none."""


@dataclass(frozen=True)
class TableSource:
    """A table by name; nothing is imported yet.

    Attributes:
        name: What suites call it.
        explains: What it shows.
        place: Where it stands in a report: smaller numbers come first.
        module: Where its maker is.
        default: Whether it is made where a suite does not say which tables it wants.
    """

    name: str
    explains: str
    place: int
    module: str
    default: bool = True


@functools.cache
def table_sources() -> tuple[TableSource, ...]:
    """Every table, in the order of a report.

    Raises:
        PluginError: A file cannot be read, a decorator is not made of literals, or two tables have one name.
    """
    found: dict[str, TableSource] = {}
    for file in sorted(FOLDER.glob("*.py")):
        for source in _in_file(file):
            if source.name in found:
                raise PluginError(
                    f"{file}: the table '{source.name}' is in {found[source.name].module} too. Rename one."
                )
            found[source.name] = source
    return tuple(sorted(found.values(), key=lambda source: (source.place, source.name)))


def table_names() -> tuple[str, ...]:
    """What a suite may ask for under ``tables:``, in the order of a report."""
    return tuple(source.name for source in table_sources())


def _in_file(file: Path) -> Iterator[TableSource]:
    module = f"{PACKAGE}.{file.stem}"
    try:
        for call in decorators(file.read_text(encoding="utf-8"), "table", over="def"):
            name, given = ast.literal_eval(call.args[0]), {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            place, default = int(given.get("place", LAST)), bool(given.get("default", True))
            yield TableSource(str(name), str(given["explains"]), place, module, default)
    except SyntaxError as error:
        raise PluginError(f"{file}: line {error.lineno}: {error.msg}. Mend the file, or take it away.") from error
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise PluginError(
            f"{file}: @table cannot be read ({type(error).__name__}: {error}). Give it a name and explains=... as "
            "literal texts, place=... as a number."
        ) from error
