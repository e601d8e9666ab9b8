"""The table of IR-Scores: how little attacks move scores in a domain that all scorers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from harness.report.arrays import MEAN_OVER_ATTACKS, Evaluated
from harness.report.data import RunData
from harness.report.ir_score import IrScores, ir_scores
from harness.report.layout import Layout, attack_of, figure_text, plain_text, scorer_of, stated
from harness.report.rows import Row
from harness.report.table import Table, has_opinions, make_table, table
from harness.statistics.integral import UNMOVED
from harness.suite.model import NO_MAP, OPINIONS
from harness.wording import MISSING, NO_DEFENSE, budget_text

PAPER_BUDGETS = ("2/255", "4/255", "8/255", "10/255")
"""What the paper integrates over."""


@table(
    "ir_score",
    place=25,
    explains="IR-Score: R-scores integrated over budgets, after transport of clean train qualities to one domain, and "
    "the area under the movement relative to the undefended metric. Needs two budgets of a norm.",
)
def ir_score_table(data: RunData, one: Evaluated) -> Table | None:
    """Both readings of the IR-Score; for pairs that are attacked at several budgets."""
    asked = data.ir_score
    if one.facts.kind != "pairs" or (asked.needs_opinions and not has_opinions(one)):
        return None
    found = ir_scores(data, one)
    rows = list(found.rows)
    if not rows or all(row["state"] == "missing" for row in rows):
        return None
    defended = any(row["defense"] != NO_DEFENSE for row in rows)
    return make_table(
        "ir_score",
        one,
        data,
        f"IR-Score ({_made(data, one, found.apart)})",
        "How little does an attack move the score, over all its budgets? R is the logarithm (base 10) of how far a "
        "score could have moved over how far it did: .4 is a move of 40 % of its range, .8 of 16 %, 2 of 1 %. Mean R "
        "is its mean over images and budgets."
        + (" Relative area: by which share less than the undefended metric it is moved." if defended else "")
        + " SROCC asks whether the order survives, this whether the values do. A score that never moves is robust by "
        "it, and may be useless.",
        rows,
        _full(rows, _columns(data, defended, figure_text)),
        _compact(rows, _columns(data, defended, plain_text)),
        [asked.direction],
        *_notes(data, one, found, defended),
    )


def _made(data: RunData, one: Evaluated, apart: bool) -> str:
    """What the figures depend on beside the records: the two readings' map, reference, scaler and weights."""
    asked = data.ir_score
    proxies = "proxy opinions" if one.facts.labels == "proxy" else "opinions"
    domain = proxies if asked.reference == OPINIONS else f"the scores of {asked.reference}"
    mapped = "no map" if asked.mapping == NO_MAP else f"{asked.mapping} map to {domain}"
    scaler = asked.scaler if apart or asked.scaler != "train" else "of the evaluated images"
    return f"{mapped}, scaler {scaler}, {asked.rule} over budgets, attacked {asked.direction}"


def _columns(data: RunData, defended: bool, text: Callable[[Row, str], str]) -> dict[str, Callable[[Row], str]]:
    """The integrals, written with their intervals or alone."""
    columns: dict[str, Callable[[Row], str]] = {"IR, mean R": lambda row: _integral(data, row, "mean_r", text)}
    if defended:
        columns["IR, relative area"] = lambda row: _integral(data, row, "relative_area", text)
    return columns


def _integral(data: RunData, row: Row, name: str, text: Callable[[Row, str], str]) -> str:
    if data.ir_score.paper_dashes and row["defense"] == NO_DEFENSE:
        return MISSING
    if name == "relative_area" and row["defense"] == NO_DEFENSE:
        return "0"
    return text(row, name)


def _by_attack(rows: Sequence[Row]) -> Mapping[tuple[str, str], Sequence[Row]]:
    """The rows of each scorer and attack: one for each budget, with the integrals in all of them."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        lines.setdefault((scorer_of(row), attack_of(row)), []).append(row)
    return lines


def _full(rows: list[Row], columns: dict[str, Callable[[Row], str]]) -> Layout:
    """A line for each scorer and attack: the integrals, then R at each budget."""
    radii = _radii(rows)
    body = []
    for key, own in _by_attack(rows).items():
        at = {budget_text(row["norm"], row["eps"]): stated(row, lambda row: figure_text(row, "r")) for row in own}
        integrals = (stated(own[0], column) for column in columns.values())
        counts = [row["unmoved"] for row in own]
        unmoved = MISSING if any(map(math.isnan, counts)) else str(int(max(counts)))
        body.append((*key, *integrals, *(at.get(radius, MISSING) for radius in radii), unmoved))
    header = ("metric", "attack", *columns, *(f"R at ε {radius}" for radius in radii), "images unmoved")
    return Layout(header, tuple(body), 2, f"Images unmoved: how many moved less than {UNMOVED:g} of the range.")


def _compact(rows: list[Row], columns: dict[str, Callable[[Row], str]]) -> Layout:
    """The integrals alone; of what is over all attacks the furthest, because weak attacks flatter a mean."""
    shown = [row for row in rows if row["attack"] != MEAN_OVER_ATTACKS]
    body = tuple(
        (*key, *(stated(own[0], column) for column in columns.values())) for key, own in _by_attack(shown).items()
    )
    return Layout(("metric", "attack", *columns), body, 2)


def _radii(rows: list[Row]) -> list[str]:
    return [budget_text(norm, eps) for eps, norm in sorted({(row["eps"], row["norm"]) for row in rows})]


def _notes(data: RunData, one: Evaluated, found: IrScores, defended: bool) -> list[str]:
    notes = []
    if not found.apart and (data.ir_score.mapping != NO_MAP or data.ir_score.scaler == "train"):
        notes.append(
            "Maps and scaler are fitted on the evaluated images themselves, for want of a split train beside them."
        )
    if found.unmapped:
        notes.append(f"No map, so no figure: {'; '.join(found.unmapped)}.")
    if (radii := tuple(_radii(list(found.rows)))) != PAPER_BUDGETS:
        notes.append(f"Budgets are {', '.join(radii)}; the paper integrates over {', '.join(PAPER_BUDGETS)}.")
    still = [row for row in found.rows if row["unmoved"] > 0]
    if still:
        most = max(still, key=lambda row: row["unmoved"])
        notes.append(
            f"Up to {most['unmoved']} of {len(one.items)} images moved less than {UNMOVED:g} ({scorer_of(most)}, "
            f"{attack_of(most)}, {budget_text(most['norm'], most['eps'])}); each has an R of 4 to 6 in a mean of "
            "logarithms. In such a row the attack failed, and its figure, which may even rise with the budget, says "
            "nothing of the metric: read the furthest of all."
        )
    if not defended:
        notes.append("Relative area, the other reading, compares a defense with none; there is no defense here.")
    notes.append(
        "Two readings go by the name of IR-Score, the source's formula is not public, and neither is called the "
        "paper's: say which of them a figure is."
    )
    return notes
