"""The parameters of attacks as columns of their own, so that a sweep is read without taking labels apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.report.data import AttackFacts
from harness.report.grouped import codes_of
from harness.suite.model import NO_FLOOR

PREFIX = "attack."
"""What the name of a parameter's column begins with: `attack.steps`."""


def with_attack_parameters(frame: pd.DataFrame, attacks: Mapping[str, AttackFacts]) -> pd.DataFrame:
    """A table of figures or records with a column for each parameter of the attacks in it, at its end.

    Numbers are numbers (a step size of 2/255 is 0.0078...), truth values and texts as they are, anything else is JSON.
    Rows of other attacks, clean ones and those that stand for several attacks have none.

    Args:
        frame: Rows with the label of an attack in the column ``attack``; without that column nothing is added.
        attacks: Label -> what stands behind it.
    """
    if "attack" not in frame:
        return frame
    codes, labels = codes_of(frame["attack"])
    of_each = [_parameters(attacks.get(str(label))) for label in labels]
    names = dict.fromkeys(name for own in of_each for name in own)
    new = {}
    for name in names:
        if f"{PREFIX}{name}" not in frame:
            column = _column([own.get(name) for own in of_each])[codes]
            # With its type, or pandas would look at every text to find that it is one.
            new[f"{PREFIX}{name}"] = pd.Series(column, frame.index, dtype=column.dtype)
    wider = frame.copy(deep=False)  # a million rows are not copied for a few columns more
    for name, values in new.items():
        wider[name] = values
    return wider


def _parameters(facts: AttackFacts | None) -> Mapping[str, Any]:
    """The parameters of an attack, and its floor where it has one."""
    if facts is None:
        return {}
    return {**facts.parameters, **({"floor": facts.floor} if facts.floor != NO_FLOOR else {})}


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """One value for each attack, of the narrowest type that has all of them; None where there is none."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        whole = len(known) == len(values) and all(isinstance(value, int) for value in known)
        numbers = [np.nan if value is None else value for value in values]
        return np.array(numbers, dtype=np.int64 if whole else np.float64)
    if not all(isinstance(value, bool) for value in known):
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    column = np.empty(len(values) + 1, dtype=object)  # of objects, whatever these are; code -1 is the last
    column[:-1] = list(values)
    return column
