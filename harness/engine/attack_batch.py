"""One batch -> attacked images: perturb, project, keep the best of result, start and floor; of one or more cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Metric, Norm, QueryLimit, SampleRng, Tree, map_tree
from harness.engine.batches import (
    SampleError,
    blame,
    blaming,
    joined_batches,
    joined_trees,
    not_finite,
    refuse_nan,
)
from harness.engine.objective import Ledger, Opinions, ScorerObjective, remembers, within
from harness.engine.parts import AttackedBatch, AttackPart
from harness.engine.scorer import Scorer
from harness.plugins.returned import check_images
from harness.suite.model import Use
from harness.suite.plan import ScorerSpec

GRADIENTS = ("exact", "surrogate")
"""By which an attack is run on a scorer with a purifier whose gradient is "both"; the record's column `gradient`."""


class Tools(Protocol):
    """What attacking and scoring need of the worker that does them; things are built once per worker."""

    @property
    def device(self) -> torch.device:
        """Where images and scorers are."""

    @property
    def seed(self) -> int:
        """Of the suite."""

    def scorer(self, spec: ScorerSpec) -> Scorer:
        """A metric with its weights, under purifiers."""

    def attack(self, use: Use) -> Attack:
        """An attack with its parameters."""

    def metric(self, name: str) -> Metric:
        """A metric with default parameters and weights, for an attack's own use."""

    def called(self, use: Use) -> str:
        """What a plugin is called in messages, with where it comes from."""

    def fact(self, name: str) -> Mapping[str, Any]:
        """A fact that an earlier job computed."""

    def fit(self, name: str) -> Mapping[str, Tensor]:
        """What an attack learnt in an earlier job."""

    def tell(self, text: str) -> None:
        """Say how far a long job is, for a person who watches."""


def attack_parts(
    parts: Sequence[AttackPart], tools: Tools, watch: Callable[[int], None] | None = None
) -> list[AttackedBatch]:
    """Attack some parts at once, as one batch. Their images have one size.

    Args:
        parts: What is attacked.
        tools: What the worker provides.
        watch: Hears the number of evaluations so far.

    Returns:
        The attacked batch of each part.

    Raises:
        SampleError: The attack or the metric failed; names the sample.
    """
    return _Attempt(parts, tools, watch).run()


@dataclass(frozen=True)
class _Tried:
    """One run of an attack: what it saw, and its images inside budget and box."""

    objective: ScorerObjective
    images: Tensor


def _added(ledgers: Sequence[Ledger]) -> Ledger:
    """What several runs cost together."""
    names = [one.name for one in fields(Ledger)]
    return Ledger(*(torch.stack([getattr(ledger, name) for ledger in ledgers]).sum(0) for name in names))


def _notes_of(tried: Sequence[_Tried], won: Sequence[int], status: Sequence[str]) -> Mapping[str, list[Any]]:
    """What the run noted that each row is of; of two runs also which it was, where it is neither start nor floor."""
    if len(tried) == 1:
        return tried[0].objective.notes
    names = dict.fromkeys(name for one in tried for name in one.objective.notes)
    empty = [None] * len(won)
    notes: dict[str, list[Any]] = {
        name: [tried[run].objective.notes.get(name, empty)[row] for row, run in enumerate(won)] for name in names
    }
    kept = [GRADIENTS[run] if was == "ok" else None for run, was in zip(won, status, strict=True)]
    return {**notes, "gradient": kept}


class _Attempt:
    """One call of `attack_parts`; rows are those of its parts, one after the other."""

    def __init__(self, parts: Sequence[AttackPart], tools: Tools, watch: Callable[[int], None] | None) -> None:
        self._parts, self._tools, self._watch = parts, tools, watch
        self._cell = parts[0].cell
        assert self._cell.attack is not None
        self._use = self._cell.attack
        self._attack = tools.attack(self._use)
        self._scorer = tools.scorer(self._cell.source)
        self._rows = joined_batches([part.batch for part in parts])
        self._quality_before: Tensor | None = None
        self._budget = Budget(cast(Norm, self._cell.norm), self._per_row([part.eps for part in parts]))

    def _per_row(self, values: Sequence[float]) -> Tensor:
        """A number of each part for each of its rows."""
        device = self._rows.dist.device
        counts = torch.tensor([len(part.batch.items) for part in self._parts], device=device)
        total = len(self._rows.items)
        return torch.tensor(values, device=device).repeat_interleave(counts, output_size=total)

    def run(self) -> list[AttackedBatch]:
        cell, batch = self._cell, self._rows
        count = len(batch.items)
        opinions = self._opinions() if cell.endpoint == "error" else None
        sign = self._per_row([float(part.cell.sign) for part in self._parts])
        if opinions is not None:
            sign = opinions.away(self._start_quality())
        scale = 1.0 if self._attack.control else float(self._tools.fact(cell.fact)["range"])
        began = time.perf_counter()
        who = f"{self._use.label} on {cell.source.label}"
        with blaming(lambda error: blame(self._scorer, batch, error, who, self._tools.seed)):
            tried = [self._try(scorer, sign, opinions, scale) for scorer in self._scorers()]
            images, status, quality, won = self._kept(tried)
        each = (time.perf_counter() - began) / count
        ledger, notes = _added([one.objective.ledger for one in tried]), _notes_of(tried, won, status)
        return [
            AttackedBatch(
                part.batch,
                part.index,
                images[rows],
                [int(s) for s in sign[rows].tolist()],
                ledger.forwards[rows].tolist(),
                ledger.backwards[rows].tolist(),
                ledger.queries[rows].tolist(),
                ledger.zero_gradients[rows].tolist(),
                ledger.constant_gradients[rows].tolist(),
                each * len(part.batch.items),
                count,
                status[rows],
                {name: values[rows] for name, values in notes.items()},
                None if quality is None else quality[rows],
            )
            for part, rows in zip(self._parts, self._rows_of_parts(), strict=True)
        ]

    def _rows_of_parts(self) -> Iterator[slice]:
        """Where the rows of each part are."""
        first = 0
        for part in self._parts:
            last = first + len(part.batch.items)
            yield slice(first, last)
            first = last

    def _scorers(self) -> Sequence[Scorer]:
        """The source once for every gradient that a white-box attack is run with."""
        twice = self._scorer.both_gradients and self._attack.needs_gradient and not self._attack.control
        return (self._scorer, self._scorer.standing_in()) if twice else (self._scorer,)

    def _try(self, scorer: Scorer, sign: Tensor, opinions: Opinions | None, scale: float) -> _Tried:
        """One run of the attack; every run begins with the same draws."""
        cell, tools, batch, device = self._cell, self._tools, self._rows, self._rows.dist.device
        fits = {sign: fit for part in self._parts for sign, fit in part.cell.fits}
        objective = ScorerObjective(
            scorer,
            batch.ref,
            batch.dist,
            sign,
            self._budget if remembers(self._attack) else None,
            self._draws(f"defense/attack/{self._use.name}"),
            encoded=None if scorer.randomised else self._encoded(),
            eot=cell.eot,
            white_box=self._attack.needs_gradient,
            query_limit=getattr(self._attack, "queries", None) if not self._attack.needs_gradient else None,
            scale=scale if opinions is None else scale * abs(opinions.slope),
            fitted={s: map_tree(lambda t: t.to(device), dict(tools.fit(fit))) for s, fit in fits.items()},
            build=tools.metric,
            opinions=opinions,
            precision=cell.precision,
            watch=self._watch,
        )
        rng = SampleRng.for_samples(tools.seed, batch.ids, self._use.name, device)
        return _Tried(objective, self._perturb(objective, self._budget, rng))

    def _draws(self, purpose: str) -> SampleRng:
        """Generators for a scorer that is randomised; none for another, whose making would take time for nothing."""
        samples = self._rows.samples if self._scorer.randomised else []
        return SampleRng.for_samples(self._tools.seed, samples, purpose, self._rows.dist.device)

    def _perturb(self, objective: ScorerObjective, budget: Budget, rng: SampleRng) -> Tensor:
        attack, batch, who = self._attack, self._rows, self._tools.called(self._use)
        if attack.needs_gradient or attack.control:
            images = attack.perturb(objective, batch.dist.clone(), budget, rng)
        else:
            try:
                with torch.no_grad():
                    images = attack.perturb(objective, batch.dist.clone(), budget, rng)
            except QueryLimit:
                images = objective.best()
        images = check_images(images, batch.dist, f"{who}: perturb()").detach()
        images = images.clone(memory_format=torch.contiguous_format)  # one layout however often they are scored
        refuse_nan(
            batch,
            images.flatten(1).sum(1),
            f"{who}: perturb() returned pixels that are not finite; images must lie in [0, 1]",
        )
        if not attack.bounded:
            return images.clamp(0, 1)
        images = budget.project(images, batch.dist)
        if not bool(within(images, batch.dist, budget).all()):
            raise AssertionError("projected images lie outside the budget or the box")
        return images

    def _kept(self, tried: Sequence[_Tried]) -> tuple[Tensor, list[str], Tensor | None, list[int]]:
        """What is kept: images, their status, their quality as of `_keep_better`, and the run that each is of."""
        first, count = tried[0], len(self._rows.items)
        if self._attack.control:
            return first.images, ["ok"] * count, None, [0] * count
        return self._keep_better(tried)

    def _keep_better(self, tried: Sequence[_Tried]) -> tuple[Tensor, list[str], Tensor | None, list[int]]:
        """Per row, the best of results, start and floor, judged on draws that no run of the attack has seen.

        A result that gains nothing gives way to the start, so that "start" counts every image that did not move J.

        Returns:
            The images, their status, their quality under a source that is not randomised, and which run was the better.
        """
        objective, budget = tried[0].objective, self._budget
        images, quality, gain = self._gained(tried[0].images, objective)
        won = torch.zeros_like(gain, dtype=torch.int64)
        for run, other_try in enumerate(tried[1:], start=1):
            others, other, reached = self._gained(other_try.images, objective)
            better = reached > gain
            images = torch.where(better.view(-1, 1, 1, 1), others, images)
            quality = None if quality is None or other is None else torch.where(better, other, quality)
            gain, won = torch.maximum(gain, reached), torch.where(better, run, won)
        status = ["ok"] * len(images)
        if self._use.floor == "restore":
            restored, other, reached = self._gained(
                budget.project(self._rows.ref, self._rows.dist).contiguous(), objective
            )
            better = reached > gain
            images = torch.where(better.view(-1, 1, 1, 1), restored, images)
            quality = None if quality is None or other is None else torch.where(better, other, quality)
            gain = torch.maximum(gain, reached)
            status = ["floor" if row else "ok" for row in better.tolist()]
        useless = gain <= 0
        images = torch.where(useless.view(-1, 1, 1, 1), self._rows.dist, images)
        if quality is not None:
            quality = torch.where(useless, self._before(), quality)
        status = ["start" if row else was for row, was in zip(useless.tolist(), status, strict=True)]
        return images, status, quality, won.tolist()

    def _gained(self, images: Tensor, objective: ScorerObjective) -> tuple[Tensor, Tensor | None, Tensor]:
        """(the images, their quality under a source that is not randomised, their gain in J over the start)."""
        cell, scorer, batch, quality = self._cell, self._scorer, self._rows, None
        with torch.no_grad():
            if scorer.randomised:
                rng = SampleRng.for_samples(self._tools.seed, batch.samples, "defense/keep", batch.dist.device)
                gain = torch.zeros_like(objective.sign)
                for _ in range(cell.eot):
                    encoded = scorer.encode(batch.ref, rng)
                    before, after = scorer.quality(encoded, batch.dist), scorer.quality(encoded, images)
                    gain += objective.aim(after) - objective.aim(before)
            else:
                quality = scorer.quality(self._encoded(), images)
                gain = objective.aim(quality) - objective.aim(self._before())
            refuse_nan(batch, gain, not_finite(cell.source.label, scorer, "an attacked image"))
        return images, quality, gain

    def _before(self) -> Tensor:
        """Quality of the starts under a source that is not randomised."""
        if self._quality_before is None:
            known = [
                part.seen.clean.get((self._cell.source.key, part.index, 0)) if part.whole else None
                for part in self._parts
            ]
            clean = [quality for quality in known if quality is not None]
            with torch.no_grad():
                self._quality_before = (
                    torch.cat(clean)
                    if len(clean) == len(known)
                    else self._scorer.quality(self._encoded(), self._rows.dist)
                )
        return self._quality_before

    def _opinions(self) -> Opinions:
        """What the error of the source's predictions is measured against.

        Raises:
            SampleError: A sample has no opinion, or the calibration gives no line from quality to opinions.
        """
        batch = self._rows
        line = self._tools.fact(self._cell.fact)["line"]
        if line is None:
            message = (
                f"no line from the quality of {self._cell.source.label} to opinions: its calibration samples have "
            )
            message += "no opinions, or one score for all. Take the direction self_split instead."
            raise SampleError("", message)
        scores = [item.entry.opinion for item in batch.items]
        for item, score in zip(batch.items, scores, strict=True):
            if score is None:
                message = "it has no opinion, which the direction error needs. Leave the direction out."
                raise SampleError(item.id, message, bad_input=True)
        return Opinions(
            float(line[0]), float(line[1]), torch.tensor(scores, dtype=batch.dist.dtype, device=batch.dist.device)
        )

    def _start_quality(self) -> Tensor:
        """Quality of the unattacked images; of a randomised scorer by draws of their own."""
        scorer, batch = self._scorer, self._rows
        who, seed = self._cell.source.label, self._tools.seed
        with torch.no_grad(), blaming(lambda error: blame(scorer, batch, error, who, seed)):
            if scorer.randomised:
                rng = SampleRng.for_samples(self._tools.seed, batch.samples, "defense/start", batch.dist.device)
                return scorer.quality(scorer.encode(batch.ref, rng), batch.dist)
            return scorer.quality(self._encoded(), batch.dist)

    def _encoded(self) -> Tree:
        """The encoded references of a source that is not randomised."""
        found = [part.encode(self._scorer) for part in self._parts]
        if len(found) == 1:
            return found[0]
        try:
            return joined_trees(found)
        except ValueError:  # they say something of their batch that is no tensor
            return self._scorer.encode(self._rows.ref, SampleRng([], self._rows.ref.device))
