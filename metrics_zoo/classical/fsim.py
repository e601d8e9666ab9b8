"""Feature similarity index with colour, FSIMc (Zhang, Zhang, Mou & Zhang 2011)."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contracts import Metric, register
from metrics_zoo.classical.maps import SQUARE, gradient_magnitude, root, similarity, yiq
from metrics_zoo.gaussian import VIEWED

T1 = 0.85
"""Stabiliser of the similarity of phase congruency (the authors' value, as the next three)."""
T2 = 160 / SQUARE
"""Stabiliser of the similarity of gradients: 160 for pixels in [0, 255]."""
T3 = 200 / SQUARE
"""Stabiliser of the similarity of I and of Q (T3 = T4): 200 for pixels in [0, 255]."""
LAMBDA = 0.03
"""Exponent of the similarity of colours."""

SCALES = 4
_ORIENTATIONS = 4
SHORTEST = 6
"""Wavelength of the finest filter in pixels; each scale doubles it."""
BANDWIDTH = 0.55
"""Standard deviation of a log-Gabor filter over its centre frequency."""
SPREAD = math.pi / (_ORIENTATIONS * 1.2)
"""Angular standard deviation of a filter, in radians."""
CUTOFF, ORDER = 0.45, 15
"""The low-pass filter that keeps the corners of the spectrum out, in cycles per pixel."""
NOISE_DEVIATIONS = 2.0
"""Standard deviations beyond the mean up to which energy counts as noise."""
NOISE_SCALING = 1.7
"""Kovesi's empirical divisor of the noise threshold."""
_TINY = 1e-7
"""Amplitude added where one divides by an amplitude: above what rounding makes of a flat image in float32."""
_FAINT = 1e-7
"""Weight that every place has beside its own, so that two flat images, which have none, score 1."""


class PhaseMaps(NamedTuple):
    """What FSIM takes from an image (h x w is the size at which it is compared)."""

    congruency: Tensor
    """Phase congruency of the luma, N x 1 x h x w in [0, 1]."""
    gradient: Tensor
    """Scharr gradient magnitude of the luma, N x 1 x h x w."""
    colours: Tensor
    """I and Q, N x 2 x h x w."""


@register("fsim")
class FSIM(Metric):
    """FSIMc, the colour variant of FSIM, on YIQ, data range 1: in [0, 1].

    Phase congruency (Kovesi's, with noise compensation: log-Gabor filters of four scales from 6 px and four
    orientations) and Scharr gradient magnitude are compared by (2ab + T) / (a² + b² + T) (Zhang et al. 2011, S_PC and
    S_G, eq. 4 and 5), I and Q likewise (S_I and S_Q). The score is the mean of S_PC S_G |S_I S_Q|^.03, weighted by the
    larger phase congruency (FSIM_C; eq. 7 with the colours). First the image is averaged over blocks of
    max(1, round(shorter side / 256)) px. Outside the image lie zeros for the gradient; phase congruency wraps around.
    """

    cite = "zhang2011fsim"
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 2
    minimum_size: ClassVar[int] = 6
    """6 px hold the wavelength of the finest filter once."""

    def encode(self, ref: Tensor) -> PhaseMaps:
        """Phase congruency, gradient magnitude and colours of the reference."""
        return _maps(ref)

    def score(self, reference: PhaseMaps, dist: Tensor) -> Tensor:
        """FSIMc of each image, shape [N]."""
        maps = _maps(dist)
        alike = similarity(reference.congruency, maps.congruency, T1)
        alike = alike * similarity(reference.gradient, maps.gradient, T2)
        colours = similarity(reference.colours, maps.colours, T3)
        alike = alike * _faded((colours[:, :1] * colours[:, 1:]).abs())
        weight = torch.maximum(reference.congruency, maps.congruency) + _FAINT
        score: Tensor = (alike * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1)
        return score


def _faded(values: Tensor) -> Tensor:
    """The power LAMBDA, with slope 0 at 0, where the true slope is infinite."""
    zero = values <= 0
    power: Tensor = values.masked_fill(zero, 1) ** LAMBDA
    return power.masked_fill(zero, 0)


def _maps(images: Tensor) -> PhaseMaps:
    block = max(1, round(min(images.shape[-2:]) / VIEWED))
    colours = yiq(F.avg_pool2d(images, block) if block > 1 else images)
    y = colours[:, :1]
    return PhaseMaps(_phase_congruency(y), gradient_magnitude(y, 3 / 16, 10 / 16), colours[:, 1:])


def _phase_congruency(y: Tensor) -> Tensor:
    """Phase congruency of N x 1 x h x w maps, same shape, in [0, 1] (Kovesi 1999, summed over orientations)."""
    filters, thresholds = _filters(y)
    # No filter passes the mean; without it rounding is smaller.
    y = y - y.mean(dim=(2, 3), keepdim=True)
    responses = torch.view_as_real(torch.fft.ifft2(torch.fft.fft2(y).unsqueeze(1) * filters))
    even, odd = responses[..., 0], responses[..., 1]
    amplitude = root(even * even + odd * odd)
    sum_even, sum_odd = even.sum(dim=2, keepdim=True), odd.sum(dim=2, keepdim=True)
    along = root(sum_even * sum_even + sum_odd * sum_odd)
    across = (even * sum_odd - odd * sum_even).abs().sum(dim=2, keepdim=True) / (along + _TINY)
    noise = thresholds * amplitude[:, :, 0].flatten(2).median(dim=2).values
    energy = (along - across - noise[:, :, None, None, None]).clamp_min(0)
    congruency: Tensor = energy.sum(dim=1) / (amplitude.sum(dim=(1, 2)).unsqueeze(1) + _TINY)
    return congruency


def _filters(like: Tensor) -> tuple[Tensor, Tensor]:
    """The filters of every orientation and scale, and what the median response means as noise.

    Args:
        like: N x 1 x h x w maps that give size, type and device.

    Returns:
        Transfer functions, _ORIENTATIONS x SCALES x h x w; noise thresholds over the median amplitude of the finest
        scale, [_ORIENTATIONS].
    """
    down, right = (_frequencies(size, like) for size in like.shape[-2:])
    down = down[:, None]
    radius = torch.hypot(down, right)
    low_pass = 1 / (1 + (radius / CUTOFF) ** (2 * ORDER))
    # The mean has no logarithm, and is taken out below.
    octaves = torch.log(torch.where(radius > 0, radius, 1))
    angle = torch.atan2(-right, down)
    radial, angular = [], []
    for scale in range(SCALES):
        distance = octaves + math.log(SHORTEST * 2**scale)
        band = torch.exp(-distance.square() / (2 * math.log(BANDWIDTH) ** 2)) * low_pass
        radial.append(torch.where(radius > 0, band, 0))
    for orientation in range(_ORIENTATIONS):
        turn = (angle - orientation * math.pi / _ORIENTATIONS + math.pi) % (2 * math.pi) - math.pi
        angular.append(torch.exp(-turn.square() / (2 * SPREAD**2)))
    filters = torch.stack(angular)[:, None] * torch.stack(radial)
    return filters, _thresholds(filters)


def _frequencies(size: int, like: Tensor) -> Tensor:
    """Frequencies of a spectrum's rows or columns in cycles per pixel; an odd side reaches 1/2 as an even one does."""
    steps: Tensor = torch.fft.fftfreq(size, d=1 / size, device=like.device, dtype=like.dtype)
    return steps / (size - size % 2)


def _thresholds(filters: Tensor) -> Tensor:
    """Noise threshold of the energy over the median amplitude of the finest scale, [_ORIENTATIONS].

    White noise has Rayleigh-distributed amplitudes: the median gives its power, the even parts of the filters the
    expected energy of all scales together.
    """
    whole = filters.sum(dim=1)
    mirrored = whole.flip(1, 2).roll((1, 1), dims=(1, 2))
    expected = ((whole + mirrored) / 2).square().sum(dim=(1, 2))
    power = math.log(2) * filters[:, 0].square().sum(dim=(1, 2))
    deviations = math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)
    return (expected / power).sqrt() * (deviations / NOISE_SCALING)
