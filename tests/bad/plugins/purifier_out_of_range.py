from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Returns pixels from 0 to 255."""

    def apply(self, images, draw):
        return images * 255
