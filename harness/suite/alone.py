"""Metrics, attacks and data sets outside of any suite, as the command line and Python name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.entries import EntryContext, attack_entry, dataset_entry, metric_entry
from harness.suite.model import AttackUse, DatasetUse, MetricUse
from harness.suite.strict_yaml import Problem, YamlPath, parse_text

_U = TypeVar("_U")


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
    return resolve_metric(entry, registry, problems)


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
