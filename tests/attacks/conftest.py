"""What the tests of attacks share: metrics with a known optimum, one run as the engine makes it, peers' classifiers."""

from dataclasses import dataclass

import pytest
import torch

from harness.contracts import Budget, Metric, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.testing.common import Small, image_pairs


class Weighted(Metric):
    """Mean of w x (dist - ref), w fixed and of many sizes."""

    higher_is_better = True

    @staticmethod
    def weights(images):
        return torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(3)) * 2

    def score(self, reference, dist):
        return (self.weights(dist) * (dist - reference)).flatten(1).mean(1)

    def optimum(self, dist, norm, eps, sign):
        """The largest gain in J there is; in L2 as if there were no box."""
        weights = self.weights(dist)
        if norm == "l2":
            return torch.full((len(dist),), float(eps * weights.norm() / weights.numel()))
        corner = (dist + sign * eps * weights.sign()).clamp(0, 1)
        return sign * (weights * (corner - dist)).flatten(1).mean(1)


@dataclass(frozen=True)
class Outcome:
    """One run: the projected images, their gain in J over the start, and the objective with its counts."""

    images: torch.Tensor
    gain: torch.Tensor
    objective: ScorerObjective


@pytest.fixture(scope="session")
def linear():
    return Weighted()


@pytest.fixture(scope="session")
def curved():
    """A small network with tanh."""
    return Small().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def pairs():
    """(references, distorted images), four of 16 x 20, away from 0 and 1; of others sizes by call."""
    return image_pairs(16, 20)


@pytest.fixture(scope="session")
def strike(registry):
    """Run an attack on a batch as the engine does: every sample has a stream of its own, the result is projected."""
    built = {}

    def build(name):
        if name not in built:
            built[name] = default_metric(name, registry, torch.device("cpu"))
        return built[name]

    def run(name, parameters, metric, pair, *, norm="linf", eps=8 / 255, sign=1.0, scale=1.0, ids=None):
        ref, dist = pair
        count = len(dist)
        budget = Budget(norm, torch.full((count,), eps))
        signs = torch.full((count,), float(sign))
        names = ids or [f"sample {i}" for i in range(count)]
        draws = SampleRng.for_samples(0, names, "defense")
        objective = ScorerObjective(Scorer(metric), ref, dist, signs, budget, draws, scale=scale, build=build)
        rng = SampleRng.for_samples(0, names, name)
        attacked = registry.attack(name).build(parameters).perturb(objective, dist.clone(), budget, rng)
        images = budget.project(attacked, dist)
        assert torch.allclose(images, attacked, atol=1e-5), "attacks here end inside their budget"
        with torch.no_grad():
            encoded = Scorer(metric).encode(ref, SampleRng([]))
            before, after = (Scorer(metric).quality(encoded, x) for x in (dist, images))
        return Outcome(images, sign * (after - before), objective)

    run.build, run.built = build, built
    return run


@pytest.fixture(scope="session")
def same_in_any_batch(strike):
    """The result of each sample alone is that in the batch, at a size that no vector of a processor divides."""

    def check(name, parameters, metric, **options):
        pair = image_pairs(13, 17)
        whole = strike(name, parameters, metric, pair, **options).images
        for i in range(len(whole)):
            alone = strike(name, parameters, metric, [x[i : i + 1] for x in pair], ids=[f"sample {i}"], **options)
            # A metric rounds its sums in other places for one image than for four.
            assert torch.allclose(alone.images[0], whole[i], atol=2e-5), f"sample {i}"
        again = strike(name, parameters, metric, pair, **options).images
        assert torch.equal(again, whole)

    return check


@pytest.fixture
def fetches(monkeypatch):
    """Counts, from now on, how often a number is fetched from a tensor, which on a GPU waits for all work before it.

    `numpy` is not among them: a tensor on a GPU refuses it.
    """
    found = []
    for name in ("item", "__bool__", "__float__", "__int__", "__index__", "cpu"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *arguments, _original=original, _name=name, **options):
            found.append(_name)
            return _original(tensor, *arguments, **options)

        monkeypatch.setattr(torch.Tensor, name, counted)
    return found


class _AsClassifier(torch.nn.Module):
    """A scorer as a classifier of one image whose cross-entropy for class 0 rises with J, and never saturates."""

    def __init__(self, metric, ref, dist, sign, scale):
        super().__init__()
        self.metric, self.sign, self.scale = metric, sign, scale
        with torch.no_grad():
            self.encoded = metric.encode(ref)
            self.tau = self.j(dist) + scale

    def j(self, images):
        quality = self.metric.score(self.encoded, images) * (1 if self.metric.higher_is_better else -1)
        return self.sign * quality

    def forward(self, images):
        z = (self.tau - self.j(images)) / self.scale
        low = torch.full_like(z, -20.0)
        return torch.stack([z, -z, low, low], dim=1)


@pytest.fixture(scope="session")
def classifier():
    """(metric, ref, dist, sign, scale) -> what classifiers' attack libraries take for a model."""
    return lambda *arguments: _AsClassifier(*arguments).eval()


class _Given:
    """A stream that gives numbers drawn elsewhere, so that two libraries start at the same place."""

    def __init__(self, uniform=None, normal=None, length=1.0):
        self._uniform, self._normal, self._length = uniform, normal, length

    def uniform(self, *shape, low=0.0, high=1.0):
        return self._uniform if shape else torch.full((1,), self._length)

    def normal(self, *shape):
        return self._normal


@pytest.fixture(scope="session")
def given():
    return _Given
