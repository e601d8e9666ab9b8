"""Reading image files and turning pixels into tensors, for every data set and for `score`, by one rule.

8-bit images are value / 255, 16-bit ones value / 65535; grey and palettes are expanded, EXIF orientation is applied,
an opaque alpha plane is dropped. Refused is what has no exact RGB form or is not one image; see `image_files`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness.contracts import DataError
from harness.datasets.image_files import CHECK_PATH, CONVERSIONS, ImageHead, opened, partly_transparent, unloaded
from harness.files import shown

Pixels = npt.NDArray[np.uint8]
"""8-bit RGB, H x W x 3."""
_Values = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""RGB of 8 or 16 bits, H x W x 3."""

_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order of a value as Pillow's decoders call it -> the other one; N is that of the machine."""
_UPSIDE_DOWN, _MIRRORED = frozenset({3, 4, 7, 8}), frozenset({2, 3, 6, 7})
"""Orientations whose first row is at the bottom, and whose first column is at the right, once columns are rows."""


class ImageReader:
    """Reads the image files of one data set and remembers which kinds of them it converted, and how."""

    def __init__(self) -> None:
        self._converted: set[str] = set()

    def image(self, path: Path | str, *, missing: str = CHECK_PATH) -> Tensor:
        """See `read_image`."""
        return _to_tensor(self._values(path, missing))

    def pixels(self, path: Path | str, *, missing: str = CHECK_PATH) -> Pixels:
        """See `read_pixels`."""
        values = self._values(path, missing)
        if values.dtype != np.uint8:
            raise DataError(f"Image {shown(path)} has 16 bits a channel, and its data set has 8. Restore the file.")
        return values  # type: ignore[return-value]

    def notices(self, who: str) -> tuple[str, ...]:
        """What a report has to say of the images read so far, a line for each kind of conversion.

        Args:
            who: What the data set is called.
        """
        found = [what for what in CONVERSIONS if what in self._converted]
        return tuple(f"{who}: some image files are {what}; `robustiqa data verify` names them." for what in found)

    def _values(self, path: Path | str, missing: str) -> _Values:
        values, head = _read(Path(path), missing)
        self._converted.update(head.converted)
        return values


def read_image(path: Path | str, *, missing: str = CHECK_PATH) -> Tensor:
    """One image file as 3 x H x W float32 RGB in [0, 1].

    Args:
        path: The file.
        missing: What to do where there is no such file, for the message.

    Raises:
        DataError: The file is missing, truncated, no image, transparent, too large or of several frames, has a colour
            profile other than sRGB, or a pixel format without exact RGB form.
    """
    return ImageReader().image(path, missing=missing)


def read_pixels(path: Path | str, *, missing: str = CHECK_PATH) -> Pixels:
    """One image file as 8-bit RGB, for sets whose files are so by definition.

    Raises:
        DataError: See `read_image`; or it has 16 bits a channel.
    """
    return ImageReader().pixels(path, missing=missing)


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit H x W x 3 pixels as a 3 x H x W float32 tensor in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(torch.float32) / 255


def image_head(path: Path) -> ImageHead:
    """What the head of an image file says; only of one with an alpha plane the pixels are read.

    Raises:
        DataError: The file is missing, no image, transparent, too large or of several frames, has a colour profile
            other than sRGB, or a pixel format without exact RGB form.
    """
    with opened(path) as (image, head):
        if head.alpha:
            _rgb(image, head, path)
        return head


def _read(path: Path, missing: str) -> tuple[_Values, ImageHead]:
    """The pixels of a file, turned as EXIF says."""
    with opened(path, missing) as (image, head):
        return _turned(_rgb(image, head, path), head.orientation), head


def _to_tensor(values: _Values) -> Tensor:
    if values.dtype == np.uint8:
        return to_tensor(values)  # type: ignore[arg-type]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)) / 65535


def _rgb(image: Image.Image, head: ImageHead, path: Path) -> _Values:
    """Its pixels as they are stored, grey and palettes expanded.

    Raises:
        DataError: It is partly transparent.
    """
    if head.deep:
        return _opaque(_deep(image, head, path), image.info.get("transparency"), path)
    return _opaque(np.asarray(image.convert("RGBA" if head.alpha else "RGB")).copy(), None, path)


def _opaque(values: _Values, see_through: Any, path: Path) -> _Values:
    """H x W x 3 of H x W x 3 or 4, nothing of which is transparent.

    Args:
        values: The pixels.
        see_through: The colour that is transparent, if any.
        path: The file, for the message.
    """
    transparent = values.shape[2] == 4 and values[..., 3].min() < np.iinfo(values.dtype).max
    if transparent or (see_through is not None and (values[..., :3] == np.array(see_through)).all(-1).any()):
        raise partly_transparent(path)
    return values[..., :3]


def _deep(image: Image.Image, head: ImageHead, path: Path) -> npt.NDArray[np.uint16]:
    """The pixels of an image of 16 bits a channel, H x W x 3 or 4.

    Pillow has no mode for 16-bit colour: its decoders keep one byte of each value, the upper one. Which that is they
    are told by the byte order in the name of the stored format; told the other order, they keep the lower byte.
    """
    if image.mode.startswith("I"):
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=2)
    if head.deep == "LA;16B":  # four bytes a pixel
        four = _decoded(path, "RGBA")
        grey, alpha = (_joined(four[..., place], four[..., place + 1]) for place in (0, 2))
        return np.stack([grey, grey, grey, alpha], axis=-1)
    name, order = head.deep[:-1], head.deep[-1]
    return _joined(_decoded(path, name + order), _decoded(path, name + _OTHER_ORDER[order]))


def _joined(high: Pixels, low: Pixels) -> npt.NDArray[np.uint16]:
    """Values of which these are the upper and the lower bytes."""
    return np.left_shift(high, 8, dtype=np.uint16) | low


def _decoded(path: Path, stored: str) -> Pixels:
    """What Pillow's decoders make of a file whose pixels they take to be stored so; a TIFF is turned as EXIF says."""
    with unloaded(path) as image:
        image.tile = [_told(tile, stored) for tile in image.tile]  # type: ignore[attr-defined]
        image.load()
        return np.asarray(image)


def _told(tile: tuple[Any, ...], stored: str) -> tuple[Any, ...]:
    """A part of an image with other words on how it is stored."""
    codec, extents, offset, args = tile
    told = (codec, extents, offset, (stored, *args[1:]) if isinstance(args, tuple) else stored)
    if codec == "ppm":  # which would scale 16 bits down to 8
        told = ("raw", extents, offset, (stored, 0, 1))
    return getattr(type(tile), "_make", tuple)(told)  # a named tuple since Pillow 11


def _turned(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Pixels turned and mirrored so that up is up, by orientation 1 to 8 of EXIF."""
    if orientation > 4:  # stored by columns
        values = values.transpose(1, 0, 2)
    down, right = -1 if orientation in _UPSIDE_DOWN else 1, -1 if orientation in _MIRRORED else 1
    return np.ascontiguousarray(values[::down, ::right])
