"""What a plan says a run will cost."""

import pytest

from harness.engine.costs import estimate, read_costs
from harness.engine.done import done_slices
from harness.engine.run_folder import RunFolder
from harness.engine.timing import time_conditions
from harness.suite.planning import make_plan

SUITE = """
name: measured
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up]
tables: [srocc, shift, pair_accuracy, two_afc]
"""


def suite(metrics="negative_mse", attacks="fgsm, noise", budgets="4/255"):
    return SUITE.format(metrics=metrics, attacks=attacks, budgets=budgets)


def test_a_plan_knows_what_earlier_runs_took(run_toy, registry, suite_of, tmp_path):
    run_toy(suite(), tmp_path / "first")
    known = read_costs(tmp_path / "second")  # a run beside it
    assert sum(cost.items for cost in known.values()) == (2 + 3) * 20, "two attacks, and scorings of three cells"
    plan = make_plan(suite_of(suite(budgets="4/255, 8/255")), registry)
    blocks = plan.blocks(done_slices(plan, RunFolder(tmp_path / "second")))
    told = estimate(plan, blocks, known, "cpu")
    assert told.images == 20 * (2 * 2 + 1 + 2 * 2) and told.unknown == 0
    attacks = sum(cost.seconds for key, cost in known.items() if key.kind == "attack")
    (scoring,) = (cost.seconds for key, cost in known.items() if key.kind == "score")
    assert told.seconds == pytest.approx(2 * attacks + 5 / 3 * scoring), "a second budget costs what the first one did"
    assert estimate(plan, blocks, known, "cuda").unknown == told.images, "another device is another matter"
    more = make_plan(suite_of(suite(attacks="fgsm, noise, pgd")), registry)
    told = estimate(more, more.blocks(done_slices(more, RunFolder(tmp_path / "second"))), known, "cpu")
    assert told.unknown == 20 and {key.kind for key in told.unknown_keys} == {"attack"}


@pytest.mark.parametrize("datasets", ["toy", "toy_triplets"])
def test_an_estimate_of_what_was_measured_is_what_it_took(run_toy, registry, suite_of, tmp_path, datasets):
    text = (
        suite()
        .replace("[toy]", f"[{datasets}]")
        .replace("attacks", "defenses: [{name: jitter, threat: adaptive, eot: 2}]\nattacks")
    )
    result = run_toy(text, tmp_path / "first")
    known = read_costs(tmp_path / "first")
    told = estimate(result.plan, result.plan.blocks({}), known, "cpu")
    assert told.unknown == 0 and told.images == sum(cost.items for cost in known.values())
    assert told.seconds == pytest.approx(sum(cost.seconds for cost in known.values()))
    other = make_plan(suite_of(text.replace("eot: 2", "eot: 9")), registry)
    assert estimate(other, other.blocks({}), known, "cpu").unknown, "more draws cost more"


def test_the_memory_of_each_image_size_is_kept_with_the_costs(run_toy, tmp_path):
    from harness.engine.costs import Key, Peak, measured, merged

    small, large = "{name: toy, references: 1}", "{name: toy, references: 1, size: 96, label: large}"
    run_toy(suite("ssim", "fgsm").replace("[toy]", f"[{small}, {large}]"), tmp_path / "first")
    costs = read_costs(tmp_path / "first")
    assert {(key.kind, one.width, one.height) for key, cost in costs.items() for one in cost.peaks} == {
        (kind, side, side) for kind in ("attack", "score") for side in (16, 96)
    }
    for cost in costs.values():
        assert cost.mib == cost.peaks[0].mib >= 0 and cost.peaks[0].base > 50 and cost.peaks[0].rows == 5
    needed = {cost.peaks[0].width: cost.mib for cost in costs.values() if cost.kind == "attack"}
    image = 3 * 96 * 96 * 4 / 2**20
    assert needed[96] > 4 * image, "an attack holds the image, its gradient, and what the metric makes of it"
    key = Key("attack", "s", "m", "a", 1, "cuda")
    peaks = [Peak(16, 16, 2.0, 300.0, 8), Peak(32, 32, 9.0, 300.0, 8), Peak(16, 16, 3.0, 310.0, 4)]
    both = merged([measured(key, 4, 1.0, peaks[:2]), measured(key, 4, 1.0, peaks[2:]), measured(key, 4, 1.0)])[key]
    assert both.peaks == (peaks[1], peaks[2]) and (both.items, both.mib) == (12, 9.0)
    assert measured(key, 4, 1.0).mib is None, "pages of before know nothing of memory"
    cpu = [merged([measured(key, 4, 1.0, cpu=0.5), measured(key, 4, 1.0, cpu=one)])[key].cpu for one in (0.25, 0.0)]
    assert cpu == [0.75, 0.0], "known where that of both is"


def test_a_damaged_page_counts_for_none_and_is_told(run_toy, registry, tmp_path):
    run_toy(suite(), tmp_path / "first")
    page = tmp_path / "first/provenance/costs.json"
    no_size = page.read_text().replace('"width": 16', '"width": 0')
    for wrong in ('[{"foo": 1}]', page.read_text().replace('"items": 20', '"items": 0'), "{", no_size):
        page.write_text(wrong)
        assert read_costs(tmp_path / "second") == read_costs(tmp_path / "first") == {}
        store = RunFolder(tmp_path / "first")
        assert store.read_provenance("costs") == [] and "provenance/costs.json" in store.soundness.damaged()


def test_what_no_run_has_measured_is_timed(registry, suite_of, tmp_path):
    plan = make_plan(suite_of(suite(attacks="fgsm, noise, learnt")), registry)
    blocks = plan.blocks(done_slices(plan, RunFolder(tmp_path / "none")))
    unknown = estimate(plan, blocks, {}, "cpu").unknown_keys
    said: list[str] = []
    timed = time_conditions(plan, registry, "cpu", unknown, said.append)
    titles = ("negative_mse", "negative_mse / fgsm", "negative_mse / noise")
    assert said == ["calibrating 1 of 1: negative_mse", *(f"timing {i} of 3: {one}" for i, one in enumerate(titles, 1))]
    assert all(cost.items == 2 * (1 if key.kind == "attack" else 3) and cost.seconds > 0 for key, cost in timed.items())
    left = estimate(plan, blocks, timed, "cpu")
    assert left.unknown == 20, "an attack that learns first is not timed"
    assert not (tmp_path / "none").exists()
