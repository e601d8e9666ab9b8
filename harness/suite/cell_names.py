"""The one name of a cell, in plans, records, messages and tables; and how patterns on names are shown."""

from __future__ import annotations

from harness.wording import budget_text, scorer_text

CLEAN = "clean"
"""What stands for no attack."""


def cell_name(
    dataset: str, metric: str, defense: str, threat: str, source: str, attack: str, endpoint: str, norm: str, eps: float
) -> str:
    """Name of a cell for people; failures carry it, and tables find the cells they concern by it."""
    scorer = scorer_text(metric, defense, threat, source)
    if attack == CLEAN:
        return f"{dataset} / {scorer} / {CLEAN}"
    attack += f" {endpoint}" if endpoint else ""
    return f"{dataset} / {scorer} / {attack} {'l2 ' if norm == 'l2' else ''}eps {budget_text(norm, eps)}"


def shown_pattern(value: str | float, norm: str = "") -> str:
    """A label or a budget as messages show it; without a norm a radius is shown as in linf where it could be one."""
    if isinstance(value, str):
        return value
    return budget_text(norm, value) if value <= 1 else f"{value:g}"
