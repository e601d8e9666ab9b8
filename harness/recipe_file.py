"""Recipe files: their schema, how one is read, and the plugins and splits it names.

Everything here is checked before a step is trained: an hour of training should not end at a mistake in its first line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from harness.contracts import Dataset, Entry, Metric, Recipe, UserError
from harness.guard import told
from harness.located import Problem, parse
from harness.paths import shown as shown_path
from harness.registry import Plugin, Registry, did_you_mean
from harness.resolve import check_parameter
from harness.suite_file import NAME, shown, worded

T = TypeVar("T")

_EXAMPLE = "suites/train/birqa_tiny_mini.yaml"


class TrainingError(UserError):
    """A recipe file, or what it asks for, cannot be used as it is."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class PluginUse(pydantic.BaseModel):
    """A plugin by name; every other key is one of its parameters."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    name: str

    def parameters(self) -> dict[str, Any]:
        """The parameters given."""
        return dict(self.model_extra or {})


class DataUse(PluginUse):
    """A data set with the splits to train and to validate on."""

    train: str = "train"
    val: str = "val"


class RecipeFile(_Strict):
    """A recipe file, checked."""

    name: Annotated[str, pydantic.Field(pattern=NAME)]
    """Name of the run folder."""
    metric: PluginUse
    dataset: DataUse
    recipe: PluginUse
    steps: pydantic.PositiveInt
    batch: pydantic.PositiveInt
    learning_rate: pydantic.PositiveFloat
    schedule: Literal["constant", "cosine"] = "cosine"
    crop: pydantic.PositiveInt | None = None
    """Side of a random square crop, the same for both images of a pair."""
    flip: bool = True
    """Random horizontal and vertical flips, the same for both images of a pair."""
    gradient_clip: pydantic.PositiveFloat = 5.0
    label_scale: tuple[float, float] = (1.0, 5.0)
    """What opinions 0 and 1 become."""
    seed: pydantic.NonNegativeInt = 0
    threads: pydantic.PositiveInt = 1
    evaluate_every: pydantic.PositiveInt = 100
    cache_images: pydantic.NonNegativeInt = 4096
    """Decoded images kept in memory, as 8-bit; the least recently used leave first."""
    output: str
    """Path of the weight file without its suffix; the manifest beside it gets an entry under the file's name."""

    @pydantic.field_validator("metric", "dataset", "recipe", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @pydantic.field_validator("output")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        if not Path(value).name:
            raise ValueError("should be the path of a weight file without its suffix, such as weights/mine")
        return value


def read_recipe(path: Path) -> RecipeFile:
    """Read and check a recipe file.

    Raises:
        UserError: The file is missing or no YAML, or has unknown keys or wrong values; all of them with their lines.
    """
    document = parse(path, start=_EXAMPLE)
    problems = list(document.problems)
    if isinstance(document.value, dict):
        try:
            file = RecipeFile.model_validate(document.value)
        except pydantic.ValidationError as error:
            problems += [_explained(problem) for problem in error.errors()]
    elif not problems:
        keys = ", ".join(RecipeFile.model_fields)
        problems.append(Problem((), f"must be a mapping with the keys {keys}. Start from {_EXAMPLE}."))
    if problems:
        raise document.report(problems)
    return file


def _explained(problem: Any) -> Problem:
    place = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        message = f"unknown key '{place[-1]}'.{did_you_mean(str(place[-1]), list(RecipeFile.model_fields))}"
        return Problem(place, message, on_key=True)
    if place[0] == "label_scale":
        return Problem(place[:1], "should be two numbers: [low, high].")
    if problem["type"] == "missing":
        return Problem(place[:-1], f"the key '{place[-1]}' is missing. Add it.")
    own_words = problem["type"] in ("model_type", "string_pattern_mismatch", "value_error")
    return Problem(place, f"{worded(problem) if own_words else problem['msg']}, got {shown(problem['input'])}.")


def build(file: RecipeFile, path: Path, registry: Registry) -> tuple[Metric, Dataset, Recipe]:
    """The metric (untrained), the data set and the recipe a recipe file names.

    Raises:
        TrainingError: A parameter is unknown or has a wrong value, or a plugin cannot be built with them.
    """
    return (
        _instance(registry.metric(file.metric.name), path, file.metric.parameters()),
        _instance(registry.dataset(file.dataset.name), path, file.dataset.parameters()),
        _instance(registry.recipe(file.recipe.name), path, {"batch": file.batch, **file.recipe.parameters()}),
    )


def _instance(plugin: Plugin[T], path: Path, parameters: Mapping[str, Any]) -> T:
    known = {parameter.name: parameter for parameter in plugin.parameters()}
    values = {}
    for name, value in parameters.items():
        if name not in known:
            raise TrainingError(
                f"recipe file {path}: '{plugin.name}' has no parameter '{name}'.{did_you_mean(name, list(known))}"
            )
        try:
            values[name] = check_parameter(known[name].annotation, value)
        except pydantic.ValidationError as error:
            detail = error.errors()[0]
            raise TrainingError(
                f"recipe file {path}: '{plugin.name}' parameter '{name}': {detail['msg']}, got {detail['input']!r}."
            ) from error
    try:
        return plugin.build(values)
    except (ValueError, TypeError) as error:
        raise TrainingError(f"recipe file {path}: '{plugin.name}': {error}") from error
    except Exception as error:
        raise TrainingError(
            f"recipe file {path}: '{plugin.name}' from {plugin.origin} cannot be built: {told(error)}. Mend the plugin."
        ) from error


def refuse_output(output: Path, path: Path) -> None:
    """Hours of training should not end at a folder that cannot be written.

    Raises:
        TrainingError: It cannot.
    """
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise TrainingError(
            f"recipe file {path}: output {output}: {shown_path(folder)} is no folder that can be written. "
            "Choose another."
        )


def labelled(data: Dataset, name: str, split: str) -> Sequence[Entry]:
    """Every item of a split to train or to validate on.

    Raises:
        TrainingError: The data set holds no pairs, has no such split, or an item has no opinion score.
    """
    if data.kind != "pairs":
        raise TrainingError(
            f"data set '{name}' holds {data.kind}, and training needs pairs with opinion scores. Choose another."
        )
    if split not in data.splits:
        raise TrainingError(f"data set '{name}' has no split '{split}'.{did_you_mean(split, data.splits)}")
    entries = data.entries(split)
    if not entries or any(entry.opinion is None for entry in entries):
        raise TrainingError(f"data set '{name}', split '{split}': every item needs an opinion score. Choose another.")
    return entries
