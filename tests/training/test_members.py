"""Folds and seeds: members that resume, their summary, the joined weights, the leak check."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.contracts import fingerprint
from harness.errors import UserError
from harness.plugins.build import build_metric
from harness.plugins.registry import Registry
from harness.training import ImageCache, preview, train
from harness.training.measures import Validation, best_of, ran_out

TINY = {"metric": "{name: birqa-tiny, channels: 8, stem_channels: 4, head: 8}", "dataset": "stripes, side: 64"}


def test_killed_folds_go_on_and_end_with_the_same_bytes(recipe, plugins, tmp_path, killed_at, capfd):
    short = ["steps=3", "batch=4"]
    whole = train(recipe("whole", "folds: 3\n", **TINY), tmp_path / "run-whole", plugins=plugins, sets=short)
    for step in (1, 2):  # before the first checkpoint of the second member, and after it
        killed_at("fold-1", step)
        with pytest.raises(KeyboardInterrupt):
            train(recipe("again", "folds: 3\n", **TINY), tmp_path / "run-again", plugins=plugins, sets=short)
    assert not (tmp_path / "again").exists()
    again = train(recipe("again", "folds: 3\n", **TINY), tmp_path / "run-again", plugins=plugins, sets=short)
    assert "fold-0: was trained before" in capfd.readouterr().err
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    for file in ("summary.json", *(f"fold-{i}/weights.safetensors" for i in range(3))):
        assert (tmp_path / "run-again" / file).read_bytes() == (tmp_path / "run-whole" / file).read_bytes()

    entry = json.loads((tmp_path / "whole" / "manifest.json").read_text())["weights"]
    assert entry["metric"] == "folds"
    own = {"channels": 8, "stem_channels": 4, "head": 8}
    assert entry["parameters"] == {"metric": "birqa-tiny", "parameters": own, "folds": 3, "references": 6}
    assert [member["name"] for member in entry["members"]] == ["fold-0", "fold-1", "fold-2"]
    _judged_by_who_has_not_seen_it(whole, entry["parameters"], tmp_path / "run-whole", plugins)


def _judged_by_who_has_not_seen_it(whole, parameters, run, plugins):
    """Every reference's score by the joined metric is that of the fold that tests it, and its SROCC is the summary's."""
    joined = build_metric("folds", parameters).eval()
    joined.load_state_dict(load_file(whole.weights))
    plugin = Registry(plugins).dataset("stripes")
    for i in range(3):
        data = plugin.build({"side": 64, "folds": 3, "fold": i})
        member = build_metric("birqa-tiny", parameters["parameters"]).eval()
        member.load_state_dict(load_file(run / f"fold-{i}" / "weights.safetensors"))
        items = torch.stack([ImageCache(data, 0).item(entry) for entry in data.entries("test")])
        ref, dist = items.unbind(dim=1)
        with torch.no_grad():
            assert torch.allclose(joined(ref=ref, dist=dist), member(ref=ref, dist=dist), atol=1e-6)
        table = [bytes(row.tolist()) for row in joined.fingerprints]
        assert all(int(joined.held_out[table.index(fingerprint(image))]) == i for image in ref)


def test_seeds_are_members_and_the_best_on_validation_is_kept(recipe, plugins, tmp_path):
    path = recipe("s", "seeds: 3\nresplit: true\nseed: 5\n")
    result = train(path, tmp_path / "run", plugins=plugins, sets=["dataset.test=test"])
    members = result.summary["members"]
    assert [(member["name"], member["seed"]) for member in members] == [(f"seed-{i}", i) for i in (5, 6, 7)]
    figures = [member["validation"]["srocc"] for member in members]
    assert result.summary["validation"] == {
        "mean": pytest.approx(np.mean(figures)),
        "sd": pytest.approx(np.std(figures, ddof=1)),
    }
    tests = [member["test"]["srocc"] for member in members]
    assert result.summary["test"]["srocc"]["mean"] == pytest.approx(np.mean(tests))
    best = members[int(np.argmax(figures))]
    if not any(member["collapsed"] for member in members):
        assert result.summary["chosen"] == best["name"]
    chosen = tmp_path / "run" / result.summary["chosen"] / "weights.safetensors"
    assert result.weights.read_bytes() == chosen.read_bytes()
    record = json.loads((tmp_path / "run" / "run.json").read_text())["members"]
    assert [record[f"seed-{5 + i}"]["dataset"]["split_seed"] for i in range(3)] == [0, 1, 2]
    alone = train(recipe("one", "seed: 6\n"), tmp_path / "run-one", plugins=plugins, sets=["dataset.split_seed=1"])
    assert alone.weights.read_bytes() == (tmp_path / "run" / "seed-6" / "weights.safetensors").read_bytes()


def test_a_preview_trains_and_writes_nothing(recipe, plugins, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = preview(recipe("p", "seeds: 2\ntrainable: ['heads.*']\n"), plugins=plugins)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "p.yaml"])
    assert [member["name"] for member in found.members] == ["seed-0", "seed-1"]
    assert found.members[0]["splits"]["val"] == {"split": "val", "pairs": 16, "references": 2}
    assert found.members[0]["parameters"] == {"trained": 4, "all": 4 + 112 + 8}


@pytest.mark.parametrize(
    ("extra", "sets", "message"),
    [
        ("", ["dataset.shared=true"], "reference 'r6' is both in 'train', given as train, and in 'val', given as val"),
        ("", ["dataset.val=train"], "reference 'r2' is both in 'train', given as train, and in 'train', given as val"),
        ("", ["dataset.equal=true"], "split 'train': all labels are equal, which ranks nothing"),
        ("", ["dataset.name=mini", "folds=3"], "data set 'mini' has no parameter 'folds'.*Leave out `folds`"),
        ("seeds: 2\nresplit: true\n", ["dataset.name=mini"], "no parameter 'split_seed'.*Leave out `resplit`"),
        ("folds: 3\n", [], "the metric 'distance' comes from .*Make it a package"),
        ("folds: 3\n", ["seeds=2"], "'seeds' and 'folds' cannot be had together"),
        ("folds: 3\n", ["dataset.fold=1"], "the members of 'folds' have each a 'fold' of their own"),
        ("folds: 2\n", [], "folds: .*greater than or equal to 3"),
        ("trainable: ['head.*']\n", [], r"no parameter of 'distance' matches 'head\.\*'\. Did you mean 'heads\.\*'"),
        ("trainable: ['trunk.*']\nnonnegative: ['heads.*']\n", [], "nonnegative: no trained parameter"),
        ("", ["dataset.name=stripes_2afc"], "holds triplets, and the recipe 'clean' trains on pairs"),
        ("", ["dataset.split=3"], "'stripes' has no parameter 'split'"),
        ("", ["recipe.wram=0.3"], "'clean' has no parameter 'wram'. Did you mean 'warm'"),
        ("", ["recipe.name=claen"], "Did you mean 'clean'"),
        ("", ["dataset.val=vla"], "no split 'vla'. Did you mean 'val'"),
        ("", ["metric=psnr"], "nothing to train"),
        ("", ["metric.weights=gone.safetensors"], "gone.safetensors"),
        ("", ["stepz=3"], "--set stepz=3: unknown key 'stepz'. Did you mean 'steps'"),
    ],
)
def test_what_cannot_be_trained_is_told_before_a_step(recipe, plugins, tmp_path, extra, sets, message):
    with pytest.raises(UserError, match=message):
        train(recipe("bad", extra), tmp_path / "run", plugins=plugins, sets=sets)
    assert not (tmp_path / "run").exists()


def test_patience_counts_validations_after_the_first_best():
    def history(*figures):
        return [Validation(i, figure, 1.0, 0.0, False) for i, figure in enumerate(figures)]

    assert best_of(history(0.1, 0.3, 0.3)).step == 1
    assert best_of(history(float("nan"), 0.3)).step == 1
    fallen = Validation(2, 0.9, 0.05, 0.0, True, pair=0.5)
    assert best_of([*history(0.1, 0.3), fallen]).step == 1, "a constant is no choice while there is another"
    assert best_of([fallen]) is fallen
    assert not ran_out(history(0.1, 0.3, 0.2), 2)
    assert ran_out(history(0.1, 0.3, 0.2, 0.3), 2)
    assert not ran_out(history(0.3, 0.2, 0.1), None)
    assert not ran_out([], 1)
