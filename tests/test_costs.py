"""What a plan says a run will cost."""

from harness.costs import estimate, read_costs, time_unknown
from harness.plan import make_plan
from harness.run import pending_jobs
from harness.store import RunFolder

SUITE = """
name: measured
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up]
"""


def suite(metrics="negative_mse", attacks="fgsm, noise", budgets="4/255"):
    return SUITE.format(metrics=metrics, attacks=attacks, budgets=budgets)


def test_a_plan_knows_what_earlier_runs_took(run_toy, registry, suite_of, tmp_path):
    run_toy(suite(), tmp_path / "first")
    known = read_costs(tmp_path / "second")  # a run beside it
    assert sum(cost.items for cost in known.values()) == 3 * 20
    recorded = sum(cost.seconds for cost in known.values())
    plan = make_plan(suite_of(suite(budgets="4/255, 8/255")), registry)
    blocks = pending_jobs(plan, RunFolder(tmp_path / "second"))["blocks"]
    told = estimate(plan, blocks, known, "cpu")
    assert told.images == 20 * (1 + 2 + 2) and told.unknown == 0
    assert recorded < told.seconds <= 2 * recorded, "a second budget costs what the first one did"
    assert estimate(plan, blocks, known, "cuda").unknown == told.images, "another device is another matter"
    more = make_plan(suite_of(suite(attacks="fgsm, noise, pgd")), registry)
    told = estimate(more, pending_jobs(more, RunFolder(tmp_path / "second"))["blocks"], known, "cpu")
    assert told.unknown == 20


def test_what_no_run_has_measured_is_timed(registry, suite_of, tmp_path):
    plan = make_plan(suite_of(suite()), registry)
    blocks = pending_jobs(plan, RunFolder(tmp_path / "none"))["blocks"]
    unknown = estimate(plan, blocks, {}, "cpu").unknown_keys
    timed = time_unknown(plan, registry, "cpu", unknown)
    assert timed.keys() == unknown and all(cost.items == 2 and cost.seconds > 0 for cost in timed.values())
    assert estimate(plan, blocks, timed, "cpu").unknown == 0
    assert not (tmp_path / "none").exists()
