"""Recipes that attack, and the penalty on slopes, against closed forms of the same numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from defenses.recipes.norm_regularised import NormRegularised
from defenses.recipes.penalised import Penalised
from defenses.recipes.rank2afc import Rank2AFC
from defenses.recipes.vanilla import Vanilla
from harness.contracts import Entry, Metric, TrainingBatch


class _Level(Metric):
    """Answers the mean of an image, whatever the reference."""

    higher_is_better = True

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)


class _Distance(Metric):
    higher_is_better = False

    def score(self, reference, dist):
        return (dist - reference).abs().flatten(1).mean(1)


class _Likeness(_Distance):
    higher_is_better = True

    def score(self, reference, dist):
        return 1 - super().score(reference, dist)


def _batch(metrics=None, labels=(1.0, 2.0, 3.5, 5.0)):
    clean = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    tensors = {"ref": clean.flip(0), "clean": clean, "dist": clean * 0.9, "attacked": torch.ones(4, dtype=torch.bool)}
    tensors |= {"target": torch.tensor(labels), "limits": torch.tensor([1.0, 5.0]), "step": torch.tensor(0)}
    return TrainingBatch(tensors, metrics)


def _regression(prediction, target):
    p, y = np.asarray(prediction, float), np.asarray(target, float)
    return 0.7 * np.mean((p - y) ** 2) - 0.3 * np.corrcoef(p, y)[0, 1]


def test_vanilla_regresses_attacked_images_on_the_labels_as_they_are():
    batch = _batch()
    loss, figures = Vanilla().loss(_Level(), batch)
    prediction = batch["dist"].flatten(1).mean(1)
    assert float(loss) == pytest.approx(_regression(prediction, batch["target"]), rel=1e-5)
    assert set(figures) == {"mse", "plcc"}


@pytest.mark.parametrize("judge", [_Distance(), _Likeness()], ids=["distance", "quality"])
def test_penalised_labels_fall_with_the_distance_and_stay_within_the_limits(judge):
    batch = _batch(lambda name: {"mine": judge}[name])
    recipe = Penalised(distance="mine", penalty=3.0)
    seen = (batch["clean"] * 0.1).flatten(1).mean(1).numpy()  # dist is .9 of clean
    want = np.clip(batch["target"].numpy() - 3 * seen * 4, 1, 5)
    assert want[0] == 1 < want[-1]
    np.testing.assert_allclose(recipe.penalised(batch), want, rtol=1e-5)
    loss, figures = recipe.loss(_Level(), batch)
    both = torch.cat((batch["dist"], batch["clean"])).flatten(1).mean(1)
    assert float(loss) == pytest.approx(_regression(both, np.concatenate((want, batch["target"]))), rel=1e-5)
    assert float(figures["penalty"]) == pytest.approx(np.mean(batch["target"].numpy() - want), rel=1e-5)
    assert recipe.uses_metrics() == ("mine",)


def test_a_quality_that_is_not_1_for_an_image_and_itself_is_no_distance():
    with pytest.raises(
        ValueError, match=r"distance 'psnr' gives an image compared with itself .* and not 1.*Take ssim"
    ):
        Penalised(distance="psnr").check([])
    assert not any(Penalised(distance=name).check([]) for name in ("ssim", "ms_ssim", "lpips-alex", "constant"))


def test_a_constant_penalty_needs_no_metric():
    recipe = Penalised(distance="constant", constant=0.1)
    assert recipe.uses_metrics() == ()
    np.testing.assert_allclose(recipe.penalised(_batch()), [1.0, 1.6, 3.1, 4.6], rtol=1e-6)


class _Linear(Metric):
    """w . x + b, of which the gradient is w everywhere."""

    higher_is_better = True

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 48).view(3, 4, 4))
        self.drop = nn.Dropout(0.5)

    def score(self, reference, dist):
        return (self.drop(dist) * self.w).flatten(1).sum(1)


@pytest.mark.parametrize("h", [0.01, 0.5])
def test_the_penalty_of_a_linear_metric_is_its_squared_slope(h):
    metric, batch = _Linear().train(), _batch()
    loss, figures = NormRegularised(weight=0.5, h=h).loss(metric, batch)
    squared = float(metric.w.detach().square().sum())
    prediction = (batch["clean"] * metric.w).flatten(1).sum(1).detach()
    assert float(loss.detach()) == pytest.approx(_regression(prediction, batch["target"]) + 0.5 * squared, rel=1e-3)
    assert float(figures["gradient_norm"]) == pytest.approx(np.sqrt(squared), rel=1e-3)
    assert metric.training and metric.drop.training and not batch["clean"].requires_grad
    with_it = torch.autograd.grad(loss, metric.w)[0]
    without = torch.autograd.grad(NormRegularised(weight=0, h=h).loss(metric, batch)[0], metric.w)[0]
    torch.testing.assert_close(with_it - without, metric.w.detach(), rtol=1e-2, atol=1e-3)  # .5 x d|w|^2/dw


@pytest.mark.parametrize("clean", [False, True])
def test_the_2afc_loss_is_the_cross_entropy_of_the_margin(clean):
    p0, p1, c0, c1 = torch.rand(4, 6, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    judge = torch.tensor([0.0, 0.2, 0.5, 0.6, 0.8, 1.0])
    batch = TrainingBatch({"ref": p0, "p0": p0, "p1": p1, "clean_p0": c0, "clean_p1": c1, "judge": judge})
    loss, figures = Rank2AFC(clean=clean, temperature=0.2).loss(_Level(), batch)
    margins = [(b - a).flatten(1).mean(1) for a, b in ([(p0, p1), (c0, c1)] if clean else [(p0, p1)])]
    want = np.mean([float(F.binary_cross_entropy(torch.sigmoid(m / 0.2), judge)) for m in margins])
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert float(figures["agreement"]) == pytest.approx(((margins[0] > 0) == (judge > 0.5)).double().mean())


def test_a_share_of_the_triplets_is_attacked():
    entries = [Entry(str(i), "r", judge=1.0) for i in range(40)]
    batches = Rank2AFC(share=0.25, batch=40).batches(entries, np.random.default_rng(0))
    flags = [flag for _ in range(50) for flag in next(batches)[1]]
    assert np.mean(flags) == pytest.approx(0.25, abs=0.04)
