"""The objective: it counts what really happened, remembers the best image, and keeps the black box black."""

import pytest
import torch

from harness.contracts import Budget, QueryLimit, SampleRng
from harness.engine.objective import ScorerObjective, within
from harness.engine.scorer import Scorer
from harness.errors import PluginFaultError

N = 4


class Probe:
    """Counts what a metric is really asked, by hooks of torch."""

    def __init__(self, metric):
        self.forward_rows = self.backward_rows = 0
        score = metric.score

        def counted(reference, dist):
            self.forward_rows += len(dist)
            value = score(reference, dist)
            if value.requires_grad:
                value.register_hook(self._backward)
            return value

        metric.score = counted

    def _backward(self, gradient):
        self.backward_rows += len(gradient)


@pytest.fixture
def setting(registry):
    def make(metric="negative_mse", purifiers=(), eps=0.1, **options):
        built = registry.metric(metric).build({})
        probe = Probe(built)
        scorer = Scorer(built, [registry.purifier(name).build({}) for name in purifiers])
        ids = [f"s{i}" for i in range(N)]
        draws = SampleRng.for_samples(0, ids, "images")
        ref = 0.3 + 0.4 * draws.uniform(3, 8, 8)
        dist = 0.3 + 0.4 * draws.uniform(3, 8, 8)
        budget = Budget("linf", torch.full((N,), eps))
        objective = ScorerObjective(
            scorer, ref, dist, torch.tensor([1.0, -1.0, 1.0, -1.0]), budget,
            SampleRng.for_samples(0, ids, "defense"), **options,
        )  # fmt: skip
        return objective, dist, budget, probe

    return make


@pytest.mark.parametrize(("purifiers", "eot"), [((), 1), (("jitter",), 5)])
def test_ledger_agrees_with_hooks_on_the_metric(setting, purifiers, eot):
    objective, dist, _, probe = setting(purifiers=purifiers, eot=eot)
    objective(dist)
    objective.gradient(dist)
    view = objective.select(torch.tensor([0, 0, 3]))
    view.gradient(dist[[0, 0, 3]])
    leaf = dist.clone().requires_grad_(True)
    objective(leaf).sum().backward()
    with torch.no_grad():
        objective(leaf)
    assert objective.ledger.forwards.sum().item() == probe.forward_rows
    assert objective.ledger.backwards.sum().item() == probe.backward_rows
    assert objective.ledger.forwards.tolist() == [6 * eot, 4 * eot, 4 * eot, 5 * eot]
    assert objective.ledger.backwards.tolist() == [4 * eot, 2 * eot, 2 * eot, 3 * eot]


def test_sign_turns_quality_and_gradient(setting):
    objective, dist, _, _ = setting()
    value, gradient = objective.gradient(dist)
    quality = -(dist - objective.reference).square().flatten(1).mean(1)
    assert torch.allclose(value, objective.sign * quality)
    expected = objective.sign.view(-1, 1, 1, 1) * -2 * (dist - objective.reference) / dist[0].numel()
    assert torch.allclose(gradient, expected, atol=1e-9)


def test_gradient_with_eot_is_the_mean_over_fresh_draws(setting):
    objective, dist, _, _ = setting("linear", ("jitter",), eot=400)
    _, mean = objective.gradient(dist)
    single, _, _, _ = setting("linear", ("jitter",), eot=1)
    _, plain = setting("linear")[0].gradient(dist)
    draws = torch.stack([single.gradient(dist)[1] for _ in range(8)])
    assert draws.std(0).max() > 0.1 * plain.abs().max(), "every evaluation should draw afresh"
    spread = draws.std(0).max() / 400**0.5
    assert torch.allclose(mean, plain, atol=float(6 * spread))


def test_best_is_the_best_in_budget_image_evaluated(setting):
    objective, dist, budget, _ = setting("linear", eps=0.05)
    assert torch.equal(objective.best(), dist)
    worse = budget.project(dist - 0.02 * objective.sign.view(-1, 1, 1, 1), dist)
    objective(worse)
    assert torch.equal(objective.best(), worse), "the first evaluated image is the best so far"
    outside = dist + 1.0
    objective(outside)
    assert torch.equal(objective.best(), worse), "an image outside the budget is never the best"
    _, gradient = objective.gradient(dist)
    top = dist + 0.05 * gradient.sign()
    objective(top)
    assert torch.equal(objective.best(), top)


def test_best_through_views_with_repeated_rows(setting):
    objective, dist, _, _ = setting("linear", eps=0.05)
    _, gradient = objective.gradient(dist)
    index = torch.tensor([2, 0, 2, 2])
    step = torch.tensor([0.01, 0.02, 0.04, 0.03]).view(-1, 1, 1, 1)
    images = dist[index] + step * gradient[index].sign()
    view = objective.select(index)
    view(images)
    best = objective.best()
    assert torch.equal(best[2], images[2]) and torch.equal(best[0], images[1])
    assert torch.equal(best[1], dist[1]) and torch.equal(view.best()[0], images[2])


def test_notes_of_views_land_on_their_rows(setting):
    objective, _, _, _ = setting()
    objective.note(member=["a", "b", "c", "d"])
    objective.select(torch.tensor([3, 1])).note(member=["z", "y"], step=torch.tensor([7, 8]))
    assert objective.notes == {"member": ["a", "y", "c", "z"], "step": [None, 8, None, 7]}


def test_black_box_has_no_gradient_counts_queries_and_stops_hard(setting):
    objective, dist, _, probe = setting(white_box=False, query_limit=3)
    with pytest.raises(RuntimeError, match="black-box"):
        objective.gradient(dist)
    leaf = dist.clone().requires_grad_(True)
    value = objective(leaf)
    assert not value.requires_grad and not value.is_inference()
    objective(dist)
    objective.select(torch.tensor([0])).__call__(dist[:1])
    better = dist + 0.05 * (objective.reference - dist) * objective.sign.view(-1, 1, 1, 1)
    value = objective(better)
    assert value[0] == -torch.inf and torch.isfinite(value[1:]).all(), "a spent sample learns nothing more"
    assert torch.equal(objective.best()[0], dist[0]) and torch.equal(objective.best()[1:], better[1:])
    assert objective.ledger.queries.tolist() == [3, 3, 3, 3]
    with pytest.raises(QueryLimit):
        objective(dist)
    assert objective.ledger.queries.tolist() == [3, 3, 3, 3] and probe.backward_rows == 0


def test_repeated_rows_share_the_queries_of_their_sample(setting):
    objective, dist, _, _ = setting(white_box=False, query_limit=3)
    value = objective.select(torch.tensor([0, 0, 1, 0, 0]))(dist[[0, 0, 1, 0, 0]])
    assert torch.isfinite(value).tolist() == [True, True, True, True, False]
    assert objective.ledger.queries.tolist() == [3, 1, 0, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_never_waits_for_the_device(setting, registry, monkeypatch, norm):
    objective, dist, budget, probe = setting(white_box=False, query_limit=25)
    waits = []
    for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        of_torch = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *given, _of=of_torch, _name=name: waits.append(_name) or _of(*given)
        )
    square = registry.attack("square").build({"queries": 25})
    draws = SampleRng.for_samples(0, ["a", "b", "c", "d"], "square")
    square.perturb(objective, dist, Budget(norm, budget.eps), draws)
    assert waits == [] and probe.forward_rows == 25 * N
    monkeypatch.undo()
    assert objective.ledger.queries.tolist() == [25] * N
    with pytest.raises(QueryLimit):
        objective(dist)


def test_a_black_box_call_does_not_spoil_the_next_white_box_one(setting):
    black, dist, _, _ = setting(white_box=False)
    white, _, _, _ = setting()
    black(dist)
    _, gradient = white.gradient(black.best())
    assert torch.isfinite(gradient).all()


def test_surrogate_gradient_passes_through_a_rounding_purifier(setting):
    objective, dist, _, _ = setting("linear", ("rounding",))
    _, gradient = objective.gradient(dist)
    _, plain = setting("linear")[0].gradient(dist)
    assert torch.equal(gradient, plain)


def test_a_metric_of_the_wrong_shape_is_refused(setting):
    objective, dist, _, _ = setting("wrong_shape")
    with pytest.raises(PluginFaultError, match=r"shape \(4, 1\).*shape \[4\]"):
        objective(dist)


def test_best_is_refused_where_nothing_is_remembered(setting):
    objective, dist, _, _ = setting("linear")
    forgetful = ScorerObjective(objective._shared.scorer, dist, dist, objective.sign, None, SampleRng([]))
    with pytest.raises(RuntimeError, match="uses_best"):
        forgetful.best()


@pytest.mark.parametrize("eps", [0.5, 3.5, 24.0])
def test_l2_projections_of_whole_photographs_count_as_inside(eps):
    """The norm of 600,000 numbers in float32 is off by more than 1e-6; what `project` returns has to pass `within`."""
    draws = SampleRng.for_samples(0, [f"s{i}" for i in range(3)], "images")
    start = draws.uniform(3, 384, 512)
    budget = Budget("l2", torch.full((3,), eps))
    far = start + 0.2 * (draws.uniform(3, 384, 512) - 0.5)
    near = budget.project(far, start)
    assert within(near, start, budget).all() and within(budget.project(near, start), start, budget).all()
    length = (near.double() - start.double()).flatten(1).norm(dim=1)
    assert (length > 0.98 * eps).all() or (far.clamp(0, 1) - start).flatten(1).norm(dim=1).max() < 1.02 * eps
    beyond = start + (near - start) * (1 + 2e-4)
    assert not within(beyond, start, budget)[length > 0.9999 * eps].any()


def test_gradients_that_point_nowhere_and_those_that_stay_the_same_are_counted(setting):
    objective, dist, _, _ = setting("negative_mse")
    objective.gradient(objective.reference)  # at the reference the slope of a squared error is 0
    objective.gradient(dist)
    objective.select(torch.tensor([2])).gradient(objective.reference[2:3])
    leaf = objective.reference.clone().requires_grad_(True)
    objective(leaf).sum().backward()
    assert objective.ledger.zero_gradients.tolist() == [2, 2, 3, 2]
    assert objective.ledger.constant_gradients.tolist() == [0] * 4
    straight, dist, _, _ = setting("linear")
    for image in (dist, dist, dist + 0.01, dist + 0.02):  # the same image twice is no other image
        straight.gradient(image)
    assert straight.ledger.constant_gradients.tolist() == [2] * 4 and straight.ledger.backwards.tolist() == [4] * 4
    assert straight.ledger.zero_gradients.tolist() == [0] * 4
