"""How names and numbers are written for people."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

MISSING = "–"
FAILED = "failed"
UNDEFINED = "n/a"
BROKEN = "†"
NO_DEFENSE = "base"
"""What stands for a metric as it is."""


def budget_text(norm: str, eps: float) -> str:
    """A radius as people write it: ``8/255`` for a multiple of 1/255 in the max norm, the plain number otherwise."""
    steps = eps * 255
    if norm != "l2" and 0 < round(steps) < 255 and abs(steps - round(steps)) < 1e-3:
        return f"{round(steps)}/255"
    return f"{eps:.4g}"


def scorer_text(metric: str, defense: str, threat: str, source: str) -> str:
    """A scorer's name: the metric, its defense if it has one, and how the attacker met it."""
    name = metric if defense in (NO_DEFENSE, "") else f"{metric} + {defense}"
    if threat == "transfer":
        return f"{name} (transfer from {source})"
    return f"{name} ({threat})" if threat in ("oblivious", "adaptive") else name


def trained_name(metric: str, training: str) -> str:
    """A metric with the weights of a training: ``birqa-tiny@aat``, as weights are named; its own without one."""
    return f"{metric}@{training}" if training else metric


def split_name(dataset: str, index: int) -> str:
    """A data set in one of several splits: ``kadid10k split 3``."""
    return f"{dataset} split {index}"


def marked(name: str, broken: str) -> str:
    """A scorer's name, with a mark where its metric broke its contract when it was probed."""
    return f"{name} {BROKEN}" if broken else name


def attack_text(attack: str, norm: str) -> str:
    """An attack's name, with the norm unless it is the max norm."""
    return f"{attack} (l2)" if norm == "l2" else attack


def short_names(labels: list[str]) -> dict[str, str]:
    """Labels without their parameters, where that leaves them distinct."""
    first = {label: base_name(label) for label in labels}
    values = list(first.values())
    return {label: name if values.count(name) == 1 else label for label, name in first.items()}


def base_name(label: str) -> str:
    """The part of a label before its parameters: "pgd" of "pgd(steps=10)" or of "pgd steps=10"."""
    return label.replace("(", " ").split(" ")[0] or label


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number with a fixed count of decimals and a real minus sign; "n/a" for nan."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_text(value: float) -> str:
    """A p-value with three decimals; "< 0.001" below."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def significant(value: float, digits: int = 3) -> str:
    """A number of unknown scale with so many significant digits and a sign."""
    return UNDEFINED if math.isnan(value) else f"{value:+.{digits}g}".replace("-", "−")


def with_interval(value: float, low: float, high: float, digits: int = 2, signed: bool = False) -> str:
    """A figure with its interval: ``0.71 [0.62, 0.79]``; a dash where it has none: ``0.71 [–]``."""
    if math.isnan(value):
        return UNDEFINED
    if math.isnan(low) or math.isnan(high):
        return f"{number(value, digits, signed)} [{MISSING}]"
    return f"{number(value, digits, signed)} [{number(low, digits, signed)}, {number(high, digits, signed)}]"


def counted(count: int, noun: str) -> str:
    """'1 photograph', '8 photographs'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def joined(names: list[str]) -> str:
    """A list in words: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""


def few(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are: 'a and 2 more'. A name may be a list 'a, b'."""
    distinct = list(dict.fromkeys(part for name in names for part in str(name).split(", ") if part))
    more = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return distinct[0] + more if distinct else ""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """' Did you mean 'x'?' or the whole short list; starts with a space."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def quoted(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
