import kornia
import numpy as np
import pytest
import pytorch_msssim
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from metrics_zoo.gaussian import C1, C2, blur, blur_valid, luma
from metrics_zoo.psnr import PSNR
from metrics_zoo.ssim import SSIM


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    ref = torch.from_numpy(rng.random((3, 3, 48, 57)))
    return ref, (ref + torch.from_numpy(rng.normal(0, 0.1, ref.shape))).clamp(0, 1)


def test_psnr_agrees_with_scikit_image_and_kornia(pairs):
    ref, dist = pairs
    ours = PSNR()(ref=ref, dist=dist)
    theirs = [peak_signal_noise_ratio(r.numpy(), d.numpy(), data_range=1) for r, d in zip(ref, dist, strict=True)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-9)
    for i in range(3):
        assert float(ours[i]) == pytest.approx(float(kornia.metrics.psnr(dist[i], ref[i], 1.0)), abs=1e-5)


def test_ssim_agrees_with_scikit_image_kornia_and_pytorch_msssim(pairs):
    ref, dist = pairs
    ours = SSIM()(ref=ref, dist=dist)
    y, z = luma(ref), luma(dist)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    theirs = [structural_similarity(a[0].numpy(), b[0].numpy(), **options) for a, b in zip(y, z, strict=True)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-9)
    msssim = pytorch_msssim.ssim(y.float(), z.float(), data_range=1, size_average=False, nonnegative_ssim=False)
    assert ours.tolist() == pytest.approx(msssim.tolist(), abs=1e-5)
    maps = kornia.metrics.ssim(y, z, 11, 1.0, padding="valid")
    assert ours.tolist() == pytest.approx(maps.flatten(1).mean(1).tolist(), abs=1e-5)


def test_ssim_map_agrees_with_the_full_map_of_scikit_image(pairs):
    y, z = luma(pairs[0]), luma(pairs[1])
    mean_y, mean_z, yy, zz, yz = (blur(m) for m in (y, z, y * y, z * z, y * z))
    ours = (2 * mean_y * mean_z + C1) / (mean_y**2 + mean_z**2 + C1)
    ours = ours * (2 * (yz - mean_y * mean_z) + C2) / (yy - mean_y**2 + zz - mean_z**2 + C2)
    _, full = structural_similarity(
        y[0, 0].numpy(), z[0, 0].numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
        full=True,
    )  # fmt: skip
    assert np.abs(ours[0, 0].numpy() - full)[5:-5, 5:-5].max() < 1e-9  # borders: we replicate, scikit-image reflects


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    ref = torch.rand(2, 3, 13, 14, dtype=torch.float64)
    dist = torch.rand(2, 3, 13, 14, dtype=torch.float64, requires_grad=True)
    for metric in (PSNR(), SSIM()):
        reference = metric.encode(ref)
        assert torch.autograd.gradcheck(lambda x, m=metric, r=reference: m.score(r, x), (dist,))
    maps = torch.rand(1, 2, 12, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(blur, (maps,))
    tall = torch.rand(1, 1, 12, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(blur_valid, (tall,))


@pytest.mark.parametrize(("metric", "perfect"), [(PSNR(), 100.0), (SSIM(), 1.0)])
@pytest.mark.parametrize("image", [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.7), None])
def test_identical_pairs_have_the_best_score_and_a_finite_gradient(metric, perfect, image):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) if image is None else image
    dist = image.clone().requires_grad_()
    score = metric(ref=image, dist=dist)
    score.sum().backward()
    assert float(score.detach()) == pytest.approx(perfect, abs=1e-4)
    assert dist.grad.isfinite().all()


@pytest.mark.parametrize("metric", [PSNR(), SSIM()])
def test_a_sample_does_not_depend_on_its_batch(metric, pairs):
    ref, dist = (p.float() for p in pairs)
    alone = [float(metric(ref=ref[i : i + 1], dist=dist[i : i + 1])) for i in range(3)]
    assert metric(ref=ref, dist=dist).tolist() == pytest.approx(alone, abs=1e-5)


def test_ssim_takes_images_of_its_minimum_size():
    image = torch.rand(1, 3, SSIM.minimum_size, SSIM.minimum_size)
    assert float(SSIM()(ref=image, dist=image)) == pytest.approx(1, abs=1e-5)
