"""Metrics that hide from attacks, each in one way that an author may come upon, on purpose or not.

`benchmarks/masking.py` says which verdict, or which probe of a metric's contract, sees which.
"""

import torch
from torch.nn import functional as F

from harness.contracts import Metric, register
from metrics_zoo.psnr import PSNR
from metrics_zoo.ssim import SSIM


class _Swap(torch.autograd.Function):
    """Passes a score on, and back any slope that it is given."""

    @staticmethod
    def forward(ctx, score, dist, slope):
        ctx.save_for_backward(slope)
        return score.clone()

    @staticmethod
    def backward(ctx, outer):
        (slope,) = ctx.saved_tensors
        return None, outer.view(-1, 1, 1, 1) * slope, None


def _slope_of(score, dist):
    with torch.enable_grad():
        leaf = dist.detach().clone().requires_grad_(True)
        return torch.autograd.grad(score(leaf).sum(), leaf)[0]


class _Disguised(Metric):
    """SSIM, whose backward pass is what `slope` says."""

    higher_is_better = True
    minimum_size = 11

    def __init__(self):
        super().__init__()
        self.inner = SSIM()

    def encode(self, ref):
        return {"image": ref, "own": tuple(self.inner.encode(ref))}

    def true(self, reference, dist):
        moments = type(self.inner.encode(reference["image"][:1]))
        return self.inner.score(moments(*reference["own"]), dist)

    def slope(self, reference, dist):
        raise NotImplementedError

    def score(self, reference, dist):
        with torch.no_grad():
            score = self.true(reference, dist)
        if not (torch.is_grad_enabled() and dist.requires_grad):
            return score
        return _Swap.apply(score, dist, self.slope(reference, dist.detach()))


@register("mse_backward")
class MseBackward(_Disguised):
    """Forward SSIM, backward the squared error's, which it says to be a surrogate."""

    exact_gradient = False

    def slope(self, reference, dist):
        return (reference["image"] - dist) / dist[0].numel() + 1e-12


@register("fitted_backward")
class FittedBackward(_Disguised):
    """The same, as long as the true slope along its own steps: only another direction can tell."""

    exact_gradient = False

    def slope(self, reference, dist):
        true = _slope_of(lambda x: self.true(reference, x), dist)
        other = (reference["image"] - dist) / dist[0].numel() + 1e-12
        along = (true * other.sign()).flatten(1).sum(1) / other.flatten(1).abs().sum(1)
        return other * along.view(-1, 1, 1, 1)


@register("mixed_resolution")
class MixedResolution(_Disguised):
    """Forward SSIM of the images, backward that of images averaged 4 x 4."""

    exact_gradient = False

    def slope(self, reference, dist):
        small = SSIM()
        encoded = small.encode(F.avg_pool2d(reference["image"], 4))
        return _slope_of(lambda x: small.score(encoded, F.avg_pool2d(x, 4)), dist)


@register("tiny_gradient")
class TinyGradient(_Disguised):
    """SSIM with a gradient of a hundred-millionth of its own."""

    def slope(self, reference, dist):
        return 1e-8 * _slope_of(lambda x: self.true(reference, x), dist)


@register("flipped_near_start")
class FlippedNearStart(_Disguised):
    """SSIM whose gradient points the wrong way at images that are nearly on the 8-bit grid, as unattacked ones are."""

    def slope(self, reference, dist):
        true = _slope_of(lambda x: self.true(reference, x), dist)
        near = (dist * 255 - (dist * 255).round()).abs().flatten(1).mean(1) < 0.05
        return torch.where(near.view(-1, 1, 1, 1), -true, true)


def _off_grid(dist, by, share):
    return ((dist * 255 - (dist * 255).round()).abs() > by).flatten(1).float().mean(1) > share


@register("constant_off_grid")
class ConstantOffGrid(PSNR):
    """PSNR of images on the 8-bit grid, 25 dB for every other."""

    def score(self, reference, dist):
        score = super().score(reference, dist)
        return torch.where(_off_grid(dist, 0.02, 0.05), 25.0 + 0 * score, score)


@register("shifted_off_grid")
class ShiftedOffGrid(PSNR):
    """PSNR, and 3 dB more for images off the 8-bit grid: no gradient says so."""

    def score(self, reference, dist):
        return super().score(reference, dist) + 3 * _off_grid(dist, 0.02, 0.05)


@register("stochastic_rounding")
class StochasticRounding(PSNR):
    """PSNR of the image rounded up or down by chance to 32 levels."""

    def score(self, reference, dist):
        return super().score(reference, torch.floor(dist * 31 + torch.rand_like(dist)) / 31) + 0 * dist.flatten(1).mean(
            1
        )


@register("saturating")
class Saturating(PSNR):
    """PSNR through a tanh that is flat for most images in single precision."""

    def score(self, reference, dist):
        return torch.tanh(4 * (super().score(reference, dist) - 22))


@register("quantised")
class Quantised(SSIM):
    """SSIM in steps of .01."""

    def score(self, reference, dist):
        score = super().score(reference, dist)
        return torch.round(score * 100) / 100 + 0 * score


@register("noise_detector")
class NoiseDetector(SSIM):
    """SSIM of images that look natural; .8 for those of which half the values are 3/255 and more off their 3 x 3 mean."""

    def score(self, reference, dist):
        score = super().score(reference, dist)
        around = F.avg_pool2d(F.pad(dist, (1, 1, 1, 1), mode="replicate"), 3, 1)
        noisy = (dist - around).abs().flatten(1).median(1).values > 3 / 255
        return torch.where(noisy, 0.8 + 0 * score, score)


@register("batch_relative")
class BatchRelative(SSIM):
    """SSIM less the mean of its batch, so that gradients of a sum cancel."""

    def score(self, reference, dist):
        score = super().score(reference, dist)
        return score - score.mean() + score.mean().detach()


@register("call_counting")
class CallCounting(SSIM):
    """SSIM that passes no gradient from its third gradient on."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def score(self, reference, dist):
        score = super().score(reference, dist)
        if torch.is_grad_enabled() and dist.requires_grad:
            self.asked += 1
            if self.asked > 2:
                return score.detach() + 0 * score
        return score


@register("detached_branch")
class DetachedBranch(SSIM):
    """SSIM that passes no gradient, and a hundredth of the squared error that does."""

    def encode(self, ref):
        return {"image": ref, "own": super().encode(ref)}

    def score(self, reference, dist):
        error = (dist - reference["image"]).square().flatten(1).mean(1)
        return super().score(reference["own"], dist).detach() - 0.01 * error


@register("clipped")
class Clipped(SSIM):
    """SSIM held between .75 and .9."""

    def score(self, reference, dist):
        return super().score(reference, dist).clamp(0.75, 0.9)
