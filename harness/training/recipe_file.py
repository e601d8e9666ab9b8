"""Recipe files: their schema, how one is read, and the plugins and splits it names.

Everything here is checked before a step is trained: an hour of training should not end at a mistake in its first line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import pydantic

from harness.contracts import UserError
from harness.files import shown
from harness.plugins.model import Plugin
from harness.plugins.returned import told
from harness.rng import HIGHEST_SEED
from harness.suite.compose import FileKind, Overrides, override, read
from harness.suite.entries import check_parameter
from harness.suite.keys import SeedNumber, as_entry, worded
from harness.suite.layout_names import NAME
from harness.suite.strict_yaml import Document, Problem
from harness.wording import did_you_mean, quoted

_T = TypeVar("_T")

RECIPES = FileKind("recipe", "name, metric, dataset, ...", "suites/train/birqa_tiny_mini.yaml")
FOLDS = "folds"
"""The metric that holds one member per fold and asks, of each reference, the one that has never seen it."""
FEWEST_FOLDS = 3
"""A fold needs a part to test, one to choose the weights on and one to train on."""

_PLUGIN_KEYS = ("metric", "dataset", "recipe")
_TWO_NUMBERS = {"label_scale": "[low, high]", "betas": "[beta1, beta2]"}
_LATER = (
    *("betas", "trainable", "nonnegative", "link", "patience", "folds", "seeds", "resplit"),
    *("inner", "robust", "keep", "ema"),
)
"""Keys that leave the description of a training as it was before they existed, at their defaults."""


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


class TrainedMetric(PluginUse):
    """The metric to train and what it starts from."""

    weights: str | None = pydantic.Field(
        default=None, description="Weights to start from, as a suite names them. Default: untrained, like `random`."
    )


class DataUse(PluginUse):
    """A data set with the splits to train, to validate and to test on."""

    train: str = pydantic.Field(default="train", description="Split to train on.")
    val: str = pydantic.Field(default="val", description="Split the weights are chosen on.")
    test: str | None = pydantic.Field(
        default=None, description="Split scored once, at the end, by the weights that are kept. Default: none."
    )

    def with_parameters(self, **changed: Any) -> Self:
        """The same use with parameters of the data set changed."""
        return type(self).model_validate({**self.model_dump(), **changed})


_Beta = Annotated[float, pydantic.Field(ge=0, lt=1)]
_Radius = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
EPS = 8 / 255
"""Radius of attacks in training unless a recipe file gives another."""


class InnerUse(PluginUse):
    """The attack on the flagged rows of every batch; other keys are its parameters."""

    eps: _Radius = pydantic.Field(default=EPS, description="Radius of the ball, in units of images in [0, 1].")
    norm: Literal["linf", "l2"] = pydantic.Field(default="linf", description="Norm of the ball.")
    direction: Literal["up", "down", "random_sign", "error"] | None = pydantic.Field(
        default=None,
        description="Which way quality is pushed. `random_sign` (default): a fair coin for each image; `error`: away "
        "from its label. Triplets have none: the rejected patch is raised, the preferred one lowered.",
    )
    which: Literal["both", "p0"] = pydantic.Field(default="both", description="Of triplets, the attacked patches.")


class RobustUse(_Strict):
    """Robust validation: PGD both ways on a fixed part of the validation split."""

    limit: pydantic.PositiveInt = pydantic.Field(default=48, description="Images, evenly spread over the labels.")
    steps: pydantic.PositiveInt = pydantic.Field(default=5, description="Steps of PGD; the best iterate counts.")
    eps: _Radius | None = pydantic.Field(default=None, description="Radius; that of `inner`, or 8/255, unless given.")
    norm: Literal["linf", "l2"] | None = pydantic.Field(default=None, description="Norm; that of `inner`, or `linf`.")


class RecipeFile(_Strict):
    """A recipe file, checked."""

    name: Annotated[str, pydantic.Field(pattern=NAME)] = pydantic.Field(description="Name of the run folder.")
    metric: TrainedMetric = pydantic.Field(description="The metric to train, its parameters and `weights`.")
    dataset: DataUse = pydantic.Field(description="The data set, its parameters and the splits `train`, `val`, `test`.")
    recipe: PluginUse = pydantic.Field(description="The training recipe and its parameters.")
    inner: InnerUse | None = pydantic.Field(
        default=None,
        description="The attack that adversarial recipes train against: `name`, its parameters, and `eps`, `norm`, "
        "`direction`, `which`.",
    )
    robust: RobustUse | None = pydantic.Field(
        default=None,
        description="Validate under attack too: `limit` images, `steps` of PGD, `eps`, `norm`. Default: not.",
    )
    keep: Literal["best", "last"] = pydantic.Field(
        default="best",
        description="Which weights are kept: of the best validation (by the robust pair accuracy where there is one), "
        "or the last ones. With `inner`, `best` needs `robust`.",
    )
    ema: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = pydantic.Field(
        default=None,
        description="Decay of the running mean of the weights, which is then validated and kept in their place.",
    )
    steps: pydantic.PositiveInt = pydantic.Field(description="Steps of Adam, a batch each.")
    batch: pydantic.PositiveInt = pydantic.Field(description="Images, or triplets, in a batch.")
    learning_rate: pydantic.PositiveFloat = pydantic.Field(
        allow_inf_nan=False, description="Adam's, at the first step."
    )
    betas: tuple[_Beta, _Beta] = pydantic.Field(default=(0.9, 0.999), description="Adam's decay rates.")
    schedule: Literal["constant", "cosine"] = pydantic.Field(
        default="cosine", description="`cosine`: the learning rate falls to 0 at the last step."
    )
    trainable: tuple[str, ...] = pydantic.Field(
        default=(),
        description="Shell patterns on names of parameters, such as `heads.*`: the rest stays as it is. Default: all "
        "but those of batch normalisation, which is frozen.",
    )
    nonnegative: tuple[str, ...] = pydantic.Field(
        default=(), description="Shell patterns on names of parameters held at 0 or above after every step."
    )
    link: Literal["auto", "affine"] = pydantic.Field(
        default="auto",
        description="`affine`: the loss sees a + b x score, with a and b > 0 trained beside the metric and kept out of "
        "its weights. `auto`: so for metrics of which lower is better, on the negated score; the score of the others.",
    )
    crop: pydantic.PositiveInt | None = pydantic.Field(
        default=None, description="Side of a random square crop, the same for all images of an item."
    )
    flip: bool = pydantic.Field(
        default=True, description="Random horizontal and vertical flips, the same for all images of an item."
    )
    gradient_clip: pydantic.PositiveFloat = pydantic.Field(
        default=5.0, allow_inf_nan=False, description="Largest norm of the gradient."
    )
    label_scale: tuple[float, float] = pydantic.Field(default=(1.0, 5.0), description="What opinions 0 and 1 become.")
    seed: SeedNumber = pydantic.Field(default=0, description="Seed of batches, crops and flips.")
    threads: pydantic.PositiveInt = pydantic.Field(default=1, description="Threads of torch on the CPU.")
    evaluate_every: pydantic.PositiveInt = pydantic.Field(default=100, description="Steps between validations.")
    patience: pydantic.PositiveInt | None = pydantic.Field(
        default=None, description="Stop after so many validations without a better one. Default: never."
    )
    folds: Annotated[int, pydantic.Field(ge=FEWEST_FOLDS)] | None = pydantic.Field(
        default=None,
        description="Train one member per fold of the data set and join them in one weight file of the metric `folds`.",
    )
    seeds: pydantic.PositiveInt = pydantic.Field(
        default=1, description="Train so many members, with the seeds `seed`, `seed` + 1, ...; the best one is kept."
    )
    resplit: bool = pydantic.Field(
        default=False, description="Each member of `seeds` also splits the data set anew, by its `split_seed`."
    )
    cache_images: pydantic.NonNegativeInt = pydantic.Field(
        default=4096, description="Decoded images kept in memory, as 8-bit; the least recently used leave first."
    )
    output: str = pydantic.Field(
        description="Path of the weight file without its suffix; the manifest beside it gets an entry under its name, "
        "and weights that it lists as another recipe's are not overwritten."
    )

    @pydantic.field_validator(*_PLUGIN_KEYS, "inner", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return as_entry(value)

    @pydantic.field_validator("label_scale")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError("should be two finite numbers, [low, high], low below high")
        return value

    @pydantic.field_validator("output")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        if not Path(value).name:
            raise ValueError("should be the path of a weight file without its suffix, such as weights/mine")
        return value

    def described(self) -> dict[str, Any]:
        """What decides the weights, as plain values: all but the output, the cache, and keys of no effect."""
        content = self.model_dump(mode="json", exclude={"output", "cache_images"})
        for key in _LATER:
            if getattr(self, key) == type(self).model_fields[key].default:
                del content[key]
        for part, key in (("metric", "weights"), ("dataset", "test")):
            if content[part][key] is None:
                del content[part][key]
        return content

    def published(self) -> dict[str, Any]:
        """`described` without the places of files on this machine."""
        content = self.described()
        content["dataset"].pop("root", None)
        if "weights" in content["metric"]:
            content["metric"]["weights"] = Path(content["metric"]["weights"]).name
        return content


def read_recipe(path: Path, sets: Sequence[str] = ()) -> RecipeFile:
    """Read and check a recipe file and what it extends.

    Args:
        path: The file.
        sets: ``KEY.PATH=VALUE`` of the command line, in order.

    Raises:
        UserError: The file is missing or no YAML, or has unknown keys or wrong values; all of them with their lines.
    """
    document = read(path, RECIPES)
    _open_bare_names(document)
    override(document, Overrides(tuple(sets)), lambda key, entry: set())
    problems = list(document.problems)
    if isinstance(document.value, dict):
        try:
            file = RecipeFile.model_validate(document.value)
            problems += _at_odds(file)
        except pydantic.ValidationError as error:
            unread = any(problem.path == ("extends",) for problem in problems)
            problems += [p for p in map(_explained, error.errors()) if p.path or not unread]
    elif not problems:
        keys = ", ".join(RecipeFile.model_fields)
        problems.append(Problem((), f"must be a mapping with the keys {keys}. Start from {RECIPES.start}."))
    if problems:
        raise document.report(problems)
    return file


def _at_odds(file: RecipeFile) -> list[Problem]:
    """Keys that cannot be had, or not together."""
    problems = []
    if (last := file.seed + file.seeds - 1) > HIGHEST_SEED:
        problems.append(Problem(("seeds",), f"the last of the seeds should be at most {HIGHEST_SEED}, got {last}."))
    if "batch" in file.recipe.parameters():
        told = f"'{file.recipe.name}' gets the recipe file's own `batch`. Remove this one, and set `batch`."
        problems.append(Problem(("recipe", "batch"), told, on_key=True))
    if file.metric.name == FOLDS:
        told = f"the metric '{FOLDS}' is made of trained members and not trained. Name their metric, and give `folds`."
        problems.append(Problem(("metric", "name"), told))
    if file.inner is not None and file.keep == "best" and file.robust is None:
        told = (
            "the best validation by clean SROCC favours the weights that are defended least. Set `keep: last`, or add "
            "`robust: {limit: 48, steps: 5}`, by which the best are then chosen."
        )
        problems.append(Problem(("keep",) if "keep" in file.model_fields_set else ("inner",), told, on_key=True))
    for key in ("inner", "robust"):
        use = getattr(file, key)
        if use is not None and use.norm != "l2" and use.eps is not None and use.eps > 1:
            problems.append(Problem((key, "eps"), f"should be at most 1 in linf, got {use.eps:g}."))
    return problems + _at_odds_with_folds(file) if file.folds is not None else problems


def _at_odds_with_folds(file: RecipeFile) -> list[Problem]:
    """Keys that cannot be had with `folds`."""
    both = [key for key, given in (("seeds", file.seeds > 1), ("resplit", file.resplit)) if given]
    problems = [
        Problem((key,), f"'{key}' and 'folds' cannot be had together. Remove one.", on_key=True) for key in both
    ]
    return problems + [
        Problem(("dataset", key), f"the members of 'folds' have each a '{key}' of their own. Remove it.", on_key=True)
        for key in ("folds", "fold")
        if key in file.dataset.parameters()
    ]


def _open_bare_names(document: Document) -> None:
    """So that ``--set metric.weights=FILE`` works on ``metric: birqa``, too."""
    for key in (*_PLUGIN_KEYS, "inner") if isinstance(document.value, dict) else ():
        if isinstance(document.value.get(key), str):
            document.value[key] = {"name": document.value[key]}
            document.values[key, "name"] = document.values[key,]


def _explained(problem: Any) -> Problem:
    place = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        robust = place[0] == "robust" and len(place) > 1
        known = list(RobustUse.model_fields) if robust else [*RecipeFile.model_fields, "extends"]
        return Problem(place, f"unknown key '{place[-1]}'.{did_you_mean(str(place[-1]), known)}", on_key=True)
    if place[0] in _TWO_NUMBERS and problem["type"] not in ("greater_than_equal", "less_than", "value_error"):
        return Problem(place[:1], f"should be two numbers: {_TWO_NUMBERS[place[0]]}.")
    if problem["type"] == "missing":
        return Problem(place[:-1], f"the key '{place[-1]}' is missing. Add it.")
    if place == ("robust",) and problem["type"] == "model_type":
        return Problem(place, f"should be a mapping such as {{limit: 48, steps: 5}}, got {quoted(problem['input'])}.")
    own_words = problem["type"] in ("model_type", "string_pattern_mismatch", "value_error") or place == ("seed",)
    return Problem(place, f"{worded(problem) if own_words else problem['msg']}, got {quoted(problem['input'])}.")


def build_plugin(plugin: Plugin[_T], path: Path, parameters: Mapping[str, Any]) -> _T:
    """An instance of a plugin with the parameters that a recipe file gives it.

    Raises:
        TrainingError: A parameter is unknown or has a wrong value, or it cannot be built with them.
    """
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
    except UserError as error:
        raise TrainingError(f"recipe file {path}: {error}") from error
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
            f"recipe file {path}: output {output}: {shown(folder)} is no folder that can be written. Choose another."
        )
