"""What the attacks that follow a gradient share: the steepest direction, where they start, and Adam."""

from __future__ import annotations

from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from harness.contracts import Budget, Objective, SampleRng

Start = Literal["zero", "random", "reference"]
"""Where a run starts: the distorted image, a random point of the ball, or its point nearest to the reference."""

TINY = torch.finfo(torch.float32).tiny
"""Smallest normal number: what a length of zero is divided by in its place."""
ADAM_EPSILON = 1e-20
"""Far below any gradient: the slope of a mean over a million pixels is itself near Adam's usual 1e-8."""


def per_image(values: Tensor) -> Tensor:
    """One number per sample, [N], shaped so that it multiplies images: N x 1 x 1 x 1."""
    return values.view(-1, 1, 1, 1)


def lengths(images: Tensor) -> Tensor:
    """L2 norm of each image, N x 1 x 1 x 1."""
    return per_image(images.flatten(1).norm(dim=1))


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The direction of length 1 in the norm along which J rises fastest; 0 where the gradient is.

    Args:
        gradient: dJ/dx, N x 3 x H x W.
        norm: "linf" gives the sign, "l2" the gradient over its own length.
    """
    if norm == "linf":
        return gradient.sign()
    scaled = gradient / per_image(gradient.abs().flatten(1).amax(1)).clamp_min(TINY)  # or tiny ones square to 0
    return scaled / lengths(scaled).clamp_min(TINY)


def random_start(images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
    """Points drawn uniformly from each ball, moved into the box.

    In L2 a direction is drawn uniformly, and a length as the d-th root of a uniform number, d being the values of an
    image.
    """
    eps = per_image(budget.eps)
    if budget.norm == "linf":
        return budget.project(images + rng.uniform(*images.shape[1:], low=-1.0) * eps, images)
    direction = rng.normal(*images.shape[1:])
    length = per_image(rng.uniform()) ** (1 / images[0].numel())
    return budget.project(images + direction / lengths(direction).clamp_min(TINY) * length * eps, images)


def starting_points(start: Start, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
    """Where the runs of some images start, N x 3 x H x W.

    The point nearest to the reference lies in the ball and is what the control `restore` gives: an attacker who knows
    the reference has it for nothing, and upwards the best point is no lower.
    """
    if start == "random":
        return random_start(images, budget, rng)
    return budget.project(objective.reference, images) if start == "reference" else images


def may_leave(start: Start, objective: Objective) -> Tensor | None:
    """Rows whose run may leave a start without a slope, None for all: at the reference, upwards, it may be the goal."""
    return objective.sign <= 0 if start == "reference" else None


class Climbed(Protocol):
    """What is climbed: an objective, or something of the kind."""

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(J, dJ/dimages), shapes [N] and N x 3 x H x W."""

    def select(self, index: Tensor) -> Self:
        """The same of the given rows."""


def moved_off(
    climbed: Climbed,
    points: Tensor,
    value: Tensor,
    gradient: Tensor,
    images: Tensor,
    budget: Budget,
    rng: SampleRng,
    among: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random points of the ball in place of those where the gradient is 0: from there no step leads anywhere.

    An image that equals its reference is such a point of most metrics. Costs one evaluation of the images concerned.

    Args:
        climbed: What is climbed.
        points: Where the runs are, N x 3 x H x W.
        value: J there, [N].
        gradient: dJ/dx there, N x 3 x H x W.
        images: Centres of the balls, N x 3 x H x W.
        budget: Norm and radius per sample.
        rng: Drawn from for the images concerned alone.
        among: Rows that may be moved, bool of shape [N]; all by default.

    Returns:
        Points, J and gradient.
    """
    stuck = ~(gradient != 0).flatten(1).any(1)
    if among is not None:
        stuck = stuck & among
    if not bool(stuck.any()):
        return points, value, gradient
    rows = stuck.nonzero().flatten()
    moved = random_start(images[rows], budget.select(rows), rng.select(rows))
    reached, rise = climbed.select(rows).gradient(moved)
    return points.index_copy(0, rows, moved), value.index_copy(0, rows, reached), gradient.index_copy(0, rows, rise)


def check_steps(step_size: float | None = None, **counts: int) -> None:
    """Refuse what no attack that steps can have.

    Args:
        step_size: Length of a step in [0, 1] image units, where it has one.
        counts: Parameters that count something, by name.

    Raises:
        ValueError: A count is below 1, or the step has no length or one above the range of images.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} should be at least 1, got {count}")
    if step_size is not None and not 0 < step_size <= 1:
        raise ValueError(f"step_size should be above 0 and at most 1, got {step_size:g}")


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) uphill, betas .9 and .999, element by element.

    torch's own keeps its state in an optimiser over leaves and reads its step count from a tensor.

    Args:
        rate: Step size, in the units of the variable.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    def step(self, gradient: Tensor) -> Tensor:
        """What to add to the variable, of the shape of its gradient."""
        if self._mean is None or self._square is None:
            self._mean, self._square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._count += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient.square()
        mean, square = self._mean / (1 - 0.9**self._count), self._square / (1 - 0.999**self._count)
        return self._rate * mean / (square.sqrt() + ADAM_EPSILON)
