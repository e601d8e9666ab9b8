"""What a training must not do: write diverged weights, falsify another's record, or overwrite another's weights."""

import json
import multiprocessing

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.errors import UserError
from harness.training import preview, train
from harness.training.finite_json import finite_json
from harness.training.measures import Validation, validation
from harness.training.measures import tested as figures_of
from harness.training.output import list_weights

CHECKPOINT = "checkpoint.safetensors"


def test_a_diverged_training_writes_no_weights(recipe, plugins, tmp_path):
    sets = ["learning_rate=1e30", "steps=1"]
    with pytest.raises(UserError, match=r"not finite at step 1.*no weights are written\. Give a lower learning rate"):
        train(recipe("d"), tmp_path / "run", plugins=plugins, sets=sets)
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_test_scores_that_are_not_finite_are_no_figures(recipe, plugins, tmp_path, monkeypatch):
    from harness.training import trainer

    scored = trainer.qualities

    def broken(metric, entries, images, device):
        found = scored(metric, entries, images, device)
        return found * np.nan if entries[0].reference_id == "r0" else found  # the test split's

    monkeypatch.setattr(trainer, "qualities", broken)
    with pytest.raises(UserError, match=r"test scores are not finite at step [246]"):
        train(recipe("t"), tmp_path / "run", plugins=plugins, sets=["dataset.test=test"])
    assert not (tmp_path / "t").exists()


def test_constant_predictions_rank_nothing_whatever_their_rounding(recipe):
    from harness.contracts import Entry
    from harness.training.recipe_file import read_recipe

    entries = [Entry(str(i), "r", opinion=i / 6) for i in range(7)]
    quality = np.full((7, 1), 0.1, dtype=np.float32)  # the mean of these is not 0.1 in 32 bits
    assert validation(quality, entries, read_recipe(recipe("c")), None)[0] == 0.0
    found = figures_of(quality, entries)
    assert (found["srocc"], found["plcc"]) == (0.0, 0.0)


def test_records_have_null_for_what_is_no_number():
    point = Validation(2, float("nan"), 1.5, float("inf"), True)
    assert json.loads(finite_json({"a": [point], "b": point._asdict()}), parse_constant=pytest.fail) == {
        "a": [[2, None, 1.5, None, True, None, None, None]],
        "b": {"step": 2, "figure": None, "spread": 1.5, "loss": None, "collapsed": True}
        | dict.fromkeys(("shift_up", "shift_down", "pair")),
    }


def test_a_loss_that_is_no_number_survives_a_checkpoint(tmp_path):
    from harness.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint

    history = (Validation(2, 0.5, 1.0, float("nan"), False),)
    save_checkpoint(tmp_path, Checkpoint("i", 2, history, 1.0, {"w": torch.ones(1)}, {}, {}, {}, {}))
    (point,) = read_checkpoint(tmp_path, "i").history
    assert np.isnan(point.loss) and point[:3] == (2, 0.5, 1.0)


def test_a_damaged_checkpoint_is_told_and_counts_as_none(tmp_path, capsys):
    from harness.training.checkpoint import Checkpoint, read_checkpoint, refuse_another, save_checkpoint

    save_checkpoint(
        tmp_path, Checkpoint("i", 2, (), 1.0, {"w": torch.ones(3)}, {}, {}, {}, {0: {"step": torch.ones(1)}})
    )
    content, rng = (tmp_path / CHECKPOINT).read_bytes(), np.random.default_rng(0)
    assert read_checkpoint(tmp_path, "i").step == 2
    flipped = [bytearray(content) for _ in range(100)]
    for one, bit in zip(flipped, rng.choice(8 * len(content), len(flipped), replace=False), strict=True):
        one[bit // 8] ^= 1 << bit % 8
    for damaged in (*flipped, b"", content[:200], content + b"0"):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        assert read_checkpoint(tmp_path, "i") is None and refuse_another(tmp_path, "i") == {}
        assert capsys.readouterr().err.endswith("; the training begins anew.\n")


def test_a_checkpoint_without_a_seal_is_read_and_told(tmp_path, capsys):
    from harness.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint

    save_checkpoint(tmp_path, Checkpoint("i", 2, (), 1.0, {"w": torch.ones(3)}, {}, {}, {}, {}))
    assert read_checkpoint(tmp_path, "i").step == 2 and not capsys.readouterr().err
    with safe_open(tmp_path / CHECKPOINT, "pt") as stored:
        figures = json.loads(stored.metadata()["training"])
    older = json.dumps({key: value for key, value in figures.items() if key != "sealed-sha256"})
    save_file(load_file(tmp_path / CHECKPOINT), tmp_path / CHECKPOINT, {"training": older})
    assert read_checkpoint(tmp_path, "i").step == 2
    assert capsys.readouterr().err.count("carries no seal") == 1


@pytest.mark.parametrize("extra", ["", "seeds: 2\n"])
def test_a_refused_call_leaves_the_run_folder_as_it_was(recipe, plugins, tmp_path, extra):
    short = ["steps=2", "batch=2"]
    train(recipe("one", extra), tmp_path / "run", plugins=plugins, sets=short)
    for path in tmp_path.glob("run/seed-0/*"):  # the first member alone would begin anew
        path.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for call in (train, preview):
        with pytest.raises(UserError, match="holds a run of another recipe or data set"):
            call(recipe("one", extra), tmp_path / "run", plugins=plugins, sets=["steps=3", "batch=2"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_no_checkpoint_is_told_before_anything_is_written(recipe, plugins, tmp_path):
    (tmp_path / "run").mkdir()
    save_file({"w": torch.ones(1)}, tmp_path / "run" / CHECKPOINT)  # no checkpoint's header
    with pytest.raises(UserError, match=rf"{CHECKPOINT}: no checkpoint .*Remove the file to begin anew"):
        train(recipe("one"), tmp_path / "run", plugins=plugins)
    assert not (tmp_path / "run" / "run.json").exists()


def test_weights_of_another_recipe_are_not_overwritten(recipe, plugins, tmp_path):
    path = recipe("one")
    short = ["steps=2", "batch=2"]
    first = train(path, tmp_path / "run", plugins=plugins, sets=short)
    heir = tmp_path / "heir.yaml"
    heir.write_text(f"extends: {path.name}\nname: heir\n")
    for call in (train, preview):
        with pytest.raises(UserError, match=r"lists 'weights', made by the recipe 'stripes', and 'heir' would overwr"):
            call(heir, tmp_path / "run-heir", plugins=plugins, sets=short)
    assert not (tmp_path / "run-heir").exists()
    # The same recipe may: again as it is, and with other settings in another run folder.
    assert train(path, tmp_path / "run", plugins=plugins, sets=short).sha256 == first.sha256
    other = train(path, tmp_path / "run-other", plugins=plugins, sets=["steps=3", "batch=2"])
    manifest = json.loads(other.weights.with_name("manifest.json").read_text())
    assert manifest["weights"]["sha256"] == other.sha256 != first.sha256
    assert set(load_file(other.weights)) == set(load_file(tmp_path / "one" / "weights.safetensors"))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"weights": {"parts": {}}}', r"lists 'weights', made by no recipe.*Give another `output`"),
        ('{"weights": ', r"manifest\.json: not valid JSON.*Restore the file"),
    ],
)
def test_the_manifest_is_looked_at_before_training(recipe, plugins, tmp_path, manifest, message):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=message):
        train(recipe("m"), tmp_path / "run", plugins=plugins)
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "m" / "manifest.json").read_text() == manifest


def test_trainings_that_end_at_once_all_find_their_entry(tmp_path):
    names = [f"w{i}" for i in range(4)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(names))
    writers = [context.Process(target=_list_often, args=(tmp_path, name, barrier)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * len(names)
    assert len(json.loads((tmp_path / "manifest.json").read_text())) == 10 * len(names)


def _list_often(folder, name, barrier):
    barrier.wait(30)
    for i in range(10):
        path = folder / f"{name}-{i}.safetensors"
        path.write_bytes(b"x")
        list_weights(path, {"metric": name})
