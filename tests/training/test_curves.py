"""Curves of trainings: what is read of their logs, what it comes to, and which pictures there are."""

import json

import pandas as pd
import pytest

from harness.cli import main
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


@pytest.fixture
def anchored(tmp_path):
    """A training whose hinge falls because its output does, and whose bound does not care."""
    figures = {"anchor_error": 0.1, "coverage": 0.25, "worst": 0.3, "bound": 0.45, "hinge_max": 0.02}
    rows = [step(t, 0.9 - 0.8 * t / 99, hinge_top=1 - t / 100, **figures) for t in range(100)]
    log(tmp_path / "aat", rows)
    robust = {"shift_up": 0.5, "shift_down": -1.0, "pair": 0.25}
    history = [{"step": t, "figure": 0.9, "spread": 0.1, "loss": None, "collapsed": True, **robust} for t in (0, 99)]
    log(tmp_path / "aat", history, "history.jsonl")
    return tmp_path / "aat"


def test_what_a_training_came_to(anchored):
    (one,) = read_curves([anchored])
    found = summary_of_curves(one)
    assert found["steps"] == 100 and found["hinge_first"] == pytest.approx(0.905)
    assert (
        found["hinge_last"] == pytest.approx(0.105)
        and found["collapsed"]
        and found["spread_last"] == pytest.approx(0.1)
    )
    assert (found["bounds"], found["violated"]) == (100, 0), "the worked example: .1 + .25 + 10 x .01 = .45 holds"
    assert found["seconds"] == pytest.approx(40) and found["attack_share"] == pytest.approx(0.75)
    assert found["pair"] == 0.25


def test_a_violation_is_more_than_rounding():
    assert violations([509.02750, 0.5, 0.45 + 1e-6], [509.02747, 0.45, 0.45]) == 1


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
    assert steps.groupby("run").size().to_dict() == {"aat": 100, "plain/seed-0": 3, "plain/seed-1": 1}
    assert steps["worst"].notna().sum() == 100 and steps["mse"].notna().sum() == 4


def test_a_plain_recipe_has_no_figure_5_and_an_older_run_no_steps(tmp_path, capsys):
    log(tmp_path / "clean", [step(t, mse=0.5) for t in range(3)])
    validation = {"figure": 0.9, "spread": 1.0, "loss": 0.5, "collapsed": False}
    log(tmp_path / "old", [{"step": t, **validation} for t in (0, 5)], "history.jsonl")
    for name, expected in (("clean", ["training.png", "steps.csv"]), ("old", ["validation.png", "history.csv"])):
        with pytest.raises(SystemExit) as end:
            main(["curves", str(tmp_path / name)])
        assert not end.value.code
        assert sorted(path.name for path in (tmp_path / name / "curves").iterdir()) == sorted(expected)
    assert "bound" not in capsys.readouterr().err


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
