from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Raises."""

    def apply(self, images, draw):
        raise RuntimeError("out of luck")
