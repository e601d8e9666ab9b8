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


CLIMBERS = {
    "fgsm": {},
    "pgd": {"start": "zero"},
    "apgd": {"steps": 10},
    "cw": {"steps": 20},
    "cw_l2": {"searches": 3, "steps": 20},
    "zhang": {},
    "autoattack": {"steps": 10, "queries": 10, "restarts": 1, "draws": 1},
    "bpda": {},
    "smoothed": {"copies": 2},
    "pgd_on_grid": {},
    "pgd_traced": {"looks": 1},
}
"""Every attack that follows a gradient at the images it is given."""
SHORTEST = 0.2
"""Radius in L2."""


def flat(*greys):
    """One image of each grey, 16 x 20."""
    return torch.stack([torch.full((3, 16, 20), grey) for grey in greys])


def test_the_list_is_whole(registry):
    names = [
        name for name in registry.names("attacks") if registry.source("attacks", name).origin.startswith("attacks")
    ]
    kinds = {
        name: registry.attack(name).cls for name in names if ".bridges" not in registry.source("attacks", name).origin
    }
    found = {name for name, kind in kinds.items() if kind.needs_gradient and not kind.control and not kind.fits}
    assert found == set(CLIMBERS), "facpa asks its own network alone"


@pytest.mark.parametrize("name", CLIMBERS)
def test_flat_images_that_equal_their_reference_are_moved(strike, registry, name):
    """Black, white and grey, where the squared error has its minimum, and all a ball allows is known in closed form."""
    norm = "l2" if name == "cw_l2" else "linf"
    most = SHORTEST**2 / (3 * 16 * 20) if norm == "l2" else EPS**2
    images = flat(0.0, 0.5, 1.0)
    gain = strike(
        name, CLIMBERS[name], Mountain(), (images, images), norm=norm, eps=EPS if norm == "linf" else SHORTEST, sign=-1
    ).gain
    # At the end of the box about half of the values of a random point stay where they are, and have no slope there.
    # Zhang's stops where its own measure of fidelity holds it.
    share = {"zhang": 0.02, "cw": 0.2}.get(name, 0.35)
    assert (gain >= share * most).all() and (gain <= most * (1 + 1e-4)).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "cw", "cw_l2", "zhang"])
def test_where_there_is_a_slope_not_a_byte_changes(strike, curved, pairs, name, monkeypatch):
    options = {"norm": "l2", "eps": SHORTEST} if name == "cw_l2" else {"eps": EPS}
    now = strike(name, CLIMBERS[name], curved, pairs, sign=-1, **options)
    monkeypatch.setattr(
        f"attacks.{name}.moved_off", lambda climbed, points, value, slope, *rest: (points, value, slope)
    )
    before = strike(name, CLIMBERS[name], curved, pairs, sign=-1, **options)
    assert torch.equal(now.images, before.images)
    assert now.objective.ledger.forwards.tolist() == before.objective.ledger.forwards.tolist()


def test_fgsm_is_its_formula(strike, linear, pairs):
    """x + eps sign(dJ/dx), clipped to the box; at an image without a slope from the corner of a ball's random point."""
    dist = pairs[1]
    run = strike("fgsm", {}, linear, pairs, eps=EPS, sign=-1)
    assert torch.equal(run.images, (dist + torch.tensor(EPS) * -linear.weights(dist).sign()).clamp(0, 1))
    grey = flat(0.5)
    moved = strike("fgsm", {}, Mountain(), (grey, grey), eps=EPS, sign=-1)
    assert torch.allclose((moved.images - grey).abs(), torch.tensor(EPS)), "every value, to the end of the ball"
    assert moved.objective.ledger.backwards.tolist() == [2]
    assert moved.objective.ledger.zero_gradients.tolist() == [1]


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
