"""How generated pages write texts, lists and tables, and where they stand."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1]
MARK = "<!-- Written by docs/reference.py from {}. Change that, then run it. -->"
"""What a page that nobody should edit says of itself."""
WIDTH = 120


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph; code in two backticks, as docstrings have it, gets one."""
    text = text.replace("``", "`")
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def items(explained: Mapping[str, str]) -> Iterator[str]:
    """A list of names in code and what they are."""
    yield "\n".join(wrapped(f"* `{name}`: {text}", "  ") for name, text in explained.items()) + "\n"


def capital(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def cell(text: str) -> str:
    """Text that stands in a Markdown table as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|~$])", r"\\\1", text)


def filled(path: Path, begin: str, lines: Iterable[str], end: str) -> str:
    """A page with what stands between two marks written anew."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    return "\n".join([before + begin, *lines, end]) + after
