"""The cells that verdicts on gradient masking need beyond a suite's own: which attacks, at which budgets.

What a verdict says of their records is in `harness.report.masking`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.plugins.model import Kind
from harness.plugins.registry import Registry
from harness.rng import Norm
from harness.statistics.masking import suited
from harness.suite.model import AttackUse, MetricUse, Suite

USUAL_EPS = 8 / 255
"""Radius of the added cells where a suite has no linf budget."""
LABEL = "verdicts: "
"""What the labels of added attacks and metrics begin with, so that none is taken for one of the suite's."""
QUERIES = 300
"""Of an added black-box attack, per image."""
UNBOUNDED: Mapping[str, Any] = {"steps": 256, "step_size": 1 / 255, "start": "zero", "keep": "best"}
"""PGD at radius 1: its steps add up to the whole range of images, from the image itself, so that a vanished gradient
shows and no random start helps. They are fine, because steps of 2/255 stop short of images that are almost pristine."""
HAIR = 0.1 / 255
"""Radius of the noise that takes an image a hair off the 8-bit grid."""
NEAR = 10
"""How many times as long as that noise a distortion has to be for the score to take it for a hair: about a grey level.
An image that is its reference has 100 dB of PSNR, and with the noise 68."""
GRID_FROM = 4 / 255
"""Radius from which on pgd on the 8-bit grid should do what it does off it: smaller balls hold too few grey levels."""
UNMASKED = ("psnr", "ssim", "gmsd")
"""Metrics known to be honest."""
_BLACK_BOX = ("square", "random_search")
"""The first that is registered serves as the black-box attack."""
MAY_BE_ADDED: Mapping[Kind, Sequence[str]] = {
    "metrics": UNMASKED,
    "attacks": ("bpda", "fgsm", "noise", "pgd", "pgd_on_grid", "pgd_traced", "restore", "smoothed", _BLACK_BOX[0]),
}
"""Every plugin that the functions below may add."""

Added = tuple[AttackUse, Norm, float]


def added_attacks(suite: Suite, registry: Registry, metric: MetricUse) -> Iterator[Added]:
    """Attacks on a metric with the budgets they are added at; on one without a gradient those that need none.

    An attack that the suite lists itself at the same radius is not added again; one that has to be like the suite's PGD
    takes its steps.
    """
    if not suite.verdict_samples:
        return
    radii, largest = _radii(suite)
    own = _own(suite)
    cls = registry.metric(metric.name).cls
    black_box = next((name for name in _BLACK_BOX if registry.knows("attacks", name)), None)
    searched = any(not use.control and not registry.attack(use.name).cls.needs_gradient for use in own.values())
    wanted: list[tuple[str, Mapping[str, Any]]] = [("noise", {}), ("restore", {})]
    wanted += [(black_box, {"queries": QUERIES})] if black_box and not searched else []
    if cls.differentiable:
        steps = _steps(suite)
        wanted += [("fgsm", {}), ("smoothed", steps)]
        wanted += [("pgd_on_grid", steps)] if largest >= GRID_FROM * (1 - 1e-9) else []
        wanted += [("bpda", steps)] if _stands_in(registry, metric) else []
    for name, parameters in wanted:
        if name not in own and registry.knows("attacks", name):
            yield _use(registry, name, parameters), "linf", largest
    if registry.knows("attacks", "noise"):
        yield _use(registry, "noise", {}), "linf", HAIR
    if not cls.differentiable:
        return
    theirs = own["pgd"].parameters if "pgd" in own else {}
    apt = [eps for eps in radii if theirs and suited(theirs, eps)]
    if largest not in apt:
        yield _use(registry, "pgd", _pgd(theirs, largest)), "linf", largest
    if len(apt) < 2:
        yield _use(registry, "pgd", _pgd(theirs, largest / 2)), "linf", largest / 2
    yield _use(registry, "pgd", UNBOUNDED, "pgd unbounded"), "linf", 1.0


def traced_attacks(suite: Suite, registry: Registry, metric: MetricUse) -> Iterator[Added]:
    """PGD that holds gradients against differences of the score, where these are exact enough: not in bfloat16."""
    if not suite.verdict_samples or suite.precision != "fp32" or not registry.metric(metric.name).cls.differentiable:
        return
    if registry.knows("attacks", "pgd_traced") and "pgd_traced" not in _own(suite):
        yield _use(registry, "pgd_traced", _steps(suite)), "linf", _radii(suite)[1]


def transferred_attacks(suite: Suite, registry: Registry) -> Iterator[Added]:
    """What is made on an unmasked twin and judged by a metric: the PGD that the metric's own is held against."""
    if suite.verdict_samples:
        largest = _radii(suite)[1]
        own = _own(suite)
        theirs = own["pgd"].parameters if "pgd" in own else {}
        yield _use(registry, "pgd", _pgd(theirs, largest)), "linf", largest


def unmasked_twins(suite: Suite, registry: Registry, metric: MetricUse, side: int) -> Iterator[MetricUse]:
    """Honest metrics whose attacked images a metric is shown; never itself, and none that asks for larger images.

    Args:
        suite: The suite.
        registry: Where its plugins come from.
        metric: The metric that the verdict is on.
        side: Smallest side of the images, in pixels.
    """
    from harness.suite.uses import plugin_use  # not above: reports take names from here, and need no torch

    if not suite.verdict_samples:
        return
    for name in UNMASKED:
        plugin = registry.metric(name) if name != metric.name and registry.knows("metrics", name) else None
        if plugin is not None and plugin.cls.minimum_size <= side:
            use = plugin_use("metrics", plugin, {p.name: p.default for p in plugin.parameters()}, {})
            yield MetricUse(**{**use, "label": LABEL + name}, weights="", weights_file=None)


def added_plugins(suite: Suite, registry: Registry) -> Mapping[Kind, Sequence[str]]:
    """Names of the plugins that all these cells are of; of honest metrics those that large images admit."""
    attacks = {use.name for use, *_ in transferred_attacks(suite, registry)}
    metrics: set[str] = set()
    for metric in suite.metrics:
        added = [*added_attacks(suite, registry, metric), *traced_attacks(suite, registry, metric)]
        attacks |= {use.name for use, *_ in added}
        metrics |= {use.name for use in unmasked_twins(suite, registry, metric, sys.maxsize)}
    return {"metrics": sorted(metrics), "attacks": sorted(attacks)}


def _stands_in(registry: Registry, metric: MetricUse) -> bool:
    """Whether a metric, with its parameters, has a gradient that is not its score's, and an alternative to it."""
    from harness.contracts import Metric

    plugin = registry.metric(metric.name)
    if plugin.cls.surrogate is Metric.surrogate:
        return False
    built = plugin.build(metric.parameters).probed()  # of a composed one, a member
    return not built.exact_gradient and type(built).surrogate is not Metric.surrogate


def _radii(suite: Suite) -> tuple[list[float], float]:
    """The suite's linf radii below 1 in order, and the one that cells are added at."""
    radii = sorted(eps for norm, eps in suite.budgets if norm == "linf" and eps < 1)
    return radii, radii[-1] if radii else USUAL_EPS


def _own(suite: Suite) -> dict[str, AttackUse]:
    """The suite's own attacks in linf by their registered names, the first of each."""
    has_linf = any(norm == "linf" and eps < 1 for norm, eps in suite.budgets)
    return {use.name: use for use in reversed(suite.attacks) if "linf" in use.norms} if has_linf else {}


def _steps(suite: Suite) -> Mapping[str, Any]:
    """Steps of the PGD that others have to be like."""
    own = _own(suite)
    pgd = _pgd(own["pgd"].parameters if "pgd" in own else {}, _radii(suite)[1])
    return {name: pgd[name] for name in ("steps", "step_size")}


def _pgd(theirs: Mapping[str, Any], eps: float) -> Mapping[str, Any]:
    """Parameters of a PGD that suits a radius: the suite's where they do."""
    return theirs if theirs and suited(theirs, eps) else {"steps": 10, "step_size": eps / 4}


def _use(registry: Registry, name: str, parameters: Mapping[str, Any], label: str = "") -> AttackUse:
    from harness.suite.uses import plugin_use

    plugin = registry.attack(name)
    values = {p.name: parameters.get(p.name, p.default) for p in plugin.parameters()}
    use = plugin_use("attacks", plugin, values, {})
    use["label"] = LABEL + (label or use["label"])
    kind = plugin.cls
    return AttackUse(**use, control=kind.control, fits=kind.fits, norms=kind.norms, needs_gradient=kind.needs_gradient)
