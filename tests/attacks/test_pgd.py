"""PGD: the plain one as ever, its restarts, momentum and L2 form against closed forms and torchattacks."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attacks.ascent import random_start
from attacks.pgd import PGD
from harness.contracts import Budget, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.testing import check_attack
from harness.testing.common import image_pairs

EPS = 8 / 255
LINF, L2 = {"norm": "linf", "eps": EPS}, {"norm": "l2", "eps": 0.3}


class Unread(TorchDispatchMode):
    """Refuses every operation whose result, or whose size, the host has to wait for."""

    READS = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "repeat_interleave"})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in {"index", "index_put", "index_put_"} and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        assert not by_mask and name not in self.READS and "unique" not in name, f"the host waits for {func}"
        return func(*args, **(kwargs or {}))


def test_the_plain_one_is_the_same_bytes_as_its_definition(strike, curved, pairs):
    ref, dist = pairs
    encoded = curved.encode(ref)
    budget = Budget("linf", torch.full((4,), EPS))
    noise = SampleRng.for_samples(0, [f"sample {i}" for i in range(4)], "pgd").uniform(*dist.shape[1:], low=-1.0)
    expected = budget.project(dist + noise * EPS, dist)
    for _ in range(10):
        leaf = expected.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(-curved.score(encoded, leaf).sum(), leaf)
        expected = budget.project(expected + 2 / 255 * slope.sign(), dist)
    run = strike("pgd", {}, curved, pairs, **LINF)
    assert torch.equal(run.images, expected)
    assert run.objective.ledger.forwards.tolist() == [10] * 4 == run.objective.ledger.backwards.tolist()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("more", [{}, {"restarts": 2}, {"momentum": 1.0}, {"keep": "best", "restarts": 2}])
def test_linf_optimum_of_a_linear_metric(strike, linear, pairs, sign, more):
    ref, dist = pairs
    dist = dist.clone()
    dist[:, :, :4], dist[:, :, 4:8] = 0.01, 1.0  # a part where the box is nearer than the radius
    run = strike("pgd", {**more, "steps": 12}, linear, (ref, dist), sign=sign, **LINF)
    assert torch.allclose(run.gain, linear.optimum(dist, "linf", EPS, sign), rtol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_l2_optimum_of_a_linear_metric(strike, linear, pairs, sign):
    best = linear.optimum(pairs[1], "l2", 0.3, sign)
    exact = strike("pgd", {"start": "zero"}, linear, pairs, sign=sign, **L2)
    assert torch.allclose(exact.gain, best, rtol=1e-4)
    random = strike("pgd", {}, linear, pairs, sign=sign, **L2)
    assert (random.gain >= 0.97 * best).all(), "what the random start adds across the gradient has not all gone"
    length = (random.images - pairs[1]).flatten(1).norm(dim=1)
    assert torch.allclose(length, torch.full((4,), 0.3), rtol=1e-4)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("budget", [LINF, L2])
def test_more_restarts_are_never_weaker(strike, curved, pairs, keep, budget):
    runs = [
        strike("pgd", {"steps": 3, "keep": keep, "restarts": n, "step_size": 4 / 255}, curved, pairs, **budget)
        for n in (1, 2, 5)
    ]
    for fewer, more in itertools.pairwise(runs):
        assert (more.gain >= fewer.gain).all() and (more.gain > fewer.gain).any()
    assert runs[1].objective.ledger.backwards.tolist() == [6] * 4


def test_from_zero_only_the_first_restart_starts_there(strike, curved, pairs):
    once, twice = (strike("pgd", {"start": "zero", "restarts": n, "steps": 3}, curved, pairs, **LINF) for n in (1, 2))
    assert (twice.gain >= once.gain).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_larger_budget_is_never_weaker(strike, curved, pairs, norm, sign):
    radii, own = ((0.01, 0.03, 0.06), {"step_size": 0.003}) if norm == "linf" else ((0.1, 0.3, 1.0), {})
    own |= {"steps": 30, "keep": "best"}
    gains = [strike("pgd", own, curved, pairs, norm=norm, eps=eps, sign=sign).gain for eps in radii]
    assert (gains[0] > 0).all()
    for small, large in itertools.pairwise(gains):
        assert (large >= small).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("theirs", "norm", "more"), [("MIFGSM", "linf", {"momentum": 0.9}), ("PGDL2", "l2", {})])
def test_agrees_with_torchattacks(strike, curved, pairs, classifier, sign, theirs, norm, more):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    eps, step = (EPS, 2 / 255) if norm == "linf" else (0.3, 0.06)
    own = {"start": "zero", "step_size": 2 / 255, "l2_step": 0.2, **more}
    for i in range(4):
        ref, dist = (x[i : i + 1] for x in pairs)
        model = classifier(curved, ref, dist, sign, 0.2)
        kind = getattr(torchattacks, theirs)
        extra = {"decay": 0.9} if theirs == "MIFGSM" else {"random_start": False}
        expected = kind(model, eps=eps, alpha=step, steps=10, **extra)(dist, torch.tensor([0]))
        ours = strike("pgd", own, curved, (ref, dist), norm=norm, eps=eps, sign=sign).images
        assert ((ours - expected).abs() < 1e-5).float().mean() >= 0.99


def test_momentum_goes_on_where_the_gradient_has_turned(strike, curved, pairs):
    plain, carried = (strike("pgd", {"momentum": m, "start": "zero"}, curved, pairs, **LINF) for m in (0.0, 1.0))
    assert not torch.equal(plain.images, carried.images)
    one, two = (
        strike("pgd", {"momentum": m, "start": "zero", "steps": 1}, curved, pairs, **LINF).images for m in (0.0, 1.0)
    )
    assert torch.equal(one, two)


def test_random_starts_are_uniform_in_the_l2_ball():
    count, eps = 4000, 0.3
    centre = torch.full((count, 3, 1, 1), 0.5)
    rng = SampleRng.for_samples(0, [str(i) for i in range(count)], "start")
    delta = (random_start(centre, Budget("l2", torch.full((count,), eps)), rng) - centre).flatten(1)
    share = (delta.norm(dim=1) / eps).pow(3).sort().values  # of the volume: uniform in [0, 1]
    assert (share - torch.linspace(0, 1, count)).abs().max() < 1.63 / count**0.5, "Kolmogorov and Smirnov at 1 %"
    assert (delta / eps).mean(0).abs().max() < 4 * (0.2 / count) ** 0.5, "each coordinate has variance eps^2 / 5"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sample_does_not_depend_on_its_batch(same_in_any_batch, curved, norm):
    same_in_any_batch("pgd", {"restarts": 2, "momentum": 1.0, "steps": 4}, curved, norm=norm, eps=0.1)


def test_the_host_waits_at_no_step(strike, curved, pairs, fetches):
    strike("pgd", {"restarts": 2, "momentum": 1.0, "steps": 1}, curved, pairs, **LINF)
    few = len(fetches)
    strike("pgd", {"restarts": 4, "momentum": 1.0, "steps": 4}, curved, pairs, **LINF)
    assert len(fetches) == 2 * few, "what the test itself asks for, however many steps"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["birqa", "lpips-vgg", "topiq"])
def test_nothing_is_read_in_a_run_on_a_shipped_metric(registry, monkeypatch, name, precision):
    metric = registry.metric(name).build({}).eval().requires_grad_(False)
    ref, dist = (images[:1] for images in image_pairs(64, 64))
    budget = Budget("linf", torch.full((1,), EPS))
    objective = ScorerObjective(Scorer(metric), ref, dist, torch.ones(1), None, SampleRng([]), precision=precision)
    rng = SampleRng.for_samples(0, ["a"], "pgd")
    with monkeypatch.context() as patch, Unread():
        for read in ("item", "tolist", "cpu", "numpy"):  # of those on a processor the dispatcher sees the first alone
            patch.setattr(torch.Tensor, read, lambda *_, read=read: pytest.fail(f"the host waits for {read}()"))
        attacked = PGD(steps=2).perturb(objective, dist, budget, rng)
    assert objective.ledger.backwards.tolist() == [2] and not torch.equal(attacked, dist)
    with Unread(), pytest.raises(AssertionError, match="the host waits"):
        bool(attacked.amax() > 1)


def test_keeps_its_contract(registry):
    check_attack(registry.attack("pgd").build({"steps": 2, "restarts": 2, "momentum": 1.0}), size=12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps should be at least 1"),
        ({"step_size": 0.0}, "step_size should be above 0"),
        ({"step_size": float("nan")}, "step_size should be above 0"),
        ({"restarts": 0}, "restarts should be at least 1"),
        ({"momentum": -0.1}, "momentum should be at least 0"),
        ({"momentum": float("nan")}, "momentum should be at least 0"),
        ({"l2_step": 0.0}, "l2_step should be above 0"),
    ],
)
def test_bad_values_are_refused(registry, wrong, message):
    with pytest.raises(ValueError, match=message):
        registry.attack("pgd").build(wrong)
