"""Metrics whose gradients mislead in one planted way each, and small crops of real photographs."""

import torch
from torch.nn import functional as F

from harness.contracts import Metric, register
from harness.datasets.mini import Mini


@register("mini_crops")
class MiniCrops(Mini):
    """The middle of mini's images of medium strength; every fifth of them with `part`, enlarged on request."""

    def __init__(self, *, size: int = 64, part: int = -1, enlarge: int = 1) -> None:
        super().__init__()
        self.size, self.part, self.enlarge = size, part, enlarge

    def entries(self, split):
        medium = [entry for entry in super().entries(split) if entry.level == 3]
        return medium if self.part < 0 else medium[self.part :: 5]

    def load(self, entry):
        def middle(image):
            top, left = ((side - self.size) // 2 for side in image.shape[1:])
            image = image[:, top : top + self.size, left : left + self.size].contiguous()
            if self.enlarge == 1:
                return image
            larger = F.interpolate(image[None], scale_factor=self.enlarge, mode="bilinear", align_corners=False)[0]
            return (larger * 255).round() / 255

        return {name: middle(image) for name, image in super().load(entry).items()}

    def fingerprint(self):
        return f"{super().fingerprint()} {self.size} {self.part} {self.enlarge}"


def _error(reference, dist):
    return (dist - reference).square().flatten(1).mean(1)


@register("lbp_only")
class LbpOnly(Metric):
    """Share of local binary patterns that agree: flat almost everywhere, so its gradient is zero."""

    higher_is_better = True

    def score(self, reference, dist):
        agreeing = 0.0
        for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
            ours, theirs = (image.roll(shift, (2, 3)) >= image for image in (reference, dist))
            agreeing = agreeing + (ours == theirs).float().flatten(1).mean(1) / 4
        return agreeing + 0 * dist.flatten(1).mean(1)


@register("rounded")
class Rounded(Metric):
    """Minus the squared error of images rounded to 32 levels: a layer that passes no gradient."""

    higher_is_better = True

    def score(self, reference, dist):
        return -_error(reference, torch.round(dist * 31) / 31)


@register("saturated")
class Saturated(Metric):
    """An output that is 1 or -1 for nearly every image, where it passes no gradient."""

    higher_is_better = True

    def score(self, reference, dist):
        return torch.tanh(20000 * (0.0052 - _error(reference, dist)))


@register("noisy")
class Noisy(Metric):
    """Minus the squared error, and ripples too small to see whose slope hides its own."""

    higher_is_better = True

    def score(self, reference, dist):
        return 1.5e-4 * torch.sin(2000 * dist).flatten(1).mean(1) - _error(reference, dist)
