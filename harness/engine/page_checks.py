"""What the small files of a run folder must hold. Each check says what is wrong with a value, empty if nothing is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from harness.engine.machines.pages import wrong_in
from harness.suite.pixels import FileSeen

MOST_SHARDS = 10_000
"""Shards that the blocks of a run may be shared among, as many as large job arrays have tasks."""


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
    if not isinstance(value, dict) or not isinstance(value.get("samples"), int):
        return "no whole number 'samples'"
    names = value.get("examples", [])
    return "" if isinstance(names, list) and all(isinstance(name, str) for name in names) else "no list 'examples'"


def example(value: Any) -> str:
    """Name and scores of a kept attacked image."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("item", "sample")):
        return "no texts 'item' and 'sample'"
    wrong = [name for name in ("clean", "attacked", "attacked_8bit") if not _number(value.get(name))]
    if wrong:
        return f"no number '{wrong[0]}'"
    files = value.get("files", {})
    named = isinstance(files, dict) and all(isinstance(one, list) and len(one) == 2 for one in files.values())
    return "" if named else "no list 'files'"


def gallery_page(value: Any) -> str:
    """The attacked images that a report shows."""
    keys = {"limit": int, "left_out": list, "competed": dict, "cases": list}
    if not isinstance(value, dict) or any(not isinstance(value.get(key), kind) for key, kind in keys.items()):
        return f"no mapping with the keys {', '.join(keys)}"
    texts, numbers = (
        ("case", "metric", "item", "sample", "cell", "folder"),
        ("clean", "attacked", "attacked_8bit", "excess"),
    )
    for one in value["cases"]:
        if not isinstance(one, dict) or not all(isinstance(one.get(name), str) for name in texts):
            return f"a case without the texts {', '.join(texts)}"
        if not all(_number(one.get(name)) for name in numbers):
            return f"a case without the numbers {', '.join(numbers)}"
        if not isinstance(one.get("files"), dict) or "/" in one["folder"] or one["folder"].startswith("."):
            return "a case without its files"
    return ""


def cost(value: Any) -> str:
    """What images of one kind took."""
    texts = ("kind", "split", "scorer", "attack", "device")
    later: dict[str, Any] = {"peaks": [], "cpu": 0.0, "pixels": 0, "machine": ""}  # not in older pages
    if not isinstance(value, dict) or {*value, *later} != {*texts, "draws", "items", "seconds", *later}:
        return "a cost with other keys"
    about = {**later, **value}
    if not (_number(about["cpu"]) and isinstance(about["pixels"], int) and isinstance(about["machine"], str)):
        return "a cost whose processor seconds, pixels or machine are of another type"
    if not _peaks(value.get("peaks", [])):
        return "a cost whose memory is no list of sizes in pixels and MiB"
    if not all(isinstance(value[name], str) for name in texts) or not isinstance(value["draws"], int):
        return "a cost with a key of another type"
    counted = isinstance(value["items"], int) and value["items"] > 0
    return "" if counted and _number(value["seconds"]) and value["seconds"] >= 0 else "a cost of nothing, or no seconds"


def _peaks(value: Any) -> bool:
    counts, amounts = ("width", "height", "rows"), ("mib", "base")
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and set(one) == {*counts, *amounts}
        and all(isinstance(one[name], int) and one[name] > 0 for name in counts)
        and all(_number(one[name]) and one[name] >= 0 for name in amounts)
        for one in value
    )


def failure(value: Any) -> str:
    """What could not be computed."""
    kinds = {"cell": str, "slice": int, "sample": str, "message": str, "bad_input": bool}
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        return f"no mapping with the keys {', '.join(kinds)}"
    wrong = [key for key, kind in kinds.items() if not isinstance(value[key], kind)]
    return f"'{wrong[0]}' is {value[wrong[0]]!r}" if wrong else ""


def provenance(name: str) -> Callable[[Any], str]:
    """The check of one page of provenance."""
    return functools.partial(_listed, name)


def _listed(name: str, value: Any) -> str:
    kind, words = (str, "texts") if name == "notices" else (dict, "mappings")
    if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
        return f"no list of {words}"
    checks = {"costs": cost, "paces": cost, "machines": wrong_in, "estimates": _estimate, "shards": _shared}
    return next((wrong for one in value if name in checks and (wrong := checks[name](one))), "")


def _estimate(value: Any) -> str:
    """What a run was expected to take, and what it took."""
    numbers = isinstance(value.get("machine"), str) and all(_number(value.get(one)) for one in ("predicted", "spent"))
    return "" if numbers and value["spent"] > 0 else "an estimate without its machine, or its seconds"


def _shared(value: Any) -> str:
    """By which costs blocks were shared among shards."""
    shards = value.get("shards")
    if not isinstance(shards, int) or not 0 < shards <= MOST_SHARDS or not isinstance(value.get("device"), str):
        return f"no number of shards up to {MOST_SHARDS:,}, or no device"
    costs, paces = value.get("costs"), value.get("paces", [])
    if not isinstance(costs, list) or not isinstance(paces, list):
        return "no list of costs"
    return next((wrong for one in (*costs, *paces) if (wrong := cost(one))), "")


def pixels(value: Any) -> str:
    """What was recorded of the image files of a split."""
    rows = value.get("files") if isinstance(value, dict) else None
    fields = len(FileSeen._fields)
    whole = isinstance(rows, dict) and all(isinstance(row, list) and len(row) == fields for row in rows.values())
    return "" if whole else "no list of files"


def of_file(parts: Sequence[str]) -> Callable[[Any], str] | None:
    """The check of a small file by its path within a run folder; None where no run writes such a file."""
    match parts:
        case ("examples", _, _, "samples.json"):
            return samples
        case ("examples", _, _, _, "scores.json"):
            return example
        case ("gallery", "gallery.json"):
            return gallery_page
        case ("provenance", name) if name.endswith(".json"):
            return provenance(name.removesuffix(".json"))
        case (kind, name) if name.endswith(".json"):
            return {"facts": fact, "probes": probe, "failures": failure, "pixels": pixels}.get(kind)
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
