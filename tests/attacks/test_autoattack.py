"""AutoAttack for a score: closed forms, worst case over its members, and a planted case for each of them."""

import pytest
import torch

from harness.contracts import Metric
from harness.testing import check_attack

EPS = 8 / 255
FEW = {"steps": 10, "queries": 30}


@pytest.mark.parametrize("sign", [1, -1])
def test_optimum_of_a_linear_metric(strike, linear, pairs, sign):
    ref, dist = pairs
    run = strike("autoattack", {**FEW, "steps": 30}, linear, pairs, norm="l2", eps=0.3, sign=sign)
    assert torch.allclose(run.gain, linear.optimum(dist, "l2", 0.3, sign), rtol=1e-4)
    dist = dist.clone()
    dist[:, :, :4], dist[:, :, 4:8] = 0.01, 1.0
    run = strike("autoattack", FEW, linear, (ref, dist), eps=EPS, sign=sign)
    assert torch.allclose(run.gain, linear.optimum(dist, "linf", EPS, sign), rtol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.5)])
def test_is_at_least_its_first_member_and_names_the_winner(strike, curved, pairs, norm, eps, sign):
    run = strike("autoattack", FEW, curved, pairs, norm=norm, eps=eps, sign=sign)
    apgd = strike("apgd", {"steps": 10}, curved, pairs, norm=norm, eps=eps, sign=sign)
    pgd = strike("pgd", {}, curved, pairs, norm=norm, eps=eps, sign=sign)
    assert (run.gain >= apgd.gain).all() and (run.gain >= 0.95 * pgd.gain).all() and (run.gain > 0).all()
    for member, gain, image, direct, alone in zip(
        run.objective.notes["member"], run.gain, run.images, apgd.gain, apgd.images, strict=True
    ):
        assert member in ("apgd", "restarts", "smoothed", "square", *(["reference"] if sign > 0 else []))
        assert torch.equal(image, alone) if member == "apgd" else gain > direct


def test_every_member_does_all_of_its_work(strike, linear, pairs):
    """Nothing stops early, though the first member has reached the optimum; counted by the ledger."""
    for sign, runs in ((1, 1 + 3 + 2 + 1), (-1, 1 + 3 + 2)):  # from the reference upwards alone
        run = strike("autoattack", {**FEW, "restarts": 3, "draws": 2}, linear, pairs, eps=EPS, sign=sign)
        objective = run.objective
        assert objective.ledger.backwards.tolist() == [11 * runs] * 4
        assert objective.ledger.forwards.tolist() == [11 * runs + 30 + 4 + (sign > 0)] * 4
    assert objective.notes["member"] == ["apgd"] * 4, "the first of equals"


class Mountain(Metric):
    """Minus the mean squared error: no slope where both images are equal."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1)


class Ridge(Metric):
    """Rises away from the reference, but for a narrow peak at it that no other start sees."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        squares = (dist - reference).square().flatten(1).mean(1)
        return squares + 1 / (1 + (squares * 255**2 * 100).square())


class Stepped(Metric):
    """Mean of the image's rounded values, with a slope of 0 everywhere: only looking helps."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return ((dist * 20).round() / 20 + 0 * dist).flatten(1).mean(1)


class Rough(Metric):
    """The mean of the image under ripples, small but three times as steep, so that most slopes mislead."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return (dist + 3 / 2000 * (2000 * dist).sin()).flatten(1).mean(1)


def test_the_reference_member_wins_where_ascent_from_the_image_goes_astray(strike, pairs):
    """A score with a ridge beside the image and its peak at the reference, which is in the ball."""
    ref = pairs[0]
    run = strike("autoattack", {**FEW, "queries": 1}, Ridge(), (ref, ref + 6 / 255), eps=EPS, sign=1)
    assert run.objective.notes["member"] == ["reference"] * 4
    assert torch.allclose(run.images, ref, atol=1e-6)


def test_square_wins_where_no_slope_says_anything(strike, pairs):
    run = strike("autoattack", {**FEW, "queries": 200}, Stepped(), pairs, eps=EPS)
    assert run.objective.notes["member"] == ["square"] * 4 and (run.gain > 0).all()


def test_the_smoothed_score_wins_where_the_slope_is_masked_by_ripples(strike, pairs):
    run = strike("autoattack", {**FEW, "steps": 40, "draws": 8, "restarts": 1}, Rough(), pairs, eps=EPS)
    plain = strike("apgd", {"steps": 40}, Rough(), pairs, eps=EPS)
    assert run.objective.notes["member"].count("smoothed") >= 3
    assert (run.gain > plain.gain).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, linear, norm):
    same_in_any_batch("autoattack", {"steps": 5, "queries": 10}, linear, norm=norm, eps=0.1)


def test_the_host_waits_at_no_step(strike, curved, pairs, fetches):
    strike("autoattack", {"steps": 1, "queries": 1}, curved, pairs)
    few = len(fetches)
    strike("autoattack", {"steps": 4, "queries": 5}, curved, pairs)
    assert len(fetches) == 2 * few


def test_keeps_its_contract(registry):
    check_attack(registry.attack("autoattack").build({"steps": 2, "queries": 6, "restarts": 1, "draws": 1}), size=12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps should be at least 1"),
        ({"restarts": 0}, "restarts should be at least 1"),
        ({"sigma": 0.0}, "sigma should be above 0"),
        ({"draws": 0}, "draws should be at least 1"),
        ({"queries": 0}, "queries should be at least 1"),
        ({"p_init": 0.0}, "p_init should be above 0"),
    ],
)
def test_bad_values_are_refused(registry, wrong, message):
    with pytest.raises(ValueError, match=message):
        registry.attack("autoattack").build(wrong)
