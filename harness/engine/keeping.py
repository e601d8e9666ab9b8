"""What a block keeps of the images that it attacks: examples that a suite asks for, and candidates for the gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.engine.batches import Item
from harness.engine.examples import Example, eight_bit
from harness.engine.gallery_pool import Candidates, Pool, pool_name
from harness.engine.parts import AttackedBatch
from harness.engine.run_folder import RunFolder
from harness.suite.plan import Cell

_Columns = Mapping[str, Sequence[Any]]
_KEPT = ("clean", "attacked", "attacked_8bit", "linf", "l2", "sign", "norm", "eps", "status")


@dataclass(frozen=True)
class Keeping:
    """What is kept of one slice.

    Attributes:
        ranks: Sample id -> its place in the split, of the slice.
        examples: Samples of the split, first in hash order, whose images are kept as examples.
        exact: Whether examples are kept as floats too.
        pool: What competes for the gallery; None where nothing does.
    """

    ranks: Mapping[str, int]
    examples: int = 0
    exact: bool = False
    pool: Pool | None = None

    def keep(
        self, cell: Cell, index: int, results: Sequence[AttackedBatch], columns: _Columns, store: RunFolder
    ) -> None:
        """Store what is kept of a cell that was scored.

        Args:
            cell: The cell.
            index: Of the slice.
            results: Its attacked batches.
            columns: Its records: of each batch in turn all items of the first draw, then those of the next.
            store: The run folder.
        """
        if cell.attack is None:
            return
        count = sum(rank < self.examples for rank in self.ranks.values())
        if count:
            found = [self._example(cell, *one) for one in _rows(cell, results, columns) if self._is_example(one[0])]
            store.write_examples(cell, index, count, found, exact=self.exact)
        if self.pool is not None and cell.id in self.pool.cells:
            store.add_candidates(pool_name(cell), index, self._candidates(self.pool, cell, results, columns))

    def _is_example(self, item: Item) -> bool:
        return self.ranks[item.entry.id] < self.examples

    def _example(self, cell: Cell, item: Item, result: AttackedBatch, place: int, scores: Mapping[str, Any]) -> Example:
        """One attacked image with the scores of the first draw."""
        images = {
            "reference": result.batch.ref[place],
            "distorted": result.batch.dist[place],
            "attacked": result.images[place],
        }
        about = {"sample": item.entry.id, "cell": cell.label, **scores}
        scale = cell.eps if cell.norm == "linf" else scores["linf"]
        floats = {name: image.detach().cpu() for name, image in images.items()}
        return Example(self.ranks[item.entry.id], item.id, floats, about, scale, self.exact)

    def _candidates(self, pool: Pool, cell: Cell, results: Sequence[AttackedBatch], columns: _Columns) -> Candidates:
        return {
            item.id: (cell.id, scores["sign"] * (scores["attacked_8bit"] - scores["clean"]), eight_bit(image))
            for item, result, place, scores in _rows(cell, results, columns)
            if pool.takes(cell, self.ranks[item.entry.id], image := result.images[place])
        }


def _rows(
    cell: Cell, results: Sequence[AttackedBatch], columns: _Columns
) -> Iterator[tuple[Item, AttackedBatch, int, dict[str, Any]]]:
    """(item, its batch, its place there, what its first draw was scored) of every attacked image."""
    before = 0
    for result in results:
        for place, item in enumerate(result.batch.items):
            yield item, result, place, {name: columns[name][before + place] for name in _KEPT}
        before += len(result.batch.items) * cell.draws
