"""The reference images of `mini`: photograph crops for *test*, procedural images for *train* and *val*.

A procedural image is drawn by a generator seeded with its name, at twice the size and averaged down, so that its
edges look photographed. Letters come from a bitmap font in this file: FreeType renders differently by version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree

from harness.contracts import DataError
from harness.datasets.images import Pixels
from harness.datasets.mini.distortions import Array, generator, normal, to_8bit
from harness.files import shown

SIDE = 128
"""Height and width of every image, in pixels."""
PHOTOGRAPH_FOLDER = Path(skimage.__file__).parent / "data"
"""In scikit-image's wheel; its own `data_dir` is a download cache where pooch is installed."""

_CANVAS = 2 * SIDE


@dataclass(frozen=True)
class Photograph:
    """A photograph in the scikit-image wheel and what is owed to its author."""

    file: str
    credit: str
    licence: str
    source: str


@dataclass(frozen=True)
class Crop:
    """A square of `SIDE` pixels; x and y count in the photograph shrunk by the factor `shrink`."""

    photograph: str
    x: int
    y: int
    shrink: int = 1


PHOTOGRAPHS: Mapping[str, Photograph] = {
    "astronaut": Photograph("astronaut.png", "NASA (Eileen Collins)", "public domain", "https://flic.kr/p/r9qvLn"),
    "rocket": Photograph(
        "rocket.jpg",
        "SpaceX (launch of DSCOVR)",
        "public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    "chelsea": Photograph("chelsea.png", "Stefan van der Walt", "CC0", "scikit-image"),
    "coffee": Photograph("coffee.png", "Rachel Michetti, Pikolo Espresso Bar", "CC0", "scikit-image"),
    "retina": Photograph(
        "retina.jpg",
        "Mikael Häggström",
        "CC0",
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    "hubble": Photograph(
        "hubble_deep_field.jpg",
        "NASA (Hubble eXtreme Deep Field)",
        "public domain",
        "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    "brick": Photograph("brick.png", "CC0Textures (Bricks25)", "CC0", "https://cc0textures.com/view.php?tex=Bricks25"),
    "grass": Photograph(
        "grass.png", "linolafett", "CC0", "https://www.deviantart.com/linolafett/art/Grass-01-434853879"
    ),
    "gravel": Photograph(
        "gravel.png", "CC0Textures (Gravel04)", "CC0", "https://cc0textures.com/view.php?tex=Gravel04"
    ),
    "camera": Photograph("camera.png", "Lav Varshney", "CC0", "scikit-image"),
}

CROPS: Mapping[str, Crop] = {
    "astronaut-0": Crop("astronaut", 160, 22),
    "astronaut-1": Crop("astronaut", 350, 40),
    "astronaut-2": Crop("astronaut", 100, 330),
    "astronaut-3": Crop("astronaut", 300, 335),
    "rocket-0": Crop("rocket", 256, 110),
    "rocket-1": Crop("rocket", 90, 290),
    "rocket-2": Crop("rocket", 330, 290),
    "rocket-3": Crop("rocket", 505, 60),
    "chelsea-0": Crop("chelsea", 110, 44),
    "chelsea-1": Crop("chelsea", 245, 44),
    "chelsea-2": Crop("chelsea", 200, 172),
    "chelsea-3": Crop("chelsea", 0, 172),
    "coffee-0": Crop("coffee", 170, 20),
    "coffee-1": Crop("coffee", 310, 200),
    "coffee-2": Crop("coffee", 150, 195),
    "coffee-3": Crop("coffee", 440, 20),
    "retina-0": Crop("retina", 60, 256, 2),
    "retina-1": Crop("retina", 200, 90, 2),
    "retina-2": Crop("retina", 380, 60, 2),
    "retina-3": Crop("retina", 150, 430, 2),
    "hubble-0": Crop("hubble", 80, 340),
    "hubble-1": Crop("hubble", 665, 400),
    "hubble-2": Crop("hubble", 380, 640),
    "hubble-3": Crop("hubble", 230, 50),
    "brick-0": Crop("brick", 120, 180),
    "grass-0": Crop("grass", 180, 60),
    "gravel-0": Crop("gravel", 200, 200),
    "camera-0": Crop("camera", 160, 60),
}
"""References of the test split; crops of one photograph do not overlap."""


def photograph_crop(crop: Crop) -> Pixels:
    """Cut a reference from its photograph, after shrinking it by box averages.

    Raises:
        DataError: The installed scikit-image has no such photograph.
    """
    path = PHOTOGRAPH_FOLDER / PHOTOGRAPHS[crop.photograph].file
    if not path.is_file():
        raise DataError(
            f"Data set mini takes a reference from {path.name}, which {shown(path.parent)} does not hold. "
            "Install scikit-image's wheel again: pip install --force-reinstall 'scikit-image>=0.24'."
        )
    # Their values as they stand, whatever profile they have (one has Adobe RGB): the labels were made of these.
    with Image.open(path) as image:
        photograph = np.asarray(image.convert("RGB"))
    s = crop.shrink
    part = photograph[crop.y * s : (crop.y + SIDE) * s, crop.x * s : (crop.x + SIDE) * s]
    return to_8bit(_shrink(part / 255.0, s))


def procedural(name: str) -> Pixels:
    """Draw a procedural reference, for example ``train-leaves-2``; everything follows from the name."""
    family = name.split("-")[1]
    return to_8bit(_shrink(np.clip(FAMILIES[family](generator(name)), 0, 1), _CANVAS // SIDE))


def _shrink(image: Array, factor: int) -> Array:
    height, width, channels = image.shape
    return np.asarray(image.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3)))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _below(rng: np.random.Generator, high: int) -> int:
    return int(rng.random() * high)


def _colour(rng: np.random.Generator) -> Array:
    """A random colour: any lightness, mostly muted, sometimes vivid, as in photographs."""
    light, vivid = _uniform(rng, 0.08, 0.92), rng.random() ** 1.5
    tint = rng.random(3) - 0.5
    return np.asarray(np.clip(light + vivid * (tint - tint.mean()) * 1.2, 0.02, 0.98))


def _fractal(rng: np.random.Generator, slope: float, side: int = _CANVAS) -> Array:
    """Noise whose amplitude falls with frequency as f^-slope; side x side, zero mean, unit deviation."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(normal(rng, side, side)) * frequency**-slope, (side, side))
    return np.asarray((field - field.mean()) / field.std())


def _colour_noise(rng: np.random.Generator, slope: float) -> Array:
    """1/f noise in colour: one shared luminance field and a weaker field per channel."""
    shared = _fractal(rng, slope)
    own = np.stack([_fractal(rng, slope + 0.2) for _ in range(3)], axis=-1)
    return np.asarray(shared[..., None] + 0.6 * own)


def _grid() -> tuple[Array, Array]:
    rows, columns = np.indices((_CANVAS, _CANVAS)) / _CANVAS
    return rows, columns


def _noise_image(rng: np.random.Generator) -> Array:
    return np.asarray(_colour(rng) + _uniform(rng, 0.12, 0.2) * _colour_noise(rng, _uniform(rng, 0.9, 1.7)))


def _gradient_fill(rng: np.random.Generator) -> Array:
    """Two or three colours blended along bent directions."""
    rows, columns = _grid()
    image = np.broadcast_to(_colour(rng), (_CANVAS, _CANVAS, 3)).astype(np.float64)
    for _ in range(2):
        angle, bend = _uniform(rng, 0, 2 * np.pi), _uniform(rng, 0, 0.6)
        along = np.cos(angle) * columns + np.sin(angle) * rows + bend * (rows - 0.5) ** 2
        along = (along - along.min()) / np.ptp(along)
        image = image + along[..., None] * (_colour(rng) - image) * _uniform(rng, 0.5, 1)
    return image


def _gradients(rng: np.random.Generator) -> Array:
    """Smooth backgrounds with shaded balls, as in studio pictures."""
    image, (rows, columns) = _gradient_fill(rng), _grid()
    for _ in range(2 + _below(rng, 4)):
        y, x, radius = rng.random(), rng.random(), _uniform(rng, 0.07, 0.3)
        dy, dx = (rows - y) / radius, (columns - x) / radius
        height = np.sqrt(np.clip(1 - dx**2 - dy**2, 0, None))
        light = np.clip(0.25 + 0.7 * height - 0.35 * dx - 0.35 * dy, 0.05, 1.3)
        shine = np.clip(light - 1.0, 0, None) * 2
        ball = light[..., None] * _colour(rng) + shine[..., None]
        image = np.where((dx**2 + dy**2 < 1)[..., None], ball, image)
    return image + 0.01 * _colour_noise(rng, 0.8)


def _grating(rng: np.random.Generator) -> Array:
    """Regular texture: stripes, checks or a weave, bent a little and lit unevenly."""
    rows, columns = _grid()
    bend = _uniform(rng, 0.0, 0.03) * _fractal(rng, 2.2)
    angle, cycles = _uniform(rng, 0, np.pi), _uniform(rng, 4, 24)
    u = np.cos(angle) * columns + np.sin(angle) * rows + bend
    v = np.cos(angle) * rows - np.sin(angle) * columns + bend
    first, second = np.sin(2 * np.pi * cycles * u), np.sin(2 * np.pi * cycles * _uniform(rng, 0.5, 1.5) * v)
    pattern = (first, first * second, np.maximum(first, second))[_below(rng, 3)]
    blend = 0.5 + 0.5 * np.tanh(_uniform(rng, 1, 6) * pattern)
    light = 1 + 0.15 * _fractal(rng, 1.8) + 0.05 * _fractal(rng, 0.6)
    return np.asarray((_colour(rng) + blend[..., None] * (_colour(rng) - _colour(rng))) * light[..., None])


def _cells(rng: np.random.Generator) -> Array:
    """Stochastic texture: pebbles, scales or cracked ground, by nearest seeds."""
    count = 20 + _below(rng, 180)
    seeds, points = rng.random((count, 2)), np.stack(_grid(), axis=-1).reshape(-1, 2)
    warp = 0.012 * np.stack([_fractal(rng, 1.6).ravel(), _fractal(rng, 1.6).ravel()], axis=-1)
    found: tuple[Any, Any] = KDTree(seeds).query(points + warp, k=2)
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    gap = ((distance[:, 1] - distance[:, 0]) * np.sqrt(count)).reshape(_CANVAS, _CANVAS)
    base = _colour(rng)
    tints = np.clip(base + 0.12 * normal(rng, count, 3) + 0.12 * normal(rng, count, 1), 0, 1)
    stone = tints[nearest[:, 0]].reshape(_CANVAS, _CANVAS, 3)
    round_off = np.clip(gap / _uniform(rng, 0.15, 0.6), 0, 1) ** 0.5
    return np.asarray(stone * (0.25 + 0.75 * round_off)[..., None] * (1 + 0.1 * _fractal(rng, 0.9))[..., None])


_FILLS: tuple[Callable[[np.random.Generator], Array], ...] = (
    _gradient_fill,
    _noise_image,
    _gradient_fill,
    _grating,
    _cells,
)


def _leaf(rng: np.random.Generator, radius: float) -> npt.NDArray[np.bool_]:
    """Mask of an ellipse or a turned rectangle somewhere on the canvas."""
    rows, columns = _grid()
    y, x, angle = _uniform(rng, -0.1, 1.1), _uniform(rng, -0.1, 1.1), _uniform(rng, 0, np.pi)
    u = (np.cos(angle) * (columns - x) + np.sin(angle) * (rows - y)) / radius
    v = (np.cos(angle) * (rows - y) - np.sin(angle) * (columns - x)) / (radius * _uniform(rng, 0.3, 1))
    return np.asarray(np.maximum(abs(u), abs(v)) < 0.85 if rng.random() < 0.3 else u**2 + v**2 < 1)


def _leaves(rng: np.random.Generator) -> Array:
    """Dead leaves (Lee, Mumford and Huang, IJCV 2001): occluding shapes with a cubic law of sizes."""
    image = _gradient_fill(rng)
    grain, shade = 0.06 * _colour_noise(rng, 0.9), 0.18 * _fractal(rng, 1.9)[..., None]
    for _ in range(320):
        # Inverse distribution function of p(r) ~ r^-3 on [.03, .35].
        radius = (0.03**-2 - rng.random() * (0.03**-2 - 0.35**-2)) ** -0.5
        mask = _leaf(rng, radius)[..., None]
        shift = _below(rng, _CANVAS)
        surface = _colour(rng) * (1 + np.roll(shade, shift, 0)) + rng.random() * np.roll(grain, shift, 1)
        image = np.where(mask, surface, image)
    return np.asarray(image)


def _collage(rng: np.random.Generator) -> Array:
    """A few large shapes, each filled with another texture, each throwing a soft shadow."""
    image = _FILLS[_below(rng, len(_FILLS))](rng)
    for _ in range(7):
        mask = _leaf(rng, _uniform(rng, 0.12, 0.45))
        shadow: Array = ndimage.gaussian_filter(np.roll(mask, (8, 6), (0, 1)).astype(np.float64), 6)
        image = image * (1 - 0.45 * shadow)[..., None]
        image = np.where(mask[..., None], _FILLS[_below(rng, len(_FILLS))](rng), image)
    return image


def _scene(rng: np.random.Generator) -> Array:
    """A landscape: sky with clouds, ridges that pale with distance, textured ground, a few objects."""
    rows, columns = _grid()
    sky = np.array([0.35, 0.55, 0.85]) + 0.25 * (rng.random(3) - 0.5)
    haze = 0.55 + 0.4 * rng.random(3)
    image = sky + rows[..., None] * 1.3 * (haze - sky)
    cloud = np.clip(0.8 * _fractal(rng, 1.7) - 0.1, 0, 1)[..., None]
    image = image + cloud * (np.array([0.95, 0.94, 0.92]) - image) * 0.8
    for layer in range(4):
        line = 0.3 + 0.15 * layer + (0.09 - 0.015 * layer) * _fractal(rng, 1.4)[layer]
        ground = np.clip(_colour(rng) * 0.8 + _uniform(rng, 0.05, 0.16) * _colour_noise(rng, 0.9), 0, 1)
        near = 0.35 + 0.2 * layer
        image = np.where((rows > line[None])[..., None], haze + near * (ground - haze), image)
    for _ in range(_below(rng, 9) + 3):
        y, x, half = _uniform(rng, 0.5, 0.95), rng.random(), _uniform(rng, 0.01, 0.05)
        tall = half * _uniform(rng, 1, 6)
        mask = (abs(columns - x) < half) & (rows < y) & (rows > y - tall)
        lit = (1.1 - 0.6 * np.clip((columns - x) / half, -1, 1))[..., None]
        image = np.where(mask[..., None], _colour(rng) * lit, image)
    return np.asarray(image)


# 5 x 7 letters A to Z, one byte per column, lowest bit on top.
_FONT = bytes.fromhex(
    "7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a 7f0808087f 00417f4100 2040413f01"
    "7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e 7f09192946 4649494931 01017f0101"
    "3f4040403f 1f2040201f 3f4038403f 6314081463 0708700807 6151494543"
)


def _glyph(letter: int) -> npt.NDArray[np.bool_]:
    columns = np.frombuffer(_FONT[5 * letter : 5 * letter + 5], dtype=np.uint8)
    return np.asarray((columns[None] >> np.arange(7, dtype=np.uint8)[:, None]) & 1, dtype=np.bool_)


def _text(rng: np.random.Generator) -> Array:
    """Lines of letters in several sizes and colours on a textured page."""
    image = _FILLS[_below(rng, 2)](rng)
    page = image.mean((0, 1))
    top = 4
    while top < _CANVAS - 20:
        size = 2 + _below(rng, 5)
        ink = np.zeros((_CANVAS, _CANVAS), dtype=np.bool_)
        left = 4 + _below(rng, 16)
        while left < _CANVAS and top + 7 * size < _CANVAS:
            if rng.random() > 0.15:
                stamp = np.kron(_glyph(_below(rng, 26)), np.ones((size, size), dtype=np.bool_))
                room = ink[top : top + 7 * size, left : left + 5 * size]
                room |= stamp[:, : room.shape[1]]
            left += 6 * size
        # Ink must stand out from the page.
        colour = np.where(page.mean() > 0.5, 0.35, 0.65) + 0.7 * (_colour(rng) - 0.5)
        image = np.where(ink[..., None], np.clip(colour, 0, 1), image)
        top += 7 * size + 3 + _below(rng, 8)
    return ndimage.gaussian_filter(image, (0.8, 0.8, 0)) + 0.01 * _colour_noise(rng, 0.5)


FAMILIES: Mapping[str, Callable[[np.random.Generator], Array]] = {
    "leaves": _leaves,
    "noise": _noise_image,
    "text": _text,
    "gradients": _gradients,
    "grating": _grating,
    "cells": _cells,
    "collage": _collage,
    "scene": _scene,
}

_COUNTS = {"train": 4, "val": 1}


def names(split: str) -> tuple[str, ...]:
    """Names of the references of a split, in the order of the label file."""
    if split == "test":
        return tuple(CROPS)
    return tuple(f"{split}-{family}-{i}" for family in FAMILIES for i in range(_COUNTS[split]))


def reference(name: str) -> Pixels:
    """The reference of this name, 8-bit `SIDE` x `SIDE` x 3.

    Raises:
        DataError: Its photograph is missing or cannot be read.
    """
    return photograph_crop(CROPS[name]) if name in CROPS else procedural(name)
