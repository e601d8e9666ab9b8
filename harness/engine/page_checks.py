"""What the small files of a run folder must hold. Each check says what is wrong with a value, empty if nothing is."""

from __future__ import annotations

import math
from typing import Any


def fact(value: Any) -> str:
    """A scorer's clean quality on the calibration samples."""
    for key in ("range", "std", "median"):
        if not isinstance(value, dict) or not _number(value.get(key)):
            return f"no number '{key}'"
    line = value.get("line")
    if line is not None and not (isinstance(line, list) and len(line) == 2 and all(map(_number, line))):
        return "'line' is no slope and intercept"
    return ""


def probe(value: Any) -> str:
    """What the probes of a metric found."""
    faults = value.get("faults") if isinstance(value, dict) else None
    if not isinstance(faults, list):
        return "no list 'faults'"
    told = all(isinstance(fault, dict) and isinstance(fault.get("rule"), str) for fault in faults)
    return "" if told else "a fault without its 'rule'"


def samples(value: Any) -> str:
    """Of how many samples attacked images are kept."""
    whole = isinstance(value, dict) and isinstance(value.get("samples"), int)
    return "" if whole else "no whole number 'samples'"


def example(value: Any) -> str:
    """Name and scores of a kept attacked image."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("item", "sample")):
        return "no texts 'item' and 'sample'"
    wrong = [name for name in ("clean", "attacked", "attacked_8bit") if not _number(value.get(name))]
    return f"no number '{wrong[0]}'" if wrong else ""


def cost(value: Any) -> str:
    """What images of one kind took."""
    texts = ("kind", "split", "scorer", "attack", "device")
    if not isinstance(value, dict) or set(value) != {*texts, "draws", "items", "seconds"}:
        return "a cost with other keys"
    if not all(isinstance(value[name], str) for name in texts) or not isinstance(value["draws"], int):
        return "a cost with a key of another type"
    counted = isinstance(value["items"], int) and value["items"] > 0
    return "" if counted and _number(value["seconds"]) and value["seconds"] >= 0 else "a cost of nothing, or no seconds"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
