"""A pair of images with the values that the metrics' own MATLAB programs gave for it, and ssim.m's parts one by one."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import correlate
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.datasets.images import read_image
from harness.plugins.registry import Registry
from harness.testing import check_metric
from harness.testing.common import image_pairs
from metrics_zoo.gaussian import RGB2GRAY, luma, on_grid
from metrics_zoo.ssim import averaged, block_of


def built(name, **parameters):
    return Registry().metric(name).build(parameters)


@pytest.fixture(scope="module")
def published(test_data):
    """TID2013's I01 and its additive noise of level 5."""
    files = test_data / "tid2013_subset/references/I01.png", test_data / "ssim/i01_01_5.png"
    return tuple(read_image(file).double()[None] for file in files)


@pytest.mark.parametrize(
    ("name", "parameters", "value", "tolerance"),
    [
        ("ssim-matlab-rgb", {}, 0.7820, 5e-5),
        ("ssim-matlab", {"channel": "rgb"}, 0.7820, 5e-5),
        ("ssim", {"channel": "rgb", "downsample": True}, 0.7820, 5e-5),
        ("haarpsi", {}, 0.71706527, 1e-8),
        # Of three ways to make a luma none gives all digits; these are the distances of two of them.
        ("gmsd", {}, 0.094124655829098, 2e-6),
        ("gmsd", {"luma": "uint8"}, 0.094124655829098, 5e-6),
        # 2.3e-5 above it, and piq 2.7e-5.
        ("fsim", {}, 0.92587, 3e-5),
        ("vifp", {}, 0.3147, 5e-5),
    ],
)
def test_the_published_pair_has_its_published_values(name, parameters, value, tolerance, published):
    ref, dist = published
    assert float(built(name, **parameters)(ref=ref, dist=dist)) == pytest.approx(value, abs=tolerance)
    assert float(built(name, **parameters)(ref=ref.float(), dist=dist.float())) == pytest.approx(value, abs=1e-4)


def test_ssim_as_it_is_and_of_the_luma_are_other_numbers_than_the_published_one(published):
    ref, dist = published
    assert float(built("ssim", channel="rgb")(ref=ref, dist=dist)) == pytest.approx(0.527, abs=1e-3)
    assert float(built("ssim")(ref=ref, dist=dist)) == pytest.approx(0.679, abs=1e-3)
    assert float(built("ssim-matlab")(ref=ref, dist=dist)) == pytest.approx(0.880, abs=1e-3)


def by_scipy(maps, block):
    """Every block-th value of imfilter(maps, fspecial('average', block), 'symmetric', 'same')."""
    # MATLAB's window of an even side begins block / 2 - 1 pixels before the pixel, scipy's block / 2.
    kernel, origin = np.full((block, block), 1 / block**2), -1 if block % 2 == 0 else 0
    return correlate(maps, kernel, mode="reflect", origin=origin)[::block, ::block]


@pytest.mark.parametrize("size", [(383, 400), (384, 401), (640, 643)])
def test_ssim_matlab_is_ssim_m_in_other_libraries(size):
    """Rounded grey by numpy, averaged by scipy, compared by scikit-image; 640 px are 2.5 blocks, which MATLAB calls 3."""
    images = [on_grid(image).double() for image in image_pairs(*size, 1)]
    block = int(np.floor(min(size) / 256 + 0.5))
    gray = [np.floor(np.tensordot(RGB2GRAY, 255 * i[0].numpy(), 1) + 0.5) for i in images]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    theirs = structural_similarity(*(by_scipy(image, block) for image in gray), **options)
    assert float(built("ssim-matlab")(ref=images[0], dist=images[1])) == pytest.approx(theirs, abs=1e-9)
    assert block_of(images[0]) == block


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5])
def test_averages_begin_and_end_as_matlabs_do(block):
    maps = torch.rand(1, 1, 23, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert np.abs(averaged(maps, block)[0, 0].numpy() - by_scipy(maps[0, 0].numpy(), block)).max() < 1e-12


def test_the_weights_of_rgb2gray_are_those_of_the_inverse_ntsc_matrix():
    ntsc = [[1, 0.956, 0.621], [1, -0.272, -0.647], [1, -1.106, 1.703]]
    assert np.linalg.inv(ntsc)[0].tolist() == pytest.approx(RGB2GRAY, abs=1e-15)


def test_ssim_matlab_rgb_is_piqs_ssim(piq, published):
    ref, dist = (on_grid(images) for images in image_pairs(384, 390, 2))
    for r, d in ((ref, dist), tuple(image.float() for image in published)):
        theirs = piq.ssim(d, r, reduction="none")
        assert built("ssim-matlab-rgb")(ref=r, dist=d).tolist() == pytest.approx(theirs.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_channel_and_crop_border_are_those_of_scikit_image_on_what_is_left(name):
    ref, dist = (images.double() for images in image_pairs(48, 57, 2))
    ours = built(name, channel="y", crop_border=4)(ref=ref, dist=dist)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False} if name == "ssim" else {}
    function = structural_similarity if name == "ssim" else peak_signal_noise_ratio
    left = [luma(images)[:, 0, 4:-4, 4:-4].numpy() for images in (ref, dist)]
    theirs = [function(r, d, data_range=1, **options) for r, d in zip(*left, strict=True)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-9)
    assert built(name, crop_border=4).minimum_size == type(built(name)).minimum_size + 8
    with pytest.raises(ValueError, match="crop_border should be"):
        built(name, crop_border=-1)


def test_psnr_of_the_narrow_luma_of_super_resolution_lies_a_constant_above():
    ref, dist = (images.double() for images in image_pairs(32, 40, 2))
    narrow = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64).view(1, 3, 1, 1)  # MATLAB's rgb2ycbcr
    error = (narrow * (ref - dist)).sum(dim=1).square().flatten(1).mean(dim=1)
    ours = built("psnr", channel="y")(ref=ref, dist=dist) + 20 * math.log10(255 / 219)
    assert ours.tolist() == pytest.approx((10 * torch.log10(255**2 / error)).tolist(), abs=1e-5)


ROUNDING = [("psnr", {}), ("ssim", {}), ("gmsd", {}), ("ms_ssim", {}), ("vifp", {}), ("ssim-matlab", {})]


@pytest.mark.parametrize(("name", "parameters"), ROUNDING)
def test_rounding_passes_the_gradient_of_the_rounded_image_on(name, parameters):
    """On grey images, whose luma is rounded as the pixels are."""
    rounded, exact = built(name, luma="uint8", **parameters), built(name, luma="float", **parameters)
    ref, dist = (i.double().mean(1, keepdim=True).expand(-1, 3, -1, -1) for i in image_pairs(164, 170, 1))
    found = []
    for metric, pair in ((rounded, (ref, dist)), (exact, (on_grid(ref), on_grid(dist)))):
        leaf = pair[1].clone().requires_grad_()
        score = metric(ref=pair[0], dist=leaf)
        score.sum().backward()
        found.append((float(score.detach()), leaf.grad.sum(dim=1)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9) and found[0][0] != float(exact(ref=ref, dist=dist))
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-6, atol=1e-12)
    assert exact.exact_gradient and not rounded.exact_gradient
    encoded = rounded.encode(ref)
    assert torch.equal(rounded.surrogate(encoded, dist), exact.score(encoded, dist))


def test_the_contract_is_kept():
    check_metric(built("ssim-matlab"), name="ssim-matlab")


def test_the_papers_rows_point_at_what_is_the_same_here():
    file = Path(__file__).parents[2] / "suites/paper/published/names.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        here = {row["published"]: yaml.safe_load(row["here"] or "null") for row in csv.DictReader(lines)}
    for entry in filter(None, here.values()):
        given = entry if isinstance(entry, dict) else {"name": entry}
        assert set(given) - {"name"} <= {parameter.name for parameter in Registry().metric(given["name"]).parameters()}
    assert here["SSIM"] == "ssim-matlab" and here["VIF"] is None
