"""Reading image files and turning pixels into tensors, for every data set."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness.contracts import DataError
from harness.files import shown

Pixels = npt.NDArray[np.uint8]
"""8-bit RGB, H x W x 3."""

_MISSING = "Check the path."
_PLAIN = frozenset({"1", "L", "P", "RGB"})
_GREY = frozenset({"1", "L"})
_WITH_ALPHA = frozenset({"LA", "PA", "RGBA", "La", "RGBa"})
_DEEP = re.compile(r";16[BLN]")
"""In the name of a stored format: 16 bits a channel, of which Pillow keeps the upper 8 without a word."""


def read_image(path: Path | str, *, grey: bool = True, missing: str = _MISSING) -> Tensor:
    """One image file as 3 x H x W float32 RGB in [0, 1].

    Args:
        path: The file.
        grey: Whether an image of one grey channel is expanded; otherwise it is refused.
        missing: What to do where there is no such file, for the message.

    Raises:
        DataError: The file is missing, truncated, no image, transparent, or of a pixel format without 8-bit RGB form.
    """
    return to_tensor(read_pixels(path, grey=grey, missing=missing))


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit H x W x 3 pixels as a 3 x H x W float32 tensor in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(torch.float32) / 255


def read_pixels(path: Path | str, *, grey: bool = True, missing: str = _MISSING) -> Pixels:
    """One image file as 8-bit RGB; grey and palette images are expanded, an opaque alpha plane is dropped.

    Raises:
        DataError: See `read_image`.
    """
    path = Path(path)
    with _told(path, missing), Image.open(path) as image:
        _refuse_format(image, path)
        image.load()
        if not grey and image.mode in _GREY:
            raise DataError(f"Image {shown(path)} is grey, with one channel. Save it as RGB to compare it.")
        return _rgb(image)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the head of the file; only of one with an alpha plane the pixels are read.

    Raises:
        DataError: The file is missing, no image, transparent, or of a pixel format without 8-bit RGB form.
    """
    with _told(path), Image.open(path) as image:
        _refuse_format(image, path)
        return image.size


@contextlib.contextmanager
def _told(path: Path, missing: str = _MISSING) -> Iterator[None]:
    """Whatever goes wrong with an image file, as one message."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"Image {shown(path)} is missing. {missing}") from error
    # Pillow reports damage as OSError, SyntaxError (PNG chunks), ValueError, struct.error or a size alarm.
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).replace(str(path), shown(path)).split()) or type(error).__name__
        raise DataError(
            f"Image {shown(path)} cannot be read ({reason}): it is truncated, damaged or no image. "
            "Copy or download the file again."
        ) from error


def _refuse_format(image: Image.Image, path: Path) -> None:
    """What cannot be 8-bit RGB, of an image that was opened and not loaded."""
    stored = next((found for tile in getattr(image, "tile", ()) if (found := _DEEP.search(str(tile[3])))), None)
    if image.mode not in _PLAIN | _WITH_ALPHA or stored:
        form = f"{image.mode}{stored[0] if stored and ';' not in image.mode else ''}"
        raise DataError(
            f"Image {shown(path)} has the pixel format {form}, which has no exact 8-bit RGB form. "
            "Convert it to 8-bit RGB or grey (for example to PNG)."
        )
    if _has_alpha(image) and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise DataError(
            f"Image {shown(path)} is partly transparent, and quality metrics have no background to show behind it. "
            "Flatten it onto a background and save it as RGB."
        )


def _has_alpha(image: Image.Image) -> bool:
    # A palette or grey image can carry transparency outside its mode.
    return image.mode in _WITH_ALPHA or "transparency" in image.info


def _rgb(image: Image.Image) -> Pixels:
    if _has_alpha(image):
        return np.asarray(image.convert("RGBA"))[..., :3].copy()
    return np.asarray(image.convert("RGB")).copy()
