"""Batches that are shuffled passes over all entries, for recipes that treat every row alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.contracts import Entry, Recipe


class UniformRecipe(Recipe):
    """What recipes of uniform batches share: every row is attacked if the recipe attacks, and none if it does not."""

    batch: int

    def batches(
        self, entries: Sequence[Entry], rng: np.random.Generator
    ) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
        """Shuffled passes over the entries, cut into batches; what is left of a pass begins the next batch."""
        for indices in shuffled_passes(len(entries), self.batch, rng):
            yield indices, [self.attacks] * self.batch


def check_shares(**shares: float) -> None:
    """Refuse weights and shares that are not in [0, 1].

    Raises:
        ValueError: One is not; names it.
    """
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} should be in [0, 1], got {share}")


def shuffled_passes(count: int, batch: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Endless batches of indices below `count`: every pass shuffled anew, what is left of one begins the next batch."""
    queue: list[int] = []
    while True:
        while len(queue) < batch:
            queue.extend(rng.permutation(count).tolist())
        yield queue[:batch]
        queue = queue[batch:]
