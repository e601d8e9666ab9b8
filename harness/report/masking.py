"""Verdicts on gradient masking: orders between attacks, and traits of gradients, that hold unless gradients mislead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.report import evidence
from harness.report.arrays import Evaluated, Finished, ScorerGrid, lay_out
from harness.report.data import RunData
from harness.report.evidence import Evidence, View
from harness.report.grouped import as_texts
from harness.report.rows import Row, once, start_row

PASS, INCONCLUSIVE, FAIL, NOT_MEASURED = "pass", "inconclusive", "FAIL", "not measured"

_ADAPTIVE = "attacks through the defense: threat: adaptive"
_SMOOTH = "a metric that is differentiable: without a gradient none can be masked"
_FAILED = "the attacks that failed: see Failures"


class _Claim(NamedTuple):
    name: str
    short: str
    text: str
    evidence: Sequence[Callable[[View, str], Iterator[Evidence]]]
    """Kinds of evidence; each is taken from the suite's own cells where these have it."""
    needs: str
    """What would measure it."""
    of_gradients: bool = False
    """Whether it says nothing of a metric that has none."""


_OR_ADDED = "or verdicts: n"
CLAIMS = (
    _Claim(
        "iterative",
        "steps",
        "iterative beats one step",
        (evidence.iterative,),
        f"pgd and fgsm at one budget, {_OR_ADDED}",
        of_gradients=True,
    ),
    _Claim(
        "black_box",
        "queries",
        "white-box at least black-box",
        (evidence.black_box,),
        f"pgd and a black-box attack (square, random_search) at one budget, {_OR_ADDED}",
        of_gradients=True,
    ),
    _Claim("budget", "budget", "more budget never weaker", (evidence.budget,), f"pgd at two budgets, {_OR_ADDED}"),
    _Claim(
        "unbounded",
        "unbounded",
        "unbounded budget reaches the extreme",
        (evidence.unbounded,),
        "verdicts: n",
        of_gradients=True,
    ),
    _Claim(
        "noise", "noise", "noise weaker than attacks", (evidence.noise,), f"pgd and noise at one budget, {_OR_ADDED}"
    ),
    _Claim(
        "transfer",
        "transfer",
        "no transfer stronger than the direct attack",
        (evidence.transfer, evidence.twins),
        f"a transfer to this metric from another (transfer: all), with pgd, {_OR_ADDED}",
    ),
    _Claim(
        "smoothed",
        "smooth",
        "noise-smoothed gradient no stronger than the plain one",
        (evidence.smoothed,),
        f"pgd and smoothed at one budget, {_OR_ADDED}",
        of_gradients=True,
    ),
    _Claim(
        "restore",
        "restore",
        "attacks upwards at least restore",
        (evidence.restore,),
        f"pgd and restore at one budget, {_OR_ADDED}",
    ),
    _Claim(
        "grid",
        "grid",
        "the same off the 8-bit grid as on it",
        (evidence.rounded, evidence.grid_twin, evidence.hair),
        f"pgd at a budget of 4/255 or more, {_OR_ADDED}",
    ),
    _Claim(
        "sloped",
        "slope",
        "gradients are not zero",
        (evidence.has_slope,),
        f"pgd at a budget that its steps cross, {_OR_ADDED}",
        of_gradients=True,
    ),
    _Claim(
        "foretold",
        "foretold",
        "gradients foretell what steps do",
        (evidence.foretells,),
        "a score that moves, and verdicts: n in fp32 without a randomised defense",
        of_gradients=True,
    ),
    _Claim(
        "surrogate",
        "surrogate",
        "its surrogate's gradient no stronger than its own",
        (evidence.surrogate,),
        "a metric that declares a surrogate, and verdicts: n",
        of_gradients=True,
    ),
)


def verdict_rows(data: RunData, one: Evaluated, few: Evaluated | None = None) -> Iterator[Row]:
    """One row per attacked scorer and claim.

    Args:
        data: The run.
        one: A data set with the suite's own cells.
        few: The first samples of it, with the cells added for verdicts; for claims that the own ones do not decide.
    """
    for scorer in one.scorers:
        if scorer.threat == "transfer":
            continue
        clean = scorer.clean.mean(axis=0)
        views = [View(data, one, scorer, clean)] if scorer.state == "ok" else []
        if few is not None and views:
            own = (other for other in few.scorers if other.state == "ok" and other.who == scorer.who)
            views += [View(data, few, other, clean) for other in own]
        for claim in CLAIMS:
            yield _row(data, one, scorer, claim, views)


def verdicts_of(data: RunData, one: Evaluated) -> list[Row]:
    """`verdict_rows` of a data set, made once; none where nothing was attacked or none are wanted."""
    found: list[Row] = once(one, ("verdicts",), lambda: _verdicts_of(data, one))
    return found


def _verdicts_of(data: RunData, one: Evaluated) -> list[Row]:
    if not data.verdicts:
        return []
    few = few_samples(data, one)
    attacked = any(not setting.control for scorer in one.scorers for setting in scorer.settings)
    return list(verdict_rows(data, one, few)) if attacked or few else []


def few_samples(data: RunData, one: Evaluated) -> Evaluated | None:
    """The first samples of a data set, with the cells added for verdicts beside the suite's own; None without any."""
    found: Evaluated | None = once(one, ("few samples",), lambda: _few_samples(data, one.name))
    return found


def _few_samples(data: RunData, dataset: str) -> Evaluated | None:
    """The first samples of a data set, with the cells added for verdicts beside the suite's own; None without any."""
    if not data.verdict_samples:
        return None
    wanted = set(data.verdict_items.get(dataset, ()))
    own = data.records
    kept = own[(own["dataset"] == dataset) & own["sample"].isin(wanted)]
    added = data.verdict_records
    parts = [part for part in (kept, added[added["dataset"] == dataset] if len(added) else added) if len(part)]
    if not parts:
        return None
    whole = pd.concat([as_texts(part) for part in parts], ignore_index=True)
    found = lay_out(dataclasses.replace(data, records=whole))
    return found[0] if found else None


def _row(data: RunData, one: Evaluated, scorer: ScorerGrid, claim: _Claim, views: Sequence[View]) -> Row:
    """A claim with the piece of evidence that speaks most against it."""
    blind = scorer.metric in data.blind and claim.of_gradients
    measured = scorer.threat != "oblivious" and not blind
    found = [piece for kind in claim.evidence for piece in _first(kind, views)] if measured else []
    if found:
        view, deciding = min(found, key=lambda pair: pair[1].figure.order)
        return _decided(view, scorer, claim, deciding, len(found))
    needs = _ADAPTIVE if scorer.threat == "oblivious" else _SMOOTH if blind else claim.needs
    if measured and (not views or any(_lost(view) for view in views)):
        needs = f"{_FAILED}; otherwise {needs}"
    return {**start_row(one, scorer, None, "", "ok"), **_words(claim, NOT_MEASURED), "needs": needs} | dict.fromkeys(
        ("figure", "figure_low", "figure_high", "least"), np.nan
    )


def _first(kind: Callable[[View, str], Iterator[Evidence]], views: Sequence[View]) -> Sequence[tuple[View, Evidence]]:
    """All evidence of one kind from the first view that has any."""
    for view in views:
        found = [
            (view, piece) for endpoint in evidence.ENDPOINTS for piece in kind(view, endpoint) if piece.figure.samples
        ]
        if found:
            return found
    return []


def _decided(view: View, scorer: ScorerGrid, claim: _Claim, piece: Evidence, among: int) -> Row:
    figure = piece.figure
    row = start_row(view.one, scorer, piece.setting, piece.endpoint, "ok")
    row |= _words(claim, figure.outcome) | {"images": figure.samples}
    row |= {"against": piece.other, "unit": piece.unit, "comparisons": among}
    return row | {
        "figure": figure.value,
        "figure_low": figure.low,
        "figure_high": figure.high,
        "least": figure.least,
        "needs": "",
    }


def _words(claim: _Claim, verdict: str) -> Row:
    return {"verdict": claim.name, "claim": claim.text, "outcome": verdict, "against": "", "unit": "", "comparisons": 0}


def _lost(view: View) -> bool:
    finished: list[Finished] = list(view.scorer.finished.values())
    return any(one.state == "failed" for one in finished)
