"""The comparison of recipes: its files, label scales, the choice of the rate and what is dropped, by hand-made figures."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.plugins.registry import Registry
from harness.plugins.weights.locate import zoo
from harness.report.arrays import FURTHEST
from harness.statistics.bootstrap import weightings

ROOT = Path(__file__).parents[2]
MATRICES = sorted((ROOT / "suites" / "train").rglob("matrix.yaml"))
MINI = ROOT / "suites" / "train" / "defenses_mini" / "matrix.yaml"
NAMES = ("analysing", "cells", "declared", "evaluating", "planning", "training")


@pytest.fixture(scope="module")
def code():
    """The modules of benchmarks/matrix by name, which is a folder of scripts and no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks" / "matrix"))
        yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture
def work(code, tmp_path):
    return code["cells"].Work(code["declared"].read_matrix(MINI), tmp_path)


@pytest.mark.parametrize("path", MATRICES, ids=[path.parent.name for path in MATRICES])
def test_every_shipped_matrix_can_be_read(code, path):
    assert path.parent.name == code["declared"].read_matrix(path).name


def test_a_label_scale_is_an_affine_map_of_the_score(code, work):
    metric = Registry().metric("birqa-tiny").build({}).eval()
    weights = load_file(zoo() / "birqa-tiny.safetensors")
    ref, dist = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    found = []
    for state in (weights, code["cells"].on_scale(weights, work.matrix.head, (1.0, 5.0), (0.0, 100.0))):
        metric.load_state_dict(state)
        with torch.no_grad():
            found.append(float(metric(ref=ref, dist=dist)))
    assert found[1] == pytest.approx((found[0] - 1) * 25, abs=1e-3)


@pytest.mark.parametrize(
    ("srocc", "pair", "chosen"),
    [
        ((0.90, 0.90), (0.1, 0.2), 0.003),  # both keep the SROCC of the base, .9, but for .05
        ((0.90, 0.84), (0.1, 0.2), 0.001),
        ((0.80, 0.84), (0.1, 0.2), 0.001),  # none does: the lowest
    ],
)
def test_the_rate_is_chosen_by_the_declared_rule(code, work, srocc, pair, chosen):
    rate = work.matrix.rate.model_copy(update={"grid": [1e-3, 3e-3], "arms": ["r", "mix"], "may_lose": 0.05})
    work = code["cells"].Work(work.matrix.model_copy(update={"rate": rate}), work.folder)
    found = {}
    for value, lowest, mean in zip(rate.grid, srocc, pair, strict=True):
        found[f"rate-{value:g}-r"] = {"srocc": 0.95, "pair": mean + 0.05}
        found[f"rate-{value:g}-mix"] = {"srocc": lowest, "pair": mean - 0.05}
    code["training"].choose_rate(work, found, {"srocc": 0.9})
    assert json.loads((work.folder / code["cells"].CHOICE).read_text())["learning_rate"] == chosen


@pytest.mark.parametrize(
    ("minutes", "dropped"),
    [(None, []), (2.5, []), (2.0, ["check/mix"]), (1.4, ["check/mix", "check/r", "r@1"])],
)
def test_what_does_not_fit_is_dropped_in_the_declared_order(code, work, monkeypatch, minutes, dropped):
    costs = dict.fromkeys(("r@0", "r@1", "mix@0", "check/r", "check/mix"), 60.0)
    monkeypatch.setattr(code["planning"], "_costs", lambda work: costs.items())
    work = code["cells"].Work(work.matrix.model_copy(update={"drop": ["check/*", "r@*"]}), work.folder)
    code["planning"].plan(work, minutes)
    assert list(code["cells"].Work(work.matrix, work.folder).dropped) == dropped
    cells = [cell.name for cell in code["cells"].Work(work.matrix, work.folder).cells()]
    assert ("r@1" in cells) == ("r@1" not in dropped)


def test_the_figures_of_an_arm_on_four_images_by_hand(code):
    analysing = code["analysing"]
    opinion, codes = np.array([0.0, 0.4, 0.6, 1.0]), np.arange(4)
    images = analysing.Images(opinion, codes, 4, weightings(codes), np.array([1.0, 1.0, -1.0, -1.0]), "image")
    reached = {
        (FURTHEST, "up"): [4.0, 3.0, 7.0, 6.0],
        (FURTHEST, "down"): [0.0, 1.5, 1.0, 4.5],
        ("fgsm", "up"): [4.0, 3.0, 2.0, 1.0],
        ("restore", ""): [2.0, 3.5, 4.0, 4.5],
        ("noise", ""): [0.5, 1.5, 2.5, 4.0],
    }
    clean = np.array([1.0, 2.0, 3.0, 5.0])
    outcome = analysing.Outcome(clean, {key: np.array(values) for key, values in reached.items()}, (1.0, 5.0))
    found = {name: value for name, (value, _) in analysing.figures(images, outcome).items()}
    sigma = np.std(clean)
    assert found == pytest.approx(
        {
            "clean SROCC": 1.0,
            "std ratio": sigma / np.std(1 + 4 * opinion),
            "shift/σ up": 2.25 / sigma,
            "restore/σ": 0.75 / sigma,
            "shift/σ down": -1.0 / sigma,
            "noise/σ": -0.625 / sigma,
            "SROCC up": 0.6,
            "SROCC down": 0.8,
            "SROCC mos_split": 0.2,
            "SROCC up, honest": 1.0,
            "SROCC down, honest": 1.0,
            "SROCC mos_split, honest": 0.8,
            "SROCC FGSM up": -1.0,
            "pair accuracy, attacked": 2 / 6,
            "pair accuracy, attacked, labels far apart": 2 / 5,
            "pair accuracy, honest": 3.5 / 6,
            "pair accuracy, clean": 1.0,
        }
    )
