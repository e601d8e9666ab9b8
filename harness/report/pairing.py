"""What of one run is what of another, by what it is called: for runs that differ in a parameter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.report.data import RunData, UseFacts
from harness.wording import base_name, value_text

LABEL_COLUMNS: Mapping[str, Sequence[str]] = {
    "dataset": ("dataset",),
    "metric": ("metric", "source"),
    "defense": ("defense",),
    "attack": ("attack",),
}
"""What is paired -> the columns of records that have its labels."""
_NOT_GIVEN = object()


@dataclass(frozen=True)
class Paired:
    """The labels of one dimension of two runs.

    Attributes:
        of_a: Label in A -> label in B, for those that are one and the same.
        unclear: Label, of either run, that several of the other may stand for -> those.
    """

    of_a: Mapping[str, str] = field(default_factory=dict)
    unclear: Mapping[str, Sequence[str]] = field(default_factory=dict)


def labels_in(data: RunData, dimension: str) -> list[str]:
    """The labels of a dimension that a run has records of, in their order."""
    found: dict[str, None] = {}
    for column in LABEL_COLUMNS[dimension]:
        found |= dict.fromkeys(map(str, data.records[column].unique()))
    return list(found)


def pair_labels(
    a: Collection[str], b: Collection[str], uses_a: Mapping[str, UseFacts], uses_b: Mapping[str, UseFacts]
) -> Paired:
    """Pair labels: equal ones, then of what is left those of one plugin that are each other's nearest.

    How near two are is the number of parameters that differ. Where two are equally near, neither is taken: PGD of 5
    steps is no more PGD of 10 than of 20.

    Args:
        a: Labels of one run.
        b: Labels of the other.
        uses_a: What stands behind those of the one; a label that is not there is known by its name.
        uses_b: What stands behind those of the other.
    """
    pairs = {label: label for label in a if label in b}
    unclear: dict[str, list[str]] = {}
    left, right = ([label for label in labels if label not in pairs] for labels in (a, b))
    known_a, known_b = (
        {label: _use(label, uses) for label in rest} for rest, uses in ((left, uses_a), (right, uses_b))
    )
    for name in dict.fromkeys(use.name for use in known_a.values()):
        mine = [label for label in left if known_a[label].name == name]
        theirs = [label for label in right if known_b[label].name == name]
        while found := _nearest(mine, theirs, known_a, known_b):
            pairs |= found
            mine = [label for label in mine if label not in found]
            theirs = [label for label in theirs if label not in found.values()]
        if mine and theirs:
            unclear |= dict.fromkeys(mine, theirs) | dict.fromkeys(theirs, mine)
    return Paired(pairs, unclear)


def _nearest(
    mine: Sequence[str], theirs: Sequence[str], uses_a: Mapping[str, UseFacts], uses_b: Mapping[str, UseFacts]
) -> dict[str, str]:
    """Those that are each other's only nearest."""
    far = {(a, b): len(list(differing(uses_a[a], uses_b[b]))) for a in mine for b in theirs}
    found = {}
    for (a, b), distance in far.items():
        rivals = [far[pair] for pair in far if pair != (a, b) and (pair[0] == a or pair[1] == b)]
        if all(distance < other for other in rivals):
            found[a] = b
    return found


def _use(label: str, uses: Mapping[str, UseFacts]) -> UseFacts:
    return uses.get(label) or UseFacts(base_name(label))


def differing(a: UseFacts, b: UseFacts) -> Iterator[tuple[str, str, str]]:
    """The parameters in which two uses differ, with the value of each as suites write it."""
    if a.name != b.name:
        yield "plugin", a.name, b.name
    for name in dict.fromkeys([*a.parameters, *b.parameters]):
        one, other = (use.parameters.get(name, _NOT_GIVEN) for use in (a, b))
        if _plain(one) != _plain(other):
            yield name, _told(one), _told(other)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _told(value: Any) -> str:
    return "its default" if value is _NOT_GIVEN else "none" if value is None else value_text(value)


def differences_in(dimension: str, paired: Paired, a: RunData, b: RunData) -> list[dict[str, str]]:
    """The parameters in which paired uses of two runs differ, a row for each: dimension, labels, name and values."""
    known = [data.uses.get(dimension, {}) for data in (a, b)]
    return [
        {"what": dimension, "label_a": one, "label_b": other, "parameter": name, "value_a": mine, "value_b": theirs}
        for one, other in paired.of_a.items()
        for name, mine, theirs in differing(_use(one, known[0]), _use(other, known[1]))
    ]
