"""How robust full-reference image-quality metrics are to adversarial attack: the same names as `harness` offers.

>>> import robustiqa
>>> "flip" in robustiqa.list_defenses()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness import *  # noqa: F403

__all__ = harness.__all__


def __getattr__(name: str) -> Any:
    return getattr(harness, name)


def __dir__() -> list[str]:
    return dir(harness)
