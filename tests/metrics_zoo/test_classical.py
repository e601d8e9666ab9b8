"""The library computes in float64; we are compared in float64, where only rules can differ, and in float32."""

import math
import sys

import pytest
import pytorch_msssim
import torch

from harness.contracts import map_tree
from harness.datasets.mini import Mini
from harness.testing.common import identical, image_pairs, take_rows, worst_slope
from metrics_zoo.classical.fsim import FSIM
from metrics_zoo.classical.gmsd import GMSD
from metrics_zoo.classical.haarpsi import HaarPSI
from metrics_zoo.classical.maps import gradient_magnitude, halve, root, window
from metrics_zoo.classical.ms_ssim import MSSSIM
from metrics_zoo.classical.vifp import VIFp
from metrics_zoo.gaussian import TAPS, luma

METRICS = {"ms_ssim": MSSSIM(), "gmsd": GMSD(), "vifp": VIFp(), "haarpsi": HaarPSI(), "fsim": FSIM()}
PERFECT = {"ms_ssim": 1, "gmsd": 0, "vifp": 1, "haarpsi": 1, "fsim": 1}

EXACT = {
    "ms_ssim": 1e-11,
    "gmsd": 1e-12,
    # Windows of variance below 1e-10 count as flat here, below 1.5e-13 there.
    "vifp": 1e-5,
    # The weight that saves black pairs.
    "haarpsi": 1e-7,
    # Amplitudes of 1e-7 save flat images here, of 2e-16 / 255 there.
    "fsim": 5e-6,
}
"""Largest difference when both compute in float64."""
ROUNDED = {
    "ms_ssim": 5e-6,
    "gmsd": 1e-6,
    # Local variances of smooth places lose their digits.
    "vifp": 1e-4,
    "haarpsi": 2e-6,
    "fsim": 5e-6,
}
"""Largest difference of our float32 from the library's float64."""


AUTHORS_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)
"""Colours as FeatureSIM.m and HaarPSI.m have them, to three digits; piq has I and Q to four."""


@pytest.fixture(scope="module")
def peers(piq):
    """Name -> library's scores of (references, distorted images)."""

    def in_colours_of_the_authors(function):
        module = sys.modules[function.__module__]

        def scores(ref, dist):
            with pytest.MonkeyPatch.context() as patch:
                yiq = AUTHORS_YIQ.to(ref.dtype)
                patch.setattr(module, "rgb2yiq", lambda images: torch.einsum("ij,njhw->nihw", yiq, images))
                return function(dist, ref, reduction="none")

        return scores

    def ms_ssim(ref, dist):
        # Its own window is rounded to float32, which moves scores of smooth images by 1e-5.
        taps = torch.tensor(TAPS[:0:-1] + TAPS, dtype=ref.dtype).view(1, 1, 1, -1)
        return pytorch_msssim.ms_ssim(luma(dist), luma(ref), data_range=1, size_average=False, win=taps)

    return {
        "ms_ssim": ms_ssim,
        "gmsd": lambda ref, dist: piq.gmsd(dist, ref, reduction="none"),
        "vifp": lambda ref, dist: piq.vif_p(dist, ref, reduction="none"),
        "haarpsi": in_colours_of_the_authors(piq.haarpsi),
        "fsim": in_colours_of_the_authors(piq.fsim),
    }


@pytest.fixture(scope="session")
def mini_pairs():
    """A photograph and drawn images under several distortions, mirrored to 251 x 256 so that five scales fit."""
    data = Mini()
    chosen = [data.entries("test")[i] for i in (0, 485, 1067, 1552)] + [data.entries("train")[i] for i in (401, 1604)]
    loaded = [data.load(entry) for entry in chosen]

    def stacked(key):
        images = torch.stack([images[key] for images in loaded])
        images = torch.cat((images, images.flip(3)), dim=3)
        return torch.cat((images, images.flip(2)), dim=2)[..., :251, :]

    return stacked("ref"), stacked("dist")


def assert_agreement(name, peers, ref, dist):
    metric = METRICS[name]
    with torch.inference_mode():
        theirs = peers[name](ref.double(), dist.double()).tolist()
        assert metric(ref=ref.double(), dist=dist.double()).tolist() == pytest.approx(theirs, abs=EXACT[name])
        assert metric(ref=ref, dist=dist).tolist() == pytest.approx(theirs, abs=ROUNDED[name])


@pytest.mark.parametrize("size", [(176, 208), (161, 170), (187, 163)])
@pytest.mark.parametrize("name", METRICS)
def test_agreement_with_a_library(name, size, peers):
    assert_agreement(name, peers, *image_pairs(*size, 3))


@pytest.mark.parametrize("name", METRICS)
def test_agreement_with_a_library_on_the_embedded_data_set(name, peers, mini_pairs):
    assert_agreement(name, peers, *mini_pairs)


@pytest.mark.parametrize("name", METRICS)
def test_agreement_with_a_library_at_the_smallest_size(name, peers):
    least = METRICS[name].minimum_size
    assert_agreement(name, peers, *image_pairs(least, least, 2))
    assert_agreement(name, peers, *image_pairs(least + 1, least + 4, 2))


@pytest.mark.parametrize("size", [(384, 400), (400, 641)])
def test_fsim_averages_large_images_as_the_library_does(size, peers):
    assert_agreement("fsim", peers, *image_pairs(*size, 1))


@pytest.mark.parametrize("name", METRICS)
def test_an_encoded_reference_gives_the_same_bits(name):
    metric = METRICS[name]
    ref, dist = image_pairs(max(metric.minimum_size, 48), max(metric.minimum_size, 51), 3)
    direct = metric(ref=ref, dist=dist)
    with torch.no_grad():
        encoded = metric.encode(ref)
    kept = map_tree(torch.clone, encoded)
    assert identical(metric.score(encoded, dist), direct)
    metric.score(encoded, ref)
    assert identical(kept, encoded)
    assert identical(metric.score(encoded, dist.clone().requires_grad_()).detach(), direct)
    rows = torch.tensor([2, 0])
    assert metric.score(take_rows(encoded, rows), dist[rows]).tolist() == pytest.approx(direct[rows].tolist(), rel=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_gradients_agree_with_finite_differences(name):
    metric = METRICS[name]
    ref, dist = (images.double() for images in image_pairs(metric.minimum_size, metric.minimum_size + 3, 2))
    encoded = metric.encode(ref)
    assert worst_slope(lambda images: metric.score(encoded, images), dist).excess <= 1
    if metric.minimum_size < 100:
        dist.requires_grad_()
        assert torch.autograd.gradcheck(lambda images: metric.score(encoded, images), (dist,), fast_mode=True)


def test_gradients_of_the_shared_parts_agree_with_finite_differences():
    maps = torch.rand(1, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: window(x, (0.4, 0.2, 0.1)), (maps,))
    assert torch.autograd.gradgradcheck(lambda x: window(x, (0.4, 0.2, 0.1)), (maps,))
    assert torch.autograd.gradcheck(halve, (maps,))
    assert torch.autograd.gradcheck(lambda x: gradient_magnitude(x, 0.3, 0.4), (maps,))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("image", ["natural", "noise", "black", "grey", "white"])
def test_identical_pairs_have_the_best_score_and_a_finite_gradient(name, image):
    metric = METRICS[name]
    side = max(metric.minimum_size, 48)
    levels = {"black": 0.0, "grey": 0.3, "white": 1.0}
    if image == "natural":
        ref = image_pairs(side, side, 1)[0]
    elif image == "noise":
        ref = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    else:
        ref = torch.full((1, 3, side, side), levels[image])
    dist = ref.clone().requires_grad_()
    score = metric(ref=ref, dist=dist)
    score.sum().backward()
    assert float(score.detach()) == pytest.approx(PERFECT[name], abs=3e-6)
    assert dist.grad.isfinite().all()


@pytest.mark.parametrize("name", METRICS)
def test_flat_pairs_have_finite_scores_and_gradients(name):
    metric = METRICS[name]
    side = max(metric.minimum_size, 48)
    natural, _ = image_pairs(side, side, 2)
    flat = torch.tensor([0.0, 0.3]).view(2, 1, 1, 1).expand(2, 3, side, side)
    for ref, other in ((flat, flat.flip(0)), (flat, natural), (natural, flat), (natural, 1 - natural)):
        dist = other.clone().requires_grad_()
        score = metric(ref=ref, dist=dist)
        score.sum().backward()
        assert score.isfinite().all()
        assert dist.grad.isfinite().all()


@pytest.mark.parametrize("name", METRICS)
def test_a_sample_does_not_depend_on_its_batch(name):
    metric = METRICS[name]
    ref, dist = image_pairs(max(metric.minimum_size, 48), max(metric.minimum_size, 51), 3)
    alone = [float(metric(ref=ref[i : i + 1], dist=dist[i : i + 1])) for i in range(3)]
    assert metric(ref=ref, dist=dist).tolist() == pytest.approx(alone, rel=1e-5)


def test_ms_ssim_of_a_negative_is_0_with_a_gradient_of_0():
    ref, _ = image_pairs(161, 161, 1)
    dist = (1 - ref).requires_grad_()
    score = METRICS["ms_ssim"](ref=ref, dist=dist)
    score.sum().backward()
    assert float(score.detach()) == 0
    assert not dist.grad.any()


def test_ms_ssim_below_its_size_is_no_number():
    image = torch.rand(1, 3, 160, 160)
    assert METRICS["ms_ssim"](ref=image, dist=image).isnan().all()


def test_vifp_rewards_contrast_and_gives_1_to_all_images_of_a_flat_reference():
    ref, dist = image_pairs(64, 64, 2)
    assert (METRICS["vifp"](ref=ref, dist=0.5 + 1.2 * (ref - 0.5)) > 1).all()
    for level in (0.0, 0.25, 1.0):
        assert METRICS["vifp"](ref=torch.full_like(ref, level), dist=dist).tolist() == [1, 1]


def test_vifp_of_a_weakened_image_follows_its_formula():
    """One gain on the whole image: every window shares log(1 + g² v / n) of log(1 + v / n), at n = 2 / 255²."""
    ref, _ = image_pairs(64, 64, 1)
    got = METRICS["vifp"](ref=ref.double(), dist=0.01 * ref.double())
    known = METRICS["vifp"].encode(ref.double())
    shared = sum(torch.log1p(1e-4 / level.precision / (2 / 255**2)).sum() for level in known)
    total = sum(level.information.sum() for level in known)
    assert float(got) == pytest.approx(float(shared / total), rel=1e-6)


def test_gmsd_of_a_ramp_by_hand():
    """Slopes s and s / 2 everywhere but at the border: the similarity inside is (s² + c) / (5 / 4 s² + c)."""
    ramp = torch.arange(40, dtype=torch.float64).view(1, 1, 1, 40).expand(1, 3, 40, 40) / 80
    reference = METRICS["gmsd"].encode(ramp)
    slope = 2 * 2 / 80
    assert reference[0, 0, 5, 5] == pytest.approx(slope, abs=1e-12)
    c = 170 / 255**2
    inside = (slope**2 + c) / (1.25 * slope**2 + c)
    alike = (reference * reference + c) / (1.25 * reference * reference + c)
    assert alike[0, 0, 5, 5] == pytest.approx(inside, abs=1e-12)
    assert float(METRICS["gmsd"](ref=ramp, dist=ramp / 2)) == pytest.approx(float(alike.std(correction=0)), abs=1e-12)


def test_root_has_no_slope_at_0():
    values = torch.tensor([0.0, 4.0], requires_grad=True)
    result = root(values)
    result.sum().backward()
    assert result.tolist() == [0, 2]
    assert values.grad.tolist() == [0, 0.25]
    assert math.isnan(float(root(torch.tensor(math.nan))))
