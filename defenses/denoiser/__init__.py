"""A small denoiser of pictures: the network of `diffpure-mini` and of `denoise`, its noise schedule and its training."""

from defenses.denoiser.network import Denoiser
from defenses.denoiser.schedule import Schedule

__all__ = ["Denoiser", "Schedule"]
