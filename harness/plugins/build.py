"""Metrics built from their names: untrained, as a part of another plugin, or with their default weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from harness.contracts import Metric
from harness.errors import UserError
from harness.plugins.model import Plugin
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve
from harness.wording import did_you_mean

_M = TypeVar("_M", bound=nn.Module)


@dataclass(frozen=True)
class BuiltMember:
    """A metric that another plugin built as a part of itself, with all its parameters, and what it built in turn."""

    plugin: Plugin[Metric]
    parameters: Mapping[str, Any]
    instance: Metric
    members: Members = field(default_factory=list)


Members = list[BuiltMember]
_MEMBERS: ContextVar[Members | None] = ContextVar("members", default=None)


@contextlib.contextmanager
def noting_members() -> Iterator[Members]:
    """The metrics that `build_metric` builds meanwhile: what a composed one consists of; their own members in them."""
    members: Members = []
    token = _MEMBERS.set(members)
    try:
        yield members
    finally:
        _MEMBERS.reset(token)


def build_metric(name: str, parameters: Mapping[str, Any]) -> Metric:
    """Another registered metric, untrained, as a part of one's own; those of ``--plugin`` files cannot be had.

    Args:
        name: Its registered name.
        parameters: Its parameters over its presets.

    Raises:
        UserError: No metric has that name, or it cannot be imported.
        ValueError: A parameter is unknown or has a wrong value.
    """
    plugin = Registry().metric(name)
    defaults = {parameter.name: parameter.default for parameter in plugin.parameters()}
    known = list(defaults)
    for key in parameters:
        if key not in known:
            raise ValueError(f"'{name}' has no parameter '{key}'.{did_you_mean(key, known)}")
    if (members := _MEMBERS.get()) is None:
        return plugin.build(parameters)
    with noting_members() as inner:
        built = plugin.build(parameters)
    members.append(BuiltMember(plugin, {**defaults, **parameters}, built, inner))
    return built


def cited_by_metric(name: str, parameters: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    """What another registered metric declares to cite with these parameters over its defaults, which one is made of.

    Raises:
        UserError: No metric has that name, or it cannot be imported.
    """
    plugin = Registry().metric(name)
    return plugin.cls.cited({**{parameter.name: parameter.default for parameter in plugin.parameters()}, **parameters})


def default_metric(name: str, registry: Registry, device: torch.device) -> Metric:
    """A registered metric with its default parameters and weights.

    Raises:
        UserError: It is unknown, or has no weights.
    """
    plugin = registry.metric(name)
    metric = fresh(registry, name, {})
    if plugin.cls.needs_weights:
        file = resolve(name, None, plugin.weights)
        if file is None:
            raise UserError(f"metric '{name}' has no default weights. Take a metric that has.")
        load(metric, file)
    return frozen(metric, device)


def fresh(registry: Registry, name: str, parameters: Mapping[str, Any]) -> Metric:
    """A metric of these parameters, its untrained weights the same whatever the seed; torch's generator stays alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return registry.metric(name).build(parameters)


def frozen(module: _M, device: torch.device) -> _M:
    """A metric or network in evaluation mode, its parameters without gradients, on the device."""
    return module.eval().requires_grad_(False).to(device)
