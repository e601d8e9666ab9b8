from dataclasses import dataclass

from torch import nn

from harness.contracts import Purifier, register


@register("denoised_by_default", weights="nobody_ships_this")
@register("denoised")
@dataclass(frozen=True)
class Denoised(Purifier):
    randomised = False
    channels: int = 3

    def network(self):
        if self.channels != 3:
            raise ValueError(f"channels should be 3, got {self.channels}")
        return nn.Conv2d(3, 3, 1)

    def purify(self, images, draw, network):
        return network(images).sigmoid()


@register("denoised_by_text")
@dataclass(frozen=True)
class ByText(Denoised):
    def network(self):
        return "unet"
