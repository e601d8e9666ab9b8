"""Distances and preferences: the affine link, and training on triplets."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.contracts import Metric
from harness.training import train
from harness.training.link import Linked
from harness.training.measures import validation


class _Mean(Metric):
    def __init__(self, higher_is_better=False):
        super().__init__()
        self.higher_is_better = higher_is_better

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)


def _batch(levels, **labels):
    images = torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return {"ref": images, "clean": images, **{key: torch.tensor(value) for key, value in labels.items()}}


def test_the_link_starts_at_the_least_squares_line():
    levels, target = [0.1, 0.2, 0.5, 0.9], [4.8, 4.1, 3.3, 1.2]
    link = Linked(_Mean()).requires_grad_(False)
    link.start(_batch(levels, target=target))
    slope, intercept = np.polyfit(levels, target, 1)
    assert float(link.a) == pytest.approx(intercept, abs=1e-4)
    assert -float(link.log_b.exp()) == pytest.approx(slope, abs=1e-4)
    batch = _batch(levels)
    assert torch.allclose(
        link(ref=batch["ref"], dist=batch["clean"]), intercept + slope * torch.tensor(levels), atol=1e-4
    )


def test_the_link_rises_with_quality_even_where_the_batch_says_otherwise():
    link = Linked(_Mean(higher_is_better=True)).requires_grad_(False)
    link.start(_batch([0.1, 0.5, 0.9], target=[5.0, 3.0, 1.0]))
    assert float(link.log_b.exp()) == pytest.approx(5.0, rel=1e-4)  # std(target) / std(score)


def test_the_slope_of_preferences_is_that_of_the_judges_logit():
    shares = torch.sigmoid(torch.tensor([2.0, -1.0, 0.4]))
    p0 = torch.full((3, 3, 2, 2), 0.5)
    p1 = p0 - torch.tensor([2.0, -1.0, 0.4]).view(-1, 1, 1, 1) / 8
    link = Linked(_Mean()).requires_grad_(False)
    link.start({"ref": p0, "p0": p0, "p1": p1, "judge": shares})
    assert float(link.log_b.exp()) == pytest.approx(8, rel=1e-4)
    assert float(link.a) == 0


def test_a_trained_link_is_in_the_manifest_and_not_in_the_weights(recipe, plugins, tmp_path):
    result = train(recipe("d"), tmp_path / "run", plugins=plugins)
    entry = json.loads((tmp_path / "d" / "manifest.json").read_text())["weights"]
    assert entry["link"]["b"] > 0
    assert all(key.startswith(("trunk.", "heads.")) for key in load_file(result.weights))
    checkpoint = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert float(checkpoint["best_link.a"]) == pytest.approx(entry["link"]["a"])
    other = train(recipe("u", metric="constant"), tmp_path / "run-u", plugins=plugins)
    entry = json.loads(other.weights.with_name("manifest.json").read_text())["weights"]
    assert "link" not in entry


def test_the_link_of_bands_of_labels_starts_from_all_labels(recipe, plugins, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(Linked, "start", lambda self, batch: started.append(batch["target"]))
    path = recipe("l", extra="inner: {name: pgd, steps: 1}\nkeep: last\n")
    sets = ["recipe={name: aat, band: 0.3, top: 2, anchors: 4}", "steps=1", "batch=8", "dataset.references=30"]
    train(path, tmp_path / "run", plugins=plugins, sets=sets)
    (labels,) = started
    assert len(labels) == 32 and float(labels.max() - labels.min()) > 0.9 * 4  # a band's are within .3 x 4


def test_preferences_train_a_distance_and_are_validated_by_hard_accuracy(recipe, plugins, tmp_path, capfd):
    path = recipe("pref", dataset="stripes_2afc", extra="trainable: ['heads.*']\nnonnegative: ['heads.*']\n")
    sets = ["recipe=preference", "dataset.test=test"]
    result = train(path, tmp_path / "run", plugins=plugins, sets=sets)
    assert result.summary["measure"] == "accuracy"
    assert result.summary["members"][0]["validation"]["accuracy"] == 1.0
    assert result.summary["members"][0]["test"] == {"accuracy": 1.0, "triplets": 24, "undecided": 0, "references": 2}
    entry = json.loads((tmp_path / "pref" / "manifest.json").read_text())["weights"]
    assert entry["trained_on"]["triplets"] == 24
    assert "validation 2AFC accuracy 1.0000" in capfd.readouterr().err
    losses = [point.loss for point in result.histories[0]]
    assert losses[-1] <= losses[0]


def test_split_judges_are_left_out_of_the_accuracy_and_constants_collapse():
    class Judged:
        def __init__(self, judge):
            self.judge = judge

    entries = [Judged(0.9), Judged(0.5), Judged(0.2), Judged(0.6)]
    quality = np.array([[0.0, 1.0], [0.0, 9.0], [0.0, 1.0], [0.5, 0.5]], dtype=np.float32)
    figure, _ = validation(quality, entries, None, None)
    assert figure == pytest.approx((1 + 0 + 0.5) / 3)
    figure, spread = validation(np.zeros((4, 2), dtype=np.float32), entries, None, None)
    assert (figure, spread) == (0.5, 0.0)
