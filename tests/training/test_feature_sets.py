"""Sets of features for Figure 4: how many there are by the paper, and that what is done is not done again."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.training.feature_sets import FeatureRuns, each_missing, feature_sets, read_feature_sets

PAPER = Path(__file__).parents[2] / "suites" / "paper"


def test_the_papers_sets_are_counted_as_the_paper_counts_them():
    """Appendix B: 11, 55 and 165 models, then 70 of the remaining eight; and its three checks."""
    sets = feature_sets(read_feature_sets(PAPER / "figure4.yaml"))
    assert Counter(one.kind for one in sets) == {
        "1": 11,
        "2": 55,
        "3": 165,
        "4": 70,
        "raw": 1,
        "raw + 4": 1,
        "fifth": 7,
    }
    assert len({frozenset(one.names) for one in sets}) == 310
    dropped = {"saliency", "wavelet", "entropy"}
    assert not any(dropped & set(one.names) for one in sets if one.kind == "4")
    assert len(feature_sets(read_feature_sets(PAPER / "figure4_mini.yaml"))) == 8


@pytest.fixture
def tiny(recipe, tmp_path):
    """Two sets of features on a toy, two steps each."""
    changes = "[dataset.side=64, steps=2, batch=4, evaluate_every=2]"
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"name: tiny\nrecipe: {recipe('stripes', metric='birqa-tiny')}\nchanges: {changes}\nfeatures: [ssim, color]\nsizes: [1]\n"
        "chosen: [ssim, color]\nraw: false\ntiming: {width: 64, height: 64, forwards: 2, warmup: 0}\n"
    )
    return path


def test_what_is_trained_and_timed_is_not_done_again(tiny, plugins, tmp_path, capsys):
    more = [f"--plugin={plugin}" for plugin in plugins]
    with pytest.raises(SystemExit) as end:
        main(["features", str(tiny), "--out", str(tmp_path / "out"), "--limit", "1", *more])
    assert not end.value.code, capsys.readouterr()
    frame = pd.read_csv(tmp_path / "out" / "features.csv")
    assert list(frame["set"]) == ["ssim"] and frame[["srocc", "fps"]].notna().all(axis=None)
    summary = json.loads((tmp_path / "out" / "training" / "ssim" / "summary.json").read_text())
    assert frame["srocc"][0] == pytest.approx(summary["validation"]["mean"])
    assert (tmp_path / "out" / "figure4.png").read_bytes().startswith(b"\x89PNG")
    runs = FeatureRuns(tiny, tmp_path / "out", "cpu", plugins)
    assert [runs.trained(one) is not None for one in runs.sets] == [True, False]
    assert [runs.timed(one) is not None for one in runs.sets] == [True, False]
    did = [(one.label, what) for one, what in each_missing(runs, speed=False)]
    assert did == [("color", "trained")] and not list(each_missing(runs, speed=False))
    tiny.write_text(tiny.read_text().replace("forwards: 2", "forwards: 3").replace("steps=2", "steps=3"))
    runs = FeatureRuns(tiny, tmp_path / "out", "cpu", plugins)
    assert not any(runs.timed(one) or runs.trained(one) for one in runs.sets), "another protocol, another recipe"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("chosen: [ssim, color]", "chosen: [ssim, lbp]", "lacks lbp"),
        ("features: [ssim, color]", "features: [ssim, ssim, color]", "each feature once"),
        ("features: [ssim, color]", "features: [ssim, color, colour]", "colour"),
        ("raw: false", "raws: false", "raws"),
        ("changes: [", "changes: [metric.name=constant, ", "features"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_before_anything_is_trained(tiny, plugins, tmp_path, old, new, words):
    tiny.write_text(tiny.read_text().replace(old, new))
    with pytest.raises(UserError, match=words):
        FeatureRuns(tiny, tmp_path / "out", "cpu", plugins)
    assert not (tmp_path / "out").exists()
