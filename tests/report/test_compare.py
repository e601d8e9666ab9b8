"""Two runs side by side, and two metrics of one."""

import io
import json

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from harness.cli import main
from harness.cli.compare import _print_metrics
from harness.errors import UserError
from harness.flow import open_folder
from harness.report.arrays import lay_out
from harness.report.compare import compare_runs
from harness.report.compare_metrics import compare_metrics
from harness.report.data import UseFacts
from harness.report.measure import srocc_rows, type_rows
from harness.report.pairing import pair_labels
from harness.report.shifts import shift_rows
from harness.statistics.levels import holm
from tests.report.test_portable import said

SUITE = """
name: toy
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up]
tables: [srocc]
verdicts: false
"""


def suite(attacks, metrics="negative_mse", budgets="8/255", more=""):
    return SUITE.format(metrics=metrics, attacks=attacks, budgets=budgets) + more


def pgd(**parameters):
    return UseFacts("pgd", parameters)


@pytest.mark.parametrize(
    ("a", "b", "pairs", "unclear"),
    [
        ({"x": pgd(steps=5)}, {"x": UseFacts("fgsm")}, {"x": "x"}, set()),  # one name is one thing
        ({"pgd5": pgd(steps=5)}, {"pgd10": pgd(steps=10)}, {"pgd5": "pgd10"}, set()),
        ({"pgd5": pgd(steps=5)}, {"fgsm": UseFacts("fgsm")}, {}, set()),
        ({"pgd5": pgd(steps=5)}, {"pgd10": pgd(steps=10), "pgd20": pgd(steps=20)}, {}, {"pgd5", "pgd10", "pgd20"}),
        (
            {f"5,{size}": pgd(steps=5, size=size) for size in (1, 2)},
            {f"10,{size}": pgd(steps=10, size=size) for size in (1, 2)},
            {"5,1": "10,1", "5,2": "10,2"},
            set(),
        ),
        ({"own": pgd(steps=10)}, {"pgd10": pgd(steps=10), "pgd20": pgd(steps=20)}, {"own": "pgd10"}, set()),
        ({"pgd(steps=5)": None}, {"pgd(steps=10)": None}, {"pgd(steps=5)": "pgd(steps=10)"}, set()),  # known by name
    ],
)  # fmt: skip
def test_labels_are_paired_where_it_is_clear_what_is_meant(a, b, pairs, unclear):
    uses = [{label: use for label, use in known.items() if use} for known in (a, b)]
    found = pair_labels(list(a), list(b), *uses)
    assert (found.of_a, set(found.unclear)) == (pairs, unclear)


def test_runs_of_other_steps_are_paired_on_shared_images_with_paired_intervals(run_toy, registry, tmp_path):
    own = "noise, fgsm, {name: pgd, steps: 1}"
    run_toy(suite(own, "negative_mse, linear", "4/255, 8/255"), tmp_path / "a")
    run_toy(suite("noise, {name: pgd, steps: 8}", more="limit: 8\n"), tmp_path / "b")
    a, b = (open_folder(tmp_path / name, registry).data for name in "ab")
    found = compare_runs(a, b)
    frame = found.rows
    assert set(frame["attack"]) == {"clean", "noise", "pgd(steps=1)"} and set(frame["eps"]) == {0, 8 / 255}
    row = frame[frame["attack"] == "pgd(steps=1)"].iloc[0]
    assert (row["attack_b"], row["differs"], row["images"]) == ("pgd(steps=8)", "steps 1 | 8", 8)
    assert (row["images_a"], row["images_b"]) == (20, 8)
    assert found.parameters.to_dict("records") == [
        {"what": "attack", "label_a": "pgd(steps=1)", "label_b": "pgd(steps=8)", "parameter": "steps",
         "value_a": "1", "value_b": "8"}
    ]  # fmt: skip
    left = {(row["side"], row["what"], row["reason"], row["conditions"]) for row in found.left_out.to_dict("records")}
    assert left == {
        ("A", "metric linear", "not in B", 7),
        ("A", "attack fgsm", "not in B", 2),
        ("A", "noise at 4/255", "not in B", 1),
        ("A", "pgd(steps=1) at 4/255", "not in B", 1),
        ("A", "12 images of toy", "not in B", 0),
    }
    records = [run.records[run.records["metric"] == "negative_mse"] for run in (a, b)]
    records = [one[(one["plugin"] == "pgd") & (one["eps"] > 0.03)].set_index("item") for one in records]
    shared = records[1].index
    change = records[1]["attacked"] - records[0].loc[shared, "attacked"]
    assert row["quality_change"] == pytest.approx(change.mean())
    expected = [scipy.stats.spearmanr(r.loc[shared, "attacked"], r.loc[shared, "opinion"]).statistic for r in records]
    assert np.allclose([row["srocc_a"], row["srocc_b"]], expected)
    assert row["quality_change_low"] <= row["quality_change"] <= row["quality_change_high"]
    clean = frame[frame["attack"] == "clean"].iloc[0]
    assert clean["quality_change"] == clean["srocc_change"] == clean["srocc_change_high"] == 0
    assert (clean["quality_change_p_adjusted"], clean["quality_change_verdict"]) == (1, "descriptive")
    differing = frame[frame["quality_change"] != 0]
    assert differing["quality_change_p_adjusted"].to_numpy() == pytest.approx(holm(differing["quality_change_p"]))
    same = compare_runs(a, a)
    assert (same.rows["quality_change"] == 0).all() and same.parameters.empty and same.left_out.empty


def test_a_parameter_that_is_told_apart_by_no_label_is_said(run_toy, registry, tmp_path):
    run_toy(suite("{name: pgd, steps: 1, label: mine}", "{name: nan_at, below: 0.0}"), tmp_path / "a")
    run_toy(suite("{name: pgd, steps: 2, step_size: 1/255, label: mine}", "{name: nan_at, below: 0.1}"), tmp_path / "b")
    found = compare_runs(*(open_folder(tmp_path / name, registry).data for name in "ab"))
    told = {(row["what"], row["parameter"]): (row["value_a"], row["value_b"]) for _, row in found.parameters.iterrows()}
    assert told[("attack", "steps")] == ("1", "2") and told[("attack", "step_size")] == ("2/255", "1/255")
    assert told[("metric", "below")] == ("0", "0.1") and set(found.rows["metric_b"]) == {"nan_at(below=0.1)"}
    assert found.rows["differs"].str.contains("metric below 0 | 0.1", regex=False).all()


@pytest.fixture(scope="module")
def psnr_ssim(run):
    return compare_metrics(run, "ssim", "psnr")


def test_labels_stay_whole_beside_the_figures_at_80_columns(run, psnr_ssim, monkeypatch):
    screen = Console(width=80, file=io.StringIO())
    monkeypatch.setattr("harness.cli.compare.console", lambda: screen)
    _print_metrics(psnr_ssim, run)
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines if line.startswith("attack ")]
    assert len(heads) == 2 and all("direction" in line for line in heads)
    under = [line.split()[:3] for line in lines if line.startswith("pgd(steps=10) ")]
    assert len(under) == len(heads) and all(line[1:] == ["up", "2/255"] for line in under)


def test_two_metrics_are_compared_by_the_figures_of_the_tables(run, psnr_ssim):
    """Shift in units of each metric's own spread and SROCC left, from records by hand; and as the tables have them."""
    rows = psnr_ssim.rows
    assert not set(rows["attack"]) & {"noise", "restore"}
    chosen = (rows["attack"] == "pgd(steps=10)") & np.isclose(rows["eps"], 8 / 255) & (rows["direction"] == "up")
    own = run.records[(run.records["dataset"] == "mini") & (run.records["defense"] == "base")]
    up = own[(own["attack"] == "pgd(steps=10)") & np.isclose(own["eps"], 8 / 255) & (own["endpoint"] == "up")]
    shifts, sroccs, by_type = {}, {}, {}
    for metric in ("ssim", "psnr"):
        one = up[up["metric"] == metric]
        sigma = one["clean"].std(ddof=0)
        shifts[metric] = (one["attacked"] - one["clean"]).mean() / sigma
        sroccs[metric] = scipy.stats.spearmanr(one["attacked"], one["opinion"]).statistic
        blurred = one[one["group"] == "blur"]
        by_type[metric] = (blurred["attacked"] - blurred["clean"]).mean() / sigma
    for figure, kind, expected in (
        ("shift_over_sigma", "all", shifts),
        ("srocc", "all", sroccs),
        ("shift_over_sigma", "blur", by_type),
    ):
        row = rows[chosen & (rows["figure"] == figure) & (rows["type"] == kind) & (rows["dataset"] == "mini")].iloc[0]
        assert (row["value_a"], row["value_b"]) == pytest.approx((expected["ssim"], expected["psnr"]))
        assert row["difference"] == pytest.approx(expected["ssim"] - expected["psnr"])
        assert row["images"] == (96 if kind == "all" else 48) and row["clusters"] == 24
    (one,) = [one for one in lay_out(run) if one.name == "mini"]
    tables = {
        "shift_over_sigma": [row | {"type": "all"} for row in shift_rows(one, run.directions)],
        "srocc": [*(row | {"type": "all"} for row in srocc_rows(one, run.directions)), *type_rows(one, run.directions)],
    }
    for figure, found in tables.items():
        known = {
            (row["type"], row["attack"], row["eps"], row["direction"], row["metric"]): row[figure]
            for row in found
            if row["defense"] == "base"
        }
        mine = rows[(rows["figure"] == figure) & (rows["dataset"] == "mini") & (rows["attack"] != "clean")]
        mine = mine if figure == "srocc" else mine[mine["type"] == "all"]
        assert len(mine) > 10
        for _, row in mine.iterrows():
            key = (row["type"], row["attack"], row["eps"], row["direction"])
            if key[:2] in (("blur", "furthest of all"), ("jpeg", "furthest of all")):
                continue  # types under it are in no table
            assert (row["value_a"], row["value_b"]) == pytest.approx((known[(*key, "ssim")], known[(*key, "psnr")]))


def test_the_error_of_the_difference_is_that_without_each_reference(run, psnr_ssim):
    """The jackknife by hand, over references that both metrics lose together."""
    own = run.records[(run.records["dataset"] == "mini") & (run.records["defense"] == "base")]
    up = own[(own["attack"] == "pgd(steps=10)") & np.isclose(own["eps"], 8 / 255) & (own["endpoint"] == "up")]

    def difference(frame):
        parts = [frame[frame["metric"] == metric] for metric in ("ssim", "psnr")]
        shift = [(one["attacked"] - one["clean"]).mean() / one["clean"].std(ddof=0) for one in parts]
        return shift[0] - shift[1]

    without = np.array([difference(up[up["reference"] != name]) for name in sorted(up["reference"].unique())])
    error = np.sqrt(23 / 24 * ((without - without.mean()) ** 2).sum())
    rows = psnr_ssim.rows
    chosen = (rows["attack"] == "pgd(steps=10)") & np.isclose(rows["eps"], 8 / 255) & (rows["direction"] == "up")
    row = rows[chosen & (rows["figure"] == "shift_over_sigma") & (rows["type"] == "all")].iloc[0]
    assert row["difference_error"] == pytest.approx(error)
    # Told of first are its own family: the furthest of all at 8/255 in both directions.
    first = rows[(rows["attack"] == "furthest of all") & np.isclose(rows["eps"], 8 / 255) & (rows["type"] == "all")]
    first = first[(first["figure"] == "shift_over_sigma") & (first["dataset"] == "mini")]
    assert len(first) == 2 and first["p_adjusted"].to_numpy() == pytest.approx(holm(first["p"]))


def test_it_is_said_which_is_harder_to_move(run, psnr_ssim):
    """Pushes of psnr were made four times those of ssim, on clean scores of equal spread."""
    up = next(one for one in psnr_ssim.sentences if one.startswith("mini, 8/255 up: ssim is harder to move"))
    row = psnr_ssim.rows.query("dataset == 'mini' and attack == 'furthest of all' and direction == 'up'")
    row = row[(row["figure"] == "shift_over_sigma") & (row["type"] == "all") & np.isclose(row["eps"], 8 / 255)].iloc[0]
    by = [-row[f"difference{end}"] for end in ("", "_high", "_low")]
    assert f"than psnr by {by[0]:.2f} [{by[1]:.2f}, {by[2]:.2f}] σ (furthest of all, 96 images)" in up
    assert row["verdict"] == "told apart" and by[0] > by[1] > 0
    turned = compare_metrics(run, "psnr", "ssim")
    assert turned.sentences[0] == up and turned.rows["difference"].to_numpy() == pytest.approx(
        -psnr_ssim.rows["difference"].to_numpy()
    )
    with pytest.raises(UserError, match=r"no metric 'sim' in this run\. Did you mean 'ssim'"):
        compare_metrics(run, "sim", "psnr")
    with pytest.raises(UserError, match="'ssim' is compared with itself"):
        compare_metrics(run, "ssim", "ssim")
    defended = compare_metrics(run, "birqa-tiny@flip", "ssim")
    assert set(defended.rows["attack"]) == {"clean"}, "oblivious attacks say nothing of robustness"
    assert {row["reason"] for row in defended.left_out.to_dict("records")} >= {"not run for A"}


def test_both_forms_on_the_command_line(run_toy, toy_file, tmp_path, capsys, monkeypatch):
    run_toy(suite("fgsm, {name: pgd, steps: 1}", "negative_mse, linear"), tmp_path / "a")
    run_toy(suite("{name: pgd, steps: 2}"), tmp_path / "b")
    run_toy(suite("fgsm", "stairs").replace("fgsm", "noise"), tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    text = said(capsys, "compare", "a", "b")
    assert "attack pgd(steps=1) | pgd(steps=2): steps 1 | 2" in text and "attack fgsm of A: not in B" in text
    page = json.loads(said(capsys, "compare", "a", "b", "--json"))
    assert (page["form"], page["a"], page["b"]) == ("runs", "a", "b") and page["rows"] and page["left_out"]
    text = said(capsys, "compare", "a", "linear", "negative_mse")
    assert "harder to move than" in text and "descriptive: 4 references are too few" in text
    assert said(capsys, "compare", "a", "--metrics", "linear", "negative_mse") == text
    page = json.loads(said(capsys, "compare", "a", "linear", "negative_mse", "--json"))
    assert page["form"] == "metrics" and {row["figure"] for row in page["rows"]} == {"srocc", "shift_over_sigma"}
    assert {row["attack.steps"] for row in page["rows"] if row["attack"].startswith("pgd")} == {1}
    forms = "'robustiqa compare RUN_A RUN_B' compares two runs, 'robustiqa compare RUN METRIC_A METRIC_B' two metrics"
    for mistake in (("a",), ("a", "linear"), ("a", "linear", "liner"), ("a", "b", "--metrics", "x", "y")):
        assert forms in said(capsys, "compare", *mistake, code=2), mistake
    assert "name two" in said(capsys, "compare", "a", "linear", code=2)
    nothing = said(capsys, "compare", "a", "c", code=2)
    assert "no condition was measured on the same images" in nothing and "metric stairs of B: not in A" in nothing
    with pytest.raises(SystemExit) as end:
        main(["compare", "a", "c", "--json"])
    page = json.loads(capsys.readouterr().out)
    assert end.value.code == 2 and page["rows"] == [] and len(page["left_out"]) == 3
