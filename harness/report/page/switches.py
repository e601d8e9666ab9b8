"""What a reader chooses on a page: metric, attack, budget and direction, and the bar of buttons that stays in sight."""

from __future__ import annotations

from harness.report.arrays import Evaluated, Setting
from harness.report.headline import Ball
from harness.report.page.section import PageInput
from harness.report.page.variants import LEFT, WORST, chips, first_budget, radius_key
from harness.wording import attack_text, budget_text


def attacks_of(one: Evaluated) -> list[Setting]:
    """Every attack of a data set at every budget, without controls, in the order of the records."""
    settings = (setting for scorer in one.scorers for setting in scorer.settings)
    return list(dict.fromkeys(setting for setting in settings if not setting.control))


def budgets_of(page: PageInput) -> list[Ball]:
    """Every budget that something was attacked at, by norm, the max norm first, and radius."""
    found = {Ball(setting.norm, setting.eps) for one in page.evaluated for setting in attacks_of(one)}
    return sorted(found, key=lambda budget: (budget[0] != "linf", budget))


def directions_of(page: PageInput) -> list[str]:
    """Every direction of the data sets that have several: one alone is nothing to choose."""
    ways = (page.data.directions_of(one.facts) for one in page.evaluated if attacks_of(one))
    return list(dict.fromkeys(way for several in ways if len(several) > 1 for way in several))


def first_state(page: PageInput) -> dict[str, str]:
    """What is chosen at first: key of the state -> value; keys without a choice are left out."""
    state = {}
    pairs = [(scorer, setting) for one in page.evaluated for scorer in one.scorers for setting in scorer.settings]
    attacked = [(scorer, setting) for scorer, setting in pairs if not setting.control]
    if attacked:
        scorer, setting = attacked[0]
        state["metric"] = scorer.label
        state["attack"] = attack_text(setting.attack, setting.norm)
    if budget := first_budget(budgets_of(page)):
        state |= {"norm": budget[0], "eps": radius_key(*budget)}
    state["show"] = LEFT
    if directions_of(page):
        state["direction"] = WORST
    return state


def switches(page: PageInput) -> str:
    """The buttons for budget and direction; empty where nothing was attacked or there is no choice."""
    state = first_state(page)
    budgets = budgets_of(page)
    several = len({norm for norm, _ in budgets}) > 1
    radii = {
        f"{norm}+{radius_key(norm, eps)}": f"{norm} {budget_text(norm, eps)}" if several else budget_text(norm, eps)
        for norm, eps in budgets
    }
    parts = []
    if len(radii) > 1:
        parts.append(chips("norm+eps", radii, f"{state['norm']}+{state['eps']}", "Budget ε"))
    directions = directions_of(page)
    if directions:
        parts.append(
            chips(
                "direction", {WORST: "worst of all"} | {way: way for way in directions}, state["direction"], "Direction"
            )
        )
    return "".join(parts)
