from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Returns grey images of one channel."""

    def apply(self, images, draw):
        return images.mean(1, keepdim=True)
