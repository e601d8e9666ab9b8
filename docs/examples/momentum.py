"""An attack in one file: signed-gradient steps with momentum (MI-FGSM, Dong et al. 2018, algorithm 1)."""

from dataclasses import dataclass

import torch

from harness.contracts import Attack, Budget, Objective, SampleRng, register


@register("momentum")
@dataclass(frozen=True)
class Momentum(Attack):
    """MI-FGSM: the gradient, normalised to mean absolute value 1, is accumulated with a decay."""

    cite = """@inproceedings{dong2018boosting,
      author = {Dong, Yinpeng and Liao, Fangzhou and Pang, Tianyu and Su, Hang and others},
      title = {Boosting Adversarial Attacks with Momentum},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, year = {2018}}"""

    steps: int = 10
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps should be at least 1, got {self.steps}")

    def perturb(self, objective: Objective, images: torch.Tensor, budget: Budget, rng: SampleRng) -> torch.Tensor:
        """Walk eps / steps per step; counting, projecting the result and keeping the better are the engine's."""
        step = budget.eps.view(-1, 1, 1, 1) / self.steps
        attacked, velocity = images, torch.zeros_like(images)
        for _ in range(self.steps):
            _, gradient = objective.gradient(attacked)
            scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
            velocity = self.decay * velocity + gradient / scale
            attacked = budget.project(attacked + step * velocity.sign(), images)
        return attacked
