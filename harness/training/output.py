"""What a finished training writes: weight files, their manifest entries, and the folds joined in one file."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from harness.contracts import fingerprint
from harness.engine.provenance import own_version
from harness.files import locked, write_whole
from harness.plugins.build import build_metric
from harness.plugins.weights.locate import MANIFEST, SUFFIX, read_manifest
from harness.training.checkpoint import Tensors
from harness.training.finite_json import finite_json
from harness.training.measures import MEASURES
from harness.training.members import Material, Member
from harness.training.recipe_file import FOLDS, RecipeFile, TrainingError
from harness.training.trainer import Trained


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Write a weight file whole; returns its sha256."""
    content = save({key: value.contiguous() for key, value in weights.items()})
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def weight_path(output: str) -> Path:
    """The weight file of a recipe file's `output`."""
    path = Path(output)
    return path.with_name(path.name + SUFFIX)


def list_weights(path: Path, entry: Mapping[str, Any]) -> None:
    """Put a weight file's entry into the manifest beside it."""
    content = path.read_bytes()
    listed = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **entry}
    with locked(path.parent / MANIFEST):  # two trainings may end at once
        manifest = {**read_manifest(path.parent), path.name.removesuffix(SUFFIX): listed}
        write_whole(path.parent / MANIFEST, (finite_json(dict(sorted(manifest.items())), indent=2) + "\n").encode())


def refuse_taken(file: RecipeFile) -> None:
    """Weights that another recipe made should not be lost to an `output` that was forgotten.

    A recipe is known by its name: its own weights it may replace, whatever its settings were.

    Raises:
        TrainingError: The manifest beside `output` lists weights of that name by another recipe.
        WeightsError: The manifest is damaged.
    """
    path = weight_path(file.output)
    name = path.name.removesuffix(SUFFIX)
    manifest = read_manifest(path.parent)
    if name not in manifest:
        return
    entry = manifest[name]
    recipe = entry.get("recipe") if isinstance(entry, dict) else None
    maker = recipe.get("name") if isinstance(recipe, dict) else None
    if maker != file.name:
        made = f"made by the recipe '{maker}'" if maker is not None else "made by no recipe"
        raise TrainingError(
            f"output {file.output}: {path.parent / MANIFEST} lists '{name}', {made}, and '{file.name}' would overwrite "
            "it. Give another `output`, or remove the entry and its file."
        )


def entry_of(file: RecipeFile, trained: Trained, kind: str) -> dict[str, Any]:
    """What a manifest says of the weights of one member."""
    return {
        "metric": file.metric.name,
        "parameters": file.metric.parameters(),
        **_provenance(file, trained, kind),
        "validation": _validation(file, trained, kind),
        **({"test": {"split": file.dataset.test, **_rounded(trained.test)}} if trained.test is not None else {}),
        **({"link": trained.link} if trained.link is not None else {}),
        **_collapse(trained),
        "cost": dict(trained.spent),
        "minutes": round(trained.seconds / 60, 1),
        "device": trained.facts["device"],
        "versions": _versions(),
    }


def entry_of_folds(
    file: RecipeFile, members: Sequence[Member], trained: Sequence[Trained], kind: str, references: int
) -> dict[str, Any]:
    """What a manifest says of the joined weights of all folds."""
    return {
        "metric": FOLDS,
        "parameters": folds_parameters(file, references),
        **_provenance(file, trained[0], kind),
        "members": [
            {
                "name": member.name,
                "validation": _validation(member.file, one, kind),
                **({"test": _rounded(one.test)} if one.test is not None else {}),
                **({"link": one.link} if one.link is not None else {}),
                **_collapse(one),
            }
            for member, one in zip(members, trained, strict=True)
        ],
        "minutes": round(sum(one.seconds for one in trained) / 60, 1),
        "device": trained[0].facts["device"],
        "versions": _versions(),
    }


def _provenance(file: RecipeFile, trained: Trained, kind: str) -> dict[str, Any]:
    """Licence, recipe and data."""
    facts = trained.facts
    train = facts["splits"]["train"]
    content: dict[str, Any] = {"licence": facts["licence"], "recipe": file.published()}
    if facts["started_from"]:
        content["started_from"] = facts["started_from"]
    content["trained_on"] = {
        "dataset": facts["dataset"],
        "split": train["split"],
        kind: train[kind],
        "labels": facts["labels"],
        "fingerprint": facts["fingerprint"],
    }
    return content


def _validation(file: RecipeFile, trained: Trained, kind: str) -> dict[str, Any]:
    best = trained.best
    return {
        "split": file.dataset.val,
        kind: trained.facts["splits"]["val"][kind],
        MEASURES[kind]: round(best.figure, 4),
        "spread": round(best.spread, 4),
        "collapsed": best.collapsed,
        "step": best.step,
        **_rounded(best.robust()),
    }


def _collapse(trained: Trained) -> dict[str, Any]:
    """The step at which the predictions of training batches stopped varying, where that happened."""
    return {} if trained.alarm is None else {"collapse_alarm": {"step": trained.alarm}}


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}


def _versions() -> dict[str, str]:
    return {
        "robustiqa": own_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def folds_parameters(file: RecipeFile, references: int) -> dict[str, Any]:
    """Parameters of the metric `folds` for the members that a recipe file trains."""
    own = file.metric.parameters()
    return {
        "metric": file.metric.name,
        **({"parameters": own} if own else {}),
        "folds": file.folds,
        "references": references,
    }


def join_folds(file: RecipeFile, materials: Sequence[Material], weights: Sequence[Tensors]) -> dict[str, Tensor]:
    """State of the metric `folds`: every member's weights, and which member held each reference out.

    Args:
        file: The recipe file.
        materials: One per fold, for its test split.
        weights: Their state dicts.

    Raises:
        TrainingError: Two references of different folds are the same image.
    """
    held: dict[bytes, tuple[int, str]] = {}
    for fold, material in enumerate(materials):
        firsts = {entry.reference_id: entry for entry in reversed(material.splits.test)}
        for name, entry in sorted(firsts.items()):
            key = fingerprint(material.images.item(entry)[0])
            other, twin = held.setdefault(key, (fold, name))
            if other != fold:
                raise TrainingError(
                    f"data set '{file.dataset.name}': references '{twin}' and '{name}' are the same image, and folds "
                    f"{other} and {fold} hold them out. Leave one of them out of the data set."
                )
    state = {f"members.{i}.{key}": value for i, member in enumerate(weights) for key, value in member.items()}
    state["fingerprints"] = torch.tensor([list(key) for key in held], dtype=torch.uint8)
    state["held_out"] = torch.tensor([fold for fold, _ in held.values()], dtype=torch.int64)
    build_metric(FOLDS, folds_parameters(file, len(held))).load_state_dict(state)  # or nobody could use the file
    return state
