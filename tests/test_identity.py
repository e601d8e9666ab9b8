"""Identity: stable for ever, blind to what does not matter, and changed by what does."""

import dataclasses

import pytest

from harness.identity import identity, order_key
from harness.plan import make_plan

SUITE = """
name: toy
datasets: [toy]
metrics: [linear]
attacks: [{name: pgd, steps: 3}]
budgets: {linf: [8/255]}
directions: [up]
"""


def cells(registry, suite_of, text):
    plan = make_plan(suite_of(text), registry)
    return {c.label: c.id for c in plan.cells}


def test_golden():
    assert identity("cell", {"b": [1, 2.5, "x"], "a": {"k": None}}) == "cc34202a8f3ccb8c"
    assert identity("cell", {"a": {"k": None}, "b": (1, 2.5, "x")}) == "cc34202a8f3ccb8c"
    assert order_key("test/astronaut-0/jpeg/3").hex() == "3c83b7fffea59011b0e386b23a0f9877"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps: 3", "steps: 4"), ("seed", "seed"), ("[toy]", "[{name: toy, size: 17}]"), ("[linear]", "[linear_lower]"),
        ("8/255", "7/255"), ("directions: [up]", "directions: [down]"), ("name: pgd,", "name: pgd, start: zero,"),
        ("[toy]", "[{name: toy, split: train}]"),
    ],
)  # fmt: skip
def test_every_input_changes_it(registry, suite_of, old, new):
    text = SUITE.replace(old, new) if old != "seed" else SUITE + "seed: 1\n"
    before, after = set(cells(registry, suite_of, SUITE).values()), set(cells(registry, suite_of, text).values())
    changed = {c for c in after if c not in before}
    assert changed, "no cell changed"


def test_siblings_limit_labels_and_order_do_not(registry, suite_of):
    before = cells(registry, suite_of, SUITE)
    more = SUITE.replace("[linear]", "[negative_mse, linear]").replace("[8/255]", "[2/255, 8/255]") + "limit: 3\n"
    more = more.replace("[{name: pgd, steps: 3}]", "[fgsm, {steps: 3, name: pgd, label: mine}]")
    assert set(before.values()) <= set(cells(registry, suite_of, more).values())


def test_weights_and_fingerprint_are_part_of_it(registry, suite_of):
    plan = make_plan(suite_of(SUITE), registry)
    cell = plan.cells[1]
    other = dataclasses.replace(cell.source.metric, weights="ab" * 32)
    assert identity("m", other.identity()) != identity("m", cell.source.metric.identity())
    assert dataclasses.replace(cell.split, fingerprint="other").key != cell.split.key
