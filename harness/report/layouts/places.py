"""The rows and columns that a layout stands for, and what is printed at their heads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.layouts.cells import Cell
from harness.suite.layout_file import EVERY, LayoutBlock, LayoutSpec, braced, fill, placeholders
from harness.suite.layout_names import ALL_BUDGETS, DIMENSIONS, WHOLE_SET, comparable

_MUST_BE_SAID = ("against", "trained_on", "split")
"""Dimensions of which a cell that says nothing does not fit a layout that asks for a value."""
_LABELS: Mapping[str, Mapping[str, str]] = {
    "statistic": {"srocc": "SROCC", "plcc": "PLCC", "krocc": "KROCC", "rmse": "RMSE", "ir_score": "IR-Score"},
    "attack": {"none": "clean"},
}
"""What is printed of values that a layout gives no label."""


@dataclass(frozen=True)
class GridPlace:
    """A row or a column before it has figures."""

    at: Mapping[str, str]
    shown: Mapping[str, str]
    """The dimensions that its head names: those that vary in its block, or all of a block of one."""
    varies: bool
    """Whether it is one of several of its block."""
    title: str
    block: int
    first: bool
    """Whether it is the first of its block in the layout."""


def may_stand(cell: Cell, wanted: Mapping[str, str]) -> bool:
    """Whether a cell may stand where these values are wanted.

    What a cell leaves out does not apply to it: clean figures fit any budget, minutes of training any attack. So it is
    with controls and directions, undefended metrics and threats, figures of all budgets and any budget.
    """
    for name in DIMENSIONS:
        want, has = wanted.get(name), cell.at.get(name)
        if want is None:
            # Parts of a data set and transfers stand nowhere unless they are asked for.
            if (name == "subset" and has not in (None, WHOLE_SET)) or (name == "threat" and has == "transfer"):
                return False
        elif has is None:
            if name in _MUST_BE_SAID or (name == "subset" and want != WHOLE_SET):
                return False
        elif not _alike(name, want, has):
            return False
    return True


def _alike(name: str, want: str, has: str) -> bool:
    applies_not = {
        "threat": has == "none" and want != "transfer",
        "direction": has == "control",
        "budget": has == ALL_BUDGETS,
    }
    return applies_not.get(name, False) or comparable(name, want) == comparable(name, has)


def places_of(spec: LayoutSpec, blocks: Sequence[LayoutBlock], cells: Sequence[Cell]) -> Iterator[GridPlace]:
    """The rows or columns that blocks stand for, in order.

    Raises:
        UserError: '*' stands for nothing.
    """
    number = 0
    for block in blocks:
        fixed = {name: values.texts[0] for name, values in block.at.items() if not values.varies}
        context = {**spec.where, **block.where, **fixed}
        varying = {
            name: _all_there(spec, name, context, cells) if EVERY in values.texts else values.texts
            for name, values in block.at.items()
            if values.varies
        }
        title, before = fill(block.title, _plain(spec, context)), None
        for count, combination in enumerate(itertools.product(*varying.values())):
            own = dict(zip(varying, combination, strict=True))
            number += count > 0 and own.get(block.rule) != before
            before = own.get(block.rule)
            yield GridPlace({**context, **own}, own or fixed, bool(varying), title, number, count == 0)
        number += 1


def _all_there(spec: LayoutSpec, name: str, context: Mapping[str, str], cells: Sequence[Cell]) -> tuple[str, ...]:
    there = tuple(dict.fromkeys(cell.at[name] for cell in cells if name in cell.at and may_stand(cell, context)))
    if not there:
        where = ", ".join(f"{other} {value}" for other, value in context.items())
        told = f"'*' stands for nothing: the run has no {name}{f' of {where}' if where else ''}."
        raise spec.error(told, *spec.values_of(name)[EVERY])
    return there


def row_labels(spec: LayoutSpec, row: GridPlace) -> tuple[str, ...]:
    """What stands at the beginning of a row: one text, or a label's several."""
    texts = _texts(spec, row)
    for own in texts.values():
        if len(own) > 1:
            return own
    if row.title and not row.varies:
        return (row.title,)
    return (", ".join(own[0] for own in texts.values() if own[0]),)


def text_of(spec: LayoutSpec, place: GridPlace) -> str:
    """A row or column in a line: 'SROCC ↑ / FGSM'."""
    own = [texts[0] for texts in _texts(spec, place).values() if texts[0]] if place.varies or not place.title else []
    return " / ".join([*([place.title] if place.title else []), *own])


def headers(spec: LayoutSpec, columns: Sequence[GridPlace]) -> list[tuple[str, ...]]:
    """The levels over each column, of the same number for all; levels in which nothing stands are left out."""
    titled = any(place.title for place in columns)
    below = [_below(spec, place) for place in columns]
    deepest = max(map(len, below))
    paths = [
        (*([place.title] if titled else []), *[""] * (deepest - len(own)), *own)
        for place, own in zip(columns, below, strict=True)
    ]
    kept = [level for level in range(len(paths[0])) if any(path[level] for path in paths)] or [0]
    return [tuple(path[level] for level in kept) if path else ("",) for path in paths]


def _below(spec: LayoutSpec, place: GridPlace) -> list[str]:
    """The levels of a column under its title."""
    if place.varies:
        return [own[0] for own in _texts(spec, place).values()]
    return [] if place.title else [text_of(spec, place)]


def _texts(spec: LayoutSpec, place: GridPlace) -> dict[str, tuple[str, ...]]:
    """Dimension -> what is printed for it, without dimensions that another's label stands for."""
    labels = {name: _label(spec, name, value) for name, value in place.shown.items()}
    named = {other for name, texts in labels.items() for text in texts for other in placeholders(text) if other != name}
    plain = _plain(spec, place.at)
    return {name: tuple(fill(text, plain) for text in texts) for name, texts in labels.items() if name not in named}


def _plain(spec: LayoutSpec, at: Mapping[str, str]) -> dict[str, str]:
    """What names in braces are filled with."""
    return {name: fill(_label(spec, name, value)[0], {}) for name, value in at.items()}


def _label(spec: LayoutSpec, name: str, value: str) -> tuple[str, ...]:
    """What is printed for a value, before names in braces are filled in."""
    default = (braced(_LABELS.get(name, {}).get(value, value)),)
    return spec.labels.get(name, {}).get(comparable(name, value), default)
