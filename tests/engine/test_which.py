"""What of a triplet is attacked, and in which precision: two keys of a suite, end to end on toy plugins."""

import numpy as np
import pytest
import torch

from harness.engine.scorer import Scorer
from harness.report.build import build_tables

TRIPLETS = """
name: which
datasets: [{name: toy_triplets, references: 6}]
metrics: [linear]
attacks: [fgsm, noise]
budgets: {linf: [4/255]}
"""
PAIRS = """
name: precision
datasets: [toy]
metrics: [ssim]
attacks: [pgd, guess]
budgets: {linf: [4/255]}
limit: 8
precision: bf16
"""


def records(result, **where):
    frame = result.data.records
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


@pytest.mark.parametrize(
    ("which", "attacked"),
    [
        ("preferred_down", lambda patch, preferred: patch == preferred),
        ("rejected_up", lambda patch, preferred: patch != preferred),
        ("p0", lambda patch, preferred: patch == 0),
    ],
)
def test_one_patch_of_a_triplet_is_attacked_as_it_is_beside_the_other(run_toy, tmp_path, which, attacked):
    both = run_toy(TRIPLETS, tmp_path / "both")
    result = run_toy(TRIPLETS + f"which: {which}\n", tmp_path / "one")
    rows = records(result, attack="fgsm").set_index("item")
    assert set(rows.index) == {f"t{i}#p{p}" for i in range(6) for p in (0, 1) if attacked(p, i % 2)}
    same = records(both, attack="fgsm").set_index("item").loc[rows.index]
    assert np.allclose(rows["attacked"], same["attacked"], atol=1e-6) and (rows["sign"] == same["sign"]).all()
    (shift,) = (table.frame for table in build_tables(result.data) if table.name == "shift")
    of_fgsm = shift[shift["attack"] == "fgsm"].iloc[0]
    pushed = (rows["attacked"] - rows["clean"]) * rows["sign"]
    sigma = records(both, attack="clean")["clean"].std(ddof=0)
    assert of_fgsm["direction"] == which
    assert of_fgsm["shift_over_sigma"] == pytest.approx(pushed.mean() / sigma, rel=1e-5)
    (two_afc,) = (table.frame for table in build_tables(result.data) if table.name == "two_afc")
    alone = run_toy(TRIPLETS.replace(", noise", "") + f"which: {which}\n", tmp_path / "alone")
    assert (alone.folder.report / "index.html").is_file(), "a figure without controls"
    row = two_afc[(two_afc["attack"] == "fgsm") & (two_afc["kind"] == "hard") & (two_afc["subset"] == "all")].iloc[0]
    quality = records(result, attack="clean").set_index("item")["clean"].copy()
    quality[rows.index] = rows["attacked"]
    right = [(quality[f"t{i}#p1"] > quality[f"t{i}#p0"]) == bool(i % 2) for i in range(6)]
    assert row["attacked"] == which.replace("_", " ") and row["accuracy"] == pytest.approx(np.mean(right))


def test_white_box_attacks_search_in_bf16_and_are_scored_in_fp32(run_toy, tmp_path):
    seen = []
    scored = Scorer.quality

    def spy(self, reference, dist, *, inspect=False):
        seen.append((dist.requires_grad, torch.is_autocast_enabled("cpu")))
        return scored(self, reference, dist, inspect=inspect)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scorer, "quality", spy)
        result = run_toy(PAIRS, tmp_path / "run")
    assert {autocast for gradient, autocast in seen if gradient} == {True}
    assert {autocast for gradient, autocast in seen if not gradient} == {False}
    assert "searched in bf16" in build_tables(result.data)[0].protocol
    plain = records(run_toy(PAIRS.replace("bf16", "fp32"), tmp_path / "plain"), attack="pgd")
    moved = records(result, attack="pgd")
    push = [((rows["attacked"] - rows["clean"]) * rows["sign"]).mean() for rows in (moved, plain)]
    assert push[0] == pytest.approx(push[1], rel=0.05), "ssim has no operation that autocast rounds much"
