"""Jobs on a Ray cluster: one actor per core or GPU; the driver alone writes the run folder.

So no file system is shared, and where one is the same code runs. A node that is lost takes no job down with it: what
ran there is handed out again, as often as that happens; `harness.engine.executors.ray_losses` tells such losses from
those of a job that brings its actor down. `harness.engine.executors.node` is what an actor does.

While more jobs wait than there are actors, each is handed a second one, which it begins without asking the driver;
what has not begun is taken back where another actor has nothing to do, or all is to stop.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engine.executors.arrivals import keep
from harness.engine.executors.cluster import ClusterOptions
from harness.engine.executors.node import STATE, Answer, Supplies
from harness.engine.executors.node_book import NodeBook
from harness.engine.executors.parcels import Parcel, files_needed, parcel
from harness.engine.executors.processes import ProcessExecutor
from harness.engine.executors.ray_actors import ASKED_EVERY_S, Actor, GivenBack, Lost, hand_out, take_back
from harness.engine.executors.ray_connection import connected
from harness.engine.executors.ray_losses import Losses
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Done, Job
from harness.errors import UserError
from harness.files import SUITE
from harness.plugins.weights.locate import downloads

_LOSSES_UNMET = 5
"""How many actors in a row may be lost before they have said where they are."""
_NODE_HAS_DIED = ("node has died", "node died")
_WAIT_S = 1.0
_PATIENCE_S = 120.0
"""For a cluster in which no actor finds room."""
_COUNTED_EVERY_S = 5.0
_LEFT_WITHIN_S = 3.0
_PASSED_ON = ("ROBUSTIQA_MAX_PIXELS", "ROBUSTIQA_NO_PLUGINS")


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
        self._connection = connected(options.address)
        self._ray = self._connection.ray
        self._asked = workers
        self._actors: dict[int, Actor] = {}
        self._references: dict[str, Any] = {}
        self._parcels: dict[Path, Parcel] = {}
        self._stage = 0
        self._supplies: Any = None
        self._book = NodeBook(self._folder, context.device)
        self._losses = Losses(self._book.lose)
        self._unmet, self._last_loss = 0, ""
        self._heard_from = time.monotonic()
        self._alive: set[str] = set()
        self._room, self._counted, self._looked = 0, float("-inf"), float("-inf")

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
                left -= len(waiting) + self._losses.drop()
                waiting.clear()
                take_back(self._actors.values(), len(self._actors))
            self._hire(left)
            hand_out(self._actors.items(), waiting, self._stage, self._supply, began)
            for number, answer in self._answers(at):
                actor = self._actors[number]
                if isinstance(answer, Answer):
                    job = self._answered(number, began)
                    keep(self._folder, answer)
                    self._book.did(actor.node, job)
                    left -= 1
                    yield self._book.with_machine(actor.node, answer.done)
                elif answer is None and actor.job is not None:  # it gave back what it was to begin
                    waiting.appendleft(self._answered(number, began))
                elif isinstance(answer, GivenBack):
                    waiting.appendleft(answer.job)
                elif isinstance(answer, UserError):  # of its disk or its data, which others may have whole
                    waiting.extendleft(actor.jobs)
                    at(number, "")
                    self._refuse(number, str(answer).partition(". What was finished")[0])
                elif isinstance(answer, Lost):
                    waiting.extendleft(self._lost(number, answer))
                    at(number, "")
                else:
                    self._met(number, answer)
            again, guilty = self._losses.judge(self._standing()) if self._losses.is_open else ([], [])
            waiting.extendleft(again)
            for job, why in guilty:
                left -= 1
                yield job.fail(self._folder, why)
            self._lose_patience(left)
        if here and not stop():
            yield from self._done_here(here, stop, began, at)

    def close(self) -> None:
        """Let go of actors, and of the cluster."""
        with contextlib.suppress(Exception):  # of a cluster that is gone
            self._losses.judge(self._standing())
        self._have_left(list(self._actors.values()))
        for number in list(self._actors):
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

    def _standing(self) -> set[str]:
        """Ids of the nodes that Ray has not missed, as of a second ago."""
        if time.monotonic() - self._looked > _WAIT_S:
            self._looked = time.monotonic()
            self._alive = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}
        return self._alive

    def _hire(self, left: int) -> None:
        count = min(self.workers, left)
        numbers = [number for number in range(count) if number not in self._actors]
        for number in numbers[: count - len(self._actors)]:
            refused = ",".join(self._book.refused)
            selector = {"label_selector": {"ray.io/node-id": f"!in({refused})"}} if refused else {}
            memory = {"memory": self._options.memory_mib * 2**20} if self._options.memory_mib else {}
            actor = (
                self._connection.actor_class()
                .options(
                    num_cpus=self._options.cpus,
                    num_gpus=self._options.gpus,
                    max_concurrency=4,
                    max_restarts=0,
                    **memory,
                    **selector,
                )
                .remote()
            )
            self._actors[number] = Actor(actor, answer=actor.where.remote())

    def _supply(self, actor: Actor) -> None:
        actor.ask("prepare", self._supplies, self._references)

    def _answered(self, number: int, began: Callable[[int, Job], None]) -> Job:
        job = self._actors[number].answered()
        if (following := self._actors[number].job) is not None:
            began(number, following)
        return job

    def _lost(self, number: int, lost: Lost) -> list[Job]:
        """An actor is lost; what it had not begun."""
        actor = self._let_go(number)
        self._last_loss, self._looked = lost.reason, float("-inf")
        self._unmet += not actor.node and lost.alone
        if actor.node:
            self._losses.add(actor.node, lost, actor.job)
        return [job for job in (actor.next_job,) if job is not None]

    def _answers(self, at: Callable[[int, str], None]) -> Iterator[tuple[int, Any]]:
        """What came in within a second, with the number of the actor."""
        due = {actor.answer: number for number, actor in self._actors.items() if actor.doing}
        due |= {actor.next_answer: number for number, actor in self._actors.items() if actor.is_asked_back}
        self._listen(at)
        if not due:
            time.sleep(_WAIT_S / 10)
            return
        ready, others = self._ray.wait(list(due), num_returns=1, timeout=_WAIT_S)
        if ready and others:
            ready += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        for reference in ready:
            actor = self._actors.get(due[reference])
            if actor is None:  # let go since
                continue
            answer = self._got(actor, reference)
            if reference == actor.answer:
                yield due[reference], answer
            elif answer is None and (job := actor.gave_back()) is not None:
                yield due[reference], GivenBack(job)
            else:  # it is lost, which its other answer says
                actor.is_asked_back = False

    def _listen(self, at: Callable[[int, str], None]) -> None:
        """Pass on how far actors are in their jobs, and ask again."""
        told = {actor.told: number for number, actor in self._actors.items() if actor.told is not None}
        now = time.monotonic()
        for actor in self._actors.values():
            if actor.job is not None and actor.told is None and now > actor.next_asked:
                actor.told, actor.next_asked = actor.handle.at.remote(), now + ASKED_EVERY_S
        spoken = self._ray.wait(list(told), num_returns=len(told), timeout=0)[0] if told else []
        for reference in spoken:
            number = told[reference]
            self._actors[number].told = None
            with contextlib.suppress(Exception):  # that it is lost is told by what it works at
                text = self._ray.get(reference)
                if text and self._actors[number].job is not None:
                    at(number, text)

    def _got(self, actor: Actor, reference: Any) -> Any:
        """An answer, or why none will come."""
        from ray import exceptions

        try:
            return self._ray.get(reference)
        except exceptions.OutOfMemoryError as error:
            return Lost(_first_line(error), memory=True, alone=True)
        except exceptions.RayTaskError as error:
            if actor.doing == "execute":
                raise RuntimeError(str(error)) from None
            return {"unfit": _last_line(error)}
        except exceptions.RayError as error:
            with_node = any(text in str(error) for text in _NODE_HAS_DIED)
            alone = not with_node and isinstance(error, exceptions.ActorDiedError)
            return Lost(_first_line(error), with_node=with_node, alone=alone)

    def _met(self, number: int, answer: Any) -> None:
        """An actor has said where it is, has what it needs, or cannot do the work."""
        actor, asked = self._actors[number], self._actors[number].doing
        self._heard_from = time.monotonic()
        actor.doing = ""
        unfit = answer.get("unfit", "") if isinstance(answer, dict) else ""
        if asked == "where" and not unfit:
            actor.node, self._unmet = answer, 0
            actor.ask("about", self._context.device)
        elif asked == "about" and not unfit:
            unfit = self._book.meet(actor.node, answer)
            if not unfit:
                context, roots = self._context, dict(self._options.roots)
                variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
                actor.ask("begin", context, roots, variables)
        elif asked == "prepare" and not unfit:
            actor.ready_for = self._stage
            if not self._book.is_checked(actor.node):
                actor.ask("check", list(self._options.data))
        elif asked == "check" and not unfit:
            self._book.checked(actor.node, answer["machine"])
        if unfit:
            self._refuse(number, unfit)

    def _have_left(self, actors: Sequence[Actor]) -> None:
        """Have actors remove what they wrote on their nodes."""
        with contextlib.suppress(Exception):  # of a cluster that is gone
            leaving = [actor.handle.leave.remote() for actor in actors if actor.node]
            self._ray.wait(leaving, num_returns=len(leaving), timeout=_LEFT_WITHIN_S)

    def _let_go(self, number: int) -> Actor:
        """End an actor, which may only have been out of reach."""
        actor = self._actors.pop(number)
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle)
        self._counted = float("-inf")
        return actor

    def _refuse(self, number: int, reason: str) -> None:
        """Give a node no more work.

        Raises:
            UserError: It was the last one.
        """
        self._have_left([self._actors[number]])
        actor = self._let_go(number)
        if not actor.node:
            self._unmet, self._last_loss = self._unmet + 1, reason
            return
        self._book.refuse(actor.node, reason)
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
        if not left or any(actor.node for actor in self._actors.values()):
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
