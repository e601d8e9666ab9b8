"""What one worker process keeps between jobs: data sets, scorers, the run folder; and how it does each kind of job."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.attacking import Tools
from harness.batches import Batch, SampleError, load_batches
from harness.calibrate import compute_fact, run_fit
from harness.contracts import Attack, Dataset, Entry, Metric, Purifier
from harness.costs import Cost
from harness.errors import UserError
from harness.evaluate import BlockRun
from harness.guard import check_learnt, told
from harness.identity import identity
from harness.plan import Block, Fact, Fit, Probe, ScorerSpec, SplitSpec, in_hash_order
from harness.registry import Registry, singular
from harness.scorer import Scorer
from harness.shortage import out_of_memory, release, went_on
from harness.store import FailureRecord, RunFolder, StoreError
from harness.suite import RANDOM_WEIGHTS, MetricUse, Use
from harness.weights import WeightFile, load

Job = Block | Probe | Fact | Fit
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


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    label: str
    cells: int = 0
    failed: int = 0
    costs: tuple[Cost, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass
class Worker:
    """Does jobs, one after the other, on one torch thread when on a CPU."""

    context: Context
    tell: Callable[[str], None] = lambda text: None
    """Hears how far a long job is, at most once a second."""
    registry: Registry = field(init=False)
    store: RunFolder = field(init=False)
    device: torch.device = field(init=False)
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _entries: dict[str, list[Entry]] = field(default_factory=dict)
    _scorers: OrderedDict[str, Scorer] = field(default_factory=OrderedDict)
    _plain_metrics: dict[str, Metric] = field(default_factory=dict)
    _last_told: float = 0.0
    _most: dict[str, int] = field(default_factory=dict)
    """Source -> images in a batch, where memory was too short for more."""
    _shortages: dict[str, str] = field(default_factory=dict)
    """Source -> what the report has to say of it."""

    def __post_init__(self) -> None:
        self.registry = Registry(self.context.plugins)
        self.store = RunFolder(self.context.folder)
        self.device = torch.device(self.context.device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)

    def execute(self, job: Job) -> Done:
        """Do one job; what fails in it is recorded in the run folder.

        Raises:
            StoreError: The run folder cannot be written.
        """
        if isinstance(job, Block):
            done = self._block(job)
        elif isinstance(job, Probe):
            done = self._guarded(job.id, label_of(job), lambda: self._probe(job))
        elif isinstance(job, Fact):
            done = self._guarded(job.id, label_of(job), lambda: self._fact(job))
        else:
            done = self._guarded(job.id, label_of(job), lambda: self._fit(job))
        return replace(done, notices=self._notices())

    def _block(self, block: Block) -> Done:
        size = self.context.slice_size
        entries = self._split(block.split)[block.slice * size : (block.slice + 1) * size]
        try:
            batches = self._loader(block.split.dataset)(entries)
        except SampleError as error:
            return record_failure(self.store, block, str(error), error.sample, bad_input=error.bad_input)
        kept = {entry.id: block.slice * size + i for i, entry in enumerate(entries)}
        kept = {sample: rank for sample, rank in kept.items() if rank < self.context.save_examples}
        most = self._most.get(block.source.key)
        run = BlockRun(block, batches, self._tools(kept), most)
        done, failed = run.run()
        if run.most is not None and run.most != most:
            self._most[block.source.key] = run.most
            who = f"{block.source.label} on {block.split.label}"
            self._shortages[block.source.key] = went_on(who, max(run.most, 1))
        return Done(block.label, done, failed, tuple(run.costs))

    def _probe(self, probe: Probe) -> None:
        from harness.probes import probe as probe_metric

        use = probe.metric
        metric = build_metric(use, self.registry, torch.device("cpu"))
        found = probe_metric(metric, use.name, trained=use.weights != RANDOM_WEIGHTS)
        self.store.write_probe(probe.id, {"metric": use.label, **found})

    def _fact(self, fact: Fact) -> None:
        scorer, load = self._scorer(fact.scorer), self._loader(fact.split.dataset)
        value = compute_fact(
            fact, self._split(fact.split), load, scorer, self.context.seed, self.device, self.context.slice_size
        )
        self.store.write_fact(fact.id, value)

    def _fit(self, fit: Fit) -> None:
        scorer, load = self._scorer(fit.source), self._loader(fit.split.dataset)
        attack = self._attack(fit.attack)
        entries = self._split(fit.split)
        size = self.context.slice_size
        while True:  # from the start with smaller batches where memory was too short
            try:
                learnt = run_fit(fit, entries, load, scorer, attack, self._tools(), size)
                break
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
            size //= 2
            release()
            who = f"fitting {fit.attack.label} to {fit.source.label}"
            self._shortages[fit.id] = f"Out of memory: {who} went on in batches of {size}, with other draws."
        self.store.write_fit(fit.id, check_learnt(learnt, self._name(fit.attack)))

    def _guarded(self, name: str, label: str, work: Any) -> Done:
        try:
            work()
        except StoreError:
            raise
        except SampleError as error:
            message = str(error) if error.bad_input else f"{label}: {error}"
            self.store.write_failure(FailureRecord(name, 0, error.sample, message, error.bad_input))
            return Done(label, 0, 1)
        except Exception as error:
            bad_input = isinstance(error, UserError)
            cure = " Take a smaller `slice`, smaller images, or fewer workers." if out_of_memory(error) else ""
            message = str(error) if bad_input else f"{label}: {told(error)}{cure}"
            self.store.write_failure(FailureRecord(name, 0, "", message, bad_input))
            return Done(label, 0, 1)
        self.store.forget_failure(name, 0)
        return Done(label, 1, 0)

    def _tools(self, kept: Mapping[str, int] | None = None) -> Tools:
        return Tools(
            scorer=self._scorer,
            attack=self._attack,
            name=self._name,
            build=self._plain_metric,
            fact=self._read_fact,
            fit=self._read_fit,
            write=self.store.write_records,
            fail=self.store.write_failure,
            device=self.device,
            seed=self.context.seed,
            keep=kept or {},
            write_examples=self.store.write_examples,
            tell=self._told,
        )

    def _read_fact(self, name: str) -> Mapping[str, Any]:
        if not self.store.has_fact(name):
            raise self._earlier(name, "its calibration is missing; run again")
        return self.store.read_fact(name)

    def _read_fit(self, name: str) -> Mapping[str, Tensor]:
        if not self.store.has_fit(name):
            raise self._earlier(name, "its fit is missing; run again")
        return self.store.read_fit(name)

    def _earlier(self, name: str, otherwise: str) -> SampleError:
        for failure in self.store.failures():
            if failure.cell == name:
                return SampleError(failure.sample, failure.message, bad_input=failure.bad_input)
        return SampleError("", otherwise)

    def _dataset(self, use: Use) -> Dataset:
        key = identity("dataset", {**use.identity(), "root": str(use.parameters.get("root"))})
        if key not in self._datasets:
            self._datasets[key] = self.registry.dataset(use.name).build(use.parameters)
        return self._datasets[key]

    def _loader(self, use: Use) -> Callable[[Sequence[Entry]], list[Batch]]:
        dataset, name = self._dataset(use), self._name(use)
        return lambda entries: load_batches(dataset, entries, self.device, name)

    def _split(self, split: SplitSpec) -> Sequence[Entry]:
        if split.key not in self._entries:
            self._entries[split.key] = in_hash_order(self._dataset(split.dataset).entries(split.split))
        return self._entries[split.key]

    def _scorer(self, spec: ScorerSpec) -> Scorer:
        if spec.key not in self._scorers:
            self._scorers[spec.key] = build_scorer(spec, self.registry, self.device)
            while len(self._scorers) > _SCORERS_KEPT:
                self._scorers.popitem(last=False)
        self._scorers.move_to_end(spec.key)
        return self._scorers[spec.key]

    def _name(self, use: Use) -> str:
        return in_messages(use, self.registry)

    def _attack(self, use: Use) -> Attack:
        return self.registry.attack(use.name).build(use.parameters)

    def _plain_metric(self, name: str) -> Metric:
        """A registered metric with default parameters and weights, for an attack's own use."""
        if name not in self._plain_metrics:
            self._plain_metrics[name] = default_metric(name, self.registry, self.device)
        return self._plain_metrics[name]

    def _told(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last_told >= _TELL_EVERY_S:
            self._last_told = now
            self.tell(text)

    def _notices(self) -> tuple[str, ...]:
        from_data = [n for d in self._datasets.values() for n in d.notices()]
        return (*from_data, *self._shortages.values())


def record_failure(store: RunFolder, job: Job, message: str, sample: str = "", *, bad_input: bool = False) -> Done:
    """Note what a job has not finished as failed."""
    if isinstance(job, Block):
        lost = [cell for cell in job.cells if job.slice not in store.slices(cell.id)]
        for cell in lost:
            store.write_failure(FailureRecord(cell.id, job.slice, sample, message, bad_input))
        return Done(job.label, len(job.cells) - len(lost), len(lost))
    store.write_failure(FailureRecord(job.id, 0, sample, f"{label_of(job)}: {message}", bad_input))
    return Done(label_of(job), 0, 1)


def label_of(job: Job) -> str:
    """What a job does, for people."""
    if isinstance(job, Block):
        return job.label
    if isinstance(job, Probe):
        return f"probe {job.metric.label}"
    if isinstance(job, Fact):
        return f"calibrate {job.scorer.label} on {job.split.label}"
    return f"fit {job.attack.label} to {job.source.label}"


def build_scorer(spec: ScorerSpec, registry: Registry, device: torch.device) -> Scorer:
    """A scorer ready to be attacked: weights loaded and verified, evaluation mode, frozen, on the device.

    Raises:
        UserError: The weights cannot be loaded.
    """
    purifiers: list[Purifier] = [registry.purifier(p.name).build(p.parameters) for p in spec.purifiers]
    names = [in_messages(part, registry) for part in (spec.metric, *spec.purifiers)]
    return Scorer(build_metric(spec.metric, registry, device), purifiers, names)


def build_metric(use: MetricUse, registry: Registry, device: torch.device) -> Metric:
    """A metric with its weights loaded and verified, in evaluation mode, frozen, on the device.

    Raises:
        UserError: The weights cannot be loaded.
    """
    metric = _fresh(registry, use.name, use.parameters)
    if use.weights_file is not None and use.weights != RANDOM_WEIGHTS:
        load(metric, WeightFile(use.name, use.weights_file, use.weights))
    return _frozen(metric, device)


def in_messages(use: Use, registry: Registry) -> str:
    """What a plugin is called in messages: "metric 'mae' from mae.py"."""
    return f"{singular(use.kind)} '{use.name}' from {registry.source(use.kind, use.name).origin}"


def default_metric(name: str, registry: Registry, device: torch.device) -> Metric:
    """A registered metric with its default parameters and weights.

    Raises:
        UserError: It is unknown, or has no weights.
    """
    from harness.weights import resolve

    plugin = registry.metric(name)
    metric = _fresh(registry, name, {})
    if plugin.cls.needs_weights:
        file = resolve(name, None, plugin.weights)
        if file is None:
            raise UserError(f"metric '{name}' has no default weights. Take a metric that has.")
        load(metric, file)
    return _frozen(metric, device)


def _fresh(registry: Registry, name: str, parameters: Mapping[str, Any]) -> Metric:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return registry.metric(name).build(parameters)


def _frozen(metric: Metric, device: torch.device) -> Metric:
    return metric.eval().requires_grad_(False).to(device)
