"""One block -> records: load, encode the reference, score clean, then perturb, project, re-score and record.

Three independent random streams per sample: the attack's own, one to compare result and start, and one for scoring;
a randomised defense is drawn afresh in each.
"""

from __future__ import annotations

import operator
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from harness.batches import Batch, SampleError, blame, not_finite, refuse_nan
from harness.contracts import (
    Attack,
    Budget,
    DataError,
    Metric,
    Norm,
    QueryLimit,
    SampleRng,
    Tree,
    map_tree,
)
from harness.costs import Cost, Key, attack_key, measured, score_key
from harness.errors import UserError
from harness.examples import Example
from harness.guard import PluginFaultError, check_images, told
from harness.objective import Opinions, ScorerObjective, remembers, within
from harness.plan import Block, Cell
from harness.scorer import Scorer
from harness.store import COLUMNS, FailureRecord, StoreError

_RESERVED = frozenset(COLUMNS) | {"dataset", "metric", "defense", "threat", "plugin", "control"}


@dataclass(frozen=True)
class Tools:
    """What a block needs from its worker."""

    scorer: Callable[[Any], Scorer]
    """ScorerSpec -> scorer, built once per worker."""
    attack: Callable[[Any], Attack]
    name: Callable[[Any], str]
    """A plugin's use -> what it is called in messages, with where it comes from."""
    build: Callable[[str], Metric]
    fact: Callable[[str], Mapping[str, Any]]
    fit: Callable[[str], Mapping[str, Tensor]]
    write: Callable[[str, int, Mapping[str, list[Any]]], None]
    fail: Callable[[FailureRecord], None]
    device: torch.device
    seed: int
    keep: Mapping[str, int]
    """Sample id -> place in its split, of the samples whose attacked images are kept."""
    write_examples: Callable[[str, str, int, int, Sequence[Example]], None]


class BlockRun:
    """The evaluation of one block.

    Args:
        block: What to do.
        batches: Its images.
        tools: What the worker provides.
    """

    def __init__(self, block: Block, batches: Sequence[Batch], tools: Tools) -> None:
        self._block = block
        self._batches = batches
        self._tools = tools
        self._encoded: dict[tuple[str, int], Tree] = {}
        self.costs: list[Cost] = []
        self._clean: dict[tuple[str, int, int], Tensor] = {}

    def run(self) -> tuple[int, int]:
        """Do every cell of the block; one that fails is recorded and the rest goes on.

        Returns:
            Number of cells done, and of cells failed.
        """
        failed = 0
        for cells in self._shared_attacks():
            began = time.perf_counter()
            try:
                attacked = [
                    self._attack(cells[0], b, k)
                    for k, batch in enumerate(self._batches)
                    if (b := batch.of_sign(cells[0].sign, cells[0].patch)) is not None
                ]
            except Exception as error:
                failed += self._fail(cells, error)
                continue
            count = sum(len(result.batch.items) for result in attacked)
            self._took(attack_key(cells[0], self._tools.device.type), count, began)
            for cell in cells:
                began = time.perf_counter()
                examples: list[Example] = []
                try:
                    columns = self._records(cell, attacked, examples)
                    if self._tools.keep and cell.attack is not None:
                        kept = (self._block.slice, len(self._tools.keep), examples)
                        self._tools.write_examples(cell.id, cell.label, *kept)
                    self._tools.write(cell.id, self._block.slice, columns)
                    self._took(score_key(cell, self._tools.device.type), count, began)
                except StoreError:
                    raise
                except Exception as error:
                    failed += self._fail([cell], error)
        return len(self._block.cells) - failed, failed

    def _took(self, key: Key | None, count: int, began: float) -> None:
        if key is not None and count:
            self.costs.append(measured(key, count, time.perf_counter() - began))

    def _shared_attacks(self) -> Iterator[list[Cell]]:
        groups: dict[Any, list[Cell]] = defaultdict(list)
        for cell in self._block.cells:
            groups[cell.attack_key].append(cell)
        yield from groups.values()

    def _fail(self, cells: Sequence[Cell], error: Exception) -> int:
        if isinstance(error, SampleError):
            cause = (error.sample, str(error), error.bad_input)
        elif isinstance(error, UserError):
            sample = self._samples()[0] if isinstance(error, DataError) else ""
            cause = (sample, str(error), True)
        else:
            cause = (", ".join(self._samples()), told(error), False)
        for cell in cells:
            self._tools.fail(FailureRecord(cell.id, self._block.slice, *cause))
        return len(cells)

    def _samples(self) -> list[str]:
        return [item.id for batch in self._batches for item in batch.items]

    def _attack(self, cell: Cell, batch: Batch, index: int) -> _Attacked:
        """Perturb one batch, project, and keep the better of result and start."""
        count = len(batch.items)
        zeros = [0] * count
        if cell.attack is None:
            return _Attacked(batch, index, batch.dist, zeros, zeros, zeros, zeros, 0.0, ["ok"] * count, {})
        tools, attack = self._tools, self._tools.attack(cell.attack)
        scorer = tools.scorer(cell.source)
        device = batch.dist.device
        budget = Budget(cast(Norm, cell.norm), torch.full((count,), cell.eps, device=device))
        opinions = self._opinions(cell, batch) if cell.endpoint == "error" else None
        sign = torch.full((count,), float(cell.sign), device=device)
        if opinions is not None:
            sign = opinions.away(self._start_quality(cell, scorer, batch, index))
        scale = 1.0 if attack.control else float(tools.fact(cell.fact)["range"])
        began = time.perf_counter()
        objective = ScorerObjective(
            scorer,
            batch.ref,
            batch.dist,
            sign,
            budget if remembers(attack) else None,
            SampleRng.for_samples(tools.seed, batch.samples, f"defense/attack/{cell.attack.name}", device),
            encoded=None if scorer.randomised else self._encode(cell.source.key, scorer, batch, index),
            eot=cell.eot,
            white_box=attack.needs_gradient,
            query_limit=getattr(attack, "queries", None) if not attack.needs_gradient else None,
            scale=scale if opinions is None else scale * abs(opinions.slope),
            fitted={s: map_tree(lambda t: t.to(device), dict(tools.fit(fit))) for s, fit in cell.fits},
            build=tools.build,
            opinions=opinions,
            precision=cell.precision,
        )
        rng = SampleRng.for_samples(tools.seed, batch.ids, cell.attack.name, device)
        try:
            images = self._perturb(attack, objective, batch, budget, rng, tools.name(cell.attack))
            status, quality = ["ok"] * count, None
            if not attack.control:
                images, status, quality = self._keep_better(cell, scorer, batch, index, images, objective)
        except (SampleError, UserError):
            raise
        except Exception as error:
            raise blame(scorer, batch, error, f"{cell.attack.label} on {cell.source.label}", tools.seed) from error
        seconds = time.perf_counter() - began
        ledger = objective.ledger
        return _Attacked(
            batch,
            index,
            images,
            [int(s) for s in sign.tolist()],
            ledger.forwards.tolist(),
            ledger.backwards.tolist(),
            ledger.queries.tolist(),
            seconds,
            status,
            objective.notes,
            quality,
        )

    def _perturb(
        self, attack: Attack, objective: ScorerObjective, batch: Batch, budget: Budget, rng: SampleRng, who: str
    ) -> Tensor:
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

    def _keep_better(
        self, cell: Cell, scorer: Scorer, batch: Batch, index: int, images: Tensor, objective: ScorerObjective
    ) -> tuple[Tensor, list[str], Tensor | None]:
        """Per sample, the better of result and start, judged on draws that the attack has not seen.

        Returns:
            The images, their status, and their quality under a source that is not randomised.
        """
        quality = None
        with torch.no_grad():
            if scorer.randomised:
                rng = SampleRng.for_samples(self._tools.seed, batch.samples, "defense/keep", batch.dist.device)
                gain = torch.zeros_like(objective.sign)
                for _ in range(cell.eot):
                    encoded = scorer.encode(batch.ref, rng)
                    before, after = scorer.quality(encoded, batch.dist), scorer.quality(encoded, images)
                    gain += objective.aim(after) - objective.aim(before)
            else:
                encoded = self._encode(cell.source.key, scorer, batch, index)
                clean = self._clean.get((cell.source.key, index, 0)) if self._whole(batch, index) else None
                before = scorer.quality(encoded, batch.dist) if clean is None else clean
                quality = scorer.quality(encoded, images)
                gain = objective.aim(quality) - objective.aim(before)
            refuse_nan(
                batch,
                gain,
                not_finite(cell.source.label, scorer, "an attacked image"),
            )
            worse = gain < 0
            images = torch.where(worse.view(-1, 1, 1, 1), batch.dist, images)
            if quality is not None:
                quality = torch.where(worse, before, quality)
        return images, ["start" if w else "ok" for w in worse.tolist()], quality

    def _opinions(self, cell: Cell, batch: Batch) -> Opinions:
        """What the error of the source's predictions is measured against.

        Raises:
            SampleError: A sample has no opinion, or the calibration gives no line from quality to opinions.
        """
        line = self._tools.fact(cell.fact)["line"]
        if line is None:
            message = f"no line from the quality of {cell.source.label} to opinions: its calibration samples have no "
            raise SampleError("", message + "opinions, or one score for all. Take the direction self_split instead.")
        scores = [item.entry.opinion for item in batch.items]
        for item, score in zip(batch.items, scores, strict=True):
            if score is None:
                message = "it has no opinion, which the direction error needs. Leave the direction out."
                raise SampleError(item.id, message, bad_input=True)
        return Opinions(
            float(line[0]), float(line[1]), torch.tensor(scores, dtype=batch.dist.dtype, device=batch.dist.device)
        )

    def _start_quality(self, cell: Cell, scorer: Scorer, batch: Batch, index: int) -> Tensor:
        """Quality of the unattacked images; of a randomised scorer by draws of their own."""
        with torch.no_grad():
            try:
                if scorer.randomised:
                    rng = SampleRng.for_samples(self._tools.seed, batch.samples, "defense/start", batch.dist.device)
                    encoded = scorer.encode(batch.ref, rng)
                else:
                    encoded = self._encode(cell.source.key, scorer, batch, index)
                return scorer.quality(encoded, batch.dist)
            except UserError:
                raise
            except Exception as error:
                raise blame(scorer, batch, error, cell.source.label, self._tools.seed) from error

    def _encode(self, key: str, scorer: Scorer, batch: Batch, index: int) -> Tree:
        """The encoded reference of a scorer that is not randomised, once per block (full batches only)."""
        if not self._whole(batch, index):
            return scorer.encode(batch.ref, SampleRng([], batch.ref.device))
        if (key, index) not in self._encoded:
            self._encoded[key, index] = scorer.encode(batch.ref, SampleRng([], batch.ref.device))
        return self._encoded[key, index]

    def _whole(self, batch: Batch, index: int) -> bool:
        """Whether it is all of the batch of this index, and not the part that has one sign."""
        return len(batch.items) == len(self._batches[index].items)

    def _records(self, cell: Cell, attacked: Sequence[_Attacked], examples: list[Example]) -> dict[str, list[Any]]:
        """The columns of a cell's records; the attacked images to keep are added to `examples`."""
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        scorer = self._tools.scorer(cell.scorer)
        for result in attacked:
            for draw in range(cell.draws):
                self._score(cell, scorer, result, draw, columns)
            if self._tools.keep and cell.attack is not None:
                examples += self._examples(cell, result, columns)
        return columns

    def _examples(self, cell: Cell, result: _Attacked, columns: Mapping[str, list[Any]]) -> Iterator[Example]:
        """The attacked images to keep of one batch, with the scores of the first draw."""
        rows = len(columns["item"]) - len(result.batch.items) * cell.draws  # where this batch's first draw begins
        for i, item in enumerate(result.batch.items):
            if item.entry.id not in self._tools.keep:
                continue
            images = {"reference": result.batch.ref[i], "distorted": result.batch.dist[i], "attacked": result.images[i]}
            kept = ("clean", "attacked", "attacked_8bit", "linf", "l2", "sign", "norm", "eps", "status")
            about = {"sample": item.entry.id, "cell": cell.label, **{name: columns[name][rows + i] for name in kept}}
            scale = cell.eps if cell.norm == "linf" else about["linf"]
            floats = {name: image.detach().cpu() for name, image in images.items()}
            yield Example(self._tools.keep[item.entry.id], item.id, floats, about, scale)

    def _score(self, cell: Cell, scorer: Scorer, result: _Attacked, draw: int, columns: dict[str, list[Any]]) -> None:
        """Score one attacked batch with one draw of the scorer, and append its rows."""
        batch, device = result.batch, result.batch.dist.device
        with torch.no_grad():
            rng = SampleRng.for_samples(self._tools.seed, batch.samples, f"defense/score/{draw}", device)
            try:
                encoded = (
                    scorer.encode(batch.ref, rng)
                    if scorer.randomised
                    else self._encode(cell.scorer.key, scorer, batch, result.index)
                )
            except UserError:
                raise
            except Exception as error:
                raise blame(scorer, batch, error, cell.scorer.label, self._tools.seed) from error
            clean = self._clean_quality(cell, scorer, result, draw, encoded)
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
            "group": [item.entry.group for item in batch.items],
            "level": [item.entry.level for item in batch.items],
            "opinion": [item.entry.opinion for item in batch.items],
            "judge": [item.entry.judge for item in batch.items],
            "sign": result.sign,
            "attack": [cell.attack.name if cell.attack else "clean"] * count,
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
            "seconds": [result.seconds / count] * count,
            "batch": [count] * count,
            "status": result.status,
        }
        taken = set(result.notes) & _RESERVED
        if taken:
            who = self._tools.name(cell.attack)
            raise PluginFaultError(
                f"{who}: note() was called '{min(taken)}', which is a column of every record; choose another name"
            )
        before = len(columns["item"])
        for name, values in {**rows, **result.notes}.items():
            columns.setdefault(name, [None] * before).extend(values)
        for name in columns.keys() - rows.keys() - result.notes.keys():
            columns[name].extend([None] * count)

    def _clean_quality(self, cell: Cell, scorer: Scorer, result: _Attacked, draw: int, encoded: Tree) -> Tensor:
        """Clean quality, computed once per scorer, batch and draw."""
        key = (cell.scorer.key, result.index, draw)
        whole = self._whole(result.batch, result.index)
        if whole and key in self._clean:
            return self._clean[key]
        clean = self._quality(cell, scorer, encoded, result.batch, result.batch.dist, "a clean image")
        if whole:
            self._clean[key] = clean
        return clean

    def _attacked_quality(self, cell: Cell, scorer: Scorer, result: _Attacked, encoded: Tree) -> Tensor:
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
        try:
            quality = scorer.quality(encoded, images, inspect=True)
        except UserError:
            raise
        except Exception as error:
            sample, cause = _culprit(scorer, encoded, batch, images, error)
            raise SampleError(sample, f"{cell.scorer.label} failed on {what}: {told(cause)}") from error
        checked = quality if finite else torch.where(quality.isnan(), quality, 0.0)
        refuse_nan(batch, checked, not_finite(cell.scorer.label, scorer, what))
        return quality


@dataclass(frozen=True)
class _Attacked:
    """One attacked batch and what it cost."""

    batch: Batch
    index: int
    images: Tensor
    sign: list[int]
    forwards: list[int]
    backwards: list[int]
    queries: list[int]
    seconds: float
    status: list[str]
    notes: Mapping[str, list[Any]]
    quality: Tensor | None = None
    """Quality of the images under the source, where keeping the better has found it."""


def _plain_name(spec: Any) -> str:
    return "+".join([spec.metric.name, *(p.name for p in spec.purifiers)])


def _eight_bit(images: Tensor) -> Tensor:
    return torch.round(images * 255) / 255


def _culprit(scorer: Scorer, encoded: Tree, batch: Batch, images: Tensor, error: Exception) -> tuple[str, Exception]:
    """The first sample on which scoring fails alone; all of them if none does."""
    for i in range(len(batch.items)):
        try:
            alone = map_tree(operator.itemgetter(slice(i, i + 1)), encoded)
            scorer.quality(alone, images[i : i + 1], inspect=True)
        except Exception as cause:
            return batch.items[i].id, cause
    return ", ".join(batch.ids), error
