"""What an actor of a cluster does on its node: it keeps a worker process, supplies it, and takes what it wrote.

The work is done in a process below the actor, so that a plugin that brings it down is known by name and exit code, and
the loss of an actor is the loss of its node. Files are written to a folder of the actor's own, from which they are
taken as bytes: only the driver writes the run folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.engine.executors.cluster import DataCheck, DataSeen, root_here
from harness.engine.executors.parcels import Depot, Parcel, relocated
from harness.engine.executors.processes import ProcessExecutor
from harness.engine.machines.pages import MACHINES_PAGE
from harness.engine.provenance import hardware, own_code, plugin_packages, versions
from harness.engine.run_folder import RunFolder
from harness.engine.worker import Context, Done, Job
from harness.errors import UserError
from harness.files import cache_dir
from harness.plugins.weights.locate import downloads

TAKEN = ("gallery", "examples", "records")
"""Parts of a run folder that no job on a node reads again, so that they are removed once they were taken."""
STATE = ("facts", "fits", "probes", "failures")
"""Parts that jobs read which others wrote."""
_VOUCHING = ("scores.json", "samples.json")
_PREFIX, _HELD = "robustiqa-", "held"


@dataclass(frozen=True)
class Supplies:
    """What a stage of jobs needs on a node.

    Attributes:
        parcels: Plugins, weights, and whatever else jobs name.
        state: Name within the run folder -> content, of what earlier jobs wrote.
        paths: Folders of the driver that Python looks for modules in, as far as plugins need them.
        weights: The folder of the driver that fetched weights are in.
    """

    parcels: Sequence[Parcel]
    state: Mapping[str, bytes]
    paths: Sequence[Path] = ()
    weights: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a job, and what it wrote.

    Attributes:
        done: What became of it.
        files: Name within the run folder -> content in the order in which they are to be written; None for one that
            was removed.
        tree: What stands before every path of the driver in messages of this node.
    """

    done: Done
    files: Sequence[tuple[str, bytes | None]]
    tree: str


def about_this_node(device: str) -> dict[str, Any]:
    """What decides whether a node can take part, and what provenance keeps of it."""
    return {
        "host": socket.gethostname(),
        "versions": versions(device),
        "code": own_code(),
        "plugins": plugin_packages(),
        "hardware": hardware(),
    }


class Hand:
    """One actor's work.

    Args:
        context: Of the run, with the paths of the driver.
        roots: Name or label of a data set -> its folder on the nodes.
        variables: Of the environment, passed on to the process that works.
    """

    def __init__(self, context: Context, roots: Mapping[str, str], variables: Mapping[str, str]) -> None:
        os.environ.update(variables)
        self._scratch, self._held = _own_folder()
        self._tree = self._scratch / "files"
        self._depot = Depot(cache_dir() / "cluster", self._tree)
        self._folder = self._scratch / "run"
        self._context, self._roots = context, roots
        self._executor: ProcessExecutor | None = None
        self._at = ""
        self._turn = threading.Condition()
        self._current = 1
        self._withdrawn: set[int] = set()

    def prepare(self, supplies: Supplies, content_of: Callable[[Parcel], bytes]) -> None:
        """Put files into place.

        Raises:
            ValueError: A content is not the one that was announced.
        """
        self._depot.put(supplies.parcels, content_of)
        if supplies.weights is not None:  # a plugin may ask for them by name
            self._depot.put_also(supplies.weights, downloads())
        sys.path += [place for path in supplies.paths if (place := str(self._place(path))) not in sys.path]
        for name, content in supplies.state.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def check(self, data: Sequence[DataSeen]) -> dict[str, Any]:
        """What is wrong with its data sets ("unfit"; empty where nothing is), and its machine as a page, if known."""
        answer = self._done(DataCheck(tuple(data)))
        unfit = str(answer) if isinstance(answer, UserError) else "; ".join(answer.done.notices)
        return {"unfit": unfit, "machine": next(iter(RunFolder(self._folder).read_provenance(MACHINES_PAGE)), None)}

    def execute(self, job: Job, number: int) -> Answer | UserError | None:
        """Do a job when those handed out before it are done.

        Args:
            job: The job.
            number: The how many-th that this actor was handed, from 1.

        Returns:
            What became of it; a mistake of the user, since it is no fault of the node; None where it was withdrawn.
        """
        with self._turn:
            self._turn.wait_for(lambda: number == self._current or number in self._withdrawn)
            if number in self._withdrawn:
                return None
        try:
            return self._done(job)
        finally:
            with self._turn:
                self._current += 1
                while self._current in self._withdrawn:
                    self._current += 1
                self._turn.notify_all()

    def withdraw(self, number: int) -> None:
        """Take a job back that was handed out, where it has not begun."""
        with self._turn:
            if number > self._current:
                self._withdrawn.add(number)
                self._turn.notify_all()

    def leave(self) -> None:
        """Leave nothing behind on this node but contents that others may need."""
        if self._executor is not None:
            self._executor.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._held.release()

    def _done(self, job: Job) -> Answer | UserError:
        before = self._stamps()
        self._at = ""
        try:
            executor = self._executor = self._executor or ProcessExecutor(self._there(), 1)
            moved = relocated(job, self._place, lambda use: root_here(use, self._roots))
            (done,) = executor.run([moved], lambda: False, lambda number, begun: None, self._heard)
        except UserError as error:
            return error
        return Answer(done, self._taken(before), str(self._tree))

    def at(self) -> str:
        """How far the job is that is being done."""
        return self._at

    def _heard(self, number: int, text: str) -> None:
        self._at = text

    def _there(self) -> Context:
        code = {self._place(path): sha256 for path, sha256 in self._context.code.items()}
        plugins = tuple(self._place(path) for path in self._context.plugins)
        return replace(self._context, folder=self._folder, plugins=plugins, code=code)

    def _place(self, path: Path) -> Path:
        place = self._depot.place(path) if path.is_absolute() else path
        return place if place.exists() or place.parent.is_dir() else path  # published weights are called FOLDER/NAME

    def _stamps(self) -> dict[str, tuple[int, int]]:
        found = {}
        for part in (*STATE, *TAKEN):
            for folder, _, names in os.walk(self._folder / part):
                for path in (Path(folder, name) for name in names if not name.startswith(".")):
                    about = path.stat()
                    found[path.relative_to(self._folder).as_posix()] = about.st_mtime_ns, about.st_ino
        return found

    def _taken(self, before: Mapping[str, Any]) -> list[tuple[str, bytes | None]]:
        """What was written since, what vouches for others after them, and what was removed."""
        now = self._stamps()
        files: list[tuple[str, bytes | None]] = []
        for name in sorted((name for name, stamp in now.items() if before.get(name) != stamp), key=_order):
            path = self._folder / name
            files.append((name, path.read_bytes()))
            if name.partition("/")[0] in TAKEN:
                path.unlink()
        return [*files, *((name, None) for name in before if name not in now and name.startswith("failures/"))]


def _own_folder() -> tuple[Path, FileLock]:
    """A folder of this process, which it holds locked; those of processes that were killed are removed.

    Raises:
        OSError: The disk is full.
    """
    base = Path(tempfile.gettempdir())
    for other in base.glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(Timeout, OSError), FileLock(other, timeout=0):
            shutil.rmtree(other.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))  # of another name until it is held
    held = FileLock(folder / _HELD, thread_local=False)
    held.acquire()
    named = folder.rename(folder.with_name(folder.name[1:]))
    return named, held


def _order(name: str) -> tuple[int, int, str]:
    """Where a file comes in the order of writing: records last, and what names others after these."""
    part, _, rest = name.partition("/")
    last = rest.rpartition("/")[2]
    return (*STATE, *TAKEN).index(part), _VOUCHING.index(last) + 1 if last in _VOUCHING else 0, name
