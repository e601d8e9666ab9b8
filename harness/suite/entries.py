"""One function per kind of entry of a suite: its plugin found, its parameters checked, itself built once."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import pydantic
from torch import nn

from harness.contracts import Attack, Dataset
from harness.errors import UserError
from harness.plugins.model import Kind, Parameter, Plugin, PluginError
from harness.plugins.registry import Registry
from harness.plugins.returned import MEND, told, wrong_entries
from harness.plugins.weights.locate import RANDOM_WEIGHTS, WeightFile
from harness.plugins.weights.locate import check as check_weights
from harness.plugins.weights.locate import resolve as resolve_weights
from harness.suite.keys import LONGEST_LABEL, PIXELS, worded
from harness.suite.model import NO_FLOOR, AttackUse, DatasetUse, Floor, MetricUse, PixelsKey
from harness.suite.strict_yaml import Problem, YamlPath
from harness.suite.uses import Built, build_once, contents_of, metric_used, plugin_use
from harness.wording import did_you_mean, quoted

METRIC_KEYS = ("weights",)
"""Keys of a metric's entry beside its name, its label and its parameters."""
_SPLITTING = ("split_seed", "folds", "fold")
"""Parameters of data sets without official splits that give them some."""


@dataclass
class EntryContext:
    """What the entries of one file share: where their plugins are looked up and where their problems go."""

    registry: Registry
    problems: list[Problem]
    broken: set[YamlPath] = field(default_factory=set)
    """Places whose structure is wrong."""
    bare_chains: set[YamlPath] = field(default_factory=set)
    """Places of defenses that are plain lists of what is applied in order."""
    trained: dict[YamlPath, YamlPath] = field(default_factory=dict)
    """Place of a defense -> place in it of what stands for trained weights."""
    resolved: dict[str, Any] | None = None
    """Entries that do not depend on the split, by what they say; kept for the other splits of a suite over several."""
    adapters: dict[tuple[type, str], pydantic.TypeAdapter[Any]] = field(default_factory=dict)
    """What checks a parameter, by class and name; kept, because making one takes far longer than using it."""

    def add(self, path: YamlPath, message: str, *, on_key: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message, on_key))


def dataset_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DatasetUse | None:
    """A data set and its split, or None where a problem prevents it."""
    plugin, values = plugin_and_values(context, "datasets", path, entry, ["split", "pixels"])
    built = built_entry(context, plugin, path, values)
    if plugin is None or values is None or built is None:
        return None
    dataset = built.instance
    splits = tuple(dataset.splits)
    default = "test" if "test" in splits else splits[0]
    split = entry.get("split", default)
    if split not in splits:
        by = [name for name in plugin.cls.neutral if name in _SPLITTING] if splits == plugin.cls.splits else []
        hint = did_you_mean(str(split), splits) + (f" It gets others by {', '.join(by)}." if by else "")
        context.add((*path, "split"), f"'{plugin.name}' has no split '{split}'.{hint}")
        return None
    wrong = wrong_entries(plugin, dataset, split)
    if wrong:
        context.add(path, wrong)
        return None
    pixels = _pixels(context, plugin, path, entry, dataset)
    use = use_fields(context, "datasets", plugin, path, values, entry, built)
    if pixels is None or use is None:
        return None
    if "label" not in entry and split != default:
        use["label"] += f" {split}"
    about = {"labels": dataset.labels, "shape": dataset.kind, "cluster_noun": plugin.cls.cluster_noun}
    about["calibrated_on_train"] = plugin.cls.calibrated_on_train
    return DatasetUse(**use, split=split, splits=splits, pixels=pixels, **about)


def _pixels(
    context: EntryContext, plugin: Plugin[Any], path: YamlPath, entry: Mapping[str, Any], dataset: Dataset
) -> PixelsKey | None:
    """Of which image files the contents are looked at; None with a problem noted."""
    known = type(dataset).image_files is not Dataset.image_files
    pixels = entry.get("pixels", PIXELS[0] if known else "names")
    if pixels not in PIXELS:
        context.add((*path, "pixels"), f"unknown pixels '{pixels}'.{did_you_mean(str(pixels), PIXELS)}")
        return None
    if pixels != "names" and not known:
        context.add(
            (*path, "pixels"),
            f"'{plugin.name}' from {plugin.origin} does not say which files it reads, so they cannot be looked at. "
            "Remove the key, or give the class a method image_files(entry).",
            on_key=True,
        )
        return None
    return cast(PixelsKey, pixels)


def metric_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> MetricUse | None:
    """A metric and its weights, or None where a problem prevents it."""
    plugin, values = plugin_and_values(context, "metrics", path, entry, METRIC_KEYS)
    if plugin is None or values is None:
        return None
    weights = entry.get("weights")
    if not named_as_text(context, path, weights):
        return None
    if weights is not None and not plugin.cls.needs_weights:
        context.add((*path, "weights"), f"'{plugin.name}' has no weights. Remove the key.", on_key=True)
        return None
    built = built_entry(context, plugin, path, values)
    if built is None:
        return None
    file = None
    if weights != RANDOM_WEIGHTS and plugin.cls.needs_weights:
        file = weights_found(context, plugin, path, built.instance, weights, "metric")
        if file is None:
            return None
    use = use_fields(context, "metrics", plugin, path, values, entry, built, file.sha256 if file else weights)
    if use is None:
        return None
    place = file.path.absolute() if file else None
    return MetricUse(**use, weights=file.sha256 if file else weights or "", weights_file=place)


def weights_found(
    context: EntryContext, plugin: Plugin[Any], path: YamlPath, module: nn.Module, weights: str | None, kind: str
) -> WeightFile | None:
    """The weight file that fits a metric or a purifier's network, or None with a problem noted."""
    try:
        file = resolve_weights(plugin.name, weights, plugin.weights, kind=kind)
        if file is not None:
            check_weights(module, file, kind=kind)
    except UserError as error:
        context.add((*path, "weights") if weights is not None else path, str(error))
        return None
    except (ValueError, RuntimeError):  # a null character, a lone surrogate; the home of nobody
        _no_weights_named(context, path, weights)
        return None
    if file is None:
        cure = "Name a file with 'weights:', or ask for 'weights: random'."
        if kind == "purifier":
            cure = (
                f"Name a model that it takes with 'weights:' (`robustiqa show {plugin.name}` says which), or take a "
                "purifier that brings its own, such as 'diffpure-mini'."
            )
        context.add(path, f"'{plugin.name}' needs weights. {cure}")
    return file


def named_as_text(context: EntryContext, path: YamlPath, weights: object) -> bool:
    """Whether weights are left to the default or named by a text; notes a problem where not."""
    if weights is None or isinstance(weights, str):
        return True
    _no_weights_named(context, path, weights)
    return False


def _no_weights_named(context: EntryContext, path: YamlPath, weights: object) -> None:
    context.add((*path, "weights"), f"should be a name in the manifest or a path, got {quoted(weights)}.")


def attack_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> AttackUse | None:
    """An attack with the metrics it brings, or None where a problem prevents it."""
    plugin, values = plugin_and_values(context, "attacks", path, entry, ["floor"])
    built = built_entry(context, plugin, path, values)
    if plugin is None or values is None or built is None or not _floor_fits(context, path, entry, plugin):
        return None
    metrics = _metrics_used(context, path, entry, built.instance)
    use = use_fields(context, "attacks", plugin, path, values, entry, built)
    if metrics is None or use is None:
        return None
    if use["label"] == "clean":
        context.add(path, "'clean' is always measured; do not list or label an attack so.")
    traits = {name: getattr(plugin.cls, name) for name in ("control", "fits", "norms", "needs_gradient")}
    return AttackUse(**use, **traits, metrics=metrics, floor=entry.get("floor", NO_FLOOR))


def _floor_fits(context: EntryContext, path: YamlPath, entry: Mapping[str, Any], plugin: Plugin[Any]) -> bool:
    """Whether the entry's floor is one there is, and the attack one that can have it; notes a problem where not."""
    floor = entry.get("floor", NO_FLOOR)
    if floor not in get_args(Floor):
        context.add((*path, "floor"), f"should be {' or '.join(get_args(Floor))}, got {quoted(floor)}.")
    elif floor != NO_FLOOR and (plugin.cls.control or not plugin.cls.needs_gradient):
        what = "a control" if plugin.cls.control else "a black-box attack, which does not look at the reference"
        context.add((*path, "floor"), f"'{plugin.name}' is {what}, and has no floor. Remove the key.", on_key=True)
    else:
        return True
    return False


def _metrics_used(
    context: EntryContext, path: YamlPath, entry: Mapping[str, Any], attack: Attack
) -> tuple[MetricUse, ...] | None:
    """The metrics an attack uses beside the one it attacks."""
    metrics = []
    for name in attack.uses_metrics():
        try:
            metrics.append(metric_used(name, attack, context.registry))
        except UserError as error:
            naming = [key for key, value in entry.items() if key != "name" and value == name]
            context.add((*path, *naming[:1]), str(error))
            return None
    return tuple(metrics)


def plugin_and_values(
    context: EntryContext, kind: Kind, path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]
) -> tuple[Plugin[Any] | None, dict[str, Any] | None]:
    """The plugin of an entry and every parameter of it with its value; None for what a problem prevents."""
    try:
        plugin: Plugin[Any] = context.registry.get(kind, entry["name"])
    except PluginError as error:
        context.add(path if path in context.broken else (*path, "name"), str(error))
        return None, None
    return plugin, _parameters(context, plugin, path, entry, own_keys)


def _parameters(
    context: EntryContext, plugin: Plugin[Any], path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]
) -> dict[str, Any] | None:
    """Every parameter with its value, or None where one is wrong."""
    before = len(context.problems)
    parameters = {p.name: p for p in plugin.parameters()}
    given = {k: v for k, v in entry.items() if k not in ("name", "label", *own_keys)}
    for key in given:
        if key not in parameters:
            hint = did_you_mean(key, [*parameters, *own_keys, "label"])
            context.add((*path, key), f"'{plugin.name}' has no parameter '{key}'.{hint}", on_key=True)
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            values[name] = _given_value(context, plugin, path, parameter, given[name])
        elif parameter.default is inspect.Parameter.empty:
            context.add(path, f"'{plugin.name}' needs the parameter '{name}'. Give it a value.")
        else:
            values[name] = parameter.default
    return values if len(context.problems) == before else None


def _given_value(
    context: EntryContext, plugin: Plugin[Any], path: YamlPath, parameter: Parameter, value: object
) -> Any | None:
    """The value in its annotated type, or None with a problem noted."""
    name = parameter.name
    try:
        return _checked(_adapter(context, plugin, parameter), value)
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        context.add((*path, name, *detail["loc"]), f"{worded(detail)}, got {quoted(detail['input'])}.")
    except pydantic.PydanticUserError:
        context.add(
            (*path, name),
            f"'{plugin.name}' from {plugin.origin} gives its parameter '{name}' a type that no file can "
            "write. Annotate it as a number, text, or a list of them.",
        )
    return None


def _adapter(context: EntryContext, plugin: Plugin[Any], parameter: Parameter) -> pydantic.TypeAdapter[Any]:
    key = plugin.cls, parameter.name
    if key not in context.adapters:
        context.adapters[key] = pydantic.TypeAdapter(parameter.annotation)
    return context.adapters[key]


def check_parameter(annotation: Any, value: Any) -> Any:
    """The value in its annotated type, strictly: no text for a number; a list serves for a tuple."""
    return _checked(pydantic.TypeAdapter(annotation), value)


def _checked(adapter: pydantic.TypeAdapter[Any], value: Any) -> Any:
    return adapter.validate_json(json.dumps(value), strict=True)


def built_entry(
    context: EntryContext, plugin: Plugin[Any] | None, path: YamlPath, values: Mapping[str, Any] | None
) -> Built | None:
    """An instance, so that a plugin's own checks of its parameters (ValueError) are heard now."""
    if plugin is None or values is None:
        return None
    try:
        json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"'{plugin.name}': its parameters must be plain finite values (text, numbers, lists): {error}."
        context.add(path, message)
        return None
    try:
        return build_once(plugin, values)
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        context.add(path, f"'{plugin.name}': {error}")
        return None
    except Exception as error:
        context.add(path, f"'{plugin.name}' from {plugin.origin} cannot be built: {told(error)}. {MEND}")
        return None


def use_fields(
    context: EntryContext,
    kind: Kind,
    plugin: Plugin[Any],
    path: YamlPath,
    values: Mapping[str, Any],
    entry: Mapping[str, Any],
    built: Built,
    weights: str | None = None,
) -> dict[str, Any] | None:
    """The fields of `Use`, or None with a problem noted."""
    try:
        use = plugin_use(kind, plugin, values, entry, contents_of(plugin, values, built, weights=weights))
        return use if label_fits(context, path, entry, use["label"]) else None
    except UserError as error:
        context.add(path, str(error))
    except Exception as error:
        context.add(path, f"'{plugin.name}' from {plugin.origin} cannot be built again: {told(error)}. {MEND}")
    return None


def label_fits(context: EntryContext, path: YamlPath, entry: Mapping[str, Any], label: str) -> bool:
    """Whether a label that is made of parameters leaves room for anything beside it; notes a problem where not."""
    if "label" in entry or len(label) <= LONGEST_LABEL:
        return True
    context.add(
        path,
        f"its parameters make a label of {len(label)} characters, and at most {LONGEST_LABEL} can be printed: "
        f"{quoted(label)}. Give it a 'label:' of its own.",
    )
    return False
