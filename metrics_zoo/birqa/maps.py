"""Maps that BiRQA's features are made of, each a function of luma planes, N x 1 x h x w in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics_zoo.gaussian import blur

NOISE_VARIANCE = 1e-4
"""Variance at which a region starts to carry information, for luma in [0, 1]; larger than what rounding can move."""
INFORMATION_SCALE = 1 / 8
"""Brings log(1 + variance / NOISE_VARIANCE) to about [0, 1]: the largest possible variance, 1/4, gives .98."""
VISUAL_NOISE = 2 / 255**2
"""Variance of VIF's visual noise: 2 for pixels in [0, 255]."""
_FLAT = 1e-6
"""Variance that counts as none in VIF: above what fp32 leaves of a flat region (about 1e-7), far below a grey level."""
_FAINT = 1e-10
"""Keeps the division by the strongest saliency finite."""
FREQUENCY = 0.25
"""Of the Gabor bank, in cycles a pixel; lower ones come with the coarser levels."""
ORIENTATIONS = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
"""Of the Gabor bank."""
BINS = 16
"""Grey levels of the local histograms that entropy is taken of."""
ENTROPY_RADIUS = 4
"""Half of their window: 9 x 9 pixels."""
SALIENCY_SIDE = 64
"""Longest side of the image that saliency is computed on (Hou and Zhang's)."""
SMALLEST_AMPLITUDE = 1e-3
"""Spectral amplitude (orthonormal FFT) below which there is nothing but rounding."""
DETAIL = 1e-2
"""Wavelet coefficient, summed over orientations, below which a detail is none."""
SQUARED = 1e-8
"""Added under square roots, so that their gradient is finite at 0."""


def information(variance: Tensor) -> Tensor:
    """Informational content log(1 + variance / noise) of a region, as in IW-SSIM (Wang and Li 2011)."""
    return torch.log1p(variance.clamp_min(0).mul_(1 / NOISE_VARIANCE)).mul_(INFORMATION_SCALE)


def fidelity(reference: Tensor, distorted: Tensor, covariance: Tensor) -> Tensor:
    """Share of a region's information that the distortion left (Sheikh and Bovik 2006), 1 where both are flat.

    Args:
        reference: Local variance of the reference.
        distorted: Local variance of the distorted image.
        covariance: Their local covariance.
    """
    reference = (reference - _FLAT).clamp_min(0)
    gain = (covariance / (reference + _FLAT)).clamp_min(0)
    left = (distorted - gain * covariance).clamp_min(0)
    kept = torch.log1p(gain * gain * reference / (left + VISUAL_NOISE))
    return (kept + VISUAL_NOISE) / (torch.log1p(reference / VISUAL_NOISE) + VISUAL_NOISE)


def sobel(y: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives to the right and downwards by Sobel's operator, of unit gain; borders are replicated."""
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
    right = padded[..., 2:] - padded[..., :-2]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    right = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return right / 8, down / 8


def edges(y: Tensor) -> Tensor:
    """Length of Sobel's gradient, N x 1 x h x w."""
    right, down = sobel(y)
    return (right * right + down * down + SQUARED).sqrt()


def gradient_information(y: Tensor) -> Tensor:
    """`information` of the squared gradient in place of the variance: Table 5's wording, N x 1 x h x w."""
    right, down = sobel(y)
    return information(right * right + down * down)


def gabor(y: Tensor) -> Tensor:
    """Amplitudes of complex Gabor filters (Daugman 1985; one octave wide), N x 4 x h x w; borders are replicated."""
    kernels = torch.tensor(_gabor_bank(), dtype=y.dtype, device=y.device).unsqueeze(1)
    radius = kernels.shape[-1] // 2
    real, imaginary = F.conv2d(F.pad(y, (radius,) * 4, mode="replicate"), kernels).chunk(2, dim=1)
    return (real * real + imaginary * imaginary + SQUARED).sqrt()


@cache
def _gabor_bank() -> list[list[list[float]]]:
    """Real parts of all orientations, then imaginary parts, on a square of three standard deviations."""
    sigma = 3 * math.sqrt(math.log(2) / 2) / (math.pi * FREQUENCY)
    radius = math.ceil(3 * sigma)
    steps = range(-radius, radius + 1)
    bank = []
    for wave in (math.cos, math.sin):
        for angle in ORIENTATIONS:
            x, y = math.cos(angle), math.sin(angle)
            bank.append(
                [
                    [
                        math.exp(-(row * row + column * column) / (2 * sigma * sigma))
                        / (2 * math.pi * sigma * sigma)
                        * wave(2 * math.pi * FREQUENCY * (column * x + row * y))
                        for column in steps
                    ]
                    for row in steps
                ]
            )
    return bank


def haar(y: Tensor) -> Tensor:
    """Horizontal, vertical and diagonal details of the undecimated orthonormal Haar transform, N x 3 x h x w."""
    return _details(y, (math.sqrt(0.5), math.sqrt(0.5)))


def daubechies(y: Tensor) -> Tensor:
    """The same details by Daubechies' filters of two vanishing moments (db2), N x 3 x h x w."""
    root = math.sqrt(3)
    scale = 4 * math.sqrt(2)
    return _details(y, ((1 + root) / scale, (3 + root) / scale, (3 - root) / scale, (1 - root) / scale))


def _details(y: Tensor, low: Sequence[float]) -> Tensor:
    """Details by an orthonormal low-pass filter and its quadrature mirror; borders are replicated below and right."""
    high = [(-1) ** k * low[-1 - k] for k in range(len(low))]
    taps = torch.tensor((low, high), dtype=y.dtype, device=y.device)
    smooth, detail = 0, 1
    kernels = torch.stack(
        [
            torch.outer(taps[rows], taps[columns])
            for rows, columns in ((detail, smooth), (smooth, detail), (detail, detail))
        ]
    )
    beyond = len(low) - 1
    return F.conv2d(F.pad(y, (0, beyond, 0, beyond), mode="replicate"), kernels.unsqueeze(1))


def details_kept(reference: Tensor, distorted: Tensor) -> Tensor:
    """Share of the reference's details that are restored in the distorted image (Li et al. 2011), N x 1 x h x w.

    The restored detail is the reference's coefficient times clip(distorted / reference, 0, 1), their Eq. 2. Left out:
    contrast sensitivity, masking, and the exception for enhanced contrast, a jump at one degree.

    Args:
        reference: Details of the reference, N x 3 x h x w.
        distorted: Details of the distorted image, same shape.
    """
    size = reference.abs()
    restored = torch.minimum((distorted * reference.sign()).clamp_min(0), size)
    return (restored.sum(dim=1, keepdim=True) + DETAIL) / (size.sum(dim=1, keepdim=True) + DETAIL)


def entropy(y: Tensor) -> Tensor:
    """Shannon entropy of 9 x 9 windows over its maximum, in [0, 1]; borders are replicated.

    A pixel between two of the sixteen grey levels counts for both in proportion, so the map is differentiable; on
    images of these levels alone it is the plain histogram's entropy.
    """
    levels = torch.arange(BINS, dtype=y.dtype, device=y.device).view(1, -1, 1, 1)
    shares = (1 - (y * (BINS - 1) - levels).abs()).clamp_min(0)
    padded = F.pad(shares, (ENTROPY_RADIUS,) * 4, mode="replicate")
    histogram = F.avg_pool2d(padded, 2 * ENTROPY_RADIUS + 1, stride=1)
    return -(histogram * (histogram + SQUARED).log()).sum(dim=1, keepdim=True) / math.log(BINS)


def saliency(y: Tensor) -> Tensor:
    """Spectral-residual saliency (Hou and Zhang 2007), in [0, 1] per image, N x 1 x h x w.

    The paper's saliency is a network that it does not name; this is analytic, as its other features are. The image is
    reduced to 64 px on its longer side, as the authors do, and the map smoothed by SSIM's Gaussian.
    """
    height, width = y.shape[-2:]
    shrink = min(1.0, SALIENCY_SIDE / max(height, width))
    small = F.adaptive_avg_pool2d(y, (max(1, round(height * shrink)), max(1, round(width * shrink))))
    spectrum = torch.fft.fft2(small, norm="ortho")
    amplitude = spectrum.abs() + SMALLEST_AMPLITUDE
    logarithm = amplitude.log()
    smooth = F.avg_pool2d(F.pad(logarithm, (1, 1, 1, 1), mode="circular"), 3, stride=1)
    residual = torch.fft.ifft2(spectrum / amplitude * (logarithm - smooth).exp(), norm="ortho")
    energy = blur(residual.abs().square())
    salient = energy / (energy.amax(dim=(2, 3), keepdim=True) + _FAINT)
    return F.interpolate(salient, size=(height, width), mode="bilinear", align_corners=False)
