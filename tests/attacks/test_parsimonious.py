"""Parsimonious: on a separable metric the sign of every block; hard limits; the best image it has seen."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.parsimonious import Parsimonious
from harness.contracts import Budget, Metric, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer

EPS = 8 / 255
IDS = ("a", "b", "c")


class Weighted(Metric):
    """Separable: sum of weight x value, with random weights that blocks of a given side share."""

    higher_is_better = True

    def __init__(self, size, block):
        super().__init__()
        height, width = size
        rows, columns = -(-height // block), -(-width // block)
        weight = SampleRng.for_samples(0, ["weight"], "test").normal(3, rows, columns)[0]
        self.weight = weight.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]

    def score(self, reference, dist):
        return (self.weight * (dist - reference)).double().flatten(1).sum(1)


class Curved(Metric):
    """Values that hold each other back, so that gains change with every flip."""

    higher_is_better = True

    def score(self, reference, dist):
        change = (dist - reference).flatten(1)
        return change.cos().mul(torch.cos(torch.arange(change.shape[1]))).mean(1) - change.mean(1).square()


class Watched(ScorerObjective):
    """Keeps every J it gave by sample."""

    def __call__(self, images):
        value = super().__call__(images)
        rows = range(len(value)) if self._rows is None else self._rows.tolist()
        for row, one in zip(rows, value.tolist(), strict=True):
            self._shared.notes.setdefault(row, []).append(one)
        return value

    def select(self, index):
        view = super().select(index)
        view.__class__ = Watched
        return view


def images_of(*size, ids=IDS):
    return SampleRng.for_samples(0, ids, "ref").uniform(3, *size), SampleRng.for_samples(0, ids, "dist").uniform(
        3, *size
    )


def attacked(attack, metric, ref, dist, ids=IDS, sign=1.0, eps=EPS, **options):
    """(the result, the objective) of an attack on a batch."""
    count = len(ids)
    budget = Budget("linf", torch.as_tensor(eps).expand(count).clone())
    signs = torch.as_tensor(sign).expand(count).clone()
    options = {"white_box": False, "query_limit": attack.queries, **options}
    objective = Watched(Scorer(metric), ref, dist, signs, budget, SampleRng.for_samples(0, ids, "defense"), **options)
    rng = SampleRng.for_samples(0, ids, "attack")
    return attack.perturb(objective, dist.clone(), budget, rng), objective


@pytest.mark.parametrize(("size", "block"), [((16, 16), 4), ((8, 8), 1), ((7, 10), 1), ((9, 6), 3)])
def test_the_sign_of_every_block_of_a_separable_metric(size, block):
    """The closed form, exactly, whether its weights are shared by the first blocks or differ in every pixel."""
    ref, dist = images_of(*size)
    sign = torch.tensor([1.0, -1.0, 1.0])
    metric = Weighted(size, block)
    result, objective = attacked(Parsimonious(queries=20_000), metric, ref, dist, sign=sign)
    wanted = (dist + EPS * (sign.view(-1, 1, 1, 1) * metric.weight).sign()).clamp(0, 1)
    assert torch.equal(result, wanted)
    assert (objective.ledger.queries < 5000).all(), "it ends by itself where no pixel can be bettered"


def test_first_blocks_alone_are_solved_before_they_are_halved():
    """An eighth of the side, and at least 4 px: 48 blocks, each tried once and each raised one looked up again."""
    ref, dist = images_of(16, 16)
    metric = Weighted((16, 16), 4)
    result, _ = attacked(Parsimonious(queries=200), metric, ref, dist)
    assert torch.equal(result, (dist + EPS * metric.weight.sign()).clamp(0, 1))
    other, _ = attacked(Parsimonious(queries=200, block=4), metric, ref, dist)
    assert torch.equal(other, result)


@settings(max_examples=20, deadline=None)
@given(
    queries=st.integers(1, 150),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    eps=st.tuples(*[st.floats(1e-4, 0.6)] * 3),
    group=st.integers(1, 70),
)
def test_budget_queries_and_the_best_it_has_seen(queries, size, eps, group):
    ref, dist = images_of(*size)
    dist = (dist * 1.6 - 0.3).clamp(0, 1)  # much of it at the ends of the range
    sign = torch.tensor([1.0, -1.0, 1.0])
    attack = Parsimonious(queries=queries, group=group)
    result, objective = attacked(attack, Curved(), ref, dist, sign=sign, eps=torch.tensor(eps))
    assert ((result - dist).abs().flatten(1).amax(1) <= torch.tensor(eps) + 1e-6).all()
    assert result.min() >= 0 and result.max() <= 1
    spent = objective.ledger.queries.tolist()
    assert max(spent) <= queries and [len(objective.notes[row]) for row in range(3)] == spent
    reached = (sign * Curved()(ref=ref, dist=result)).tolist()
    assert reached == pytest.approx([max(objective.notes[row]) for row in range(3)], abs=1e-6)
    corner = torch.stack([(dist - torch.tensor(eps).view(-1, 1, 1, 1)), dist + torch.tensor(eps).view(-1, 1, 1, 1)])
    assert torch.equal((result[None] == corner.clamp(0, 1)).any(0), torch.ones_like(result, dtype=torch.bool))


def test_more_queries_are_never_weaker():
    ref, dist = images_of(10, 10)
    reached = []
    for queries in (1, 5, 40, 200, 800):
        _, objective = attacked(Parsimonious(queries=queries), Curved(), ref, dist)
        reached.append([max(objective.notes[row]) for row in range(3)])
    assert all(a <= b for before, after in itertools.pairwise(reached) for a, b in zip(before, after, strict=True))


def test_a_sample_does_not_know_its_batch():
    """The searches part ways and end at different queries, and are the same alone."""
    ref, dist = images_of(6, 6)
    whole, objective = attacked(Parsimonious(), Curved(), ref, dist)
    spent = objective.ledger.queries.tolist()
    assert len(set(spent)) > 1 and max(spent) < 10_000
    for rows in ([2, 0], [1]):
        part, alone = attacked(Parsimonious(), Curved(), ref[rows], dist[rows], [IDS[row] for row in rows])
        assert torch.equal(part, whole[rows])
        assert alone.ledger.queries.tolist() == [spent[row] for row in rows]
    white, _ = attacked(Parsimonious(), Curved(), ref, dist, white_box=True)
    assert torch.equal(white, whole)


def test_bad_values_are_refused():
    for wrong in ({"queries": 0}, {"block": 0}, {"group": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Parsimonious(**wrong)
