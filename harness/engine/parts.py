"""What goes into an attack and what comes out: parts of cells, what a block knows of its batches, attacked batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.contracts import SampleRng, Tree
from harness.engine.batches import Batch
from harness.engine.scorer import Scorer
from harness.suite.plan import Cell


@dataclass(frozen=True)
class AttackedBatch:
    """One attacked batch and what it cost."""

    batch: Batch
    index: int
    images: Tensor
    sign: list[int]
    forwards: list[int]
    backwards: list[int]
    queries: list[int]
    zero_gradients: list[int]
    constant_gradients: list[int]
    seconds: float
    together: int
    """Images that were attacked at once: those of every part."""
    status: list[str]
    notes: Mapping[str, list[Any]]
    quality: Tensor | None = None
    """Quality of the images under the source, where keeping the better has found it."""


class Seen:
    """What the cells of a block share: encoded references and clean qualities of its batches."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.clean: dict[tuple[str, int, int], Tensor] = {}
        """(scorer, batch, draw) -> clean quality of the whole batch."""
        self._encoded: dict[tuple[str, int], Tree] = {}

    def whole(self, batch: Batch, index: int) -> bool:
        """Whether it is all of the batch of this index, and not the part that has one sign."""
        return len(batch.items) == len(self.batches[index].items)

    def encode(self, key: str, scorer: Scorer, batch: Batch, index: int) -> Tree:
        """The encoded reference of a scorer that is not randomised, once per block (whole batches only)."""
        if not self.whole(batch, index):
            return scorer.encode(batch.ref, SampleRng([], batch.ref.device))
        if (key, index) not in self._encoded:
            self._encoded[key, index] = scorer.encode(batch.ref, SampleRng([], batch.ref.device))
        return self._encoded[key, index]


def unattacked(batch: Batch, index: int) -> AttackedBatch:
    """A batch as it is, for clean cells."""
    zeros = [0] * len(batch.items)
    status = ["ok"] * len(batch.items)
    counts = (zeros, zeros, zeros, zeros, zeros)
    return AttackedBatch(batch, index, batch.dist, zeros, *counts, 0.0, len(zeros), status, {})


@dataclass(frozen=True)
class AttackPart:
    """Rows of an attack: a batch that is attacked for a cell at one radius.

    Parts that are attacked together agree in source, attack, norm, draws and precision, and in what is aimed at: up and
    down are one aim.
    """

    cell: Cell
    eps: float
    batch: Batch
    index: int
    """Place of the batch in its block."""
    seen: Seen
    """What is known of the block's batches."""

    @property
    def whole(self) -> bool:
        """Whether it is all of a batch of its block."""
        return self.seen.whole(self.batch, self.index)

    def encode(self, scorer: Scorer) -> Tree:
        """The encoded references of the source, which is not randomised."""
        return self.seen.encode(self.cell.source.key, scorer, self.batch, self.index)


def flight_key(cell: Cell) -> tuple[Any, ...]:
    """Equal for cells of one block whose attacks differ in radius or direction alone."""
    attack, endpoint, norm, _, eot, fact, _, patch, precision = cell.attack_key
    return attack, "direction" if cell.sign else endpoint, norm, eot, fact, patch, precision
