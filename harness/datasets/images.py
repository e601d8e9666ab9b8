"""Reading image files and turning pixels into tensors, for every data set."""

from __future__ import annotations

import contextlib
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

_PLAIN = frozenset({"1", "L", "P", "RGB"})
_GREY = frozenset({"1", "L"})
_WITH_ALPHA = frozenset({"LA", "PA", "RGBA", "La", "RGBa"})


def read_image(path: Path | str, *, grey: bool = True) -> Tensor:
    """One image file as 3 x H x W float32 RGB in [0, 1].

    Args:
        path: The file.
        grey: Whether an image of one grey channel is expanded; otherwise it is refused.

    Raises:
        DataError: The file is missing, truncated, no image, transparent, or of a pixel format without 8-bit RGB form.
    """
    return to_tensor(read_pixels(path, grey=grey))


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit H x W x 3 pixels as a 3 x H x W float32 tensor in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(torch.float32) / 255


def read_pixels(path: Path | str, *, grey: bool = True) -> Pixels:
    """One image file as 8-bit RGB; grey and palette images are expanded, an opaque alpha plane is dropped.

    Raises:
        DataError: See `read_image`.
    """
    path = Path(path)
    with _told(path), Image.open(path) as image:
        image.load()
        if not grey and image.mode in _GREY:
            raise DataError(f"Image {shown(path)} is grey, with one channel. Save it as RGB to compare it.")
        return _rgb(image, path)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the head of the file alone.

    Raises:
        DataError: The file is missing, or is no image.
    """
    with _told(path), Image.open(path) as image:
        return image.size


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever goes wrong with an image file, as one message."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"Image {shown(path)} is missing. Restore the file, or unpack the data set again.") from error
    # Pillow reports damage as OSError, SyntaxError (PNG chunks), ValueError, struct.error or a size alarm.
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).replace(str(path), shown(path)).split()) or type(error).__name__
        raise DataError(
            f"Image {shown(path)} cannot be read ({reason}): it is truncated, damaged or no image. "
            "Copy or download the file again."
        ) from error


def _rgb(image: Image.Image, path: Path) -> Pixels:
    # A palette or grey image can carry transparency outside its mode.
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise DataError(
                f"Image {shown(path)} is partly transparent, and quality metrics have no background to show behind it. "
                "Flatten it onto a background and save it as RGB."
            )
        return np.asarray(image.convert("RGBA"))[..., :3].copy()
    if image.mode not in _PLAIN:
        raise DataError(
            f"Image {shown(path)} has the pixel format {image.mode}, which has no exact 8-bit RGB form. "
            "Convert it to 8-bit RGB or grey (for example to PNG)."
        )
    return np.asarray(image.convert("RGB")).copy()
