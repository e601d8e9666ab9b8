"""The longest blocks are handed out first, before any of them was ever measured too."""

from harness.engine.costs import Key, attack_key, measured, score_key, seconds_of_blocks
from harness.engine.jobs import BlockJob
from harness.engine.order import longest_first
from harness.engine.stages import _expected
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


def longest_of_all_first(jobs, plan, *known):
    return longest_first(jobs, seconds_of_blocks(plan, [job.block for job in jobs], *known))


def test_the_longest_blocks_come_first(registry, suite_of):
    plan = make_plan(suite_of(SUITE), registry)
    jobs = [BlockJob(block) for block in plan.blocks({})]
    # Two images are left for the second slice; by evaluations alone the scorers are alike.
    assert [job.block.key for job in longest_of_all_first(jobs, plan, {}, "cpu", {})] == [
        job.block.key for job in (*jobs[::2], *jobs[1::2])
    ]
    slow = plan.facts[1].scorer
    paces = {}
    for fact in plan.facts:
        key = Key("score", fact.split.key, fact.scorer.key, "", 1, "cpu")
        paces[key] = measured(key, 8, 80.0 if fact.scorer == slow else 8.0)
    own = [one for one in jobs if one.block.source == slow]
    others = [one for one in jobs if one.block.source != slow]
    assert longest_of_all_first(jobs, plan, {}, "cpu", paces) == [*own, *others], "10 times 2 images is more than 8"
    known = {}
    for cell in plan.cells:  # what was measured says otherwise
        for key in (attack_key(cell, "cpu"), score_key(cell, "cpu")):
            if key is not None:
                known[key] = measured(key, 1, 1.0 if cell.source == slow else 10.0)
    assert longest_of_all_first(jobs, plan, known, "cpu", paces) == [*others, *own]
    # 10 images of each scorer: attacked twice and scored three times, once as they are.
    assert _expected(plan, jobs, known, "cpu", 2) == (50 * 1.0 + 50 * 10.0) / 2
    half = {key: cost for key, cost in known.items() if key.scorer == slow.key}
    assert _expected(plan, jobs, half, "cpu", 2) is None, "most of it has to be known"
