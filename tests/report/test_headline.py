"""The headline: its figures are those of the tables, its ranks what was planted, its flags the verdicts'."""

import dataclasses

import pytest

from harness.report.arrays import lay_out
from harness.report.build import build_tables
from harness.report.headline import EVERY_DIRECTION, Ball, headlines


@pytest.fixture(scope="module")
def heads(run):
    return headlines(run, lay_out(run))


def test_figures_are_those_of_the_tables(run, heads):
    tables = build_tables(dataclasses.replace(run, tables=["srocc", "shift", "two_afc", "verdicts", "ranks"]))
    frames = {table.name: table.frame for table in tables if table.dataset == "mini" or table.name == "two_afc"}
    pairs, triplets = heads
    assert (pairs.statistic, triplets.statistic) == ("SROCC", "2AFC accuracy") and pairs.labels_kind == "proxy"
    assert (
        pairs.directions == ("up", "mos_split")
        and len(pairs.budgets) == 4
        and pairs.first.eps == pytest.approx(8 / 255)
    )
    compared = 0
    for row in pairs.rows:
        own = {name: one[(one.metric == row.metric) & (one.threat == row.threat)] for name, one in frames.items()}
        for (ball, way), found in row.at.items():
            if way == EVERY_DIRECTION:
                assert found.left.value == min(row.at[ball, one].left.value for one in pairs.directions)
                assert found.direction == "mos_split"
                continue
            at = {name: one[(one.direction == way) & ((one.eps - ball.eps).abs() < 1e-8)] for name, one in own.items()}
            lowest = at["srocc"][at["srocc"].attack == "lowest SROCC of all"].iloc[0]
            assert (found.left.value, found.left.low, found.left.high) == pytest.approx(
                (lowest.srocc, lowest.srocc_low, lowest.srocc_high)
            )
            assert (row.clean.value, row.clean.low) == pytest.approx((lowest.clean_srocc, lowest.clean_srocc_low))
            excess = at["shift"][at["shift"].attack.isin(["fgsm", "pgd(steps=10)"])]
            best = excess.loc[excess.excess_over_own_control.idxmax()]
            assert found.excess.low == pytest.approx(best.excess_over_own_control_low)
            assert found.excess_attack == best.attack == "pgd(steps=10)"
            controls = own["srocc"][own["srocc"].control & ((own["srocc"].eps - ball.eps).abs() < 1e-8)].srocc
            assert found.controls[0] <= controls.min() and found.controls[1] >= controls.max()
            assert found.controls[0] == pytest.approx(min(controls.min(), found.honest.value))
            compared += 1
        outcomes = set(own["verdicts"].outcome)
        worst = "suspect" if "FAIL" in outcomes else "open" if "inconclusive" in outcomes else "clean"
        assert row.masking.verdict == ("not judged" if outcomes == {"not measured"} else worst)
    assert compared == 32
    accuracy = frames["two_afc"]
    kept = accuracy[(accuracy.attacked == "both") & (accuracy.kind == "hard") & (accuracy.subset == "all")]
    for row in triplets.rows:
        for (ball, _), found in row.at.items():
            own = kept[(kept.metric == row.metric) & ((kept.eps - ball.eps).abs() < 1e-8)]
            assert found.left.value == pytest.approx(own.accuracy.min())
            assert row.clean.high == pytest.approx(own.clean_accuracy_high.iloc[0])


def test_order_and_ranks_are_what_was_planted(heads, run, make_run):
    first = (Ball("linf", heads[0].first.eps), EVERY_DIRECTION)
    told = [(row.label, row.at[first].rank) for row in heads[0].rows]
    assert told == [
        ("ssim", (1, 1)),
        ("birqa-tiny", (2, 2)),
        ("psnr", (3, 3)),
        ("birqa-tiny + flip (oblivious)", None),
    ]
    # A copy of a metric cannot be told from it: they share a bracket, and what is worse than both comes third.
    own = run.records
    twin = own[(own.metric == "ssim")].assign(metric="twin", source="twin")
    records = type(own)(own[own.metric != "psnr"].to_dict("records") + twin.to_dict("records"))
    data = dataclasses.replace(run, records=records, verdicts=False)
    (head, _) = headlines(data, lay_out(data, 200))
    ranks = {row.label: row.at[first].rank for row in head.rows}
    assert ranks == {"ssim": (1, 2), "twin": (1, 2), "birqa-tiny": (3, 3), "birqa-tiny + flip (oblivious)": None}
    assert {row.masking.verdict for row in head.rows} == {"not judged"}
    few = make_run(images=28, references=7, triplets=False)
    (head,) = headlines(few, lay_out(few, 200))
    assert head.descriptive and {found.rank for row in head.rows for found in row.at.values()} == {None}
