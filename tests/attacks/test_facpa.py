"""FACPA: what a generator learns, that it is learnt once, and that its shapes are the published ones."""

import math

import numpy as np
import pytest
import torch

from attacks.facpa import FACPA, Generator
from harness.contracts import Budget, Metric, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry
from harness.testing import check_attack
from harness.testing.common import identical

EPS = 8 / 255
SMALL = {"width": 4, "depth": 2, "iterations": 6}


class Colours(Metric):
    """Mean of w x (dist - ref) with one w for each channel: the optimum is eps sign(w) everywhere."""

    cite = ""
    higher_is_better = True
    weights = torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1)

    def score(self, reference, dist):
        return (self.weights * (dist - reference)).flatten(1).mean(1)


def mini_pairs(split, count, every):
    """The middle 64 px of some pairs of the embedded set."""
    mini = Registry().dataset("mini").build({})
    loaded = [mini.load(entry) for entry in mini.entries(split)[::every][:count]]
    return tuple(torch.stack([x[name][..., 32:96, 32:96] for x in loaded]) for name in ("ref", "dist"))


def batches(metric, pairs, sign, scale=1.0, size=4):
    """Endless batches as the engine gives them."""
    ref, dist = pairs
    scorer, rng = Scorer(metric), np.random.default_rng(7)
    while True:
        rows = torch.from_numpy(rng.permutation(len(dist))[:size])
        signs = torch.full((size,), float(sign))
        draws = SampleRng.for_samples(0, [str(int(r)) for r in rows], "defense")
        yield ScorerObjective(scorer, ref[rows], dist[rows], signs, None, draws, scale=scale), dist[rows]


def gains(attack, fitted, metric, pairs, signs, eps=EPS):
    """The gain in J of each sample, and that of noise of the same radius."""
    ref, dist = pairs
    scorer = Scorer(metric)
    budget, aims = Budget("linf", torch.full((len(dist),), eps)), torch.tensor(signs, dtype=torch.float32)
    rng = SampleRng.for_samples(0, [str(i) for i in range(len(dist))], "facpa")
    objective = ScorerObjective(scorer, ref, dist, aims, None, rng, fitted=fitted)
    attacked = attack.perturb(objective, dist.clone(), budget, rng)
    assert int(objective.ledger.forwards.sum()) == 0, "an attack costs no evaluation"
    noisy = budget.project(dist + eps * rng.signs(*dist.shape[1:]), dist)
    with torch.no_grad():
        clean = objective(dist)
        return objective(attacked) - clean, objective(noisy) - clean, attacked


def test_the_network_is_the_published_one():
    with torch.device("meta"):
        published = Generator(64, 8)
    assert sum(p.numel() for p in published.parameters()) == pytest.approx(54.4e6, rel=1e-3)
    assert [c.out_channels for c in published.down] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [c.out_channels for c in published.up] == [512, 512, 512, 512, 256, 128, 64, 3]


@pytest.mark.parametrize(("depth", "size"), [(1, (5, 7)), (3, (8, 8)), (5, (40, 33)), (4, (3, 50))])
def test_any_size_and_a_bottleneck_of_one_pixel(depth, size):
    network = Generator(4, depth).train()
    images = torch.rand(2, 3, *size)
    values = network(images)
    assert values.shape == images.shape and bool((values.abs() <= 1).all())
    assert not torch.equal(network(images), values) or depth == 1, "dropout in training"
    again = Generator.of(network.state_dict())
    assert torch.equal(again(images), again(images)), "and none afterwards"
    assert not again.training and len(again.down) == depth


def test_mirroring_goes_back_and_forth():
    from attacks.facpa import _mirrored

    there = np.arange(5)
    for padded in (5, 8, 16):
        expected = np.pad(there, (0, padded - 5), mode="reflect")
        assert _mirrored(5, padded, torch.device("cpu")).tolist() == expected.tolist()
    assert _mirrored(1, 4, torch.device("cpu")).tolist() == [0, 0, 0, 0]


def test_it_learns_the_closed_form_of_a_linear_metric():
    attack = FACPA(width=8, depth=3, iterations=40, learning_rate=1e-2)
    draws = SampleRng.for_samples(0, [str(i) for i in range(12)], "images").uniform(2, 3, 16, 16, low=0.1, high=0.9)
    train, held_out = (draws[:8, 0], draws[:8, 1]), (draws[8:, 0], draws[8:, 1])
    metric = Colours()
    fitted = {s: attack.fit(batches(metric, train, s), np.random.default_rng(0)) for s in (1, -1)}
    gain, _, attacked = gains(attack, fitted, metric, held_out, [1, -1, 1, -1])
    optimum = EPS * float(metric.weights.abs().mean())
    assert bool((gain >= 0.98 * optimum).all()), gain / optimum
    direction = torch.tensor([1.0, -1, 1, -1]).view(4, 1, 1, 1) * metric.weights.sign()
    assert float((attacked - held_out[1]).mul(direction).gt(0.9 * EPS).float().mean()) > 0.98


@pytest.mark.parametrize("sign", [1, -1])
def test_it_does_what_noise_does_not_on_images_it_never_saw(sign):
    metric = default_metric("ssim", Registry(), torch.device("cpu"))
    attack = FACPA(width=8, depth=5, iterations=30, learning_rate=3e-3)
    fitted = {sign: attack.fit(batches(metric, mini_pairs("train", 8, 399), sign), np.random.default_rng(0))}
    gain, noise, _ = gains(attack, fitted, metric, mini_pairs("test", 4, 699), [sign] * 4)
    assert bool((gain > noise).all())
    half, *_ = gains(attack, fitted, metric, mini_pairs("test", 4, 699), [sign] * 4, EPS / 2)
    assert float(half.mean()) < 0.7 * float(gain.mean()) or sign == 1, "the radius is the attack's, not the training's"


def test_a_window_alone_is_perturbed_and_the_rest_left(monkeypatch):
    ref = torch.full((3, 3, 24, 20), 0.5)
    seen = []

    class Watched(Colours):
        def score(self, reference, dist):
            seen.append((dist - 0.5).abs().amax(1).detach() > 0)
            return super().score(reference, dist)

    attack = FACPA(width=4, depth=2, iterations=3, crop=8)
    attack.fit(batches(Watched(), (ref, ref), 1, size=3), np.random.default_rng(0))
    corners = set()
    for moved in torch.cat(seen):
        rows, columns = moved.any(1).nonzero().flatten(), moved.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == 8 and bool(moved[rows][:, columns].all())
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 5


def test_what_it_learns_is_decided_by_its_rng_alone():
    draws = SampleRng.for_samples(0, [str(i) for i in range(8)], "images").uniform(2, 3, 16, 16)
    pairs, attack = (draws[:, 0], draws[:, 1]), FACPA(**SMALL)

    def learn(seed):
        return attack.fit(batches(Colours(), pairs, 1), np.random.default_rng(seed))

    state = torch.get_rng_state()
    first = learn(0)
    torch.manual_seed(5)
    assert identical(dict(first), dict(learn(0))) and not identical(dict(first), dict(learn(1)))
    torch.set_rng_state(state)
    assert all(bool(value.isfinite().all()) for value in first.values())


def test_depth_follows_the_images():
    for side, depth in ((16, 4), (20, 4), (8, 3)):
        pair = torch.rand(2, 4, 3, side, side + 4).unbind(0)
        learnt = FACPA(width=2, iterations=1).fit(batches(Colours(), pair, 1), np.random.default_rng(0))
        assert sum(name.startswith("down.") and name.endswith("weight") for name in learnt) == depth
        assert depth == math.floor(math.log2(side))


def test_the_conformance_kit():
    check_attack(FACPA(width=2, depth=2, iterations=6, learning_rate=1e-2), name="facpa", size=16)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"iterations": 0}, "iterations should be at least 1, got 0"),
        ({"width": 0}, "width should be at least 1, got 0"),
        ({"depth": 9}, "depth should be from 1 to 8, or left out, got 9"),
        ({"train_eps": 0.0}, "train_eps should be above 0 and at most 1, got 0"),
        ({"learning_rate": 2.0}, "learning_rate should be above 0 and at most 1, got 2"),
    ],
)
def test_wrong_parameters(parameters, said):
    with pytest.raises(ValueError, match=said):
        FACPA(**parameters)


SUITE = """
name: fitted
seed: 0
datasets: [{name: toy, split: test}]
metrics: [linear]
attacks: [noise, {name: facpa, width: 4, depth: 2, iterations: ITERATIONS}]
budgets: {linf: [BUDGETS]}
directions: [up]
"""


def test_one_fit_serves_every_budget_and_run(run_toy, tmp_path):
    def run(iterations, budgets):
        text = SUITE.replace("ITERATIONS", str(iterations)).replace("BUDGETS", budgets)
        assert run_toy(text, tmp_path).failed == 0
        return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "fits").glob("*.safetensors")}

    first = run(4, "4/255")
    assert len(first) == 1, "one source, one sign"
    assert run(4, "4/255, 8/255") == first, "found again, whatever the budget"
    more = run(5, "4/255")
    assert len(more) == 2 and first.items() < more.items(), "another training, another fit"
