"""The connection to a Ray cluster, without what Ray prints of its own."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from harness.engine.executors.ray_address import RayAddress, in_one_line
from harness.errors import UserError

_AHEAD: dict[str, Future[Connection]] = {}
"""Address -> a connection that is being made, and that nobody has taken yet."""


@contextlib.contextmanager
def connected_ahead(address: str) -> Iterator[None]:
    """A cluster of this machine alone is begun while the command still imports and plans, and ended while it reports.

    If nobody takes it, it is ended at once. Its processes end with the thread that began them, as Linux has it, so that
    thread stays while this lasts.

    Args:
        address: As of `Connection`; a cluster that is there already is joined when it is needed.
    """
    if address != "local":
        yield
        return
    with ThreadPoolExecutor(1, "connected-ahead") as thread:
        coming = _AHEAD[address] = thread.submit(Connection, address, thread)
        try:
            yield
        finally:
            if _AHEAD.pop(address, None) is not None and coming.exception() is None:
                coming.result().close()


def connected(address: str) -> Connection:
    """The connection that was made ahead, or one that is made now.

    Raises:
        UserError: As of `Connection`.
    """
    coming = _AHEAD.pop(address, None)
    return Connection(address) if coming is None else coming.result()


class Connection:
    """Ray, connected; a connection that was there already is used and left.

    Args:
        address: As `harness.engine.executors.cluster.ClusterOptions.address`.
        thread: Where it is closed; None for the thread that says so.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, thread: ThreadPoolExecutor | None = None) -> None:
        try:
            import ray
            from ray import is_initialized  # a folder of that name has none
        except ImportError:
            raise UserError("--executor ray: Ray is not installed. Run: pip install 'robustiqa[ray]'") from None
        self.ray: Any = ray
        self._ours, self._thread = not is_initialized(), thread
        self._actor_class: Any = None
        if self._ours:
            with _answer_to_sigterm_kept():
                _connect(ray, address)

    def actor_class(self) -> Any:
        """What actors are made of."""
        if self._actor_class is None:
            self._actor_class = self.ray.remote(_door())
        return self._actor_class

    def close(self) -> None:
        """Leave the cluster, or end the one that was begun."""
        if self._ours and self._thread is not None:
            self._thread.submit(self.ray.shutdown)
        elif self._ours:
            with contextlib.suppress(Exception):
                self.ray.shutdown()


def _connect(ray: Any, asked: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    _hush(ray)
    address = asked
    if asked == "local":
        options["include_dashboard"] = False
    else:
        found = RayAddress.of(asked)
        found.reach()
        address = str(found)
    try:
        with _in_groups_of_their_own():
            ray.init(address=address, **options)
    except (OSError, TimeoutError, RuntimeError, ValueError, AssertionError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        what = "no cluster can be begun here" if asked == "local" else "the cluster there cannot be joined"
        raise UserError(f"--ray-address {asked}: {what} ({in_one_line(cause)}).") from None


def _hush(ray: Any) -> None:
    """Keep Ray from printing what it hears of nodes and workers: what matters of it is said here once."""
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if worker is not None:
        worker.listen_error_messages = lambda worker, threads_stopped: None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of actors let go while asked
    for name in ("ray", "ray.util.client"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def _in_groups_of_their_own() -> Iterator[None]:
    """Begin Ray's processes outside of the driver's group, to which 'timeout' and terminals send signals.

    Otherwise they would end at once while the driver finishes what has begun; so they end with it, which Linux sees to.
    """
    try:
        from ray._private import services

        theirs: Any = services.ConsolePopen
    except (ImportError, AttributeError):
        theirs = None
    if theirs is None or sys.platform != "linux":
        yield
        return
    services.ConsolePopen = functools.partial(theirs, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = theirs


@contextlib.contextmanager
def _answer_to_sigterm_kept() -> Any:
    """Ray answers SIGTERM with an exit; ours is a Ctrl-C."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if ours else None
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)


def _door() -> type:
    """The class of an actor; it needs nothing of robustiqa until it has said whether that is there."""

    class Door:
        def __init__(self) -> None:
            self._hand: Any = None

        def where(self) -> str:
            import ray

            return str(ray.get_runtime_context().get_node_id())

        def about(self, device: str) -> dict[str, Any]:
            import socket

            try:
                from harness.engine.executors.node import about_this_node

                return about_this_node(device)
            except Exception as error:
                return {"host": socket.gethostname(), "missing": f"{type(error).__name__}: {error}"}

        def begin(self, *arguments: Any) -> None:
            from harness.engine.executors.node import Hand

            self._hand = Hand(*arguments)

        def prepare(self, supplies: Any, references: Any) -> None:
            import ray

            self._hand.prepare(supplies, lambda one: bytes(ray.get(references[one.sha256])))

        def check(self, data: Any) -> Any:
            return self._hand.check(data)

        def execute(self, job: Any, number: int) -> Any:
            return self._hand.execute(job, number)

        def withdraw(self, number: int) -> None:
            self._hand.withdraw(number)

        def leave(self) -> None:
            if self._hand is not None:
                self._hand.leave()

        def at(self) -> str:
            return self._hand.at() if self._hand is not None else ""

    return Door
