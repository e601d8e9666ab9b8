"""APGD: closed forms, torchattacks' and pyautoattack's from the same start, and what holds for any score."""

import itertools

import pytest
import torch

from attacks.apgd import APGD
from harness.contracts import Budget
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.testing import check_attack

EPS = 8 / 255
RADII = {"linf": EPS, "l2": 0.5}
NORMS = {"linf": "Linf", "l2": "L2"}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("start", ["zero", "random"])
def test_optimum_of_a_linear_metric(strike, linear, pairs, start, sign):
    ref, dist = pairs
    run = strike("apgd", {"start": start}, linear, pairs, norm="l2", eps=0.3, sign=sign)
    assert torch.allclose(run.gain, linear.optimum(dist, "l2", 0.3, sign), rtol=1e-4)
    dist = dist.clone()
    dist[:, :, :4], dist[:, :, 4:8] = 0.01, 1.0
    run = strike("apgd", {"start": start}, linear, (ref, dist), eps=EPS, sign=sign)
    assert torch.allclose(run.gain, linear.optimum(dist, "linf", EPS, sign), rtol=1e-5)
    assert run.objective.ledger.backwards.tolist() == [101] * 4


def test_checkpoints():
    """The paper's .22, .41, .57, .70, .80, .87, .93, .99 of 100 steps; in whole steps for fewer."""
    assert APGD().checkpoints()[:8] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert APGD(steps=10).checkpoints() == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert APGD(steps=1).checkpoints() == [1]


def torchattacks_apgd(model, norm, eps, steps):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    attack = torchattacks.APGD(model, norm=NORMS[norm], eps=eps, steps=steps)
    return lambda dist, label: attack.perturb(dist, label, best_loss=True)[1]


def pyautoattack_apgd(model, norm, eps, steps):
    library = pytest.importorskip("pyautoattack.autopgd_base", reason="pip install pyautoattack==0.2.0")
    attack = library.APGDAttack(model, norm=NORMS[norm], eps=eps, n_iter=steps, device="cpu")
    return lambda dist, label: attack.perturb(dist, label, best_loss=True)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("library", [torchattacks_apgd, pyautoattack_apgd])
def test_agrees_with_peers_from_the_same_random_start(curved, pairs, classifier, given, library, norm, sign):
    """They start at the edge of the ball, from torch's global numbers; ours is handed the same."""
    eps, steps = RADII[norm], 40
    apgd = APGD(steps=steps, start="random")
    for i in range(3):
        ref, dist = (x[i : i + 1] for x in pairs)
        model = classifier(curved, ref, dist, sign, 0.2)
        theirs = library(model, norm, eps, steps)
        with torch.random.fork_rng():
            torch.manual_seed(i)
            expected = theirs(dist, torch.tensor([0]))
            torch.manual_seed(i)
            draws = 2 * torch.rand(dist.shape) - 1 if norm == "linf" else torch.randn(dist.shape)
        rng = given(uniform=draws / draws.abs().max(), normal=draws)
        budget = Budget(norm, torch.tensor([eps]))
        objective = ScorerObjective(Scorer(curved), ref, dist, torch.tensor([float(sign)]), None, rng)
        ours = apgd.perturb(objective, dist.clone(), budget, rng)
        clean = model.j(dist)
        assert model.j(ours) - clean == pytest.approx(float(model.j(expected) - clean), rel=1e-4)
        assert ((ours - expected).abs() < 1e-3).float().mean() >= 0.9


def test_agrees_with_pyautoattack_on_ssim_from_the_image_itself(strike, pairs, classifier):
    library = pytest.importorskip("pyautoattack.autopgd_base", reason="pip install pyautoattack==0.2.0")
    ssim = strike.build("ssim")
    for i, sign in ((1, 1), (2, -1)):
        ref, dist = (x[i : i + 1] for x in pairs)
        model = classifier(ssim, ref, dist, sign, 1.0)
        attack = library.APGDAttack(model, norm="Linf", eps=EPS, n_iter=100, device="cpu")
        attack.init_hyperparam(dist)
        expected = attack.attack_single_run(dist, torch.tensor([0]), x_init=dist)[0]
        ours = strike("apgd", {}, ssim, (ref, dist), eps=EPS, sign=sign).images
        clean = model.j(dist)
        assert model.j(ours) - clean == pytest.approx(float(model.j(expected) - clean), rel=5e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("metric", ["curved", "ssim"])
def test_at_least_fgsm_and_pgd(strike, curved, metric, pairs, sign):
    scored = curved if metric == "curved" else strike.build("ssim")
    apgd, fgsm, pgd = (
        strike(n, p, scored, pairs, eps=EPS, sign=sign) for n, p in (("apgd", {}), ("fgsm", {}), ("pgd", {}))
    )
    assert (apgd.gain >= fgsm.gain).all(), "its first step is FGSM's"
    assert (apgd.gain >= 0.995 * pgd.gain).all() and (apgd.gain > 0).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("norm", "radii"), [("linf", (0.01, 0.03, 0.06)), ("l2", (0.1, 0.3, 1.0))])
def test_a_larger_budget_is_never_weaker(strike, curved, pairs, norm, radii, sign):
    gains = [strike("apgd", {"steps": 30}, curved, pairs, norm=norm, eps=eps, sign=sign).gain for eps in radii]
    for small, large in itertools.pairwise(gains):
        assert (large >= small).all()


@pytest.mark.parametrize("start", ["zero", "random"])
def test_more_restarts_are_never_weaker(strike, curved, pairs, start):
    gains = [
        strike("apgd", {"steps": 6, "start": start, "restarts": n}, curved, pairs, eps=EPS, sign=-1).gain
        for n in (1, 2, 4)
    ]
    for fewer, more in itertools.pairwise(gains):
        assert (more >= fewer).all()
    assert start == "zero" or (gains[2] > gains[0]).any()


class Endless(Budget):
    """No projection, so that the length of each step is seen."""

    def project(self, images, centre):
        return images


def test_steps_halve_sample_by_sample_for_either_reason():
    """J as told in advance: always rising; rising at every other step; rising at nearly all, but after a fall."""
    time = torch.arange(101.0)
    told = torch.stack([time, time % 2, torch.where(time <= 22, time, (time - 22) / 2)], dim=1)
    seen = []

    class Told:
        def gradient(self, images):
            seen.append(images)
            return told[len(seen) - 1], torch.ones_like(images)

    zeros = torch.zeros(3, 3, 2, 2)
    APGD().ascend(Told(), zeros, zeros, Endless("linf", torch.full((3,), 0.1)), None)
    before, after = ((seen[t] - seen[t - 1]).flatten(1).amax(1) for t in (40, 56))
    assert torch.allclose(before, torch.tensor([0.2, 0.1, 0.2]), rtol=1e-3), "at 22 the second had gained too seldom"
    assert torch.allclose(after, torch.tensor([0.2, 0.05, 0.1]), rtol=1e-3), "at 41 the third had not passed its best"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, curved, norm):
    same_in_any_batch("apgd", {"restarts": 2, "steps": 12}, curved, norm=norm, eps=0.1)


def test_the_host_waits_at_no_step(strike, curved, pairs, fetches):
    strike("apgd", {"steps": 1}, curved, pairs, norm="l2")
    few = len(fetches)
    strike("apgd", {"steps": 9, "restarts": 2}, curved, pairs, norm="l2")
    assert len(fetches) == 3 * few == 3, "one wait for each of three runs: whether a slope is seen where it starts"


def test_keeps_its_contract(registry):
    check_attack(registry.attack("apgd").build({"steps": 4, "restarts": 2}), size=12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps should be at least 1"),
        ({"restarts": 0}, "restarts should be at least 1"),
        ({"rho": 0.0}, "rho should be above 0"),
        ({"rho": float("nan")}, "rho should be above 0"),
    ],
)
def test_bad_values_are_refused(registry, wrong, message):
    with pytest.raises(ValueError, match=message):
        registry.attack("apgd").build(wrong)
