"""Anchored training against a search over all anchors, and Theorem 1 against what its own proof allows."""

import itertools
import math

import numpy as np
import pytest
import torch

from defenses.recipes.anchored import Anchored
from defenses.recipes.bands import anchor_places
from defenses.recipes.bound import hinges, nearest_anchors, theorem_1, top_mean
from harness.contracts import ContradictionError, Entry, Metric, TrainingBatch
from harness.plugins.registry import Registry

WIDE = ("aat-wide", "mix", "anchors", "anchors-hinge")


def _entries(labels):
    return [Entry(str(i), f"r{i % 7}", opinion=float(label)) for i, label in enumerate(labels)]


def _drawn(recipe, labels, count=40, seed=3):
    return list(itertools.islice(recipe.batches(_entries(labels), np.random.default_rng(seed)), count))


def _preset(name, **parameters):
    return Registry().recipe(name).build(parameters)


LABELS = {
    "heavy": np.random.default_rng(0).beta(0.3, 0.6, 400),
    "tied": np.random.default_rng(1).integers(0, 9, 300) / 8,
    "sparse": np.concatenate((np.linspace(0, 0.02, 40), [0.5], np.linspace(0.97, 1, 60))),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("band", [0.05, 1.0])
def test_anchors_are_what_a_search_over_all_rows_finds(labels, band):
    for indices, attacked in _drawn(Anchored(band=band), labels):
        y = labels[indices]
        assert (np.diff(y) >= 0).all() and sum(attacked) == 8 and len(y) == 16
        if band == 1:
            taken = [0, 15]
            for place in [y[0] + (y[15] - y[0]) * i / 7 for i in range(1, 7)]:
                taken.append(min(set(range(16)) - set(taken), key=lambda i: (abs(y[i] - place), i)))
            assert sorted(taken) == [i for i, flag in enumerate(attacked) if not flag]
        else:
            assert len(set(indices)) == 16 and not attacked[0] and not attacked[15]


def test_a_narrow_band_keeps_to_its_width_and_is_widened_by_half_where_it_holds_too_little():
    spans = [np.ptp(LABELS["heavy"][i]) for i, _ in _drawn(Anchored(), LABELS["heavy"], 200)]
    assert max(spans) <= 0.05 * np.ptp(LABELS["heavy"]) + 1e-12
    few = np.linspace(0, 1, 40)
    widths = {math.ceil(np.ptp(few[i]) * 39 - 1e-9) for i, _ in _drawn(Anchored(), few, 60)}
    # 16 of 40 even labels span 15/39 = .385 of the range: .05 x 1.5^6 = .57 is the first width that always holds them,
    # .05 x 1.5^5 = .3797 is too narrow for any.
    assert max(widths) <= 0.05 * 1.5**6 * 39 and min(widths) >= 15


def test_quantile_places_follow_the_images_and_even_places_the_labels():
    labels = np.concatenate((np.linspace(0, 0.1, 91), [0.4, 0.7, 1.0]))
    assert anchor_places(labels, 4, "even") == [0, 91, 92, 93]
    assert anchor_places(labels, 4, "quantile") == [0, 31, 62, 93]


def test_the_four_wide_presets_see_the_same_batches():
    first, *others = (_drawn(_preset(name), LABELS["heavy"]) for name in WIDE)
    assert all(other == first for other in others)


def test_check_counts_thin_bands_and_refuses_what_cannot_be_drawn():
    assert Anchored().check(_entries(np.linspace(0, 1, 2000))) == ()
    (line,) = Anchored().check(_entries(LABELS["sparse"]))
    assert line.startswith("18 of the 20 bands") and "repeated" in line
    (line,) = Anchored().check(_entries(np.linspace(0, 1, 40)))
    assert line.startswith("20 of the 20 bands") and "widened" in line
    for labels, seen in (([0.1, 0.5, 0.9] * 5, "15 images with 3"), ([0.5] * 99, "99 images with 1 different")):
        with pytest.raises(ValueError, match=seen):
            Anchored().check(_entries(labels))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"band": 0.0}, "band"), ({"anchors": 16}, "anchors"), ({"top": 9}, "top"), ({"hinge": 1.1}, "hinge")],
)
def test_parameters_that_cannot_be_had_are_named(wrong, named):
    with pytest.raises(ValueError, match=f"^{named} should be"):
        Anchored(**wrong)


def _searched(labels, predictions, anchors, others, width):
    """Hinges by going over every anchor."""
    found = []
    for j in others:
        below = [i for i in anchors if labels[i] <= labels[j]]
        above = [i for i in anchors if labels[i] >= labels[j]]
        low, high = max(labels[i] for i in below), min(labels[i] for i in above)
        lower = next(i for i in anchors if labels[i] == low)
        upper = next(i for i in anchors if labels[i] == high)
        over, under = predictions[j] - predictions[upper], predictions[lower] - predictions[j]
        found.append(max(over, under, 0) / width)
    return found


def test_nearest_anchors_hinges_and_top_k_are_what_a_search_finds():
    rng = np.random.default_rng(5)
    for _ in range(200):
        labels = np.sort(rng.integers(0, rng.integers(2, 40), 16) / 8.0)
        anchors = np.sort(np.concatenate(([0, 15], rng.choice(np.arange(1, 15), 6, replace=False))))
        others = np.setdiff1d(np.arange(16), anchors)
        predictions = rng.standard_normal(16)
        y, q = torch.tensor(labels), torch.tensor(predictions)
        near = nearest_anchors(y[others], y[anchors])
        got = hinges(q[others], q[anchors], near, 0.2)
        want = _searched(labels, predictions, anchors.tolist(), others.tolist(), 0.2)
        assert bool(near.covered)
        torch.testing.assert_close(got, torch.tensor(want, dtype=got.dtype))
        assert float(top_mean(got, 4)) == pytest.approx(np.mean(sorted(want)[-4:]))


def test_the_bound_of_the_worked_example():
    # An anchor errs by .1, labels lie .25 from the next anchor's, the hinge is .1 / 10: .1 + .25 + 10 x .01 = .45.
    labels, predictions = torch.tensor([1.0, 1.25, 1.5]), torch.tensor([1.1, 1.6, 1.5])
    figures = theorem_1(predictions, labels, torch.tensor([0, 2]), torch.tensor([1]), 10.0)
    assert float(figures["bound"]) == pytest.approx(0.45)
    assert float(figures["worst"]) == pytest.approx(0.35) and float(figures["slack"]) == pytest.approx(0.1)


def test_the_bound_holds_for_any_predictions_with_ties_and_heavy_tails():
    rng = np.random.default_rng(11)
    tightest = np.inf
    for trial in range(3000):
        scale = 10.0 ** rng.uniform(-3, 6)
        labels = np.sort(rng.standard_cauchy(16) if trial % 2 else rng.integers(0, 6, 16)) * scale
        predictions = rng.standard_cauchy(16) * scale + rng.choice([0, 1]) * labels
        anchors = np.concatenate(([0, 15], rng.choice(np.arange(1, 15), 6, replace=False)))
        others = np.setdiff1d(np.arange(16), anchors)
        y, q = (torch.tensor(values, dtype=torch.float32) for values in (labels, predictions))
        figures = theorem_1(q, y, torch.tensor(anchors), torch.tensor(others), scale * 10.0 ** rng.uniform(-2, 1))
        assert float(figures["coverage"]) == 1
        tightest = min(tightest, float(figures["slack"]) / scale)
    assert -1e-5 < tightest < 0.1


def test_without_coverage_nothing_is_claimed_and_a_wrong_bound_stops_the_run(monkeypatch):
    labels, predictions = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([2.0, 9.0, 3.0])
    anchors, others = torch.tensor([0, 2]), torch.tensor([1])
    figures = theorem_1(predictions, labels, anchors, others, 1.0)
    assert float(figures["coverage"]) == 0 and figures["bound"].isnan()
    monkeypatch.setattr("defenses.recipes.bound.hinges", lambda *given: torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ContradictionError, match="Theorem 1 is violated"):
        theorem_1(predictions, torch.tensor([2.0, 2.5, 3.0]), anchors, others, 1.0)


class _Given(Metric):
    """Answers what the first pixel of an image says."""

    higher_is_better = True

    def score(self, reference, dist):
        return dist[:, 0, 0, 0]


@pytest.mark.parametrize("name", ["aat", *WIDE])
def test_the_loss_of_every_preset_is_the_table_of_the_arms(name):
    recipe = _preset(name)
    rng = np.random.default_rng(2)
    labels = np.sort(rng.uniform(1, 5, 16))
    attacked = np.ones(16, bool)
    attacked[anchor_places(labels, 8)] = False
    q = torch.tensor(rng.uniform(1, 5, 16), dtype=torch.float32)
    images = q.view(16, 1, 1, 1).expand(16, 3, 2, 2)
    tensors = {"ref": images, "clean": images, "dist": images, "attacked": torch.tensor(attacked)}
    tensors |= {"target": torch.tensor(labels, dtype=torch.float32), "limits": torch.tensor([1.0, 5.0])}
    loss, figures = recipe.loss(_Given(), TrainingBatch(tensors))
    rows = np.arange(16) if name in ("mix", "aat-wide") else np.flatnonzero(~attacked)
    weight = 0.5 if name in ("aat", "aat-wide", "anchors-hinge") else 0.0
    width = 0.2 if name == "aat" else 4.0
    p = q.double().numpy()
    mse = np.mean((p[rows] - labels[rows]) ** 2)
    regression = 0.7 * mse - 0.3 * np.corrcoef(p[rows], labels[rows])[0, 1]
    found = _searched(labels, p, np.flatnonzero(~attacked).tolist(), np.flatnonzero(attacked).tolist(), width)
    anchored = np.mean(sorted(found)[-4:])
    assert float(loss) == pytest.approx((1 - weight) * regression + weight * anchored, rel=1e-5)
    assert float(figures["hinge_max"]) == pytest.approx(max(found), rel=1e-5)
    assert all(figure.ndim == 0 and not figure.requires_grad for figure in figures.values())
