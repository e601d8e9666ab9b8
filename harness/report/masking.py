"""Verdicts on gradient masking: seven orders between attacks that hold unless gradients mislead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.report.arrays import Evaluated, Finished, ScorerGrid, Setting
from harness.report.data import RunData
from harness.report.layout import scorer_of
from harness.report.measure import Row, start_row
from harness.report.table import Table
from harness.statistics import robustness
from harness.statistics.bootstrap import Floats
from harness.statistics.masking import Figure, not_weaker, reaches, suited
from harness.wording import budget_text, joined

PASS, FAIL, NOT_MEASURED = "pass", "FAIL", "not measured"

_REFERENCE = ("pgd", "apgd")
"""Attacks whose strength is judged: the first of these that was run, its strongest setting."""
_ENDPOINTS = {"up": 1, "down": -1}
_ADAPTIVE = "attacks through the defense: threat: adaptive"
_SMOOTH = "a metric that is differentiable: without a gradient none can be masked"
_FAILED = "the attacks that failed: see Failures"


class Evidence(NamedTuple):
    """One figure that speaks for or against a claim."""

    figure: Figure
    setting: Setting
    """The attack that should not be the weaker."""
    other: str
    """What it is held against."""
    endpoint: str


@dataclass(frozen=True)
class _View:
    """One scorer's results as claims look at them."""

    data: RunData
    one: Evaluated
    scorer: ScorerGrid
    range_of: Floats
    """Clean quality whose range counts, of any samples."""

    def name(self, setting: Setting) -> str:
        facts = self.data.attacks.get(setting.attack)
        return facts.name if facts else setting.plugin

    def parameters(self, setting: Setting) -> Mapping[str, Any]:
        facts = self.data.attacks.get(setting.attack)
        return facts.parameters if facts else {}

    def named(self, *names: str) -> list[Setting]:
        return [setting for setting in self.scorer.settings if self.name(setting) in names]

    def black_box(self) -> list[Setting]:
        known = self.data.attacks
        settings = [setting for setting in self.scorer.settings if not setting.control]
        return [one for one in settings if one.attack in known and not known[one.attack].needs_gradient]

    def push(self, setting: Setting, endpoint: str, scorer: ScorerGrid | None = None) -> Floats | None:
        """Mean push over draws, shape [N]; None where it is not to be had."""
        scorer = scorer or self.scorer
        finished = scorer.of(setting, "" if setting.control else endpoint)
        if finished.state != "ok" or scorer.state != "ok":
            return None
        pushed: Floats = robustness.push(scorer.clean, finished.attacked, _ENDPOINTS[endpoint]).mean(axis=0)
        return pushed

    def references(self, endpoint: str) -> Iterator[tuple[Setting, Floats]]:
        """At each budget, the strongest setting of the judged attack that suits it."""
        for name in _REFERENCE:
            best: dict[tuple[str, float], tuple[Setting, Floats]] = {}
            for setting in self.named(name):
                fit = suited(self.parameters(setting), setting.eps, setting.norm)
                push = self.push(setting, endpoint) if fit else None
                key = setting.norm, setting.eps
                if push is not None and (key not in best or np.nanmean(push) > np.nanmean(best[key][1])):
                    best[key] = setting, push
            if best:
                yield from best.values()
                return

    def compared(self, pushes: Sequence[tuple[Setting, Floats, str, Floats]], endpoint: str) -> Iterator[Evidence]:
        """One piece of evidence for each (attack, its push, what the other is called, the other's push)."""
        clean = self.scorer.clean.mean(axis=0)
        for setting, first, other, second in pushes:
            found = not_weaker(first, second, clean, self.one.codes, self.one.multiplicities)
            if found.samples and not np.isnan(found.high):
                yield Evidence(found, setting, other, endpoint)


def _beside(view: _View, endpoint: str, others: Sequence[Setting]) -> Iterator[Evidence]:
    """The judged attack against each of the others at the same budget."""
    found = []
    for setting, push in view.references(endpoint):
        for other in others:
            second = view.push(other, endpoint) if (other.norm, other.eps) == (setting.norm, setting.eps) else None
            if second is not None:
                found.append((setting, push, other.attack, second))
    yield from view.compared(found, endpoint)


def _iterative(view: _View, endpoint: str) -> Iterator[Evidence]:
    yield from _beside(view, endpoint, view.named("fgsm"))


def _black_box(view: _View, endpoint: str) -> Iterator[Evidence]:
    yield from _beside(view, endpoint, view.black_box())


def _noise(view: _View, endpoint: str) -> Iterator[Evidence]:
    yield from _beside(view, endpoint, [setting for setting in view.named("noise") if setting.control])


def _smoothed(view: _View, endpoint: str) -> Iterator[Evidence]:
    yield from _beside(view, endpoint, view.named("smoothed"))


def _budget(view: _View, endpoint: str) -> Iterator[Evidence]:
    """Neighbouring budgets below 1 of the judged attack."""
    by_norm: dict[str, list[tuple[Setting, Floats]]] = {}
    for setting, push in view.references(endpoint):
        if setting.eps < 1 or setting.norm != "linf":
            by_norm.setdefault(setting.norm, []).append((setting, push))
    found = []
    for settings in by_norm.values():
        ordered = sorted(settings, key=lambda pair: pair[0].eps)
        for (small, weaker), (large, stronger) in itertools.pairwise(ordered):
            found.append((large, stronger, f"{small.attack} at {budget_text(small.norm, small.eps)}", weaker))
    yield from view.compared(found, endpoint)


def _unbounded(view: _View, endpoint: str) -> Iterator[Evidence]:
    """PGD whose ball is the whole range of images, from the image itself."""
    for setting in view.named("pgd"):
        own = view.parameters(setting)
        if setting.norm != "linf" or setting.eps < 1 or not suited(own, setting.eps):
            continue
        if own.get("start") != "zero" or view.push(setting, endpoint) is None:
            continue
        quality = view.scorer.of(setting, endpoint).attacked.mean(axis=0)
        figure = reaches(quality, view.range_of, _ENDPOINTS[endpoint], view.one.codes, view.one.multiplicities)
        if figure.samples:
            yield Evidence(figure, setting, "edge of the clean range", endpoint)


def _transfer(view: _View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against itself, made on another metric or without the defense."""
    found = []
    for other in view.one.scorers:
        same = (other.metric, other.defense) == (view.scorer.metric, view.scorer.defense)
        if not same or other.source == view.scorer.source or other.threat not in ("transfer", "oblivious"):
            continue
        for setting, push in view.references(endpoint):
            second = view.push(setting, endpoint, other)
            if second is not None:
                found.append((setting, push, f"the same on {other.source}", second))
    yield from view.compared(found, endpoint)


class _Claim(NamedTuple):
    name: str
    short: str
    text: str
    evidence: Callable[[_View, str], Iterator[Evidence]]
    needs: str
    """What would measure it."""


_OR_ADDED = "or verdicts: n"
CLAIMS = (
    _Claim("iterative", "steps", "iterative beats one step", _iterative, f"pgd and fgsm at one budget, {_OR_ADDED}"),
    _Claim(
        "black_box",
        "queries",
        "white-box at least black-box",
        _black_box,
        f"pgd and a black-box attack (square, random_search) at one budget, {_OR_ADDED}",
    ),
    _Claim("budget", "budget", "more budget never weaker", _budget, f"pgd at two budgets, {_OR_ADDED}"),
    _Claim("unbounded", "unbounded", "unbounded budget reaches the extreme", _unbounded, "verdicts: n"),
    _Claim("noise", "noise", "noise weaker than attacks", _noise, f"pgd and noise at one budget, {_OR_ADDED}"),
    _Claim(
        "transfer",
        "transfer",
        "no transfer stronger than the direct attack",
        _transfer,
        "a transfer to this metric from another (transfer: all), with pgd",
    ),
    _Claim(
        "smoothed",
        "smooth",
        "noise-smoothed gradient no stronger than the plain one",
        _smoothed,
        f"pgd and smoothed at one budget, {_OR_ADDED}",
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
        views = [_View(data, one, scorer, clean)] if scorer.state == "ok" else []
        if few is not None and views:
            own = (other for other in few.scorers if other.state == "ok" and _who(other) == _who(scorer))
            views += [_View(data, few, other, clean) for other in own]
        for claim in CLAIMS:
            yield _row(data, one, scorer, claim, views)


def _row(data: RunData, one: Evaluated, scorer: ScorerGrid, claim: _Claim, views: Sequence[_View]) -> Row:
    """A claim with the piece of evidence that comes closest to refuting it, or does."""
    masked = scorer.threat != "oblivious" and scorer.metric not in data.blind
    for view in views if masked else ():
        found = [piece for endpoint in _ENDPOINTS for piece in claim.evidence(view, endpoint)]
        if found:
            deciding = min(found, key=lambda piece: piece.figure.slack)
            return _decided(view, scorer, claim, deciding, len(found))
    needs = _ADAPTIVE if scorer.threat == "oblivious" else _SMOOTH if scorer.metric in data.blind else claim.needs
    if masked and (not views or any(_lost(view) for view in views)):
        needs = f"{_FAILED}; otherwise {needs}"
    return {**start_row(one, scorer, None, "", "ok"), **_words(claim, NOT_MEASURED), "needs": needs} | dict.fromkeys(
        ("figure", "figure_low", "figure_high", "least"), np.nan
    )


def _decided(view: _View, scorer: ScorerGrid, claim: _Claim, piece: Evidence, among: int) -> Row:
    figure = piece.figure
    row = start_row(view.one, scorer, piece.setting, piece.endpoint, "ok")
    row |= _words(claim, PASS if figure.holds else FAIL) | {"images": figure.samples}
    row |= {"against": piece.other, "unit": "share" if claim.name == "unbounded" else "sigma", "comparisons": among}
    return row | {
        "figure": figure.value,
        "figure_low": figure.low,
        "figure_high": figure.high,
        "least": figure.least,
        "needs": "",
    }


def _words(claim: _Claim, verdict: str) -> Row:
    return {"verdict": claim.name, "claim": claim.text, "outcome": verdict, "against": "", "unit": "", "comparisons": 0}


def _who(scorer: ScorerGrid) -> tuple[str, str, str, str]:
    return scorer.metric, scorer.defense, scorer.threat, scorer.source


def _lost(view: _View) -> bool:
    finished: list[Finished] = list(view.scorer.finished.values())
    return any(one.state == "failed" for one in finished)


def failed_verdicts(tables: Sequence[Table]) -> str:
    """A sentence about the verdicts that failed; empty where none did."""
    told: dict[str, list[str]] = {}
    for table in tables:
        for row in table.frame[table.frame["outcome"] == FAIL].to_dict("records"):
            told.setdefault(scorer_of({str(key): value for key, value in row.items()}), []).append(str(row["claim"]))
    if not told:
        return ""
    each = "; ".join(f"{name} (“{joined(list(dict.fromkeys(claims)))}”)" for name, claims in told.items())
    return f"Gradients may mislead attacks on {each}: their figures may be too good."
