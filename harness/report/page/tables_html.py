"""Tables of the page as markup: scrolled on their own, with a caption, heads that say what they head, and tints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.wording import for_html

STEPS = 10
"""Tints between nothing and all."""


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
    return "" if math.isnan(share) else f"t{round(STEPS * min(max(share, 0.0), 1.0))}"
