"""Suites: strict YAML with positions, every problem at once."""

import json
import textwrap

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from harness.errors import UserError
from harness.suite.compose import Overrides
from harness.suite.resolve import load_suite
from harness.suite.strict_yaml import LocatedError, parse, parse_text

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
        (("[linear]", "[linear, psnr]\ncontrasts: [{a: linear, b: psnrr}]"), "no metric 'psnrr' in this suite. Did you mean 'psnr'?"),
        (("[linear]", "[linear]\nir_score: emd"), "ir_score: should be a mapping, such as {mapping: emd}, got 'emd'"),
        (("[linear]", "[linear]\nexclude: [linear]"), "should be a mapping, such as {metric: METRIC, attack: ATTACK}"),
        (("[linear]", "[linear, psnr]\ncontrasts: [[linear, psnr]]"), "should be {a: METRIC, b: METRIC}, got"),
        (("[linear]", "[linear, psnr]\ncontrasts: [{a: linear, b: linear}]"), "'linear' is compared with itself"),
        (("[linear]", "[linear, psnr]\ncontrasts: [{a: linear, b: psnr}, {a: psnr, b: linear}]"), "are compared twice"),
        (("[linear]", "[linear, psnr]\ndefenses: [base, flip]\ncontrasts: [{a: linear@flip, b: linear}]"), None),
        (("[linear]", "[linear, psnr]\ntables: [srocc]\ncontrasts: [{a: linear, b: psnr}]"), "Add 'ranks' to the tables"),
        (("[linear]", "[linear]\nadjust: bonferroni"), "should be 'holm' or 'bh'"),
        (("[linear]", "[linear]\nmargin: 1"), "should be below 1, got 1"),
        (("[linear]", "[linear]\nlimit: 2\ntables: [srocc, ranks]"), "no correlation is defined for fewer than 3 images"),
        (("[toy]", "[{name: tid2013, root: /nowhere/at/all}]"), "/nowhere/at/all"),
        (
            ("{name: pgd, steps: 5, step_size: 2/255}]\nbudgets: {linf: [8/255, 1e-3]}", "fgsm]\nbudgets: {l2: [1]}"),
            "no attack of this suite works in l2",
        ),
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


RICH = """\
name: rich
seed: 3
datasets: [toy, {name: toy, split: train, size: 12}]
metrics: [linear, psnr, {name: birqa-tiny, weights: random}]
defenses: [base, {name: flip, threat: adaptive, draws: 2}]
attacks: [noise, {name: pgd, start: zero, matrix: {steps: [1, 2], step_size: [1/255, 2/255]}}]
budgets: {linf: [2/255, 4/255]}
directions: [up, down]
tables: [srocc, ranks]
transfer: [{source: psnr, scorer: linear}]
contrasts: [{a: linear@flip, b: psnr}]
adjust: bh
margin: 0.1
exclude: [{metric: psnr, attack: noise, eps: 2/255}]
limit: 4
slice: 2
"""
WORDS = [
    "name", "label", "datasets", "metrics", "defenses", "attacks", "budgets", "linf", "l2", "directions", "tables",
    "transfer", "source", "scorer", "exclude", "metric", "attack", "eps", "limit", "slice", "seed", "extends", "matrix",
    "steps", "step_size", "start", "threat", "eot", "draws", "split", "size", "weights", "toy", "linear", "stairs", "fgsm",
    "pgd", "flip", "up", "*", "[", "suite.yaml", "0", "-1",
]  # fmt: skip
LINES = [
    "name: again", "<<: *a", "x: &a [*a]", "x: *nothing", "? [x]\n: 1", "? {a: b}\n: 1", "!!python/object:os.system x",
    "seed: !!int x", "\tseed: 1", "- x", "---", "...", "%YAML 9.9", "\0", "x: {", "x: ]", "x: '", "x: |\n", "@", "`", "seed: .inf",
    "seed: 0x1f", "limit: 1_0", "limit: 1e400", "budgets: {linf: [1/0]}", 'name: "\\ud800"', "name: \u202e", "\ufeff", "limit: 2024-01-01",
    "extends: suite.yaml", "extends: none.yaml", "extends: .", "extends: {a: b}", "extends: ''", "attacks: &a [fgsm, *a]",
    'metrics: [{name: birqa-tiny, weights: "\\0.safetensors"}]', "metrics: [{name: birqa-tiny, weights: 'a\\0b'}]",
    "metrics: [{name: birqa-tiny, weights: ..}]", 'metrics: [{name: birqa-tiny, weights: "\\ud800.safetensors"}]',
    "metrics: [{name: birqa-tiny, weights: ~no-such-user/x.safetensors}]", "extends: ~no-such-user/x.yaml", 'extends: "\\ud800"', 'extends: "\\0"',
    "datasets: [{name: tid2013, root: \"\\0\"}]",
    "attacks: [{name: pgd, label: \"\\ud800\"}]", "attacks: [{name: pgd, start: \"\\ud800\"}]", "'': ''", "~: ~", "1: 1",
]  # fmt: skip
PLUGINS = ["toy", "toy_triplets", "linear", "stairs", "birqa-tiny", "fgsm", "pgd", "worse", "base", "flip", "jitter"]
scalars = (
    st.sampled_from([None, True, False, 0, -1, 2, 0.5, 10**18, -(10**400), 1e308, 1e-320])
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
)
garbage = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=3)
    | st.fixed_dictionaries({"name": st.sampled_from(PLUGINS)}, optional=dict.fromkeys(WORDS[1:], inner)),
    max_leaves=6,
)  # fmt: skip


@st.composite
def mutations(draw):
    """Text of a suite with a few things wrong: values and keys, repeats (which become aliases), lines, characters."""
    suite = parse_text(RICH, "x").value
    kind = draw(st.sampled_from(["values", "values", "values", "values", "lines", "characters"]))
    for _ in range(draw(st.integers(1, 3)) if kind == "values" else 0):
        node, key = suite, draw(st.sampled_from(list(suite)))
        for _ in range(draw(st.integers(0, 5))):
            if node[key] and isinstance(node[key], dict | list):
                node = node[key]
                key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        change = draw(st.sampled_from(["replace", "replace", "insert", "repeat", "move", "remove"]))
        if change == "insert":
            _insert(node, key, draw(st.sampled_from(WORDS)), draw(garbage))
        elif change == "repeat" and isinstance(node, list):
            node.append(node[key])
        elif change == "move":
            suite[draw(st.sampled_from(list(suite)))] = node[key]
        elif change == "remove":
            del node[key]
        else:
            node[key] = draw(garbage)
    style = draw(st.sampled_from([None, True, False]))
    lines = yaml.safe_dump(suite, sort_keys=False, allow_unicode=True, default_flow_style=style).splitlines()
    for line in draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=2)) if kind == "lines" else ():
        lines.insert(draw(st.sampled_from([0, len(lines)]) | st.integers(0, len(lines))), line)
    text = "\n".join(lines)
    cut = draw(st.integers(0, len(text))) if kind == "characters" else len(text)
    return text[:cut] + text[cut + draw(st.integers(1, 9)) :]


def _insert(node, key, word, value):
    if isinstance(node, dict):
        node[word] = value
    else:
        node.insert(key, value)


paths = st.lists(st.sampled_from(WORDS) | st.integers(0, 3).map(str), min_size=1, max_size=4).map(".".join)
sets = st.builds("{}={}".format, paths, garbage.map(json.dumps) | st.sampled_from(LINES)) | st.text(max_size=9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=mutations(), options=st.lists(sets, max_size=1) | st.just([]))
def test_any_suite_validates_or_gives_located_errors(registry, tmp_path_factory, text, options):
    path = tmp_path_factory.getbasetemp() / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_suite(path, registry, Overrides(sets=tuple(options)))
    except LocatedError as error:
        assert error.lines and all(
            line.startswith((f"{path}:", "--set ", f"{path.parent}:")) for line in error.lines
        ), error.lines
