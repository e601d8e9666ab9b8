"""Pages of machines: one that was measured, or one of an accelerator of which only the published peaks are known."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import cache_dir, write_whole
from harness.suite.identity import identity
from harness.wording import did_you_mean

SHARE_OF_PEAK = 0.5
"""Of the published peaks, what is taken for what a matrix product, a convolution and a copy reach there."""
_COUNT = re.compile(r"(?P<name>.+?)\s*[x*×]\s*(?P<count>-?\d+)")
_MOST_WORKERS = 100_000
_EXAMPLE = "'h200 x 8', 'cpu x 16', or a page that robustiqa doctor --measure wrote, as in 'box.json x 4'"


@dataclass(frozen=True)
class Machine:
    """What one worker has: a core of a processor, or a GPU.

    Attributes:
        id: What costs and estimates name it by.
        title: For people.
        device: Type of device, "cpu" or "cuda".
        matmul: float32 matrix product, in GFLOP/s.
        convolution: float32 convolution of 3 x 3 as torch does it unasked, in GFLOP/s.
        bandwidth: Of memory in a copy, read and written, in GB/s.
        memory: GiB of the GPU, or of all the machine that the cores share; None where it is not known.
        workers: Cores or GPUs of the machine.
        published: Whether the speeds are a share of published peaks, measured by nobody here.
        source: Where published figures are from.
    """

    id: str
    title: str
    device: str
    matmul: float
    convolution: float
    bandwidth: float
    memory: float | None
    workers: int
    published: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        speeds = (self.matmul, self.convolution, self.bandwidth)
        if not all(math.isfinite(one) and one > 0 for one in speeds) or self.workers < 1:
            raise ValueError("speeds and workers of a machine are above 0")

    def faster_than(self, other: Machine) -> tuple[float, float, float]:
        """How many times as fast it is: at least, as it is estimated, and at most.

        Estimated by matrix products and convolutions alike (their geometric mean); a metric that is held up by one of
        the three alone is between the least and the greatest.
        """
        matmul, convolution = self.matmul / other.matmul, self.convolution / other.convolution
        every = (matmul, convolution, self.bandwidth / other.bandwidth)
        return min(every), math.sqrt(matmul * convolution), max(every)

    @property
    def memory_of_worker(self) -> float | None:
        """GiB of each worker where all are at work."""
        if self.memory is None or self.device != "cpu":
            return self.memory
        return self.memory / self.workers


def machine_named(text: str, here: Machine) -> Machine:
    """A machine as people name it, with so many workers.

    Args:
        text: A name, ``cpu`` for the processor of this machine, or the path of a page; then ``x N``, if more than one
            or other than the page says.
        here: The processor of this machine.

    Raises:
        UserError: There is no such machine, or the number of workers is none.
    """
    name, count = text.strip(), None
    if not _is_known(name) and (found := _COUNT.fullmatch(name)):
        name, count = found["name"], int(found["count"])
    if count is not None and not 1 <= count <= _MOST_WORKERS:
        raise UserError(f"--machine {text}: {count} workers; should be from 1 to {_MOST_WORKERS:,}, as in {_EXAMPLE}.")
    machine = here if name == "cpu" else _of_file(name) if _is_file(name) else _published(text, name)
    if count is None or count == machine.workers:
        return machine
    known = machine.device != "cpu" or count < machine.workers  # of more cores than it has the memory is not known
    return replace(machine, workers=count, memory=machine.memory if known else None)


def machine_pages() -> Mapping[str, Mapping[str, Any]]:
    """Name -> what is published of each machine that comes with robustiqa."""
    return _pages()


def read_machine(path: Path) -> Machine:
    """A page that `write_machine` wrote.

    Raises:
        UserError: It is none.
    """
    try:
        return Machine(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Write one with 'robustiqa doctor --measure {path}'.") from None
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds something else"
        raise UserError(
            f"{path}: not the page of a machine ({reason}). Measure one there with robustiqa doctor --measure {path}."
        ) from None


def write_machine(path: Path, machine: Machine) -> None:
    """Write the page of a machine.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(asdict(machine), indent=1)}\n".encode())


def cached_page(key: Mapping[str, Any]) -> Path:
    """Where the cache keeps what was measured of a machine.

    Args:
        key: What makes it another one.
    """
    return cache_dir() / "machines" / f"{identity('machine', key)}.json"


def _is_known(name: str) -> bool:
    return name == "cpu" or name.lower() in _pages() or _is_file(name)


def _is_file(name: str) -> bool:
    return name.endswith(".json")


def _of_file(name: str) -> Machine:
    return read_machine(Path(name))


def _published(text: str, name: str) -> Machine:
    page = _pages().get(name.lower())
    if page is None:
        known = ["cpu", *_pages()]
        raise UserError(
            f"--machine {text}: no machine '{name}' is known.{did_you_mean(name.lower(), known)} Say {_EXAMPLE}."
        )
    return Machine(
        id=f"published-{name.lower()}",
        title=page["title"],
        device="cuda",
        matmul=SHARE_OF_PEAK * page["fp32_tflops"] * 1000,
        convolution=SHARE_OF_PEAK * (page["tf32_tflops"] or page["fp32_tflops"]) * 1000,
        bandwidth=SHARE_OF_PEAK * page["bandwidth_gb_s"],
        memory=page["memory_gb"],
        workers=1,
        published=True,
        source=page["source"],
    )


@functools.cache
def _pages() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text("utf-8"))
    return found
