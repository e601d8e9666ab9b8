"""Jobs on a Ray cluster: one actor per core or GPU, handed one job at a time; the driver alone writes the run folder.

So no file system is shared, and where one is the same code runs. A node that is lost takes no job down with it: what
ran there is handed out again, as often as that happens. `harness.engine.executors.node` is what an actor does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.engine.executors.arrivals import keep
from harness.engine.executors.cluster import ClusterOptions
from harness.engine.executors.node import STATE, Answer, Supplies
from harness.engine.executors.node_book import NodeBook
from harness.engine.executors.parcels import Parcel, files_needed, parcel
from harness.engine.executors.processes import ProcessExecutor
from harness.engine.executors.ray_connection import Connection
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Done, Job
from harness.errors import UserError
from harness.files import SUITE
from harness.plugins.weights.locate import downloads

_LOSSES_ALONE = 5
"""How often an actor may be lost with a job while its node stands, before that is the job's fault."""
_LOSSES_UNMET = 5
"""How many actors in a row may be lost before they have said where they are."""
_WAIT_S = 1.0
_PATIENCE_S = 120.0
"""For a cluster in which no actor finds room."""
_ASKED_EVERY_S = 2.0
_COUNTED_EVERY_S = 5.0
_PASSED_ON = ("ROBUSTIQA_MAX_PIXELS", "ROBUSTIQA_NO_PLUGINS")


@dataclass
class _Slot:
    """One actor as the driver sees it."""

    actor: Any
    node: str = ""
    """Id of its node, once it has said so."""
    ready_for: int = 0
    """The stage whose files it has."""
    doing: str = "where"
    """Which of its methods is asked: where, about, begin, prepare, check, execute; empty where it is idle."""
    answer: Any = None
    """Reference to what that will return."""
    job: Job | None = None
    told: Any = None
    """Reference to what it will say of how far it is."""
    next_asked: float = 0.0
    """When it is to be asked again."""


@dataclass(frozen=True)
class _Lost:
    """An actor that will not answer any more.

    Attributes:
        reason: As Ray says it.
        with_node: Whether its node is gone; otherwise its process alone.
        memory: Whether Ray ended it because memory ran out.
    """

    reason: str
    with_node: bool
    memory: bool


class RayExecutor:
    """Actors of a Ray cluster.

    Args:
        context: What each worker must know.
        workers: How many; None for as many as the cluster has room for.
        options: Which cluster, and what of it.
        device_here: Of this machine, for what needs the whole run folder.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, context: Context, workers: int | None, options: ClusterOptions, device_here: str) -> None:
        self._context, self._options, self._device_here = context, options, device_here
        self._folder = RunFolder(context.folder)
        self._connection = Connection(options.address)
        self._ray = self._connection.ray
        self._asked = workers
        self._slots: dict[int, _Slot] = {}
        self._references: dict[str, Any] = {}
        self._parcels: dict[Path, Parcel] = {}
        self._stage = 0
        self._supplies: Any = None
        self._book = NodeBook(self._folder, context.device)
        self._losses: dict[int, int] = {}
        self._unmet, self._last_loss = 0, ""
        self._heard_from = time.monotonic()
        self._room, self._counted = 0, float("-inf")

    @property
    def workers(self) -> int:
        """How many actors there may be now: nodes come and go."""
        if time.monotonic() - self._counted > _COUNTED_EVERY_S:
            self._counted = time.monotonic()
            self._room = sum(self._options.room(one["Resources"]) for one in self._usable())
        return max(1, self._room if self._asked is None else self._asked)

    def run(
        self,
        jobs: Sequence[Job],
        stop: Callable[[], bool],
        began: Callable[[int, Job], None],
        at: Callable[[int, str], None],
    ) -> Iterator[Done]:
        """Run the jobs, yielding each as it ends; once told to stop, only those that actors have begun.

        Raises:
            UserError: The run folder cannot be written, or no node is left that can do the work.
        """
        here = [job for job in jobs if job.needs_folder]
        waiting = deque(job for job in jobs if not job.needs_folder)
        left = len(waiting)
        if waiting:
            self._begin_stage(list(waiting))
        while left:
            if stop():
                left -= len(waiting)
                waiting.clear()
            self._hire(left)
            self._hand_out(waiting, began)
            for number, answer in self._answers(at):
                slot = self._slots[number]
                if isinstance(answer, Answer):
                    job, slot.job = slot.job, None
                    assert job is not None
                    slot.doing = ""
                    keep(self._folder, answer)
                    self._book.did(slot.node, job)
                    left -= 1
                    yield answer.done
                elif isinstance(answer, UserError):  # of its disk or its data, which others may have whole
                    if slot.job is not None:
                        waiting.appendleft(slot.job)
                    self._refuse(number, str(answer))
                elif isinstance(answer, _Lost):
                    self._let_go(number)
                    self._last_loss = answer.reason
                    job = slot.job
                    if job is None:
                        self._unmet += not slot.node
                    elif self._is_guilty(job, answer):
                        left -= 1
                        why = "memory ran out" if answer.memory else answer.reason
                        yield job.fail(self._folder, f"its worker was lost {self._losses[id(job)]} times: {why}")
                    else:
                        waiting.appendleft(job)
                else:
                    self._met(number, answer)
            self._lose_patience(left)
        if here and not stop():
            yield from self._done_here(here, stop, began, at)

    def close(self) -> None:
        """Let go of actors, and of the cluster."""
        for number in list(self._slots):
            self._let_go(number)
        self._connection.close()
        with contextlib.suppress(UserError):  # of a full disk, which has been said
            self._book.store()

    def _done_here(self, jobs: Sequence[Job], *told: Any) -> Iterator[Done]:
        """Jobs that read the whole run folder, which only this machine has."""
        executor = ProcessExecutor(replace(self._context, device=self._device_here), 1)
        try:
            yield from executor.run(jobs, *told)
        finally:
            executor.close()

    def _begin_stage(self, jobs: Sequence[Job]) -> None:
        """Take along what jobs need, each content once."""
        self._stage += 1
        self._heard_from = time.monotonic()
        for path in [*self._context.plugins, *self._context.code, *files_needed(jobs)]:
            if path.absolute() in self._parcels:
                continue
            one, content = parcel(path)
            self._parcels[one.path] = one
            if one.sha256 not in self._references:
                self._references[one.sha256] = self._put(content)
        state = [self._folder.path / SUITE, *(self._folder.path / "examples").glob("*/cell.txt")]
        for part in STATE:
            state += sorted(path for path in (self._folder.path / part).glob("[!.]*") if path.is_file())
        contents = {path.relative_to(self._folder.path).as_posix(): path.read_bytes() for path in state}
        paths = [path for one in sys.path if one and (path := Path(one).absolute()).is_dir()]
        paths = [path for path in paths if any(file.is_relative_to(path) for file in self._context.code)]
        self._supplies = self._put(Supplies(list(self._parcels.values()), contents, paths, downloads()))

    def _put(self, value: Any) -> Any:
        """A reference to a value in the cluster's store.

        Raises:
            UserError: The store is full.
        """
        from ray.exceptions import ObjectStoreFullError, OutOfDiskError

        try:
            return self._ray.put(value)
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise UserError(
                f"the cluster's object store has no room for plugins and weights ({str(error).splitlines()[0]}). "
                "Start its nodes with a larger --object-store-memory."
            ) from error

    def _usable(self) -> list[Mapping[str, Any]]:
        return [one for one in self._ray.nodes() if one["Alive"] and one["NodeID"] not in self._book.refused]

    def _hire(self, left: int) -> None:
        count = min(self.workers, left)
        numbers = [number for number in range(count) if number not in self._slots]
        for number in numbers[: count - len(self._slots)]:
            refused = ",".join(self._book.refused)
            selector = {"label_selector": {"ray.io/node-id": f"!in({refused})"}} if refused else {}
            memory = {"memory": self._options.memory_mib * 2**20} if self._options.memory_mib else {}
            actor = (
                self._connection.actor_class()
                .options(
                    num_cpus=self._options.cpus,
                    num_gpus=self._options.gpus,
                    max_concurrency=2,
                    max_restarts=0,
                    **memory,
                    **selector,
                )
                .remote()
            )
            self._slots[number] = _Slot(actor, answer=actor.where.remote())

    def _hand_out(self, waiting: deque[Job], began: Callable[[int, Job], None]) -> None:
        for number, slot in self._slots.items():
            if slot.doing or not waiting:
                continue
            if slot.ready_for == self._stage:
                slot.job = waiting.popleft()
                slot.next_asked = time.monotonic() + _ASKED_EVERY_S
                began(number, slot.job)
                slot.doing, slot.answer = "execute", slot.actor.execute.remote(slot.job)
            else:
                slot.doing, slot.answer = "prepare", slot.actor.prepare.remote(self._supplies, self._references)

    def _answers(self, at: Callable[[int, str], None]) -> Iterator[tuple[int, Any]]:
        """What came in within a second, with the number of the actor."""
        due = {slot.answer: number for number, slot in self._slots.items() if slot.doing}
        told = {slot.told: number for number, slot in self._slots.items() if slot.told is not None}
        now = time.monotonic()
        for slot in self._slots.values():
            if slot.job is not None and slot.told is None and now > slot.next_asked:
                slot.told, slot.next_asked = slot.actor.at.remote(), now + _ASKED_EVERY_S
        if not due:
            time.sleep(_WAIT_S / 10)
            return
        ready, _ = self._ray.wait(list(due), num_returns=1, timeout=_WAIT_S)
        spoken, _ = self._ray.wait(list(told), num_returns=len(told), timeout=0) if told else ([], None)
        for reference in spoken:
            number = told[reference]
            self._slots[number].told = None
            with contextlib.suppress(Exception):  # that it is lost is told by what it works at
                text = self._ray.get(reference)
                if text and self._slots[number].job is not None:
                    at(number, text)
        for reference in ready:
            number = due[reference]
            answer = self._got(self._slots[number], reference)
            yield number, answer

    def _got(self, slot: _Slot, reference: Any) -> Any:
        """An answer, or why none will come."""
        from ray import exceptions

        try:
            return self._ray.get(reference)
        except exceptions.OutOfMemoryError as error:
            return _Lost(_first_line(error), with_node=False, memory=True)
        except exceptions.RayTaskError as error:
            if slot.doing == "execute":
                raise RuntimeError(str(error)) from None
            return {"unfit": _last_line(error)}
        except exceptions.RayError as error:
            return _Lost(_first_line(error), self._is_gone(slot.node, str(error)), memory=False)

    def _is_gone(self, node: str, reason: str) -> bool:
        """Whether an actor went with its node; that is said once of each."""
        until = time.monotonic() + 3
        while True:
            alive = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}
            gone = "node has died" in reason or "node died" in reason or bool(node and node not in alive)
            if gone or time.monotonic() > until:
                break
            time.sleep(0.2)
        if gone:
            self._book.lose(node)
        return gone

    def _is_guilty(self, job: Job, lost: _Lost) -> bool:
        """Whether a job that was lost has been lost too often for reasons of its own."""
        self._losses[id(job)] = self._losses.get(id(job), 0) + (not lost.with_node)
        return self._losses[id(job)] >= (2 if lost.memory else _LOSSES_ALONE)

    def _met(self, number: int, answer: Any) -> None:
        """An actor has said where it is, has what it needs, or cannot do the work."""
        slot, asked = self._slots[number], self._slots[number].doing
        self._heard_from = time.monotonic()
        slot.doing = ""
        unfit = answer.get("unfit", "") if isinstance(answer, dict) else ""
        if asked == "where" and not unfit:
            slot.node, self._unmet = answer, 0
            slot.doing, slot.answer = "about", slot.actor.about.remote(self._context.device)
        elif asked == "about" and not unfit:
            unfit = self._book.meet(slot.node, answer)
            if not unfit:
                context, roots = self._context, dict(self._options.roots)
                variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
                slot.doing, slot.answer = "begin", slot.actor.begin.remote(context, roots, variables)
        elif asked == "prepare" and not unfit:
            slot.ready_for = self._stage
            if not self._book.is_checked(slot.node):
                slot.doing, slot.answer = "check", slot.actor.check.remote(list(self._options.data))
        elif asked == "check" and not unfit:
            unfit = answer
            if not unfit:
                self._book.checked(slot.node)
        if unfit:
            self._refuse(number, unfit)

    def _let_go(self, number: int) -> _Slot:
        """End an actor, which may only have been out of reach."""
        slot = self._slots.pop(number)
        with contextlib.suppress(Exception):
            self._ray.kill(slot.actor)
        self._counted = float("-inf")
        return slot

    def _refuse(self, number: int, reason: str) -> None:
        """Give a node no more work.

        Raises:
            UserError: It was the last one.
        """
        slot = self._let_go(number)
        if not slot.node:
            self._unmet, self._last_loss = self._unmet + 1, reason
            return
        self._book.refuse(slot.node, reason)
        if not any(self._options.room(one["Resources"]) for one in self._usable()):
            raise UserError(
                f"no node of the cluster can do the work. {self._book.why_refused()} What was finished is kept."
            )

    def _lose_patience(self, left: int) -> None:
        """Stop where nothing comes of a cluster.

        Raises:
            UserError: No actor has found room for `_PATIENCE_S`, or none stays.
        """
        if self._unmet >= _LOSSES_UNMET:
            raise UserError(
                f"no worker stays on the cluster at {self._options.address}: {self._unmet} in a row were lost before "
                f"they began (the last: {self._last_loss}). What was finished is kept; look at its logs ('ray logs'), "
                "and run the same command again."
            )
        if not left or any(slot.node for slot in self._slots.values()):
            self._heard_from = time.monotonic()
        elif time.monotonic() - self._heard_from > _PATIENCE_S:
            raise UserError(
                f"the cluster at {self._options.address} has had no room for a worker of {self._options.needs()} for "
                f"{_PATIENCE_S:.0f} s. What was finished is kept; give it nodes, or ask for less, and run the same "
                "command again."
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _last_line(error: Exception) -> str:
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].strip()
