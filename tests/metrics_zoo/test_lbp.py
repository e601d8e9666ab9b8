import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.feature import local_binary_pattern

from metrics_zoo.birqa.lbp import DEAD_ZONE, TEMPERATURE, binary_patterns, compare_patterns, soft_patterns

# (row, column) of neighbour i relative to the centre: clockwise from the top left.
OFFSETS = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]


def differences(y):
    """Neighbour - centre for the eight neighbours, N x 8 x h x w, by indexing pixel by pixel."""
    height, width = y.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    shifted = [y[:, 0][:, (rows + r).clamp(0, height - 1)][:, :, (columns + c).clamp(0, width - 1)] for r, c in OFFSETS]
    return torch.stack(shifted, dim=1) - y


def test_codes_of_a_hand_example():
    y = torch.tensor([[0.1, 0.5, 0.9], [0.4, 0.5, 0.4995], [0.6, 0.498, 0.5005]]).view(1, 1, 3, 3)
    # Clockwise from the top left: .1 no, .5 yes, .9 yes, .4995 yes (dead zone), .5005 yes, .498 no, .6 yes, .4 no.
    assert int(binary_patterns(y)[0, 0, 1, 1]) == 0b01011110


def test_codes_of_a_flat_image_are_all_ones():
    assert (binary_patterns(torch.full((1, 1, 5, 6), 0.3)) == 255).all()


def test_bits_agree_with_pixelwise_comparisons():
    y = torch.rand(2, 1, 11, 13, generator=torch.Generator().manual_seed(0))
    expected = ((differences(y) >= -DEAD_ZONE) * (2 ** torch.arange(8)).view(1, 8, 1, 1)).sum(1, keepdim=True)
    assert torch.equal(binary_patterns(y).long(), expected)


def test_number_of_set_bits_agrees_with_scikit_image():
    # scikit-image has no dead zone and another order; distinct levels far apart make both see the same bits.
    image = np.random.default_rng(0).permutation(15 * 16).reshape(15, 16)
    theirs = local_binary_pattern(image, 8, 1.0, method="default").astype(int)
    ours = binary_patterns(torch.from_numpy(image / 240.0)[None, None])[0, 0].numpy().astype(int)
    # It interpolates the diagonal neighbours, so only the four at whole pixels are compared.
    ours_straight = np.stack([(ours >> bit) & 1 for bit in (3, 1, 7, 5)])  # right, up, left, down
    theirs_straight = np.stack([(theirs >> bit) & 1 for bit in (0, 2, 4, 6)])
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.array_equal(ours_straight[inner], theirs_straight[inner])


def test_share_of_differing_bits():
    generator = torch.Generator().manual_seed(1)
    ref, dist = torch.rand(2, 2, 1, 9, 9, generator=generator)
    share = compare_patterns(dist, binary_patterns(ref))[:, 1]
    r, b = differences(ref) >= -DEAD_ZONE, differences(dist) >= -DEAD_ZONE
    assert torch.equal(share, (r != b).float().mean(1))


def test_surrogate_gradient_is_the_derivative_of_the_soft_form():
    generator = torch.Generator().manual_seed(2)
    ref, dist = 0.05 * torch.rand(2, 2, 1, 8, 7, generator=generator, dtype=torch.float64) + 0.5
    weight = torch.rand(2, 2, 8, 7, generator=generator, dtype=torch.float64)
    r = (differences(ref) >= -DEAD_ZONE).double()

    soft_input = dist.clone().requires_grad_()
    b = ((differences(soft_input) + DEAD_ZONE) / TEMPERATURE).sigmoid()
    code = (b * (2.0 ** torch.arange(8)).view(1, 8, 1, 1)).sum(1) / 255
    share = (b + r - 2 * b * r).mean(1)
    (torch.stack((code, share), dim=1) * weight).sum().backward()
    assert torch.allclose(soft_patterns(dist, binary_patterns(ref)), torch.stack((code, share), dim=1))

    hard_input = dist.clone().requires_grad_()
    (compare_patterns(hard_input, binary_patterns(ref)) * weight).sum().backward()
    assert torch.allclose(hard_input.grad, soft_input.grad, rtol=1e-10, atol=1e-12)
    assert hard_input.grad.abs().max() > 0.1


@pytest.mark.parametrize("noise", [3e-8, 1e-5])
def test_rounding_noise_flips_hardly_any_bit(noise):
    # An 8-bit image: differences sit on multiples of luma steps, many of them exactly 0.
    generator = torch.Generator().manual_seed(3)
    smooth = F.avg_pool2d(torch.rand(1, 1, 80, 80, generator=generator), 9, 1)
    y = (smooth * 255).round() / 255
    moved = y + noise * torch.randn(y.shape, generator=generator)
    flips = compare_patterns(y, binary_patterns(moved))[:, 1].mean()
    assert flips < 1e-3


def test_the_gradient_of_the_gradient_is_what_differences_of_gradients_approach():
    generator = torch.Generator().manual_seed(3)
    ref, dist, along = torch.rand(3, 1, 1, 6, 7, generator=generator, dtype=torch.float64) / 8
    weight, code = torch.rand(1, 2, 6, 7, generator=generator, dtype=torch.float64), binary_patterns(ref)

    def slope(images, **kept):
        leaf = images.clone().requires_grad_(True)
        return torch.autograd.grad((compare_patterns(leaf, code) * weight).sum(), leaf, **kept)[0], leaf

    first, leaf = slope(dist, create_graph=True)
    assert torch.allclose(first, slope(dist)[0])
    (second,) = torch.autograd.grad((first * along).sum(), leaf)
    step = 1e-5
    differences = (slope(dist + step * along)[0] - slope(dist - step * along)[0]) / (2 * step)
    assert torch.allclose(second, differences, rtol=1e-5, atol=1e-5 * float(second.abs().max()))
