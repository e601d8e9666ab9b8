"""How an image file is stored, from its head: which are read, what of them is converted, and what is refused."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from harness.contracts import DataError
from harness.files import shown

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG2000", "TGA", "QOI", "PCX", "AVIF")
"""Formats that are read; of the others that Pillow knows some start programs, and some lose depth in silence."""
CHECK_PATH = "Check the path."
MAX_PIXELS = "ROBUSTIQA_MAX_PIXELS"
"""Environment variable: the most pixels that an image may have."""
USUAL_MAX_PIXELS = 40_000_000
"""The limit unless another is given: a frame of 7680 x 4320 has 33 million."""

DEEP = "read at 16 bits a channel"
TURNED = "turned as the EXIF orientation says"
OPAQUE = "read without its opaque alpha plane"
FROM_PALETTE = "expanded from a palette to RGB"
FROM_GREY = "expanded from grey to RGB"
CONVERSIONS = (DEEP, TURNED, OPAQUE, FROM_PALETTE, FROM_GREY)
"""What an image can be for it to be RGB, in the order in which it is told."""

_GREY = frozenset({"1", "L", "LA", "La"})
_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_DEEP_RGB = frozenset(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN") | {"LA;16B"}
_PLAIN = frozenset({"1", "L", "P", "RGB"})
_WITH_ALPHA = frozenset({"LA", "PA", "RGBA", "La", "RGBa"})
_BITS = re.compile(r"^(?!BGR).*;(12|16|32)|.* of 0\.\.")
"""In the name of a stored format: not 8 bits a channel or fewer (BGR;16 has 16 a pixel)."""
_HEAD = 2**20
"""Bytes in which the head of a JPEG 2000 or AVIF file says how deep it is."""
_ORIENTATION = 274
"""Tag of EXIF and TIFF."""
_EXIF_IN = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
"""Where Pillow finds EXIF, or XMP that says which way is up."""
_PNG_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Of these the ones that are text of a PNG file, by their keys."""
_LONGEST_KEY = max(map(len, _PNG_TEXTS))
_SAME_COLOUR = 2
"""Grey levels by which a profile may part from sRGB and be one of its many spellings."""


@dataclass(frozen=True)
class ImageHead:
    """What is known of an image file before its pixels are read.

    Attributes:
        size: Width and height in pixels, as it is turned.
        deep: How its 16-bit channels are stored, as Pillow's decoders call it ("RGB;16B"); empty for 8 bits or fewer.
        orientation: By EXIF, 1 to 8; 1 where Pillow turns the image itself.
        alpha: Whether it has an alpha plane or a transparent colour.
        converted: What makes it RGB, of `CONVERSIONS`; that an alpha plane is opaque is seen when it is read.
    """

    size: tuple[int, int]
    deep: str
    orientation: int
    alpha: bool
    converted: tuple[str, ...]


@contextlib.contextmanager
def opened(path: Path, missing: str = CHECK_PATH) -> Iterator[tuple[Image.Image, ImageHead]]:
    """An image file that can be read, its pixels not decoded yet; whatever goes wrong with it is one message.

    Args:
        path: The file.
        missing: What to do where there is no such file, for the message.

    Raises:
        DataError: It is missing, damaged, no image, too large, or of several frames, or has no exact RGB form.
    """
    try:
        with unloaded(path) as image:
            yield image, _head(image, path)
    except FileNotFoundError as error:
        raise DataError(f"Image {shown(path)} is missing. {missing}") from error
    # Pillow reports damage as OSError, SyntaxError (PNG chunks), ValueError or struct.error.
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).replace(str(path), shown(path)).split()) or type(error).__name__
        raise DataError(
            f"Image {shown(path)} cannot be read ({reason}): it is truncated, damaged or no image. "
            "Copy or download the file again."
        ) from error


def unloaded(path: Path) -> Image.Image:
    """The image in a file, of which only the head was read."""
    alarm = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # its limit cannot be raised by an option; ours is asked next, in `_head`
    try:
        return Image.open(path, formats=FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = alarm


def max_pixels() -> int:
    """The most pixels that an image may have: ``ROBUSTIQA_MAX_PIXELS``, else 40 million.

    Raises:
        DataError: It is no whole number above 0.
    """
    text = os.environ.get(MAX_PIXELS) or str(USUAL_MAX_PIXELS)
    digits = text.replace("_", "").replace(",", "").strip()
    if not (digits.isascii() and digits.isdecimal() and 0 < len(digits) <= 18 and int(digits)):
        raise DataError(f"{MAX_PIXELS}: {text!r} is no number of pixels. Give a whole one, such as {USUAL_MAX_PIXELS}.")
    return int(digits)


def partly_transparent(path: Path) -> DataError:
    """What is said of an image through which something is to be seen."""
    return DataError(
        f"Image {shown(path)} is partly transparent, and quality metrics have no background to show behind it. "
        "Flatten it onto a background and save it as RGB."
    )


def _head(image: Image.Image, path: Path) -> ImageHead:
    width, height = image.size
    if width * height > (limit := max_pixels()):
        raise DataError(
            f"Image {shown(path)} has {width} x {height} = {width * height:,} pixels, and the limit is {limit:,}. Crop "
            f"or shrink it, or give --max-pixels {width * height} (or set {MAX_PIXELS}) where memory "
            "suffices (12 bytes a pixel and image, and what a metric takes)."
        )
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise DataError(
            f"Image {shown(path)} holds {frames} frames or pages, and one image is compared. Save the one that is "
            "meant as a file of its own."
        )
    stored = _stored(image, path)
    if foreign := _other_colours(image.info.get("icc_profile")):
        raise DataError(
            f"Image {shown(path)} has the colour profile {foreign}, under which its values are not those of sRGB. "
            "Convert it to sRGB and save it, or take the profile out if its values are meant as they stand."
        )
    orientation, by_pillow = _orientation(image), image.format == "TIFF"
    alpha = image.mode in _WITH_ALPHA or "transparency" in image.info  # a palette or grey image can have the latter
    deep = stored if stored in _DEEP_GREY | _DEEP_RGB else ""
    found = {
        DEEP: bool(deep),
        TURNED: orientation > 1,
        OPAQUE: alpha,
        FROM_PALETTE: image.mode in ("P", "PA"),
        FROM_GREY: image.mode in _GREY or deep in _DEEP_GREY or deep.startswith("LA"),
    }
    if by_pillow:  # whose size is turned or not by its version
        width, height = image.tag_v2[256], image.tag_v2[257]  # type: ignore[attr-defined]
    return ImageHead(
        size=(height, width) if orientation > 4 else (width, height),
        deep=deep,
        orientation=1 if by_pillow else orientation,
        alpha=alpha,
        converted=tuple(what for what in CONVERSIONS if found[what]),
    )


# ------------------------------------------------------------------------------------------------ depth


def _stored(image: Image.Image, path: Path) -> str:
    """How pixels are stored, as Pillow's decoders call it.

    Raises:
        DataError: They have no RGB form of 8 or 16 bits a channel that Pillow reads exactly.
    """
    raw = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    stored = next((name for name in sorted(raw) if _BITS.match(name)), next(iter(raw), image.mode))
    exact = image.mode in _PLAIN | _WITH_ALPHA and not _BITS.match(stored)
    exact = exact or (stored in _DEEP_GREY and image.mode.startswith("I")) or stored in _DEEP_RGB
    if exact and not (bits := _lost_bits(image, path, stored)):
        return stored
    form = bits if exact else stored if _BITS.match(stored) else image.mode
    raise DataError(
        f"Image {shown(path)} has the pixel format {form}, which has no exact RGB form here. Convert it to RGB or grey "
        "of 8 or 16 bits (for example to PNG)."
    )


def _raw_mode(tile: tuple[object, ...]) -> str:
    """How a part of an image is stored."""
    codec, _, _, args = tile
    first, *rest = args if isinstance(args, tuple) else (args,)
    if codec in ("ppm", "ppm_plain") and rest:  # the mode, and the value of white
        white = rest[0]
        exact = white == 255 or (white == 65535 and codec == "ppm" and first == "RGB")
        return f"{first} of 0..{white}" if not exact else f"{first};16B" if white == 65535 else str(first)
    return str(first) if isinstance(first, str) else ""


def _lost_bits(image: Image.Image, path: Path, stored: str) -> str:
    """What Pillow would not read, of a file whose format looks readable; empty where it reads everything."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        deep, apart, inverted = max(tags.get(258, (1,))) > 8, tags.get(284) == 2, tags.get(262) == 0
        if deep and (apart or inverted or stored not in _DEEP_GREY | _DEEP_RGB):
            return f"{image.mode} of {max(tags.get(258))} bits, {'plane by plane' if apart else 'stored unusually'}"
    if image.format in ("JPEG2000", "AVIF"):
        with path.open("rb") as file:
            head = file.read(_HEAD)
        deep = _jpeg2000_bits(head) != 8 if image.format == "JPEG2000" else _avif_is_deep(head)
        return f"{image.mode} of more or less than 8 bits in {image.format}" if deep else ""
    return ""


def _jpeg2000_bits(head: bytes) -> int:
    """Bits a channel, by the SIZ marker of the codestream (ISO/IEC 15444-1, A.5.1); 0 where there is none."""
    place = head.find(b"\xff\x4f\xff\x51")
    if place < 0:
        return 0
    siz = head[place + 4 :]
    count = int.from_bytes(siz[36:38], "big")
    return max(((bits & 0x7F) + 1 for bits in siz[38 : 38 + 3 * count : 3]), default=0)


def _avif_is_deep(head: bytes) -> bool:
    """Whether there are more than 8 bits a channel, by high_bitdepth of the av1C box (AV1-ISOBMFF, 2.3)."""
    place = head.find(b"av1C")
    return place < 0 or bool(head[place + 6] & 0x40)


# ------------------------------------------------------------------------------------------------ EXIF


def _orientation(image: Image.Image) -> int:
    """Which way is up by EXIF, 1 to 8; 1 where nothing readable is said."""
    if image.format == "TIFF":
        found = image.tag_v2.get(_ORIENTATION, 1)  # type: ignore[attr-defined]
    else:
        if image.format == "PNG" and _speaks_after_pixels(image.fp):  # type: ignore[attr-defined]
            image.load()
        if not _EXIF_IN & image.info.keys():
            return 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # damaged EXIF says nothing, as to every viewer
            found = 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _speaks_after_pixels(file: IO[bytes]) -> bool:
    """Whether a PNG file says behind its pixels which way is up; it is left where it was."""
    here, pixels = file.tell(), False
    try:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            size, name = int.from_bytes(start[:4], "big"), start[4:]
            if pixels and name == b"eXIf":
                return True
            begins = file.read(min(size, _LONGEST_KEY)) if pixels and name in (b"tEXt", b"zTXt", b"iTXt") else b""
            if begins.startswith(_PNG_TEXTS):
                return True
            pixels = pixels or name == b"IDAT"
            file.seek(size + 4 - len(begins), os.SEEK_CUR)
        return False
    finally:
        file.seek(here)


# ------------------------------------------------------------------------------------------------ colour


@functools.lru_cache(maxsize=16)
def _other_colours(profile: bytes | None) -> str:
    """The name of a profile under which values are other colours than in sRGB; empty where they are the same."""
    if not profile:
        return ""
    from PIL import ImageCms  # slow to import, and seldom needed

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L"}[own.profile.xcolor_space.strip()]
        name = "".join(letter for letter in ImageCms.getProfileDescription(own) if letter.isprintable())[:60]
        srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
        colours = _colours(mode)
        seen = ImageCms.applyTransform(colours, ImageCms.buildTransform(own, srgb, mode, "RGB", intent))
    except (OSError, KeyError, ValueError, ImageCms.PyCMSError):
        return "(unreadable)"
    apart = np.abs(np.asarray(seen, dtype=int) - np.asarray(colours.convert("RGB"), dtype=int)).max()
    return "" if apart <= _SAME_COLOUR else f"'{name}'" if name else "(unnamed)"


def _colours(mode: str) -> Image.Image:
    """Every level of grey, or of R, G and B every fifteenth in all combinations."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3))
