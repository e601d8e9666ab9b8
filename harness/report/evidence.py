"""What speaks for or against claims on masking: figures taken from one scorer's finished attacks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.report.arrays import Evaluated, ScorerGrid, Setting
from harness.report.data import RunData
from harness.report.grouped import mean_by_item
from harness.report.rows import once
from harness.statistics import robustness
from harness.statistics.bootstrap import Floats
from harness.statistics.masking import GRID_SHARE, SHARE, Figure, foretold, not_weaker, reaches, sloped, suited
from harness.suite.model import NO_FLOOR
from harness.suite.verdict_cells import GRID_FROM, HAIR, LABEL, NEAR
from harness.wording import budget_text

ENDPOINTS = {"up": 1, "down": -1}
"""What an attack is run for, and the sign of quality along it."""
_REFERENCE = ("pgd", "apgd")
"""Attacks whose strength is judged: the first of these that was run, its strongest setting."""
_GRID_FROM = GRID_FROM * (1 - 1e-6)


class Evidence(NamedTuple):
    """One figure that speaks for or against a claim."""

    figure: Figure
    setting: Setting
    """The attack that should not be the weaker."""
    other: str
    """What it is held against."""
    endpoint: str
    unit: Literal["sigma", "share"] = "sigma"


@dataclass(frozen=True)
class View:
    """One scorer's results as claims look at them."""

    data: RunData
    one: Evaluated
    scorer: ScorerGrid
    range_of: Floats
    """Clean quality whose range counts, of any samples."""

    def name(self, setting: Setting) -> str:
        """Registered name of the attack."""
        facts = self.data.attacks.get(setting.attack)
        return facts.name if facts else setting.plugin

    def parameters(self, setting: Setting) -> Mapping[str, Any]:
        """The attack's parameters, those at neutral values among them."""
        facts = self.data.attacks.get(setting.attack)
        return facts.parameters if facts else {}

    def named(self, *names: str) -> list[Setting]:
        """Settings of the attacks of these registered names."""
        return [setting for setting in self.scorer.settings if self.name(setting) in names]

    def black_box(self) -> list[Setting]:
        """Settings of black-box attacks."""
        known = self.data.attacks
        settings = [setting for setting in self.scorer.settings if not setting.control]
        return [one for one in settings if one.attack in known and not known[one.attack].needs_gradient]

    def push(self, setting: Setting, endpoint: str, scorer: ScorerGrid | None = None) -> Floats | None:
        """Mean push over draws, shape [N]; None where it is not to be had."""
        scorer = scorer or self.scorer
        finished = scorer.of(setting, "" if setting.control else endpoint)
        if finished.state != "ok" or scorer.state != "ok":
            return None
        pushed: Floats = robustness.push(scorer.clean, finished.attacked, ENDPOINTS[endpoint]).mean(axis=0)
        return pushed

    @property
    def blind(self) -> bool:
        """Whether the metric has no gradient, so that black-box attacks are judged."""
        return self.scorer.metric in self.data.blind

    def column(self, setting: Setting, endpoint: str, name: str) -> Floats | None:
        """A column of the records, mean over draws, shape [N]; None where the attack has none."""
        rows = self.data.cell_rows(self.one.name)
        numbers = rows.column(name)
        if numbers is None:
            return None
        wanted = (*self.scorer.who, setting.attack, setting.norm, endpoint)
        own = [index for key, index in rows.cells.items() if key[:-1] == wanted and abs(key.eps - setting.eps) < 1e-8]
        index = np.concatenate([np.empty(0, np.int64), *own])
        places = once(self.one, ("places of records",), lambda: rows.places(self.one.items))
        values = mean_by_item(numbers[index], places[index], len(self.one.items))
        return None if np.isnan(values).all() else values

    def length(self, control: Setting) -> Floats:
        """Mean length over draws of a control's change, shape [N]."""
        changed: Floats = self.scorer.of(control, "").l2.mean(axis=0)
        return changed

    def away(self) -> Floats:
        """What is known at least of each image's distance from its reference, by the control restore, shape [N].

        Infinite where it was not run.
        """
        known = [setting for setting in self.named("restore") if setting.control]
        lengths = [self.length(one) for one in known if self.scorer.of(one, "").state == "ok"]
        away: Floats = np.max(lengths, axis=0) if lengths else np.full(len(self.one.items), np.inf)
        return away

    def push_8bit(self, setting: Setting, endpoint: str) -> Floats:
        """Mean push over draws of the attacked images rounded to 8 bits, shape [N]."""
        rounded = self.scorer.of(setting, endpoint).attacked_8bit
        pushed: Floats = robustness.push(self.scorer.clean, rounded, ENDPOINTS[endpoint]).mean(axis=0)
        return pushed

    def floored(self, setting: Setting) -> bool:
        """Whether an attack has a floor: what that gives it says nothing of the gradient."""
        facts = self.data.attacks.get(setting.attack)
        return facts is not None and facts.floor != NO_FLOOR

    def references(self, endpoint: str) -> Iterator[tuple[Setting, Floats]]:
        """At each budget, the strongest setting of the judged attack that suits it and has no floor."""
        judged = [self.black_box()] if self.blind else [self.named(name) for name in _REFERENCE]
        for settings in judged:
            best: dict[tuple[str, float], tuple[Setting, Floats]] = {}
            for setting in settings:
                fit = suited(self.parameters(setting), setting.eps, setting.norm) and not self.floored(setting)
                push = self.push(setting, endpoint) if fit else None
                key = setting.norm, setting.eps
                if push is not None and (key not in best or np.nanmean(push) > np.nanmean(best[key][1])):
                    best[key] = setting, push
            if best:
                yield from best.values()
                return

    def compared(
        self, pushes: Sequence[tuple[Setting, Floats, str, Floats]], endpoint: str, missing: float = SHARE
    ) -> Iterator[Evidence]:
        """One piece of evidence for each (attack, its push, what the other is called, the other's push)."""
        clean = self.scorer.clean.mean(axis=0)
        for setting, first, other, second in pushes:
            found = not_weaker(first, second, clean, self.one.codes, self.one.multiplicities, missing)
            if found.samples and not np.isnan(found.value):
                yield Evidence(found, setting, other, endpoint)


def _beside(view: View, endpoint: str, others: Sequence[Setting]) -> Iterator[Evidence]:
    """The judged attack against each of the others at the same budget."""
    found = []
    for setting, push in view.references(endpoint):
        for other in others:
            second = view.push(other, endpoint) if (other.norm, other.eps) == (setting.norm, setting.eps) else None
            if second is not None:
                found.append((setting, push, other.attack, second))
    yield from view.compared(found, endpoint)


def iterative(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against one step of the same size."""
    yield from _beside(view, endpoint, view.named("fgsm"))


def black_box(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against every black-box attack."""
    yield from _beside(view, endpoint, view.black_box())


def noise(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against the control noise."""
    yield from _beside(view, endpoint, [setting for setting in view.named("noise") if setting.control])


def restore(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack upwards against the control restore."""
    if endpoint == "up":
        yield from _beside(view, endpoint, [setting for setting in view.named("restore") if setting.control])


def surrogate(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against PGD along the gradient of the metric's own surrogate."""
    yield from _beside(view, endpoint, view.named("bpda"))


def grid_twin(view: View, endpoint: str) -> Iterator[Evidence]:
    """PGD whose iterates stay on the 8-bit grid against PGD with the same steps, and the other way round."""
    found = []
    for twin in view.named("pgd_on_grid"):
        push = view.push(twin, endpoint)
        alike = [one for one in view.named("pgd") if (one.norm, one.eps) == (twin.norm, twin.eps)]
        for plain in alike:
            same = _alike(view.parameters(plain), view.parameters(twin)) and not view.floored(plain)
            other = view.push(plain, endpoint) if same and push is not None and plain.eps >= _GRID_FROM else None
            if other is not None and push is not None:
                found += [(plain, other, twin.attack, push), (twin, push, plain.attack, other)]
    yield from view.compared(found, endpoint, GRID_SHARE)


def rounded(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack's images against the same images rounded to 8 bits, and the other way round."""
    found = []
    for setting, push in view.references(endpoint):
        if setting.norm == "linf" and setting.eps >= _GRID_FROM:
            rounded = view.push_8bit(setting, endpoint)
            found += [(setting, push, "itself in 8 bits", rounded), (setting, rounded, "itself before rounding", push)]
    yield from view.compared(found, endpoint)


def hair(view: View, endpoint: str) -> Iterator[Evidence]:
    """Noise of a tenth of a grey level, which should leave the score where it is, whichever way.

    Images that are almost their references do not count: to them a tenth of a grey level is much.
    """
    if endpoint == "up":  # a control has no direction
        found = []
        for setting in view.named("noise"):
            push = view.push(setting, endpoint) if setting.control and setting.eps <= HAIR * (1 + 1e-6) else None
            if push is not None:
                moved = np.where(view.away() > NEAR * view.length(setting), -np.abs(push), np.nan)
                found.append((setting, moved, "the image itself", np.zeros_like(push)))
        yield from view.compared(found, endpoint)


def has_slope(view: View, endpoint: str) -> Iterator[Evidence]:
    """Gradients of the judged attack that are zero or not finite."""
    for setting, _ in () if view.blind else view.references(endpoint):
        zero, every = (view.column(setting, endpoint, name) for name in ("zero_gradients", "backwards"))
        if setting.eps < 1 and zero is not None and every is not None:
            figure = sloped(zero, every, view.one.codes, view.one.multiplicities)
            if figure.samples:
                yield Evidence(figure, setting, "gradients that are not zero", endpoint, "share")


def foretells(view: View, endpoint: str) -> Iterator[Evidence]:
    """Gradients along an attack's path against differences of the score."""
    for setting in view.named("pgd_traced"):
        for name, way in (("gradient_error_step", "along its steps"), ("gradient_error_reference", "to the reference")):
            error = view.column(setting, endpoint, name)
            if error is not None:
                figure = foretold(error, view.one.codes, view.one.multiplicities)
                yield Evidence(figure, setting, f"differences {way}", endpoint, "share")


def smoothed(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against PGD on the noise-smoothed gradient."""
    yield from _beside(view, endpoint, view.named("smoothed"))


def budget(view: View, endpoint: str) -> Iterator[Evidence]:
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


def unbounded(view: View, endpoint: str) -> Iterator[Evidence]:
    """PGD whose ball is the whole range of images, from the image itself."""
    for setting in view.named("pgd"):
        own = view.parameters(setting)
        if setting.norm != "linf" or setting.eps < 1 or not suited(own, setting.eps):
            continue
        if own.get("start") != "zero" or view.push(setting, endpoint) is None:
            continue
        quality = view.scorer.of(setting, endpoint).attacked.mean(axis=0)
        figure = reaches(quality, view.range_of, ENDPOINTS[endpoint], view.one.codes, view.one.multiplicities)
        if figure.samples:
            yield Evidence(figure, setting, "edge of the clean range", endpoint, "share")


def transfer(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against itself, made on another of the suite's metrics or without the defense."""
    found = []
    for other in _others(view):
        for setting, push in () if other.source.startswith(LABEL) else view.references(endpoint):
            second = view.push(setting, endpoint, other)
            if second is not None:
                found.append((setting, push, f"the same on {other.source}", second))
    yield from view.compared(found, endpoint)


def twins(view: View, endpoint: str) -> Iterator[Evidence]:
    """The judged attack against PGD made on metrics known to be honest."""
    found = []
    for other in _others(view):
        settings = other.settings if other.source.startswith(LABEL) else ()
        for setting, push in view.references(endpoint):
            for twin in settings:
                second = view.push(twin, endpoint, other) if _budget_of(twin) == _budget_of(setting) else None
                if second is not None:
                    found.append((setting, push, f"pgd on {other.source.removeprefix(LABEL)}", second))
    yield from view.compared(found, endpoint)


def _others(view: View) -> Iterator[ScorerGrid]:
    """Attacks on something else, judged by the same metric under the same defense."""
    for other in view.one.scorers:
        same = (other.metric, other.defense) == (view.scorer.metric, view.scorer.defense)
        if same and other.source != view.scorer.source and other.threat in ("transfer", "oblivious"):
            yield other


def _budget_of(setting: Setting) -> tuple[str, float]:
    return setting.norm, setting.eps


def _alike(pgd: Mapping[str, Any], twin: Mapping[str, Any]) -> bool:
    """Whether a PGD is what its twin is but for the grid: another start or more steps would be another attack."""
    plain = {"start": "random", "keep": "last", "restarts": 1, "momentum": 0.0}
    same = all(pgd.get(name, value) == value for name, value in plain.items())
    return same and all(pgd.get(name) == twin.get(name) for name in ("steps", "step_size"))
