"""Suites: strict YAML with positions, every problem at once."""

import textwrap

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.errors import UserError
from harness.located import LocatedError, parse, parse_text
from harness.resolve import validate

GOOD = """\
name: toy
datasets: [toy]
metrics: [linear]
attacks: [fgsm, {name: pgd, steps: 5, step_size: 2/255}]
budgets: {linf: [8/255, 1e-3]}
"""


def problems(suite_of, text):
    with pytest.raises(LocatedError) as caught:
        suite_of(text)
    return caught.value.lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255), ("1e-3", 1e-3), ("-2.5E2", -250.0), ("3", 3), ("no", "no"), ("10:30", "10:30"),
        ("yes", "yes"), ("true", True), ("'8/255'", "8/255"), ("~", None), ("a/b", "a/b"), ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"), (".5", 0.5), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_look_like(text, value):
    assert parse_text(f"key: {text}", "x").value == {"key": value}


def test_a_good_suite(suite_of):
    suite = suite_of(GOOD)
    assert suite.budgets == (("linf", 8 / 255), ("linf", 1e-3))
    assert [a.label for a in suite.attacks] == ["fgsm", "pgd(steps=5)"]
    assert suite.attacks[1].parameters == {"steps": 5, "step_size": 2 / 255, "start": "random", "keep": "last"}
    assert suite.defenses[0].label == "base" and suite.seed == 0 and suite.limit is None


def test_every_problem_is_found_at_once_with_its_place_and_a_suggestion(suite_of):
    text = textwrap.dedent("""\
        name: toy
        sead: 3
        datasets: [toy]
        metrics: [linaer, linear]
        attacks:
          - {name: pgd, stepz: 3}
          - {name: pgd, steps: ten}
          - fgsm
        seed: 1
        seed: 2
        budgets: {linf: [8/255, big, 2]}
        directions: [upp]
        tables: [scrocc]
    """)
    expected = [
        "suite.yaml:2:1: sead: unknown key 'sead'. Did you mean 'seed'?",
        "suite.yaml:4:11: metrics.0.name: unknown metric 'linaer'. Did you mean 'linear'?",
        "suite.yaml:6:17: attacks.0.stepz: 'pgd' has no parameter 'stepz'. Did you mean 'steps'?",
        "suite.yaml:7:24: attacks.1.steps: should be a whole number, got 'ten'.",
        "suite.yaml:10:1: seed: duplicate key 'seed', first given on line 9. Remove one.",
        "suite.yaml:11:25: budgets.linf.1: should be a number, such as 8/255 or 0.03, got 'big'.",
        "suite.yaml:11:30: budgets.linf.2: should be at most 1, got 2.",
        "suite.yaml:12:14: directions.0: unknown direction 'upp'. Did you mean 'up'?",
        "suite.yaml:13:10: tables.0: unknown table 'scrocc'. Did you mean 'srocc'?",
    ]
    assert problems(suite_of, text) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("attacks: [fgsm", "attacks: [fgsm, fgsm"), "'fgsm' is listed twice"),
        (("metrics: [linear]", "metrics: [linear, stairs]"), "'fgsm' needs gradients and the metric 'stairs' is not"),
        (("{linf: [8/255, 1e-3]}", "{l2: [1]}"), "'fgsm' works in linf, and the suite has no budget in that norm"),
        (("budgets: {linf: [8/255, 1e-3]}", ""), "attacks need budgets"),
        (("{linf: [8/255, 1e-3]}", "{linf: [0]}"), "should be above 0, got 0"),
        (("{linf: [8/255, 1e-3]}", "{l1: [1]}"), "unknown key 'l1'"),
        (("steps: 5", "steps: 0"), "steps should be at least 1, got 0"),
        (("steps: 5", "steps: true"), "should be a whole number"),
        (("start", "start"), None),
        (("[toy]", "[{name: toy, split: tset}]"), "'toy' has no split 'tset'. Did you mean 'test'?"),
        (("[linear]", "[{name: linear, weights: x.safetensors}]"), "'linear' has no weights"),
        (("name: toy", "name: ../../etc"), "should be letters, digits"),
        (("name: toy\n", ""), "the key 'name' is missing"),
        (("metrics: [linear]", "metrics: []"), "should not be empty"),
        (("metrics: [linear]", "metrics: linear"), "should be a list"),
        (("metrics: [linear]", "metrics: [linear]\nlimit: 0"), "should be at least 1, got 0"),
        (("metrics: [linear]", "metrics: [linear]\ndefenses: [flipp]"), "unknown defense 'flipp'. Did you mean 'flip'?"),
        (("metrics: [linear]", "metrics: [linear]\ndefenses: [{name: flip, threat: adaptve}]"), "Did you mean 'adaptive'?"),
        (("metrics: [linear]", "metrics: [linear]\ndefenses: [{name: flip, eot: 3}]"), "'eot' has no effect"),
        (("metrics: [linear]", "metrics: [linear]\ndefenses: [{name: flip, probability: 7}]"), "between 0 and 1, got 7"),
        (("metrics: [linear]", "metrics: [linear]\ntransfer: [{source: psnr, scorer: linear}]"), "no metric 'psnr' in this"),
        (("[toy]", "[{name: tid2013, root: /nowhere/at/all}]"), "/nowhere/at/all"),
        (("{linf: [8/255, 1e-3]}", "{linf: [8/255], l2: [1]}"), "no attack of this suite works in l2"),
        (("[linear]", "[linear, {name: linear, label: twin}]"), "'twin' is 'linear' under another label"),
        (("[toy]", "[toy, toy]"), "'toy' is listed twice"),
        (("[toy]", "[{name: toy, references: 0}]"), "no items in the split 'test'"),
        (("[linear]", "[{name: birqa-tiny, channels: 30}]"), "channels should be a positive multiple of 4, got 30"),
        (("[linear]", "[{name: birqa-tiny, channels: 64}]"), "does not fit BiRQA"),
        (("fgsm,", "!!python/object:os.system fgsm,"), "tag"),
        (("8/255", "8/0"), "not a finite number"),
    ],
)  # fmt: skip
def test_one_thing_wrong(suite_of, change, message):
    text = GOOD.replace(*change)
    if message is None:
        suite_of(text)
        return
    lines = problems(suite_of, text)
    assert any(message in line for line in lines), lines
    assert all(line.startswith("suite.yaml:") for line in lines)


def test_files_that_are_no_suite(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        parse(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        parse(tmp_path / "binary.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        parse(tmp_path)
    with pytest.raises(LocatedError, match=r"x:2:\d+: not valid YAML"):
        parse_text("a: [1,\nb: }", "x")


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "a: &x [*x]", "[" * 5000])
def test_odd_documents_are_errors_not_tracebacks(suite_of, text):
    assert problems(suite_of, text)


def test_aliases_that_expand_without_end_are_refused(suite_of):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "without end" in problems(suite_of, "\n".join(lines))[0]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats()
    | st.sampled_from(["fgsm", "linear", "toy", "x", "up"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "steps", "linf", "label", "split", "y"]), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = ["name", "datasets", "metrics", "attacks", "budgets", "directions", "defenses", "tables", "limit", "transfer"]


@settings(max_examples=150, deadline=None)
@given(value=st.dictionaries(st.sampled_from([*keys, "odd"]), plain, max_size=7))
def test_any_document_validates_or_gives_located_errors(registry, value):
    import yaml

    base = parse_text(GOOD, "x").value
    text = yaml.safe_dump({**base, **value})
    try:
        validate(parse_text(text, "suite.yaml"), registry)
    except LocatedError as error:
        assert all(line.startswith("suite.yaml:") for line in error.lines)
