"""robustiqa: how robust full-reference image-quality metrics are to adversarial attack.

The names below are the Python interface; each is loaded when it is first used, so that importing this package loads
neither torch nor a plugin. `import robustiqa` offers the same. Everything else is the engine's own.

>>> import robustiqa
>>> "psnr" in robustiqa.list_metrics()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        Attacked,
        Comparison,
        Run,
        attack,
        compare,
        list_attacks,
        list_datasets,
        list_defenses,
        list_metrics,
        list_recipes,
        open_run,
        run,
        score,
    )
    from harness.contracts import Attack, Dataset, Metric, Purifier, Recipe, register
    from harness.errors import UserError
    from harness.suite.model import Suite

__all__ = [
    "Attack",
    "Attacked",
    "Comparison",
    "Dataset",
    "Metric",
    "Purifier",
    "Recipe",
    "Run",
    "Suite",
    "UserError",
    "attack",
    "compare",
    "list_attacks",
    "list_datasets",
    "list_defenses",
    "list_metrics",
    "list_recipes",
    "open_run",
    "register",
    "run",
    "score",
]

_ELSEWHERE = {
    **dict.fromkeys(("Attack", "Dataset", "Metric", "Purifier", "Recipe", "register"), "harness.contracts"),
    "UserError": "harness.errors",
    "Suite": "harness.suite.model",
}
"""Name -> module, for what `harness.api` does not define."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("harness.engine.provenance").own_version()
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "harness.api")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
