"""Which cells of a suite are wanted: `exclude` in the file, ``--only`` on the command line."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.located import LocatedError

if TYPE_CHECKING:
    from harness.suite import Suite

CLEAN = "clean"
"""What stands for no attack."""


class Condition(NamedTuple):
    """A cell in labels, whatever its direction; without an attack, the clean cell."""

    dataset: str
    source: str
    scorer: str
    defense: str
    attack: str = ""
    norm: str = ""
    eps: float = 0.0


@dataclass(frozen=True)
class Exclusion:
    """Cells to leave out: those that match every pattern given."""

    dataset: str | None = None
    metric: str | None = None
    defense: str | None = None
    attack: str | None = None
    norm: str | None = None
    eps: float | None = None

    def removes(self, condition: Condition) -> bool:
        """Whether a cell is left out. A clean cell stays unless the pattern speaks of no attack and no budget."""
        if not condition.attack and not (self.attack is None and self.norm is None and self.eps is None):
            return False
        return all(_matches(key, pattern, condition) for key, pattern in self._patterns)

    @functools.cached_property
    def _patterns(self) -> tuple[tuple[str, str | float], ...]:
        """What `written` says, kept: every cell is held against it."""
        return tuple(self.written().items())

    def written(self) -> dict[str, Any]:
        """The pattern as a file says it."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    def unknown(self, among: Sequence[Condition]) -> Iterator[tuple[str, list[str]]]:
        """Keys whose pattern alone matches nothing, each with what there is."""
        for key, pattern in self.written().items():
            if not any(_matches(key, pattern, condition) for condition in among):
                values = (shown_pattern(v) for c in among for v in _values(key, c) if v)
                yield key, list(dict.fromkeys(values))


def shown_pattern(value: str | float) -> str:
    """A label or a budget as messages show it."""
    if isinstance(value, str):
        return value
    return f"{255 * value:g}/255" if value <= 1 else f"{value:g}"


def _values(key: str, condition: Condition) -> tuple[Any, ...]:
    """A cell belongs to the metric it attacks and to the metric that judges."""
    return (condition.source, condition.scorer) if key == "metric" else (getattr(condition, key),)


def fits(label: str, pattern: str) -> bool:
    """Whether a label matches a shell pattern; fractions may be written with '/', for which labels have ':'."""
    return fnmatchcase(label, pattern) or fnmatchcase(label, pattern.replace("/", ":"))


def _matches(key: str, pattern: str | float, condition: Condition) -> bool:
    if isinstance(pattern, str):
        return any(fits(value, pattern) for value in _values(key, condition))
    return math.isclose(condition.eps, pattern, rel_tol=1e-9)


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
    metric_pattern, _, attack_pattern = only.partition("/")
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


def _nothing(only: str, what: str, pattern: str, labels: Sequence[str]) -> LocatedError:
    return LocatedError([f"--only {only}: no {what} matches '{pattern}'. This suite has: {', '.join(labels)}."])
