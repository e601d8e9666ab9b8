"""A cap on the memory of a worker: what one image takes tells how many fit under it, before many are tried.

A limit of the operating system will not do: where an allocation fails inside a backward pass, torch may end the process
with a segmentation fault instead of an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.contracts import Entry, SampleRng
from harness.engine.batches import Batch, split_batches
from harness.engine.memory import forget_peak, give_back_freed, out_of_memory, resident_mib
from harness.engine.scorer import Scorer
from harness.errors import UserError

LEAST = 512
"""MiB; a worker takes about 300 before it has an image."""
_SPARE = 1.2
"""Times what one image took at the first try: batches took .85 to 1.05 times as much for each of theirs."""
_COPIES = 16
"""Images of its own size that an attack keeps for each image: iterates, slopes, moments, the best."""
_UNITS = {"MiB": 1.0, "GiB": 1024.0, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20}


class OverCapError(MemoryError):
    """A worker took more than its cap allows."""


def size_in_mib(text: str, what: str) -> int:
    """MiB of a size such as '4GiB', '4 GB' or '900MiB'.

    Args:
        text: What was written.
        what: What it was written for, for messages.

    Raises:
        UserError: It is no size, it is below `LEAST`, or this system does not tell what a process takes.
    """
    size = _mib(text, what)
    if not LEAST <= size < float("inf"):
        raise UserError(
            f"{what} {text}: should be at least {LEAST}MiB. A worker takes about 300 before it has an image."
        )
    try:
        forget_peak()
    except OSError as error:
        message = f"{what}: this system does not tell what a process takes; Linux does. Leave it out."
        raise UserError(message) from error
    return int(size)


def batch_memory(text: str, what: str) -> int:
    """MiB that a batch may take that several cells are packed into; 0 of '0'.

    Args:
        text: A size such as '8GiB', or '0'.
        what: What it was written for, for messages.

    Raises:
        UserError: It is neither.
    """
    size = 0.0 if text.strip() == "0" else _mib(text, what, " or 0 to pack nothing")
    if size == float("inf") or 0 < size < 1:
        raise UserError(f"{what} {text}: should be at least 1MiB, or 0 to pack nothing.")
    return int(size)


def _mib(text: str, what: str, other: str = "") -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    unit = next((size for name, size in _UNITS.items() if found and name.lower() == found[2].lower()), None)
    if found is None or unit is None:
        raise UserError(f"{what} {text!r}: should be a size such as 4GiB, 4GB or 900MiB{other}.")
    return float(found[1]) * unit


@dataclass(frozen=True)
class MemoryCap:
    """What a worker may take.

    Attributes:
        mib: MiB that may lie in memory.
    """

    mib: int

    def begin(self) -> float:
        """Hand freed memory back and forget the peak so far; the MiB that lie in memory now."""
        give_back_freed()
        forget_peak()
        return resident_mib("VmRSS")

    def check(self) -> None:
        """Look at the most that was taken since `begin`.

        Raises:
            OverCapError: It is more than the cap.
        """
        took = resident_mib("VmHWM")
        if took > self.mib:
            raise OverCapError(f"--memory allows {self.mib:,} MiB, and the worker took {took:,.0f}")

    def images(self, batch: Batch, scorers: Sequence[Scorer], seed: int, *, gradient: bool) -> float:
        """How many images of the size of a batch's can be attacked at once, by what one of them takes.

        An error of the metric is not this function's to tell: then as many as there may be, and the work itself fails.

        Args:
            batch: Images.
            scorers: What is asked about them; with `gradient`, the first one by a backward pass.
            seed: Of the suite.
            gradient: Whether the first scorer is followed by its gradient.
        """
        one = split_batches([batch], 1)[0]
        before = self.begin()
        try:
            for i, scorer in enumerate(scorers):
                _ask(scorer, one, seed, gradient=gradient and i == 0)
        except Exception as error:
            return 0.0 if out_of_memory(error) else float("inf")
        each = _SPARE * (resident_mib("VmHWM") - before) + _COPIES * one.dist.nbytes / 2**20
        return (self.mib - before) / each


def _ask(scorer: Scorer, one: Batch, seed: int, *, gradient: bool) -> None:
    with torch.set_grad_enabled(gradient):
        rng = SampleRng.for_samples(seed, one.samples, "memory", one.dist.device)
        with torch.no_grad():
            encoded = scorer.encode(one.ref, rng)
        quality = scorer.quality(encoded, one.dist.clone().requires_grad_(gradient))
        if quality.requires_grad:
            quality.sum().backward()


def slice_under(
    cap: MemoryCap | None,
    scorer: Scorer,
    load: Callable[[Sequence[Entry]], list[Batch]],
    entries: Sequence[Entry],
    size: int,
    seed: int,
    *,
    gradient: bool,
) -> int:
    """A slice of this size, or a smaller one whose images fit under the cap, by what the first image takes.

    Args:
        cap: None where there is none.
        scorer: What images are scored by.
        load: Gives the batches of some entries.
        entries: What is to be scored.
        size: Images in a slice.
        seed: Of the suite.
        gradient: Whether the scorer is followed by its gradient.
    """
    if cap is None or not entries:
        return size
    fitting = cap.images(load(entries[:1])[0], [scorer], seed, gradient=gradient)
    return int(min(size, max(1.0, fitting)))
