"""Randomness per sample, budgets and trees."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings

from harness.contracts import Budget, SampleRng, map_tree


def rng(*ids, seed=0, purpose="pgd"):
    return SampleRng.for_samples(seed, ids, purpose)


def test_a_sample_draws_the_same_numbers_in_any_batch():
    together = rng("a", "b", "c").uniform(3, 4)
    reordered = rng("c", "a").uniform(3, 4)
    assert torch.equal(together[[2, 0]], reordered)


def test_seed_sample_and_purpose_each_change_the_draws():
    base = rng("a").uniform(8)
    for other in (rng("b"), rng("a", seed=1), rng("a", purpose="noise")):
        assert not torch.equal(base, other.uniform(8))


def test_repeated_rows_draw_different_numbers_and_the_first_shares_the_stream():
    view = rng("a", "b").select(torch.tensor([0, 0, 1, 0])).uniform(5)
    assert torch.equal(view[0], rng("a").uniform(5)[0])
    assert torch.equal(view[2], rng("b").uniform(5)[0])
    assert len({tuple(row.tolist()) for row in view}) == 4
    again = rng("b", "a").select(torch.tensor([1, 1, 1])).uniform(5)
    assert torch.equal(view[[0, 1, 3]], again)


def test_moments_of_the_draws():
    n = 200_000
    draws = rng("x")
    assert abs(draws.uniform(n, low=-1, high=3).mean().item() - 1) < 4 * (4 / 12**0.5) / n**0.5
    assert abs(draws.normal(n).std().item() - 1) < 4 / (2 * n) ** 0.5
    assert abs(draws.signs(n).mean().item()) < 4 / n**0.5
    assert set(draws.integers(3, 1000).unique().tolist()) == {0, 1, 2}
    assert draws.uniform(2).dtype is torch.float32 and draws.integers(5, 2).dtype is torch.int64
    assert rng().uniform(2, 3).shape == (0, 2, 3)


images = st.integers(0, 2**32 - 1).map(
    lambda seed: torch.from_numpy(np.random.default_rng(seed).uniform(-2, 3, (2, 3, 4, 5)).astype(np.float32))
)


@settings(max_examples=60, deadline=None)
@given(images, images, st.sampled_from(["linf", "l2"]), st.lists(st.floats(1e-3, 1), min_size=2, max_size=2))
def test_projection_stays_in_ball_and_box_and_is_idempotent(moved, centre, norm, eps):
    centre = centre.clamp(0, 1)
    budget = Budget(norm, torch.tensor(eps))
    projected = budget.project(moved, centre)
    delta = (projected - centre).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert bool((length <= budget.eps + 1e-6).all())
    assert projected.min() >= 0 and projected.max() <= 1
    assert torch.allclose(budget.project(projected, centre), projected, atol=1e-6)


def test_linf_projection_by_hand():
    budget = Budget("linf", torch.tensor([0.1]))
    centre = torch.tensor([0.5, 0.95, 0.0]).view(1, 3, 1, 1)
    moved = torch.tensor([0.9, 2.0, -1.0]).view(1, 3, 1, 1)
    assert torch.allclose(budget.project(moved, centre).flatten(), torch.tensor([0.6, 1.0, 0.0]))


def test_map_tree_reaches_every_tensor_and_keeps_the_shape():
    tree = {"a": torch.ones(2), "b": (torch.zeros(1), [torch.ones(3)]), "c": 4}
    doubled = map_tree(lambda t: t * 2, tree)
    assert doubled["c"] == 4 and isinstance(doubled["b"], tuple) and isinstance(doubled["b"][1], list)
    assert doubled["b"][1][0].tolist() == [2, 2, 2]
