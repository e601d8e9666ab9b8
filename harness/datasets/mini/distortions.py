"""Twenty kinds of distortion in five levels each, after the list of KADID-10k (Lin et al., QoMEX 2019).

Every function maps a reference (H x W x 3, float64 in [0, 1]) and a strength to a distorted image; `distort` clips
and rounds it to 8 bit. Normal deviates are made from uniform ones by the inverse distribution function, because
numpy promises a fixed stream only for the raw bits and may change its algorithm for normal numbers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from scipy import ndimage
from scipy.special import ndtri
from skimage.morphology import disk

from harness.contracts import DataError
from harness.datasets.images import Pixels

Array = npt.NDArray[np.float64]
Distort = Callable[[Array, Any, np.random.Generator], Array]

LEVELS = (1, 2, 3, 4, 5)

_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_FROM_YCBCR = np.linalg.inv(_TO_YCBCR)


@dataclass(frozen=True)
class Distortion:
    """One distortion type: the function and its strength at each level, weakest first."""

    function: Distort
    strengths: tuple[Any, ...]


def generator(name: str) -> np.random.Generator:
    """A random generator that depends on a name alone."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")))


def distort(reference: Pixels, name: str, kind: str, level: int) -> Pixels:
    """The distorted image of one reference.

    Args:
        reference: Reference image, 8-bit H x W x 3.
        name: Name of the reference; with kind and level it seeds every random draw.
        kind: Distortion type, a key of `DISTORTIONS`.
        level: 1 (weakest) to 5.
    """
    chosen = DISTORTIONS[kind]
    image = chosen.function(reference / 255.0, chosen.strengths[level - 1], generator(f"{name}/{kind}/{level}"))
    return to_8bit(image)


def to_8bit(image: Array) -> Pixels:
    """Round an image in [0, 1] to 8 bit, clipping what lies outside."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Standard normal numbers from the generator's uniform ones."""
    # random() can be 0, whose deviate is -inf.
    return np.asarray(ndtri(np.maximum(rng.random(shape), 1e-12)), dtype=np.float64)


def _gaussian_blur(image: Array, sigma: float, rng: np.random.Generator) -> Array:
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def _lens_blur(image: Array, radius: int, rng: np.random.Generator) -> Array:
    kernel = disk(radius).astype(np.float64)
    return ndimage.convolve(image, (kernel / kernel.sum())[..., None])


def _motion_blur(image: Array, length: int, rng: np.random.Generator) -> Array:
    return ndimage.uniform_filter1d(image, length, axis=1)


def _through_codec(image: Array, codec: str, **options: Any) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(to_8bit(image)).save(buffer, codec, **options)
    return np.asarray(Image.open(buffer).convert("RGB")) / 255.0


def _jpeg(image: Array, quality: int, rng: np.random.Generator) -> Array:
    return _through_codec(image, "JPEG", quality=quality, subsampling=2, optimize=False)


def _jpeg2000(image: Array, rate: int, rng: np.random.Generator) -> Array:
    if not features.check("jpg_2000"):
        raise DataError(
            "Data set mini needs JPEG 2000, and the Pillow installed here was built without it. "
            "Install Pillow's own wheel: pip install --force-reinstall pillow."
        )
    return _through_codec(image, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True)


def _white_noise(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    return image + deviation * normal(rng, *image.shape)


def _chroma_noise(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    noise = normal(rng, *image.shape) * np.array([0.2, 1.0, 1.0])
    return np.asarray(image + deviation * noise @ _FROM_YCBCR.T)


def _impulse_noise(image: Array, share: float, rng: np.random.Generator) -> Array:
    hit = rng.random(image.shape) < share
    return np.where(hit, (rng.random(image.shape) < 0.5).astype(np.float64), image)


def _multiplicative_noise(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    return image * (1 + deviation * normal(rng, *image.shape))


def _denoise(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    noisy = image + deviation * normal(rng, *image.shape)
    return ndimage.median_filter(noisy, size=(3, 3, 1))


def _quantisation(image: Array, values: int, rng: np.random.Generator) -> Array:
    return np.rint(image * (values - 1)) / (values - 1)


def _brighten(image: Array, gamma: float, rng: np.random.Generator) -> Array:
    return 1 - (1 - image) ** gamma


def _darken(image: Array, gamma: float, rng: np.random.Generator) -> Array:
    return image**gamma


def _contrast(image: Array, gain: float, rng: np.random.Generator) -> Array:
    mean = image.mean()
    return np.asarray(mean + gain * (image - mean))


def _channel_shift(image: Array, pixels: int, rng: np.random.Generator) -> Array:
    shifted = image.copy()
    shifted[..., 0] = ndimage.shift(image[..., 0], (0, pixels), order=0, mode="nearest")
    shifted[..., 2] = ndimage.shift(image[..., 2], (0, -pixels), order=0, mode="nearest")
    return shifted


def _pixelate(image: Array, side: int, rng: np.random.Generator) -> Array:
    rows, columns = (np.arange(length) // side for length in image.shape[:2])
    blocks = rows[:, None] * (columns[-1] + 1) + columns
    index = np.arange(blocks.max() + 1)
    planes = [ndimage.mean(image[..., c], blocks, index)[blocks] for c in range(3)]
    return np.stack(planes, axis=-1)


def _jitter(image: Array, reach: float, rng: np.random.Generator) -> Array:
    rows, columns = np.indices(image.shape[:2])
    offset = np.rint(reach * (2 * rng.random((2, *image.shape[:2])) - 1)).astype(np.int64)
    rows = np.clip(rows + offset[0], 0, image.shape[0] - 1)
    columns = np.clip(columns + offset[1], 0, image.shape[1] - 1)
    return np.asarray(image[rows, columns])


def _corners(image: Array, count: int, side: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    room = np.array(image.shape[:2]) - side
    return np.asarray(np.floor(rng.random((count, 2)) * room), dtype=np.int64)


def _patches(image: Array, count: int, rng: np.random.Generator) -> Array:
    """Small patches are replaced by others from nearby (KADID's non-eccentricity pattern)."""
    side, damaged = 12, image.copy()
    for row, column in _corners(image, count, side, rng):
        towards = np.floor(rng.random(2) * 17).astype(np.int64) + 4
        y, x = np.where(np.array([row, column]) + towards + side <= image.shape[:2], 1, -1) * towards + [row, column]
        damaged[row : row + side, column : column + side] = image[y : y + side, x : x + side]
    return damaged


def _colour_block(image: Array, count: int, rng: np.random.Generator) -> Array:
    side, damaged = 10, image.copy()
    for row, column in _corners(image, count, side, rng):
        damaged[row : row + side, column : column + side] = rng.random(3)
    return damaged


def _sharpen(image: Array, amount: float, rng: np.random.Generator) -> Array:
    return np.asarray(image + amount * (image - ndimage.gaussian_filter(image, (1.5, 1.5, 0))))


DISTORTIONS: dict[str, Distortion] = {
    "gaussian_blur": Distortion(_gaussian_blur, (0.6, 0.9, 1.4, 2.2, 3.6)),
    "lens_blur": Distortion(_lens_blur, (1, 2, 3, 5, 7)),
    "motion_blur": Distortion(_motion_blur, (3, 5, 9, 15, 23)),
    "jpeg": Distortion(_jpeg, (60, 35, 20, 10, 4)),
    "jpeg2000": Distortion(_jpeg2000, (12, 24, 48, 90, 160)),
    "white_noise": Distortion(_white_noise, (0.02, 0.04, 0.07, 0.12, 0.2)),
    "chroma_noise": Distortion(_chroma_noise, (0.03, 0.06, 0.1, 0.17, 0.28)),
    "impulse_noise": Distortion(_impulse_noise, (0.004, 0.012, 0.03, 0.07, 0.15)),
    "multiplicative_noise": Distortion(_multiplicative_noise, (0.05, 0.1, 0.18, 0.3, 0.5)),
    "denoise": Distortion(_denoise, (0.02, 0.05, 0.1, 0.17, 0.28)),
    "quantisation": Distortion(_quantisation, (24, 14, 9, 6, 4)),
    "brighten": Distortion(_brighten, (1.2, 1.45, 1.8, 2.4, 3.4)),
    "darken": Distortion(_darken, (1.2, 1.45, 1.8, 2.4, 3.4)),
    "contrast": Distortion(_contrast, (0.85, 0.7, 0.52, 0.35, 0.2)),
    "channel_shift": Distortion(_channel_shift, (1, 2, 3, 5, 8)),
    "pixelate": Distortion(_pixelate, (2, 3, 4, 6, 9)),
    "jitter": Distortion(_jitter, (0.6, 0.9, 1.5, 2.5, 4.0)),
    "patches": Distortion(_patches, (2, 5, 10, 18, 30)),
    "colour_block": Distortion(_colour_block, (1, 2, 4, 8, 14)),
    "sharpen": Distortion(_sharpen, (0.6, 1.2, 2.2, 4.0, 7.0)),
}
"""Distortion types by name, in the order of the label file."""
