"""Purifiers without a network, against Pillow, scipy and torch, and what they refuse."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from defenses.noise import noise_of, seeds_of
from defenses.purifiers.blur import Blur
from defenses.purifiers.jpeg import Jpeg
from defenses.purifiers.median import Median
from defenses.purifiers.noise import GaussianNoise
from defenses.purifiers.quantise import Quantise
from defenses.purifiers.resize import Resize
from defenses.purifiers.rotate import Rotate
from defenses.purifiers.transform_ensemble import TransformEnsemble
from harness.contracts import SampleRng
from harness.datasets.mini import Mini
from harness.testing import check_purifier

RNG = SampleRng.for_samples(0, ["a", "b"], "defense")


@pytest.fixture(scope="module")
def photographs():
    mini = Mini()
    entries = mini.entries("test")
    return torch.stack([mini.load(one)["ref"][:, :100, :77] for one in (entries[0], entries[-1])])


def as_arrays(images):
    return images.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize("angle", [-14.3, 7.0, 90.0])
def test_rotation_is_pillows(photographs, angle):
    square = photographs[..., :77, :77]
    ours = as_arrays(Rotate(degrees=90).apply(square, torch.full((2,), angle)))
    for image, turned in zip(as_arrays(square), ours, strict=True):
        pixels = Image.fromarray((image * 255).round().astype(np.uint8))
        theirs = np.asarray(pixels.rotate(angle, Image.Resampling.NEAREST)) / 255
        assert (
            np.mean(np.abs(theirs - turned).max(-1) > 1e-3) < 0.002
        )  # ties of "nearest", and the last row at 90 degrees


def test_smooth_rotation_with_mirrored_edges_is_scipys(photographs):
    turned = Rotate(interpolation="bilinear", fill="reflect").apply(photographs.double(), torch.full((2,), 11.0))
    for image, ours in zip(as_arrays(photographs), as_arrays(turned), strict=True):
        theirs = ndimage.rotate(image, 11.0, axes=(1, 0), reshape=False, order=1, mode="reflect")
        assert np.abs(theirs - ours).max() < 1e-4


def test_angles_are_uniform():
    draws = Rotate().draw(torch.rand(400, 3, 4, 4), SampleRng.for_samples(0, [str(i) for i in range(400)], "defense"))
    assert float(draws.abs().max()) <= 15
    assert float(draws.mean()) == pytest.approx(0, abs=3 * 15 / 3**0.5 / 20)
    assert float(draws.std()) == pytest.approx(15 / 3**0.5, rel=0.1)


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_is_pillows(photographs, quality):
    ours = Jpeg(quality).apply(photographs, ())
    for image, coded in zip(as_arrays(photographs), as_arrays(ours), strict=True):
        buffer = io.BytesIO()
        Image.fromarray((image * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        assert np.abs(np.asarray(Image.open(buffer)) / 255 - coded).max() < 1e-6


def test_the_stand_in_for_jpeg_follows_it(photographs):
    ours, stand_in = Jpeg(50).apply(photographs, ()), Jpeg(50).surrogate(photographs, ())
    assert float((ours - stand_in).abs().mean()) < 0.5 * float((ours - photographs).abs().mean())


@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_blur_is_scipys(photographs, sigma):
    theirs = ndimage.gaussian_filter(photographs.double().numpy(), (0, 0, sigma, sigma), mode="nearest")
    assert np.abs(Blur(sigma).apply(photographs.double(), ()).numpy() - theirs).max() < 1e-9


def test_median_is_scipys(photographs):
    theirs = ndimage.median_filter(photographs.numpy(), (1, 1, 5, 5), mode="nearest")
    assert np.array_equal(Median(5).apply(photographs, ()).numpy(), theirs)


def test_resizing_is_pillows(photographs):
    ours = Resize(0.5).apply(photographs, ())
    for image, back in zip(photographs, ours, strict=True):
        for channel, found in zip(image, back, strict=True):
            small = Image.fromarray(channel.numpy()).resize((38, 50), Image.Resampling.BILINEAR)
            theirs = np.asarray(small.resize((77, 100), Image.Resampling.BILINEAR))
            assert np.abs(theirs - found.numpy()).max() < 1e-5


def test_levels_of_few_bits(photographs):
    assert Quantise(1).apply(photographs, ()).unique().tolist() == [0, 1]
    assert Quantise(8).apply(photographs, ()).allclose(photographs, atol=1e-6)


def test_noise_follows_from_a_seed_alone(photographs):
    seeds = seeds_of(RNG)
    noise = noise_of(seeds, photographs)
    assert torch.equal(noise[1:], noise_of(seeds[1:], photographs[1:]))
    assert not torch.equal(noise, noise_of(seeds, photographs, 1))
    near = noise_of(seeds + 2**32, photographs)  # torch's own generator on the CPU takes these for the same seed
    assert abs(float((near * noise).mean())) < 0.03
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    grey = torch.full_like(photographs, 0.5)
    assert torch.allclose(GaussianNoise(0.05).apply(grey, seeds), grey + 0.05 * noise, atol=1e-6)


def test_a_transform_of_the_ensemble(photographs):
    square = photographs[..., :76, :76]
    draw = {"flips": torch.ones(2, 2, dtype=torch.int64), "shifts": torch.tensor([[3, -2]] * 2)}
    draw |= {"factors": torch.tensor([[1.0, 0.5, 0.9]] * 2), "blocks": torch.tensor([1, 2])}
    ours = TransformEnsemble().apply(square, draw)
    turned = square.flip(-1).transpose(-1, -2)
    moved = functional.pad(turned, (0, 2, 3, 0), mode="replicate")[..., :76, 2:]
    scaled = moved * torch.tensor([1.0, 0.5, 0.9]).view(3, 1, 1)
    assert torch.allclose(ours[0], scaled[0])
    assert torch.allclose(functional.avg_pool2d(ours[1], 2), functional.avg_pool2d(scaled[1], 2), atol=1e-6)
    assert torch.equal(ours[1, :, ::2, ::2], ours[1, :, 1::2, 1::2])


@pytest.mark.parametrize(
    "purifier",
    [
        Rotate(interpolation="bilinear", fill="reflect"),
        Jpeg(10),
        Resize(0.3, "bicubic"),
        TransformEnsemble(shift=0, colour=0, coarsest=1),
        TransformEnsemble(shift=9, colour=0.9, coarsest=4),
    ],
)
def test_other_parameters_keep_the_contract(purifier):
    check_purifier(purifier)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Rotate(degrees=0), "degrees should be above 0 and at most 180, got 0"),
        (lambda: Rotate(interpolation="cubic"), "interpolation should be nearest or bilinear, got 'cubic'"),
        (lambda: Rotate(fill="wrap"), "fill should be zeros or reflect, got 'wrap'"),
        (lambda: Jpeg(0), "quality should be between 1 and 95, got 0"),
        (lambda: Blur(0), "sigma should be above 0 and at most 100 pixels, got 0"),
        (lambda: Quantise(9), "bits should be between 1 and 8, got 9"),
        (lambda: Resize(1), "factor should be above 0 and below 1, got 1"),
        (lambda: GaussianNoise(2), "sigma should be above 0 and at most 1, got 2"),
        (lambda: Median(4), "kernel should be odd and at least 3, got 4"),
        (lambda: TransformEnsemble(colour=1), "colour should be at least 0 and below 1, got 1"),
    ],
)
def test_refused_parameters(make, told):
    with pytest.raises(ValueError, match=f"^{told}$"):
        make()
