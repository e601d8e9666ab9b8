"""Samples on the device: loading a slice into batches, and naming the sample at which something failed."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contracts import (
    DataError,
    Dataset,
    Entry,
    SampleRng,
    Tree,
)
from harness.engine.memory import out_of_memory
from harness.engine.scorer import Scorer
from harness.errors import PluginFaultError, UserError
from harness.plugins.returned import check_sample, told, told_under


@dataclass(frozen=True)
class Item:
    """One thing to score: a distorted image with its reference. A triplet makes two, with opposite signs."""

    id: str
    entry: Entry
    patch: str
    sign: int | None
    """Fixed by the judges for triplets; None leaves it to the cell."""


@dataclass(frozen=True)
class Batch:
    """Items of one slice whose images have one size, on the device."""

    items: tuple[Item, ...]
    ref: Tensor
    dist: Tensor

    @property
    def ids(self) -> list[str]:
        """Item ids: the seeds of all randomness."""
        return [item.id for item in self.items]

    @property
    def samples(self) -> list[str]:
        """Sample ids: the seeds of a defense's draws, shared by the patches of a triplet."""
        return [item.entry.id for item in self.items]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its images in pixels."""
        height, width = self.dist.shape[-2:]
        return int(width), int(height)

    @property
    def nbytes(self) -> int:
        """Bytes of its images."""
        return self.ref.nbytes + self.dist.nbytes

    def to(self, device: torch.device) -> Batch:
        """The same on a device; from pinned memory without waiting for it."""
        return Batch(self.items, *(images.to(device, non_blocking=True) for images in (self.ref, self.dist)))

    def pinned(self) -> Batch:
        """The same in memory that a GPU copies from by itself."""
        return Batch(self.items, self.ref.pin_memory(), self.dist.pin_memory())

    def of_sign(self, sign: int, patch: str = "") -> Batch | None:
        """The items that a cell of this sign attacks, of one patch alone where one is named; or None."""
        mine = [patch in ("", item.patch) for item in self.items]
        keep = [i for i, item in enumerate(self.items) if mine[i] and (sign == 0 or item.sign in (None, sign))]
        if len(keep) == len(self.items):
            return self
        if not keep:
            return None
        return Batch(tuple(self.items[i] for i in keep), self.ref[keep], self.dist[keep])


class SampleError(Exception):
    """Something failed at one sample.

    Args:
        sample: Its id.
        message: What failed.
        bad_input: Whether the sample itself is at fault, and not what was done with it.
    """

    def __init__(self, sample: str, message: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.sample = sample
        self.bad_input = bad_input


_NAMES = {"pairs": ("ref", "dist"), "triplets": ("ref", "p0", "p1")}


def items_of(entry: Entry, kind: str) -> list[Item]:
    """The items of one entry: itself, or the two patches of a triplet (rejected up, preferred down)."""
    if kind == "pairs":
        return [Item(entry.id, entry, "", None)]
    preferred = "p1" if (entry.judge or 0.0) > 0.5 else "p0"
    return [Item(f"{entry.id}#{patch}", entry, patch, -1 if patch == preferred else 1) for patch in ("p0", "p1")]


def load_batches(
    dataset: Dataset,
    entries: Sequence[Entry],
    device: torch.device,
    who: str = "",
    reading: contextlib.AbstractContextManager[object] | None = None,
) -> list[Batch]:
    """Load a slice: one batch per image size, in order of first appearance.

    Args:
        dataset: Where the images come from.
        entries: The slice.
        device: Where the batches go.
        who: The data set and where it comes from, for messages.
        reading: Held while an entry is read.

    Raises:
        SampleError: An image cannot be read, or the images of an item do not fit together.
    """
    name = who or type(dataset).__name__
    groups: dict[tuple[int, ...], list[tuple[Item, Tensor, Tensor]]] = defaultdict(list)
    for entry in entries:
        try:
            with reading or contextlib.nullcontext():
                loaded = dataset.load(entry)
            images = check_sample(loaded, _NAMES[dataset.kind], name)
        except DataError as error:
            raise SampleError(entry.id, str(error), bad_input=True) from error
        except PluginFaultError as error:
            raise SampleError(entry.id, str(error)) from error
        except Exception as error:
            raise SampleError(entry.id, f"{name} cannot load it: {told(error)}") from error
        for item in items_of(entry, dataset.kind):
            ref, dist = images["ref"], images[item.patch or "dist"]
            if ref.shape != dist.shape:
                sizes = " and ".join(f"{image.shape[2]} x {image.shape[1]}" for image in (ref, dist))
                message = f"{name}: reference and distorted image differ in size: {sizes}. Replace one of the files."
                raise SampleError(item.id, message, bad_input=True)
            groups[tuple(ref.shape)].append((item, ref, dist))
    return [
        Batch(
            tuple(item for item, _, _ in group),
            torch.stack([ref for _, ref, _ in group]).to(device),
            torch.stack([dist for _, _, dist in group]).to(device),
        )
        for group in groups.values()
    ]


def refuse_nan(batch: Batch, values: Tensor, message: str) -> None:
    """Name the first sample whose value is not finite.

    Args:
        batch: The samples.
        values: One number for each, shape [N].
        message: What was found wrong.

    Raises:
        SampleError: One is not.
    """
    wrong = (~torch.isfinite(values)).nonzero().flatten().tolist()
    if wrong:
        more = f" ({len(wrong)} of {len(batch.items)} in its batch)" if len(wrong) > 1 else ""
        raise SampleError(batch.items[wrong[0]].id, f"{message}{more}")


def not_finite(label: str, scorer: Scorer, what: str) -> str:
    """What is said of scores that are not finite."""
    return f"{label} scored {what} as NaN or infinite; {scorer.name} must return finite scores"


def blame(scorer: Scorer, batch: Batch, error: Exception, who: str, seed: int) -> SampleError:
    """An error of a whole batch as one of the first sample whose clean pair fails alone; of all if none does."""
    with torch.no_grad():
        for i, item in enumerate(batch.items):
            try:
                rng = SampleRng.for_samples(seed, [item.entry.id], "blame", batch.dist.device)
                scorer.quality(scorer.encode(batch.ref[i : i + 1], rng), batch.dist[i : i + 1])
            except Exception as alone:
                return SampleError(item.id, told_under(who, alone))
    return SampleError(", ".join(batch.ids), told_under(who, error))


@contextlib.contextmanager
def blaming(culprit: Callable[[Exception], SampleError]) -> Iterator[None]:
    """Work on a batch whose failure is to name a sample; a user's mistake and a lack of memory pass as they are.

    Args:
        culprit: An error of the batch -> the error of the sample that is at fault.

    Raises:
        SampleError: Anything else went wrong.
    """
    try:
        yield
    except (SampleError, UserError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise culprit(error) from error


def most_images(batches: Sequence[Batch]) -> int:
    """Images of the largest batch."""
    return max((len(batch.items) for batch in batches), default=0)


def split_batches(batches: Sequence[Batch], most: int) -> list[Batch]:
    """The same batches, none of more than so many images, in the same order."""
    return [
        Batch(batch.items[i : i + most], batch.ref[i : i + most], batch.dist[i : i + most])
        for batch in batches
        for i in range(0, len(batch.items), most)
    ]


def joined_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of one image size as one."""
    if len(batches) == 1:
        return batches[0]
    items = tuple(item for batch in batches for item in batch.items)
    return Batch(items, torch.cat([batch.ref for batch in batches]), torch.cat([batch.dist for batch in batches]))


def joined_trees(trees: Sequence[Tree]) -> Tree:
    """Trees of one form as one, of all their rows.

    Raises:
        ValueError: They differ in what is no tensor.
    """
    first = trees[0]
    if isinstance(first, Tensor) and first.ndim:
        return torch.cat(list(trees))
    if isinstance(first, Mapping):
        return {key: joined_trees([tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple | list):
        columns = [joined_trees(column) for column in zip(*trees, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
    if isinstance(first, Tensor) and all(isinstance(tree, Tensor) and torch.equal(tree, first) for tree in trees):
        return first
    if isinstance(first, Tensor) or any(tree is not first and tree != first for tree in trees[1:]):
        raise ValueError("trees of batches differ in what is no tensor")
    return first


def too_large(batch: Batch, over_cap: str = "") -> str:
    """What is said of one image that is too much: for the machine, or for a cap as its error has it."""
    height, width = batch.dist.shape[-2:]
    if over_cap:
        return f"{over_cap} on one image of {width} x {height}. Allow more, or take smaller images"
    return (
        f"out of memory on one image of {width} x {height}. Take smaller images, fewer workers, `precision: bf16` on a "
        "GPU, or a machine with more memory"
    )
