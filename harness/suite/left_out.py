"""What `exclude` has to say so that a suite asks for given cells and for no others of its combinations."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Sequence

from harness.suite.conditions import Condition, Exclusion

_COARSEST_FIRST = (
    ("attack",),
    ("metric", "attack"),
    ("defense", "attack"),
    ("dataset", "attack"),
    ("metric", "defense"),
    ("dataset", "metric"),
    ("attack", "norm", "eps"),
    ("metric", "defense", "attack"),
    ("dataset", "metric", "attack"),
    ("metric", "attack", "norm", "eps"),
    ("dataset", "metric", "defense"),
    ("dataset", "metric", "defense", "attack"),
    ("dataset", "metric", "defense", "attack", "norm", "eps"),
)
"""Keys of exclusions, tried in this order: the first that leaves out nothing wanted."""


def exclusions_but(
    wanted: Collection[Condition], every: Sequence[Condition], given: Sequence[Exclusion] = ()
) -> tuple[Exclusion, ...]:
    """Exclusions that leave out every condition but some; what cannot be left out without one of these stays in.

    Args:
        wanted: What is to stay.
        every: All that a suite declares.
        given: Exclusions to keep, where they leave out nothing wanted.
    """
    kept = [one for one in given if not any(map(one.removes, wanted)) and any(map(one.removes, every))]
    for missing in every:
        if missing in wanted or any(one.removes(missing) for one in kept):
            continue
        kept += [one for one in _patterns(missing) if not any(map(one.removes, wanted))][:1]
    return tuple(kept)


def _patterns(missing: Condition) -> Iterator[Exclusion]:
    """Exclusions that leave out a condition, the coarsest first."""
    values = {
        "dataset": glob.escape(missing.dataset),
        "metric": glob.escape(missing.scorer),
        "defense": glob.escape(missing.defense),
        "attack": glob.escape(missing.attack),
        "norm": missing.norm,
        "eps": missing.eps,
    }
    for keys in _COARSEST_FIRST:
        if bool(missing.attack) == ("attack" in keys):
            yield Exclusion(**{key: values[key] for key in keys})  # type: ignore[arg-type]  # each its own type
