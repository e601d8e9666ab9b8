"""The headlines of several splits of one data set as one: means, which claim no interval and rank nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.report.headline import (
    NOT_FLAGGED,
    NOT_JUDGED,
    SUSPECT,
    UNDECIDED,
    Headline,
    HeadlineRow,
    Reading,
    UnderAttack,
    order,
)
from harness.report.table import PROTOCOL_LINE

_WORST_FIRST = (SUSPECT, UNDECIDED, NOT_FLAGGED, NOT_JUDGED)


def whole_headlines(heads: Sequence[Headline], splits: Mapping[str, str]) -> list[Headline]:
    """One headline for each data set, where `headlines` has one for each split of it.

    Args:
        heads: The headlines of a run.
        splits: Name of a data set in one split -> the data set's own; empty without splits.
    """
    groups: dict[str, list[Headline]] = {}
    for head in heads:
        groups.setdefault(splits.get(head.dataset, head.dataset), []).append(head)
    return [parts[0] if parts[0].dataset == name else _together(name, parts) for name, parts in groups.items()]


def _together(name: str, heads: Sequence[Headline]) -> Headline:
    first = heads[0]
    rows = []
    for row in first.rows:
        parts = [found for head in heads for found in head.rows if found.label == row.label]
        if len(parts) == len(heads):
            rows.append(_mean_row(parts))

    how = f"{PROTOCOL_LINE}{len(heads)} splits by reference, of the first and of the others alike: "
    protocol = how + first.protocol.removeprefix(PROTOCOL_LINE)
    ordered = tuple(sorted(rows, key=partial(order, first.first)))
    return replace(first, dataset=name, splits=len(heads), rows=ordered, protocol=protocol)


def _mean_row(parts: Sequence[HeadlineRow]) -> HeadlineRow:
    first = parts[0]
    shared = [place for place in first.at if all(place in part.at for part in parts)]
    worst = min((part.masking for part in parts), key=lambda one: _WORST_FIRST.index(one.verdict))
    at = {place: _mean_at([part.at[place] for part in parts]) for place in shared}
    return replace(first, clean=_mean([part.clean for part in parts]), at=at, masking=worst)


def _mean_at(parts: Sequence[UnderAttack]) -> UnderAttack:
    def mean(of: Callable[[UnderAttack], Reading]) -> Reading:
        return _mean([of(part) for part in parts])

    return replace(
        parts[0],
        left=mean(lambda one: one.left),
        honest=mean(lambda one: one.honest),
        controls=(min(one.controls[0] for one in parts), max(one.controls[1] for one in parts)),
        excess=mean(lambda one: one.excess),
        shift=mean(lambda one: one.shift),
        rank=None,
    )


def _mean(readings: Sequence[Reading]) -> Reading:
    """The mean over splits, of which each must have a figure; without an interval, as their test images overlap."""
    return Reading(sum(one.value for one in readings) / len(readings))
