"""What folders of kept images are called: for people what they are of; at the end the cell's id, for the machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.wording import budget_text, scorer_text

if TYPE_CHECKING:
    from harness.suite.plan import Cell

_LONGEST = 40
"""Letters of each part of a name; all of them and the id fit into the 255 bytes that file systems allow."""
_ID = re.compile(r"(?:.*_)?([0-9a-f]{16})")


def plain(text: str) -> str:
    """What of a text a file name holds everywhere: letters of ASCII, digits, ``. + @ -``; the rest becomes dashes."""
    kept = re.sub(r"[^A-Za-z0-9.+@-]+", "-", text).strip("-.")
    return kept[:_LONGEST].rstrip("-.") or "-"


def condition_name(cell: Cell) -> str:
    """Metric, attack, direction and budget of a cell: 'ssim_pgd_up_linf-8-255'; others may be called alike."""
    _, *who = cell.who
    attack = cell.attack.label if cell.attack else "clean"
    radius = f"{cell.norm}-{budget_text(cell.norm, cell.eps)}"
    return "_".join(map(plain, (scorer_text(*who), attack, cell.endpoint or "control", radius)))


def folder_name(cell: Cell) -> str:
    """Name of the folder of a cell's examples: `condition_name`, data set, and the cell's id, which makes it unique."""
    return f"{condition_name(cell)}_{plain(cell.split.dataset.label)}_{cell.id}"


def id_in(folder: str) -> str:
    """The id of the cell that a folder of examples is of; earlier versions called it by the id alone.

    Returns:
        The name itself where no id stands at its end.
    """
    found = _ID.fullmatch(folder)
    return found[1] if found else folder


def folders_by_id(place: Path) -> dict[str, str]:
    """Id of a cell -> the folder of its examples; of several the first by name, so that all who ask get the same."""
    names = sorted((path.name for path in place.iterdir() if path.is_dir()), reverse=True) if place.is_dir() else []
    return {id_in(name): name for name in names if not name.startswith(".")}
