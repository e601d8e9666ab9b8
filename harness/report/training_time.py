"""How long weights were trained, from their entry in a weights manifest: the training minutes of Table 3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.plugins.weights.locate import MANIFEST, SUFFIX, WeightsError, read_manifest, zoo
from harness.wording import MISSING, NO_DEFENSE, number, trained_name

NOT_RECORDED = "not recorded"
_ONLY_CPU = "+cpu"
"""Ends the version of a torch that knows no other device."""


@dataclass(frozen=True)
class TrainingTime:
    """What is known of the time that a training took."""

    minutes: float
    """Of training and the validations in between; nan where they are not known."""
    work: str = ""
    """What was done in them: steps, images a step, and evaluations of the attack."""
    device: str = NOT_RECORDED
    why: str = ""
    """Why they are not known; empty where they are."""

    def __str__(self) -> str:
        if self.why:
            return f"{MISSING} ({self.why})"
        return f"{number(self.minutes, 1)} min on {self.device}: {self.work}"


def training_minutes(metric: str, training: str = "", folder: Path | None = None) -> TrainingTime:
    """How long the weights of a metric were trained.

    Minutes of defended weights are those of their own training: of the weights they started from, ask for these.

    Args:
        metric: Name of the metric, as weights are called.
        training: Name of the training, such as "aat"; empty or "base" for the metric's own weights.
        folder: Folder of the weights and their manifest; that of robustiqa by default.

    Raises:
        WeightsError: The manifest is damaged.
    """
    name = trained_name(metric, "" if training == NO_DEFENSE else training)
    manifest = read_manifest(folder)
    if name not in manifest:
        return TrainingTime(math.nan, why=f"{(folder or zoo()).name}/{MANIFEST} lists no weights '{name}'")
    return time_of(name, manifest[name])


def time_of_file(file: Path | None, sha256: str) -> TrainingTime:
    """How long the weights in a file were trained, by the manifest beside it.

    Args:
        file: The weight file; of published files FOLDER/NAME; None where there are no weights.
        sha256: That of the weights, which the manifest must name: the entry of other weights says nothing of these.
    """
    if file is None:
        return TrainingTime(math.nan, why="it has no weights that were trained")
    name = file.name.removesuffix(SUFFIX)
    if file.suffix != SUFFIX:
        return time_of(name, {"parts": {}})
    try:
        entry = read_manifest(file.parent).get(name)
    except WeightsError:
        entry = None
    if not isinstance(entry, Mapping) or entry.get("sha256") != sha256:
        return TrainingTime(math.nan, why=f"no {MANIFEST} beside {file.name} lists it")
    return time_of(name, entry)


def time_of(name: str, entry: Any) -> TrainingTime:
    """What a manifest entry says of the time that its training took.

    Args:
        name: Of the weights, for the reason.
        entry: What the manifest holds under it.
    """
    if not isinstance(entry, Mapping):
        return TrainingTime(math.nan, why=f"the entry '{name}' is damaged")
    minutes = entry.get("minutes")
    if "parts" in entry:
        return TrainingTime(math.nan, why=f"'{name}' are published weights, trained elsewhere")
    if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 <= minutes < math.inf:
        return TrainingTime(math.nan, why=f"the entry '{name}' has no minutes")
    return TrainingTime(float(minutes), _work(entry), _device(entry))


def _work(entry: Mapping[str, Any]) -> str:
    recipe, cost = (entry[key] if isinstance(entry.get(key), Mapping) else {} for key in ("recipe", "cost"))
    parts = []
    if {"steps", "batch"} <= recipe.keys():
        parts.append(f"{recipe['steps']:,} steps of {recipe['batch']}")
    if isinstance(entry.get("members"), list):
        parts.append(f"{len(entry['members'])} members")
    if cost.get("attacked"):
        parts.append(f"attack of {cost['attacked']:,} images by {cost['forwards']:,} forwards")
    return ", ".join(parts) or "how many steps is not recorded"


def _device(entry: Mapping[str, Any]) -> str:
    """The device that was noted; of entries older than that note, a torch that has no other than the CPU tells."""
    versions = entry.get("versions")
    torch = str(versions.get("torch", "")) if isinstance(versions, Mapping) else ""
    return str(entry.get("device") or ("cpu" if torch.endswith(_ONLY_CPU) else NOT_RECORDED))
