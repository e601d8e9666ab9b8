"""From entries to batches: decoded images, the same crop and flips for all images of an item, labels."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Dataset, Entry, TrainingBatch
from harness.training.recipe_file import RecipeFile, TrainingError

PARTS: Mapping[str, tuple[str, ...]] = {"pairs": ("ref", "dist"), "triplets": ("ref", "p0", "p1")}
"""Kind of data set -> the images of an item, in order."""
_WHITE = {torch.uint8: 255, torch.uint16: 65535}
_MOST_ITEMS = 32
_MOST_PIXELS = 2**21
"""Of one image of each item scored at once: 32 of 256 px, 10 of 512 x 384."""


class ImageCache:
    """Decoded images of items, as deep as their files, up to a fixed number; results do not depend on that number.

    Args:
        data: Where images are loaded from.
        capacity: Most images kept.
    """

    def __init__(self, data: Dataset, capacity: int) -> None:
        self._data = data
        self._parts = PARTS[data.kind]
        self._capacity = capacity // len(self._parts)
        self._items: OrderedDict[str, Tensor] = OrderedDict()

    def of(self, data: Dataset) -> ImageCache:
        """The same images for another split of the same data set, of which an id means the same item."""
        shared = copy.copy(self)
        shared._data = data
        return shared

    def item(self, entry: Entry) -> Tensor:
        """The images of an entry, P x 3 x H x W in [0, 1], P = 2 for pairs and 3 for triplets.

        Those of 16-bit files are as they are, all others are rounded to 8 bits.
        """
        item = self._items.pop(entry.id, None)
        if item is None:
            images = self._data.load(entry)
            item = _stored(torch.stack([images[part] for part in self._parts]))
        if self._capacity:
            while len(self._items) >= self._capacity:
                self._items.popitem(last=False)
            self._items[entry.id] = item
        return _floats(item)


def _stored(images: Tensor) -> Tensor:
    """Floats in [0, 1] as a file would hold them: at 16 bits where that is exact and 8 bits are not, else at 8."""
    rounded, deep = ((images * white).round().to(depth) for depth, white in _WHITE.items())
    exact = [torch.equal(_floats(stored), images) for stored in (rounded, deep)]
    return deep if exact == [False, True] else rounded


def _floats(stored: Tensor) -> Tensor:
    """Whole numbers of a file as floats in [0, 1]."""
    return stored.to(torch.float32) / _WHITE[stored.dtype]


def training_batch(
    chosen: Sequence[Entry],
    attacked: Sequence[bool],
    images: ImageCache,
    file: RecipeFile,
    step: int,
    kind: str,
    limits: Tensor | None = None,
) -> TrainingBatch:
    """What a recipe's loss gets before any attack: images augmented by draws from (seed, step), labels, the step.

    Args:
        chosen: The entries.
        attacked: Which of them are to be attacked.
        images: Where decoded images are kept.
        file: The recipe file.
        step: Number of the step.
        kind: Of the data set.
        limits: Lowest and highest label of the train split, [2]; those of the label scale unless given.

    Raises:
        TrainingError: The images differ in size, or are smaller than the crop.
    """
    rng = np.random.default_rng([file.seed, 1, step])
    items = [augmented(images.item(entry), file, rng) for entry in chosen]
    if len({item.shape for item in items}) > 1:
        raise TrainingError("the images of a batch differ in size. Give the recipe file a `crop` that fits them all.")
    parts = dict(zip(PARTS[kind], torch.stack(items).unbind(dim=1), strict=True))
    progress = {"step": torch.tensor(step), "steps": torch.tensor(file.steps)}
    flags = torch.tensor(list(attacked))
    if kind == "triplets":
        judge = torch.tensor([entry.judge for entry in chosen], dtype=torch.float32)
        clean = {"clean_p0": parts["p0"], "clean_p1": parts["p1"]}
        return TrainingBatch({**parts, **clean, "judge": judge, "attacked": flags, **progress})
    limits = torch.tensor(file.label_scale) if limits is None else limits
    labels = {"attacked": flags, "target": opinions(chosen, file), "limits": limits}
    start = torch.full((len(chosen),), torch.nan)
    return TrainingBatch({**parts, "clean": parts["dist"], **labels, "start": start, **progress})


def limits_of(entries: Sequence[Entry], file: RecipeFile) -> Tensor:
    """Lowest and highest label of a split in the recipe file's label scale, [2]."""
    labels = opinions(entries, file)
    return torch.stack([labels.min(), labels.max()])


def opinions(entries: Sequence[Entry], file: RecipeFile) -> Tensor:
    """Opinion scores in the recipe file's label scale, [N]."""
    low, high = file.label_scale
    scores = torch.tensor([entry.opinion for entry in entries], dtype=torch.float32)
    return low + scores * (high - low)


def augmented(item: Tensor, file: RecipeFile, rng: np.random.Generator) -> Tensor:
    """The same crop and flips for every image of an item, P x 3 x H x W. Always as many draws, whatever is on.

    Raises:
        TrainingError: The crop is larger than the images.
    """
    top, left = rng.random(2)
    flips = rng.random(2) < 0.5
    if file.crop is not None:
        height, width = item.shape[2:]
        if min(height, width) < file.crop:
            raise TrainingError(f"crop {file.crop} is larger than an image of {height} x {width}. Give a smaller one.")
        row, column = int(top * (height - file.crop + 1)), int(left * (width - file.crop + 1))
        item = item[:, :, row : row + file.crop, column : column + file.crop]
    if file.flip:
        item = item.flip([axis for axis, wanted in zip((2, 3), flips, strict=True) if wanted])
    return item


def whole_batches(entries: Sequence[Entry], images: ImageCache) -> Iterator[Tensor]:
    """Unaugmented items in order, in runs of equal size that fit in memory: N x P x 3 x H x W."""
    for start in range(0, len(entries), _MOST_ITEMS):
        items = [images.item(entry) for entry in entries[start : start + _MOST_ITEMS]]
        for _, group in itertools.groupby(items, key=lambda item: item.shape):
            run = list(group)
            most = max(1, _MOST_PIXELS // (run[0].shape[2] * run[0].shape[3]))
            for first in range(0, len(run), most):
                yield torch.stack(run[first : first + most])
