"""Does an attack keep its contract?"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.contracts import (
    Attack,
    Budget,
    Metric,
    Norm,
    QueryLimit,
    SampleRng,
)
from harness.engine.objective import SLACK, Opinions, ScorerObjective, remembers
from harness.engine.record import EVERY_NAME
from harness.engine.scorer import Scorer
from harness.testing.common import (
    RADII,
    RELATIVE,
    Report,
    Small,
    expect_reference,
    identical,
    image_pairs,
    largest_gap,
    watching_randomness,
)
from harness.testing.made import Formula, Linear, Turn, Watched


@dataclass(frozen=True)
class _Case:
    """One run of an attack."""

    scorer: Scorer
    endpoint: Literal["", "up", "down", "error"]
    """"" for controls; "error" gives every sample a sign of its own."""
    norm: Norm
    radius: Literal["usual", "tiny", "large"] = "usual"
    rows: tuple[int, ...] = (0, 1, 2, 3)
    label: str = "a metric without parameters"

    def __str__(self) -> str:
        aim = f"direction {self.endpoint}" if self.endpoint else "control"
        return f"{self.label}, {aim}, {self.norm} {RADII[self.norm][self.radius]:.3g}"

    @property
    def signs(self) -> tuple[int, ...]:
        """Signs that its samples may have."""
        return _SIGNS[self.endpoint]


_SIGNS: Mapping[str, tuple[int, ...]] = {"": (0,), "up": (1,), "down": (-1,), "error": (1, -1)}
_Change = tuple[str, str, str]
"""What differs between two runs of a case, the rule that their images are equal all the same, and its cure."""
_RUN_AGAIN: _Change = ("run again", "equal seeds give equal bytes", "take all randomness from rng, keep no state")
_IN_ANOTHER_ORDER: _Change = (
    "in another order",
    "the same bytes whatever the order of samples",
    "draw per sample from rng, and let row i depend on row i alone",
)
_ALONE = (
    "the same bytes whatever else is in the batch",
    "no maximum, mean, norm or early stop over the batch: one per row",
)
_WITHOUT_THE_STRONG: _Change = ("without the strongly distorted", *_ALONE)
_WITHOUT_THE_SLIGHT: _Change = ("without the slightly distorted", *_ALONE)
"""What is changed between two runs of a case, the rule that their images are equal, and its cure."""


def check_attack(
    attack: Attack,
    *,
    name: str | None = None,
    size: int = 32,
    build: Callable[[str], Metric] | None = None,
    queries: int = 64,
    fit_limit: int = 2000,
    metric: Metric | None = None,
) -> None:
    """Check an attack against its contract, on the engine's own objective.

    The engine projects what `perturb` returns, so the last step need not be projected: the image may lie up to twice
    the radius from the start, and up to one radius outside [0, 1]. What is further out has ignored its budget. The
    engine also keeps the better of result and start; an attack that loses to the start on every sample of a linear
    metric, in any one direction, relies on that alone. Controls may lose.

    Args:
        attack: With the parameters to check.
        name: What messages call it; its registered name unless given.
        size: Height of the images in pixels; they are 8 px wider.
        build: Makes the metrics the attack asks for by `Objective.plugin`; registered ones unless given.
        queries: A black-box attack that allows itself more queries is checked with these.
        fit_limit: Batches after which a `fit` that goes on is at fault.
        metric: Tried on this metric in place of the made ones: as the engine holds it, in evaluation mode and frozen.
            Images are no smaller than it can score, and two make a batch. Batches in another order or of another size
            are left to the made ones: a real metric may round otherwise in them, and an attack may follow that far.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("attack", attack, name)
    expect_reference(report, attack)
    size = max(size, metric.minimum_size) if metric is not None else size
    probe = _AttackProbe(attack, report, size, build or _registered, queries, fit_limit)
    if probe.declares():
        probe.probe() if metric is None else probe.probe_on(metric)
    report.settle()


def _registered(name: str) -> Metric:
    from harness.plugins.build import default_metric
    from harness.plugins.registry import Registry

    return default_metric(name, Registry(), torch.device("cpu"))


class _AttackProbe:
    def __init__(
        self,
        attack: Attack,
        report: Report,
        size: int,
        build: Callable[[str], Metric],
        queries: int,
        fit_limit: int,
    ) -> None:
        self._attack, self._report, self._build, self._fit_limit = attack, report, build, fit_limit
        self._ref, self._dist = image_pairs(size, size + 8)
        self._queries = queries
        self._fits: dict[tuple[int, int], Mapping[str, Tensor]] = {}
        self._linear = Scorer(Linear())
        self._worse: dict[tuple[Norm, str], list[bool]] = {}
        """Norm and direction -> whether the start won, for each sample tried on the linear metric."""

    def declares(self) -> bool:
        """Norms known; a hard limit for a black-box attack."""
        attack, expect = self._attack, self._report.expect
        unknown = set(attack.norms) - set(RADII)
        expect(
            bool(attack.norms) and not unknown,
            "norms are some of linf and l2",
            f"norms = {sorted(attack.norms)}",
            "state them on the class: norms: ClassVar[frozenset[Norm]] = frozenset({'linf'})",
        )
        black_box = not attack.needs_gradient and not attack.control
        limit = getattr(attack, "queries", None)
        limited = not black_box or (isinstance(limit, int) and limit >= 1)
        expect(
            limited,
            "a black-box attack has a field `queries`",
            f"queries = {limit!r}",
            "add the field queries: int, the most evaluations per sample",
        )
        if black_box and isinstance(limit, int) and limit > self._queries:
            with contextlib.suppress(ValueError):  # Refused by its own __post_init__: then as many as it says.
                self._attack = dataclasses.replace(attack, queries=self._queries)  # type: ignore[call-arg]
        return bool(attack.norms) and not unknown and limited

    def probe(self) -> None:
        """Every norm, direction and size of budget; then order, batch, seed and a randomised defense."""
        formula, small = Scorer(Formula()), Scorer(Small().eval().requires_grad_(False))
        defended = Scorer(Formula(), [Turn()])
        directions: tuple[Literal["", "up", "down"], ...] = ("",) if self._attack.control else ("up", "down")
        for norm in sorted(self._attack.norms):
            for endpoint in directions:
                case = _Case(formula, endpoint, norm)
                base = self._run(case)
                if base is None:
                    continue
                linear = dataclasses.replace(case, scorer=self._linear, label="a linear metric")
                self._run(linear)
                self._run(dataclasses.replace(linear, radius="tiny"))
                self._run(dataclasses.replace(linear, radius="large"))
                self._run(dataclasses.replace(case, scorer=small, label="a metric with parameters"))
                self._run(dataclasses.replace(case, scorer=defended, label="a randomised defense"))
                self._same_again(case, base)
            if not self._attack.control:
                case = _Case(self._linear, "error", norm, label="a linear metric")
                base = self._run(case)
                if base is not None:
                    self._same_again(case, base)
        self._beats_the_start()

    def probe_on(self, metric: Metric) -> None:
        """Every norm and direction on one metric, and a batch of two signs twice."""
        scorer = Scorer(metric)
        for norm in sorted(self._attack.norms):
            case = _Case(scorer, "", norm, rows=(0, 3), label=f"the metric {type(metric).__name__}")
            if not self._attack.control:
                self._run(dataclasses.replace(case, endpoint="up"))
                self._run(dataclasses.replace(case, endpoint="down"))
                case = dataclasses.replace(case, endpoint="error", rows=(0, 1))
            base = self._run(case)
            if base is not None:
                self._agrees(case, base, _RUN_AGAIN, case.rows)

    def _beats_the_start(self) -> None:
        """Whether keep-the-better is more than what saves the attack."""
        for (norm, endpoint), worse in self._worse.items():
            self._report.expect(
                not all(worse),
                "not every result is worse than the start",
                f"a linear metric, direction {endpoint}, {norm}: the start won in all of {len(worse)} samples",
                "raise J, which has its sign in it already: follow objective.gradient upwards, and where you take a "
                "direction of your own, take it by objective.sign, which may differ from row to row",
            )

    def _same_again(self, case: _Case, base: Tensor) -> None:
        for change, rows in (
            (_RUN_AGAIN, (0, 1, 2, 3)),
            (_IN_ANOTHER_ORDER, (2, 0, 3, 1)),
            (_WITHOUT_THE_STRONG, (0, 1)),
            (_WITHOUT_THE_SLIGHT, (2, 3)),
        ):
            self._agrees(case, base, change, rows)

    def _agrees(self, case: _Case, base: Tensor, change: _Change, rows: tuple[int, ...]) -> None:
        """Whether the given rows of a case, run by themselves, come out as they did in its base."""
        label, rule, cure = change
        again = self._run(dataclasses.replace(case, rows=rows))
        if again is not None:
            expected = base[[case.rows.index(row) for row in rows]]
            changed = int((again != expected).flatten(1).any(1).sum())
            self._report.expect(
                changed == 0,
                rule,
                f"{case}: {label}, {changed} of {len(rows)} images differ, by up to {largest_gap(again, expected):g}",
                cure,
            )

    def _part(self, name: str) -> Metric:
        """A registered metric that the attack asks for, which it has to have said."""
        named = self._attack.uses_metrics()
        self._report.expect(
            name in named,
            "uses_metrics() names every metric asked for",
            f"the metric '{name}' was asked for, and uses_metrics() gives {named!r}",
            "return its name from uses_metrics(), so that it is checked with the suite and part of identity",
        )
        return self._build(name)

    def _run(self, case: _Case) -> Tensor | None:
        """The images of one run as the engine does it; None if it failed, which is noted."""
        rule, cure = "perturb() works", "see the place named; every case here is one that suites may ask for"
        images: Tensor | None = None
        with self._report.probing(rule, str(case), cure):
            images = self._perturbed(case)
        return images

    def _perturbed(self, case: _Case) -> Tensor | None:
        attack, report, rows = self._attack, self._report, list(case.rows)
        count, ids = len(rows), [f"sample {row}" for row in rows]
        ref, dist = self._ref[rows], self._dist[rows]
        budget = Budget(case.norm, torch.full((count,), RADII[case.norm][case.radius]))
        fitted = Watched({sign: self._fitted(case, sign) for sign in case.signs} if attack.fits else {})
        sign, opinions = self._aims(case)
        given = (ref.clone(), dist.clone(), budget.eps.clone(), sign.clone())
        limit = getattr(attack, "queries", None) if not attack.needs_gradient else None
        objective = ScorerObjective(
            case.scorer,
            ref,
            dist,
            sign,
            budget if remembers(attack) else None,
            SampleRng.for_samples(0, ids, "defense"),
            eot=2,
            white_box=attack.needs_gradient,
            query_limit=limit,
            scale=1.0,
            fitted=fitted,
            build=self._part,
            opinions=opinions,
        )
        handed = dist.clone()
        free = attack.needs_gradient or attack.control
        with watching_randomness(report, "perturb()"), contextlib.nullcontext() if free else torch.no_grad():
            try:
                images = attack.perturb(objective, handed, budget, SampleRng.for_samples(0, ids, "attack"))
            except QueryLimit:
                images = objective.best()
        moved = not identical((ref, dist, budget.eps, sign), given)
        report.expect(
            not moved and identical(handed, given[1]),
            "inputs are left as they are",
            f"{case}: perturb() moved the images it was given by up to {largest_gap(handed, given[1]):g}"
            + (" and changed the objective or the budget" if moved else ""),
            "start from images.clone(), and use no in-place operations on the arguments",
        )
        if attack.fits:
            report.expect(
                fitted.used,
                "what fit() learnt is used",
                f"{case}: perturb() never looked at objective.fitted",
                "take it from objective.fitted[sign], or set fits = False",
            )
        if limit is not None:
            spent = int(objective.ledger.queries.max())
            report.expect(
                spent <= limit, "queries are kept", f"{case}: {spent} of {limit}", "stop when queries are spent"
            )
        taken = sorted(set(objective.notes) & set(EVERY_NAME))
        report.expect(
            not taken,
            "note() adds columns of its own",
            f"{case}: {taken} are columns of every record",
            "give them other names",
        )
        if not self._sound(case, images, dist):
            return None
        images = images.detach().clone()
        self._near(case, images, dist, budget)
        return self._kept(case, objective, images, dist, ref, budget)

    def _aims(self, case: _Case) -> tuple[Tensor, Opinions | None]:
        """The sign of each row, and for the direction error the opinions; whoever is first in an order counts there."""
        rows = list(case.rows)
        if case.endpoint != "error":
            return torch.full((len(rows),), float(case.signs[0])), None
        with torch.no_grad():
            quality = case.scorer.quality(case.scorer.encode(self._ref, SampleRng([])), self._dist)
        slope = 1 / float((quality.max() - quality.min()).clamp_min(1e-6))
        above = torch.tensor([-0.1, 0.1, 0.1, -0.1])
        whole = Opinions(slope, -slope * float(quality.min()), slope * (quality - quality.min()) + above)
        return whole.away(quality)[rows], whole.select(torch.tensor(rows))

    def _sound(self, case: _Case, images: Any, dist: Tensor) -> bool:
        """Shape, type and finiteness of what perturb() returned."""
        good = isinstance(images, Tensor) and images.shape == dist.shape and images.dtype == dist.dtype
        got = f"{images.dtype} of shape {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        self._report.expect(
            good,
            "perturb() returns images like those it got",
            f"{case}: {got} in place of {dist.dtype} of shape {list(dist.shape)}",
            "return a float32 tensor of shape N x 3 x H x W",
        )
        if not good:
            return False
        wrong = int((~images.isfinite()).sum())
        self._report.expect(
            wrong == 0,
            "perturb() returns finite pixels",
            f"{case}: {wrong} of {images.numel()} pixels are not finite",
            "guard divisions by a norm that can be 0 (the gradient may vanish)",
        )
        return wrong == 0

    def _near(self, case: _Case, images: Tensor, dist: Tensor, budget: Budget) -> None:
        """What the engine projects lies near its budget all the same: one step of one radius after a projection."""
        delta = (images - dist).flatten(1)
        length = delta.abs().amax(1) if budget.norm == "linf" else delta.norm(dim=1)
        beyond = torch.maximum(-images, images - 1).flatten(1).amax(1)
        slack = RELATIVE * budget.eps + SLACK
        away = (length > 2 * budget.eps + slack) & self._attack.bounded
        far = int(away.sum())
        self._report.expect(
            far == 0,
            "perturb() keeps to its budget",
            f"{case}: {far} of {len(images)} images are more than twice the radius from their start, up to "
            f"{float(length.max()):.3g}",
            "take the radius of each row from budget.eps, in [0, 1] image units, and end with "
            "budget.project(attacked, images)",
        )
        out = int((~away & (beyond > budget.eps + slack)).sum())
        self._report.expect(
            out == 0,
            "perturb() keeps to the box [0, 1]",
            f"{case}: {out} of {len(images)} images have pixels further outside [0, 1] than the radius, by up to "
            f"{float(beyond.max()):.3g}",
            "pixels lie in [0, 1] and not in [0, 255]; end with budget.project(attacked, images)",
        )

    def _kept(
        self, case: _Case, objective: ScorerObjective, images: Tensor, dist: Tensor, ref: Tensor, budget: Budget
    ) -> Tensor:
        """Project, and keep the better of result and start, as the engine does (controls stay as they are)."""
        images = budget.project(images, dist) if self._attack.bounded else images.clamp(0, 1)
        if self._attack.control:
            return images
        with torch.no_grad():
            encoded = case.scorer.encode(ref, SampleRng.for_samples(0, [f"sample {r}" for r in case.rows], "keep"))
            before = objective.aim(case.scorer.quality(encoded, dist))
            worse = objective.aim(case.scorer.quality(encoded, images)) < before
        if case.scorer is self._linear:
            self._worse.setdefault((case.norm, case.endpoint), []).extend(worse.tolist())
        return torch.where(worse.view(-1, 1, 1, 1), dist, images)

    def _fitted(self, case: _Case, sign: int) -> Mapping[str, Tensor]:
        key = (id(case.scorer), sign)
        if key not in self._fits:
            with watching_randomness(self._report, "fit()"):
                first = self._attack.fit(self._batches(case, sign), np.random.default_rng(0))
            good = isinstance(first, Mapping) and all(isinstance(v, Tensor) for v in first.values())
            if not good:
                raise TypeError(f"fit() returned {type(first).__name__}; it must return a mapping of names to tensors")
            wrong = [name for name, value in first.items() if not bool(value.isfinite().all())]
            self._report.expect(
                not wrong, "fit() learns finite numbers", f"{case}: {wrong} are not", "guard against a zero gradient"
            )
            second = self._attack.fit(self._batches(case, sign), np.random.default_rng(0))
            self._report.expect(
                identical(dict(first), dict(second)),
                "fit() is deterministic",
                f"{case}: the same batches and seed taught it something else",
                "take all randomness from rng, keep no state",
            )
            self._fits[key] = first
        return self._fits[key]

    def _batches(self, case: _Case, sign: int) -> Iterator[tuple[ScorerObjective, Tensor]]:
        count = len(self._dist)
        for visit in range(self._fit_limit):
            rng = SampleRng.for_samples(visit, [f"train {i}" for i in range(count)], "defense")
            signs = torch.full((count,), float(sign))
            yield (
                ScorerObjective(
                    case.scorer,
                    self._ref.flip(-1),
                    self._dist.flip(-1),
                    signs,
                    None,
                    rng,
                    eot=2,
                    build=self._part,
                ),
                self._dist.flip(-1),
            )
        raise RuntimeError(f"fit() took {self._fit_limit} batches and wants more; the iterator is endless")
