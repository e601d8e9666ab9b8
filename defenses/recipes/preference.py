"""Training on preferences: which of two distorted images people chose, no opinion scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses.recipes.passes import UniformRecipe
from harness.contracts import Metric, TrainingBatch, register


@register("preference")
@dataclass(frozen=True)
class Preference(UniformRecipe):
    """Squared error of the preference probability 1 / (1 + exp(Q0 - Q1)), on clean triplets; uniform batches.

    PieAPP's loss (Prashnani et al. 2018, Section 4): the difference of two scores goes through the Bradley-Terry model
    and is compared with the share of people who preferred p1.
    """

    cite = "prashnani2018pieapp"
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    batch: int = 16
    """Triplets in a batch; the recipe file's ``batch``."""

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on one batch; logs ``agreement``, the share of triplets where it sides with most judges."""
        reference = metric.encode(batch["ref"])
        margin = metric.score(reference, batch["p1"]) - metric.score(reference, batch["p0"])
        judge = batch["judge"]
        agreement = ((margin > 0) == (judge > 0.5)).double().mean()
        return (torch.sigmoid(margin) - judge).square().mean(), {"agreement": agreement}
