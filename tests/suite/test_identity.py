"""Identity: stable for ever, blind to what does not matter, and changed by what does."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness.plugins.registry import Registry
from harness.suite.identity import identity, order_key
from harness.suite.plan import Cell
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

SUITE = """
name: toy
datasets: [toy]
metrics: [linear]
attacks: [{name: pgd, steps: 3}]
budgets: {linf: [8/255]}
directions: [up]
"""


GOLDEN = [
    "19db25f01ebc2fc1",
    "69f88ff25a6d892d",
    "00038df4f2fb2b3e",
    "2a6db8a8663155cd",
    "d3aac2d713bb4e71",
    "e7a03f76b287690a",
    "5d275010a6a0e5fd",
    "ba89b6f97a584d63",
]


def cells(registry, suite_of, text):
    plan = make_plan(suite_of(text), registry)
    found = {c.label: c.id for c in plan.cells}
    assert len(found) == len(plan.cells), "a label stands for one cell"
    return found


def test_golden():
    assert identity("cell", {"b": [1, 2.5, "x"], "a": {"k": None}}) == "b79fe44ff6e4f1ae"
    assert identity("cell", {"a": {"k": None}, "b": (1, 2.5, "x")}) == "b79fe44ff6e4f1ae"
    assert order_key("test/astronaut-0/jpeg/3").hex() == "3c83b7fffea59011b0e386b23a0f9877"


WHOLE = """
name: whole
datasets: [toy]
metrics: [linear, negative_mse, birqa-tiny]
defenses: [base, {name: jitter, threat: adaptive, eot: 2, draws: 2}]
attacks: [{name: pgd, steps: 3}, learnt, sphere, noise]
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


ALL, ATTACKED, AIMED = "", "eps", " up "
"""Parts of labels: every cell; those of attacks and controls; those of attacks alone."""


def changes(before, after, where):
    """Exactly the cells whose labels match have gone, and as many new ones have come in their place."""
    gone = {label for label, id in before.items() if id not in set(after.values())}
    assert gone == {label for label in before if re.search(where, label)} and gone
    assert len(set(after.values()) - set(before.values())) == len(gone)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("directions", "seed: 1\ndirections", ALL),
        ("directions", "slice: 4\ndirections", ALL),
        ("[toy]", "[{name: toy, size: 17}]", ALL),
        ("[toy]", "[{name: toy, split: val}]", ALL),
        ("linear", "linear_lower", "linear"),
        ("source: linear, scorer: negative_mse", "source: negative_mse, scorer: linear", "transfer"),
        ("birqa-tiny", "{name: birqa-tiny, weights: random}", "birqa-tiny"),
        ("eot: 2", "eot: 3", "jitter.* up "),
        ("draws: 2", "draws: 3", "jitter"),
        ("threat: adaptive, eot: 2", "threat: oblivious", "jitter.* eps"),
        ("name: jitter", "name: jitter, strength: 0.3", "jitter"),
        ("name: pgd, steps: 3", "name: pgd, steps: 4", "pgd"),
        ("name: pgd,", "name: pgd, start: zero,", "pgd"),
        ("name: pgd, steps: 3", "name: fgsm", "pgd"),
        ("learnt", "{name: learnt, batches: 4}", "learnt"),
        ("8/255", "7/255", ATTACKED),
        ("[up]", "[down]", AIMED),
        ("[up]", "[error]", AIMED),
        ("directions", "precision: bf16\ndirections", AIMED),
    ],
)
def test_every_input_changes_what_it_decides_and_nothing_else(registry, suite_of, old, new, where):
    assert old in WHOLE
    changes(cells(registry, suite_of, WHOLE), cells(registry, suite_of, WHOLE.replace(old, new)), where)


def test_the_number_of_calibration_samples_changes_what_is_ranged_by_them(registry, suite_of, monkeypatch):
    before = cells(registry, suite_of, WHOLE)
    monkeypatch.setattr("harness.suite.planning.CALIBRATION_SAMPLES", 32)
    changes(before, cells(registry, suite_of, WHOLE), AIMED)


def test_the_norm_changes_cells_of_equal_radius(registry, suite_of):
    before = cells(registry, suite_of, WHOLE)
    both = cells(registry, suite_of, WHOLE.replace("linf: [8/255]", "linf: [8/255], l2: [8/255]"))
    fresh = {label: id for label, id in both.items() if id not in set(before.values())}
    assert set(before.items()) <= set(both.items())
    in_l2 = {label.replace("eps 8/255", "l2 eps 0.03137") for label in before if re.search("sphere|pgd|noise", label)}
    assert set(fresh) == in_l2


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for field in dataclasses.fields(Cell)
        if field.name not in ("id", "defense", "for_verdicts", "for_maps")
    ],
)
def test_no_two_cells_that_differ_in_a_field_share_an_id(registry, suite_of, field):
    """Every field of a cell but its id and the label of its defense is part of identity."""
    others = [
        WHOLE,
        WHOLE.replace("[up]", "[down, error]"),
        WHOLE.replace("8/255", "4/255"),
        WHOLE.replace("eot: 2", "eot: 3"),
        WHOLE.replace("linf: [8/255]", "linf: [8/255], l2: [8/255]"),
    ]
    others += [WHOLE.replace("draws: 2", "draws: 1"), WHOLE.replace("[toy]", "[{name: toy, split: val}]")]
    others += [WHOLE.replace("threat: adaptive, eot: 2", "threat: oblivious")]
    others += [WHOLE.replace("[up]", "[up]\nprecision: bf16")]
    others += [WHOLE.replace("8/255]}", "8/255, 4/255]}\nbatch_budgets: true")]
    triplets = WHOLE.replace("[toy]", "[{name: toy_triplets, references: 3}]").replace("learnt, ", "")
    others += [triplets, triplets.replace("[up]", "[up]\nwhich: p0")]
    found = {}
    values = set()
    for text in others:
        for cell in make_plan(suite_of(text), registry).cells:
            value = repr(getattr(cell, field))
            values.add(value)
            assert found.setdefault(cell.id, value) == value
    assert len(values) > 1, "the field never changed, so this shows nothing"


def test_code_and_version_of_a_plugin_are_part_of_it(suite_of, registry, tmp_path):
    toy = Path(__file__).parents[1] / "toys" / "toy.py"
    changed = tmp_path / "toy.py"
    changed.write_text(toy.read_text(encoding="utf-8") + "# another line\n", encoding="utf-8")
    before = {c.id for c in make_plan(suite_of(WHOLE), registry).cells}
    other = Registry([changed])
    after = {c.id for c in make_plan(validate(parse_text(WHOLE, "suite.yaml"), other), other).cells}
    assert not before & after
    suite = suite_of(SUITE)
    (attack,) = suite.attacks
    newer = dataclasses.replace(suite, attacks=(dataclasses.replace(attack, version=attack.version + 1),))
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


def test_weights_are_part_of_the_cells_of_their_metric(registry, suite_of):
    """Other bytes under the same name of a metric."""
    suite = suite_of(WHOLE)
    other = tuple(dataclasses.replace(m, weights="ab" * 32) if m.weights else m for m in suite.metrics)
    assert other != suite.metrics
    plan = make_plan(dataclasses.replace(suite, metrics=other), registry)
    changes(cells(registry, suite_of, WHOLE), {c.label: c.id for c in plan.cells}, "birqa-tiny")
