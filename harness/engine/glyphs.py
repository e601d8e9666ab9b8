"""Fonts for what the usual one of pictures has not: Chinese, Hebrew, emoji and whatever else stands in a name."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import NamedTuple

_NO_WRITING = ("last resort", "lastresort", "emoji", "color")
"""Parts of the names of fonts that draw boxes in place of letters, or colours, which pictures cannot."""
_POINTS, _DPI = 8, 72


class Drawn(NamedTuple):
    """A text as it can be drawn."""

    text: str
    families: tuple[str, ...]
    """Fonts to be asked after the usual one."""


def drawable(text: str) -> Drawn:
    """A text with the fonts that have its letters; a letter that no font here has stands as its code, U+4E2D."""
    usual = _letters(_usual())
    lacking = sorted({one for one in text if ord(one) not in usual and one.isprintable()})
    if not lacking:
        return Drawn(text, ())
    found = {one: _family_with(one) for one in lacking}
    codes = {one: f"U+{ord(one):04X}" for one, family in found.items() if not family}
    families = dict.fromkeys(family for family in found.values() if family)
    return Drawn("".join(codes.get(one, one) for one in text), tuple(families))


def _usual() -> str:
    """The file of the font that is asked first."""
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties()))


@functools.lru_cache(maxsize=512)
def _letters(path: str) -> Collection[int]:
    """The characters of a font file, as numbers; none where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(_POINTS, _DPI)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@functools.lru_cache(maxsize=4096)
def _family_with(character: str) -> str:
    """The first family that draws a character, those without serifs before others; empty where none does."""
    return next((name for name, path in _families() if ord(character) in _letters(path)), "")


def _families() -> Iterator[tuple[str, str]]:
    """(name, file) of every family, in the same order on every run."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    names = {entry.name for entry in fontManager.ttflist if not any(no in entry.name.lower() for no in _NO_WRITING)}
    for name in sorted(names, key=lambda name: ("sans" not in name.lower(), name)):
        yield name, str(findfont(FontProperties(family=[name])))
