from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """A defense."""

    gradient = "none"

    def apply(self, images, draw):
        return images
