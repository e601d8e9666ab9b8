"""What is done when memory does not suffice: smaller batches, and a word about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from harness.batches import Batch

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""Parts of messages of RuntimeErrors that torch raises where an allocation failed on the CPU or in a library."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that an allocation failed."""
    return any(
        isinstance(cause, MemoryError | torch.OutOfMemoryError)
        or (isinstance(cause, RuntimeError) and any(sign in str(cause).lower() for sign in _SIGNS))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


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


def release() -> None:
    """Hand what torch keeps for later back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def went_on(who: str, most: int) -> str:
    """What a report says of batches that had to be smaller."""
    return (
        f"Out of memory: {who} went on in batches of at most {most}; the column 'batch' of the records has the size of "
        "each. Batches of another size change the last digits of a score, and an attack's result by as little."
    )


def too_large(batch: Batch) -> str:
    """What is said of one image that is too much."""
    height, width = batch.dist.shape[-2:]
    return (
        f"out of memory on one image of {width} x {height}. Take smaller images, fewer workers, `precision: bf16` on a "
        "GPU, or a machine with more memory"
    )
