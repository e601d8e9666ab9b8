"""Metrics that an attack uses beside the one it attacks: what decides their scores, and whether they can be had."""

from __future__ import annotations

from harness.contracts import Attack
from harness.errors import UserError
from harness.registry import Registry
from harness.suite import MetricUse
from harness.uses import plugin_use
from harness.weights import WeightsError, check, resolve


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
    return MetricUse(**use, weights=file.sha256, weights_file=file.path.resolve())
