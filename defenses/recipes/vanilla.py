"""Vanilla adversarial training (R-): attacked images, and the labels of the unattacked ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from defenses.recipes.clean import regression
from defenses.recipes.passes import UniformRecipe, check_shares
from harness.contracts import Metric, TrainingBatch, register


@register("vanilla")
@dataclass(frozen=True)
class Vanilla(UniformRecipe):
    """The regression loss of Eq. 5 on attacked images alone, labels unchanged (Eq. 2); uniform batches.

    What is attacked is pulled back to the quality that people gave the image before: the loss takes it that an
    opinion does not change within the budget.
    """

    cite = ("gushchin_birqa", "chistyakova2024increasing")
    attacks: ClassVar[bool] = True
    alpha: float = 0.7
    """Weight of the MSE; the rest is on the PLCC."""
    batch: int = 8
    """Images in a batch, all attacked; the recipe file's ``batch``."""

    def __post_init__(self) -> None:
        check_shares(alpha=self.alpha)

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Eq. 5 on the attacked images; logs ``mse`` and ``plcc``."""
        return regression(metric(ref=batch["ref"], dist=batch["dist"]), batch["target"], self.alpha)
