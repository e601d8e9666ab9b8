"""Random search: the best of the draws it says it makes."""

import pytest
import torch

from attacks.random_search import RandomSearch
from harness.contracts import Budget, Metric, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer

IDS = ("a", "b", "c")


class Wave(Metric):
    """Minus a squared distance: no draw is as good as another."""

    higher_is_better = True

    def score(self, reference, dist):
        weight = torch.cos(torch.arange(dist[0].numel())).view(dist.shape[1:])
        return (weight * dist).flatten(1).sum(1)


def attacked(attack, norm, eps, rows=(0, 1, 2)):
    """(the result, where it started, the objective)."""
    ids = [IDS[row] for row in rows]
    dist = SampleRng.for_samples(0, ids, "dist").uniform(3, 9, 14)
    budget = Budget(norm, torch.full((len(ids),), eps))
    objective = ScorerObjective(
        Scorer(Wave()),
        dist.clone(),
        dist,
        torch.ones(len(ids)),
        budget,
        SampleRng.for_samples(0, ids, "defense"),
        white_box=False,
        query_limit=attack.queries,
    )
    return attack.perturb(objective, dist.clone(), budget, SampleRng.for_samples(0, ids, "attack")), dist, objective


@pytest.mark.parametrize("queries", [1, 12])
def test_the_best_of_its_draws(queries):
    result, dist, objective = attacked(RandomSearch(queries=queries), "linf", 0.05)
    rng = SampleRng.for_samples(0, IDS, "attack")
    draws = torch.stack([(dist + 0.05 * rng.signs(3, 9, 14)).clamp(0, 1) for _ in range(queries)])
    scores = torch.stack([Wave()(ref=dist, dist=draw) for draw in draws])
    assert torch.equal(result, draws[scores.argmax(0), torch.arange(3)])
    assert objective.ledger.queries.tolist() == [queries] * 3
    part, _, _ = attacked(RandomSearch(queries=queries), "linf", 0.05, (2, 0))
    assert torch.equal(part, result[[2, 0]])


def test_blocks_share_a_sign_and_l2_draws_lie_on_the_sphere():
    result, dist, _ = attacked(RandomSearch(queries=3, block=4), "linf", 1e-3)
    change = (result - dist)[:, :, 0:4, 0:4]
    inside = (dist > 1e-3) & (dist < 1 - 1e-3)
    signs = torch.where(inside, (result - dist).sign(), 0)
    for top in range(0, 9, 4):
        for left in range(0, 14, 4):
            block = signs[:, :, top : top + 4, left : left + 4].flatten(2)
            assert (block.amax(2) * block.amin(2) >= 0).all(), "one sign in a block"
    assert change.abs().amax() <= 1e-3 + 1e-6
    result, dist, _ = attacked(RandomSearch(queries=5), "l2", 1e-2)
    length = (result - dist).flatten(1).norm(dim=1)
    assert (length <= 1e-2 + 1e-6).all() and (length > 0.9e-2).all()


def test_bad_values_are_refused():
    for wrong in ({"queries": 0}, {"block": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RandomSearch(**wrong)
