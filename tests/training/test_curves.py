"""Curves of trainings: what is read of their logs, what it comes to, and which pictures there are."""

import json

import pandas as pd
import pytest

from harness.cli import main
from harness.training import train
from harness.training.curve_figures import ANCHORED
from harness.training.curves import read_curves, summary_of_curves, violations
from harness.training.recipe_file import TrainingError


def log(folder, rows, name="steps.jsonl", end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows) + end)


def step(number, spread=0.9, **figures):
    times = {"forwards": 8, "backwards": 3, "attack_s": 0.3, "step_s": 0.4}
    return {
        "step": number,
        "loss": 1.0 / (number + 1),
        "figures": figures,
        "gradient_norm": 2.0,
        **times,
        "spread": spread,
    }


INNER = "recipe: {name: aat, anchors: 4, top: 2}\ninner: {name: pgd, steps: 1}\n"


@pytest.fixture
def anchored(recipe, plugins, tmp_path):
    """Three steps of anchored training, as the trainer logs them."""
    path = recipe("aat", "robust: {limit: 6, steps: 1}\nkeep: last\n", dataset="stripes, references: 9")
    text = path.read_text().replace("recipe: {name: clean, warm: 0.3}\n", INNER)
    path.write_text(text.replace("steps: 6\nbatch: 6", "steps: 3\nbatch: 16"))
    train(path, tmp_path / "run" / "aat", plugins=plugins)
    return tmp_path / "run" / "aat"


def test_the_bound_that_a_training_logs_is_that_of_its_own_parts(anchored):
    (one,) = read_curves([anchored])
    steps, found = one.steps, summary_of_curves(one)
    assert set(one.figures()) == {*ANCHORED, "mse", "plcc"}
    width = 0.05 * 4  # of labels from 1 to 5; the recipe has it in float32
    whole = steps["anchor_error"] + steps["spacing"] + width * steps["hinge_max"]
    assert steps["bound"].to_numpy() == pytest.approx(whole.to_numpy(), rel=1e-7)
    assert set(steps["coverage"]) == {1} and (steps["spacing"] < 4).all() and (steps["largest"] > 3).all()
    assert (found["steps"], found["bounds"], found["violated"]) == (3, 3, 0)
    assert found["hinge_last"] == pytest.approx(steps["hinge_top"].mean())
    assert found["pair"] == one.history["pair"].iloc[-1] and 0 < found["attack_share"] < 1


def test_ends_and_collapse_of_a_training(tmp_path):
    log(tmp_path, [step(t, 0.9 - 0.8 * t / 99, hinge_top=1 - t / 100) for t in range(100)])
    found = summary_of_curves(*read_curves([tmp_path]))
    ends = [found[name] for name in ("hinge_first", "hinge_last", "spread_last", "seconds", "attack_share")]
    assert ends == pytest.approx([0.905, 0.105, 0.1, 40, 0.75])
    assert found["collapsed"] and found["bounds"] == 0


def test_a_violation_is_more_than_rounding_of_the_largest_value():
    assert violations([0.45 + 1e-4, 0.45 + 1.1e-4, 0.45 + 1e-6], [0.45] * 3, [100, 100, 0.5]) == 1


def test_pictures_and_numbers_of_several_runs(anchored, tmp_path, capsys):
    log(tmp_path / "plain" / "seed-0", [step(t, None, mse=0.5) for t in range(3)])
    log(tmp_path / "plain" / "seed-1", [step(0, None, mse=0.5)], end='\n{"step": 1, "lo')
    with pytest.raises(SystemExit) as end:
        main(["curves", str(anchored), str(tmp_path / "plain"), "--out", str(tmp_path / "out"), "--json"])
    assert not end.value.code
    said = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in said["runs"]] == ["aat", "plain/seed-0", "plain/seed-1"]
    assert said["runs"][1]["hinge_last"] is None and said["runs"][2]["steps"] == 1, "a line being written is left out"
    names = ["training.png", "figure5a.png", "figure5b.png", "validation.png", "steps.csv", "history.csv"]
    assert [path.rpartition("/")[2] for path in said["files"]] == names
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names[:4])
    steps = pd.read_csv(tmp_path / "out" / "steps.csv")
    assert steps.groupby("run").size().to_dict() == {"aat": 3, "plain/seed-0": 3, "plain/seed-1": 1}
    assert steps["worst"].notna().sum() == 3 and steps["mse"].notna().sum() == 7


def test_a_plain_recipe_has_no_figure_5_and_an_older_run_no_steps(tmp_path):
    log(tmp_path / "clean", [step(t, mse=0.5) for t in range(3)])
    validation = {"figure": 0.9, "spread": 1.0, "loss": 0.5, "collapsed": False}
    log(tmp_path / "old", [{"step": t, **validation} for t in (0, 5)], "history.jsonl")
    for name, expected in (("clean", ["training.png", "steps.csv"]), ("old", ["validation.png", "history.csv"])):
        with pytest.raises(SystemExit) as end:
            main(["curves", str(tmp_path / name)])
        assert not end.value.code
        assert sorted(path.name for path in (tmp_path / name / "curves").iterdir()) == sorted(expected)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (None, "holds no training"),
        (['{"step": 0}', "[]", '{"step": 2}'], "steps.jsonl, line 2: no object"),
        (['{"step": 0}', '{"loss": 1}', "{}"], "line 2"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, lines, words):
    if lines is not None:
        (tmp_path / "steps.jsonl").write_text("\n".join(lines))
    with pytest.raises(TrainingError, match=words):
        read_curves([tmp_path])
