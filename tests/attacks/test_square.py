"""Square: the closed form on a linear metric, its schedule and shapes against torchattacks', its strength against ART's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.square import Square, _bump, _two_bumps
from harness.contracts import Budget, Metric, QueryLimit, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry

EPS = 8 / 255
IDS = ("a", "b", "c")


class Wave(Metric):
    """A mean of values weighted by a wave: neither linear in blocks nor alike in any two pixels."""

    higher_is_better = True

    def score(self, reference, dist):
        weight = torch.cos(1.7 * torch.arange(dist[0].numel())).view(dist.shape[1:])
        return (weight * (dist - reference) - (dist - reference).square()).flatten(1).mean(1)


class Watched(ScorerObjective):
    """Keeps every J it gave."""

    def __call__(self, images):
        value = super().__call__(images)
        self.seen = [*getattr(self, "seen", []), value.clone()]
        return value


def images_of(ids, *size):
    return SampleRng.for_samples(0, ids, "ref").uniform(3, *size), SampleRng.for_samples(0, ids, "dist").uniform(
        3, *size
    )


def attacked(attack, metric, ref, dist, ids=IDS, sign=1.0, norm="linf", eps=EPS, **options):
    """(the result, the objective) of an attack on a batch."""
    count = len(ids)
    budget = Budget(norm, torch.as_tensor(eps).expand(count).clone())
    objective = Watched(
        Scorer(metric),
        ref,
        dist,
        torch.as_tensor(sign).expand(count).clone(),
        budget,
        SampleRng.for_samples(0, ids, "defense"),
        **{"white_box": False, "query_limit": attack.queries, **options},
    )
    with torch.no_grad():
        return attack.perturb(objective, dist.clone(), budget, SampleRng.for_samples(0, ids, "attack")), objective


def test_the_optimum_of_a_linear_metric(registry):
    """As many squares as it takes: every pixel of a small image, in the corners too, comes to eps sign(w)."""
    ref, dist = images_of(IDS, 4, 5)
    sign = torch.tensor([1.0, -1.0, 1.0])
    metric = registry.metric("linear").build({})
    result, objective = attacked(Square(queries=2500, p_init=0.8), metric, ref, dist, sign=sign)
    slope = torch.autograd.grad(metric(ref=ref, dist=(x := dist.clone().requires_grad_())).sum(), x)[0].sign()
    assert torch.equal(result, (dist + EPS * sign.view(-1, 1, 1, 1) * slope).clamp(0, 1))
    assert objective.ledger.queries.tolist() == [2500] * 3 and objective.ledger.backwards.tolist() == [0] * 3


def test_l2_spends_all_of_its_budget(registry):
    ref, dist = images_of(IDS, 6, 6)
    dist = 0.4 + 0.2 * dist
    metric = registry.metric("linear").build({})
    result, _ = attacked(Square(queries=600, p_init=0.1), metric, ref, dist, norm="l2", eps=0.3)
    length = (result - dist).flatten(1).norm(dim=1)
    assert torch.allclose(length, torch.full((3,), 0.3), atol=1e-5)
    gain = (metric(ref=ref, dist=result) - metric(ref=ref, dist=dist)) * dist[0].numel() ** 0.5 / 0.3
    assert (gain > 0.3).all() and (gain <= 1 + 1e-4).all(), "a share of what the best direction reaches"


@settings(max_examples=20, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    queries=st.integers(1, 60),
    size=st.tuples(st.integers(3, 14), st.integers(3, 14)),
    eps=st.tuples(*[st.floats(1e-4, 0.6)] * 3),
    p_init=st.floats(0.01, 1.0),
)
def test_budget_queries_and_the_best_it_has_seen(norm, queries, size, eps, p_init):
    ref, dist = images_of(IDS, *size)
    dist = (dist * 1.6 - 0.3).clamp(0, 1)  # much of it at the ends of the range
    sign = torch.tensor([1.0, -1.0, 1.0])
    result, objective = attacked(
        Square(queries=queries, p_init=p_init), Wave(), ref, dist, sign=sign, norm=norm, eps=torch.tensor(eps)
    )
    length = (result - dist).flatten(1).abs().amax(1) if norm == "linf" else (result - dist).flatten(1).norm(dim=1)
    assert (length <= torch.tensor(eps) + 1e-6).all()
    assert result.min() >= 0 and result.max() <= 1
    assert objective.ledger.queries.tolist() == [queries] * 3 and len(objective.seen) == queries
    reached = sign * Wave()(ref=ref, dist=result)
    assert torch.equal(reached, torch.stack(objective.seen).amax(0))
    assert torch.equal(result, objective.best()), "images outside of the budget would not be the best"


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.5)])
def test_a_sample_neither_knows_its_batch_nor_is_led_by_what_is_accepted(norm, eps):
    ref, dist = images_of(IDS, 12, 9)
    attack = Square(queries=80)
    whole, _ = attacked(attack, Wave(), ref, dist, norm=norm, eps=eps)
    part, objective = attacked(attack, Wave(), ref[[2, 0]], dist[[2, 0]], ("c", "a"), norm=norm, eps=eps)
    assert torch.equal(part, whole[[2, 0]]) and objective.ledger.queries.tolist() == [80, 80]
    after = []
    for sign in (1.0, -1.0):
        rng = SampleRng.for_samples(0, IDS, "attack")
        budget = Budget(norm, torch.full((3,), eps))
        view = ScorerObjective(Scorer(Wave()), ref, dist, torch.full((3,), sign), budget, SampleRng([]))
        white = attack.perturb(view, dist.clone(), budget, rng)
        assert view.ledger.forwards.tolist() == [80] * 3 and view.ledger.backwards.tolist() == [0] * 3
        assert sign < 0 or torch.equal(white, whole), "a white-box objective is as good"
        after.append(rng.uniform(4))
    assert torch.equal(*after), "as many draws whatever was accepted"


def test_more_draws_than_queries_end_with_the_best_image():
    """A randomised scorer costs several evaluations per query: the engine's limit comes first."""
    ref, dist = images_of(IDS, 8, 8)
    with pytest.raises(QueryLimit):
        attacked(Square(queries=20), Wave(), ref, dist, query_limit=7)


def test_bad_values_are_refused():
    for wrong in ({"queries": 0}, {"p_init": 0.0}, {"p_init": 1.01}, {"p_init": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Square(**wrong)


def test_schedule_and_bumps_are_torchattacks():
    theirs = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1").attacks.square
    peer = theirs.Square(torch.nn.Conv2d(3, 1, 1), resc_schedule=True, p_init=0.8)
    for queries in (10_000, 5000, 300, 7):
        peer.n_queries, ours = queries, Square(queries=queries, p_init=0.8)
        steps = range(0, queries, max(1, queries // 500))
        assert [ours.share(step) for step in steps] == [peer.p_selection(step) for step in steps]
    for side in (3, 5, 7, 11):
        upper = peer.eta_rectangles(side // 2, side)
        assert torch.allclose(_bump(side // 2, side), upper, atol=1e-6)
        with torch.random.fork_rng():
            eta = peer.eta(side)
        assert torch.allclose(_two_bumps(side), eta, atol=1e-6) or torch.allclose(_two_bumps(side).T, eta, atol=1e-6)


def mini_pairs(count):
    """(references, distorted images) of 32 px from the embedded set."""
    data = Registry().dataset("mini").build({})
    entries = data.entries("test")
    pairs = [data.load(entry) for entry in entries[:: len(entries) // count][:count]]
    return (torch.stack([pair[key][:, 40:72, 40:72] for pair in pairs]) for key in ("ref", "dist"))


def ssim():
    return Scorer(default_metric("ssim", Registry(), torch.device("cpu")))


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 1.0)])
def test_as_strong_as_torchattacks(norm, eps):
    """Their search in one batch; nothing is fooled, so the batch is never cut and keeps to its references."""
    theirs = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1").attacks.square
    ref, dist = mini_pairs(16)
    scorer, ids, queries = ssim(), tuple(str(place) for place in range(16)), 150
    encoded = scorer.encode(ref, SampleRng([]))

    class AsClassifier(torch.nn.Module):
        def forward(self, images):
            z = 1 + (scorer.quality(encoded, images) - clean) / 3
            low = torch.full_like(z, -20.0)
            return torch.stack([z, -z, low, low], dim=1)

    with torch.no_grad():
        clean = scorer.quality(encoded, dist)
        peer = theirs.Square(AsClassifier().eval(), norm={"linf": "Linf"}.get(norm, "L2"), eps=eps, n_queries=queries)
        peer.init_hyperparam(dist)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, reached = peer.attack_single_run(dist, torch.zeros(16, dtype=torch.int64))
        result, _ = attacked(
            Square(queries=queries, p_init=0.8), scorer.metric, ref, dist, ids, sign=-1.0, norm=norm, eps=eps
        )
        ours, their = ((clean - scorer.quality(encoded, images)).mean() for images in (result, reached))
    assert ours > 0.9 * their > 0.05, (ours, their)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_at_least_as_strong_as_arts_at_equal_queries(sign):
    evasion = pytest.importorskip("art.attacks.evasion", reason="pip install 'robustiqa[art]'")
    regression = pytest.importorskip("art.estimators.regression")
    ref, dist = mini_pairs(32)
    ids = tuple(str(place) for place in range(32))
    scorer = ssim()
    budget = Budget("linf", torch.full((32,), EPS))
    watched = ScorerObjective(scorer, ref, dist, torch.full((32,), sign), budget, SampleRng([]))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            with torch.no_grad():
                return watched(images.float())[:, None]

    model = Model()
    estimator = regression.PyTorchRegressor(
        model, loss=torch.nn.MSELoss(), input_shape=(3, 32, 32), clip_values=(0, 1), optimizer=None
    )
    state = np.random.get_state()  # noqa: NPY002 (what ART draws from)
    np.random.seed(0)  # noqa: NPY002
    try:
        evasion.SquareAttack(
            estimator,
            adv_criterion=lambda predicted, _: np.zeros(len(predicted), dtype=bool),
            loss=lambda images, _: -model(torch.from_numpy(images))[:, 0].numpy(),
            max_iter=50,
            eps=EPS,
            p_init=0.8,
            verbose=False,
        ).generate(dist.numpy())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    queries = int(watched.ledger.forwards[0])
    result, ours = attacked(
        Square(queries=queries, p_init=0.8), scorer.metric, ref, dist, ids, sign=sign, query_limit=queries
    )
    with torch.no_grad():
        clean = watched(dist)
        theirs, reached = watched(watched.best()) - clean, watched(result) - clean
    assert ours.ledger.queries.tolist() == [queries] * 32
    assert reached.mean() > 1.1 * theirs.mean() > 0, (queries, reached.mean(), theirs.mean())
