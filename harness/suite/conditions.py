"""A cell in labels, and patterns on labels: what `exclude` leaves out."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from harness.suite.cell_names import shown_pattern


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
                values = (shown_pattern(v, c.norm) for c in among for v in _values(key, c) if v)
                yield key, list(dict.fromkeys(values))


def _values(key: str, condition: Condition) -> tuple[Any, ...]:
    """A cell belongs to the metric it attacks and to the metric that judges."""
    return (condition.source, condition.scorer) if key == "metric" else (getattr(condition, key),)


@functools.lru_cache(maxsize=10_000)
def fits(label: str, pattern: str) -> bool:
    """Whether a label matches a shell pattern; older versions wrote the fractions of labels as in 2:255."""
    return fnmatchcase(label, pattern) or fnmatchcase(label, pattern.replace(":255", "/255"))


def _matches(key: str, pattern: str | float, condition: Condition) -> bool:
    if isinstance(pattern, str):
        return any(fits(value, pattern) for value in _values(key, condition))
    return math.isclose(condition.eps, pattern, rel_tol=1e-9)
