"""What the rest of a plan will take on a machine, in words and as `--json` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.wording import bytes_text, counted, tell

if TYPE_CHECKING:
    from harness.engine.costs import Amount, Key
    from harness.engine.footprint import DiskNeed, MemoryNeed
    from harness.engine.forecast import Error, Forecast, Price, Timespan
    from harness.engine.machines.pages import Machine
    from harness.engine.run_folder import RunFolder
    from harness.plugins.registry import Registry
    from harness.suite.plan import Block, Plan

_NEEDS_SHOWN = 5
_ALMOST_ALL, _HARDLY = 0.95, 0.01


@dataclass(frozen=True)
class Machines:
    """The machine that is asked about, the one at hand, and whether the former was named."""

    asked: Machine
    here: Machine
    named: bool

    @property
    def at_once(self) -> int:
        """Workers that get on at full speed: of more than there are cores here as many as there are."""
        asked, here = self.asked, self.here
        return asked.workers if self.named or here.device != "cpu" else min(asked.workers, here.workers)

    @property
    def words(self) -> str:
        """'2 workers here', '64 workers on cores of Intel Xeon', '8 x NVIDIA H200'."""
        asked, here = self.asked, self.here
        if asked.device != "cpu":
            return f"{asked.workers} x {asked.title}"
        if asked.id != here.id or (self.named and asked.workers > here.workers):
            return f"{counted(asked.workers, 'worker')} on cores of {asked.title}"
        cores = f" on {counted(here.workers, 'core')}" if asked.workers > here.workers else ""
        return f"{counted(asked.workers, 'worker')}{cores} here"


def machines_asked(text: str | None, device: str, workers: int | None) -> Machines:
    """The machine that is asked about, and the one at hand.

    Args:
        text: What `--machine` says; None for the machine at hand.
        device: Where a run here would be: "cpu", "cuda", ...
        workers: What `--workers` says of the machine at hand.

    Raises:
        UserError: There is no such machine.
    """
    from harness.engine.executors.choice import worker_count
    from harness.engine.machines.pages import machine_named
    from harness.engine.machines.reference import machine_here
    from harness.engine.stages import Options

    here = machine_here(device)
    if text is None:
        return Machines(replace(here, workers=worker_count(device, Options(workers=workers))), here, False)
    return Machines(machine_named(text, here if here.device == "cpu" else machine_here("cpu")), here, True)


@dataclass(frozen=True)
class Outlook:
    """What is left of a plan, on a machine."""

    time: Forecast
    span: Timespan
    machines: Machines
    error: Error | None
    memory: Sequence[MemoryNeed]
    disk: DiskNeed
    timed: bool
    kinds: Sequence[Mapping[str, Any]]
    """What there is to do of each kind, as `--json` has it."""
    fits: int = 0
    """That are still to be made."""

    def page(self) -> dict[str, Any]:
        """As `--json` has it."""
        time, span = self.time, self.span
        return {
            "worker_seconds": time.seconds,
            "workers": self.machines.asked.workers,
            "seconds": span.seconds,
            "seconds_least": span.least,
            "seconds_most": span.most,
            "blocks": span.blocks,
            "longest_block": span.longest,
            "seconds_assumed": time.assumed,
            "images": time.images,
            "not_timed": time.unknown,
            "scaled": time.scaled,
            "machine": asdict(self.machines.asked),
            "error": None if self.error is None else asdict(self.error),
            "kinds": list(self.kinds),
            "memory": [asdict(need) for need in self.memory],
            "disk": {**asdict(self.disk), "total": self.disk.total},
        }

    def lines(self) -> Iterator[str]:
        """In words."""
        yield self._time_text()
        if self.time.unknown < self.time.images:
            yield self._error_text()
        yield from self._memory_texts()
        yield self._disk_text()

    def _time_text(self) -> str:
        from harness.engine.progress import duration

        time, span = self.time, self.span
        if time.unknown == time.images and not self.timed:
            return "How long it takes is not known: no run here or beside it measured any of it. --time finds out."
        least, about, most = map(duration, (span.least, span.seconds, span.most))
        about = f"about {about}" if span.seconds >= 1 else "less than a second"
        text = f"Attacking and scoring: {about} on {self.machines.words}"
        text += f", {least} to {most} by what holds it up" if least != most else ""
        if self.machines.at_once > span.blocks:
            gain = "worker gains" if span.blocks == 1 else "workers gain"
            text += f" (only {counted(span.blocks, 'block')}: more than {span.blocks} {gain} nothing)"
        text += ". An estimate by what was measured, without facts, fits and probes."
        if time.unknown:
            why = "cannot be timed beforehand (an attack that learns first, or one that failed)"
            why = why if self.timed else "were never timed"
            text += f" Not counted: {time.unknown:,} of {time.images:,} attacks and scorings of an image, which {why}."
            text += "" if self.timed else " --time adds them."
        return text

    def _error_text(self) -> str:
        from harness.engine.machines.pages import SHARE_OF_PEAK

        texts, machine = [], self.machines.asked
        if self.error is None:
            texts.append("No estimate there has been compared with a run yet, so its error is not known.")
        else:
            low, high = _off(self.error.least), _off(self.error.most)
            off = low if low == high else f"{low} to {high}"
            texts.append(f"In {counted(self.error.runs, 'run')} there the estimate was {off}.")
        if self.time.elsewhere:
            basis = "what both machines measured of a matrix product and a convolution"
            if machine.published:
                basis = f"{100 * SHARE_OF_PEAK:.0f} % of published peaks, which nobody here has measured"
                basis += f" ({machine.source.partition(' (')[0]})"
            texts.append(f"Scaled by {basis}.")
            texts += [self._assumed_text()] if machine.device != "cpu" else []
        if by_pixels := self.time.scaled - self.time.elsewhere:
            texts.append(
                f"Of {by_pixels:,} attacks and scorings of an image the time is scaled by pixels from other images."
            )
        return " ".join(texts)

    def _assumed_text(self) -> str:
        """How much of the time on a GPU is what is assumed for each evaluation of a batch."""
        from harness.engine.forecast import LEAST_ON_GPU

        least = f"{1000 * LEAST_ON_GPU:.0f} ms for each evaluation of a batch"
        share = self.time.assumed / self.time.seconds if self.time.seconds else 0.0
        if not share:
            return f"No part of the time is below {least}, which is taken at least."
        much = "Almost all" if share >= _ALMOST_ALL else f"{100 * share:.0f} %" if share >= _HARDLY else "Hardly any"
        return f"{much} of the time is the assumed {least}, a guess."

    def _memory_texts(self) -> Iterator[str]:
        if not self.memory:
            yield "Memory: not known; no run here or beside it measured it."
            return
        most, room = self.memory[0], self.machines.asked.memory_of_worker
        wide, tall = most.size
        of = f", of {room:,.1f} GiB" if room is not None else ""
        who = f"{most.what} on {most.data}, {counted(most.rows, 'image')} of {wide} x {tall} at once"
        yield f"Memory: up to {most.mib / 1024:.1f} GiB a worker{of} ({who}{'' if most.measured else ', scaled'})."
        short = [need for need in self.memory if need.fits is not None and need.fits < need.rows]
        for need in short[:_NEEDS_SHOWN]:
            wide, tall = need.size
            what = f"{need.what} on {need.data}: {need.rows} images of {wide} x {tall} take {need.mib / 1024:,.1f} GiB"
            then = f"batches of {need.fits} do" if need.fits else f"one alone takes {need.one / 1024:,.1f} GiB"
            yield f"Will not fit: {what}; {then}."
        if len(short) > _NEEDS_SHOWN:
            yield f"Will not fit: {len(short) - _NEEDS_SHOWN} more; --json has all."

    def _disk_text(self) -> str:
        disk = self.disk
        parts = [f"{disk.rows:,} records" + ("" if disk.measured else ", by a stated size")]
        parts += [f"attacked images up to {bytes_text(disk.examples)}"] if disk.examples else []
        parts += [f"pictures of the page up to {bytes_text(disk.gallery)}"] if disk.gallery else []
        fits = f", without {counted(self.fits, 'fit')}, of which the size is not known" if self.fits else ""
        return f"Disk: about {bytes_text(disk.total)} ({'; '.join(parts)}){fits}."


def _off(error: float) -> str:
    """'8 % too low', '3 % too high'."""
    share = round(100 * abs(error))
    return f"{share} % too {'low' if error < 0 else 'high'}" if share else "right"


def outlook_on(
    plan: Plan,
    blocks: Sequence[Block],
    store: RunFolder,
    registry: Registry,
    machines: Machines,
    device: str,
    timed: bool,
) -> Outlook:
    """What blocks will take.

    Args:
        plan: The plan.
        blocks: What is left of it.
        store: The run folder; what runs in it and beside it measured is taken.
        registry: Where its plugins come from.
        machines: Where it is to run.
        device: Of the machine at hand, where what was never measured is timed.
        timed: Whether that is to be done now.
    """
    from harness.engine.costs import loads_of, works_of
    from harness.engine.footprint import disk_need, memory_needs, names_of_work, sizes_of
    from harness.engine.forecast import Prices, error_on, forecast, read_recorded, timespan_of
    from harness.engine.timing import time_conditions

    machine, here = machines.asked, machines.here
    recorded = read_recorded(store.path)
    works = works_of(plan, blocks, device)
    work = loads_of(works)
    sizes = sizes_of(plan, recorded, registry) if work else {}
    pixels = {key: float(wide * tall) for key, (wide, tall) in sizes.items()}
    pixels |= {cost.split: cost.pixels / cost.items for cost in recorded.costs if cost.pixels}
    time = forecast(work, Prices(recorded, machine, here, pixels), plan.suite.slice_size)
    if timed and time.unknown:
        new = time_conditions(plan, registry, device, time.unknown_keys, tell)
        costs = [*recorded.costs, *(replace(cost, machine=here.id) for cost in new.values())]
        recorded = replace(recorded, costs=costs, machines={**recorded.machines, here.id: here})
        time = forecast(work, Prices(recorded, machine, here, pixels), plan.suite.slice_size)
    needs = memory_needs(plan, work, recorded, machine, sizes)
    disk = disk_need(plan, blocks, work, store.path, sizes)
    span = timespan_of(works, time.prices, machines.at_once)
    kinds = list(_kinds(work, time.prices, names_of_work(plan)))
    return Outlook(time, span, machines, error_on(recorded, machine), needs, disk, timed, kinds)


def _kinds(
    work: Mapping[Key, Amount], prices: Mapping[Key, Price], names: Mapping[str, str]
) -> Iterator[Mapping[str, Any]]:
    """What there is to do of each kind, and what an image of it takes, None where that is not known."""
    from harness.engine.footprint import what_is_done

    for key, amount in work.items():
        price = prices.get(key)
        about = {"work": key.kind, "what": what_is_done(key, names), "data": names.get(key.split, "")}
        yield {**about, "images": amount.images, "seconds_per_image": price.seconds if price else None}
