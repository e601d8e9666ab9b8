"""The engine's side of `Objective`: it counts, remembers the best image, and enforces the black-box view."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.contracts import Attack, Budget, Metric, Objective, QueryLimit, SampleRng, Tree, map_tree
from harness.engine.scorer import Scorer
from harness.engine.slopes import Slopes
from harness.errors import PluginFaultError
from harness.plugins.guard import calling
from harness.suite.model import Precision

SLACK = 1e-6
"""How far outside budget or box an image may be, in [0, 1] units, before it counts as outside."""
_ROUNDING = 2.0**-25
"""Half the distance of float32 numbers just below 1: n rounded values move an l2 norm by at most sqrt(n) of it."""
_Score = Callable[[Tree, Tensor], Tensor]
"""(Encoded references, images) -> qualities, or what stands in for them."""


@dataclass
class Ledger:
    """Evaluations per sample, int64 tensors of shape [N]."""

    forwards: Tensor
    backwards: Tensor
    queries: Tensor
    """On the host, which decides who may ask: a limit costs no wait for the device."""
    zero_gradients: Tensor
    """Backward passes whose gradient was zero or not finite."""
    constant_gradients: Tensor
    """Backward passes whose gradient was that of the one before, at another image."""

    @classmethod
    def zeros(cls, count: int, device: torch.device) -> Ledger:
        """A ledger of nothing yet."""
        forwards, backwards, zero, constant = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(4))
        return cls(forwards, backwards, torch.zeros(count, dtype=torch.int64), zero, constant)


@dataclass(frozen=True)
class Opinions:
    """What the error of a prediction is measured against: Q^ = slope x quality + intercept, and the opinion scores."""

    slope: float
    intercept: float
    opinion: Tensor
    """Opinion score of each sample, shape [N]."""

    def error(self, quality: Tensor) -> Tensor:
        """|Q^ - opinion|, shape [N]."""
        return (self.slope * quality + self.intercept - self.opinion).abs()

    def away(self, quality: Tensor) -> Tensor:
        """The sign of a change of quality that takes each prediction away from its opinion, +1 or -1, shape [N]."""
        above = self.slope * (self.slope * quality + self.intercept - self.opinion) >= 0
        return torch.where(above, 1.0, -1.0)

    def select(self, index: Tensor) -> Opinions:
        """Those of the given rows."""
        return Opinions(self.slope, self.intercept, self.opinion[index])


@dataclass
class _Shared:
    """What all views of one objective share; rows are those of the full batch."""

    scorer: Scorer
    start: Tensor
    budget: Budget | None
    ledger: Ledger
    slopes: Slopes
    best_images: Tensor
    best_value: Tensor
    eot: int
    white_box: bool
    query_limit: int | None
    build: Callable[[str], Metric]
    autocast: bool
    watch: Callable[[int], None] | None
    evaluations: int = 0
    """Of batches, whatever their rows."""
    notes: dict[str, list[Any]] = field(default_factory=dict)


class ScorerObjective(Objective):
    """J = sign x quality of one batch under one scorer, or the error of its predictions.

    Args:
        scorer: What is attacked.
        reference: Reference images, N x 3 x H x W.
        start: Distorted images, N x 3 x H x W.
        sign: float32 of shape [N].
        budget: Radius per sample; None where nothing is to be remembered, as while an attack is fitted.
        rng: Draws of a randomised scorer, fresh at every evaluation.
        encoded: The encoded reference, where it is known already and the scorer is not randomised.
        eot: Draws averaged per evaluation of a randomised scorer.
        white_box: False gives the black-box view.
        query_limit: Evaluations per sample in the black-box view.
        scale: Range of clean quality on the calibration samples.
        fitted: What the attack learnt, by sign.
        build: Makes another registered metric.
        opinions: Where given, J is the error |Q^ - opinion| and `sign` says only where each sample starts off to.
        precision: "bf16" scores the images of a white-box attack under autocast to bfloat16; the encoded reference and
            the value returned stay in float32. Attacks alone use it: what is recorded is scored in float32.
        watch: Hears the number of evaluations so far.
    """

    def __init__(
        self,
        scorer: Scorer,
        reference: Tensor,
        start: Tensor,
        sign: Tensor,
        budget: Budget | None,
        rng: SampleRng,
        *,
        encoded: Tree | None = None,
        eot: int = 1,
        white_box: bool = True,
        query_limit: int | None = None,
        scale: float = 1.0,
        fitted: Mapping[int, Mapping[str, Tensor]] | None = None,
        build: Callable[[str], Metric] | None = None,
        opinions: Opinions | None = None,
        precision: Precision = "fp32",
        watch: Callable[[int], None] | None = None,
    ) -> None:
        count, device = start.shape[0], start.device
        self.sign = sign
        self.reference = reference
        self.scale = scale
        self.fitted = fitted or {}
        self._rng = rng
        self._rows: Tensor | None = None
        self._rows_on_host: Sequence[int] | None = None
        self._opinions = opinions
        if encoded is None and not scorer.randomised:
            encoded = scorer.encode(reference, rng)
        self._encoded = encoded
        self._shared = _Shared(
            scorer=scorer,
            start=start,
            budget=budget,
            ledger=Ledger.zeros(count, device),
            slopes=Slopes(count, device),
            best_images=start.clone() if budget is not None else start,
            best_value=torch.full((count,), -torch.inf, device=device),
            eot=eot if scorer.randomised else 1,
            white_box=white_box,
            query_limit=query_limit,
            build=build or _no_plugins,
            autocast=precision == "bf16" and white_box,
            watch=watch,
        )

    @property
    def ledger(self) -> Ledger:
        """Counts of the full batch, shared by all views."""
        return self._shared.ledger

    @property
    def notes(self) -> Mapping[str, list[Any]]:
        """Extra record columns noted so far, one value per row of the full batch."""
        return self._shared.notes

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102
        shared = self._shared
        if not shared.white_box:
            allowed = self._spend(shared.eot)
            with torch.inference_mode():
                value = torch.stack([self._evaluate(images) for _ in range(shared.eot)]).mean(0)
            value = value.clone() if allowed is None else torch.where(allowed, value.clone(), -torch.inf)
        else:
            seen = self._watched(images) if torch.is_grad_enabled() and images.requires_grad else images
            value = torch.stack([self._evaluate(seen) for _ in range(shared.eot)]).mean(0)
            if value.requires_grad:
                value.register_hook(lambda _: self._count(shared.ledger.backwards, shared.eot))
        self._remember(images, value)
        return value

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        shared = self._shared
        if not shared.white_box:
            raise RuntimeError("gradient() is not to be had in a black-box view (the attack says needs_gradient=False)")
        total, slope = self._gradient(images)
        for _ in range(shared.eot - 1):
            value, step = self._gradient(images)
            total, slope = total + value, slope + step
        if shared.eot > 1:
            total, slope = total / shared.eot, slope / shared.eot
        self._remember(images, total)
        return total, slope

    def surrogate_gradient(self, images: Tensor) -> Tensor:  # noqa: D102
        shared = self._shared
        if not shared.white_box:
            raise RuntimeError("surrogate_gradient() is not to be had in a black-box view")
        slopes = [self._gradient(images, shared.scorer.surrogate)[1] for _ in range(shared.eot)]
        return torch.stack(slopes).mean(0) if shared.eot > 1 else slopes[0]

    def best(self) -> Tensor:  # noqa: D102
        if self._shared.budget is None:
            raise RuntimeError("best() is not to be had in a fit, nor for an attack whose uses_best() is False")
        images = self._shared.best_images
        return images.clone() if self._rows is None else images[self._rows]

    def select(self, index: Tensor) -> ScorerObjective:  # noqa: D102
        view = object.__new__(ScorerObjective)
        view.sign = self.sign[index]
        view.reference = self.reference[index]
        view.scale = self.scale
        view.fitted = self.fitted
        view._rng = self._rng.select(index) if self._shared.scorer.randomised else self._rng
        view._opinions = self._opinions and self._opinions.select(index)
        view._rows_on_host = None
        view._rows = index if self._rows is None else self._rows[index]
        view._encoded = None if self._encoded is None else map_tree(lambda t: t[index], self._encoded)
        view._shared = self._shared
        return view

    def plugin(self, name: str) -> Metric:  # noqa: D102
        return self._shared.build(name)

    def note(self, **columns: Tensor | Sequence[str]) -> None:  # noqa: D102
        rows = self._host_rows()
        for name, values in columns.items():
            plain = values.detach().cpu().tolist() if isinstance(values, Tensor) else list(values)
            kept = self._shared.notes.setdefault(name, [None] * self._shared.start.shape[0])
            for row, value in zip(rows, plain, strict=True):
                kept[row] = value

    def aim(self, quality: Tensor) -> Tensor:
        """J of the given qualities, shape [N]."""
        return self.sign * quality if self._opinions is None else self._opinions.error(quality)

    def _gradient(self, images: Tensor, score: _Score | None = None) -> tuple[Tensor, Tensor]:
        """J and its gradient by one draw; of another score than the quality where one is given."""
        shared = self._shared
        leaf = images.detach().requires_grad_(True)
        with torch.enable_grad():
            value = self._evaluate(leaf, score)
            if not value.requires_grad:
                raise PluginFaultError(
                    f"{shared.scorer.name}: its score does not follow the image by differentiable operations "
                    "(detach, numpy, rounding?). Mend it, or set differentiable = False and take black-box attacks"
                )
            value.register_hook(lambda _: self._count(shared.ledger.backwards))
            with calling(shared.scorer.name, "backward"):
                (slope,) = torch.autograd.grad(value.sum(), leaf)
        self._look(leaf, slope)
        # The gradient of a sum is one number seen through strides of 0, which an attack could not change in place.
        return value.detach(), slope.contiguous()

    def _evaluate(self, images: Tensor, score: _Score | None = None) -> Tensor:
        shared = self._shared
        score = score or shared.scorer.quality
        encoded = self._encoded
        if encoded is None:
            encoded = shared.scorer.encode(self.reference, self._rng)
        self._count(shared.ledger.forwards)
        shared.evaluations += 1
        if shared.watch is not None:
            shared.watch(shared.evaluations)
        if not shared.autocast:
            return self.aim(score(encoded, images))
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            quality = score(encoded, images)
        return self.aim(quality.float())

    def _watched(self, images: Tensor) -> Tensor:
        """The same images, whose gradients are looked at on their way to the attack."""
        watched = images.view_as(images)
        watched.register_hook(lambda slope: self._look(images, slope, self._shared.eot))
        return watched

    def _look(self, images: Tensor, slope: Tensor, draws: int = 1) -> None:
        zero, same = self._shared.slopes.look(images, slope, self._rows)
        for column, found in ((self.ledger.zero_gradients, zero), (self.ledger.constant_gradients, same)):
            if self._rows is None:
                column += draws * found
            else:
                column.index_add_(0, self._rows, draws * found.to(column.dtype))

    def _spend(self, count: int) -> Tensor | None:
        """Charge queries before they are made; says which rows still had enough, bool of shape [n], or None: all had.

        A row without queries left is scored -inf and is not remembered, so what a sample reaches does not depend on the
        others in its batch. No host synchronisation while all have enough.
        """
        shared = self._shared
        spent: NDArray[np.int64] = shared.ledger.queries.numpy()
        rows, limit = self._host_rows(), shared.query_limit
        if limit is None:
            np.add.at(spent, rows, count)
            return None
        allowed = []
        for row in rows:
            allowed.append(bool(spent[row] + count <= limit))
            spent[row] += count if allowed[-1] else 0
        if not any(allowed):
            raise QueryLimit(f"every sample has spent its {limit} queries")
        return None if all(allowed) else torch.tensor(allowed, device=self.sign.device)

    def _host_rows(self) -> Sequence[int]:
        """Its rows in the full batch, read from the device once."""
        if self._rows_on_host is None:
            self._rows_on_host = range(len(self.sign)) if self._rows is None else self._rows.tolist()
        return self._rows_on_host

    def _count(self, column: Tensor, amount: int = 1) -> None:
        if self._rows is None:
            column += amount
        else:
            column.index_add_(0, self._rows, torch.full_like(self._rows, amount))

    def _remember(self, images: Tensor, value: Tensor) -> None:
        """Keep each sample's best in-budget image; no host synchronisation, ties go to the earlier image."""
        shared = self._shared
        if shared.budget is None:
            return
        with torch.no_grad():
            images, value = images.detach(), value.detach()
            rows = self._rows
            start = shared.start if rows is None else shared.start[rows]
            budget = shared.budget if rows is None else shared.budget.select(rows)
            value = torch.where(within(images, start, budget), value, -torch.inf).nan_to_num(nan=-torch.inf)
            if rows is None:
                better = value > shared.best_value
                shared.best_value = torch.where(better, value, shared.best_value)
                _replace(shared.best_images, images, better)
                return
            top = shared.best_value.scatter_reduce(0, rows, value, "amax")
            count = len(rows)
            candidate = torch.where(value >= top[rows], torch.arange(count, device=rows.device), count)
            winner = torch.full_like(top, count, dtype=torch.int64).scatter_reduce(0, rows, candidate, "amin")
            better = (top > shared.best_value) & (winner < count)
            shared.best_value = torch.where(better, top, shared.best_value)
            chosen = images[winner.clamp(max=count - 1)]
            shared.best_images = torch.where(better.view(-1, 1, 1, 1), chosen, shared.best_images)


def remembers(attack: Attack) -> bool:
    """Whether an attack's objective has to remember images: for `best`, or for when a black-box attack is stopped."""
    return attack.uses_best() or not attack.needs_gradient


def _replace(kept: Tensor, images: Tensor, better: Tensor) -> None:
    """Put the better images in place of those kept: a new batch at every step would cost fresh pages of memory."""
    if kept.device.type == "cpu":  # nothing to wait for, and only the rows that changed are copied
        for row in better.numpy().nonzero()[0]:
            kept[row].copy_(images[row])
    else:
        torch.where(better.view(-1, 1, 1, 1), images, kept, out=kept)


def within(images: Tensor, start: Tensor, budget: Budget) -> Tensor:
    """Whether each image is inside ball and box up to `SLACK` and, in l2, rounding; bool of shape [N]."""
    flat = images.flatten(1)
    in_box = (flat.amin(1) >= -SLACK) & (flat.amax(1) <= 1 + SLACK)
    if budget.norm == "linf":
        return ((images - start).flatten(1).abs_().amax(1) <= budget.eps + SLACK) & in_box
    length: Tensor = (images.double() - start.double()).flatten(1).norm(dim=1)
    allowed = budget.eps + SLACK + _ROUNDING * math.sqrt(flat.shape[1])
    return (length <= allowed) & in_box


def _no_plugins(name: str) -> Metric:
    raise RuntimeError(f"no registry to build the metric '{name}' from")
