"""The cells that verdicts on gradient masking need beyond a suite's own: which attacks, at which budgets.

What a verdict says of their records is in `harness.report.masking`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.contracts import Norm
from harness.plugins.registry import Registry
from harness.statistics.masking import suited
from harness.suite.model import AttackUse, MetricUse, Suite
from harness.suite.uses import plugin_use

USUAL_EPS = 8 / 255
"""Radius of the added cells where a suite has no linf budget."""
LABEL = "verdicts: "
"""What the labels of added attacks begin with, so that none is taken for one of the suite's."""
QUERIES = 300
"""Of an added black-box attack, per image."""
UNBOUNDED: Mapping[str, Any] = {"steps": 256, "step_size": 1 / 255, "start": "zero", "keep": "best"}
"""PGD at radius 1: its steps add up to the whole range of images, from the image itself, so that a vanished gradient
shows and no random start helps. They are fine, because steps of 2/255 stop short of images that are almost pristine."""
_BLACK_BOX = ("square", "random_search")
"""The first that is registered serves as the black-box attack."""


def added_attacks(suite: Suite, registry: Registry, metric: MetricUse) -> Iterator[tuple[AttackUse, Norm, float]]:
    """Attacks with the budgets they are added at; none for a metric that white-box attacks cannot have.

    An attack that the suite lists itself at the same radius is not added again; one that has to be like the suite's PGD
    takes its steps.
    """
    if not suite.verdict_samples or not registry.metric(metric.name).cls.differentiable:
        return
    radii = sorted(eps for norm, eps in suite.budgets if norm == "linf" and eps < 1)
    largest = radii[-1] if radii else USUAL_EPS
    own = {use.name: use for use in reversed(suite.attacks) if "linf" in use.norms} if radii else {}
    theirs = own["pgd"].parameters if "pgd" in own else {}
    apt = [eps for eps in radii if theirs and suited(theirs, eps)]
    pgd = _pgd(theirs, largest)
    like_pgd = {name: pgd[name] for name in ("steps", "step_size")}
    black_box = next((name for name in _BLACK_BOX if registry.knows("attacks", name)), None)
    searched = any(not use.control and not registry.attack(use.name).cls.needs_gradient for use in own.values())
    wanted: list[tuple[str, Mapping[str, Any]]] = [("noise", {}), ("fgsm", {}), ("smoothed", like_pgd)]
    wanted += [(black_box, {"queries": QUERIES})] if black_box and not searched else []
    for name, parameters in wanted:
        if name not in own and registry.knows("attacks", name):
            yield _use(registry, name, parameters), "linf", largest
    if largest not in apt:
        yield _use(registry, "pgd", pgd), "linf", largest
    if len(apt) < 2:
        yield _use(registry, "pgd", _pgd(theirs, largest / 2)), "linf", largest / 2
    yield _use(registry, "pgd", UNBOUNDED, "pgd unbounded"), "linf", 1.0


def _pgd(theirs: Mapping[str, Any], eps: float) -> Mapping[str, Any]:
    """Parameters of a PGD that suits a radius: the suite's where they do."""
    return theirs if theirs and suited(theirs, eps) else {"steps": 10, "step_size": eps / 4}


def _use(registry: Registry, name: str, parameters: Mapping[str, Any], label: str = "") -> AttackUse:
    plugin = registry.attack(name)
    values = {p.name: parameters.get(p.name, p.default) for p in plugin.parameters()}
    use = plugin_use("attacks", plugin, values, {})
    use["label"] = LABEL + (label or use["label"])
    kind = plugin.cls
    return AttackUse(**use, control=kind.control, fits=kind.fits, norms=kind.norms, needs_gradient=kind.needs_gradient)
