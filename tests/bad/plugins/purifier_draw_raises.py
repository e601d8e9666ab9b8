from dataclasses import dataclass

from harness.contracts import Purifier, register


@register("bad_defense")
@dataclass(frozen=True)
class Bad(Purifier):
    """Raises when it draws."""

    def draw(self, images, rng):
        raise RuntimeError('out of luck')

    def apply(self, images, draw):
        return images
