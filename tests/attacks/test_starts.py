"""Where attacks start: at the reference, and away from points without a slope; the vanishing optimum of the real metrics."""

import pytest
import torch

from harness.contracts import Metric
from harness.plugins.build import default_metric

EPS = 8 / 255


class Mountain(Metric):
    """Minus the mean squared error: no slope where both images are equal, and its maximum over a ball is restore's."""

    higher_is_better = True

    def score(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1)


def restored(ref, dist, eps):
    return dist + (ref - dist).clamp(-eps, eps)


@pytest.mark.parametrize("parameters", [{"steps": 5}, {"steps": 5, "start": "zero"}], ids=["reference", "zero"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "cw", "zhang"])
def test_where_no_slope_is_seen_a_run_goes_on_from_a_random_point(strike, pairs, name, parameters):
    """Downwards from an image equal to its reference; of the other half of the batch nothing changes."""
    ref, dist = pairs
    ref, dist = ref.clone(), dist.clone()
    dist[:, :, :3], dist[:, :, 3:6] = 0.0, 1.0  # where the box ends, too
    mixed = torch.cat([ref[:2], dist[2:]])
    parameters = {"start": "reference", **parameters}
    run = strike(name, parameters, Mountain(), (ref, mixed), eps=EPS, sign=-1)
    assert (run.gain[:2] > 0).all()
    alone = strike(name, parameters, Mountain(), (ref[2:], dist[2:]), eps=EPS, sign=-1, ids=["sample 2", "sample 3"])
    assert torch.allclose(run.images[2:], alone.images, atol=1e-6)
    assert alone.objective.ledger.forwards.tolist() == run.objective.ledger.forwards[2:].tolist()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("name", "parameters"), [("pgd", {}), ("apgd", {"steps": 10})])
def test_from_the_reference_the_optimum_of_a_squared_error_is_met_at_once(strike, pairs, name, parameters, norm):
    """In closed form: the point of the ball nearest to the reference, by clipping in Linf and by scaling in L2."""
    ref, dist = pairs
    eps = EPS / 2 if norm == "linf" else 0.2
    nearest = restored(ref, dist, eps)
    if norm == "l2":
        way = ref - dist
        nearest = dist + way * (eps / way.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
    run = strike(
        name,
        {"start": "reference", "keep": "best"} if name == "pgd" else {**parameters, "start": "reference"},
        Mountain(),
        pairs,
        norm=norm,
        eps=eps,
        sign=1,
    )
    assert torch.allclose(run.images, nearest, atol=1e-6)


def test_upwards_pgd_stays_at_a_reference_inside_its_ball(strike, pairs):
    ref = pairs[0]
    run = strike("pgd", {"start": "reference"}, Mountain(), (ref, ref + 2 / 255), eps=EPS, sign=1)
    assert torch.allclose(run.images, ref, atol=1e-7)


@pytest.fixture(scope="module")
def photographs(registry):
    """Six embedded photographs, among them some close to their reference."""
    mini = registry.dataset("mini").build({})
    items = [mini.load(entry) for entry in mini.entries("test")[:60:10]]
    return torch.stack([item["ref"] for item in items]), torch.stack([item["dist"] for item in items])


@pytest.mark.parametrize("eps", [4 / 255, 8 / 255])
def test_on_birqa_tiny_the_reference_start_beats_restoring_and_apgd_from_the_image(strike, registry, photographs, eps):
    """In the mean over images, as measured on more of them in docs/protocols.md; every image is at least restore's."""
    metric = default_metric("birqa-tiny", registry, torch.device("cpu"))
    ref, dist = photographs
    near, far = (
        strike("apgd", {"steps": 40, "start": start}, metric, photographs, eps=eps, sign=1).gain
        for start in ("reference", "zero")
    )
    with torch.no_grad():
        restore = metric(ref=ref, dist=restored(ref, dist, eps)) - metric(ref=ref, dist=dist)
    assert (near >= restore - 1e-6).all() and near.mean() > 1.01 * restore.mean()
    assert near.mean() > 1.02 * far.mean()


def test_apgd_from_the_image_still_reaches_the_optimum_of_psnr(strike, registry, photographs):
    metric = default_metric("psnr", registry, torch.device("cpu"))
    ref, dist = photographs
    eps = 4 / 255
    run = strike("apgd", {"steps": 10}, metric, photographs, eps=eps, sign=1)
    with torch.no_grad():
        best = metric(ref=ref, dist=restored(ref, dist, eps)) - metric(ref=ref, dist=dist)
    outside = (ref - dist).flatten(1).abs().mean(1) > eps
    assert torch.allclose(run.gain[outside], best[outside], rtol=4e-3)
    assert (run.gain >= 0.95 * best).all(), "near a reference the steps that are left are coarse"
