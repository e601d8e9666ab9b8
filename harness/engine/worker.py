"""What one worker process keeps between jobs: data sets, scorers, the run folder."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.contracts import Attack, Dataset, Entry, Metric
from harness.engine.batches import Batch, SampleError, load_batches
from harness.engine.costs import Cost
from harness.engine.gallery_pool import Pool
from harness.engine.memory_cap import MemoryCap
from harness.engine.packing import Packing
from harness.engine.peak import PeakMeter
from harness.engine.planned_code import PlannedCode
from harness.engine.run_folder import FailureRecord, RunFolder
from harness.engine.scorer import Scorer, build_scorer, in_messages
from harness.errors import UserError, raised_in
from harness.files import OWN_PACKAGES
from harness.plugins.build import default_metric
from harness.plugins.guard import beside_the_worker, calling
from harness.plugins.registry import Registry
from harness.plugins.returned import told_of_plugin
from harness.suite.identity import identity
from harness.suite.model import Use
from harness.suite.plan import ScorerSpec, SplitSpec, in_hash_order

_SCORERS_KEPT = 4
_TELL_EVERY_S = 1.0


@dataclass(frozen=True)
class Context:
    """What a worker must know to start; travels to spawned processes."""

    folder: Path
    plugins: tuple[Path, ...]
    seed: int
    slice_size: int
    device: str
    save_examples: int = 0
    code: Mapping[Path, str] = field(default_factory=dict)
    """Files of the plan's plugins that no version stands for -> the sha256 that its identities hold."""
    memory: int | None = None
    """MiB that a worker may take; None for as many as there are."""
    nice: int = 0
    """Niceness of worker processes."""
    exact: bool = False
    """Whether examples are kept as floats too."""
    pool: Pool | None = None
    """What competes for the gallery."""
    batch_memory: int | None = None
    """MiB that a batch may take that several cells are packed into; 0 packs none, None as the device has it."""


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    label: str
    cells: int = 0
    failed: int = 0
    costs: tuple[Cost, ...] = ()
    notices: tuple[str, ...] = ()
    paces: tuple[Cost, ...] = ()
    """What calibrating a scorer took."""


class Job(ABC):
    """A piece of work that is complete in itself; travels to spawned processes."""

    needs_folder: ClassVar[bool] = False
    """Whether it reads results of others, so that it has to run where the run folder is."""

    @property
    @abstractmethod
    def id(self) -> str:
        """What its failures are noted under."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What it does, for people."""

    @abstractmethod
    def work(self, worker: Worker) -> Done:
        """Do it; what fails in it is recorded in the run folder.

        Raises:
            StoreError: The run folder cannot be written.
        """

    def again(self) -> Job:
        """The same after the process died that did it."""
        return self

    def fail(self, store: RunFolder, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
        """Note what it has not finished as failed."""
        store.write_failure(FailureRecord(self.id, 0, sample, f"{self.label}: {message}", bad_input))
        return Done(self.label, 0, 1)


@dataclass
class Worker:
    """Does jobs, one after the other, on one torch thread when on a CPU.

    It is the `harness.engine.attack_batch.Tools` of every job it does.
    """

    context: Context
    watcher: Callable[[str], None] = lambda text: None
    """Hears how far a long job is, at most once a second."""
    registry: Registry = field(init=False)
    store: RunFolder = field(init=False)
    device: torch.device = field(init=False)
    peaks: PeakMeter = field(init=False)
    packing: Packing | None = field(init=False)
    """How much is attacked at once; None where each cell is attacked by itself."""
    most_images: dict[str, int] = field(default_factory=dict)
    """Source -> images in a batch, where memory was too short for more."""
    shortages: dict[str, str] = field(default_factory=dict)
    """Source, or fit -> what the report has to say of it."""
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _entries: dict[str, list[Entry]] = field(default_factory=dict)
    _scorers: OrderedDict[str, Scorer] = field(default_factory=OrderedDict)
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _metrics: dict[str, Metric] = field(default_factory=dict)
    _last_told: float = 0.0
    _code: PlannedCode = field(init=False)
    _reading: threading.Lock = field(default_factory=threading.Lock)
    """Held while an image is read."""

    def __post_init__(self) -> None:
        self.registry = Registry(self.context.plugins)
        self._code = PlannedCode(self.context.code)
        self.store = RunFolder(self.context.folder, self._code.check)
        self.device = torch.device(self.context.device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        self.peaks = PeakMeter(self.device)
        self.packing = self._packing()
        self._code.check()

    def _packing(self) -> Packing | None:
        """On a GPU unless that was refused; elsewhere, where nothing is gained by it, where it was asked for."""
        asked = self.context.batch_memory
        on = self.device.type == "cuda" if asked is None else asked > 0
        cap = None if self.context.memory is None else MemoryCap(self.context.memory)
        return Packing(self.peaks, asked, cap) if on else None

    def execute(self, job: Job) -> Done:
        """Do one job.

        Raises:
            StoreError: The run folder cannot be written.
        """
        return self.executing([job], lambda: [job.work(self)])[0]

    def executing(self, jobs: Sequence[Job], work: Callable[[], Sequence[Done]]) -> list[Done]:
        """Do some jobs together, by a function that says what became of each.

        Raises:
            StoreError: The run folder cannot be written.
        """
        self._last_told = 0.0
        try:
            with calling(jobs[0].label, ours=True):
                done = work()
                with self._reading:
                    from_data = [notice for dataset in self._datasets.values() for notice in dataset.notices()]
        except UserError:
            raise
        except Exception as error:
            if not raised_in(error):
                raise
            if len(jobs) > 1:
                return [self.execute(job) for job in jobs]
            return [job.fail(self.store, told_of_plugin(error)) for job in jobs]
        return [replace(one, notices=(*from_data, *self.shortages.values())) for one in done]

    @property
    def seed(self) -> int:
        """Of the suite."""
        return self.context.seed

    def entries(self, split: SplitSpec) -> Sequence[Entry]:
        """Every entry of a split in hash order."""
        if split.key not in self._entries:
            self._entries[split.key] = in_hash_order(self._dataset(split.dataset).entries(split.split))
        return self._entries[split.key]

    def loader(self, use: Use) -> Callable[[Sequence[Entry]], list[Batch]]:
        """What turns entries of a data set into batches on the device."""
        dataset, name = self._dataset(use), self.called(use)
        return lambda entries: load_batches(dataset, entries, self.device, name, self._reading)

    def host_loader(self, use: Use) -> Callable[[Sequence[Entry]], list[Batch]] | None:
        """What reads entries in another thread, into memory of the host; None where the data set's code is not ours.

        A plugin may change what holds for the whole process while it reads, which would bend what runs meanwhile.
        """
        dataset, name = self._dataset(use), self.called(use)
        if type(dataset).__module__.partition(".")[0] not in OWN_PACKAGES:
            return None
        pinned = self.device.type == "cuda"

        def read(entries: Sequence[Entry]) -> list[Batch]:
            with beside_the_worker():
                batches = load_batches(dataset, entries, torch.device("cpu"), name, self._reading)
                return [batch.pinned() for batch in batches] if pinned else batches

        return read

    def scorer(self, spec: ScorerSpec) -> Scorer:
        """A metric with its weights, under purifiers; the last few are kept."""
        if spec.key not in self._scorers:
            self._scorers[spec.key] = build_scorer(spec, self.registry, self.device, self._networks)
            while len(self._scorers) > _SCORERS_KEPT:
                self._scorers.popitem(last=False)
        self._scorers.move_to_end(spec.key)
        return self._scorers[spec.key]

    def attack(self, use: Use) -> Attack:
        """An attack with its parameters."""
        return self.registry.attack(use.name).build(use.parameters)

    def metric(self, name: str) -> Metric:
        """A registered metric with default parameters and weights, for an attack's own use."""
        if name not in self._metrics:
            self._metrics[name] = default_metric(name, self.registry, self.device)
        return self._metrics[name]

    def called(self, use: Use) -> str:
        """What a plugin is called in messages, with where it comes from."""
        return in_messages(use, self.registry)

    def fact(self, name: str) -> Mapping[str, Any]:
        """A fact that an earlier job computed.

        Raises:
            SampleError: It failed, or is missing.
        """
        if not self.store.has_fact(name):
            raise self._earlier(name, "its calibration is missing; run again")
        return self.store.read_fact(name)

    def fit(self, name: str) -> Mapping[str, Tensor]:
        """What an attack learnt in an earlier job.

        Raises:
            SampleError: That failed, or is missing.
        """
        if not self.store.has_fit(name):
            raise self._earlier(name, "its fit is missing; run again")
        return self.store.read_fit(name)

    def tell(self, text: str) -> None:
        """Say how far a long job is, at most once a second."""
        now = time.monotonic()
        if now - self._last_told >= _TELL_EVERY_S:
            self._last_told = now
            self.watcher(text)

    def _earlier(self, name: str, otherwise: str) -> SampleError:
        for failure in self.store.failures():
            if failure.cell == name:
                return SampleError(failure.sample, failure.message, bad_input=failure.bad_input)
        return SampleError("", otherwise)

    def _dataset(self, use: Use) -> Dataset:
        key = identity("dataset", {**use.identity(), "given": str(dict(use.parameters))})  # a path as it stands
        if key not in self._datasets:
            self._datasets[key] = self.registry.dataset(use.name).build(use.parameters)
        return self._datasets[key]
