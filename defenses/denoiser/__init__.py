"""A small denoiser: the network of `diffpure-mini` and `denoise`, its noise schedule and its training."""

from defenses.denoiser.network import Denoiser
from defenses.denoiser.schedule import Schedule

__all__ = ["Denoiser", "Schedule"]
