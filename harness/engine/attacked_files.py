"""An attacked image as files: exactly, as pictures of 16 and of 8 bits a channel, and in a strip beside what it was."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save
from torch import Tensor

from harness.engine.examples import png
from harness.engine.one_pair import Attacked, PairScore
from harness.errors import UserError
from harness.files import write_whole

FLOATS_FILE, DEEP_FILE, PLAIN_FILE, STRIP_FILE, SCORES_FILE = (
    "attacked.safetensors",
    "attacked.png",
    "attacked_8bit.png",
    "strip.png",
    "scores.json",
)
"""The files: 3 x H x W floats, 16 and 8 bits a channel, the strip, the scores."""
_PANEL, _GAP, _TEXT = 192, 8, 14
"""Of the strip in pixels: the least width that an image is enlarged to, between images, height of letters."""


def attacked_versions(found: Attacked) -> dict[str, Tensor]:
    """The distorted image and the attacked one: as floats, and as files of 16 and of 8 bits a channel hold it."""
    image = found.attacked
    rounded = {f"attacked_{bits}bit": torch.round(image * top) / top for bits, top in ((16, 65535), (8, 255))}
    return {"distorted": found.distorted, "attacked": image, **rounded}


def png16(image: Tensor) -> bytes:
    """An image (3 x H x W in [0, 1]) rounded to 16 bits a channel, as a PNG file; Pillow writes none in colour."""
    values = torch.round(image.double() * 65535).permute(1, 2, 0).numpy().astype(">u2")
    height, width, _ = values.shape
    rows = values.reshape(height, -1).view(np.uint8)
    before = np.zeros_like(rows)
    before[:, 6:] = rows[:, :-6]  # the pixel to the left: filter 1 of PNG, by which rows become short
    filtered = np.concatenate([np.ones((height, 1), np.uint8), rows - before], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def strip(found: Attacked, scores: Mapping[str, PairScore]) -> bytes:
    """Reference, distorted and attacked image, and the change enlarged around grey, side by side as a PNG file.

    Args:
        found: What the attack did.
        scores: "distorted" and "attacked_8bit" of the attacked metric, which stand below the images.
    """
    times = 0.5 / max(found.linf, 1e-12)
    change = (0.5 + (found.attacked - found.distorted) * times).clamp(0, 1)
    panels = {
        "reference": found.reference,
        f"distorted: {float(scores['distorted']):.4g}": found.distorted,
        f"attacked: {float(scores['attacked_8bit']):.4g}": found.attacked,
        f"change, times {times:.3g}": change,
    }
    _, height, width = found.attacked.shape
    larger = max(1, -(-_PANEL // width))
    across, down = width * larger, height * larger
    sheet = Image.new("RGB", (4 * across + 5 * _GAP, down + 3 * _GAP + _TEXT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for place, (caption, image) in enumerate(panels.items()):
        left = _GAP + place * (across + _GAP)
        with Image.open(io.BytesIO(png(image))) as picture:
            sheet.paste(picture.resize((across, down), Image.Resampling.NEAREST), (left, _GAP))
        draw.text((left, down + 2 * _GAP), caption, fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def scores_page(found: Attacked, scores: Sequence[Mapping[str, PairScore]]) -> dict[str, Any]:
    """What there is to say of an attacked image, as plain values.

    Args:
        found: What the attack did.
        scores: Of each metric, the attacked one first: the score of each of `attacked_versions`.
    """
    about = ("metric", "attack", "direction", "norm", "eps", "linf", "l2", "status", "forwards", "backwards")
    rows = []
    for one in scores:
        first = asdict(next(iter(one.values())))
        row = {"metric": first["metric"], "higher_is_better": first["higher_is_better"], "weights": first["weights"]}
        rows.append(row | {name: score.score for name, score in one.items()})
    return {name: getattr(found, name) for name in about} | {"scores": rows}


def write_attacked(
    found: Attacked, scores: Sequence[Mapping[str, PairScore]], page: Mapping[str, Any], folder: Path
) -> dict[str, Path]:
    """Write the attacked image, the strip and the scores.

    Args:
        found: What the attack did.
        scores: See `scores_page`.
        page: What `scores_page` says, and whatever is to stand beside it.
        folder: Where; made where it is missing.

    Returns:
        What it is -> its file.

    Raises:
        UserError: The folder cannot be written.
    """
    contents = {
        FLOATS_FILE: save({"attacked": found.attacked.contiguous()}),
        DEEP_FILE: png16(found.attacked),
        PLAIN_FILE: png(found.attacked),
        STRIP_FILE: strip(found, scores[0]),
        SCORES_FILE: (json.dumps(page, indent=1) + "\n").encode(),
    }
    try:
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}). Give another folder with -o."
        ) from error
    return {name: folder / name for name in contents}
