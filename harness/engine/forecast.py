"""What a plan will take on a machine: hours, memory and disk, from what was measured here or elsewhere."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.engine.costs import Amount, Cost, ImageWork, Key, merged_by_machine, pages_beside
from harness.engine.machines.pages import MACHINES_PAGE, Machine
from harness.engine.machines.reference import machine_here
from harness.engine.run_folder import RunFolder

ESTIMATES_PAGE = "estimates"
"""The page of provenance that has what was expected and what was spent."""
LEAST_ON_GPU = 0.01
"""Seconds that are taken for one evaluation of a batch on a GPU, with its gradient, however small its images are."""
_LEAST_SPENT = 1.0
"""Seconds that a run takes for its estimate to be held against it."""


@dataclass(frozen=True)
class Price:
    """Seconds of one worker for one image of a kind.

    Attributes:
        seconds: As estimated.
        least: If all of it got faster by what gets fastest from the machine it was measured on to the one asked for.
        most: Likewise by what gets fastest least.
        measured: Whether it was measured on such a machine and such images, and is not scaled.
    """

    seconds: float
    least: float
    most: float
    measured: bool
    elsewhere: bool = False
    """Whether it was measured on another machine."""
    from_cpu: bool = False
    """Whether it was measured on a CPU and is asked for of a GPU."""
    assumed: bool = False
    """Whether it is the time that is taken for an evaluation of a batch, and so a guess."""

    def at_least(self, evaluations: float) -> Price:
        """The price with so many evaluations of a batch, of which on a GPU each takes its time however small."""
        floor = LEAST_ON_GPU * evaluations if self.from_cpu else 0.0
        seconds, least, most = (max(one, floor) for one in (self.seconds, self.least, self.most))
        return replace(self, seconds=seconds, least=least, most=most, assumed=self.from_cpu and floor >= self.seconds)


@dataclass(frozen=True)
class Recorded:
    """What runs measured.

    Attributes:
        costs: One for each key and machine.
        machines: Id -> machine.
        estimates: What runs were expected to take and what they took (`estimate_page`).
    """

    costs: Sequence[Cost]
    machines: Mapping[str, Machine]
    estimates: Sequence[Mapping[str, Any]] = ()


def read_recorded(folder: Path) -> Recorded:
    """What runs in this folder and in those beside it measured."""
    costs = merged_by_machine(Cost(**page) for page in pages_beside(folder, "costs"))
    machines = {page["id"]: Machine(**page) for page in pages_beside(folder, MACHINES_PAGE)}
    return Recorded(costs, machines, pages_beside(folder, ESTIMATES_PAGE))


@dataclass
class Prices:
    """Prices on one machine, of whatever was measured on any.

    Of what was measured of a kind that is taken which has to be scaled least: on this machine, on one like it (a GPU of
    the same name), on this type of device, on any; of these on images of this split. Images of another size count by
    their pixels.

    Args:
        recorded: What was measured. A cost whose machine is not known counts as one of `here` if its device is.
        machine: The machine that is asked about.
        here: The machine at hand.
        pixels: Key of a split -> pixels of its images, as far as known.
    """

    recorded: Recorded
    machine: Machine
    here: Machine
    pixels: Mapping[str, float]
    _by_kind: dict[tuple[Any, ...], list[Cost]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_kind = {}
        for cost in self.recorded.costs:
            self._by_kind.setdefault(_kind(cost.key), []).append(cost)

    def price(self, key: Key) -> Price | None:
        """What an image of a kind costs; None where nothing of the kind was measured."""
        of_kind = self._by_kind.get(_kind(key), [])
        found = [(cost, self._machine_of(cost, key), self._times_as_large(cost, key)) for cost in of_kind]
        usable = [(cost, machine, size) for cost, machine, size in found if machine is not None and size is not None]
        if not usable:
            return None

        def strangeness(one: tuple[Cost, Machine, float]) -> tuple[bool, bool, bool, bool, int]:
            cost, machine, _ = one
            own, alike = machine.id == self.machine.id, machine.is_like(self.machine)
            return not own, not alike, machine.device != self.machine.device, cost.split != key.split, -cost.items

        cost, machine, size = min(usable, key=strangeness)
        seconds = size * cost.spent / cost.items
        if machine.is_like(self.machine):
            return Price(seconds, seconds, seconds, cost.split == key.split)
        least, usual, most = self.machine.faster_than(machine)
        from_cpu = machine.device == "cpu" and self.machine.device != "cpu"
        return Price(seconds / usual, seconds / most, seconds / least, False, True, from_cpu)

    def _machine_of(self, cost: Cost, key: Key) -> Machine | None:
        """The machine of a cost; None where it is not known, and was another one, or has devices of another type."""
        machine = self.recorded.machines.get(cost.machine)
        if machine is None:
            return self.here if cost.device in (self.here.device, key.device) else None
        return machine if cost.device in (machine.device, key.device) else None

    def _times_as_large(self, cost: Cost, key: Key) -> float | None:
        """How many times as large images of the key are as those of a cost; None where that is not known."""
        if cost.split == key.split:
            return 1.0
        wanted = self.pixels.get(key.split)
        return wanted * cost.items / cost.pixels if wanted and cost.pixels else None


def _kind(key: Key) -> tuple[Any, ...]:
    return key.kind, key.scorer, key.attack, key.draws


@dataclass(frozen=True)
class Forecast:
    """What is left of a plan on a machine.

    Attributes:
        seconds: Of one worker, as far as is known.
        least: At the least, as `Price` has it.
        most: At the most.
        images: Images to be attacked or scored.
        scaled: Those whose cost is scaled, from another machine or from images of another size.
        elsewhere: Those of them whose cost is from another machine.
        unknown: Those of kinds that were never measured.
        unknown_keys: The kinds, as keys of the device of the machine at hand.
        prices: Of the others.
        assumed: Of the seconds, those that are `LEAST_ON_GPU` for each evaluation of a batch.
    """

    seconds: float
    least: float
    most: float
    images: int
    scaled: int
    elsewhere: int
    unknown: int
    unknown_keys: frozenset[Key]
    prices: Mapping[Key, Price]
    assumed: float


@dataclass(frozen=True)
class Timespan:
    """Seconds until the last of several workers has ended, each of which takes the longest block that is left.

    Attributes:
        seconds: As estimated.
        least: At the least, as `Price` has it.
        most: At the most.
        longest: Of them, those of the longest block, which no number of workers shortens.
        blocks: How many there are.
    """

    seconds: float
    least: float
    most: float
    longest: float
    blocks: int


def timespan_of(works: Sequence[tuple[int, ImageWork]], prices: Mapping[Key, Price], workers: int) -> Timespan:
    """How long workers take for blocks; a block is not split among them.

    Args:
        works: Of each block its images and what is done with each (`harness.engine.costs.works_of`).
        prices: Of what is done; what has none counts for nothing.
        workers: At work side by side.
    """
    once = {id(work): work for _, work in works}
    each = {
        name: [(prices[key], times) for (key, _), times in work.items() if key in prices] for name, work in once.items()
    }

    def lengths(seconds: Callable[[Price], float]) -> list[float]:
        image = {name: sum(times * seconds(price) for price, times in parts) for name, parts in each.items()}
        return [images * image[id(work)] for images, work in works]

    usual = lengths(lambda price: price.seconds)
    return Timespan(
        seconds=_until_the_last(usual, workers),
        least=_until_the_last(lengths(lambda price: price.least), workers),
        most=_until_the_last(lengths(lambda price: price.most), workers),
        longest=max(usual, default=0.0),
        blocks=len(works),
    )


def _until_the_last(lengths: Sequence[float], workers: int) -> float:
    """When the last worker ends, where each takes the longest that is left as soon as it has nothing to do."""
    busy = [0.0] * min(workers, len(lengths))
    for length in sorted(lengths, reverse=True):
        heapq.heapreplace(busy, busy[0] + length)
    return max(busy, default=0.0)


def forecast(work: Mapping[Key, Amount], prices: Prices, batch: int = 1) -> Forecast:
    """What work will take.

    Args:
        work: What there is to do (`harness.engine.costs.loads`).
        prices: What an image costs.
        batch: Images of a batch. On a GPU of which nothing was measured each evaluation of one takes `LEAST_ON_GPU`.
    """
    counts = {key: amount.images for key, amount in work.items()}
    priced = {key: prices.price(key) for key in counts}
    known = {key: price.at_least(work[key].evaluations / batch) for key, price in priced.items() if price is not None}
    unknown = frozenset(key for key, price in priced.items() if price is None)
    return Forecast(
        seconds=sum(counts[key] * price.seconds for key, price in known.items()),
        least=sum(counts[key] * price.least for key, price in known.items()),
        most=sum(counts[key] * price.most for key, price in known.items()),
        images=sum(counts.values()),
        scaled=sum(counts[key] for key, price in known.items() if not price.measured),
        elsewhere=sum(counts[key] for key, price in known.items() if price.elsewhere),
        unknown=sum(counts[key] for key in unknown),
        unknown_keys=unknown,
        prices=known,
        assumed=sum(counts[key] * price.seconds for key, price in known.items() if price.assumed),
    )


def estimate_page(costs: Iterable[Cost], prices: Prices) -> dict[str, Any] | None:
    """What a run was expected to take, as far as anything was measured before it, and what that took.

    Args:
        costs: What it measured.
        prices: From before it began.
    """
    predicted = spent = 0.0
    images: Counter[bool] = Counter()
    for cost in costs:
        price = prices.price(cost.key)
        images[price is not None] += cost.items
        if price is not None:
            predicted += cost.items * price.seconds
            spent += cost.spent
    if not images[True] or spent < _LEAST_SPENT:
        return None
    about = {"machine": prices.machine.id, "images": images[True], "of": images.total()}
    return {**about, "predicted": round(predicted, 3), "spent": round(spent, 3)}


@dataclass(frozen=True)
class Error:
    """How far estimates were from what was spent: predicted / spent - 1.

    Attributes:
        runs: How many were held against what they took.
        least: The lowest.
        most: The highest.
    """

    runs: int
    least: float
    most: float


def error_on(recorded: Recorded, machine: Machine) -> Error | None:
    """The error of estimates on runs of a machine, or one like it; None where none was held against what it took."""
    alike = {machine.id, *(name for name, other in recorded.machines.items() if other.is_like(machine))}
    pages = [page for page in recorded.estimates if page["machine"] in alike]
    errors = [page["predicted"] / page["spent"] - 1 for page in pages]
    return Error(len(errors), min(errors), max(errors)) if errors else None


def with_machines(costs: Sequence[Cost], before: Recorded, store: RunFolder, device: str | None) -> Sequence[Cost]:
    """What a run measured, each with its machine; how that compares with what was expected is noted.

    Args:
        costs: What it measured.
        before: What had been measured when it began.
        store: The run folder, which has the machines of nodes.
        device: Of the machine at hand, which all of it was measured on; None where nodes of a cluster say their own.
    """
    if costs and device is not None:
        try:
            here = machine_here(device)
        except RuntimeError:  # no memory left for it; the costs are as good without
            return costs
        store.add_provenance(MACHINES_PAGE, [asdict(here)])
        costs = [replace(cost, machine=here.id) for cost in costs]
    costs = merged_by_machine(costs)
    machines = {page["id"]: Machine(**page) for page in store.read_provenance(MACHINES_PAGE)}
    pixels = {cost.split: cost.pixels / cost.items for cost in costs if cost.pixels}
    for name in sorted({cost.machine for cost in costs} & set(machines)):
        own = [cost for cost in costs if cost.machine == name]
        page = estimate_page(own, Prices(before, machines[name], machines[name], pixels))
        store.add_provenance(ESTIMATES_PAGE, [page] if page else [])
    return costs
