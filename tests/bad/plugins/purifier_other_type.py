from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Returns doubles."""

    def apply(self, images, draw):
        return images.double()
