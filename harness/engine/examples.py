"""Attacked images kept for people and for `rescore`: as PNG, exact where asked for, and the perturbation as a map."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = ("reference", "distorted", "attacked")
FLOATS = "images.safetensors"
CHANGE = "perturbation.png"
PICTURES = (*(f"{name}.png" for name in IMAGES), CHANGE)
"""Files of an example, beside its scores and `FLOATS`, which is there where exact images were asked for."""
SCORES = "scores.json"


@dataclass(frozen=True)
class Example:
    """One attacked item.

    Attributes:
        rank: Place of its sample in the split's order.
        item: Item id.
        images: Reference, distorted and attacked image, each float32 3 x H x W in [0, 1] on the CPU.
        about: What else is kept: the cell's name, the scores of clean and attacked image, the size of the perturbation.
        full_scale: The change of a pixel that the map draws as black or white.
    """

    rank: int
    item: str
    images: Mapping[str, Tensor]
    about: Mapping[str, Any]
    full_scale: float
    exact: bool = False
    """Whether the images are kept as floats too."""

    @property
    def name(self) -> str:
        """Folder name: its place and what of its id a file name can hold."""
        return f"{self.rank:05d}-{re.sub(r'[^A-Za-z0-9_.#-]+', '-', self.item)[-80:]}"

    def files(self) -> dict[str, bytes]:
        """Name -> content of its files; the scores come last, and say which images their PNG holds exactly."""
        import torch  # not above: whoever reads a run folder needs none
        from safetensors.torch import save

        floats = {name: self.images[name].contiguous() for name in IMAGES}
        rounded = {name: eight_bit(image) for name, image in floats.items()}
        found = {FLOATS: save(floats)} if self.exact else {}
        found |= {f"{name}.png": png_of(pixels) for name, pixels in rounded.items()}
        change = (self.images["attacked"] - self.images["distorted"]) / max(self.full_scale, 1e-12)
        found[CHANGE] = png((0.5 + 0.5 * change).clamp(0, 1))
        whole = [name for name, image in floats.items() if torch.equal(rounded[name].to(image) / 255, image)]
        about = {"item": self.item, **self.about, "perturbation_full_scale": self.full_scale, "exact_as_png": whole}
        found[SCORES] = json.dumps(about, indent=1).encode()
        return found


def misfit(images: Mapping[str, Tensor]) -> str:
    """What is wrong with the float images of a kept example, empty if nothing is."""
    import torch

    if set(images) != set(IMAGES):
        return f"it holds {', '.join(sorted(images)) or 'nothing'}, not {', '.join(IMAGES)}"
    for name, image in images.items():
        if image.dtype != torch.float32 or image.ndim != 3 or image.shape[0] != 3:
            return f"'{name}' is no float32 image of 3 x H x W"
    return "" if len({image.shape for image in images.values()}) == 1 else "its images differ in size"


def eight_bit(image: Tensor) -> Tensor:
    """An image in [0, 1] rounded to 8 bits, uint8 on the CPU."""
    import torch

    return torch.round(image.detach() * 255).to(torch.uint8).cpu()


def png(image: Tensor) -> bytes:
    """An image (3 x H x W in [0, 1]) rounded to 8 bits, as a PNG file."""
    return png_of(eight_bit(image))


def png_of(pixels: Tensor, *, smallest: bool = False) -> bytes:
    """An image (uint8, 3 x H x W) as a PNG file; the smallest takes longer."""
    from PIL import Image

    buffer = io.BytesIO()
    rows = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    Image.fromarray(rows).save(buffer, format="PNG", optimize=smallest)
    return buffer.getvalue()


def read_png(content: bytes) -> Tensor:
    """The image of an 8-bit PNG file, 3 x H x W in [0, 1]."""
    import torch
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255
