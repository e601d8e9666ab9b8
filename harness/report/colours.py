"""The colours and marks of figures: one colour for an attack in every figure of every report, fixed by its name.

On a page they are CSS variables, which have other values where the reader's screen is dark; everywhere else they are
the light ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.report.arrays import OVER_ALL
from harness.wording import base_name

_ATTACKS_LIGHT = (
    *("#1149c6", "#ca5c11", "#467e5f", "#6a3f70", "#2b8183", "#4b3901"),
    *("#69343d", "#846df1", "#519cb6", "#4d062c", "#819b6d", "#8d5634"),
)
"""Each stands out from white by 3 to 1 and more; of any two the difference is the largest that the hues leave to
readers with and without red or green cones. Dashes and marks tell the same apart once more."""
_ATTACKS_DARK = (
    *("#7b89fd", "#b74f07", "#508a56", "#f7b8f7", "#59b9b1", "#f0d033"),
    *("#f26c83", "#7455d7", "#4390a8", "#bc387a", "#96a42b", "#f4cda0"),
)
"""The same hues on the page's dark ground."""
_PAGE_LIGHT = {
    "ink": "#1b1e23",
    "muted": "#535a65",
    "ground": "#ffffff",
    "line": "#d3d8de",
    "band": "#e2e5ea",
    "bad": "#b3261e",
}
_PAGE_DARK = {
    "ink": "#e6e8ec",
    "muted": "#a8b0bc",
    "ground": "#14161a",
    "line": "#3b414a",
    "band": "#343a44",
    "bad": "#f49790",
}

LIGHT: Mapping[str, str] = _PAGE_LIGHT | {f"attack-{place}": one for place, one in enumerate(_ATTACKS_LIGHT)}
"""Name of a CSS variable -> its colour on white: what pictures outside of a page have."""
DARK: Mapping[str, str] = _PAGE_DARK | {f"attack-{place}": one for place, one in enumerate(_ATTACKS_DARK)}
"""The same on a dark screen."""
CONTROL_COLOUR = "muted"
"""Of controls, which are no attacks."""

_KNOWN: Mapping[str, int] = {
    "fgsm": 0,
    "pgd": 1,
    "apgd": 2,
    "cw": 3,
    "cw_l2": 3,
    "square": 4,
    "random_search": 5,
    "zhang": 6,
    "facpa": 7,
    "parsimonious": 8,
    "bpda": 9,
    "autoattack": 10,
    "smoothed": 11,
    "pgd_on_grid": 8,
    "pgd_traced": 9,
}
"""Attacks that robustiqa has -> their colour; those that hardly ever meet in one figure share one."""

MARKS: Mapping[str, str] = {
    "up": "^",
    "down": "v",
    "mos_split": "D",
    "self_split": "s",
    "random_sign": "o",
    "error": "X",
    "pair": "D",
    "control": "|",
}
"""Direction -> its mark."""
_OTHER_MARK = "P"

_DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 2.5), (8, 3, 2, 3), (4, 2, 1, 2, 1, 2), (10, 4))
"""Of attacks in the order in which a figure has them: they tell them apart where colours do not."""
_FAINTEST = 0.55


class AttackLook(NamedTuple):
    """How an attack is drawn in one figure."""

    colour: str
    """Name of a variable, a key of `LIGHT`."""
    dash: tuple[float, ...]
    """Lengths of strokes and gaps in pixels; empty for a line without."""
    shade: float
    """Opacity: variants of one attack have its colour in steps."""


def attack_colour(label: str) -> str:
    """The colour of an attack, a key of `LIGHT`; variants, which differ in parameters alone, have one.

    What stands for several attacks has one that no attack has.
    """
    if label in OVER_ALL:
        return "bad"
    name = base_name(label)
    place = _KNOWN.get(name)
    if place is None:
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:4]) % len(_ATTACKS_LIGHT)
    return f"attack-{place}"


def looks(labels: Iterable[str]) -> dict[str, AttackLook]:
    """How the attacks of one figure are drawn: by colour, by dashes in the figure's order, and variants by shade too.

    Args:
        labels: Of the figure's attacks, controls left out; in its order.
    """
    known = list(dict.fromkeys(labels))
    groups: dict[str, list[str]] = {}
    for label in known:
        groups.setdefault(attack_colour(label), []).append(label)
    found = {}
    for place, label in enumerate(known):
        colour = attack_colour(label)
        alike = groups[colour]
        shade = 1 - (1 - _FAINTEST) * alike.index(label) / max(1, len(alike) - 1)
        found[label] = AttackLook(colour, _DASHES[place % len(_DASHES)], round(shade, 3))
    return found


def grouped(labels: Sequence[str]) -> list[str]:
    """Attacks in the order of legends: variants of one attack stand together, in place of its first."""
    names = dict.fromkeys(base_name(label) for label in labels)
    return [label for name in names for label in dict.fromkeys(labels) if base_name(label) == name]


def direction_mark(direction: str) -> str:
    """The mark of a direction."""
    return MARKS.get(direction, _OTHER_MARK)
