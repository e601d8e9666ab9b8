"""Losses of the recipes, against what numpy makes of the same numbers, and their batches."""

import numpy as np
import pytest
import torch

from defenses.recipes.clean import Clean, differentiable_plcc
from defenses.recipes.preference import Preference
from harness.contracts import Entry, Metric


class _Level(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)


def test_plcc_agrees_with_numpy_and_has_a_finite_gradient_where_it_is_undefined():
    x, y = torch.rand(2, 20, dtype=torch.float64)
    assert float(differentiable_plcc(x, y)) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    flat = torch.full((5,), 2.0, requires_grad=True)
    differentiable_plcc(flat, torch.arange(5.0)).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize(("step", "spread", "alpha"), [(2, 1.0, 1.0), (3, 1.0, 0.7), (3, 0.0, 1.0)])
def test_the_clean_loss_is_equation_5_after_a_warm_start(step, spread, alpha):
    dist = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = 3 + spread * torch.linspace(-1, 1, 6)
    batch = {"ref": dist, "clean": dist, "dist": dist, "target": target}
    batch |= {"step": torch.tensor(step), "steps": torch.tensor(10)}
    loss, figures = Clean(warm=0.3).loss(_Level(), batch)
    prediction = dist.flatten(1).mean(1).numpy()
    mse = np.mean((prediction - target.numpy()) ** 2)
    correlation = np.corrcoef(prediction, target.numpy())[0, 1] if spread else 0.0
    assert float(loss) == pytest.approx(alpha * mse - (1 - alpha) * correlation, abs=1e-5)
    assert figures["mse"] == pytest.approx(mse, abs=1e-5)


def test_the_preference_loss_is_the_squared_error_of_the_bradley_terry_probability():
    p0, p1 = torch.rand(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 4
    judge = torch.tensor([0.0, 0.2, 0.5, 0.6, 0.8, 1.0])
    loss, figures = Preference().loss(_Level(), {"ref": p0, "p0": p0, "p1": p1, "judge": judge})
    q0, q1 = (images.double().flatten(1).mean(1).numpy() for images in (p0, p1))
    preferred = np.exp(q1) / (np.exp(q0) + np.exp(q1))
    assert float(loss) == pytest.approx(np.mean((preferred - judge.numpy()) ** 2), abs=1e-6)
    assert figures["agreement"] == pytest.approx(np.mean((q1 > q0) == (judge.numpy() > 0.5)))


@pytest.mark.parametrize("recipe", [Clean(batch=4), Preference(batch=4)])
def test_batches_are_shuffled_passes(recipe):
    entries = [Entry(str(i), "r", opinion=0.5) for i in range(10)]
    batches = recipe.batches(entries, np.random.default_rng(0))
    drawn = [next(batches) for _ in range(5)]
    indices = np.concatenate([chosen for chosen, _ in drawn])
    assert np.bincount(indices).tolist() == [2] * 10
    assert sorted(indices[:10]) == list(range(10)) != indices[:10].tolist()
    assert not any(any(attacked) for _, attacked in drawn)
