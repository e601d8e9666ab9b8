"""Stored attacked examples scored anew, to see that what a run recorded can be had again from what it kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.contracts import Budget, Norm, SampleRng
from harness.engine.objective import within
from harness.engine.run_folder import RunFolder
from harness.engine.scorer import Scorer, build_scorer
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.plan import Cell, Plan
from harness.wording import budget_text

AGREES_WITHIN = 1e-4
"""How far a score may be off, relative to its size: batches of another size, other devices and other builds of torch
differ in the last digits."""


@dataclass(frozen=True)
class Rescored:
    """One stored example scored again.

    Attributes:
        cell: Its cell's name.
        item: Its item.
        clean: (recorded, found) quality of the distorted image.
        attacked: The same of the attacked image as floats.
        attacked_8bit: The same of the attacked image as PNG.
        complaint: What disagrees, empty if nothing does.
    """

    cell: str
    item: str
    clean: tuple[float, float]
    attacked: tuple[float, float]
    attacked_8bit: tuple[float, float]
    complaint: str


def rescore(plan: Plan, store: RunFolder, registry: Registry, device: str) -> Iterator[Rescored]:
    """Score every stored example of a run with its own scorer, built anew from the suite.

    Args:
        plan: The plan of the run's own suite.
        store: Its run folder.
        registry: Where plugins come from.
        device: Where to score.

    Raises:
        UserError: The run keeps no examples, or a file of one is damaged.
    """
    found = [(cell, folder) for cell in plan.cells for folder in store.example_folders(cell.id)]
    if not found:
        raise UserError(
            f"{store.path}: it keeps no attacked images. Run its suite again with 'save_examples: 4', "
            "or --set save_examples=4."
        )
    scorers: dict[str, Scorer] = {}
    for cell, folder in found:
        if cell.scorer.key not in scorers:
            scorers.clear()  # cells of one scorer stand together; one is held at a time
            scorers[cell.scorer.key] = build_scorer(cell.scorer, registry, torch.device(device))
        yield _again(cell, folder, store, scorers[cell.scorer.key], plan.suite.seed, torch.device(device))


def _again(cell: Cell, folder: Path, store: RunFolder, scorer: Scorer, seed: int, device: torch.device) -> Rescored:
    about, images, rounded = store.read_example(folder)
    ref, dist, attacked, png = (
        image[None].to(device) for image in (images["reference"], images["distorted"], images["attacked"], rounded)
    )
    item = str(about["item"])
    with torch.no_grad():
        rng = SampleRng.for_samples(seed, [str(about["sample"])], "defense/score/0", device)
        encoded = scorer.encode(ref, rng)
        pairs = {
            name: (float(about[name]), float(scorer.quality(encoded, image)))
            for name, image in (("clean", dist), ("attacked", attacked), ("attacked_8bit", png))
        }
    complaints = [
        f"{name} was {recorded:.6g} and is {now:.6g}"
        for name, (recorded, now) in pairs.items()
        if abs(recorded - now) > AGREES_WITHIN * max(abs(recorded), abs(now), 1e-2)
    ]
    complaints += list(_broken(cell, dist, attacked, png))
    return Rescored(cell.label, item, pairs["clean"], pairs["attacked"], pairs["attacked_8bit"], "; ".join(complaints))


def _broken(cell: Cell, dist: Tensor, attacked: Tensor, png: Tensor) -> Iterator[str]:
    """What the images themselves disagree in."""
    norm: Norm = "l2" if cell.norm == "l2" else "linf"
    budget = Budget(norm, torch.full((1,), cell.eps, device=dist.device))
    if not bool(within(attacked, dist, budget).all()):
        yield f"the attacked image lies outside the {norm} budget of {budget_text(norm, cell.eps)} or outside [0, 1]"
    if float((png - attacked).abs().max()) > 0.5 / 255 + 1e-6:
        yield "the PNG is not the attacked image rounded to 8 bits"
