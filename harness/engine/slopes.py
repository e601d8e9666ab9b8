"""What is counted of gradients: those that point nowhere, and those that stay the same while the image changes."""

from __future__ import annotations

import torch
from torch import Tensor


class Slopes:
    """Looks at every gradient of a batch, and keeps of each sample's last one no more than a number.

    Args:
        count: Samples of the full batch, N.
        device: Where they are.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._image = torch.full((count,), torch.nan, device=device)
        self._slope = torch.full((count,), torch.nan, device=device)
        self._ramp = torch.empty(0, device=device)

    @torch.no_grad()
    def look(self, images: Tensor, slope: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Whether each gradient is zero or not finite, and whether it is the last one again at another image.

        Gradients (and images) are told apart by their sum under fixed weights, in single precision, so a change in the
        last digits goes unnoticed. No host synchronisation.

        Args:
            images: Where it was taken, n x 3 x H x W.
            slope: dJ/dimages, likewise.
            rows: Their places in the full batch, int64 of shape [n]; None for all of it in order.

        Returns:
            Two bool tensors of shape [n]; a gradient that is zero is not also the last one again.
        """
        images, slope = images.detach().flatten(1), slope.detach().flatten(1)
        largest = torch.maximum(slope.amax(1), -slope.amin(1))  # the norm of order inf takes eight times as long
        pointless = ~((largest > 0) & (largest < torch.inf))
        image, told = (part.float() @ self._weights(part) for part in (images, slope))
        before = (self._image, self._slope) if rows is None else (self._image[rows], self._slope[rows])
        same = (told == before[1]) & (image != before[0]) & ~pointless
        if rows is None:
            self._image, self._slope = image, told
        else:
            self._image[rows], self._slope[rows] = image, told
        return pointless, same

    def _weights(self, flat: Tensor) -> Tensor:
        if self._ramp.numel() != flat.shape[1]:
            self._ramp = torch.arange(flat.shape[1], device=flat.device, dtype=torch.float32).mul_(1.7).cos_()
        return self._ramp
