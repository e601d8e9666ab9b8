"""The longest blocks are handed out first, before any of them was ever measured too."""

from itertools import accumulate
from types import SimpleNamespace

from harness.engine import order
from harness.engine.costs import attack_key, measured, score_key
from harness.engine.jobs import BlockJob, FactJob
from harness.engine.order import Paces, block_lengths, longest_first
from harness.engine.worker import Done
from harness.suite.planning import make_plan

SUITE = """
name: order
datasets: [{name: toy, references: 2, levels: 5}]
metrics: [negative_mse, linear]
attacks: [noise, {name: pgd, steps: 3}]
budgets: {linf: [4/255]}
directions: [up]
slice: 8
"""


def longest_of_all_first(jobs, *known):
    return longest_first(jobs, block_lengths(jobs, *known))


def test_the_longest_blocks_come_first(registry, suite_of, monkeypatch):
    plan = make_plan(suite_of(SUITE), registry)
    jobs = [BlockJob(block) for block in plan.blocks({})]
    paces = Paces()
    # Two images are left for the second slice; by evaluations alone the scorers are alike.
    assert [job.block.key for job in longest_of_all_first(jobs, plan, {}, "cpu", paces)] == [
        job.block.key for job in (*jobs[::2], *jobs[1::2])
    ]
    slow = plan.facts[1].scorer
    clock = accumulate(10.0 if fact.scorer == slow and step else 1.0 for fact in plan.facts for step in range(2))
    monkeypatch.setattr(order, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for fact in plan.facts:
        paces.began(FactJob(fact))
        paces.ended(Done(FactJob(fact).label, 1))
    own = [one for one in jobs if one.block.source == slow]
    others = [one for one in jobs if one.block.source != slow]
    assert longest_of_all_first(jobs, plan, {}, "cpu", paces) == [*own, *others], "10 times 2 images is more than 8"
    known = {}
    for cell in plan.cells:  # what was measured says otherwise
        for key in (attack_key(cell, "cpu"), score_key(cell, "cpu")):
            if key is not None:
                known[key] = measured(key, 1, 1.0 if cell.source == slow else 10.0)
    assert longest_of_all_first(jobs, plan, known, "cpu", paces) == [*others, *own]
