"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray 2016), on CPU in fp32.

A tile of 4 x 4 results takes 36 multiplications in place of 144, and matrix products alone: torch's own convolution on
CPU is direct. Results differ from it by about 3e-6 of their spread. What it does not pay for, other devices and
precisions, narrow maps and weights that are being learned among them, is torch's convolution as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_Made = TypeVar("_Made")

TILE = 4
"""Side of a tile of results."""
_WINDOW = TILE + 2
"""Side of what they are made from."""
NARROWEST = 64
"""Channels in and out below which moving tiles takes longer than the multiplications that are saved."""
FEWEST = 16
"""Tiles of an image below which it takes longer to read the transformed weights."""
_TILES = 64
"""Tiles that are worked on at once: few enough to stay in the cache, enough for matrix products at full speed."""

_APART = 199
"""Values from one of a sample to the next."""

# Of the points 0, 1, -1, 2, -2 and infinity: values from windows, weights from kernels, results from products.
_VALUES = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_RESULTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _square(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """The transform along both axes at once, in float64."""
    one = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(one, one)


class Kernel:
    """What of a 3 x 3 kernel, outputs x inputs x 3 x 3, is multiplied with tiles; made when it is asked for."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    @cached_property
    def products(self) -> Tensor:
        """36 x inputs x outputs."""
        outputs, inputs = self._weight.shape[:2]
        taps = self._weight.to(torch.float64).permute(2, 3, 1, 0).reshape(9, -1)
        return (_square(_WEIGHTS) @ taps).to(self._weight.dtype).view(_WINDOW**2, inputs, outputs)

    @cached_property
    def turned(self) -> Kernel:
        """The kernel of the convolution's adjoint."""
        return Kernel(self._weight.flip(2, 3).transpose(0, 1))


class _Kept(NamedTuple):
    source: Tensor
    """Shares memory with the weights, so that nothing else can come to lie there."""
    version: int
    sample: NDArray[np.float32] | None
    """Values of the weights; None where reading them would have the host wait for a device."""
    made: Any


_KEPT: WeakKeyDictionary[nn.Conv2d, dict[Callable[[Tensor], Any], _Kept]] = WeakKeyDictionary()


def from_weights(convolution: nn.Conv2d, make: Callable[[Tensor], _Made]) -> _Made:
    """What is made from weights that do not change, made once.

    Args:
        convolution: Whose weights they are; in place of those, or with other values in them, it is made anew.
        make: Makes it from the weights, without gradient.
    """
    weight = convolution.weight
    of_this = _KEPT.setdefault(convolution, {})
    kept = of_this.get(make)
    if kept is not None and _is_of(kept, weight):
        made: _Made = kept.made
        return made
    with torch.inference_mode(False), torch.no_grad():
        source = weight.detach()
        made = make(source.clone())
        sample = _sample(source)
        of_this[make] = _Kept(source, weight._version, None if sample is None else sample.copy(), made)
    return made


def _is_of(kept: _Kept, weight: Tensor) -> bool:
    """Whether the weights are those that something was made from.

    Torch counts what is written to them, but not what is written past it, to `weight.data` or by numpy: that is seen
    in the sample, on a CPU; a change of few values may be missed. To compare all takes 8 % of a forward's time.
    """
    source, sample = kept.source, _sample(weight)
    return (
        source.data_ptr() == weight.data_ptr()
        and source.stride() == weight.stride()
        and kept.version == weight._version
        and (kept.sample is None or (sample is not None and np.array_equal(kept.sample, sample)))
    )


def _sample(weight: Tensor) -> NDArray[np.float32] | None:
    """Every so many-th of the values, in the order in which they lie in memory, which is shared."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    there = min(weight.numel(), weight.untyped_storage().nbytes() // weight.element_size() - weight.storage_offset())
    some = weight.detach().as_strided((-(-there // _APART),), (_APART,), weight.storage_offset())
    values: NDArray[np.float32] = np.from_dlpack(some)  # type: ignore[assignment]
    return values


def are_learned(convolution: nn.Conv2d) -> bool:
    """Whether gradients of the weights or of the bias are asked for, or the weights were made to have none."""
    learned = any(one.requires_grad for one in convolution.parameters())
    return (torch.is_grad_enabled() and learned) or convolution.weight.is_inference()


def pays(x: Tensor, convolution: nn.Conv2d) -> bool:
    """Whether a convolution of these maps is better made by tiles."""
    return (
        x.device.type == "cpu"
        and len(x) > 0
        and x.dtype == convolution.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(convolution.weight.shape[:2]) >= NARROWEST
        and -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE) >= FEWEST
        and not are_learned(convolution)
    )


def convolve(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 3 x 3 convolution of stride 1 that keeps the size, N x inputs x h x w to N x outputs x h x w, channels last."""
    if not pays(x, convolution):
        weight = convolution.weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, convolution.bias, padding=1)
    result: Tensor = _Convolution.apply(x, from_weights(convolution, Kernel), convolution.bias)  # type: ignore[no-untyped-call]
    return result


def convolve_scaled(x: Tensor, convolution: nn.Conv2d, before: Tensor, after: Tensor) -> Tensor:
    """`convolve` of x times `before`, times `after`, without gradient.

    Args:
        x: N x inputs x h x w; the convolution by tiles `pays`.
        convolution: The convolution.
        before: N x inputs.
        after: N x outputs.
    """
    products = from_weights(convolution, Kernel).products
    return _by_tiles(x.permute(0, 2, 3, 1), products, convolution.bias, before, after).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """Its gradient is the convolution with the turned kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Kernel, bias: Tensor | None) -> Tensor:
        ctx.kernel = kernel
        return _by_tiles(x.permute(0, 2, 3, 1), kernel.products, bias).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Convolution.apply(gradients[0], ctx.kernel.turned, None), None, None  # type: ignore[no-untyped-call]


def _by_tiles(
    x: Tensor, products: Tensor, bias: Tensor | None, before: Tensor | None = None, after: Tensor | None = None
) -> Tensor:
    """N x h x w x inputs to N x h x w x outputs, some rows of tiles at a time."""
    count, height, width, inputs = x.shape
    outputs = products.shape[2]
    down, across = -(-height // TILE), -(-width // TILE)
    rows = -(-down // -(-count * down * across // _TILES))
    values, joined = (_square(t).to(x.dtype) for t in (_VALUES, _RESULTS))
    factor = x.new_ones(1, outputs) if after is None else after
    shift = x.new_zeros(1, outputs) if bias is None else bias * factor
    result = x.new_empty((count, TILE * down, TILE * across, outputs))
    padded = x.new_zeros((count, TILE * rows + 2, TILE * across + 2, inputs))
    windows, tiles, multiplied = (
        x.new_empty(_WINDOW**2 * count * rows * across * channels) for channels in (inputs, inputs, outputs)
    )
    totals = x.new_empty(TILE**2 * count * rows * across * outputs)
    for top in range(0, down, rows):
        now = min(rows, down - top)
        shape, number = (count, now, across), count * now * across
        _fill(padded, x, TILE * top - 1)
        window = _piece(windows, _WINDOW, _WINDOW, *shape, inputs)
        if before is None:
            window.copy_(_windows(padded, now, across))
        else:
            torch.mul(_windows(padded, now, across), before[:, None, None], out=window)
        tile = torch.mm(values, window.view(_WINDOW**2, -1), out=_piece(tiles, _WINDOW**2, number * inputs))
        product = _piece(multiplied, _WINDOW**2, number, outputs)
        torch.bmm(tile.view(_WINDOW**2, number, inputs), products, out=product)
        total = torch.mm(joined, product.view(_WINDOW**2, -1), out=_piece(totals, TILE**2, number * outputs))
        total = total.view(TILE, TILE, *shape, outputs)
        place = result[:, TILE * top : TILE * (top + now)].view(count, now, TILE, across, TILE, outputs)
        sides = (slice(None), *(None,) * 4)
        torch.addcmul(shift[sides], total.permute(2, 3, 0, 4, 1, 5), factor[sides], out=place)
    return result[:, :height, :width]


def _piece(buffer: Tensor, *shape: int) -> Tensor:
    """The beginning of a buffer in this shape."""
    size = 1
    for side in shape:
        size *= side
    return buffer[:size].view(shape)


def _fill(padded: Tensor, x: Tensor, first: int) -> None:
    """Copy rows of x from `first` on, which may be -1, into a buffer with a border of zeros; beyond x are zeros too."""
    height, width = x.shape[1:3]
    start, end = max(first, 0), min(first + padded.shape[1], height)
    padded[:, start - first : end - first, 1 : 1 + width].copy_(x[:, start:end])
    padded[:, : start - first].zero_()
    padded[:, end - first :].zero_()


def _windows(padded: Tensor, down: int, across: int) -> Tensor:
    """Views of all 6 x 6 windows: row and column in the window, image, row and column of the tile, channel."""
    image, row, column, _ = padded.stride()
    shape = (_WINDOW, _WINDOW, padded.shape[0], down, across, padded.shape[3])
    return padded.as_strided(shape, (row, column, image, TILE * row, TILE * column, 1))
