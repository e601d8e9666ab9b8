"""Plugins as a suite uses them: parameters spelled out, what tables call them, the metrics that attacks bring."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.contracts import Attack
from harness.errors import UserError
from harness.plugins.model import Kind, Plugin
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, check, resolve
from harness.plugins.weights.manifest import WeightsError
from harness.suite.model import MetricUse

NO_FLOOR = "none"


def plugin_use(kind: Kind, plugin: Plugin[Any], values: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Use`: by default an entry is labelled with the parameters that are not defaults.

    Parameters at values that the plugin calls neutral are left out: they change nothing, and are no part of identity.
    Where a preset of the name differs from the neutral value they stay, or the preset would come in their place.

    Args:
        kind: What it is.
        plugin: The plugin.
        values: Every parameter with its value.
        entry: What the suite says of it; its ``label`` is taken where it has one.
    """
    neutral = getattr(plugin.cls, "neutral", {})
    defaults = {p.name: p.default for p in plugin.parameters()}
    changed = [f"{k}={_short(v)}" for k, v in values.items() if v != defaults[k] and k != "root"]
    if kind == "attacks" and entry.get("floor", NO_FLOOR) != NO_FLOOR:
        changed.append(f"floor={entry['floor']}")
    if kind == "metrics" and entry.get("weights") == RANDOM_WEIGHTS:
        changed.append(f"weights={RANDOM_WEIGHTS}")
    label = entry.get("label") or (f"{plugin.name}({', '.join(changed)})" if changed else plugin.name)
    return {
        "kind": kind,
        "name": plugin.name,
        "parameters": {k: v for k, v in values.items() if k not in neutral or not v == neutral[k] == defaults[k]},
        "version": int(plugin.cls.version),
        "code": plugin.code,
        "label": re.sub(r"[/\\]", "|", str(label)),
    }


def _short(value: Any) -> str:
    if isinstance(value, float):
        steps = round(value * 255, 2)
        # A length in steps of 1/255 has no short decimal; a share such as 0.8 has one, though it is 204/255.
        if 0 < abs(steps) < 255 and abs(value * 255 - steps) < 1e-9 and float(f"{value:.4g}") != value:
            return f"{steps:g}:255"
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(_short(v) for v in value)
    return str(value)


def metric_used(name: str, attack: Attack, registry: Registry) -> MetricUse:
    """A metric as `Objective.plugin` gives it to an attack: with its default parameters and weights.

    Args:
        name: One of `Attack.uses_metrics`.
        attack: The attack.
        registry: Where the name is looked up.

    Raises:
        UserError: It is unknown, cannot be built, lacks weights, or has no gradient for an attack that needs gradients.
    """
    plugin = registry.metric(name)
    if attack.needs_gradient and not plugin.cls.differentiable:
        raise UserError(f"the metric '{name}' is not differentiable. Take one that is, such as ssim.")
    try:
        metric = plugin.build({})
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"metric '{name}' cannot be had with default parameters: {error}. Take another.") from error
    use = plugin_use("metrics", plugin, {p.name: p.default for p in plugin.parameters()}, {})
    if not plugin.cls.needs_weights:
        return MetricUse(**use, weights="", weights_file=None)
    try:
        file = resolve(name, None, plugin.weights)
        if file is not None:
            check(metric, file)
    except WeightsError as error:
        raise UserError(f"{error} As a part of an attack a metric has its default weights.") from error
    if file is None:
        raise UserError(f"metric '{name}' has no default weights. Take a metric that has.")
    return MetricUse(**use, weights=file.sha256, weights_file=file.path.absolute())
