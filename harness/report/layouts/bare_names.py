"""Registered names in a layout that stand for the labels of a run: `pgd` for the only attack `pgd(steps=5)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from harness.report.layouts.cells import Cell
from harness.suite.layout_file import LayoutBlock, LayoutSpec, Values
from harness.suite.layout_names import comparable
from harness.suite.strict_yaml import YamlPath
from harness.wording import base_name, joined

PLUGINS = {"dataset": "dataset", "metric": "metric", "against": "metric", "attack": "attack", "defense": "defense"}
"""Dimension -> the one that its labels are of."""
Labels = Mapping[str, Mapping[str, Sequence[str]]]
"""Dimension -> registered name -> the labels that are made of it."""


def labels_of(cells: Sequence[Cell]) -> Labels:
    """The labels of the plugins in a run's cells."""
    found: dict[str, dict[str, dict[str, None]]] = {dimension: {} for dimension in PLUGINS.values()}
    for cell in cells:
        for dimension, own in found.items():
            label = cell.at.get(dimension, "")
            # Of chains of purifiers it is known what each is made of, and not of the whole.
            chain = label if dimension == "defense" and "+" in label else ""
            made = cell.made.get(dimension, chain)
            own.setdefault("+".join(map(base_name, made.split("+"))), {})[label] = None
    return {dimension: {name: list(labels) for name, labels in own.items()} for dimension, own in found.items()}


def stand_for(spec: LayoutSpec, labels: Labels) -> dict[tuple[str, str], str]:
    """(dimension, registered name) of a layout -> the only label that is made of it.

    Names that are labels themselves, and those whose label the layout names beside them, stand for nothing else.

    Args:
        spec: The layout.
        labels: Those of a run or of a suite.

    Raises:
        LocatedError: Several labels are made of a name; says which, and how one is named.
    """
    found: dict[tuple[str, str], str] = {}
    wrong: list[tuple[str, YamlPath]] = []
    for dimension, kind in PLUGINS.items():
        there = {label for own in labels.get(kind, {}).values() for label in own}
        asked = spec.values_of(dimension)
        for name in dict.fromkeys([*asked, *spec.labels.get(dimension, {})]):
            own = () if name in there else labels.get(kind, {}).get(name, ())
            if len(own) == 1 and own[0] not in asked:
                found[dimension, name] = own[0]
            elif len(own) > 1 and name in asked:
                told = f"{dimension} '{name}' could be any of {joined(list(own))}. Write the whole label, in quotation "
                wrong.append((f"{told}marks, or give each a name of its own in the suite (label:).", asked[name]))
    if wrong:
        raise spec.errors(wrong)
    return found


def respelt(spec: LayoutSpec, found: Mapping[tuple[str, str], str]) -> LayoutSpec:
    """A layout with labels in place of the names that `stand_for` them."""
    if not found:
        return spec

    def of(dimension: str) -> Callable[[str], str]:
        return lambda name: found.get((dimension, name), name)

    def where(own: Mapping[str, str]) -> dict[str, str]:
        return {dimension: of(dimension)(value) for dimension, value in own.items()}

    def block(one: LayoutBlock) -> LayoutBlock:
        at = {name: Values(tuple(map(of(name), own.texts)), own.varies) for name, own in one.at.items()}
        return dataclasses.replace(one, at=at, where=where(one.where))

    published = spec.published
    if published:
        rows = {of("metric")(metric): name for metric, name in published.rows.items()}
        published = dataclasses.replace(published, rows=rows)
    labels = {
        dimension: {comparable(dimension, of(dimension)(value)): texts for value, texts in own.items()}
        for dimension, own in spec.labels.items()
    }
    rows_of, columns = tuple(map(block, spec.rows)), tuple(map(block, spec.columns))
    return dataclasses.replace(
        spec, where=where(spec.where), rows=rows_of, columns=columns, labels=labels, published=published
    )


def relabelled(cells: Sequence[Cell], found: Mapping[tuple[str, str], str]) -> list[Cell]:
    """Published cells under the labels that names in the layout stand for."""
    return [
        dataclasses.replace(cell, at={name: found.get((name, value), value) for name, value in cell.at.items()})
        for cell in cells
    ]
