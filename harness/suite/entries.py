"""One function per kind of entry of a suite: its plugin found, its parameters checked, itself built once."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic

from harness.contracts import Attack, Metric
from harness.errors import UserError
from harness.plugins.model import Kind, Parameter, Plugin, PluginError
from harness.plugins.registry import Registry
from harness.plugins.returned import MEND, told, wrong_entries
from harness.plugins.weights.locate import RANDOM_WEIGHTS
from harness.plugins.weights.locate import check as check_weights
from harness.plugins.weights.locate import resolve as resolve_weights
from harness.suite.keys import worded
from harness.suite.model import AttackUse, DatasetUse, DefenseUse, MetricUse, Use
from harness.suite.strict_yaml import Problem, YamlPath
from harness.suite.uses import metric_used, plugin_use
from harness.wording import did_you_mean, quoted

_THREATS = ("oblivious", "adaptive")


@dataclass
class EntryContext:
    """What the entries of one file share: where their plugins are looked up and where their problems go."""

    registry: Registry
    problems: list[Problem]
    broken: set[YamlPath] = field(default_factory=set)
    """Places whose structure is wrong."""
    adapters: dict[tuple[type, str], pydantic.TypeAdapter[Any]] = field(default_factory=dict)
    """What checks a parameter, by class and name; kept, because making one takes far longer than using it."""

    def add(self, path: YamlPath, message: str, *, on_key: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message, on_key))


def dataset_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DatasetUse | None:
    """A data set and its split, or None where a problem prevents it."""
    plugin, values = _plugin_and_values(context, "datasets", path, entry, ["split"])
    dataset = _built(context, plugin, path, values)
    if plugin is None or values is None or dataset is None:
        return None
    splits = tuple(dataset.splits)
    default = "test" if "test" in splits else splits[0]
    split = entry.get("split", default)
    if split not in splits:
        others = f" It gets others by {', '.join(plugin.cls.neutral)}." if splits == plugin.cls.splits else ""
        hint = did_you_mean(str(split), splits) + (others if plugin.cls.neutral else "")
        context.add((*path, "split"), f"'{plugin.name}' has no split '{split}'.{hint}")
        return None
    wrong = wrong_entries(plugin, dataset, split)
    if wrong:
        context.add(path, wrong)
        return None
    use = plugin_use("datasets", plugin, values, entry)
    if "label" not in entry and split != default:
        use["label"] += f" {split}"
    facts = {"labels": plugin.cls.labels, "shape": plugin.cls.kind, "cluster_noun": plugin.cls.cluster_noun}
    return DatasetUse(**use, **facts, split=split, splits=splits)


def metric_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> MetricUse | None:
    """A metric and its weights, or None where a problem prevents it."""
    plugin, values = _plugin_and_values(context, "metrics", path, entry, ["weights"])
    if plugin is None or values is None:
        return None
    weights = entry.get("weights")
    if weights is not None and not isinstance(weights, str):
        _no_weights_named(context, path, weights)
        return None
    if weights is not None and not plugin.cls.needs_weights:
        context.add((*path, "weights"), f"'{plugin.name}' has no weights. Remove the key.", on_key=True)
        return None
    metric = _built(context, plugin, path, values)
    if metric is None:
        return None
    use = plugin_use("metrics", plugin, values, entry)
    if weights == RANDOM_WEIGHTS or not plugin.cls.needs_weights:
        return MetricUse(**use, weights=weights or "", weights_file=None)
    return _with_weights(context, plugin, path, metric, use, weights)


def _with_weights(
    context: EntryContext,
    plugin: Plugin[Any],
    path: YamlPath,
    metric: Metric,
    use: Mapping[str, Any],
    weights: str | None,
) -> MetricUse | None:
    """A metric with the weight file that fits it."""
    try:
        file = resolve_weights(plugin.name, weights, plugin.weights)
        if file is not None:
            check_weights(metric, file)
    except UserError as error:
        context.add((*path, "weights") if weights is not None else path, str(error))
        return None
    except (ValueError, RuntimeError):  # a null character, a lone surrogate; the home of nobody
        _no_weights_named(context, path, weights)
        return None
    if file is None:
        context.add(path, f"'{plugin.name}' needs weights. Name a file with 'weights:', or ask for 'weights: random'.")
        return None
    return MetricUse(**use, weights=file.sha256, weights_file=file.path.absolute())


def _no_weights_named(context: EntryContext, path: YamlPath, weights: object) -> None:
    context.add((*path, "weights"), f"should be a name in the manifest or a path, got {quoted(weights)}.")


def attack_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> AttackUse | None:
    """An attack with the metrics it brings, or None where a problem prevents it."""
    plugin, values = _plugin_and_values(context, "attacks", path, entry, [])
    attack = _built(context, plugin, path, values)
    if plugin is None or values is None or attack is None:
        return None
    metrics = _metrics_used(context, path, entry, attack)
    if metrics is None:
        return None
    use = plugin_use("attacks", plugin, values, entry)
    if use["label"] == "clean":
        context.add(path, "'clean' is always measured; do not list or label an attack so.")
    traits = {name: getattr(plugin.cls, name) for name in ("control", "fits", "norms", "needs_gradient")}
    return AttackUse(**use, **traits, metrics=metrics)


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


def defense_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse | None:
    """A defense and what its attacker knows, or None where a problem prevents it."""
    if entry["name"] == "base":
        return _base_entry(context, path, entry)
    if entry["name"] not in context.registry.names("purifiers"):
        known = ["base", *context.registry.names("purifiers")]
        hint = did_you_mean(entry["name"], known)
        context.add((*path, "name"), f"unknown defense '{entry['name']}'.{hint}")
        return None
    plugin, values = _plugin_and_values(context, "purifiers", path, entry, ["threat", "eot", "draws"])
    if plugin is None or values is None or _built(context, plugin, path, values) is None:
        return None
    threat = entry.get("threat", "oblivious")
    if threat not in _THREATS:
        hint = did_you_mean(str(threat), _THREATS)
        context.add((*path, "threat"), f"unknown threat '{threat}'.{hint}")
        return None
    counts = {"eot": 20 if threat == "adaptive" and plugin.cls.randomised else 1, "draws": 1}
    for key in counts:
        value = entry.get(key, counts[key])
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            context.add((*path, key), f"should be a whole number of at least 1, got {quoted(value)}.")
            return None
        counts[key] = value
    if threat == "oblivious" and "eot" in entry:
        context.add(
            (*path, "eot"),
            "an oblivious attacker does not see the defense, so 'eot' has no effect. Remove it, "
            "or set 'threat: adaptive'.",
            on_key=True,
        )
        return None
    use = Use(**plugin_use("purifiers", plugin, values, entry))
    return DefenseUse(use.label, (use,), threat, counts["eot"], counts["draws"])


def _base_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse:
    for key in entry:
        if key not in ("name", "label"):
            context.add((*path, key), f"'base' is no defense and has no parameter '{key}'. Remove it.", on_key=True)
    return DefenseUse(str(entry.get("label") or "base"), (), "none", 1, 1)


def _plugin_and_values(
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


def _built(
    context: EntryContext, plugin: Plugin[Any] | None, path: YamlPath, values: Mapping[str, Any] | None
) -> Any | None:
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
        return plugin.build(values)
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        context.add(path, f"'{plugin.name}': {error}")
        return None
    except Exception as error:
        context.add(path, f"'{plugin.name}' from {plugin.origin} cannot be built: {told(error)}. {MEND}")
        return None
