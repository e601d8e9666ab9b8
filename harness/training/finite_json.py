"""JSON of figures, in which a number that is not finite is null: the standard knows no NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def finite_json(value: Any, indent: int | None = None) -> str:
    """Plain values as JSON that every reader takes."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
