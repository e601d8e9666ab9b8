"""The members of a training: one, or one for each fold or seed; what each is trained, validated and tested on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import Attack, Dataset, Entry, Recipe
from harness.plugins.registry import Registry
from harness.training.images import ImageCache
from harness.training.inner import refuse_attack
from harness.training.recipe_file import DataUse, RecipeFile, TrainingError, build_plugin
from harness.wording import did_you_mean


@dataclass(frozen=True)
class Member:
    """One training of a run: a recipe file of its own, without folds and seeds, and a folder."""

    name: str
    """"fold-0", "seed-3"; empty where there is but one."""
    file: RecipeFile
    folder: Path


def members_of(file: RecipeFile, folder: Path, registry: Registry) -> Sequence[Member]:
    """What one recipe file trains, in order.

    Args:
        file: The recipe file.
        folder: The run folder.
        registry: Where the data set comes from.

    Raises:
        TrainingError: Folds or new splits are asked of a data set that has none.
    """
    alone = {"folds": None, "seeds": 1, "resplit": False}
    data = file.dataset
    if file.folds is not None:
        _need(registry, data, ("folds", "fold"), "folds", "Leave out `folds`, or train several `seeds`.")
        folds = [data.with_parameters(folds=file.folds, fold=i, test=data.test or "test") for i in range(file.folds)]
        return [
            Member(f"fold-{i}", file.model_copy(update={**alone, "dataset": fold}), folder / f"fold-{i}")
            for i, fold in enumerate(folds)
        ]
    if file.resplit:
        _need(registry, data, ("split_seed",), "resplit", "Leave out `resplit`.")
    found = []
    for i in range(file.seeds):
        changed: dict[str, Any] = {**alone, "seed": file.seed + i}
        if file.resplit:
            base = data.parameters().get("split_seed") or 0
            changed["dataset"] = data.with_parameters(split_seed=base + i)
        name = f"seed-{file.seed + i}" if file.seeds > 1 else ""
        found.append(Member(name, file.model_copy(update=changed), folder / name))
    return found


def _need(registry: Registry, data: DataUse, parameters: Sequence[str], key: str, cure: str) -> None:
    known = [parameter.name for parameter in registry.dataset(data.name).parameters()]
    if missing := [name for name in parameters if name not in known]:
        raise TrainingError(
            f"`{key}`: data set '{data.name}' has no parameter '{missing[0]}', so its splits are its own. {cure}"
        )


@dataclass(frozen=True)
class Splits:
    """The entries a member is trained, validated and tested on."""

    train: Sequence[Entry]
    val: Sequence[Entry]
    test: Sequence[Entry]
    """Empty where no test split is asked for."""


@dataclass(frozen=True)
class Material:
    """What a member is trained with, besides the metric; labels are read, images are not."""

    data: Dataset
    recipe: Recipe
    splits: Splits
    images: ImageCache
    attack: Attack | None = None
    """The inner attack, where the recipe file has one."""
    notes: Sequence[str] = ()
    """What the recipe has to say of the train split."""


def material_of(member: Member, path: Path, registry: Registry, shared: ImageCache | None = None) -> Material:
    """Build a member's data set and recipe and read its splits.

    Args:
        member: The member.
        path: The recipe file, for messages.
        registry: Where plugins come from.
        shared: Images that another member of the run decoded, which are this one's, too.

    Raises:
        TrainingError: A plugin, a parameter or a split cannot be used.
    """
    file = member.file
    data = build_plugin(registry.dataset(file.dataset.name), path, file.dataset.parameters())
    recipe = build_plugin(registry.recipe(file.recipe.name), path, {"batch": file.batch, **file.recipe.parameters()})
    images = shared.of(data) if shared is not None else ImageCache(data, file.cache_images)
    attack = _inner_attack(file, recipe, path, registry)
    splits = splits_of(data, recipe, file)
    try:
        notes = tuple(recipe.check(splits.train))
    except ValueError as error:
        raise TrainingError(f"recipe '{file.recipe.name}' on the split '{file.dataset.train}': {error}") from error
    return Material(data, recipe, splits, images, attack, notes)


def _inner_attack(file: RecipeFile, recipe: Recipe, path: Path, registry: Registry) -> Attack | None:
    """The attack of the section `inner`, built; None where the recipe attacks nothing.

    Raises:
        TrainingError: The section is missing or has no use, or the attack cannot be had in training.
    """
    use, name = file.inner, file.recipe.name
    if use is None:
        if recipe.attacks:
            raise TrainingError(
                f"recipe '{name}' trains against attacks, and the recipe file has no section `inner`. Add "
                "`inner: {name: pgd, steps: 3, step_size: 4/255, eps: 8/255, norm: linf, direction: random_sign}`."
            )
        return None
    if not recipe.attacks:
        raise TrainingError(f"recipe '{name}' attacks no image, so `inner` has no use. Remove the section.")
    plugin = registry.attack(use.name)
    attack = build_plugin(plugin, path, use.parameters())
    refuse_attack(use, plugin, attack, recipe.kind)
    return attack


def splits_of(data: Dataset, recipe: Recipe, file: RecipeFile) -> Splits:
    """Read the splits of a data set.

    Raises:
        TrainingError: The data set is of another kind than the recipe, a split does not exist, an item has no label,
            all labels of a split are equal, or two splits share a reference.
    """
    use = file.dataset
    if data.kind != recipe.kind:
        raise TrainingError(
            f"data set '{use.name}' holds {data.kind}, and the recipe '{file.recipe.name}' trains on {recipe.kind}. "
            "Choose another of either."
        )
    wanted = {"train": use.train, "val": use.val, **({"test": use.test} if use.test is not None else {})}
    found = {part: _labelled(data, use.name, split) for part, split in wanted.items()}
    for part in wanted:
        if len({entry.opinion if data.kind == "pairs" else entry.judge for entry in found[part]}) < 2:
            raise TrainingError(
                f"data set '{use.name}', split '{wanted[part]}': all labels are equal, which ranks nothing. "
                "Choose another."
            )
    for one, other in itertools.combinations(wanted, 2):
        shared = {entry.reference_id for entry in found[one]} & {entry.reference_id for entry in found[other]}
        if shared:
            cure = "split_seed: 0 gives such" if data.splits == ("all",) else f"it has {', '.join(data.splits)}"
            raise TrainingError(
                f"data set '{use.name}': reference '{min(shared)}' is both in '{wanted[one]}', given as {one}, and in "
                f"'{wanted[other]}', given as {other}. Choose splits that share no reference: {cure}."
            )
    return Splits(found["train"], found["val"], found.get("test", ()))


def _labelled(data: Dataset, name: str, split: str) -> Sequence[Entry]:
    if split not in data.splits:
        raise TrainingError(f"data set '{name}' has no split '{split}'.{did_you_mean(split, data.splits)}")
    entries = data.entries(split)
    label, words = ("opinion", "an opinion score") if data.kind == "pairs" else ("judge", "a judge")
    if not entries or any(getattr(entry, label) is None for entry in entries):
        raise TrainingError(f"data set '{name}', split '{split}': every item needs {words}. Choose another.")
    return entries
