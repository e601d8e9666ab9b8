"""Entries of `defenses`: purifiers, weights that a training gave the metrics, and chains of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from harness.errors import UserError
from harness.files import expanded
from harness.plugins.model import Plugin
from harness.plugins.returned import MEND, told
from harness.plugins.weights.locate import RANDOM_WEIGHTS, SUFFIX, read_manifest, trained
from harness.plugins.weights.locate import check as check_weights
from harness.plugins.weights.locate import resolve as resolve_weights
from harness.plugins.weights.manifest import file_in_folder
from harness.suite.entries import (
    EntryContext,
    built_entry,
    label_fits,
    named_as_text,
    plugin_and_values,
    use_fields,
    weights_found,
)
from harness.suite.keys import CHAIN, as_entry
from harness.suite.model import DefenseUse, MetricUse, PurifierUse, TrainedUse
from harness.suite.strict_yaml import YamlPath
from harness.suite.uses import build_once, contents_of
from harness.wording import NO_DEFENSE, did_you_mean, quoted, trained_name, value_text

_THREATS = ("oblivious", "adaptive")
_OF_THE_WHOLE = ("threat", "eot", "draws")
_Part = PurifierUse | TrainedUse


def defense_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse | None:
    """A defense and what its attacker knows, or None where a problem prevents it.

    Trained weights are looked for once the metrics are known: see `with_weights`.
    """
    if "chain" in entry:
        return _chain_entry(context, path, entry)
    if entry["name"] == "base":
        return _base_entry(context, path, entry)
    part = _part(context, path, entry, _OF_THE_WHOLE)
    if part is None:
        return None
    if isinstance(part, TrainedUse):
        context.trained[path] = path
    return _whole(context, path, entry, [part], part.label)


def _base_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse:
    for key in entry:
        if key not in ("name", "label"):
            context.add((*path, key), f"'base' is no defense and has no parameter '{key}'. Remove it.", on_key=True)
    return DefenseUse(str(entry.get("label") or "base"), (), "none", 1, 1)


def _chain_entry(context: EntryContext, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse | None:
    """What is applied in order: at most the first stands for trained weights, the others are purifiers."""
    before, chain = len(context.problems), entry["chain"]
    for key in entry:
        if key not in ("name", "label", "chain", *_OF_THE_WHOLE):
            hint = did_you_mean(key, ["label", "chain", *_OF_THE_WHOLE])
            context.add(
                (*path, key), f"a chain has no key '{key}'; parameters stand in its entries.{hint}", on_key=True
            )
    if entry["name"] != CHAIN:
        message = "a chain has no name beside those of its entries. Remove it; a 'label' is what tables call it."
        context.add((*path, "name"), message, on_key=True)
    place = path if path in context.bare_chains else (*path, "chain")
    if not isinstance(chain, list) or not chain:
        context.add(place, f"should be a list of what is applied in order, such as [jpeg, flip], got {quoted(chain)}.")
        return None
    parts = []
    for i, item in enumerate(chain):
        part = _link(context, (*place, i), item, first=i == 0)
        if part is not None:
            parts.append(part)
    if len(context.problems) > before:
        return None
    if isinstance(parts[0], TrainedUse):
        context.trained[path] = (*place, 0)
    return _whole(context, path, entry, parts, str(entry.get("label") or "+".join(part.label for part in parts)))


def _link(context: EntryContext, path: YamlPath, item: Any, *, first: bool) -> _Part | None:
    entry = as_entry(item)
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        context.add(path, f"should be a name or a mapping with a name, got {quoted(item)}.")
        return None
    if entry["name"] == "base":
        context.add(path, "'base' is no defense and has no place in a chain. Remove it.")
        return None
    for key in (*_OF_THE_WHOLE, "matrix"):
        if key in entry:
            cure = f"Write it beside the chain: {{chain: [...], {key}: ...}}."
            context.add((*path, key), f"'{key}' is of the whole chain. {cure}", on_key=True)
            return None
    part = _part(context, path, entry, ())
    if isinstance(part, TrainedUse) and not first:
        context.add(path, f"'{part.name}' stands for the metric's weights, so nothing comes before it. Put it first.")
        return None
    return part


def _part(context: EntryContext, path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]) -> _Part | None:
    """One purifier, or what stands for trained weights; None with a problem noted."""
    name, purifiers = entry["name"], context.registry.names("purifiers")
    if name in purifiers:
        return _purifier(context, path, entry, own_keys)
    try:
        known = [*purifiers, *trained()]
    except UserError as error:
        context.add(path, str(error))
        return None
    if name in known or "weights" in entry:
        return _trained(context, path, entry, own_keys)
    hint = did_you_mean(name, ["base", *known])
    own = "" if "Did you mean" in hint else " Weights of a training of your own are given with 'weights:'."
    context.add((*path, "name"), f"unknown defense '{name}'.{hint}{own}")
    return None


def _purifier(
    context: EntryContext, path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]
) -> PurifierUse | None:
    plugin, values = plugin_and_values(context, "purifiers", path, entry, [*own_keys, "weights"])
    built = built_entry(context, plugin, path, values)
    weights = entry.get("weights")
    if plugin is None or values is None or built is None or not named_as_text(context, path, weights):
        return None
    before = len(context.problems)
    network = _network(context, path, plugin, built.instance)
    if len(context.problems) > before:
        return None
    file = None
    if network is None:
        if weights is not None:
            context.add((*path, "weights"), f"'{plugin.name}' has no weights. Remove the key.", on_key=True)
            return None
    elif weights != RANDOM_WEIGHTS:
        file = weights_found(context, plugin, path, network, weights, "purifier")
        if file is None:
            return None
    sha256 = file.sha256 if file else weights or ""
    use = use_fields(context, "purifiers", plugin, path, values, entry, built, sha256 or None)
    if use is None:
        return None
    return PurifierUse(**use, weights=sha256, weights_file=file.path.absolute() if file else None)


def _network(context: EntryContext, path: YamlPath, plugin: Plugin[Any], purifier: Any) -> nn.Module | None:
    """The network of a purifier, untrained; None where it has none, or with a problem noted.

    One of ours is built without memory for its weights, because shapes are all that is asked of it here.
    """
    try:
        with torch.device("cpu" if plugin.code else "meta"):
            network = purifier.network()
    except (ValueError, UserError) as error:
        context.add(path, f"'{plugin.name}': {error}")
        return None
    except Exception as error:
        context.add(path, f"'{plugin.name}' from {plugin.origin}: network() cannot be had: {told(error)}. {MEND}")
        return None
    if network is None or isinstance(network, nn.Module):
        return network
    seen = type(network).__name__
    context.add(path, f"'{plugin.name}' from {plugin.origin}: network() returned {seen}, not a torch module. {MEND}")
    return None


def _trained(
    context: EntryContext, path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]
) -> TrainedUse | None:
    name, before = entry["name"], len(context.problems)
    for key in entry:
        if key not in ("name", "label", "weights", *own_keys):
            hint = did_you_mean(key, ["label", "weights", *own_keys])
            message = f"'{name}' stands for weights of a training and has no parameter '{key}'.{hint}"
            context.add((*path, key), message, on_key=True)
    asked = entry.get("weights")
    folder = isinstance(asked, str) and bool(asked)
    listed = isinstance(asked, dict) and all(isinstance(text, str) for pair in asked.items() for text in pair)
    if asked is not None and not folder and not listed:
        wanted = f"a folder, or a mapping of metrics to files such as {{birqa-tiny: FILE{SUFFIX}}}"
        context.add((*path, "weights"), f"should be {wanted}, got {quoted(asked)}.")
    if len(context.problems) > before:
        return None
    return TrainedUse(name, str(entry.get("label") or value_text(name)), asked=asked)


def _whole(
    context: EntryContext, path: YamlPath, entry: Mapping[str, Any], parts: Sequence[_Part], label: str
) -> DefenseUse | None:
    """A defense of its parts, with what the attacker knows; None with a problem noted."""
    if not label.strip() or label == NO_DEFENSE:
        context.add(path, f"a defense cannot be called '{label}', which stands for none. Give it another label.")
        return None
    if not label_fits(context, path, entry, label):
        return None
    purifiers = tuple(part for part in parts if isinstance(part, PurifierUse))
    weights = next((part for part in parts if isinstance(part, TrainedUse)), None)
    threat = entry.get("threat", "oblivious" if purifiers else "adaptive")
    if threat not in _THREATS:
        hint = did_you_mean(str(threat), _THREATS)
        context.add((*path, "threat"), f"unknown threat '{threat}'.{hint}")
        return None
    randomised = any(context.registry.purifier(use.name).cls.randomised for use in purifiers)
    counts = {"eot": 20 if threat == "adaptive" and randomised else 1, "draws": 1}
    for key in counts:
        value = entry.get(key, counts[key])
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            context.add((*path, key), f"should be a whole number of at least 1, got {quoted(value)}.")
            return None
        counts[key] = value
        if value > 1 and not randomised:
            message = f"'{label}' draws nothing at random, so '{key}' has no effect. Remove it."
            context.add((*path, key), message, on_key=True)
            return None
    if threat == "oblivious" and "eot" in entry:
        context.add(
            (*path, "eot"),
            "an oblivious attacker does not see the defense, so 'eot' has no effect. Remove it, "
            "or set 'threat: adaptive'.",
            on_key=True,
        )
        return None
    return DefenseUse(label, purifiers, threat, counts["eot"], counts["draws"], weights)


def with_weights(
    context: EntryContext,
    defenses: Sequence[tuple[YamlPath, DefenseUse]],
    metrics: Sequence[MetricUse],
    needed: Callable[[MetricUse, DefenseUse], bool],
) -> Iterator[tuple[YamlPath, DefenseUse]]:
    """The defenses with the trained weights of every metric; those with a problem, which is noted, are left out.

    Args:
        context: What the entries of the file share.
        defenses: As `defense_entry` read them, each with its place.
        metrics: Those of the suite.
        needed: Whether a metric is evaluated under a defense; where it is not, no weights are looked for.
    """
    taken: dict[tuple[str, str, str], str] = {}
    for path, defense in defenses:
        if defense.trained is None:
            yield path, defense
            continue
        before, place = len(context.problems), context.trained[path]
        asked = defense.trained.asked
        labels = [metric.label for metric in metrics]
        broken = any(problem.path[:1] == ("metrics",) for problem in context.problems)  # it may be one of those
        for label in asked if isinstance(asked, Mapping) and not broken else ():
            if label not in labels:
                message = f"no metric '{label}' in this suite.{did_you_mean(label, labels)}"
                context.add((*place, "weights", label), message, on_key=True)
        found: dict[str, MetricUse] = {}
        for metric in metrics:
            use = _as_trained(context, place, defense, defense.trained, metric) if needed(metric, defense) else None
            if use is None:
                continue
            found[metric.label] = use
            purifiers = str([purifier.identity() for purifier in defense.purifiers])
            other = taken.setdefault((metric.label, use.weights, purifiers), defense.label)
            if other != defense.label:
                them = f"the weights of '{trained_name(metric.label, defense.trained.name)}'"
                context.add(place, f"{them} are those of '{other}', too. Remove one, or give both that label.")
        if len(context.problems) == before:
            yield path, replace(defense, trained=replace(defense.trained, metrics=found, asked=None))


def _as_trained(
    context: EntryContext, place: YamlPath, defense: DefenseUse, training: TrainedUse, metric: MetricUse
) -> MetricUse | None:
    """A metric with the weights that a training gave it; None with a problem noted."""
    plugin = context.registry.metric(metric.name)
    leave_out = f"leave the metric out with `exclude: [{{metric: {metric.label}, defense: {defense.label}}}]`"
    if not plugin.cls.needs_weights:
        message = f"'{metric.label}' has no weights that could be trained. Remove it, or {leave_out}."
        context.add(place, message)
        return None
    listed = isinstance(training.asked, Mapping) and metric.label in training.asked
    at = (*place, "weights", metric.label) if listed else (*place, "weights") if training.asked else place
    wanted, missing = _weights_of(training, metric)
    if not wanted or wanted == RANDOM_WEIGHTS:
        cure = "Train them with `robustiqa train suites/train/defenses/RECIPE.yaml` and name them with 'weights:'"
        message = "trained weights cannot be random" if wanted else missing
        context.add(at, f"{message}. {cure}, or {leave_out}.")
        return None
    try:
        file = resolve_weights(plugin.name, wanted, None)
        assert file is not None
        built = build_once(plugin, metric.parameters)
        check_weights(built.instance, file)
        contents = contents_of(plugin, metric.parameters, built, weights=file.sha256)
    except (UserError, ValueError, RuntimeError) as error:
        context.add(at, str(error))
        return None
    if file.sha256 == metric.weights:
        context.add(at, f"the weights of '{training.name}' are those that '{metric.label}' has anyway. Name others.")
        return None
    return replace(metric, weights=file.sha256, weights_file=file.path.absolute(), contents=contents)


def _weights_of(training: TrainedUse, metric: MetricUse) -> tuple[str, str]:
    """(name or path of a metric's trained weights, or empty; what is missing then, as the beginning of a sentence)."""
    who, asked = f"the metric '{metric.label}' has no weights of '{training.name}'", training.asked
    if isinstance(asked, Mapping):
        return asked.get(metric.label, ""), f"{who}: 'weights' names none"
    names = list(dict.fromkeys(trained_name(one, training.name) for one in (metric.label, metric.name)))
    if asked is None:
        name = names[-1]
        return (name, "") if name in read_manifest() else ("", f"{who}: the manifest has no '{name}'")
    files = [file_in_folder(name) for name in names]
    folder = expanded(asked, f"{who}, weights")
    if folder.is_file():
        return "", f"{who}: {asked} is a file, and files are named by metric: {{{metric.label}: {asked}}}"
    if not folder.is_dir():
        return "", f"{who}: there is no folder {asked}"
    there = next((str(folder / file) for file in files if (folder / file).is_file()), "")
    return there, f"{who}: the folder {asked} holds no {' and no '.join(files)}"
