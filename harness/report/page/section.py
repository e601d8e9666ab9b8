"""A section of a report's page, and what all of them are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.arrays import Evaluated
    from harness.report.data import RunData
    from harness.report.headline import Headline
    from harness.report.table import Table


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: Its id in the page and in the address; letters, digits and dashes.
        title: What stands over it.
        html: Its markup; everything that comes from suites, plugins and records is escaped in it.
        data: What its script reads, as JSON under its name; empty for none.
    """

    name: str
    title: str
    html: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PageInput:
    """What sections are made from.

    Attributes:
        data: The run.
        tables: Its tables.
        evaluated: Its data sets, laid out as arrays, in the order of the page.
        headlines: One for each data set, in the same order.
    """

    data: RunData
    tables: Sequence[Table]
    evaluated: Sequence[Evaluated]
    headlines: Sequence[Headline]


def id_text(name: str) -> str:
    """A name as part of an id: letters and digits stay, "_" becomes "-", others their codes, so that names differ."""
    return "".join(
        letter if letter.isascii() and letter.isalnum() else "-" if letter == "_" else f"-{ord(letter):x}-"
        for letter in name
    )
