"""The pictures of a report, chosen when the blocks are done: of the pool, by the records, within a budget of bytes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import SampleRng
from harness.engine.done import done_slices
from harness.engine.example_names import condition_name, file_text
from harness.engine.examples import eight_bit, png_of
from harness.engine.gallery_choice import Choice, GalleryOutcome, choose_cases, fitting, page_limit
from harness.engine.gallery_pool import POOL_SAMPLES, Contest, contests, pool_name
from harness.engine.gallery_store import CASES, GALLERY, SHOWN, GalleryCase, GalleryKept
from harness.engine.run_folder import RunFolder, StoreError
from harness.engine.worker import Done, Job, Worker
from harness.files import locked
from harness.plugins.returned import told
from harness.suite.identity import identity
from harness.suite.plan import Cell, Plan, ScorerSpec

SHOWN_SIDE = 128
"""Pixels: up to so many a picture is whole, of larger ones a square of this side is shown."""
_FIGURES = ("clean", "attacked", "attacked_8bit", "linf", "l2", "sign", "status")


def gallery_job(plan: Plan, store: RunFolder) -> GalleryJob | None:
    """What chooses the pictures of a run; None where there is nothing to choose from, or something is still to run."""
    if not store.has_pool():
        return None
    failed = {(failure.cell, failure.slice) for failure in store.failures()}
    pending = ((cell.id, block.slice) for block in plan.blocks(done_slices(plan, store)) for cell in block.cells)
    if any(one not in failed for one in pending):
        return None
    ids = frozenset(cell.id for cell in plan.cells)
    found = contests(plan)
    ranks = {one.split.key: {entry.id: i for i, entry in enumerate(plan.limited(one.split))} for one in found}
    return GalleryJob(found, ids, ranks)


@dataclass(frozen=True)
class GalleryJob(Job):
    """Chooses what a report shows, asks the other metrics, stores it, and removes the pool."""

    needs_folder: ClassVar[bool] = True
    contests: tuple[Contest, ...]
    planned: frozenset[str]
    """Ids of all cells."""
    ranks: Mapping[str, Mapping[str, int]]
    """Split -> sample -> its place, of those under the limit."""

    @property
    def id(self) -> str:
        """There is one in a run."""
        return GALLERY

    @property
    def label(self) -> str:
        """'choose the pictures of the report'."""
        return "choose the pictures of the report"

    def work(self, worker: Worker) -> Done:
        """Choose and store them; what fails is said, and nothing else misses them."""
        try:
            with locked(worker.store.path / GALLERY / CASES):
                if worker.store.has_pool():  # another shard may have been faster
                    worker.store.write_gallery(self.chosen(worker))
                    worker.store.drop_pool()
        except StoreError:
            raise
        except Exception as error:
            return self.fail(worker.store, told(error))
        return Done(self.label, 1, 0)

    def fail(self, store: RunFolder, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
        """Say so; the next run tries again."""
        return Done(f"The pictures of the report could not be chosen: {message}", 0, 1)

    def chosen(self, worker: Worker) -> GalleryKept:
        """What is to be kept, of the pool and of what is kept already."""
        before = worker.store.read_gallery()
        competed = dict(before.competed)
        cases: list[_Case] = []
        for contest in self.contests:
            known = {(one.outcome.reference, one.outcome.item) for one in cases}
            ranks = self.ranks[contest.split.key]
            choice, competed[contest.metric] = choice_of(contest, ranks, worker, before, known)
            cases += _cases(contest, choice, competed[contest.metric], before, worker)
        _ask_others([one for one in cases if one.images], worker)
        made = [one.made(worker) for one in cases]
        # Of a suite that asks for less now: what was chosen for more stays as long as there is room.
        made += [case for case in before.cases if case.about["cell"] not in self.planned]
        limit = page_limit(len(self.contests))
        stays = fitting([(c.about["metric"], c.about["case"], list(c.pictures.values())) for c in made], limit)
        out = [f"{c.about['metric']}: {c.about['case']}" for c, stay in zip(made, stays, strict=True) if not stay]
        return GalleryKept([c for c, stay in zip(made, stays, strict=True) if stay], out, limit, competed)


def choice_of(
    contest: Contest,
    ranks: Mapping[str, int],
    worker: Worker,
    before: GalleryKept,
    known: Collection[tuple[str, str]],
) -> tuple[Choice, int]:
    """The cases of one metric, and of how many samples, first in hash order.

    Args:
        contest: What competes.
        ranks: Sample -> its place.
        worker: Knows the run folder and the size of slices.
        before: What was chosen already.
        known: (reference, item) of what other metrics show.
    """
    names = dict.fromkeys(map(pool_name, contest.cells))
    pooled = {
        (cell, item) for name in names for found in worker.store.candidates(name) for item, (cell, *_) in found.items()
    }
    there = pooled | {(case.about["cell"], case.about["item"]) for case in before.cases}
    found = list(outcomes(contest, ranks, worker.store, worker.context.slice_size))
    places = [ranks[one.scores["sample"]] for one in found if one.key in there]
    count = max([before.competed.get(contest.metric, 0), *(place + 1 for place in places)])
    return choose_cases([one for one in found if ranks[one.scores["sample"]] < count], there, known), count


def outcomes(contest: Contest, ranks: Mapping[str, int], store: RunFolder, slice_size: int) -> Iterator[GalleryOutcome]:
    """What the attack that went furthest did to each image in each direction, of the samples that may compete."""
    slices = math.ceil(min(POOL_SAMPLES, len(ranks)) / slice_size)
    rows = _rows([*contest.cells, *contest.controls.values()], store, slices)
    held = {
        sign: {row["item"]: row["attacked_8bit"] for row in rows[cell.id]} for sign, cell in contest.controls.items()
    }
    best: dict[tuple[str, str], tuple[float, Cell, dict[str, Any]]] = {}
    for cell in contest.cells:
        for row in rows[cell.id]:
            moved, key = row["sign"] * (row["attacked_8bit"] - row["clean"]), (row["item"], cell.endpoint)
            further = key not in best or (-moved, cell.id) < (-best[key][0], best[key][1].id)
            if further and ranks.get(row["sample"], POOL_SAMPLES) < POOL_SAMPLES and math.isfinite(moved):
                best[key] = moved, cell, row
    for (item, endpoint), (moved, cell, row) in best.items():
        control = held.get(row["sign"], {}).get(item)
        honest = 0.0 if control is None else row["sign"] * (control - row["clean"])
        scores = {name: row[name] for name in ("sample", *_FIGURES)} | {"control_8bit": control}
        if math.isfinite(honest):
            yield GalleryOutcome(item, endpoint, cell.id, moved - honest, scores, row["reference"], row["group"] or "")


def _rows(cells: Sequence[Cell], store: RunFolder, slices: int) -> dict[str, list[dict[str, Any]]]:
    """Id of a cell -> the first draw's records of it."""
    asked, columns = {cell.id: slices for cell in cells}, ["item", "draw", "reference", "group", "sample", *_FIGURES]
    found: dict[str, list[dict[str, Any]]] = {cell: [] for cell in asked}
    for row in store.read_cells(dict.fromkeys(asked), columns, asked).to_pylist():
        if row["draw"] == 0:
            found[row["cell"]].append(row)
    return found


@dataclass
class _Case:
    """A case on its way into the gallery: one that is kept already, or one whose images are at hand."""

    contest: Contest
    case: str
    outcome: GalleryOutcome
    choice: Choice
    count: int
    old: GalleryCase | None
    images: Mapping[str, Tensor]
    """Reference, distorted and attacked image, of a new one; the attacked one as uint8."""
    others: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cell(self) -> Cell:
        return next(cell for cell in self.contest.cells if cell.id == self.outcome.cell)

    def made(self, worker: Worker) -> GalleryCase:
        """With what is said of it, and its pictures."""
        cell, scores, contest = self.cell, self.outcome.scores, self.contest
        control = contest.controls.get(scores["sign"])
        item = file_text(self.outcome.item)
        unique = identity("picture", {"cell": cell.id, "item": self.outcome.item})[:8]
        about = {
            "case": self.case,
            "metric": contest.metric,
            "scorer": contest.scorer.label,
            "dataset": cell.split.dataset.label,
            "attack": cell.attack.label if cell.attack else "",
            "direction": cell.endpoint,
            "norm": cell.norm,
            "eps": cell.eps,
            "item": self.outcome.item,
            "reference": self.outcome.reference,
            "group": self.outcome.group,
            "cell": cell.id,
            **scores,
            "control": control.attack.label if control and control.attack else "",
            "excess": self.outcome.excess,
            "median": self.choice.median,
            "failed": self.choice.failed,
            "count": self.choice.count,
            "samples": self.count,
            "higher_is_better": worker.scorer(contest.scorer).metric.higher_is_better,
            "folder": f"{condition_name(cell)}_{self.case}_{item}_{unique}",
        }
        if self.old is not None:
            kept = {name: self.old.about[name] for name in ("size", "crop", "others") if name in self.old.about}
            return GalleryCase({**about, **kept}, self.old.pictures)
        pixels = {name: eight_bit(image) if image.is_floating_point() else image for name, image in self.images.items()}
        change = pixels["attacked"].to(torch.int32) - pixels["distorted"].to(torch.int32)
        top, left, height, width = place_of_change(change)
        pictures = {
            name: png_of(pixels[name][:, top : top + height, left : left + width], smallest=True) for name in SHOWN
        }
        order = list(contest.others)
        others = sorted(self.others, key=lambda one: order.index(one["metric"]))
        size = {"size": list(change.shape[1:]), "crop": [top, left, height, width], "others": others}
        return GalleryCase({**about, **size}, pictures)


def _cases(contest: Contest, choice: Choice, count: int, before: GalleryKept, worker: Worker) -> Iterator[_Case]:
    """The cases of a metric, with their images where they are new."""
    known = {(case.about["cell"], case.about["item"]): case for case in before.cases}
    pools = {cell.id: pool_name(cell) for cell in contest.cells}
    for case, outcome in choice.cases.items():
        old, images = known.get(outcome.key), {}
        if old is None:
            found = worker.store.candidates(pools[outcome.cell])
            attacked = next(one[outcome.item][2] for one in found if outcome.item in one)
            entry = next(one for one in worker.entries(contest.split) if one.id == outcome.scores["sample"])
            (batch,) = worker.loader(contest.split.dataset)([entry])
            place = batch.ids.index(outcome.item)
            images = {"reference": batch.ref[place], "distorted": batch.dist[place], "attacked": attacked}
        yield _Case(contest, case, outcome, choice, count, old, images)


def _ask_others(cases: Sequence[_Case], worker: Worker) -> None:
    """Let every other metric score the pairs; one that cannot is left out."""
    specs = {label: spec for one in cases for label, spec in one.contest.others.items()}
    for label, spec in specs.items():
        for one in cases:
            if label in one.contest.others:
                with contextlib.suppress(Exception):  # what is wrong with it is said of its own cells
                    one.others.append({"metric": label, **_said(worker, spec, one)})


def _said(worker: Worker, spec: ScorerSpec, one: _Case) -> dict[str, Any]:
    """What a metric says of a pair before and after, in 8 bits; higher is better."""
    scorer = worker.scorer(spec)
    ref, dist = (one.images[name][None] for name in ("reference", "distorted"))
    attacked = one.images["attacked"][None].to(dist) / 255
    with torch.no_grad():
        rng = SampleRng.for_samples(worker.seed, [one.outcome.scores["sample"]], "defense/score/0", dist.device)
        encoded = scorer.encode(ref, rng)
        clean, after = (float(scorer.quality(encoded, image)) for image in (dist, attacked))
    if not (math.isfinite(clean) and math.isfinite(after)):
        raise ValueError("no number")
    return {"clean": clean, "attacked_8bit": after, "higher_is_better": scorer.metric.higher_is_better}


def place_of_change(change: Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the square of at most `SHOWN_SIDE` px that is changed most; the first of several.

    Args:
        change: 3 x H x W.
    """
    size = change.abs().sum(0).to(torch.float64)
    height, width = (min(SHOWN_SIDE, side) for side in size.shape)
    sums = torch.nn.functional.pad(size.cumsum(0).cumsum(1), (1, 0, 1, 0))
    within = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = divmod(int(within.argmax()), within.shape[1])
    return top, left, height, width
