import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metrics_zoo.birqa import BiRQA
from metrics_zoo.birqa.winograd import convolve, convolve_scaled, pays


def drawn(height, width, inputs=64, outputs=72):
    """Two maps and a convolution of frozen weights, results of about unit variance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, inputs, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)
    convolution.weight.copy_(torch.randn(convolution.weight.shape, generator=generator) / (9 * inputs) ** 0.5)
    convolution.bias.copy_(torch.randn(outputs, generator=generator))
    return x, convolution


def exact(x, convolution):
    return F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 19), (41, 14)])
def test_results_and_gradients_are_the_direct_convolutions(height, width):
    x, convolution = drawn(height, width)
    x.requires_grad_()
    assert pays(x, convolution)
    found, expected = convolve(x, convolution), exact(x, convolution)
    assert (found - expected).abs().max() < 1e-4  # the largest of 40,000 errors of about 3e-6
    assert (found - expected).square().mean().sqrt() < 1e-5
    along = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((made * along).sum(), x)[0] for made in (found, expected)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4


def test_scales_before_and_after():
    x, convolution = drawn(18, 21)
    before, after = torch.rand(2, 64) + 0.5, torch.rand(2, 72) + 0.5
    found = convolve_scaled(x, convolution, before, after)
    expected = exact(x * before[:, :, None, None], convolution) * after[:, :, None, None]
    assert (found - expected).abs().max() < 1e-4


def test_a_gradient_has_a_gradient():
    x, convolution = drawn(16, 16)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(convolve(x, convolution).square().sum(), x, create_graph=True)
    (found,) = torch.autograd.grad(slope.sum(), x)
    (slope,) = torch.autograd.grad(exact(x, convolution).square().sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(slope.sum(), x)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_other_weights_are_noticed_and_those_of_a_first_call_under_inference_mode_can_be_attacked():
    x, convolution = drawn(16, 16)
    with torch.inference_mode():
        convolve(x, convolution)
    x.requires_grad_()
    torch.autograd.grad(convolve(x, convolution).sum(), x)
    convolution.weight.mul_(2)
    assert (convolve(x, convolution) - exact(x, convolution)).abs().max() < 2e-4
    convolution.weight.data = torch.flip(convolution.weight, (0,))
    assert (convolve(x, convolution) - exact(x, convolution)).abs().max() < 2e-4
    convolution.weight = nn.Parameter(torch.flip(convolution.weight, (1,)), requires_grad=False)
    assert (convolve(x, convolution) - exact(x, convolution)).abs().max() < 2e-4
    for change in (
        lambda weight: weight.data.mul_(0.5),
        lambda weight: weight.numpy().__imul__(2),
        lambda weight: setattr(weight, "data", weight.data.transpose(2, 3)),
    ):
        change(convolution.weight)
        assert (convolve(x, convolution) - exact(x, convolution)).abs().max() < 2e-4


def test_what_is_learned_gets_its_gradient_and_no_image_is_no_fault():
    x, convolution = drawn(16, 16)
    convolution.bias.requires_grad_()
    (found,) = torch.autograd.grad(convolve(x, convolution).sum(), convolution.bias)
    assert torch.allclose(found, torch.full_like(found, 2 * 16 * 16))
    assert convolve(x[:0], convolution).shape == (0, 72, 16, 16)


@pytest.mark.parametrize("scale", [1, 3])
def test_birqa_scores_alike_by_tiles_followed_by_a_gradient_and_learning(scale):
    metric = BiRQA(channels=64, stem_channels=16, head=16, features=["ssim", "info", "color", "lbp"])
    with torch.no_grad():
        for weight in metric.parameters():
            weight.mul_(scale)  # untrained networks hardly tell images apart
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(3, 3, 72, 101, generator=generator)
    dist = (ref + torch.tensor([0.02, 0.05, 0.1]).view(3, 1, 1, 1) * torch.randn(ref.shape, generator=generator)).clamp(
        0, 1
    )
    dist.requires_grad_()
    learning = metric(ref=ref, dist=dist)
    (expected,) = torch.autograd.grad(learning.sum(), dist)
    metric.requires_grad_(False)
    followed = metric(ref=ref, dist=dist)
    (found,) = torch.autograd.grad(followed.sum(), dist)
    with torch.no_grad():
        alone = metric(ref=ref, dist=dist)
    assert (followed - learning).abs().max() < 1e-5
    assert (alone - learning).abs().max() < 1e-5
    assert (found - expected).norm() < 1e-4 * expected.norm()
