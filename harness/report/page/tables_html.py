"""Tables of the page as markup: scrolled on their own, with a caption, heads that say what they head, and tints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.wording import MISSING, for_html

TINTS = 10
"""Tints between nothing and all."""
_DECIMALS = 3
_SMALL = ("correlation", "share", "standard deviations", "as the figure")
"""Units whose figures are near 1: so many decimals say it all."""


def scrolled(title: str, table: str) -> str:
    """A table in a box of its own that can be scrolled by the keyboard too; the title is markup already."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">{table}</div>'


def words_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A small table of words."""
    heads = "".join(f'<th scope="col">{for_html(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{for_html(str(first))}</th>{"".join(f"<td>{for_html(str(cell))}</td>" for cell in rest)}'
        for first, *rest in rows
    )
    table = (
        f'<table class="words"><caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    )
    return scrolled(title, table)


def tint(share: float) -> str:
    """Class of a cell that is tinted by a share in [0, 1], clipped: "t0" to "t10"; empty for nan."""
    return "" if math.isnan(share) else f"t{round(TINTS * min(max(share, 0.0), 1.0))}"


def as_printed(value: float, unit: str) -> str:
    """A number: three decimals of what is near 1, whole numbers as they are, four digits of anything else."""
    if math.isnan(value):
        return MISSING
    if unit.startswith(_SMALL):
        text = f"{value:.{_DECIMALS}f}"
    else:
        text = f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")
