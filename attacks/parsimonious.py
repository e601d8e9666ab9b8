"""Parsimonious: a black-box search over blocks of +eps and -eps by lazy greedy insertion and deletion."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Objective, SampleRng, register

_Block = tuple[int, int, int, int, int]
"""Channel, first row, row after the last, first column, column after the last."""

_Search = Generator[None, float, None]
"""The search of one sample: it pauses whenever its image is to be evaluated, and is sent its J."""


@register("parsimonious")
@dataclass(frozen=True)
class Parsimonious(Attack):
    """Parsimonious attack in Linf (Moon et al. 2019, algorithms 1 to 3): every pixel goes to -eps or +eps.

    All blocks start at -eps. Groups of them are raised greedily, then lowered greedily, by gains that are looked up
    again only when they come first; after all groups, the blocks are halved. Other than in the authors' code no block
    is flipped that does not raise J, the running J is the one evaluated, blocks are halved down to single pixels
    whatever their size, and the search ends where no single pixel raises J.

    Attributes:
        queries: Most evaluations per sample.
        block: Side in pixels of the first blocks; an eighth of the shorter side, and at least 4, unless given.
        group: Blocks searched together, drawn at random.
    """

    cite = "moon2019parsimonious"

    needs_gradient = False
    queries: int = 10_000
    block: int | None = None
    group: int = 64

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries should be at least 1, got {self.queries}")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block should be at least 1 px, got {self.block}")
        if self.group < 1:
            raise ValueError(f"group should be at least 1, got {self.group}")

    @torch.no_grad()
    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Search all samples in lock step, each by its own decisions, until its queries or its search end."""
        eps = budget.eps.view(-1, 1, 1, 1)
        low, high = (images - eps).clamp_(0, 1), (images + eps).clamp_(0, 1)
        current = low.clone()
        rows = list(range(len(images)))
        searches = [
            self._search(_Canvas(current[row], low[row], high[row]), rng.select(torch.tensor([row]))) for row in rows
        ]
        for search in searches:
            next(search)
        view, index = objective, None
        for _ in range(self.queries):
            values = view(current if index is None else current[index]).nan_to_num(nan=-torch.inf).tolist()
            left = [row for row, value in zip(rows, values, strict=True) if _goes_on(searches[row], value)]
            if not left:
                break
            if len(left) < len(rows):
                rows, index = left, torch.tensor(left, device=images.device)
                view = objective.select(index)
        return objective.best()

    def _search(self, canvas: _Canvas, rng: SampleRng) -> _Search:
        """The search of one sample, to the end."""
        height, width = canvas.size
        block = self.block or max(4, min(height, width) // 8)
        rows, columns = [*range(0, height, block), height], [*range(0, width, block), width]
        value = yield
        while True:
            before, smallest = value, len(rows) > height and len(columns) > width
            blocks = [
                (c, *y, *x) for c in range(3) for y in itertools.pairwise(rows) for x in itertools.pairwise(columns)
            ]
            order = rng.uniform(len(blocks)).argsort(dim=1)[0].tolist()
            for first in range(0, len(order), self.group):
                group = [blocks[place] for place in order[first : first + self.group]]
                for raised in (False, True):  # insertion, then deletion
                    value = yield from _greedy(canvas, [b for b in group if canvas.raised(b) == raised], value)
            if smallest and value == before:
                return
            rows, columns = _halved(rows), _halved(columns)


class _Canvas:
    """One sample's image, every block of it at the lower or the upper end of its budget."""

    def __init__(self, image: Tensor, low: Tensor, high: Tensor) -> None:
        self._image, self._low, self._high = image, low, high
        self._raised = np.zeros(image.shape, dtype=bool)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._image.shape[1], self._image.shape[2]

    def raised(self, block: _Block) -> bool:
        """Whether a block is at +eps."""
        channel, top, _, left, _ = block
        return bool(self._raised[channel, top, left])

    def flip(self, block: _Block) -> None:
        """Take a block to the other end."""
        channel, top, bottom, left, right = block
        where = (channel, slice(top, bottom), slice(left, right))
        self._image[where] = (self._low if self.raised(block) else self._high)[where]
        self._raised[where] ^= True


def _greedy(canvas: _Canvas, blocks: Sequence[_Block], value: float) -> Generator[None, float, float]:
    """Flip the block that raises J most, then the next, until none does; returns the J reached.

    Gains are taken to fall as blocks are flipped (lazy greedy): an old one is an upper bound, so a block whose new gain
    is at least the next one's old gain is the best.
    """
    queue = []
    for place, block in enumerate(blocks):
        canvas.flip(block)
        reached = yield
        canvas.flip(block)
        queue.append((value - reached, place, reached))
    heapq.heapify(queue)
    stale = False
    while queue:
        loss, place, reached = heapq.heappop(queue)
        canvas.flip(blocks[place])
        if stale:
            reached = yield
            loss = value - reached
            if queue and loss > queue[0][0]:
                canvas.flip(blocks[place])
                heapq.heappush(queue, (loss, place, reached))
                continue
        if not reached > value:
            canvas.flip(blocks[place])
            break
        value, stale = reached, True
    return value


def _goes_on(search: _Search, value: float) -> bool:
    """Tell a search the J of its canvas; whether it wants another."""
    try:
        search.send(value)
    except StopIteration:
        return False
    return True


def _halved(edges: Sequence[int]) -> list[int]:
    """Edges of blocks with one more in the middle of every block of at least 2 px."""
    middles = {(low + high + 1) // 2 for low, high in itertools.pairwise(edges)}
    return sorted({*edges, *middles})
