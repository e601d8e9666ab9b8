"""Jobs on a Ray cluster: one actor per core or GPU, which works in a folder of its own and returns files as bytes.

Only the driver writes the run folder, so no file system is shared, and where one is the same code runs. A node that is
lost takes no job down with it: what ran there is handed out again, as often as that happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.engine.executors.parcels import Depot, Parcel, files_needed, parcel, relocated
from harness.engine.provenance import versions
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Done, Job, Worker
from harness.errors import UserError
from harness.files import SUITE, cache_dir
from harness.suite.model import DatasetUse

_TRIES = 2
_ANSWER_WITHIN_S = 60
_LOOK_EVERY_S = 1.0
_FIRST_NODE_WITHIN_S = 60
_STATE = ("facts", "fits", "probes", "failures")
"""Of a run folder, what jobs read that other jobs wrote."""
_PASSED_ON = ("ROBUSTIQA_MAX_PIXELS", "ROBUSTIQA_NO_PLUGINS")


@dataclass(frozen=True)
class ClusterOptions:
    """How a cluster is reached and shared.

    Attributes:
        address: "local" for this machine, "auto" for the cluster that this machine belongs to, or ``ray://host:port``.
        gpus: GPUs of each worker, fractions allowed; 0 where the device is the CPU.
        roots: Name or label of a data set -> its folder on the nodes.
    """

    address: str = "auto"
    gpus: float = 0.0
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answer:
    """What became of a job: files of the run folder in the order in which they were written, None for a removed one."""

    done: Done
    files: Sequence[tuple[str, bytes | None]]


class _Ledger(RunFolder):
    """The folder that an actor works in; keeps what is written to it, for the driver."""

    def __init__(self, path: Path, before_writing: Callable[[], None]) -> None:
        super().__init__(path, before_writing)
        self.written: list[tuple[str, bytes | None]] = []

    def _write(self, path: Path, content: bytes) -> None:
        super()._write(path, content)
        self.written.append((path.relative_to(self.path).as_posix(), content))

    def forget_failure(self, cell: str, index: int) -> None:
        """What failed before has been done since."""
        super().forget_failure(cell, index)
        self.written.append((self._failure(cell, index).relative_to(self.path).as_posix(), None))


class _Hand:
    """One actor, on whatever node: a worker that has files put into place before it is asked.

    Args:
        context: Of the run, with the paths of the driver.
        roots: Name or label of a data set -> its folder on the nodes.
    """

    def __init__(self, context: Context, roots: Mapping[str, str]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="robustiqa-")
        self._depot = Depot(cache_dir() / "cluster", Path(self._scratch.name) / "files")
        self._context, self._roots = context, roots
        self._folder = Path(self._scratch.name) / "run"
        self._worker: Worker | None = None
        self._at = ""

    def about(self) -> dict[str, Any]:
        """What this node is: versions as provenance has them, its hardware, the Ray node it is."""
        import ray

        return {"node": ray.get_runtime_context().get_node_id(), "versions": versions(self._context.device)}

    def prepare(self, parcels: Sequence[Parcel], contents: Mapping[str, Any], state: Mapping[str, bytes]) -> None:
        """Put files into place.

        Args:
            parcels: Plugins, weights and whatever else jobs name.
            contents: sha256 -> reference to a content.
            state: Name within the run folder -> content of what jobs read that others wrote.
        """
        import ray

        self._depot.put(parcels, lambda one: bytes(ray.get(contents[one.sha256])))
        for name, content in state.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def execute(self, job: Job) -> _Answer | UserError:
        """Do a job; a mistake of the user is returned and not raised, since it is no fault of the node."""
        try:
            worker = self._worker = self._worker or self._begin()
            store = worker.store
            assert isinstance(store, _Ledger)
            store.written.clear()
            done = worker.execute(relocated(job, self._place, self._roots_of))
            return _Answer(done, list(store.written))
        except UserError as error:
            return error

    def at(self) -> str:
        """How far the job is that is being done; runs beside it."""
        return self._at

    def _begin(self) -> Worker:
        code = {self._place(path): sha256 for path, sha256 in self._context.code.items()}
        plugins = tuple(self._place(path) for path in self._context.plugins)
        context = replace(self._context, folder=self._folder, plugins=plugins, code=code)
        return Worker(context, self._note, kept_in=_Ledger)

    def _note(self, text: str) -> None:
        self._at = text

    def _place(self, path: Path) -> Path:
        return self._depot.place(path) if self._depot.place(path).exists() else path

    def _roots_of(self, use: DatasetUse) -> Mapping[str, str]:
        if "root" not in use.parameters:
            return {}
        for key in (use.label, use.name):
            own = os.environ.get(f"ROBUSTIQA_DATA_{key.upper().replace('-', '_')}") or self._roots.get(key)
            if own:
                return {"root": own}
        base = os.environ.get("ROBUSTIQA_DATA_DIR")
        there = Path(str(use.parameters["root"])).expanduser().exists()
        return {} if there or not base else {"root": str(Path(base) / Path(str(use.parameters["root"])).name)}


@dataclass
class _Slot:
    """One actor as the driver sees it."""

    actor: Any
    node: str = ""
    prepared: int = -1
    """The stage whose files it has."""
    job: Job | None = None
    waits_for: Any = None
    """Reference to the answer that is due: to `about`, `prepare` or `execute`; None where it is idle."""
    telling: Any = None
    """Reference to what it will say of how far it is."""


class RayExecutor:
    """Actors of a Ray cluster.

    Args:
        context: What each worker must know.
        workers: How many; None for as many as the cluster has cores, or GPUs for them.
        options: Which cluster, and what of it.
        folder: The run folder; the driver alone writes it.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, context: Context, workers: int | None, options: ClusterOptions, folder: RunFolder) -> None:
        self._context, self._options, self._folder = context, options, folder
        self._ray = _connected(options.address)
        self._count = workers or self._room()
        self._slots: list[_Slot] = []
        self._contents: dict[str, Any] = {}
        self._parcels: dict[Path, Parcel] = {}
        self._stage = 0
        self._lost: set[str] = set()
        self._versions: list[dict[str, str]] = []
        self.notices: list[str] = []

    def run(
        self,
        jobs: Sequence[Job],
        stop: Callable[[], bool],
        began: Callable[[int, Job], None],
        at: Callable[[int, str], None],
    ) -> Iterator[Done]:
        """Run the jobs, yielding each as it ends; once told to stop, only those that actors have begun.

        Raises:
            UserError: The run folder cannot be written, or no node is left.
        """
        waiting, tries, left = deque(jobs), dict[int, int](), len(jobs)
        self._stage += 1
        self._load([*jobs])
        state = self._ray.put(self._state())
        alone_since = time.monotonic()
        while left:
            if stop():
                left -= len(waiting)
                waiting.clear()
            while len(self._slots) < min(self._count, left):
                self._slots.append(self._hire())
            for number, slot in enumerate(self._slots):
                if slot.waits_for is None and waiting:
                    if slot.prepared != self._stage:
                        slot.prepared = self._stage
                        slot.waits_for = slot.actor.prepare.remote(list(self._parcels.values()), self._contents, state)
                        continue
                    slot.job = waiting.popleft()
                    began(number, slot.job)
                    slot.waits_for = slot.actor.execute.remote(slot.job)
            for slot, answer in self._answers(at):
                job = slot.job
                if isinstance(answer, _Answer):
                    slot.job, slot.waits_for = None, None
                    self._keep(answer)
                    left -= 1
                    yield answer.done
                elif isinstance(answer, _Loss):
                    self._slots.remove(slot)
                    if job is None:
                        continue
                    tries[id(job)] = tries.get(id(job), 0) + (not answer.node)
                    if tries[id(job)] < _TRIES:
                        waiting.appendleft(job)
                        continue
                    left -= 1
                    yield job.fail(self._folder, f"its worker process died {_TRIES} times: {answer.reason}")
                else:
                    self._met(slot, answer)
            alive = any(slot.node for slot in self._slots)
            alone_since = time.monotonic() if alive or not left else alone_since
            if time.monotonic() - alone_since > _ANSWER_WITHIN_S:
                raise UserError(
                    f"the cluster at {self._options.address} has had no room for a worker for {_ANSWER_WITHIN_S} s. "
                    "What was finished is kept; give it nodes and run the same command again, or take fewer --workers."
                )

    def close(self) -> None:
        """Let go of actors, and of the cluster."""
        for slot in self._slots:
            with contextlib.suppress(Exception):
                self._ray.kill(slot.actor)
        self._slots.clear()
        with contextlib.suppress(Exception):
            self._ray.shutdown()

    def _room(self) -> int:
        """Workers that the cluster has room for."""
        found = self._ray.cluster_resources()
        gpus = self._options.gpus
        return max(1, int(found.get("GPU", 0) / gpus) if gpus else int(found.get("CPU", 1)))

    def _hire(self) -> _Slot:
        variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        hand = self._ray.remote(_Hand).options(
            num_cpus=1, num_gpus=self._options.gpus, max_concurrency=2, max_restarts=0, runtime_env={"env_vars": variables}
        )
        actor = hand.remote(self._context, dict(self._options.roots))
        return _Slot(actor, waits_for=actor.about.remote())

    def _load(self, jobs: Sequence[Job]) -> None:
        """Take along what jobs need, each content once."""
        for path in [*self._context.plugins, *self._context.code, *files_needed(list(jobs))]:
            if path.absolute() in self._parcels:
                continue
            one, content = parcel(path)
            self._parcels[one.path] = one
            if one.sha256 not in self._contents:
                self._contents[one.sha256] = self._ray.put(content)

    def _state(self) -> dict[str, bytes]:
        found = [self._folder.path / SUITE]
        for part in _STATE:
            found += sorted(path for path in (self._folder.path / part).glob("[!.]*") if path.is_file())
        return {path.relative_to(self._folder.path).as_posix(): path.read_bytes() for path in found}

    def _answers(self, at: Callable[[int, str], None]) -> Iterator[tuple[_Slot, Any]]:
        """What came in within a second."""
        due = {slot.waits_for: slot for slot in self._slots if slot.waits_for is not None}
        told = {slot.telling: slot for slot in self._slots if slot.telling is not None}
        if not due:
            time.sleep(_LOOK_EVERY_S / 10)
            return
        ready, _ = self._ray.wait([*due, *told], num_returns=1, timeout=_LOOK_EVERY_S)
        for reference in ready:
            if (slot := told.get(reference)) is not None:
                slot.telling = None
                text = self._got(slot, reference)
                if isinstance(text, str) and text and slot.job is not None:
                    at(self._slots.index(slot), text)
                continue
            slot = due[reference]
            answer = self._got(slot, reference)
            if isinstance(answer, BaseException):
                raise answer
            yield slot, answer

    def _got(self, slot: _Slot, reference: Any) -> Any:
        """An answer, or why none will come."""
        from ray import exceptions

        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:
            return RuntimeError(str(error))
        except exceptions.RayError as error:
            return _Loss(str(error).splitlines()[0], self._is_lost(slot.node, str(error)))

    def _is_lost(self, node: str, reason: str) -> bool:
        """Whether an actor went with its node; that of the node is said once."""
        until = time.monotonic() + 3
        while True:
            alive = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}
            lost = "node has died" in reason or "node died" in reason or bool(node and node not in alive)
            if lost or time.monotonic() > until:
                break
            time.sleep(0.2)
        if lost and node not in self._lost:
            self._lost.add(node)
            self.notices.append(f"a node of the cluster was lost ({node[:8]}); what ran there is done elsewhere")
        return lost

    def _met(self, slot: _Slot, answer: Any) -> None:
        """An actor is there, or has what it needs."""
        slot.waits_for = None
        if isinstance(answer, dict):
            slot.node = answer["node"]
            if answer["versions"] not in self._versions:
                self._versions.append(answer["versions"])
                self._folder.add_provenance("versions", [answer["versions"]])

    def _keep(self, answer: _Answer) -> None:
        """Write what a job wrote, in its order."""
        for name, content in answer.files:
            if content is None:
                (self._folder.path / name).unlink(missing_ok=True)
            else:
                self._folder.accept(name, content)


@dataclass(frozen=True)
class _Loss:
    """An actor that will not answer any more."""

    reason: str
    node: bool
    """Whether its node is gone; otherwise its process died alone."""


def _connected(address: str) -> Any:
    """Ray, connected."""
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray: Ray is not installed. Run: pip install 'robustiqa[ray]'") from None
    where = None if address == "local" else address
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if where is None:
        options |= {"include_dashboard": False}
    if not ray.is_initialized():
        try:
            ray.init(address="local" if where is None else where, **options)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--ray-address {address}: no cluster answers there ({reason}). Start one with 'ray start --head', "
                "or take --ray-address local."
            ) from None
    return ray
