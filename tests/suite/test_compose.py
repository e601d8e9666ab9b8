"""How a suite is put together: extends, matrix, exclude and what the command line changes."""

import itertools
import json

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from harness.suite.compose import Overrides, read
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite, validate
from harness.suite.strict_yaml import LocatedError, parse_text

BASE = """\
name: base
datasets: [toy]
metrics: [linear, psnr]
attacks: [noise, fgsm, {name: pgd, steps: 5}]
budgets: {linf: [4/255, 8/255]}
"""


@pytest.fixture
def load(tmp_path, registry):
    """Files by name, the first being the suite; options as on the command line."""

    def load(*texts, **options):
        names = ["suite.yaml", "base.yaml", "third.yaml"]
        for name, text in zip(names, texts, strict=False):
            (tmp_path / name).write_text(text)
        return load_suite(tmp_path / "suite.yaml", registry, Overrides(**options))

    return load


@pytest.fixture
def wrong(load, tmp_path):
    """The messages, with the folder left out."""

    def wrong(*texts, **options):
        with pytest.raises(LocatedError) as caught:
            load(*texts, **options)
        return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]

    return wrong


def again(suite, registry):
    text = yaml.safe_dump(suite.resolved(), sort_keys=False)
    return validate(parse_text(text, "again.yaml"), registry)


def cells(suite, registry):
    """(scorer, defense, attack, norm, eps in 1/255) of every cell of the plan."""
    return {
        (c.scorer.metric.label, c.defense, c.attack.label if c.attack else "clean", c.norm, round(255 * c.eps))
        for c in make_plan(suite, registry).cells
    }


# extends


def test_a_suite_extends_a_chain_of_others(load, registry):
    suite = load(
        "extends: base.yaml\nname: top\nmetrics: [ssim]\n",
        "extends: third.yaml\nseed: 5\nbudgets: {linf: [2/255]}\n",
        BASE + "limit: 3\n",
    )
    assert (suite.name, suite.seed, suite.limit) == ("top", 5, 3)
    assert [m.label for m in suite.metrics] == ["ssim"] and suite.budgets == (("linf", 2 / 255),), "lists replace"
    assert [a.label for a in suite.attacks] == ["noise", "fgsm", "pgd(steps=5)"]
    assert again(suite, registry) == suite


def test_mappings_merge_by_key(tmp_path):
    (tmp_path / "suite.yaml").write_text("extends: base.yaml\nbudgets: {l2: [1]}\n")
    (tmp_path / "base.yaml").write_text(BASE)
    merged = read(tmp_path / "suite.yaml").value
    assert merged["budgets"] == {"linf": [4 / 255, 8 / 255], "l2": [1]} and merged["name"] == "base"


def test_the_path_is_relative_to_the_extending_file(tmp_path, registry):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "base.yaml").write_text(BASE)
    (tmp_path / "a" / "b" / "mid.yaml").write_text("extends: ../base.yaml\nseed: 4\n")
    (tmp_path / "top.yaml").write_text("extends: a/b/mid.yaml\n")
    assert load_suite(tmp_path / "top.yaml", registry).seed == 4


def test_problems_point_into_the_file_where_the_value_stands(wrong):
    lines = wrong(
        "extends: base.yaml\nseed: x\nsead: 1\n",
        BASE.replace("steps: 5", "stepz: 5").replace("psnr]", "psnrr]") + "limit: 0\nlimit: 2\n",
    )
    assert lines == [
        "suite.yaml:2:7: seed: should be a whole number, got 'x'.",
        "suite.yaml:3:1: sead: unknown key 'sead'. Did you mean 'seed'?",
        "base.yaml:3:19: metrics.1.name: unknown metric 'psnrr'. Did you mean 'psnr'?",
        "base.yaml:4:36: attacks.2.stepz: 'pgd' has no parameter 'stepz'. Did you mean 'steps'?",
        "base.yaml:6:8: limit: should be at least 1, got 0.",
        "base.yaml:7:1: limit: duplicate key 'limit', first given on line 6. Remove one.",
    ]  # fmt: skip


def test_a_replaced_value_is_judged_where_it_replaces(wrong):
    lines = wrong("extends: base.yaml\nmetrics:\n  - linear\n  - {name: psnr, x: 1}\n", BASE)
    assert len(lines) == 1 and lines[0].startswith("suite.yaml:4:18: metrics.1.x: 'psnr' has no parameter 'x'.")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["extends: suite.yaml\n"], "suite.yaml:1:10: extends: a suite cannot extend itself: suite.yaml -> suite.yaml."),
        (
            ["extends: base.yaml\n", "seed: 1\nextends: third.yaml\n", "extends: base.yaml\n"],
            "third.yaml:1:10: extends: a suite cannot extend itself: suite.yaml -> base.yaml -> third.yaml -> base.yaml.",
        ),
        (["extends: none.yaml\n"], "suite.yaml:1:10: extends: none.yaml: no such file."),
        (["extends: [a]\n"], "suite.yaml:1:10: extends: should be the path of a suite file, got ['a']."),
        (['extends: "a\\0b"\n'], "suite.yaml:1:10: extends: should be the path"),
        (["extends: base.yaml\n", "a: [1\n"], "suite.yaml:1:10: extends: base.yaml:2:1: not valid YAML"),
        (["extends: base.yaml\n", "[a]\n"], "suite.yaml:1:10: extends: base.yaml: no suite;"),
        (["extends: base.yaml\n", ""], "base.yaml:1:1: the file is empty."),
    ],
)  # fmt: skip
def test_extending_what_cannot_be_extended(wrong, texts, message):
    lines = wrong(*texts)
    assert any(line.startswith(message) for line in lines), lines
    assert len(lines) == 1 or texts[-1] == "", "keys that the other file may hold are not called missing"


# matrix


def test_a_matrix_is_every_combination(suite_of, registry):
    entry = "{name: pgd, start: zero, matrix: {steps: [5, 7], step_size: [1/255, 4/255]}}"
    suite = suite_of(BASE.replace("{name: pgd, steps: 5}", entry))
    found = [(a.parameters["steps"], a.parameters["step_size"]) for a in suite.attacks[2:]]
    assert found == list(itertools.product([5, 7], [1 / 255, 4 / 255]))
    assert all(a.parameters["start"] == "zero" for a in suite.attacks[2:])
    assert "steps=7" in suite.attacks[4].label and "1/255" in suite.attacks[4].label
    assert again(suite, registry) == suite


def test_a_matrix_works_in_every_list(suite_of):
    suite = suite_of(
        "name: m\n"
        "datasets: [{name: toy, matrix: {split: [test, train]}}]\n"
        "metrics: [{name: birqa-tiny, matrix: {weights: [random]}}]\n"
        "defenses: [base, {name: flip, matrix: {threat: [oblivious, adaptive]}}]\n"
    )
    assert [d.split for d in suite.datasets] == ["test", "train"]
    assert [d.threat for d in suite.defenses] == ["none", "oblivious", "adaptive"]
    assert suite.metrics[0].weights == "random"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{name: pgd, matrix: {steps: []}}", "3:33: attacks.0.matrix.steps: should not be empty"),
        ("{name: pgd, matrix: {steps: 5}}", "3:33: attacks.0.matrix.steps: should be a list of values: [a, b], got 5."),
        ("{name: pgd, matrix: {}}", "3:25: attacks.0.matrix: should not be empty"),
        ("{name: pgd, matrix: [5]}", "3:25: attacks.0.matrix: should be a mapping of lists"),
        ("{name: pgd, matrix: }", "3:24: attacks.0.matrix: should be a mapping of lists"),
        ("{name: pgd, matrix: {stepz: [5, 6]}}",
         "3:26: attacks.0.matrix.stepz: 'pgd' has no parameter 'stepz'. Did you mean 'steps'?"),
        ("{name: pgd, matrix: {steps: [5, ten, 6]}}",
         "3:37: attacks.0.matrix.steps.1: should be a whole number, got 'ten'."),
        ("{name: pgd, steps: 3, matrix: {steps: [5]}}", "3:36: attacks.0.matrix.steps: 'steps' is given beside the matrix"),
        ("{name: pgd, matrix: {name: [fgsm]}}", "3:26: attacks.0.matrix.name: 'name' cannot be varied"),
        ("{name: pgd, label: x, matrix: {steps: [5, 6]}}", "3:24: attacks.0.label: one label for 2 combinations"),
        ("{name: pgd, matrix: {steps: [5, 5]}}", "3:5: attacks.0: 'pgd(steps=5)' is listed twice"),
        ("{name: pgd, x: 1, matrix: {steps: [5, 6]}}", "3:17: attacks.0.x: 'pgd' has no parameter 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_matrix(suite_of, entry, message):
    text = f"name: m\nattacks:\n  - {entry}\ndatasets: [toy]\nmetrics: [linear]\nbudgets: {{linf: [8/255]}}\n"
    with pytest.raises(LocatedError) as caught:
        suite_of(text)
    assert len(caught.value.lines) == 1, "one line however many combinations share the mistake"
    assert caught.value.lines[0].startswith(f"suite.yaml:{message}")


def test_entries_after_a_matrix_keep_their_places(suite_of):
    text = BASE.replace("[noise, fgsm,", "[{name: pgd, matrix: {steps: [2, 3]}}, fgsmm,")
    with pytest.raises(LocatedError) as caught:
        suite_of(text)
    place = text.splitlines()[3].index("fgsmm") + 1
    assert caught.value.lines == [f"suite.yaml:4:{place}: attacks.1.name: unknown attack 'fgsmm'. Did you mean 'fgsm'?"]


def test_too_many_combinations_are_refused(suite_of):
    many = f"{{name: pgd, matrix: {{steps: {list(range(1, 102))}, step_size: {[i / 1000 for i in range(1, 101)]}}}}}"
    with pytest.raises(LocatedError, match="10100 combinations; at most 10000 are allowed"):
        suite_of(BASE.replace("{name: pgd, steps: 5}", many))


# exclude


def test_excluded_cells_are_not_planned_and_clean_cells_stay(suite_of, registry):
    more = "defenses: [base, flip]\n"
    everything = cells(suite_of(BASE + more), registry)
    suite = suite_of(
        BASE + more + "exclude: [{metric: psnr, attack: 'pgd*'}, {attack: fgsm, eps: 8/255, norm: linf}]\n"
    )
    left = cells(suite, registry)
    gone = {
        c for c in everything
        if (c[0] == "psnr" and c[2].startswith("pgd")) or (c[2] == "fgsm" and c[4] == 8)
    }  # fmt: skip
    assert gone and left == everything - gone
    assert {c for c in everything if c[2] == "clean"} <= left
    assert again(suite, registry) == suite and len(suite.resolved()["exclude"]) == 2


def test_a_whole_defense_is_excluded_with_its_clean_cells(suite_of, registry):
    more = "defenses: [base, flip]\n"
    everything = cells(suite_of(BASE + more), registry)
    left = cells(suite_of(BASE + more + "exclude: [{defense: flip, metric: 'p*', dataset: toy}]\n"), registry)
    assert left == {c for c in everything if c[:2] != ("psnr", "flip")}


def test_an_attack_on_an_excluded_metric_needs_no_calibration(suite_of, registry):
    suite = suite_of(BASE.replace("noise, ", "") + "exclude: [{metric: psnr, norm: linf}]\n")
    made = make_plan(suite, registry)
    assert {fact.scorer.metric.label for fact in made.facts} == {"linear"}
    assert {cell.scorer.metric.label for cell in made.cells} == {"linear", "psnr"}


def test_what_cannot_be_attacked_may_be_listed_if_excluded(suite_of, registry):
    text = BASE.replace("psnr", "stairs")
    with pytest.raises(LocatedError, match="not differentiable"):
        suite_of(text)
    with pytest.raises(LocatedError, match="not differentiable"):
        suite_of(text + "exclude: [{metric: stairs, attack: fgsm}, {metric: stairs, attack: pgd*, eps: 4/255}]\n")
    suite = suite_of(text + "exclude: [{metric: stairs, attack: fgsm}, {metric: stairs, attack: pgd*}]\n")
    assert {c[2] for c in cells(suite, registry) if c[0] == "stairs"} == {"clean", "noise"}


def test_excluding_a_metric_excludes_what_is_attacked_on_it_or_judged_by_it(suite_of, registry):
    transfer = "transfer: [{source: psnr, scorer: linear}, {source: linear, scorer: psnr}]\n"
    made = make_plan(suite_of(BASE + transfer + "exclude: [{metric: psnr}]\n"), registry)
    assert {(c.source.metric.label, c.scorer.metric.label) for c in made.cells} == {("linear", "linear")}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{metric: psnrr}", "6:20: exclude.0.metric: no metric 'psnrr' in this suite. Did you mean 'psnr'?"),
        ("{atack: fgsm}", "6:12: exclude.0.atack: unknown key 'atack'. Did you mean 'attack'?"),
        ("{eps: 7/255}", "6:17: exclude.0.eps: no eps '7/255' in this suite. Did you mean '8/255'?"),
        ("{eps: x}", "6:17: exclude.0.eps: should be a number"),
        ("{norm: l2}", "6:18: exclude.0.norm: no norm 'l2' in this suite."),
        ("{attack: clean}", "6:20: exclude.0.attack: no attack 'clean' in this suite."),
        ("{}", "6:11: exclude.0: should give at least one of dataset, metric, defense, attack, norm, eps"),
        ("psnr", "6:11: exclude.0: should be a"),
        ("{metric: '*'}", "6:1: exclude: nothing is left of the suite."),
    ],
)  # fmt: skip
def test_a_wrong_exclusion(suite_of, pattern, message):
    with pytest.raises(LocatedError) as caught:
        suite_of(BASE + f"exclude: [{pattern}]\n")
    assert len(caught.value.lines) == 1 and caught.value.lines[0].startswith(f"suite.yaml:{message}"), (
        caught.value.lines
    )


def test_keys_that_match_alone_but_not_together(suite_of):
    text = BASE.replace("[noise, fgsm, {name: pgd, steps: 5}]", "[fgsm, noise]")
    more = "transfer: [{source: psnr, scorer: linear}]\ndefenses: [flip]\nexclude: [{defense: base, metric: psnr, attack: noise}]\n"
    suite_of(text + more)
    with pytest.raises(LocatedError, match=r"exclude.0: no cell matches all of this together"):
        suite_of(text.replace("psnr]", "psnr, ssim]") + more.replace("metric: psnr", "metric: ssim"))


def test_an_excluded_suite_runs(run_toy, tmp_path):
    text = (
        BASE
        + "limit: 8\ndefenses: [base, flip]\nexclude: [{metric: psnr, attack: pgd*}, {defense: flip, attack: fgsm}]\n"
    )
    result = run_toy(text, tmp_path / "run")
    assert result.failed == 0 and (tmp_path / "run" / "report" / "index.html").is_file()
    assert run_toy(text, tmp_path / "run").jobs == 0


# the command line's changes


def test_set_reaches_every_kind_of_value(load):
    sets = (
        "seed=3", "attacks.pgd.steps=20", "attacks.1.label=quick", "budgets.linf=[2/255, 1e-2]", "datasets.toy.split=train",
        "limit=null", "directions=[up]", "metrics.1=ssim", "budgets.linf.0=3/255",
    )  # fmt: skip
    suite = load(BASE + "limit: 4\n", sets=sets)
    assert suite.seed == 3 and suite.limit is None and suite.directions == ("up",)
    assert [a.label for a in suite.attacks] == ["noise", "quick", "pgd(steps=20)"]
    assert suite.budgets == (("linf", 3 / 255), ("linf", 1e-2))
    assert suite.datasets[0].split == "train" and [m.label for m in suite.metrics] == ["linear", "ssim"]


def test_set_finds_entries_by_label_name_or_index(load):
    text = BASE.replace(
        "{name: pgd, steps: 5}", "{name: pgd, steps: 5}, {name: pgd, label: other}, {name: pgd, step_size: 1/255}"
    )

    def steps(*sets):
        return [a.parameters["steps"] for a in load(text, sets=sets).attacks[2:]]

    assert steps("attacks.pgd(steps=5).steps=6") == [6, 10, 10]
    assert steps("attacks.other.steps=6") == [5, 6, 10]
    assert steps("attacks.4.steps=6", "attacks.4.steps=7") == [5, 10, 7]


def test_set_overrules_the_matrix_and_what_is_extended(load):
    base = BASE.replace("{name: pgd, steps: 5}", "{name: pgd, matrix: {steps: [1, 2], start: [zero, random]}}")
    suite = load(
        "extends: base.yaml\n",
        base,
        sets=("attacks.pgd.steps=9", "attacks.1=noise", "attacks.0=restore"),
    )
    assert [a.parameters["steps"] for a in suite.attacks[2:]] == [9, 9]
    assert len(load("extends: base.yaml\n", base, sets=("attacks.pgd.matrix.steps=[7]",)).attacks) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("attacks.pgd.stepz=20", "'pgd' has no parameter 'stepz'. Did you mean 'steps'?"),
        ("attacks.pgd.steps=ten", "should be a whole number, got 'ten'."),
        ("attacks.pgdd.steps=2", "no entry 'pgdd' in 'attacks'. Did you mean 'pgd'?"),
        ("attacks.7.steps=2", "'attacks' has no entry 7; it has 3, counted from 0."),
        ("budgets.linf.x=1", "'budgets.linf' has no entry x; it has 2, counted from 0."),
        ("defenses.flip.draws=2", "the suite lists no defenses."),
        ("sead=2", "unknown key 'sead'. Did you mean 'seed'?"),
        ("name.x=2", "'name' is 'base' and has no 'x' to set."),
        ("seed", "should be KEY.PATH=VALUE, such as attacks.pgd.steps=20."),
        ("=3", "should be KEY.PATH=VALUE, such as attacks.pgd.steps=20."),
        ("a..b=3", "should be KEY.PATH=VALUE, such as attacks.pgd.steps=20."),
        ("seed=", "no value after '='. Write null for none."),
        ("seed=[1", "not valid YAML"),
        ("seed=!!python/name:os 3", "the tag !!python/name:os is not allowed."),
        ("budgets={linf: [0.1], linf: [0.2]}", "duplicate key 'linf', first given on line 1."),
        ("budgets.linf=[0.1, 2]", "should be at most 1, got 2."),
        ("extends=x.yaml", "'extends' cannot be set here; write it in the file."),
        ("exclude=[{metric: x}]", "no metric 'x' in this suite."),
    ],
)
def test_a_wrong_set_names_the_option(wrong, option, message):
    (line,) = wrong(BASE, sets=(option,))
    assert line.startswith(f"--set {option}: {message}"), line


def test_an_ambiguous_set(wrong):
    text = BASE.replace("{name: pgd, steps: 5}", "{name: pgd, steps: 5}, {name: pgd, steps: 6}")
    assert wrong(text, sets=("attacks.pgd.steps=1",)) == [
        "--set attacks.pgd.steps=1: 'pgd' is 2 entries; say which: attacks.2, attacks.3."
    ]


def test_problems_of_file_and_options_come_together(wrong):
    lines = wrong(BASE.replace("psnr", "psnrr"), sets=("attacks.pgd.stepz=1", "seed=-1"), limit=0)
    assert [line.partition(": ")[0] for line in lines] == [
        "suite.yaml:3:19", "--set seed=-1", "--limit 0", "--set attacks.pgd.stepz=1",
    ]  # fmt: skip


def test_limit_and_seed(load):
    suite = load(BASE + "limit: 4\nseed: 1\n", limit=2, seed=0, sets=("limit=3",))
    assert (suite.limit, suite.seed) == (2, 0)


def test_only_keeps_matching_metrics_and_attacks(load, registry):
    transfer = "transfer: [{source: psnr, scorer: linear}]\nexclude: [{metric: psnr, attack: pgd*}, {attack: noise, eps: 4/255}]\n"
    everything = cells(load(BASE + transfer), registry)
    suite = load(BASE + transfer, only="lin*/[pn]*")
    assert [m.label for m in suite.metrics] == ["linear"] and not suite.transfer
    assert [a.label for a in suite.attacks] == ["noise", "pgd(steps=5)"], "a control only if the pattern matches it"
    assert len(suite.exclude) == 1, "patterns that match nothing any more are dropped"
    chosen = {c for c in everything if c[0] == "linear" and c[2] in ("clean", "noise", "pgd(steps=5)")}
    assert cells(suite, registry) == chosen
    assert again(suite, registry) == suite
    assert again(load(BASE + transfer, only="*/clean"), registry).attacks == ()


def test_selected_cells_are_the_cells_of_the_whole(load, registry):
    whole = {c.id for c in make_plan(load(BASE), registry).cells}
    part = {c.id for c in make_plan(load(BASE, only="*/fgsm"), registry).cells}
    assert part < whole


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("birqa*/pgd*", "no metric matches 'birqa*'. This suite has: linear, psnr."),
        ("*/cw", "no attack matches 'cw'. This suite has: noise, fgsm, pgd(steps=5), clean."),
        ("psnr", "should be METRIC/ATTACK, such as 'birqa*/pgd*' or '*/pgd*'."),
        ("/pgd", "should be METRIC/ATTACK, such as 'birqa*/pgd*' or '*/pgd*'."),
        ("psnr/clean", "all of it is left out by the suite's 'exclude'. Change one of the two."),
    ],
)
def test_an_only_that_leaves_nothing(wrong, only, message):
    assert wrong(BASE + "exclude: [{metric: psnr}]\n", only=only) == [f"--only {only}: {message}"]


def test_on_the_command_line(tmp_path, toy_file, capsys):
    from harness.cli import main

    path = tmp_path / "suite.yaml"
    path.write_text(BASE)

    def call(command, *options):
        with pytest.raises(SystemExit) as end:
            main([command, str(path), "--plugin", str(toy_file), *options])
        return end.value.code, capsys.readouterr()

    out = ["--out", str(tmp_path / "run")]
    chosen = ["--set", "attacks.pgd.steps=2", "--only", "linear/pgd*", "--limit", "3", "--seed", "7"]
    code, printed = call("plan", *out, *chosen, "--json")
    labels = [row["cell"] for row in json.loads(printed.out)["cells"]]
    assert code == 0 and labels and all("pgd(steps=2)" in label or "clean" in label for label in labels), labels
    assert call("validate", "--json", *chosen)[0] == 0
    code, printed = call("validate", "--json", "--set", "sead=1", "--only", "x/y")
    assert code == 2 and json.loads(printed.out)["errors"][0].startswith("--set sead=1: unknown key")
    assert call("run", *out, *chosen, "--quiet", "--executor", "serial")[0] == 0
    saved = yaml.safe_load((tmp_path / "run" / "suite.yaml").read_text())
    assert saved["seed"] == 7 and saved["limit"] == 3 and len(saved["attacks"]) == 1


inner = st.recursive(
    st.none() | st.integers(-2, 5) | st.sampled_from(["fgsm", "pgd", "linear", "toy", "flip", "*", "linf"]),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "matrix", "steps", "metric", "attack", "eps", "label"]), part, max_size=3
        )
    ),
    max_leaves=8,
)
paths = st.lists(
    st.sampled_from(["attacks", "metrics", "budgets", "linf", "pgd", "0", "matrix", "steps", "x"]), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(
    value=st.dictionaries(st.sampled_from(["attacks", "metrics", "defenses", "exclude", "extends"]), inner, max_size=4),
    sets=st.lists(st.tuples(paths, inner), max_size=3),
)
def test_any_composition_validates_or_gives_located_errors(registry, tmp_path_factory, value, sets):
    path = tmp_path_factory.mktemp("any") / "suite.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(BASE), **value}))
    options = tuple(f"{'.'.join(keys)}={json.dumps(given)}" for keys, given in sets)
    try:
        suite = load_suite(path, registry, Overrides(sets=options))
    except LocatedError as error:
        assert all(line.startswith((f"{path}:", "--set ")) for line in error.lines), error.lines
    else:
        assert again(suite, registry) == suite


def test_fractions_in_labels_are_those_of_suites_and_their_old_spelling_is_understood(load):
    from harness.suite.conditions import fits

    sweep = BASE.replace("{name: pgd, steps: 5}", "{name: pgd, matrix: {steps: [5, 7], step_size: [1/255, 2/255]}}")
    new = load(sweep + 'exclude: [{attack: "pgd(steps=5, step_size=1/255)"}]\n')
    old = load(sweep + 'exclude: [{attack: "pgd(steps=5, step_size=1:255)"}]\n')
    assert new == old and "pgd(steps=7, step_size=1/255)" in {use.label for use in new.attacks}
    assert load(BASE.replace("steps: 5}", 'steps: 5, label: "a 2/255"}')).attacks[2].label == "a 2/255"
    for only in ("psnr/pgd(steps=7, step_size=1/255)", "p*/*7*1:255*"):
        assert [use.label for use in load(sweep, only=only).attacks] == ["pgd(steps=7, step_size=1/255)"]
    single = BASE.replace("steps: 5}", "step_size: 1/255}")
    respelt = load(single, sets=("attacks.pgd(step_size=1:255).steps=9",))
    assert respelt.attacks[2].label == "pgd(steps=9, step_size=1/255)"
    assert fits("pgd(step_size=1/255)", "pgd(step_size=1/255)") and fits("pgd(step_size=1/255)", "pgd*1:255*")
    assert not fits("pgd(step_size=1/255)", "pgd(step_size=2/255)")
