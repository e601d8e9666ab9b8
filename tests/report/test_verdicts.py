"""Verdicts on gradient masking: planted masking is caught, honest metrics pass, and the plan adds what is missing."""

import json
from pathlib import Path

import pandas as pd
import pytest

from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.report.screen import Columns, Paragraph, read_screen
from harness.suite import verdict_cells
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import LocatedError, parse_text

PLUGINS = [Path(__file__).parents[1] / "toys" / name for name in ("toy.py", "masked.py", "planted.py", "surrogates.py")]
REGISTRY = Registry(PLUGINS)

PLANTED = """
name: planted
datasets: [{name: toy, references: 4, levels: 5}]
metrics: [negative_mse, linear, lbp_only, saturated, noisy]
attacks: [noise, fgsm, pgd, {name: square, queries: 60}]
budgets: {linf: [4/255, 8/255]}
directions: [up, down]
slice: 20
tables: [shift, verdicts, transfer]
verdicts: 20
"""


def suite_of(text):
    return validate(parse_text(text, "suite.yaml"), REGISTRY)


def run(text, out):
    return run_suite(suite_of(text), REGISTRY, Options(out=out, executor="serial", probe=False))


def outcomes(result, metric, **more):
    rows = [row for row in result.verdicts if row["metric"] == metric]
    rows = [row for row in rows if all(row[name] == value for name, value in more.items())]
    return {row["verdict"]: row["outcome"] for row in rows}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return run(PLANTED, tmp_path_factory.mktemp("planted") / "run")


HONEST = {
    "iterative": "pass",
    "black_box": "pass",
    "budget": "pass",
    "unbounded": "inconclusive",  # of four references with five images a share of 1 says less than .9
    "noise": "pass",
    "transfer": "pass",
    "smoothed": "pass",
    "restore": "pass",
    "grid": "pass",
    "sloped": "inconclusive",
    "foretold": "inconclusive",
    "surrogate": "not measured",
}


def test_honest_metrics_pass(planted):
    assert outcomes(planted, "negative_mse") == HONEST
    assert outcomes(planted, "linear") == HONEST


FLAT = {"black_box", "unbounded", "noise", "transfer", "restore", "sloped", "foretold"}


@pytest.mark.parametrize(
    ("metric", "caught"),
    [
        ("lbp_only", FLAT),
        ("saturated", {"unbounded", "transfer", "restore", "sloped"}),
        ("noisy", {"unbounded", "transfer", "restore", "smoothed"}),
    ],
)
def test_planted_masking_is_caught(planted, metric, caught):
    assert {name for name, outcome in outcomes(planted, metric).items() if outcome == "FAIL"} == caught


def test_the_figure_that_decided_equals_the_records(planted):
    row = next(r for r in planted.verdicts if (r["metric"], r["verdict"]) == ("lbp_only", "noise"))
    frame = planted.data.records
    frame = frame[(frame.metric == "lbp_only") & ((frame.eps - row["eps"]).abs() < 1e-9)]
    pgd = frame[(frame.attack == "pgd") & (frame.endpoint == row["direction"])].set_index("item")
    noise = frame[frame.attack == "noise"].set_index("item").loc[pgd.index]
    sign = {"up": 1, "down": -1}[row["direction"]]
    expected = sign * (pgd.attacked - noise.attacked).mean() / pgd.clean.std(ddof=0)
    assert row["figure"] == pytest.approx(expected) and row["figure_high"] < row["least"]


def test_the_report_has_them_in_every_form(planted):
    folder = planted.folder.report
    rows = json.loads((folder / "tables" / "verdicts.json").read_text(encoding="utf-8"))
    table = pd.read_csv(folder / "tables" / "verdicts.csv")
    assert len(rows) == len(table) == len(planted.verdicts) == 12 * 5
    assert [row["outcome"] for row in rows] == table["outcome"].tolist()
    assert next(row for row in rows if row["verdict"] == "surrogate")["figure"] is None
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "white-box at least black-box" in page and "would take a metric that declares a surrogate" in page
    screen = read_screen(folder / "terminal.json")
    flags = {row[0]: row[-1] for one in screen.short if isinstance(one, Columns) for row in one.parts[0].rows}
    assert flags["lbp_only"] == "suspect"
    assert any(
        "Gradients may mislead attacks on " in one.text and "lbp_only (“" in one.text
        for one in screen.short
        if isinstance(one, Paragraph)
    )
    every = [text for one in screen.full if isinstance(one, Columns) for row in one.parts[0].rows for text in row]
    assert every.count("FAIL") == [row["outcome"] for row in planted.verdicts].count("FAIL") == 7 + 4 + 4
    assert "lbp_only 100 % zero" in page and "linear 0 % zero" in page, "gradients that point nowhere are counted"


def test_cells_added_for_verdicts_show_in_no_other_table(planted):
    assert not planted.data.records["attack"].str.startswith("verdicts: ").any()
    assert planted.data.verdict_records["attack"].str.startswith("verdicts: ").all()
    for table in planted.tables:
        if table.name not in ("verdicts", "not_made"):
            assert not table.frame["attack"].astype(str).str.startswith("verdicts: ").any()


SMALL = PLANTED.replace("[negative_mse, linear, lbp_only, saturated, noisy]", "[linear]")
SMALL = SMALL.replace(", {name: square, queries: 60}", "").replace("[shift, verdicts", "[verdicts")


@pytest.mark.parametrize(
    ("metric", "stands_in"),
    [
        ("psnr", False),
        ("{name: psnr, luma: uint8}", True),
        ("ssim-matlab", True),
        ("{name: birqa-tiny, weights: random}", True),
        ("{name: folds, weights: random, folds: 2}", True),
        ("{name: folds, weights: random, folds: 2, metric: lpips-alex}", False),
    ],
)
def test_bpda_is_added_where_a_gradient_is_not_the_scores_and_there_is_another(metric, stands_in):
    suite = suite_of(SMALL.replace("[linear]", f"[{metric}]"))
    added = {use.name for use, _, _ in verdict_cells.added_attacks(suite, REGISTRY, suite.metrics[0])}
    assert ("bpda" in added) == stands_in


def test_the_plan_adds_cells_once_on_the_first_samples_and_runs_them_once(tmp_path):
    text = SMALL.replace("slice: 20", "slice: 4").replace("verdicts: 20", "verdicts: 6")
    plan = make_plan(suite_of(text), REGISTRY)
    plain = make_plan(suite_of(text.replace("verdicts: 6", "verdicts: true")), REGISTRY)
    own = [cell for cell in plan.cells if not cell.for_verdicts]
    assert own == list(plain.cells), "what the suite asks for is the same without them"
    added = {(cell.attack.name, cell.endpoint, round(255 * cell.eps)) for cell in plan.cells if cell.for_verdicts}
    names = ("square", "smoothed", "pgd_on_grid", "pgd_traced", "pgd")
    assert added == {(name, way, 8) for name in names for way in ("up", "down")} | {
        ("pgd", "up", 255), ("pgd", "down", 255), ("restore", "", 8), ("noise", "", 0)
    }  # fmt: skip
    twins = {cell.source.label for cell in plan.cells if cell.for_verdicts and cell.threat == "transfer"}
    assert twins == {"verdicts: psnr", "verdicts: ssim", "verdicts: gmsd"}
    small = make_plan(suite_of(text.replace("levels: 5", "levels: 5, size: 10")), REGISTRY).cells
    fitting = {cell.source.label for cell in small if cell.for_verdicts and cell.threat == "transfer"}
    assert fitting == twins - {"verdicts: ssim"}, "ssim asks for 11 px"
    assert {probe.metric.label for probe in plan.probes} == {"linear"}, "twins are not probed"
    assert {plan.slices_of(cell) for cell in plan.cells if cell.for_verdicts} == {2}
    assert {plan.slices_of(cell) for cell in own} == {5}
    first = run(text, tmp_path / "run")
    assert first.data.verdict_records["sample"].nunique() == 6
    assert {row["images"] for row in first.verdicts if row["verdict"] == "unbounded"} == {6}
    assert {row["images"] for row in first.verdicts if row["verdict"] == "iterative"} == {20}, "the suite's own decide"
    assert run(text, tmp_path / "run").blocks == 0
    more = run(text.replace("verdicts: 6", "verdicts: 12"), tmp_path / "run")
    assert more.blocks == 1 + 3 and more.data.verdict_records["sample"].nunique() == 12


def test_noise_says_nothing_of_images_that_are_almost_their_references(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict_cells, "UNBOUNDED", {"steps": 1, "step_size": 1.0, "start": "zero"})  # most of the time
    monkeypatch.setattr(verdict_cells, "QUERIES", 20)
    text = SMALL.replace("[linear]", "[psnr]").replace("levels: 5", "first: 0, levels: 3").replace("20", "16")
    result = run(text.replace("[up, down]", "[down]"), tmp_path / "run")  # up the toy leads to references off the grid
    hair = result.data.verdict_records.query("attack == 'verdicts: noise' and eps < 1e-3")
    assert (hair.clean - hair.attacked).max() > 30, "dB, of an image that is its reference"
    grid = next(row for row in result.verdicts if row["verdict"] == "grid")
    assert grid["outcome"] == "pass", (grid["against"], grid["direction"], grid["figure"], grid["attack"])


def test_without_added_cells_the_free_ones_are_decided_and_the_others_say_what_they_take(tmp_path):
    result = run(SMALL.replace("verdicts: 20", "limit: 10"), tmp_path / "run")
    found = outcomes(result, "linear")
    assert "FAIL" not in found.values()
    assert {name for name, outcome in found.items() if outcome != "not measured"} == {
        "iterative",
        "budget",
        "noise",
        "grid",
        "sloped",
    }
    needs = {row["verdict"]: row["needs"] for row in result.verdicts if row["needs"]}
    assert set(needs) == {"black_box", "unbounded", "transfer", "smoothed", "restore", "foretold", "surrogate"}
    assert needs["unbounded"] == "verdicts: n" and "transfer: all" in needs["transfer"]
    assert run(SMALL.replace("verdicts: 20", "limit: 10\nverdicts: false"), tmp_path / "none").verdicts == []


def test_transfers_and_defenses(tmp_path):
    text = SMALL.replace("[linear]", "[linear, negative_mse, rounded]").replace("verdicts: 20", "transfer: all")
    text = text.replace("references: 4, levels: 5", "references: 10, levels: 2")
    text += "defenses: [base, jitter, {name: rounding, threat: adaptive}]\n"
    suite = suite_of(text)
    assert len(suite.transfer) == 6 and ("linear", "rounded") in suite.transfer
    result = run(text, tmp_path / "run")
    assert outcomes(result, "linear", defense="base")["transfer"] == "pass"
    assert outcomes(result, "rounded", defense="base")["transfer"] == "FAIL", "negative_mse has the gradient it lacks"
    assert outcomes(result, "linear", defense="rounding")["iterative"] == "pass"
    oblivious = [r for r in result.verdicts if (r["metric"], r["defense"]) == ("linear", "jitter")]
    assert {row["outcome"] for row in oblivious} == {"not measured"} and "adaptive" in oblivious[0]["needs"]
    matrix = next(table for table in result.tables if table.name == "transfer")
    assert matrix.compact.header == ("attacked", "attack", "direction", "linear", "negative_mse", "rounded")
    assert {row[0] for row in matrix.compact.rows} == {"linear", "negative_mse", "rounded"}


def test_a_metric_without_gradient_is_held_to_queries_controls_and_twins(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict_cells, "QUERIES", 60)
    text = SMALL.replace("[linear]", "[stairs]").replace("[noise, fgsm, pgd]", "[noise]")
    text = text.replace("references: 4, levels: 5", "references: 10, levels: 2")
    plan = make_plan(suite_of(text), REGISTRY)
    added = {(cell.attack.name, cell.threat) for cell in plan.cells if cell.for_verdicts}
    assert added == {("square", "none"), ("restore", "none"), ("noise", "none"), ("pgd", "transfer")}
    result = run(text, tmp_path / "run")
    found = outcomes(result, "stairs")
    assert {name for name, outcome in found.items() if outcome != "not measured"} == {
        "noise",
        "transfer",
        "restore",
        "grid",
    }
    assert found["noise"] != "FAIL" and found["restore"] == "FAIL", "a few queries do not find the reference"
    needs = {row["verdict"]: row["needs"] for row in result.verdicts}
    assert "differentiable" in needs["iterative"] and "differentiable" in needs["foretold"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("verdicts: 0", "verdicts: should be true, false, or a number of samples of at least 1, got 0."),
        ("verdicts: some", "should be true, false, or a number of samples of at least 1, got 'some'."),
        ("transfer: every", "should be a list"),
    ],
)
def test_bad_values(line, message):
    with pytest.raises(LocatedError, match=r"suite\.yaml:") as caught:
        suite_of(SMALL.replace("verdicts: 20", line))
    assert len(caught.value.lines) == 1 and message in caught.value.lines[0]


def test_cells_for_a_table_that_is_not_asked_for_are_refused():
    with pytest.raises(LocatedError, match="its cells are for a table that is not asked for"):
        suite_of(SMALL.replace("[verdicts, transfer]", "[shift]"))


def test_exclusions_hold_for_added_cells():
    excluded = make_plan(suite_of(SMALL + "exclude: [{attack: pgd, eps: 4/255}, {attack: fgsm}]\n"), REGISTRY)
    assert any(cell.for_verdicts for cell in excluded.cells)
    assert not any(cell.attack and cell.attack.name == "fgsm" for cell in excluded.cells)


CAUGHT = {
    "psnr": set(),
    "birqa-tiny": set(),
    "constant_off_grid": {"sloped"},
    "mse_backward": {"foretold"},
    "surrogate_rounded": {"surrogate", "sloped"},
}


def test_on_real_photographs_honest_metrics_are_not_suspected_and_masked_ones_are(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict_cells, "UNBOUNDED", {"steps": 1, "step_size": 1.0, "start": "zero"})  # most of the time
    text = f"""
name: real
datasets: [{{name: mini_crops, split: test}}]
metrics: [{", ".join(CAUGHT)}]
attacks: [fgsm, pgd, {{name: square, queries: 20}}, {{name: smoothed, copies: 1}}]
budgets: {{linf: [8/255]}}
directions: [down]
limit: 4
slice: 4
tables: [verdicts]
verdicts: 4
"""
    result = run(text, tmp_path / "run")
    for metric, caught in CAUGHT.items():  # four photographs seldom make an interval that is all below the bar
        rows = [row for row in result.verdicts if row["metric"] == metric and row["verdict"] != "unbounded"]
        below = {row["verdict"] for row in rows if row["figure"] < row["least"] and row["outcome"] != "pass"}
        failed = {row["verdict"] for row in rows if row["outcome"] == "FAIL"}
        assert below >= caught and (caught or not failed), (metric, below, failed)
