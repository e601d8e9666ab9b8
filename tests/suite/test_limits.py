"""What is too large is said in one message with the cure, before it fills memory or hours."""

from pathlib import Path

import pytest

from harness import flow
from harness.cli import main
from harness.errors import UserError
from harness.rng import HIGHEST_SEED
from harness.suite import planning, resolve, strict_yaml
from harness.suite.planning import cell_count, make_plan, many_cells
from harness.suite.resolve import load_suite
from harness.suite.strict_yaml import LocatedError, parse, parse_text

GOOD = "name: toy\ndatasets: [toy]\nmetrics: [linear]\nattacks: [fgsm]\nbudgets: {linf: [8/255]}\n"


def refused(text):
    with pytest.raises(LocatedError) as caught:
        parse_text(text, "x.yaml")
    (line,) = caught.value.lines
    return line


def test_a_file_of_more_than_a_megabyte(tmp_path, registry):
    path = tmp_path / "large.yaml"
    path.write_text(GOOD + "#" * (1_000_000 - len(GOOD)))
    assert load_suite(path, registry).name == "toy", "a megabyte to the byte is read"
    path.write_text(GOOD + "#" * (1_000_001 - len(GOOD)))
    with pytest.raises(UserError, match=r"large\.yaml: larger than 1 MB, the most .* 'matrix' or 'extends', or split"):
        parse(path)
    with pytest.raises(UserError, match="larger than 1 MB"):
        parse(Path("/dev/zero"))


@pytest.mark.parametrize("brackets", [51, 300, 100_000])
def test_levels_in_one_another(brackets):
    deep = "[" * brackets + "]" * brackets
    assert (
        refused(f"a: {deep}") == "x.yaml:1:54: not valid YAML: more than 50 levels in one another. Write fewer levels."
    )
    assert parse_text("a: " + "[" * 48 + "1" + "]" * 48, "x.yaml").value


def test_levels_by_aliases():
    steps = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
    assert refused(f"a0: &a0 [1]\n{steps}").endswith("more than 50 levels in one another. Write fewer levels.")


def test_a_thousand_problems_and_more(suite_of, monkeypatch):
    assert strict_yaml.MOST_PROBLEMS == 1000
    for module in (strict_yaml, resolve):
        monkeypatch.setattr(module, "MOST_PROBLEMS", 100)
    with pytest.raises(LocatedError) as caught:
        suite_of(GOOD.replace("[linear]", f"[{', '.join(f'lineer{i}' for i in range(120))}]"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 51 and lines[-1] == "... and at least 50 more. Mend these first."
    assert "metrics.0.name: unknown metric 'lineer0'" in lines[0]
    assert len(caught.value.lines) == 100, "the rest was not read"


def test_the_number_of_problems_is_that_of_all(tmp_path, capsys, toy_file):
    path = tmp_path / "many.yaml"
    path.write_text(GOOD.replace("[linear]", f"[{', '.join(f'lineer{i}' for i in range(60))}]"))
    with pytest.raises(SystemExit):
        main(["validate", str(path), "--plugin", str(toy_file)])
    assert "\nerror: 60 problems:\n" in capsys.readouterr().err


def test_a_label_that_parameters_make_too_long(suite_of):
    chain = ", ".join(f"{{name: jpeg, quality: {i}}}" for i in range(30, 39))
    with pytest.raises(
        LocatedError, match=r"its parameters make a label of 152 characters, and at most 120 .* 'label:'"
    ):
        suite_of(GOOD + f"defenses: [[{chain}]]\n")
    assert suite_of(GOOD + f"defenses: [{{chain: [{chain}], label: nine}}]\n").defenses[0].label == "nine"


@pytest.mark.parametrize("text", ["18446744073709551616", "9" * 23, "9" * 5000])
def test_a_whole_number_that_no_generator_takes(text):
    (problem,) = parse_text(f"seed: {text}", "x.yaml").problems
    assert problem.message.startswith(f"should be at most {HIGHEST_SEED}, got ") and len(problem.message) < 140
    assert parse_text(f"seed: {HIGHEST_SEED}", "x.yaml").value == {"seed": HIGHEST_SEED}
    (problem,) = parse_text(f"seed: -{text}", "x.yaml").problems
    assert problem.message.startswith(f"should be at least -{HIGHEST_SEED}, got ")


def test_the_largest_seed_runs(run_toy, tmp_path):
    assert not run_toy(GOOD + f"seed: {HIGHEST_SEED}\nlimit: 2\n", tmp_path / "run").failures


def test_cells_are_counted_before_they_are_planned(suite_of, registry, monkeypatch):
    suite = suite_of(
        GOOD.replace("[fgsm]", "[{name: pgd, matrix: {steps: [1, 2, 3]}}, noise]").replace("[8/255]", "[1/255, 2/255]")
        + "directions: [up, down]\ntables: [shift]\nverdicts: false\nexclude: [{attack: 'pgd(steps=3)', eps: 1/255}]\n"
    )
    count = len(make_plan(suite, registry).cells)
    assert count == 1 + 3 * 2 * 2 - 2 + 2 and cell_count(suite, 1000) == count
    assert not many_cells(suite)
    monkeypatch.setattr(planning, "MOST_CELLS", count - 1)
    with pytest.raises(UserError, match=r"toy: more than 12 cells, which cannot be planned at once\. Take fewer"):
        make_plan(suite, registry)


def test_very_many_cells_are_run_when_that_is_meant(tmp_path, capsys, toy_file, monkeypatch):
    for module in (planning, flow):
        monkeypatch.setattr(module, "MOST_UNASKED", 2)
    path = tmp_path / "toy.yaml"
    path.write_text(GOOD + "limit: 2\ndirections: [up, down]\nverdicts: false\n")
    options = [str(path), "--plugin", str(toy_file), "--out", str(tmp_path / "run")]

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*arguments, *options])
        return end.value.code or 0, capsys.readouterr()

    code, said = call("plan")
    assert code == 0 and "More than 2 cells: 'robustiqa run' asks for --yes." in said.out
    code, said = call("run", "--executor", "serial", "-q")
    assert code == 2 and not (tmp_path / "run").exists()
    assert "\nerror: toy: more than 2 cells. Say --yes (yes=True in Python)" in said.err
    assert call("run", "--executor", "serial", "-q", "--no-probes", "--yes")[0] == 0


def test_more_cells_than_anyone_means_are_counted_at_once(suite_of):
    many = ", ".join(str(i) for i in range(1, 31))
    radii = ", ".join(f"{i}/255000" for i in range(1, 2001))
    suite = suite_of(GOOD.replace("[fgsm]", f"[{{name: pgd, matrix: {{steps: [{many}]}}}}]").replace("8/255", radii))
    assert 100_000 < cell_count(suite, 100_000) <= cell_count(suite, 10**9) == 120_001
    assert many_cells(suite)
