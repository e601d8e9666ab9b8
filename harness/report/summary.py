"""A few sentences a stranger understands, made from the figures of the headline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.arrays import FURTHEST
from harness.report.headline import EVERY_DIRECTION, NOT_FLAGGED, Ball, Headline, HeadlineRow, Reading, UnderAttack
from harness.wording import attack_text, budget_text, counted, joined, number, short_names, with_interval

_EACH_IMAGES = "whichever moves each image furthest"
_NAMED = 6
"""So many scorers are named one by one; of more the first are, and the others counted."""


def sentences(heads: Sequence[Headline]) -> list[str]:
    """Three sentences: the most robust and whom it ties with, the least robust, and what the controls alone do.

    They tell of the data set that `told_of` picks, at the budget that is told of first. Of a single scorer there are
    two, and without attacks there is one, about clean figures.

    Args:
        heads: The headlines of a run, one for each data set (`harness.report.split_headlines`).
    """
    head = told_of(heads)
    if head is None:
        return []
    if head.first is None:
        known = [f"{row.label} {number(row.clean.value)}" for row in head.rows if row.clean.known]
        return [f"Nothing was attacked; clean {_what(head)} on {head.dataset}: {_named(known)}."] if known else []
    rows = [row for row in head.rows if row.threat != "oblivious" and _figure(head, row).known]
    if not rows:
        what = _what(head) or "push of scores"
        return [f"No {what} under attack could be measured on {head.dataset}."] if head.rows else []
    told = [_most(head, head.first, rows), *([_least(head, rows)] if len(rows) > 1 else [])]
    return [*told, _controls(head, rows)]


def told_of(heads: Sequence[Headline]) -> Headline | None:
    """The data set that is told of: the first with people's labels, otherwise with labels, otherwise the first."""
    return min(heads, key=lambda one: (one.statistic == "", one.labels_kind != "human"), default=None)


def _what(head: Headline) -> str:
    """'proxy SROCC'; what scorers are judged by."""
    return f"proxy {head.statistic}" if head.labels_kind == "proxy" else head.statistic


def _worst(head: Headline, row: HeadlineRow) -> UnderAttack:
    return row.at[head.first, EVERY_DIRECTION] if head.first else UnderAttack("missing", "")


def _figure(head: Headline, row: HeadlineRow) -> Reading:
    """What is left of a figure, or without labels how far scores move."""
    under = _worst(head, row)
    return under.left if head.statistic else under.shift


def _most(head: Headline, ball: Ball, rows: Sequence[HeadlineRow]) -> str:
    first, under = rows[0], _worst(head, rows[0])
    where = f"on {head.dataset} at ε {budget_text(*ball)}"
    ranked = len(rows) > 1 and under.rank is not None
    opening = f"Most robust {where}" if ranked else where[0].upper() + where[1:]
    kept = f"keeps a {_what(head)} of {number(under.left.value)} out of {number(first.clean.value)}"
    does = kept if under.left.known else f"moves by {_sigma(under.shift)}"
    parts = [
        f"{first.label}{_flag(first, rows)} {does} under the worst attack ({_attack(head, under)})",
        _pushed(under),
    ]
    parts += [_tie(head, rows), _unmeasured(head, rows), _alike(rows)]
    return f"{opening}: {'; '.join(part for part in parts if part)}."


def _unmeasured(head: Headline, rows: Sequence[HeadlineRow]) -> str:
    """'ssim could not be measured'; of scorers that are told of as a rule."""
    names = [row.label for row in head.rows if row.threat != "oblivious" and row not in rows]
    return f"{_named(names)} could not be measured" if names else ""


def _attack(head: Headline, under: UnderAttack) -> str:
    """'pgd, mos_split'; with its parameters where several attacks have one name."""
    name = under.attack or under.shift_attack
    short = _EACH_IMAGES if name == FURTHEST else short_names(list(head.attacks)).get(name, name)
    return f"{attack_text(short, head.first.norm if head.first else '')}, {under.direction}"


def _pushed(under: UnderAttack) -> str:
    """'attacks push it 0.39σ [0.29, 0.45] beyond the honest control'."""
    if not under.excess.known:
        return ""
    return f"attacks push it {_beyond(under.excess)} the honest control"


def _beyond(excess: Reading) -> str:
    """'0.39σ [0.29, 0.45] beyond', or '0.31σ [−0.07, 0.89] short of'."""
    if excess.value >= 0:
        return f"{_sigma(excess)} beyond"
    return f"{_sigma(Reading(-excess.value, -excess.high, -excess.low))} short of"


def _sigma(reading: Reading) -> str:
    value, _, interval = with_interval(reading.value, reading.low, reading.high).partition(" ")
    return f"{value}σ {interval}" if not math.isnan(reading.low) else f"{value}σ"


def _tie(head: Headline, rows: Sequence[HeadlineRow]) -> str:
    units = counted(head.clusters, head.noun)
    if len(rows) == 1:
        return ""
    if head.splits > 1:
        return f"these are means over {head.splits} splits, which rank nothing"
    if head.descriptive:
        return f"descriptive: {units} {'is' if head.clusters == 1 else 'are'} too few to rank metrics"
    if _worst(head, rows[0]).rank is None:
        return "without labels nothing is ranked, and it moves least"
    tied = [one.label + _flag(one, rows) for one in rows[1:] if _unbeaten(head, one)]
    return f"{units} cannot tell it from {_named(tied)}" if tied else "it is told apart from all others"


def _unbeaten(head: Headline, row: HeadlineRow) -> bool:
    """Whether none is shown to be better."""
    rank = _worst(head, row).rank
    return rank is None or rank[0] == 1


def _least(head: Headline, rows: Sequence[HeadlineRow]) -> str:
    last, under = rows[-1], _worst(head, rows[-1])
    opening = "Last, though not told apart" if _unbeaten(head, last) else "Least robust"
    kept = f"{number(under.left.value)} out of {number(last.clean.value)}" if under.left.known else _sigma(under.shift)
    kept = f"{'keeps' if under.left.known else 'moves by'} {kept} ({_attack(head, under)})"
    parts = [f"{last.label}{_flag(last, rows)} {kept}", _pushed(under)]
    between = [f"{row.label} {number(_figure(head, row).value)}{_flag(row, rows)}" for row in rows[1:-1]]
    parts += [f"in between {_named(between)}"] if between else []
    return f"{opening}: {'; '.join(part for part in parts if part)}."


def _controls(head: Headline, rows: Sequence[HeadlineRow]) -> str:
    """What restoring and random noise do in the direction of the worst attack."""
    known = [f"{row.label} {number(under.honest.value)}" for row in rows if (under := _worst(head, row)).honest.known]
    if not known:
        return _APART if any(_worst(head, row).excess.known for row in rows) else _NO_CONTROL
    return f"The honest controls alone (restoring the reference, random noise) leave {_named(known)}."


_APART = (
    "What an honest control alone does (restoring the reference, random noise) is taken off what is called beyond it."
)
_NO_CONTROL = "No honest control was run beside the attacks: with noise and restore it would show what an attack adds."


def _flag(row: HeadlineRow, rows: Sequence[HeadlineRow]) -> str:
    """The verdict on masking that is not clean, unless all have the same."""
    if row.masking.verdict == NOT_FLAGGED or len({one.masking.verdict for one in rows}) == 1:
        return ""
    return f" (masking: {row.masking.verdict})"


def _alike(rows: Sequence[HeadlineRow]) -> str:
    """The verdict on masking that is not clean and is that of all."""
    flags = {one.masking.verdict for one in rows}
    return "" if len(flags) > 1 or flags == {NOT_FLAGGED} else f"masking: {flags.pop()}{' for all' * (len(rows) > 1)}"


def _named(names: Sequence[str]) -> str:
    """The names in words; of many the first, and how many more."""
    if len(names) <= _NAMED:
        return joined(list(names))
    return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1} more"
