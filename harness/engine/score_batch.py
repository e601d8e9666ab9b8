"""Attacked images -> records: quality before and after, by the scorer that judges them, and what the attack told."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.contracts import SampleRng, Tree, map_tree
from harness.engine.attack_batch import Tools
from harness.engine.batches import Batch, SampleError, blame, blaming, not_finite, refuse_nan
from harness.engine.costs import score_key
from harness.engine.parts import AttackedBatch, Seen
from harness.engine.peak import PeakMeter
from harness.engine.provenance import device_name
from harness.engine.record import EVERY_NAME, NAMES
from harness.engine.record_files import CELL, SLICE
from harness.engine.scorer import Scorer
from harness.errors import PluginFaultError
from harness.plugins.returned import told
from harness.suite.cell_names import CLEAN
from harness.suite.plan import Cell, ScorerSpec
from harness.wording import trained_name


class Scoring:
    """Scores attacked batches.

    Args:
        tools: What the worker provides.
        peaks: Measures what batches take of the device's memory.
    """

    def __init__(self, tools: Tools, peaks: PeakMeter) -> None:
        self._tools, self._peaks = tools, peaks

    def records(self, cell: Cell, attacked: Sequence[AttackedBatch], seen: Seen) -> dict[str, list[Any]]:
        """The columns of a cell's records.

        Args:
            cell: The cell.
            attacked: Every batch of its block, attacked for it.
            seen: What is known of the block's batches.

        Raises:
            SampleError: The scorer raised, or returned what is not finite; names the first such sample.
            PluginFaultError: The attack noted something under a name that every record has.
        """
        columns: dict[str, list[Any]] = {name: [] for name in NAMES}
        scorer, kind = self._tools.scorer(cell.scorer), score_key(cell, self._tools.device.type)
        for result in attacked:
            for draw in range(cell.draws):
                with self._peaks.watching(kind, *result.batch.size, len(result.batch.items)):
                    self._score(cell, scorer, result, draw, seen, columns)
        return columns

    def _score(
        self,
        cell: Cell,
        scorer: Scorer,
        result: AttackedBatch,
        draw: int,
        seen: Seen,
        columns: dict[str, list[Any]],
    ) -> None:
        """Score one attacked batch with one draw of the scorer, and append its rows."""
        batch, device = result.batch, result.batch.dist.device
        with torch.no_grad():
            drawn = batch.samples if scorer.randomised else []
            rng = SampleRng.for_samples(self._tools.seed, drawn, f"defense/score/{draw}", device)
            with blaming(lambda error: blame(scorer, batch, error, cell.scorer.label, self._tools.seed)):
                encoded = (
                    scorer.encode(batch.ref, rng)
                    if scorer.randomised
                    else seen.encode(cell.scorer.key, scorer, batch, result.index)
                )
            clean = self._clean_quality(cell, scorer, result, draw, seen, encoded)
            if cell.attack is None:
                attacked = clean
                pristine = self._quality(
                    cell, scorer, encoded, batch, batch.ref, "its reference against itself", finite=False
                )
                eight = self._quality(cell, scorer, encoded, batch, _eight_bit(result.images), "an 8-bit image")
            else:
                attacked = self._attacked_quality(cell, scorer, result, encoded)
                pristine = torch.full_like(clean, torch.nan)
                eight = self._quality(cell, scorer, encoded, batch, _eight_bit(result.images), "an 8-bit image")
            delta = (result.images - batch.dist).flatten(1)
        count = len(batch.items)
        rows: dict[str, list[Any]] = {
            "item": batch.ids,
            "sample": batch.samples,
            "patch": [item.patch for item in batch.items],
            "reference": [item.entry.reference_id for item in batch.items],
            "cluster": [item.entry.cluster or item.entry.reference_id for item in batch.items],
            "group": [item.entry.group for item in batch.items],
            "level": [item.entry.level for item in batch.items],
            "opinion": [item.entry.opinion for item in batch.items],
            "judge": [item.entry.judge for item in batch.items],
            "sign": result.sign,
            "attack": [cell.attack.name if cell.attack else CLEAN] * count,
            "norm": [cell.norm] * count,
            "eps": [cell.eps] * count,
            "source": [_plain_name(cell.source)] * count,
            "scorer": [_plain_name(cell.scorer)] * count,
            "draw": [draw] * count,
            "clean": clean.tolist(),
            "pristine": pristine.tolist(),
            "attacked": attacked.tolist(),
            "attacked_8bit": eight.tolist(),
            "linf": delta.abs().amax(1).tolist(),
            "l2": delta.norm(dim=1).tolist(),
            "forwards": result.forwards,
            "backwards": result.backwards,
            "queries": result.queries,
            "zero_gradients": result.zero_gradients,
            "constant_gradients": result.constant_gradients,
            "seconds": [result.seconds / count] * count,
            "batch": [result.together] * count,
            "torch": [torch.__version__] * count,
            "device": [device_name(device)] * count,
            "identical": (batch.dist == batch.ref).flatten(1).all(1).tolist(),
            "status": result.status,
        }
        taken = set(result.notes) & {*EVERY_NAME, CELL, SLICE}
        if taken:
            who = self._tools.called(cell.attack) if cell.attack else CLEAN
            raise PluginFaultError(
                f"{who}: note() was called '{min(taken)}', which is a column of every record; choose another name"
            )
        before = len(columns["item"])
        for name, values in {**rows, **result.notes}.items():
            columns.setdefault(name, [None] * before).extend(values)
        for name in columns.keys() - rows.keys() - result.notes.keys():
            columns[name].extend([None] * count)

    def _clean_quality(
        self, cell: Cell, scorer: Scorer, result: AttackedBatch, draw: int, seen: Seen, encoded: Tree
    ) -> Tensor:
        """Clean quality, computed once per scorer, batch and draw."""
        key = (cell.scorer.key, result.index, draw)
        whole = seen.whole(result.batch, result.index)
        if whole and key in seen.clean:
            return seen.clean[key]
        clean = self._quality(cell, scorer, encoded, result.batch, result.batch.dist, "a clean image")
        if whole:
            seen.clean[key] = clean
        return clean

    def _attacked_quality(self, cell: Cell, scorer: Scorer, result: AttackedBatch, encoded: Tree) -> Tensor:
        """Quality of the attacked images: what the source said of them, where it is the scorer."""
        # What purifiers return is inspected here alone, so they are not spared.
        if result.quality is not None and cell.scorer.key == cell.source.key and not scorer.purifiers:
            return result.quality
        return self._quality(cell, scorer, encoded, result.batch, result.images, "an attacked image")

    def _quality(
        self,
        cell: Cell,
        scorer: Scorer,
        encoded: Tree,
        batch: Batch,
        images: Tensor,
        what: str,
        *,
        finite: bool = True,
    ) -> Tensor:
        """Quality of a batch; `finite` False lets infinities pass (an unbounded metric on identical images).

        Raises:
            SampleError: The metric raised, or returned a number that is not finite; names the first such sample.
        """
        said = f"{cell.scorer.label} failed on {what}"
        with blaming(lambda error: _culprit(scorer, encoded, batch, images, error, said)):
            quality = scorer.quality(encoded, images, inspect=True)
        checked = quality if finite else torch.where(quality.isnan(), quality, 0.0)
        refuse_nan(batch, checked, not_finite(cell.scorer.label, scorer, what))
        return quality


def _plain_name(spec: ScorerSpec) -> str:
    return "+".join([trained_name(spec.metric.name, spec.training), *(p.name for p in spec.purifiers)])


def _eight_bit(images: Tensor) -> Tensor:
    return torch.round(images * 255) / 255


def _culprit(scorer: Scorer, encoded: Tree, batch: Batch, images: Tensor, error: Exception, what: str) -> SampleError:
    """The error of the first sample on which scoring fails alone; of all of them if none does."""
    for i in range(len(batch.items)):
        try:
            alone = map_tree(operator.itemgetter(slice(i, i + 1)), encoded)
            scorer.quality(alone, images[i : i + 1], inspect=True)
        except Exception as cause:
            return SampleError(batch.items[i].id, f"{what}: {told(cause)}")
    return SampleError(", ".join(batch.ids), f"{what}: {told(error)}")
