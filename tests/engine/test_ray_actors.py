"""Who is handed what on a cluster: a second job while many wait, taken back where somebody has nothing to do."""

from collections import deque

import pytest

from harness.engine.executors.ray_actors import Actor, hand_out, take_back
from harness.engine.executors.ray_address import RayAddress
from harness.errors import UserError


class Handle:
    """An actor that notes its calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, method):
        noted = self.calls

        class Call:
            @staticmethod
            def remote(*arguments):
                noted.append((method, *arguments))
                return (method, *arguments)

        return Call


def actors(count):
    return {number: Actor(Handle(), ready_for=1, doing="") for number in range(count)}


@pytest.mark.parametrize("port", ["0", "65536", "99999", "head"])
def test_a_port_that_is_none(port):
    assert RayAddress.of("head:65535").port == 65535
    with pytest.raises(UserError, match=f"'{port}' is no port, which is a whole number from 1 to 65535"):
        RayAddress.of(f"ray://head:{port}")


def test_a_second_job_while_more_wait_than_there_are_actors():
    pool, waiting, begun = actors(2), deque("abcdef"), []
    give = lambda: hand_out(pool.items(), waiting, 1, None, lambda number, job: begun.append((number, job)))  # noqa: E731
    give()
    assert begun == [(0, "a"), (1, "b")]
    assert [actor.jobs for actor in pool.values()] == [["c", "a"], ["d", "b"]] and list(waiting) == ["e", "f"]
    assert pool[0].answered() == "a" and pool[0].job == "c"
    give()
    assert pool[0].jobs == ["c"]  # two wait, and two actors will come for them
    assert pool[0].handle.calls == [("execute", "a", 1), ("execute", "c", 2)]
    pool[0].answered()
    give()
    assert pool[0].job == "e" and list(waiting) == ["f"]


def test_what_has_not_begun_is_taken_back_by_who_has_nothing_to_do():
    pool, waiting = actors(3), deque()
    for number in (0, 1):
        pool[number].take("long")
        pool[number].take("next")
    for _ in range(2):  # one is idle, so one is asked, once
        hand_out(pool.items(), waiting, 1, None, None)
    assert pool[0].handle.calls[2:] == [("withdraw", 2)] and not pool[1].is_asked_back
    assert pool[0].gave_back() == "next" and pool[0].jobs == ["long"] and not pool[0].is_asked_back
    take_back(pool.values(), 2)
    assert len(pool[0].handle.calls) == 3 and pool[1].is_asked_back


def test_files_come_before_jobs():
    pool, supplied = actors(1), []
    hand_out(pool.items(), deque("a"), 2, supplied.append, None)
    assert supplied == [pool[0]] and not pool[0].jobs
