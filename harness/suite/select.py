"""Which cells of a suite are wanted: what ``--only`` on the command line leaves of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.suite.cell_names import CLEAN
from harness.suite.conditions import Condition, fits
from harness.suite.model import Suite
from harness.suite.strict_yaml import LocatedError


def conditions_of(suite: Suite) -> list[Condition]:
    """Every cell a suite declares, before anything is left out."""
    found = []
    pairs = [(m.label, m.label, d.label) for m in suite.metrics for d in suite.defenses]
    pairs += [(source, scorer, "base") for source, scorer in suite.transfer]
    for dataset in suite.datasets:
        for pair in pairs:
            found.append(Condition(dataset.label, *pair))
            for attack in suite.attacks:
                budgets = [budget for budget in suite.budgets if budget[0] in attack.norms]
                found += [Condition(dataset.label, *pair, attack.label, *budget) for budget in budgets]
    return found


def select(suite: Suite, only: str) -> Suite:
    """The part of a suite that ``--only METRIC/ATTACK`` asks for: two shell patterns over labels.

    Raises:
        LocatedError: It is no such pattern, or nothing matches.
    """
    metric_pattern, attack_pattern = _patterns(suite, only)
    if not metric_pattern or not attack_pattern:
        raise LocatedError([f"--only {only}: should be METRIC/ATTACK, such as 'birqa*/pgd*' or '*/pgd*'."])
    metrics = tuple(use for use in suite.metrics if fits(use.label, metric_pattern))
    attacks = tuple(use for use in suite.attacks if fits(use.label, attack_pattern))
    if not metrics:
        raise _nothing(only, "metric", metric_pattern, [use.label for use in suite.metrics])
    if not attacks and not fits(CLEAN, attack_pattern):
        raise _nothing(only, "attack", attack_pattern, [*(use.label for use in suite.attacks), CLEAN])
    labels = {use.label for use in metrics}
    norms = {norm for use in attacks for norm in use.norms}
    selected = dataclasses.replace(
        suite,
        metrics=metrics,
        attacks=attacks,
        budgets=tuple(budget for budget in suite.budgets if budget[0] in norms),
        transfer=tuple(pair for pair in suite.transfer if labels.issuperset(pair)),
    )
    cells = conditions_of(selected)
    exclude = tuple(e for e in suite.exclude if any(e.removes(cell) for cell in cells))
    selected = dataclasses.replace(selected, exclude=exclude)
    if all(selected.excludes(cell) for cell in cells):
        raise LocatedError([f"--only {only}: all of it is left out by the suite's 'exclude'. Change one of the two."])
    return selected


def _patterns(suite: Suite, only: str) -> tuple[str, str]:
    """The two patterns: of several slashes, as fractions in labels have, the first with a metric before it counts."""
    parts = only.split("/")
    cuts = [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts))] or [(only, "")]
    found = (cut for cut in cuts if cut[0] and any(fits(use.label, cut[0]) for use in suite.metrics))
    return next(found, cuts[0])


def _nothing(only: str, what: str, pattern: str, labels: Sequence[str]) -> LocatedError:
    return LocatedError([f"--only {only}: no {what} matches '{pattern}'. This suite has: {', '.join(labels)}."])
