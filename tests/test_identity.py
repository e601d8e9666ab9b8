"""Identity: stable for ever, blind to what does not matter, and changed by what does."""

import dataclasses
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.identity import identity, order_key
from harness.located import parse_text
from harness.plan import Cell, make_plan
from harness.registry import Registry
from harness.resolve import validate

SUITE = """
name: toy
datasets: [toy]
metrics: [linear]
attacks: [{name: pgd, steps: 3}]
budgets: {linf: [8/255]}
directions: [up]
"""


GOLDEN = [
    "7ffee8e0e526d491",
    "0c5eb544a5396bd4",
    "d098aa2273e3e3bd",
    "253a5641a6b6e454",
    "017cd150e8b0af64",
    "cda8e92a258d1c67",
    "ba8278046bf0be97",
    "ec9ea6f5780a5ecf",
]


def cells(registry, suite_of, text):
    plan = make_plan(suite_of(text), registry)
    return {c.label: c.id for c in plan.cells}


def test_golden():
    assert identity("cell", {"b": [1, 2.5, "x"], "a": {"k": None}}) == "cc34202a8f3ccb8c"
    assert identity("cell", {"a": {"k": None}, "b": (1, 2.5, "x")}) == "cc34202a8f3ccb8c"
    assert order_key("test/astronaut-0/jpeg/3").hex() == "3c83b7fffea59011b0e386b23a0f9877"


WHOLE = """
name: whole
datasets: [toy]
metrics: [linear, negative_mse]
defenses: [base, {name: jitter, threat: adaptive, eot: 2, draws: 2}]
attacks: [{name: pgd, steps: 3}, learnt]
budgets: {linf: [8/255]}
directions: [up]
transfer: [{source: linear, scorer: negative_mse}]
"""


def test_golden_cells():
    """Ids of shipped plugins: one that changes by accident throws away every user's records."""
    registry = Registry()
    text = """
name: golden
datasets: [mini]
metrics: [psnr]
defenses: [base, {name: flip, threat: adaptive, eot: 2}]
attacks: [noise, {name: pgd, steps: 3}]
budgets: {linf: [8/255]}
directions: [up, error]
"""
    plan = make_plan(validate(parse_text(text, "golden.yaml"), registry), registry)
    assert [cell.id for cell in plan.cells] == GOLDEN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("directions", "seed: 1\ndirections"),
        ("directions", "slice: 4\ndirections"),
        ("[toy]", "[{name: toy, size: 17}]"),
        ("[toy]", "[{name: toy, split: train}]"),
        ("[linear, ", "[linear_lower, "),
        ("source: linear, scorer: negative_mse", "source: negative_mse, scorer: linear"),
        ("eot: 2", "eot: 3"),
        ("draws: 2", "draws: 3"),
        ("threat: adaptive, eot: 2", "threat: oblivious"),
        ("name: jitter", "name: jitter, strength: 0.3"),
        ("name: pgd, steps: 3", "name: pgd, steps: 4"),
        ("name: pgd,", "name: pgd, start: zero,"),
        ("name: pgd, steps: 3", "name: fgsm"),
        ("learnt]", "{name: learnt, batches: 4}]"),
        ("8/255", "7/255"),
        ("[up]", "[down]"),
        ("[up]", "[error]"),
    ],
)
def test_every_input_changes_what_it_decides(registry, suite_of, old, new):
    assert old in WHOLE
    before = {c.id for c in make_plan(suite_of(WHOLE), registry).cells}
    try:
        plan = make_plan(suite_of(WHOLE.replace(old, new)), registry)
    except UserError:
        plan = make_plan(suite_of(WHOLE.replace("transfer", "limit: 20\n#").replace(old, new)), registry)
    assert {c.id for c in plan.cells} - before, "no cell changed"


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(Cell) if field.name not in ("id", "defense")]
)
def test_no_two_cells_that_differ_in_a_field_share_an_id(registry, suite_of, field):
    """Every field of a cell but its id and the label of its defense is part of identity."""
    others = [
        WHOLE,
        WHOLE.replace("[up]", "[down, error]"),
        WHOLE.replace("8/255", "4/255"),
        WHOLE.replace("eot: 2", "eot: 3"),
    ]
    others += [WHOLE.replace("draws: 2", "draws: 1"), WHOLE.replace("[toy]", "[{name: toy, split: train}]")]
    others += [WHOLE.replace("threat: adaptive, eot: 2", "threat: oblivious")]
    found = {}
    values = set()
    for text in others:
        for cell in make_plan(suite_of(text), registry).cells:
            value = repr(getattr(cell, field))
            values.add(value)
            assert found.setdefault(cell.id, value) == value
    assert len(values) > 1 or field == "norm", "the field never changed, so this shows nothing"


def test_code_and_version_of_a_plugin_are_part_of_it(suite_of, registry, tmp_path):
    toy = Path(__file__).parent / "plugins" / "toy.py"
    changed = tmp_path / "toy.py"
    changed.write_text(toy.read_text(encoding="utf-8") + "# another line\n", encoding="utf-8")
    before = {c.id for c in make_plan(suite_of(WHOLE), registry).cells}
    other = Registry([changed])
    after = {c.id for c in make_plan(validate(parse_text(WHOLE, "suite.yaml"), other), other).cells}
    assert not before & after
    suite = suite_of(SUITE)
    (attack,) = suite.attacks
    newer = dataclasses.replace(suite, attacks=(dataclasses.replace(attack, version=2),))
    ids = [[c.id for c in make_plan(one, registry).cells] for one in (suite, newer)]
    assert ids[0][0] == ids[1][0] and ids[0][1] != ids[1][1], "the clean cell knows no attack"


def test_siblings_limit_labels_and_order_do_not(registry, suite_of):
    before = cells(registry, suite_of, SUITE)
    more = SUITE.replace("[linear]", "[negative_mse, linear]").replace("[8/255]", "[2/255, 8/255]") + "limit: 3\n"
    more += "save_examples: 2\ntables: [shift]\n"
    more = more.replace("[{name: pgd, steps: 3}]", "[fgsm, {steps: 3, name: pgd, label: mine}]")
    assert set(before.values()) <= set(cells(registry, suite_of, more).values())


def test_weights_and_fingerprint_are_part_of_it(registry, suite_of):
    plan = make_plan(suite_of(SUITE), registry)
    cell = plan.cells[1]
    other = dataclasses.replace(cell.source.metric, weights="ab" * 32)
    assert identity("m", other.identity()) != identity("m", cell.source.metric.identity())
    assert dataclasses.replace(cell.split, fingerprint="other").key != cell.split.key
