"""Pages of machines: one that was measured, or one of an accelerator of which only the published peaks are known."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import cache_dir, write_whole
from harness.suite.identity import identity
from harness.wording import did_you_mean, quoted

SHARE_OF_PEAK = 0.5
"""Of the published peaks, what is taken for what a matrix product, a convolution and a copy reach there."""
MACHINES_PAGE = "machines"
"""The page of provenance that has the machines which costs were measured on."""
_BY_COUNT = re.compile(r"\s*[*×]\s*|\s+x\s*|x\s*", re.IGNORECASE)
"""What stands between a name and a number of workers."""
_WHOLE = re.compile(r"-?\d{1,9}")
_MOST_WORKERS = 100_000
_HIGHEST = 1e12
"""Of speeds and memory, above which a number is a mistake."""
_GIB = 2**30 / 1e9
"""GB of one."""
_EXAMPLE = "'h200 x 8', 'cpu x 16', or a page that robustiqa doctor --measure wrote, as in 'box.json x 4'"


@dataclass(frozen=True)
class Machine:
    """What one worker has: a core of a processor, or a GPU.

    Attributes:
        id: What costs and estimates name it by.
        title: For people; of a GPU its name as torch has it.
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

    def is_like(self, other: Machine) -> bool:
        """Whether what was measured on the other holds here as it is: the same machine, or a GPU of the same name."""
        return self.id == other.id or (self.device == other.device != "cpu" and self.title == other.title)

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
    name, number = _parted(text.strip())
    count = int(number) if number is not None and _WHOLE.fullmatch(number) else None
    if number is not None and (count is None or not 1 <= count <= _MOST_WORKERS):
        whole = f"a whole number from 1 to {_MOST_WORKERS:,}"
        raise UserError(f"--machine {text}: '{number}' workers; should be {whole}, as in {_EXAMPLE}.")
    machine = here if name.lower() == "cpu" else _of_file(name) if _is_file(name) else _published(text, name)
    if count is None or count == machine.workers:
        return machine
    known = machine.device != "cpu" or count < machine.workers  # of more cores than it has the memory is not known
    return replace(machine, workers=count, memory=machine.memory if known else None)


def _parted(text: str) -> tuple[str, str | None]:
    """Name, and the number of workers if one is given; an 'x' within a name that is not known is a part of it."""
    if _is_known(text):
        return text, None
    parts = [(text[: found.start()], found[0], text[found.end() :]) for found in _BY_COUNT.finditer(text)]
    for name, _, number in reversed(parts):
        if _is_known(name):
            return name, number
    apart = [(name, number) for name, between, number in parts if name and between[0] not in "xX"]
    return apart[-1] if apart else (text, None)


def read_machine(path: Path) -> Machine:
    """A page that `write_machine` wrote.

    Raises:
        UserError: It is none.
    """
    other = "machine.json" if path.name == "box.json" else "box.json"
    cure = f"Measure one into another file: robustiqa doctor --measure {other}."
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Write one with 'robustiqa doctor --measure {path}'.") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"{path}: holds no machine ({reason}). {cure}") from None
    if wrong := wrong_in(page):
        raise UserError(f"{path}: holds no machine ({wrong}). {cure}")
    return Machine(**page)


def wrong_in(page: Any) -> str:
    """What is wrong with the page of a machine, by its key; empty where nothing is."""
    if not isinstance(page, dict):
        return "it is another kind of page"
    known = {one.name: one.default is MISSING for one in fields(Machine)}
    for name in page:
        if name not in known:
            return f"there is no key '{name}'"
    for name, needed in known.items():
        if name not in page:
            if needed:
                return f"the key '{name}' is missing"
            continue
        fits, wanted = _WANTED[name]
        if not fits(page[name]):
            return f"{name}: should be {wanted}, got {quoted(page[name])}"
    return ""


def _is_amount(value: Any) -> bool:
    """Whether it is a number above 0, and not so large that it means nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _HIGHEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_WORKERS


_AMOUNT = "a number above 0"
_SPEED: tuple[Callable[[Any], bool], str] = (_is_amount, _AMOUNT)
_TEXT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str), "a text")
_WANTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **{"id": _TEXT, "title": _TEXT, "source": _TEXT},
    "device": (lambda value: value in ("cpu", "cuda"), "cpu or cuda"),
    **{"matmul": _SPEED, "convolution": _SPEED, "bandwidth": _SPEED},
    "memory": (lambda value: value is None or _is_amount(value), f"{_AMOUNT}, or null"),
    "workers": (_is_count, f"a whole number from 1 to {_MOST_WORKERS:,}"),
    "published": (lambda value: isinstance(value, bool), "true or false"),
}
"""Key of a page -> whether a value will do, and what it should be."""


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
    return name.lower() == "cpu" or name.lower() in _pages() or _is_file(name)


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
        memory=round(page["memory_gb"] / _GIB, 1),
        workers=1,
        published=True,
        source=page["source"],
    )


@functools.cache
def _pages() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text("utf-8"))
    return found
