import dataclasses

import pandas as pd
import pytest

from harness.plugins.weights.locate import read_manifest, trained_on, zoo
from harness.report.data import Failure
from harness.report.layouts import cells_of
from harness.report.layouts.cells import tables_of
from harness.report.layouts.files import lay_out_run


@pytest.fixture(scope="module")
def small(make_run):
    run = make_run(24, 12)
    kept = run.records["attack"].isin(["clean", "noise", "fgsm"]) & (
        (run.records["eps"] == 0) | (run.records["eps"] == 8 / 255)
    )
    run = dataclasses.replace(run, records=run.records[kept & (run.records["dataset"] == "mini")], directions=["up"])
    told = {"trainings": {"flip": ("aat", "flip")}, "trained_on": {"birqa-tiny@aat": "mini"}}
    return dataclasses.replace(run, **told, made={"metric": {"psnr": "psnr(luma=True)"}})


def test_cells_are_the_figures_of_the_tables_with_what_they_are_of(small):
    cells = cells_of(small, "run", ["srocc", "pair_accuracy", "delta_srocc"])
    frames = {table.name: table.frame for table in tables_of(small, ["srocc", "pair_accuracy", "delta_srocc"])}
    found = {tuple(sorted(cell.at.items())): cell for cell in cells}
    assert len(found) == len(cells)

    def the(**at):
        whole = {
            "dataset": "mini",
            "metric": "psnr",
            "training": "base",
            "defense": "none",
            "threat": "none",
            "subset": "all",
        }
        return found[tuple(sorted((name, value) for name, value in {**whole, **at}.items() if value))]

    row = frames["srocc"].query(
        "metric == 'psnr' and attack == 'fgsm' and direction == 'up' and eps > 0.03 and eps < 0.032"
    )
    at = {"attack": "fgsm", "direction": "up", "norm": "linf", "budget": "8/255"}
    cell = the(statistic="srocc", **at)
    assert (cell.value, cell.low, cell.high) == tuple(row.iloc[0][["srocc", "srocc_low", "srocc_high"]])
    assert cell.run == "run" and cell.protocol.startswith("Protocol: mini") and cell.facts["labels"] == "proxy"
    assert cell.made == {"metric": "psnr(luma=True)"} and cell.facts["limit"] == "96"
    assert the(statistic="srocc", attack="none").value == row.iloc[0]["clean_srocc"]
    assert the(statistic="pair_accuracy", **{**at, "direction": "pair"}).state == "ok"
    assert the(statistic="srocc", **{**at, "attack": "noise", "direction": "control"}).value <= 1

    less = {"statistic": "delta_srocc", "attack": "none", "threat": ""}
    one, other = the(**less, against="ssim"), the(**less, metric="ssim", against="psnr")
    pair = frames["ranks"].query(
        "kind == 'contrast' and condition == 'clean' and name in ('psnr', 'ssim') and against in ('psnr', 'ssim')"
    )
    assert {one.value, other.value} == {pair.iloc[0]["difference"], -pair.iloc[0]["difference"]}
    assert (one.low, one.high) == (-other.high, -other.low)

    trained = [cell.at for cell in cells if cell.at.get("training") == "aat"]
    assert {at["defense"] for at in trained} == {"flip"} and {at["trained_on"] for at in trained} == {"mini"}


def test_facts_are_what_a_cell_depends_on(small, make_run):
    told = {}
    for run in (small, make_run(24, 12)):
        for cell in cells_of(run, "run", ["srocc", "ir_score", "accuracy"]):
            told[cell.at["statistic"], cell.at["attack"], cell.at["metric"]] = cell.facts
    assert "precision" not in told["srocc", "none", "psnr"] and told["srocc", "fgsm", "psnr"]["precision"] == "fp32"
    attacked = {name: facts for name, facts in told.items() if name[1] != "none"}
    assert {name[0] for name, facts in attacked.items() if "which" in facts} == {"accuracy"}
    assert "rule trapezoid" in told["ir_score", "fgsm", "psnr"]["ir_score"]
    weights = told["srocc", "none", "birqa-tiny"]["weights of birqa-tiny for mini"]
    assert weights == small.weights["birqa-tiny"] and "weights of psnr for mini" not in told["srocc", "none", "psnr"]


def test_a_table_that_counts_no_images_says_nothing_of_them(small, monkeypatch):
    frame = pd.DataFrame([{"statistic": "fps", "value": 15.0, "dataset": "mini", "metric": "psnr"}])
    own = dataclasses.replace(tables_of(small, ["forwards"])[0], name="speed", frame=frame)
    monkeypatch.setattr("harness.report.layouts.cells.tables_of", lambda *_: [own])
    (cell,) = cells_of(small, "run", ["fps"])
    assert "images" not in cell.facts and cell.facts["split"] == "test"


def test_a_failed_cell_says_what_went_wrong(small):
    records = small.records[~((small.records["metric"] == "ssim") & (small.records["attack"] == "fgsm"))]
    failure = Failure("mini / ssim / fgsm up eps 8/255", "i000", "out of memory")
    cells = cells_of(dataclasses.replace(small, records=records, failures=[failure]), "run", ["pair_accuracy"])
    assert all(cell.value == cell.value for cell in cells if cell.state == "ok")
    ssim = [cell for cell in cells if cell.at["metric"] == "ssim" and cell.at["attack"] == "fgsm"]
    assert {cell.state for cell in ssim} <= {"failed", "missing"}
    assert all(cell.why for cell in ssim)


def test_a_metric_without_records_is_missing_and_not_unasked(small):
    records = small.records[small.records["metric"] != "ssim"]
    expected = [("mini", name, "base", "none", name) for name in ("psnr", "ssim")]
    failure = Failure("mini / ssim / clean", "i000", "out of memory")
    for failures, told in (([], "not run"), ([failure], "failed: out of memory")):
        run = dataclasses.replace(small, records=records, expected=expected, failures=failures)
        ssim = [cell for cell in cells_of(run, "run", ["pair_accuracy"]) if cell.at["metric"] == "ssim"]
        assert {cell.at["attack"] for cell in ssim} == {"none", "fgsm"}
        assert {(cell.state, cell.why) for cell in ssim} == {("failed", told)}


def test_a_table_of_ones_own_brings_its_statistics(small, monkeypatch):
    frame = pd.DataFrame([{"statistic": "fps", "value": 15.0, "dataset": "mini", "metric": "psnr"},
                          {"statistic": "fps", "value": float("nan"), "dataset": "mini", "metric": "ssim"}])  # fmt: skip
    own = dataclasses.replace(tables_of(small, ["forwards"])[0], name="speed", frame=frame)
    monkeypatch.setattr("harness.report.layouts.cells.tables_of", lambda *_: [own])
    fps = {cell.at["metric"]: (cell.value, cell.state, cell.why) for cell in cells_of(small, "run", ["fps"])}
    assert fps["psnr"] == (15.0, "ok", "") and fps["ssim"][1:] == ("missing", "has no value here")


def test_a_layout_that_cannot_be_filled_does_not_take_the_others_along(small, layout):
    text = "{{name: {0}, rows: {{metric: '*'}}, columns: {{statistic: [forwards]}}, where: {{attack: fgsm, dataset: {1}}}}}"
    specs = [layout(text.format(*one)) for one in (("good", "mini"), ("bad", "kadid10k"))]
    small = dataclasses.replace(small, records=small.records[small.records["metric"] == "psnr"])
    grids, errors = lay_out_run(specs, small, "run", {"dataset": ["kadid10k"]})
    assert [grid.name for grid in grids] == ["good"] and grids[0].panels[0].lines[0].labels == ("psnr",)
    assert "the run has no metric of attack fgsm, dataset kadid10k" in str(errors[0])


def test_what_shipped_weights_were_trained_on():
    entry = read_manifest()["birqa-tiny@aat"]
    assert trained_on(zoo() / entry["file"], entry["sha256"]) == "mini"
    assert trained_on(zoo() / entry["file"], "0" * 64) == ""
