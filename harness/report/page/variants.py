"""Variants of one figure or table: all are in the page, and its script shows the one that fits what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report.headline import Ball
from harness.report.layout import usual_of
from harness.wording import budget_text, for_html

LEFT, EXCESS = "left", "excess"
"""What the heat map shows: the figure that is left, or how much more an attack did than the honest control."""
WORST = "worst"
"""In place of a direction: the worst of all that were run, which is shown first."""


def attributes(shown: bool, **wanted: str) -> str:
    """What a child of an element of class ``variants`` carries, to be put into its tag.

    Within such an element the script shows the children of which every attribute ``data-KEY`` equals the state's KEY,
    or what was shown at first where none does.

    Args:
        shown: Whether it is shown at first, and without a script.
        **wanted: Values of the state that it stands for: metric, attack, norm, eps, direction. Radii as
            `radius_key` writes them, metrics as `harness.wording.scorer_text` does.

    Returns:
        Attributes with a space before each.
    """
    text = "".join(f' data-{name}="{for_html(value)}"' for name, value in wanted.items())
    return text + ("" if shown else " hidden")


def radius_key(norm: str, eps: float) -> str:
    """A radius as the state and the address have it: ``8/255``."""
    return budget_text(norm, eps)


def first_budget(budgets: Sequence[Ball]) -> Ball | None:
    """The budget that is shown at first: of the max norm where there is one, the usual radius or else the largest."""
    if not budgets:
        return None
    norms = dict.fromkeys(norm for norm, _ in budgets)
    norm = "linf" if "linf" in norms else next(iter(norms))
    return Ball(norm, usual_of(eps for name, eps in budgets if name == norm))


def chips(key: str, choices: Mapping[str, str], chosen: str, label: str) -> str:
    """Buttons of which one is chosen; one for each value of a key of the state.

    Args:
        key: Key of the state, or several joined with "+", whose values are joined likewise: ``norm+eps``.
        choices: Value -> what stands on the button.
        chosen: The value chosen at first.
        label: What is chosen, for those who cannot see where the buttons stand.
    """
    buttons = "".join(
        f'<button type="button" data-value="{for_html(value)}" aria-pressed="{str(value == chosen).lower()}">'
        f"{for_html(text)}</button>"
        for value, text in choices.items()
    )
    return (
        f'<div class="chips" role="group" aria-label="{for_html(label)}" data-key="{for_html(key)}">'
        f'<span class="chips-label" aria-hidden="true">{for_html(label)}</span>{buttons}</div>'
    )
