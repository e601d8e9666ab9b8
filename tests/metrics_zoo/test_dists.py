import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from metrics_zoo.dists import _C1, _C2, DISTS, _Statistics, dists_state, l2_pool


@pytest.fixture(scope="module")
def metric():
    """With random trunk and random weights of sum 1."""
    metric = DISTS()
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(2, 1, 1475, 1, 1, generator=generator)
    weights = weights / weights.sum()
    trunk = {
        name: tensor if name.endswith("weight") else 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in metric.trunk.state_dict().items()
    }
    metric.load_state_dict(dists_state(trunk, {"alpha": weights[0], "beta": weights[1]}))
    return metric.eval().requires_grad_(False)


def pair(height, width, count=2, dtype=torch.float32):
    ref, noise = torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return ref, (ref * 0.8 + 0.2 * noise).clamp(0, 1)


def torchvision_features(state):
    """VGG16's feature layers as torchvision numbers them, with max pooling, from ``features.*``."""
    layers, width = [], 3
    for size in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
        if size == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(width, size, 3, padding=1), nn.ReLU()]
            width = size
    features = nn.Sequential(*layers)
    features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    return features


def test_agrees_with_piq(metric, monkeypatch, piq):
    holder = nn.Module()
    holder.features = torchvision_features(metric.trunk.state_dict())
    monkeypatch.setattr(
        "torch.hub.load_state_dict_from_url", lambda *a, **k: {"alpha": metric.alpha, "beta": metric.beta}
    )
    monkeypatch.setattr(piq.perceptual, "vgg16", lambda **k: holder)
    theirs = piq.DISTS(reduction="none")
    for size in ((64, 64), (96, 71)):
        ref, dist = pair(*size)
        dist.requires_grad_()
        ours, expected = metric(ref=ref, dist=dist), theirs(dist, ref)
        assert ours.tolist() == pytest.approx(expected.tolist(), abs=2e-6)
        assert float(expected.min().detach()) > 1e-3
        (a,), (b,) = torch.autograd.grad(ours.sum(), dist), torch.autograd.grad(expected.sum(), dist)
        # Two orders of float32 sums through 13 convolutions; 1.1e-3 on processors whose kernels differ most.
        assert float((a - b).norm() / b.norm()) < 3e-3


def test_l2_pooling_is_the_hanning_weighted_mean_square():
    window = np.hanning(5)[1:-1]
    kernel = torch.from_numpy(np.outer(window, window) / np.outer(window, window).sum())
    for size in ((8, 10), (7, 9), (1, 1), (2, 1)):
        maps = torch.rand(2, 3, *size, dtype=torch.float64)
        weights = kernel.expand(3, 1, 3, 3)
        expected = (F.conv2d(maps.square(), weights, stride=2, padding=1, groups=3) + 1e-12).sqrt()
        assert torch.allclose(l2_pool(maps), expected, rtol=1e-12)


def test_flat_images_on_pixels_alone_have_a_closed_form(metric):
    """Two flat images have no structure to compare (s = 1), so only the means of the weighted channels count."""
    plain = DISTS().eval().requires_grad_(False)
    plain.alpha.zero_()
    plain.beta.zero_()
    plain.alpha[:, :3] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    plain.beta[:, :3] = 1.0
    x, y = 0.25, 0.75
    texture = (2 * x * y + _C1) / (x * x + y * y + _C1)
    images = torch.ones(1, 3, 32, 32)
    assert float(plain(ref=x * images, dist=y * images)) == pytest.approx(1 - (6 * texture + 3) / 9, abs=1e-6)


def test_opposite_textures_on_pixels_alone_have_a_closed_form():
    """Of an image and its negative about its own mean the covariance is minus the variance."""
    plain = DISTS().eval().requires_grad_(False)
    plain.alpha.zero_()
    plain.beta.zero_()
    plain.beta[:, :3] = 1.0
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    mean = image.mean(dim=(2, 3), keepdim=True)
    variance = image.var(dim=(2, 3), correction=0).double()
    structure = ((_C2 - 2 * variance) / (2 * variance + _C2)).mean()
    assert float(plain(ref=image, dist=2 * mean - image)) == pytest.approx(float(1 - structure), abs=1e-5)


def test_statistics_and_their_gradients():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    y = y - y.mean(dim=(2, 3), keepdim=True)
    mean, variance, covariance = _Statistics.apply(x, y)
    for i in range(2):
        for c in range(3):
            expected = np.cov(x[i, c].flatten(), y[i, c].flatten(), bias=True)
            assert float(mean[i, c]) == pytest.approx(float(x[i, c].mean()))
            assert float(variance[i, c]) == pytest.approx(expected[0, 0])
            assert float(covariance[i, c]) == pytest.approx(expected[0, 1])
    assert torch.autograd.gradcheck(lambda a, b: _Statistics.apply(a, b - b.mean(dim=(2, 3), keepdim=True)), (x.requires_grad_(), y.requires_grad_()))  # fmt: skip


def test_larger_images_are_resized_as_pillow_does():
    image = torch.rand(1, 3, 384, 512, generator=torch.Generator().manual_seed(0))
    resized = DISTS()._resized(image)
    assert resized.shape[-2:] == (256, 341)
    for c in range(3):
        theirs = np.asarray(Image.fromarray(image[0, c].numpy()).resize((341, 256), Image.Resampling.BILINEAR))
        assert np.abs(resized[0, c].numpy() - theirs).max() < 1e-5
    assert DISTS(short_side=0)._resized(image) is image
    assert DISTS(short_side=384)._resized(image) is image
    with pytest.raises(ValueError, match="short_side"):
        DISTS(short_side=-1)


def test_encode_and_score_is_the_only_path(metric):
    ref, dist = pair(40, 57)
    reference = metric.encode(ref)
    once = metric.score(reference, dist)
    assert torch.equal(once, metric(ref=ref, dist=dist))
    assert torch.equal(once, metric.score(reference, dist))
    assert metric.score(reference, ref).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_gradient_agrees_with_finite_differences(metric):
    exact = DISTS().double()
    exact.load_state_dict(metric.state_dict())
    ref, dist = pair(33, 36, 1, torch.float64)
    reference = exact.encode(ref)
    leaf = dist.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact.score(reference, leaf).sum(), leaf)
    direction = torch.randn(dist.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-7 * direction
    with torch.no_grad():
        difference = (exact.score(reference, dist + step) - exact.score(reference, dist - step)) / 2e-7
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)
