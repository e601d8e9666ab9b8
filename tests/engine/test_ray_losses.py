"""Whose fault a lost job is: a node that goes, however late Ray misses it, fails no job; a job that kills does."""

from types import SimpleNamespace

from harness.engine.executors.ray_actors import Lost
from harness.engine.executors.ray_losses import LOSSES_ALONE, STANDS_AFTER_S, Losses

UNAVAILABLE = Lost("the actor is temporarily unavailable")


def test_nodes_that_are_missed_late_fail_no_job_and_are_told_once():
    gone, now, job = [], [0.0], SimpleNamespace(id="block")
    losses = Losses(gone.append, lambda: now[0])
    for number in range(LOSSES_ALONE):
        losses.add(f"node{number}", UNAVAILABLE, job)
        again, guilty = losses.judge({f"node{n}" for n in range(LOSSES_ALONE)})
        assert not guilty and again == ([job] if number < LOSSES_ALONE - 1 else [])  # the last is kept back
    now[0] = STANDS_AFTER_S - 1
    assert losses.judge({"node1", "node2"}) == ([job], [])
    assert gone == ["node0", "node3", "node4"]
    losses.add("node1", Lost("its node has died", with_node=True), job)
    assert losses.judge({"node2"}) == ([job], []) and gone[3:] == ["node1", "node1"]


def test_a_job_that_kills_its_actor_while_the_node_stands_is_at_fault():
    now, job, other = [0.0], SimpleNamespace(id="block"), SimpleNamespace(id="other")
    losses = Losses(lambda node: None, lambda: now[0])
    for _ in range(LOSSES_ALONE):
        losses.add("node", UNAVAILABLE, job)
        losses.judge({"node"})
    losses.add("node", UNAVAILABLE, other)
    now[0] = STANDS_AFTER_S
    assert losses.judge({"node"}) == ([other], [(job, f"its worker was lost 5 times: {UNAVAILABLE.reason}")])
    assert not losses.is_open
    for count in (1, 2):
        losses.add("node", Lost("killed", memory=True), third := SimpleNamespace(id="third"))
        again, guilty = losses.judge({"node"})
        assert (again, len(guilty)) == (([third], 0) if count == 1 else ([], 1))
