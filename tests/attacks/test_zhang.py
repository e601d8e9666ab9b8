"""Zhang: the optimum without its fidelity term, autograd's sum of both with it, and fidelity of either direction."""

import pytest
import torch

from harness.contracts import Metric, UserError
from harness.plugins.weights.locate import read_manifest
from harness.suite.planning import make_plan
from harness.testing import check_attack
from harness.testing.common import image_pairs

EPS = 8 / 255


@pytest.mark.parametrize("sign", [1, -1])
def test_optimum_of_a_linear_metric_without_the_fidelity_term(strike, linear, pairs, sign):
    ref, dist = pairs[0], pairs[1].clone()
    dist[:, :, :4], dist[:, :, 4:8] = 0.01, 1.0
    run = strike("zhang", {"weight": 0.0}, linear, (ref, dist), eps=EPS, sign=sign)
    assert torch.allclose(run.gain, linear.optimum(dist, "linf", EPS, sign), rtol=1e-5)
    assert run.objective.ledger.backwards.tolist() == [10] * 4, "the fidelity term is not the scorer's work"


@pytest.mark.parametrize(("fidelity", "change"), [("ssim", lambda s: 1 - s), ("gmsd", lambda s: s)])
def test_equals_autograd_on_the_sum_of_both_terms(strike, curved, pairs, fidelity, change):
    """J / range - 2 D as one graph, and Adam from its paper."""
    ref, dist = pairs
    metric = strike.build(fidelity)
    encoded, faithful = curved.encode(ref), metric.encode(dist)
    expected, mean, square = dist.clone(), 0.0, 0.0
    for t in range(1, 7):
        leaf = expected.clone().requires_grad_(True)
        value = -curved.score(encoded, leaf) / 0.01 - 2 * change(metric.score(faithful, leaf))
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        slope = slope.nan_to_num(0.0)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope.square()
        step = 0.005 * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-20)
        expected = torch.minimum(torch.maximum(expected + step, dist - EPS), dist + EPS).clamp(0, 1)
    run = strike("zhang", {"fidelity": fidelity, "weight": 2.0, "steps": 6}, curved, pairs, eps=EPS, scale=0.01)
    assert ((run.images - expected).abs() < 1e-4).float().mean() >= 0.99


@pytest.mark.parametrize("fidelity", ["ssim", "gmsd", "psnr", "vifp"])
def test_a_heavier_term_keeps_more_fidelity(strike, curved, fidelity):
    pair = image_pairs(48, 48)
    metric = strike.build(fidelity)
    kept = []
    for weight in (0.0, 30.0):
        run = strike("zhang", {"fidelity": fidelity, "weight": weight}, curved, pair, eps=EPS, sign=-1, scale=0.05)
        score = metric.score(metric.encode(pair[1]), run.images)
        kept.append(score if metric.higher_is_better else -score)
    assert (kept[1] > kept[0]).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_moves_the_score_of_a_curved_metric(strike, curved, pairs, sign):
    gains = [strike("zhang", {}, curved, pairs, eps=eps, sign=sign, scale=0.01).gain for eps in (0.005, 0.01, 0.03)]
    assert (gains[0] > 0).all() and (gains[1] >= gains[0]).all() and (gains[2] >= gains[1]).all()


class _Endless(Metric):
    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1).log()


@pytest.mark.parametrize(
    ("fidelity", "message"),
    [("stairs", "'stairs' is not differentiable"), ("endless", "'endless' has no finite score"), ("ssimm", "'ssimm'")],
)
def test_a_fidelity_that_cannot_be_followed_is_refused(strike, curved, pairs, monkeypatch, fidelity, message):
    monkeypatch.setitem(strike.built, "endless", _Endless())
    with pytest.raises(UserError, match=message):
        strike("zhang", {"fidelity": fidelity}, curved, pairs)


def test_images_too_small_for_the_fidelity_metric_are_refused(strike, curved):
    with pytest.raises(UserError, match="'ssim' needs images of at least 11 px a side, and these have 12 x 8"):
        strike("zhang", {}, curved, image_pairs(8, 12))


def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, linear):
    same_in_any_batch("zhang", {"steps": 5}, linear, eps=0.1)


def test_the_host_waits_at_no_step(strike, curved, pairs, fetches):
    strike("zhang", {"steps": 1}, curved, pairs)
    few = len(fetches)
    strike("zhang", {"steps": 5}, curved, pairs)
    assert len(fetches) == 2 * few


def test_keeps_its_contract(registry, strike):
    check_attack(registry.attack("zhang").build({"steps": 2}), size=12, build=strike.build)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps should be at least 1"),
        ({"rate": 0.0}, "rate should be above 0"),
        ({"weight": -1.0}, "weight should be at least 0"),
        ({"weight": float("inf")}, "weight should be at least 0"),
        ({"fidelity": ""}, "fidelity should be the name of a metric"),
    ],
)
def test_bad_values_are_refused(registry, wrong, message):
    with pytest.raises(ValueError, match=message):
        registry.attack("zhang").build(wrong)


SUITE = """
name: a
datasets: [toy]
metrics: [linear]
attacks: [fgsm, {name: zhang, fidelity: FIDELITY}]
budgets: {linf: [8/255]}
directions: [up]
"""


def plan_of(registry, suite_of, fidelity):
    plan = make_plan(suite_of(SUITE.replace("FIDELITY", fidelity)), registry)
    return {cell.attack.name: cell for cell in plan.cells if cell.attack}


def test_what_decides_the_fidelity_metric_is_part_of_identity(registry, suite_of, monkeypatch):
    before = plan_of(registry, suite_of, "ssim")
    monkeypatch.setattr(registry.metric("ssim").cls, "version", 7)
    after = plan_of(registry, suite_of, "ssim")
    assert after["fgsm"].id == before["fgsm"].id and after["zhang"].id != before["zhang"].id
    assert "metrics" not in after["fgsm"].attack.identity()
    (ssim,) = after["zhang"].attack.identity()["metrics"]
    assert (ssim["name"], ssim["version"], ssim["weights"]) == ("ssim", 7, "")


def test_code_and_weights_of_the_fidelity_metric_are_part_of_identity(registry, suite_of):
    (mse,) = plan_of(registry, suite_of, "negative_mse")["zhang"].attack.identity()["metrics"]
    assert mse["code"] == registry.metric("negative_mse").code and len(mse["code"]) == 64
    (tiny,) = plan_of(registry, suite_of, "birqa-tiny")["zhang"].attack.identity()["metrics"]
    assert tiny["weights"] == read_manifest()["birqa-tiny"]["sha256"]
