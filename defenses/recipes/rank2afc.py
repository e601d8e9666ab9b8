"""Adversarial training on triplets: which of two distorted images people chose, and patches that were attacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from defenses.recipes.passes import shuffled_passes
from harness.contracts import Entry, Metric, Recipe, TrainingBatch, register


@register("rank2afc", clean=True)
@register("r-lpips")
@register("at-lpips", share=0.5)
@dataclass(frozen=True)
class Rank2AFC(Recipe):
    """Cross-entropy of sigmoid((Q1 - Q0) / temperature) and the share of judges who chose p1, on attacked patches.

    The margin of the two qualities stands for LPIPS' small network on two distances, which the authors of R-LPIPS draw
    anew at every step of the attack. Judges are unchanged. Which patch is attacked and where to is the inner attack's.

    `rank2afc` trains on every triplet attacked and unattacked. `r-lpips` attacks every triplet and trains on that alone
    (Ghazanfari et al. 2023), `at-lpips` attacks half of them, drawn at random (as Chistyakova et al. train LPIPS; they
    draw for each patch). Theirs are trained on BAPPS, the heads of LPIPS or its trunk, too: see `trainable` of the
    recipe file.
    """

    cite = ("ghazanfari2023rlpips", "chistyakova2024increasing")
    kind: ClassVar[Literal["pairs", "triplets"]] = "triplets"
    attacks: ClassVar[bool] = True
    temperature: float = 1.0
    """Margin at which the odds are e to 1, in the units of the quality."""
    share: float = 1.0
    """Probability that a triplet is attacked, above 0."""
    clean: bool = False
    """The loss is the mean of this one and of that on the same triplets unattacked."""
    batch: int = 16
    """Triplets in a batch; the recipe file's ``batch``."""

    @classmethod
    def cited(cls, parameters: Mapping[str, Any]) -> str:
        """BAPPS where every triplet is seen unattacked, too; R-LPIPS where all are attacked, else AT-LPIPS."""
        if parameters["clean"]:
            return "zhang2018unreasonable"
        return "ghazanfari2023rlpips" if parameters["share"] == 1 else "chistyakova2024increasing"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share should be above 0 and at most 1, got {self.share}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature should be above 0, got {self.temperature}")

    def batches(
        self, entries: Sequence[Entry], rng: np.random.Generator
    ) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
        """Shuffled passes over the entries, cut into batches; each triplet is attacked with probability `share`."""
        for indices in shuffled_passes(len(entries), self.batch, rng):
            yield indices, (rng.random(self.batch) < self.share).tolist()

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on one batch; logs ``agreement``, the share of triplets where it sides with most judges."""
        pairs = [("p0", "p1"), ("clean_p0", "clean_p1")] if self.clean else [("p0", "p1")]
        reference = metric.encode(batch["ref"])
        margin = torch.stack(
            [metric.score(reference, batch[p1]) - metric.score(reference, batch[p0]) for p0, p1 in pairs]
        )
        judge = batch["judge"].expand_as(margin)
        loss = F.binary_cross_entropy_with_logits(margin / self.temperature, judge)
        agreement = ((margin[0] > 0) == (judge[0] > 0.5)).double().mean()
        return loss, {"agreement": agreement}
