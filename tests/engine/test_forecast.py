"""What a plan will take on a machine: time, memory and disk, against closed forms."""

import json
import math
import re
from dataclasses import asdict, replace

import pytest

from harness.engine.costs import Amount, Cost, Key, Peak, keep_costs, loads
from harness.engine.footprint import disk_need, memory_needs
from harness.engine.forecast import (
    LEAST_ON_GPU,
    Prices,
    Recorded,
    error_on,
    estimate_page,
    forecast,
    read_recorded,
    timespan_of,
    with_machines,
)
from harness.engine.machines.pages import Machine, machine_named, write_machine, wrong_in
from harness.engine.machines.reference import machine_here
from harness.engine.run_folder import RunFolder
from harness.errors import UserError

BOX = Machine("box", "a box", "cpu", matmul=100, convolution=80, bandwidth=10, memory=16, workers=4)
GPU = Machine("gpu", "a GPU", "cuda", matmul=100_000, convolution=80_000, bandwidth=1000, memory=2, workers=2)
ATTACK = Key("attack", "small", "metric", "pgd", 1, "cpu")
COST = Cost(*vars(ATTACK).values(), items=10, seconds=30.0, cpu=20.0, pixels=10 * 64, machine="box")
RECORDED = Recorded([COST], {"box": BOX})
TEN = {ATTACK: Amount(10, 5.0)}


def on(machine, recorded=RECORDED, work=TEN, batch=1, pixels=()):
    return forecast(work, Prices(recorded, machine, BOX, dict(pixels)), batch)


def test_a_machine_twice_as_fast_takes_half_of_the_processor_time():
    assert on(BOX).seconds == on(BOX).least == on(BOX).most == 20 and on(BOX).scaled == 0
    twice = replace(BOX, id="other", matmul=200, convolution=160, bandwidth=20)
    assert (on(twice).least, on(twice).seconds, on(twice).most) == (10, 10, 10) and on(twice).scaled == 10
    lopsided = on(replace(BOX, id="other", matmul=400, convolution=80, bandwidth=5))
    assert (lopsided.least, lopsided.seconds, lopsided.most) == (5, 10, 40), "their geometric mean, between the two"
    waits = Recorded([replace(COST, cpu=1.0)], {"box": BOX})
    assert on(BOX, waits).seconds == 30, "what hardly computes goes by the clock"


def test_a_gpu_takes_its_time_for_each_evaluation_however_small():
    assert on(GPU).seconds == pytest.approx(max(20 / 1000, 10 * 5 * LEAST_ON_GPU))
    assert on(GPU, batch=5).seconds == on(GPU, batch=5).assumed == pytest.approx(10 * LEAST_ON_GPU)
    assert on(replace(GPU, matmul=800, convolution=640)).assumed == on(BOX).assumed == 0, "2.5 s of work"


def test_other_images_count_by_their_pixels_and_what_is_not_known_is_told():
    large = replace(ATTACK, split="large")
    assert on(BOX, work={large: Amount(3, 5.0)}, pixels={"large": 640.0}).seconds == pytest.approx(3 * 2 * 10)
    assert on(BOX, work={large: Amount(3, 5.0)}).unknown == 3, "of images whose size is not known"
    other = replace(large, scorer="another")
    told = on(BOX, work={other: Amount(3, 5.0), ATTACK: Amount(1, 5.0)}, pixels={"large": 640.0})
    assert (told.unknown, told.unknown_keys, told.images, told.seconds) == (3, {other}, 4, 2)
    both = Recorded([replace(COST, split="large", items=90, cpu=900.0, pixels=90 * 640), COST], {"box": BOX})
    assert on(BOX, both, pixels={"small": 64.0}).seconds == 20, (
        "what these images took counts before what more of other images did"
    )


def test_what_a_gpu_took_is_no_cost_of_this_cpu_and_counts_as_it_is_for_gpus_of_its_name():
    cuda = replace(COST, device="cuda", seconds=1.0, machine="")
    for machine in (BOX, GPU):
        assert on(machine, Recorded([cuda], {})).unknown == 10, "a node's, of which no machine is known"
    h200 = machine_named("h200 x 8", BOX)
    theirs = replace(GPU, id="cuda-1", title="NVIDIA H200")
    page = {"machine": "cuda-1", "images": 10, "of": 10, "predicted": 3.0, "spent": 2.0}
    known = Recorded([replace(cuda, machine="cuda-1"), COST], {"cuda-1": theirs, "box": BOX}, [page])
    told = on(h200, known)
    assert (told.least, told.seconds, told.most, told.scaled, told.elsewhere) == (1, 1, 1, 0, 0)
    assert error_on(known, h200).least == 0.5 and error_on(known, GPU) is None
    assert on(machine_named("h100", BOX), known).elsewhere == 10 and on(BOX, known).seconds == 20


def test_a_block_is_not_split_among_workers():
    prices = on(replace(BOX, id="other", matmul=400, convolution=80, bandwidth=5)).prices  # .5, 1 or 4 s an image
    once, twice, unknown = {(ATTACK, 5.0): 1}, {(ATTACK, 5.0): 2}, {(replace(ATTACK, scorer="another"), 1.0): 9}
    two = timespan_of([(2, once), (3, twice)], prices, 64)
    assert (two.least, two.seconds, two.most, two.longest, two.blocks) == (3, 6, 24, 6, 2), "the longest block"
    assert timespan_of([(2, once), (3, twice)], prices, 1).seconds == 2 + 6
    assert timespan_of([(images, once) for images in (3, 3, 2, 2, 2)], prices, 2).seconds == 7, "3 + 2 + 2, 3 + 2"
    assert timespan_of([(5, unknown), (1, once)], prices, 2).seconds == 1 and timespan_of([], prices, 2).seconds == 0


def test_an_estimate_is_held_against_what_was_spent():
    spent = [replace(COST, items=20, cpu=50.0, seconds=70.0), replace(COST, scorer="another", items=5)]
    page = estimate_page(spent, Prices(RECORDED, BOX, BOX, {}))
    assert page == {"machine": "box", "images": 20, "of": 25, "predicted": 40.0, "spent": 50.0}
    off = error_on(replace(RECORDED, estimates=[page, {**page, "predicted": 55.0}]), BOX)
    assert (off.runs, off.least, off.most) == (2, pytest.approx(-0.2), pytest.approx(0.1))
    assert error_on(replace(RECORDED, estimates=[page]), GPU) is None


def test_an_estimate_is_by_what_was_known_before_and_each_machine_has_its_own(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "suite.yaml").touch()
    here, store = machine_here("cpu"), RunFolder(tmp_path / "run")
    keep_costs(store, [replace(COST, machine=here.id)])  # by another shard meanwhile
    assert with_machines([COST], Recorded([], {}), store, "cpu") == [replace(COST, machine=here.id)]
    assert store.read_provenance("machines") == [asdict(here)] and store.read_provenance("estimates") == []
    before = Recorded([replace(COST, machine=here.id)], {here.id: here})
    with_machines([replace(COST, cpu=40.0)], before, store, "cpu")
    (page,) = store.read_provenance("estimates")
    assert (page["machine"], page["predicted"], page["spent"]) == (here.id, 20, 40)
    store.add_provenance("machines", [asdict(BOX)])
    twice = replace(COST, machine="box", cpu=80.0)
    assert with_machines([twice, replace(COST, machine="")], RECORDED, store, None) == [
        twice,
        replace(COST, machine=""),
    ]
    assert store.read_provenance("estimates")[1:] == [{**page, "machine": "box", "spent": 80.0}]


SUITE = """
name: measured
datasets: [toy]
metrics: [negative_mse]
attacks: [fgsm]
budgets: {linf: [4/255, 8/255]}
directions: [up]
tables: [srocc, shift]
"""


def test_what_does_not_fit_is_found_by_size(run_toy, tmp_path):
    plan = run_toy(SUITE, tmp_path / "first").plan
    work = loads(plan, plan.blocks({}), "cpu")
    recorded = read_recorded(tmp_path / "first")
    here = machine_here("cpu")
    assert {cost.machine for cost in recorded.costs} == {here.id} and recorded.machines == {here.id: here}
    assert all(cost.pixels == 16 * 16 * cost.items for cost in recorded.costs)
    (split,) = {key.split for key in work}
    peak = Peak(width=16, height=16, mib=1.0, base=300.0, rows=8)
    known = replace(recorded, costs=[replace(cost, peaks=(peak,)) for cost in recorded.costs])
    needs = memory_needs(plan, work, known, replace(BOX, memory=4 * 0.5), {split: (160, 32)})
    assert {need.what for need in needs} == {"negative_mse", "negative_mse / fgsm"}
    for need in needs:
        assert (need.mib, need.one, need.rows) == (300 + 8 * 20, 300 + 20, 8) and need.fits == 8 and not need.measured
    half = memory_needs(plan, work, known, replace(BOX, memory=4 * 360 / 1024), {split: (160, 32)})
    assert {need.fits for need in half} == {3} and memory_needs(plan, work, known, BOX, {}) == []
    none = memory_needs(plan, work, known, replace(BOX, memory=4 * 0.25), {split: (160, 32)})
    assert {need.fits for need in none} == {0}
    on_gpu = replace(peak, mib=9.0, base=10.0)
    both = replace(known, costs=[*known.costs, *(replace(c, device="cuda", peaks=(on_gpu,)) for c in known.costs)])
    assert {need.mib for need in memory_needs(plan, work, both, BOX, {split: (16, 16)})} == {300 + 8}
    assert {need.mib for need in memory_needs(plan, work, both, GPU, {split: (16, 16)})} == {10 + 8 * 9}
    disk = disk_need(plan, plan.blocks({}), work, tmp_path / "first", {})
    assert disk.rows == 3 * 20 and disk.measured and disk.examples == 0 and disk.records > 0
    assert not disk_need(plan, plan.blocks({}), work, tmp_path / "none" / "run", {}).measured
    thrice = {replace(key, draws=3): amount for key, amount in work.items()}
    assert disk_need(plan, plan.blocks({}), thrice, tmp_path / "first", {}).rows == 3 * 3 * 20


def test_both_patches_of_triplets_are_in_a_batch_but_where_one_direction_is_attacked(run_toy, tmp_path):
    text = SUITE.replace("[toy]", "[{name: toy_triplets, references: 8}]").replace("[fgsm]", "[fgsm, noise]")
    plan = run_toy(text.replace("srocc, shift", "two_afc"), tmp_path / "first").plan
    recorded = read_recorded(tmp_path / "first")
    (split,) = {cell.split.key for cell in plan.cells}
    needs = memory_needs(plan, loads(plan, plan.blocks({}), "cpu"), recorded, BOX, {split: (16, 16)})
    # A slice is of 8: scored and given noise with both patches of each, attacked up with those that are to go up.
    assert {need.what: need.rows for need in needs} == {
        "negative_mse": 16,
        "negative_mse / noise": 16,
        "negative_mse / fgsm": 8,
    }


def test_machines_by_name_and_by_page(tmp_path):
    eight = machine_named("h200 x 8", BOX)
    assert (eight.workers, eight.matmul, eight.published) == (8, 33_500, True)
    assert eight.memory_of_worker == pytest.approx(141e9 / 2**30, abs=0.1)
    assert machine_named("H200x8", BOX) == eight == machine_named("h200 × 8", BOX)
    assert machine_named("rtx4090", BOX).workers == 1 and machine_named("rtx4090x2", BOX).workers == 2
    for text, said in {
        "rtx4080": "no machine 'rtx4080' is known. Did you mean 'rtx4090'?",
        "cpu x 3.5": "'3.5' workers; should be a whole number from 1",
        "cpu x 0": "'0' workers",
        "h20 x 8": "no machine 'h20' is known. Did you mean 'h200'?",
    }.items():
        with pytest.raises(UserError, match=re.escape(said)):
            machine_named(text, BOX)
    assert machine_named("cpu", BOX) == BOX and machine_named("cpu x 2", BOX).memory_of_worker == 8
    assert machine_named("cpu x 5", BOX).memory_of_worker is None, "of cores that are not there"
    write_machine(tmp_path / "box.json", BOX)
    assert machine_named(f"{tmp_path}/box.json x 3", GPU) == replace(BOX, workers=3)
    for name in ("h200", "h100", "a100", "l40s", "l4", "v100", "t4", "rtx4090"):
        assert "https://" in machine_named(name, BOX).source
    page = json.loads((tmp_path / "box.json").read_text())
    wrong = {"memory": ("16", math.nan), "workers": (2.5, True, 0), "matmul": (-1, math.inf), "device": ("tpu",)}
    for key, values in {**wrong, "id": (7,), "published": (1,)}.items():
        for value in values:
            (tmp_path / "box.json").write_text(json.dumps({**page, key: value}))
            with pytest.raises(UserError, match=rf"box\.json: .*\({key}: should be .*, got {value!r}"):
                machine_named(f"{tmp_path}/box.json x 3", BOX)
    assert wrong_in({**page, "cores": 2}) == "there is no key 'cores'"
    assert wrong_in({"id": "box"}) == "the key 'title' is missing"


def test_plan_says_it_in_words_and_as_json(run_toy, tmp_path, toy_file, monkeypatch, capsys):
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    run_toy(SUITE, tmp_path / "first")
    (tmp_path / "suite.yaml").write_text(SUITE.replace("[4/255", "[2/255, 4/255"))

    def said(*more):
        with pytest.raises(SystemExit) as end:
            main(["plan", "suite.yaml", "--plugin", str(toy_file), "--out", "second", *more])
        assert not end.value.code
        return capsys.readouterr().out

    text = said("--machine", "h200 x 8")
    for words in (
        "on 8 x NVIDIA H200",
        "50 % of published peaks, which nobody here has measured (NVIDIA H200 Tensor Core GPU, https://",
        "Almost all of the time is the assumed 10 ms for each evaluation of a batch, a guess.",
        "No estimate there has been compared with a run yet",
        "Memory: ",
        "Disk: about ",
    ):
        assert words in text
    assert "on 8 x NVIDIA H200" in said("--machine", "h200", "x", "8")
    with pytest.raises(SystemExit):
        main(["plan", "suite.yaml", "--machine", "h200", "8"])
    assert "is one word: --machine 'h200 x 8'" in capsys.readouterr().err
    more = machine_here("cpu").workers + 1
    assert f"on {more} workers on cores of " in said("--machine", f"cpu x {more}")
    assert f"on {more} workers on {more - 1} core" in said("--workers", str(more))
    assert "(only 3 blocks: more than 3 workers gain nothing)" in said("--machine", "cpu x 64")
    page = json.loads(said("--json"))
    assert len(page["cells"]) == 4 and page["cells"][0]["slices"] == 3 and page["cost"]["not_timed"] == 0
    cost = page["cost"]
    assert {(kind["work"], kind["what"], kind["data"], kind["images"]) for kind in cost["kinds"]} == {
        ("score", "negative_mse", "toy test", 4 * 20),
        ("attack", "negative_mse / fgsm", "toy test", 3 * 20),
    }
    total = sum(kind["images"] * kind["seconds_per_image"] for kind in cost["kinds"])
    assert total == pytest.approx(cost["worker_seconds"]) and cost["blocks"] == 3
    assert page["cost"]["machine"]["id"] == machine_here("cpu").id and page["cost"]["disk"]["rows"] == 4 * 20


ABSENT = """
name: absent
datasets: [{name: csiq, split_seed: 0}, {name: csiq, split_seed: 1, split: val}]
metrics: [lpips-squeeze]
defenses: [base, {name: r, weights: nowhere}]
attacks: [fgsm]
budgets: {linf: [4/255]}
directions: [up]
"""


@pytest.fixture
def planned(tmp_path, monkeypatch, capsys):
    """`robustiqa plan` of a suite where no data and no weights are: exit code and what it printed."""
    from harness.cli import main

    for variable in ("ROBUSTIQA_DATA_DIR", "ROBUSTIQA_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)

    def plan(suite, *more):
        (tmp_path / "suite.yaml").write_text(suite)
        with pytest.raises(SystemExit) as end:
            main(["plan", "suite.yaml", "--json", *more])
        return end.value.code, capsys.readouterr()

    return plan


def test_a_suite_whose_data_and_weights_are_not_here_is_planned_with_stand_ins(planned, tmp_path):
    code, printed = planned(ABSENT)
    assert code == 2 and "--stand-ins plans it with noise and random weights in their place" in printed.err
    code, printed = planned(ABSENT, "--stand-ins")
    assert not code and "a stand-in for csiq(split_seed=1) val: 866 images of noise, 512 x 512" in printed.err
    page = json.loads(printed.out)
    own = [cell for cell in page["cells"] if "for maps" not in cell["cell"]]
    assert len(own) == 8 and {cell["slices"] for cell in own} <= {21, 22}, "6 of 30 references, of 28 or 29 images each"
    assert not (tmp_path / "results").exists()
    change = (
        "--set",
        "datasets=[live]",
        "--set",
        "metrics=[lpips-alex, lpips-squeeze]",
        "--only",
        "lpips-squeeze/fgsm",
    )
    code, printed = planned(ABSENT, "--stand-ins", *change)
    assert not code and [line.partition(" of ")[0] for line in printed.err.splitlines()] == [
        "note: a stand-in for live: 779 images",
        "note: a stand-in for lpips-squeeze: random weights",
        "note: a stand-in for r: random weights",
    ]


def test_stand_ins_hide_no_mistake(planned):
    wrong = {
        "datasets": "[{name: kadid10k, root: 5}, {name: kadid10k, bogus: 1}, {name: kadid10k, split_seed: x}]",
        "metrics": "[{label: x}, {name: dists, weights: [1]}, {name: lpips-alex, weights: lpips-alx}, "
        "{name: birqa, features: [1]}]",
        "defenses": "[{name: r}, flop]",
    }
    for options in ([], ["--stand-ins"]):
        changes = [part for key, value in wrong.items() for part in ("--set", f"{key}={value}")]
        code, printed = planned(ABSENT, *changes, *options)
        assert code == 2 and "Mend the plugin" not in printed.err
        for said in (
            "should be text, got 5",
            "'kadid10k' has no parameter 'bogus'",
            "should be a whole number, got 'x'",
            "the key 'name' is missing",
            "should be a name in the manifest or a path, got [1]",
            "no weights are called 'lpips-alx'",
            "should be 'ssim', ",
            "unknown defense 'flop'",
        ):
            assert said in printed.err, printed.err
