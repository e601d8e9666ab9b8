"""Square: a black-box random search over squares of one colour, kept when they raise the objective."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Norm, Objective, SampleRng, register

_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Steps of 10,000 after which the share of pixels in a square is halved."""

_Patches = list[tuple[Tensor, Tensor]]
"""What a step changes, in this order: flat places, and their new values, both N x 3 x places."""


@register("square")
@dataclass(frozen=True)
class Square(Attack):
    """Square Attack (Andriushchenko et al. 2020, algorithms 1 to 3), with its defaults for Linf.

    Linf starts from vertical stripes of +eps or -eps and sets squares to one of them per channel; L2 starts from a grid
    of bumps and moves the energy of one square into another. A change stays if it raises J. Two departures from the
    authors' code: squares reach the last row and column of an image, and Linf starts from the distorted image (for one
    query) where the stripes have the lower J. Stripes break a classifier, but to raise quality they are a long way
    back.

    Attributes:
        queries: Evaluations per sample; the schedule of the squares' size is scaled to them.
        p_init: Share of an image's pixels that the first squares cover. The paper takes .05 for Linf and .1 for L2,
            AutoAttack .8, which lowers quality further within a few hundred queries.
    """

    cite = "andriushchenko2020square"

    needs_gradient = False
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf", "l2"})
    queries: int = 10_000
    p_init: float = 0.05

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries should be at least 1, got {self.queries}")
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init should be above 0 and at most 1, got {self.p_init:g}")

    def uses_best(self) -> bool:
        """Never: the image it holds is the best it has evaluated."""
        return False

    def share(self, step: int) -> float:
        """Share of an image's pixels that a square covers at a step, counted from 0."""
        done = step * 10_000 // self.queries
        halvings = sum(done > mark for mark in _HALVED_AT)
        return self.p_init / float(2**halvings)

    @torch.no_grad()
    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Start from stripes (L2: bumps), then try a square per query."""
        images = images.contiguous()
        linf = budget.norm == "linf"
        eps = budget.eps.view(-1, 1, 1)
        current = _stripes(images, eps, rng) if linf else _bumps(images, eps, rng)
        best = objective(current)
        steps = self.queries - 1
        if linf and steps:
            steps, value = steps - 1, objective(images)
            current = torch.where((value > best).view(-1, 1, 1, 1), images, current)
            best = torch.maximum(best, value)
        # Only the pixels of the squares are written, and written back where J did not rise: no copies of whole images.
        canvas = current.view(len(images), 3, -1)
        search = (self._recolour if linf else self._move)(canvas, images, eps, rng)
        better = None
        for _ in range(steps):
            patches = search.send(better)
            before = [canvas.gather(2, where) for where, _ in patches]
            for where, values in patches:
                canvas.scatter_(2, where, values)
            value = objective(current)
            better = value > best
            best = torch.where(better, value, best)
            for (where, values), old in zip(patches, before, strict=True):
                canvas.scatter_(2, where, torch.where(better.view(-1, 1, 1), values, old))
        return current

    def _stages(self, height: int, width: int, norm: Norm) -> Iterator[tuple[int, int]]:
        """(Side of the squares in pixels, number of steps with it), in order."""
        sides = (self._side(step, height, width, norm) for step in range(self.queries - 1))
        for side, steps in itertools.groupby(sides):
            yield side, sum(1 for _ in steps)

    def _side(self, step: int, height: int, width: int, norm: Norm) -> int:
        side = round(math.sqrt(self.share(step) * height * width))
        if norm == "l2":
            side = max(side, 3) | 1  # its bumps need a centre
        return min(max(side, 1), height, width)

    def _recolour(
        self, canvas: Tensor, images: Tensor, eps: Tensor, rng: SampleRng
    ) -> Generator[_Patches, Tensor | None, None]:
        """Algorithm 2: a square gets one sign per channel, never those that it has."""
        height, width = images.shape[2:]
        low, high = (images.flatten(2) - eps).clamp_(0, 1), (images.flatten(2) + eps).clamp_(0, 1)
        for side, steps in self._stages(height, width, "linf"):
            tops, lefts = rng.integers(height - side + 1, steps), rng.integers(width - side + 1, steps)
            drawn, another = rng.integers(8, steps), rng.integers(7, steps)
            # Drawing again until something changes, in a fixed number of draws: one of the other seven.
            first, second = _bits(drawn), _bits((drawn + 1 + another) % 8)
            inside = _offsets(side, width, images.device)
            for step in range(steps):
                where = _places(tops[:, step], lefts[:, step], inside, width)
                below, above, old = low.gather(2, where), high.gather(2, where), canvas.gather(2, where)
                same = (torch.where(first[:, step], above, below) == old).flatten(1).all(1)
                raised = torch.where(same.view(-1, 1, 1), second[:, step], first[:, step])
                yield [(where, torch.where(raised, above, below))]

    def _move(
        self, canvas: Tensor, images: Tensor, eps: Tensor, rng: SampleRng
    ) -> Generator[_Patches, Tensor | None, None]:
        """Algorithm 3: the energy of a second square, and what clipping has left unused, goes into the first.

        So the length of the perturbation comes to eps again without touching a pixel outside of the two.
        """
        height, width = images.shape[2:]
        clean = images.flatten(2)
        # Sums of squares are followed in double precision over thousands of steps.
        energy = (canvas - clean).double().square().sum((1, 2))
        radius = eps.view(-1).double().square()
        for side, steps in self._stages(height, width, "l2"):
            tops, lefts = rng.integers(height - side + 1, steps, 2), rng.integers(width - side + 1, steps, 2)
            signs, turned = rng.signs(steps, 3), rng.integers(2, steps)
            bump = _two_bumps(side).to(images)
            bumps = torch.stack([bump, bump.T]).flatten(1)
            inside = _offsets(side, width, images.device)
            for step in range(steps):
                top, left = tops[:, step], lefts[:, step]
                first, second = (_places(top[:, i], left[:, i], inside, width) for i in (0, 1))
                start, emptied = clean.gather(2, first), clean.gather(2, second)
                old = canvas.gather(2, first) - start
                shared = _in_square(inside, width, top[:, 0] - top[:, 1], left[:, 0] - left[:, 1], side)
                given = (canvas.gather(2, second) - emptied).double().square().sum(2)
                given += old.double().square().masked_fill(shared[:, None], 0).sum(2)
                spare = (radius - energy).clamp_min(0)[:, None] / 3
                direction = signs[:, step, :, None] * bumps[turned[:, step]][:, None]
                direction += old / (old.norm(dim=2, keepdim=True) + 1e-10)
                length = (given + spare).sqrt().to(old.dtype) / direction.norm(dim=2).clamp_min(1e-10)
                new = (start + direction * length[:, :, None]).clamp_(0, 1)
                moved = energy - given.sum(1) + (new - start).double().square().sum((1, 2))
                better = yield [(second, emptied), (first, new)]
                if better is not None:
                    energy = torch.where(better, moved, energy)


def _offsets(side: int, width: int, device: torch.device) -> Tensor:
    """Flat places of a square's pixels from its first one, int64 of shape [side^2]."""
    line = torch.arange(side, device=device)
    return (line[:, None] * width + line).flatten()


def _places(top: Tensor, left: Tensor, offsets: Tensor, width: int) -> Tensor:
    """Flat places of each sample's square in every channel, N x 3 x side^2."""
    return ((top * width + left)[:, None] + offsets)[:, None].expand(-1, 3, -1)


def _in_square(offsets: Tensor, width: int, down: Tensor, right: Tensor, side: int) -> Tensor:
    """Which pixels of a square lie in another of the same side that starts `down` and `right` before it, N x side^2."""
    rows, columns = offsets // width + down[:, None], offsets % width + right[:, None]
    return (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)


def _bits(pattern: Tensor) -> Tensor:
    """Which channels a pattern from 0 to 7 raises: N x steps in, bool of N x steps x 3 x 1 out."""
    return (pattern[..., None, None] >> torch.arange(3, device=pattern.device)[:, None] & 1).bool()


def _stripes(images: Tensor, eps: Tensor, rng: SampleRng) -> Tensor:
    """Each column of each channel moved by +eps or -eps."""
    signs = rng.signs(3, 1, images.shape[3])
    return (images + eps[..., None] * signs).clamp_(0, 1)


def _bumps(images: Tensor, eps: Tensor, rng: SampleRng) -> Tensor:
    """A grid of pairs of bumps, five along the shorter side, scaled to a length of eps."""
    height, width = images.shape[2:]
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    signs, turned = rng.signs(3, rows, columns), rng.integers(2, rows, columns)
    bump = _two_bumps(side).to(images)
    tiles = torch.stack([bump, bump.T])[turned]  # N x rows x columns x side x side
    grid = (signs[..., None, None] * tiles[:, None]).permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(2, 3)
    delta = torch.zeros_like(images)
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    delta[:, :, top : top + rows * side, left : left + columns * side] = grid
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    start: Tensor = (images + delta * (eps[..., None] / length)).clamp_(0, 1)
    return start


def _two_bumps(side: int) -> Tensor:
    """A positive bump in the upper half of a square, a negative one in the lower; together of length 1."""
    upper, lower = side // 2, side - side // 2
    pair = torch.cat([_bump(upper, side), -_bump(lower, side)])
    unit: Tensor = pair / pair.norm()
    return unit


def _bump(height: int, width: int) -> Tensor:
    """Rectangles around the centre, laid on each other with weights 1, 1/4, 1/9, ... (section 3.3); of length 1."""
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None])
    weights = 1 / torch.arange(1, max(height, width) // 2 + 2).float().square()
    bump = weights.flip(0).cumsum(0).flip(0)[distance]
    unit: Tensor = bump / bump.norm().clamp_min(1e-12)
    return unit
