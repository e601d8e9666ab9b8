from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Forgot to return."""

    def apply(self, images, draw):
        images.clamp(0, 1)
