"""Metrics, attacks and data sets outside of any suite, as the command line and Python name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.entries import METRIC_KEYS, EntryContext, attack_entry, dataset_entry, metric_entry
from harness.suite.model import AttackUse, DatasetUse, MetricUse
from harness.suite.strict_yaml import Problem, YamlPath, parse_text
from harness.wording import did_you_mean

_U = TypeVar("_U")
_KEY = re.compile(r"(['`])weights:([^'`]*)\1")
"""What messages recommend to write in a suite."""


def resolve_metric(entry: Mapping[str, Any], registry: Registry, problems: Sequence[Problem] = ()) -> MetricUse:
    """A metric outside of any suite.

    Args:
        entry: As a suite lists it: ``name``, parameters, ``weights``.
        registry: Where the name is looked up.
        problems: What was found wrong before, to be told with the rest.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    return _alone(metric_entry, f"metric '{entry.get('name')}'", entry, registry, list(problems))


def metric_from_options(name: str, sets: Sequence[str], registry: Registry) -> MetricUse:
    """A metric with the parameters and weights that the command line gives it.

    Args:
        name: A registered name.
        sets: ``KEY=VALUE``, the value as a suite writes it; the key ``weights`` names weights.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    entry, problems = _entry_from_options(name, sets)
    try:
        return resolve_metric(entry, registry, problems)
    except UserError as error:  # whose cures are those of a suite
        raise UserError(_KEY.sub(_as_option, str(error))) from error


def _as_option(key: re.Match[str]) -> str:
    """`weights: random` of a suite as the command line has it."""
    return f"{key[1]}--set weights={key[2].strip() or 'FILE.safetensors'}{key[1]}"


def dataset_from_options(name: str, sets: Sequence[str], registry: Registry) -> DatasetUse:
    """A data set with the parameters and the split that the command line gives it.

    Args:
        name: A registered name.
        sets: ``KEY=VALUE``, the value as a suite writes it.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    entry, problems = _entry_from_options(name, sets)
    return _alone(dataset_entry, f"data set '{name}'", entry, registry, problems)


def _entry_from_options(name: str, sets: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    entry: dict[str, Any] = {"name": name}
    problems: list[Problem] = []
    for text in sets:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            problems.append(Problem((), f"--set {text}: should be KEY=VALUE, such as weights=mine.safetensors."))
            continue
        document = parse_text(value or "null", f"--set {text}")
        problems += document.problems
        entry[key.strip()] = document.value
    return entry, problems


def metric_and_attack(metric: str, attack: str, sets: Sequence[str], registry: Registry) -> tuple[MetricUse, AttackUse]:
    """A metric and an attack with the parameters that the command line gives them.

    Args:
        metric: A registered name.
        attack: A registered name.
        sets: ``KEY=VALUE``, of whichever of the two has that key; ``metric.KEY`` and ``attack.KEY`` say of which.
        registry: Where the names are looked up.

    Raises:
        UserError: Everything wrong with them, a line each; or both have a key, or neither.
    """
    known = {
        "metric": {*(one.name for one in registry.metric(metric).parameters()), *METRIC_KEYS},
        "attack": {*(one.name for one in registry.attack(attack).parameters()), "floor"},
    }
    given: dict[str, list[str]] = {"metric": [], "attack": []}
    for text in sets:
        key = text.partition("=")[0].strip()
        named, dot, rest = key.partition(".")
        if dot and named in known:
            given[named].append(f"{rest}={text.partition('=')[2]}")
            continue
        owners = [who for who, keys in known.items() if key in keys]
        if len(owners) > 1:
            raise UserError(
                f"--set {text}: {metric} and {attack} both have '{key}'. Write metric.{key} or attack.{key}."
            )
        if not owners and "=" in text:
            hint = did_you_mean(key, sorted(known["metric"] | known["attack"]))
            raise UserError(f"--set {text}: neither {metric} nor {attack} has a parameter '{key}'.{hint}")
        given[owners[0] if owners else "metric"].append(text)
    entry, problems = _entry_from_options(attack, given["attack"])
    used = metric_from_options(metric, given["metric"], registry)
    return used, _alone(attack_entry, f"attack '{attack}'", entry, registry, problems)


def resolve_attack(entry: Mapping[str, Any], registry: Registry) -> AttackUse:
    """An attack outside of any suite.

    Args:
        entry: As a suite lists it: ``name`` and parameters.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    return _alone(attack_entry, f"attack '{entry.get('name')}'", entry, registry, [])


def _alone(
    read_entry: Callable[[EntryContext, YamlPath, Mapping[str, Any]], _U | None],
    who: str,
    entry: Mapping[str, Any],
    registry: Registry,
    problems: list[Problem],
) -> _U:
    """An entry without a file around it; `problems` are those found before."""
    with torch.random.fork_rng(devices=[]):
        use = read_entry(EntryContext(registry, problems), (), entry)
    if problems or use is None:
        lines = []
        for problem in problems:
            place = ".".join(str(part) for part in problem.path if part != "name")
            message = f"{place}: {problem.message}" if place else problem.message
            lines.append(problem.message if problem.message.startswith(who) else f"{who}: {message}")
        raise UserError("\n".join(dict.fromkeys(lines)))
    return use
