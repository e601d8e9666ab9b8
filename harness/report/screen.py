"""What a report prints on a terminal, kept so that it can be printed again at any width without making it anew.

Nothing heavy is imported here: a run that has nothing left to do prints what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.wording import for_screen, rich_text

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
"""Columns between two of a table."""
_NARROWEST = 8
"""No name is folded to less."""


@dataclass(frozen=True)
class Line:
    """A paragraph."""

    text: str
    style: Literal["", "bold", "dim"] = ""


@dataclass(frozen=True)
class Part:
    """Rows of a table under a title of their own, which may be empty.

    Attributes:
        title: What stands over them.
        rows: Cells.
        starts: Whether a row begins another scorer.
    """

    title: str
    rows: Sequence[Sequence[str]]
    starts: Sequence[bool]


@dataclass(frozen=True)
class Block:
    """A table: the first `labels` columns name a row, the others hold figures."""

    header: Sequence[str]
    labels: int
    parts: Sequence[Part]


@dataclass(frozen=True)
class Screen:
    """What is printed.

    Attributes:
        short: Of every report.
        full: What ``--full`` adds.
    """

    short: Sequence[Line | Block] = ()
    full: Sequence[Line | Block] = ()

    def text(self) -> str:
        """As it is stored."""
        stored = {"short": [asdict(one) for one in self.short], "full": [asdict(one) for one in self.full]}
        return json.dumps(stored, ensure_ascii=False, indent=1) + "\n"


def read_screen(path: Path) -> Screen:
    """What `Screen.text` gave.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds something else.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    try:
        return Screen(*([_piece(one) for one in stored[name]] for name in ("short", "full")))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: no stored output of a report") from error


def _piece(stored: dict[str, object]) -> Line | Block:
    if "text" in stored:
        return Line(**stored)  # type: ignore[arg-type]
    parts = [Part(**one) for one in stored.pop("parts")]  # type: ignore[attr-defined]
    return Block(parts=parts, **stored)  # type: ignore[arg-type]


def print_screen(screen: Screen, console: Console, full: bool = False) -> None:
    """Print the answer, and every table besides where that is asked for.

    Args:
        screen: What there is.
        console: Where to; tables that are too wide for it go on below themselves with their names repeated.
        full: Whether everything is printed.
    """
    for piece in (*screen.short, *(screen.full if full else ())):
        if isinstance(piece, Line):
            console.print(rich_text(piece.text, style=piece.style))
        else:
            _print_block(piece, console)


def _print_block(block: Block, console: Console) -> None:
    from rich import box
    from rich.table import Table as Grid

    natural = _widths(block)
    names = _names_within(natural[: block.labels], _room(natural[block.labels :], block.labels, console.width))
    for columns in _side_by_side(natural, names, console.width):
        for number, part in enumerate(block.parts):
            if part.title:
                console.print(rich_text(part.title, style="bold"))
            grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False, show_header=number == 0)
            for place, width in enumerate(names):
                grid.add_column(rich_text(block.header[place]), overflow="fold", min_width=width, max_width=width)
            for place in columns:
                head, width = rich_text(block.header[place]), natural[place]
                grid.add_column(head, justify="right", no_wrap=True, overflow="fold", min_width=width)
            for row, first in zip(part.rows, part.starts, strict=True):
                if first and row is not part.rows[0] and block.labels > 1:
                    grid.add_section()
                cells = (row[0] if first else "", *row[1 : block.labels], *(row[place] for place in columns))
                grid.add_row(*map(rich_text, cells))
            console.print(grid)


def _widths(block: Block) -> list[int]:
    """How wide each column is where there is room."""
    from rich.cells import cell_len

    rows = [block.header, *(row for part in block.parts for row in part.rows)]
    return [
        max(cell_len(line) for row in rows for line in for_screen(row[place]).split("\n"))
        for place in range(len(block.header))
    ]


def _room(figures: Sequence[int], names: int, width: int) -> int:
    """Columns that names may take: what figures leave where they all fit beside them, otherwise half."""
    left = width - sum(figures) - _GAP * len(figures)
    return left if left >= (_NARROWEST + _GAP) * names else width // 2


def _names_within(natural: Sequence[int], room: int) -> list[int]:
    """Widths of the columns of names: the widest gives way first, and none vanishes."""
    names = list(natural)
    while sum(names) + _GAP * len(names) > room and max(names) > _NARROWEST:
        names[names.index(max(names))] -= 1
    return names


def _side_by_side(natural: Sequence[int], names: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns of figures that fit beside the names, in as many turns as it takes."""
    room = width - sum(names) - _GAP * len(names)
    turn: list[int] = []
    for place in range(len(names), len(natural)):
        if turn and sum(natural[one] + _GAP for one in (*turn, place)) - _GAP > room:
            yield turn
            turn = []
        turn.append(place)
    yield turn
