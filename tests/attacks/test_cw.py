"""C&W in both norms: closed forms, autograd's and torch's own pieces put together another way, and other attacks."""

import itertools

import pytest
import torch

from attacks.ascent import Adam
from harness.testing import check_attack

EPS = 8 / 255


def with_edges(pairs):
    """The pairs with parts at and near the ends of the box."""
    ref, dist = pairs[0], pairs[1].clone()
    dist[:, :, :4], dist[:, :, 4:8] = 0.01, 1.0
    return ref, dist


@pytest.mark.parametrize("sign", [1, -1])
def test_cw_reaches_99_percent_of_a_linear_metric(strike, linear, pairs, sign):
    pair = with_edges(pairs)
    run = strike("cw", {}, linear, pair, eps=EPS, sign=sign)
    assert (run.gain >= 0.99 * linear.optimum(pair[1], "linf", EPS, sign)).all()
    assert run.objective.ledger.forwards.tolist() == [102] * 4, "the start, 100 steps, the end"


@pytest.mark.parametrize("sign", [1, -1])
def test_cw_l2_reaches_99_percent_of_a_linear_metric(strike, linear, pairs, sign):
    run = strike("cw_l2", {}, linear, pairs, norm="l2", eps=0.3, sign=sign)
    assert (run.gain >= 0.999 * linear.optimum(pairs[1], "l2", 0.3, sign)).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_cw_l2_uses_pixels_at_the_ends_of_the_box(strike, linear, pairs, sign):
    """Where half of the pixels can move to one side alone, against a long run of PGD."""
    ref, dist = pairs[0], pairs[1].round()
    run = strike("cw_l2", {}, linear, (ref, dist), norm="l2", eps=0.3, sign=sign)
    pgd = strike(
        "pgd", {"steps": 200, "l2_step": 0.2, "start": "zero"}, linear, (ref, dist), norm="l2", eps=0.3, sign=sign
    )
    assert (run.gain >= 0.99 * pgd.gain).all()
    assert (pgd.gain < 0.8 * linear.optimum(dist, "l2", 0.3, sign)).all(), "else the box would not matter"


def test_cw_equals_autograd_and_torchs_adam(strike, curved, pairs):
    """The same loss written down as a loss: relu(tau + d) + lambda mean(delta^2)."""
    ref, dist = pairs
    penalty = 10.0
    low, high = (dist - EPS).clamp(min=0), (dist + EPS).clamp(max=1)
    middle, half = (low + high) / 2, (high - low) / 2
    encoded = curved.encode(ref)
    tau = -curved.score(encoded, dist) + 1.0
    point = torch.atanh(0.9 * (dist - middle) / half).requires_grad_(True)
    adam = torch.optim.Adam([point], lr=0.1, eps=1e-20)
    tried = []
    for _ in range(9):
        attacked = middle + half * point.tanh()
        distance = curved.score(encoded, attacked)
        tried.append((-distance.detach(), attacked.detach()))
        loss = (tau + distance).relu() + penalty * (attacked - dist).square().flatten(1).mean(1)
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    values, images = torch.stack([v for v, _ in tried]), torch.stack([x for _, x in tried])
    expected = images[values.argmax(0), torch.arange(4)]
    run = strike("cw", {"steps": 8, "penalty": penalty}, curved, pairs, eps=EPS)
    assert torch.allclose(run.images, expected, atol=2e-5)
    free = strike("cw", {"steps": 8, "penalty": 0.0}, curved, pairs, eps=EPS)
    assert not torch.allclose(free.images, expected, atol=1e-3), "the penalty counts"


def test_cw_stops_rising_beyond_tau(strike, linear, pairs):
    """Where J has passed tau only the penalty is left, so the image goes no further than Adam's momentum takes it."""
    far, near = (strike("cw", {"penalty": 1.0}, linear, pairs, eps=EPS, scale=s).gain for s in (1.0, 0.005))
    assert (far > 0.04).all() and ((near >= 0.005) & (near < 0.03)).all()


def test_adam_is_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    slopes = torch.randn(20, 2, 3, 4, 4, generator=rng) * torch.tensor([1e-9, 1.0]).view(1, 2, 1, 1, 1)
    theirs = torch.zeros(2, 3, 4, 4)
    optimiser, ours, own = torch.optim.Adam([theirs], lr=0.1, eps=1e-20, maximize=True), theirs.clone(), Adam(0.1)
    for slope in slopes:
        theirs.grad = slope
        optimiser.step()
        ours = ours + own.step(slope)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert own.step(torch.zeros_like(slope)).isfinite().all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "norm", "eps"), [("cw", "linf", EPS), ("cw_l2", "l2", 0.5)])
def test_keeps_up_with_pgd_on_a_curved_metric(strike, curved, pairs, name, norm, eps, sign):
    run = strike(name, {}, curved, pairs, norm=norm, eps=eps, sign=sign)
    pgd = strike("pgd", {"keep": "best", "steps": 60}, curved, pairs, norm=norm, eps=eps, sign=sign)
    assert (run.gain >= 0.98 * pgd.gain).all() and (run.gain > 0).all()


def test_the_search_over_c_is_never_weaker_and_matters(strike, pairs):
    ssim = strike.build("ssim")
    one, five = (strike("cw_l2", {"searches": n}, ssim, pairs, norm="l2", eps=0.7, sign=-1).gain for n in (1, 5))
    assert (five >= one).all() and (five > 1.02 * one).any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "norm", "radii"), [("cw", "linf", (0.01, 0.03, 0.06)), ("cw_l2", "l2", (0.1, 0.3, 1.0))]
)
def test_a_larger_budget_is_never_weaker(strike, curved, pairs, name, norm, radii, sign):
    few = {"steps": 30} if name == "cw" else {"steps": 20, "searches": 2}
    gains = [strike(name, few, curved, pairs, norm=norm, eps=eps, sign=sign).gain for eps in radii]
    for small, large in itertools.pairwise(gains):
        assert (large >= small).all()


@pytest.mark.parametrize(("name", "norm"), [("cw", "linf"), ("cw_l2", "l2")])
def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, curved, name, norm):
    same_in_any_batch(name, {"steps": 5}, curved, norm=norm, eps=0.1)


@pytest.mark.parametrize(("name", "norm"), [("cw", "linf"), ("cw_l2", "l2")])
def test_the_host_waits_at_no_step(strike, curved, pairs, name, norm, fetches):
    strike(name, {"steps": 1}, curved, pairs, norm=norm)
    few = len(fetches)
    strike(name, {"steps": 4}, curved, pairs, norm=norm)
    assert len(fetches) == 2 * few


@pytest.mark.parametrize(("name", "few"), [("cw", {"steps": 3}), ("cw_l2", {"steps": 2, "searches": 2})])
def test_keeps_its_contract(registry, name, few):
    check_attack(registry.attack(name).build(few), size=12)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("cw", {"steps": 0}, "steps should be at least 1"),
        ("cw", {"rate": 0.0}, "rate should be above 0"),
        ("cw", {"rate": float("nan")}, "rate should be above 0"),
        ("cw", {"penalty": -1.0}, "penalty should be at least 0"),
        ("cw_l2", {"searches": 0}, "searches should be at least 1"),
        ("cw_l2", {"steps": 0}, "steps should be at least 1"),
        ("cw_l2", {"rate": float("inf")}, "rate should be above 0"),
    ],
)
def test_bad_values_are_refused(registry, name, wrong, message):
    with pytest.raises(ValueError, match=message):
        registry.attack(name).build(wrong)
