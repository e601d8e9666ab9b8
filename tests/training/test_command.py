"""`robustiqa train` on the command line: what it prints, where, and what it writes."""

import pytest

from harness.cli import main
from harness.plugins.build import build_metric
from harness.plugins.weights.locate import WeightFile
from harness.training.train import _notes


@pytest.fixture
def command(recipe, plugins, tmp_path, capsys):
    """Runs `train` on a recipe file with lines added; gives standard output and standard error."""

    def run(extra, *options):
        arguments = ["train", recipe("cmd", extra), "--out", tmp_path / "run", "--plugin", plugins[0], *options]
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert not end.value.code
        return capsys.readouterr()

    return run


def test_a_dry_run_says_what_would_be_trained(command, tmp_path):
    said = command("seeds: 2\n", "--dry-run", "--set", "dataset.test=test", "--set", "trainable=['heads.*']").out
    rows = [line.split("  ") for line in said.splitlines() if line.strip().startswith("seed-")]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [[f"seed-{i}", str(i), "16 of 2", "16 of 2", "16 of 2", "2.2"] for i in range(2)]
    assert "2 member(s) of at most 6 steps, 6 items a batch; untrained; 4 of 124 parameters trained." in said
    assert not (tmp_path / "run").exists() and not (tmp_path / "cmd").exists()


def test_several_members_are_tabled_with_mean_and_deviation(command):
    said = command("seeds: 2\n", "--set", "dataset.test=test")
    for words in ("val SROCC", "test SROCC", "test PLCC", "seed-0", "seed-1", "mean +- sd", "+- 0.", "sha256"):
        assert words in said.out
    assert "stripes seed-1: step 6/6" in said.err


def test_collapse_and_early_stop_are_in_the_last_line(command):
    said = command("patience: 1\n", "--set", "metric=constant", "--set", "steps=9").out
    assert "stopped early. COLLAPSED: its predictions hardly vary; do not use it." in said.replace("\n", " ")


def test_starting_from_weights_of_the_same_data_set_is_noted(tmp_path):
    from harness.training.recipe_file import read_recipe

    path = tmp_path / "r.yaml"
    path.write_text(
        "{name: x, metric: topiq, dataset: kadid10k, recipe: clean, steps: 1, batch: 1, learning_rate: 1, output: o}"
    )
    file = read_recipe(path)
    (note,) = _notes(file, WeightFile("topiq", path, "0"))
    assert "'topiq' were trained on kadid10k already" in note
    assert _notes(file, WeightFile("lpips-alex", path, "0")) == _notes(file, None) == []


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert "--dry-run" in said and "suites/train/paper/birqa_kadid10k.yaml" in said


def test_the_joined_metric_can_be_built_from_its_parameters_alone():
    assert len(build_metric("folds", {"metric": "birqa-tiny", "folds": 2, "references": 1}).members) == 2
