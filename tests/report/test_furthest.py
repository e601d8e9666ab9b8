"""The furthest of all attacks and controls, the transfer matrix and adequacy, against loops over the records."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from harness.report.arrays import FURTHEST, LOWEST_SROCC
from harness.report.build import build_tables
from harness.report.data import AttackFacts

EPS = 8 / 255
PGD = "pgd(steps=10)"


def rows_of(run, metric, attack, sign, defense="base"):
    r = run.records
    kept = r[(r.dataset == "mini") & (r.metric == metric) & (r.defense == defense) & (r.attack == attack)]
    kept = kept[(kept.sign == sign) & ((kept.eps - EPS).abs() < 1e-9) & (kept.threat != "transfer")]
    return kept.set_index(["draw", "item"]).sort_index()


def table_of(data, name):
    return next(table for table in build_tables(dataclasses.replace(data, tables=[name])) if table.dataset == "mini")


def row_of(table, **wanted):
    frame = table.frame[(table.frame["eps"] - EPS).abs() < 1e-9]
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def outside(records):
    """The records with controls that leave the ball, so that attacks alone compete."""
    records = records.copy()
    records.loc[records.control.astype(bool), ["linf", "l2"]] = 1.0
    return records


@pytest.fixture(scope="module")
def crossed(run):
    """Half of the images are moved further by fgsm than by pgd."""
    records = outside(run.records)
    strong = (records.attack == "fgsm") & records["item"].str[-1].isin(list("02468"))
    for name in ("attacked", "attacked_8bit"):
        change = records.loc[strong, name] - records.loc[strong, "clean"]
        records.loc[strong, name] = records.loc[strong, "clean"] + 3 * change
    return dataclasses.replace(run, records=records)


def test_the_furthest_is_that_of_the_strongest_attack_image_by_image(crossed):
    up = [rows_of(crossed, "psnr", attack, 1) for attack in ("fgsm", PGD)]
    furthest = np.maximum(up[0].attacked, up[1].attacked)
    assert 0.3 < (furthest == up[0].attacked).mean() < 0.7
    shift, srocc = table_of(crossed, "shift"), table_of(crossed, "srocc")
    row = row_of(shift, metric="psnr", attack=FURTHEST, direction="up")
    assert row.shift_over_sigma == pytest.approx((furthest - up[0].clean).mean() / up[0].clean.std(ddof=0))
    assert row.forwards == up[0].forwards.mean() + up[1].forwards.mean(), "all attacks had to be run"
    row = row_of(srocc, metric="psnr", attack=FURTHEST, direction="up")
    assert row.srocc == pytest.approx(spearmanr(furthest, up[0].opinion).statistic)
    down = np.minimum(*(rows_of(crossed, "psnr", attack, -1).attacked for attack in ("fgsm", PGD)))
    pairs = up[0].opinion.to_numpy()[:, None] > up[0].opinion.to_numpy()[None, :]
    row = row_of(table_of(crossed, "pair_accuracy"), metric="psnr", attack=FURTHEST, attacked="both")
    assert row.accuracy == pytest.approx((down.to_numpy()[:, None] > furthest.to_numpy()[None, :])[pairs].mean())


def test_controls_compete_where_they_lie_inside_the_ball(crossed):
    """Restore raises the images of even number further than any attack; of those divisible by four it leaves the ball."""
    records = crossed.records.copy()
    number = records["item"].str.extract(r"(\d+)")[0].astype(int)
    at = (records.dataset == "mini") & ((records.eps - EPS).abs() < 1e-9) & (records.attack == "restore")
    records.loc[at & (number % 2 == 0), "attacked"] = records.clean + 9.0
    records.loc[at, "linf"] = np.where(number[at] % 4 == 0, EPS + 1e-4, EPS + 1e-8)
    data = dataclasses.replace(crossed, records=records)
    attacked = np.maximum(*(rows_of(data, "psnr", attack, 1).attacked for attack in ("fgsm", PGD)))
    restored = rows_of(data, "psnr", "restore", 0)
    wins = (restored.linf <= EPS + 1e-6) & (restored.attacked > attacked)
    assert 20 <= wins.sum() <= 24
    best = np.where(wins, restored.attacked, attacked)
    row = row_of(table_of(data, "shift"), metric="psnr", attack=FURTHEST, direction="up")
    assert row.shift_over_sigma == pytest.approx((best - restored.clean).mean() / restored.clean.std(ddof=0))
    assert row.forwards == 22, "controls cost nothing"


def test_ranks_have_their_own_worst(crossed):
    """The lowest SROCC of the attacks and the furthest of all, in every resample anew."""
    srocc = table_of(crossed, "srocc")
    for direction in ("up", "mos_split"):
        row = row_of(srocc, metric="psnr", attack=LOWEST_SROCC, direction=direction)
        each = [row_of(srocc, metric="psnr", attack=attack, direction=direction) for attack in ("fgsm", PGD, FURTHEST)]
        assert row.srocc == min(one.srocc for one in each) and np.isnan(row.shift_over_sigma)
        assert row.srocc_high <= min(one.srocc_high for one in each) + 1e-12
    attacks = table_of(crossed, "attacks")
    line = row_of(attacks, metric="psnr", attack=LOWEST_SROCC, direction="up")
    assert line.srocc == row_of(srocc, metric="psnr", attack=LOWEST_SROCC, direction="up").srocc
    assert np.isnan(line.forwards) and np.isnan(line.accuracy)
    assert "lowest SROCC of all = " in srocc.protocol


def test_the_furthest_chooses_one_attack_for_all_draws(crossed):
    both = [rows_of(crossed, "birqa-tiny", attack, 1, "flip") for attack in ("fgsm", PGD)]
    pushed = [(one.attacked - one.clean).groupby("item").mean() for one in both]
    first = (pushed[0] >= pushed[1]).reindex(both[0].index.get_level_values("item")).to_numpy()
    moved = np.where(first, both[0].attacked - both[0].clean, both[1].attacked - both[1].clean)
    expected = [
        moved[both[0].index.get_level_values("draw") == draw].mean() / both[0].clean.loc[draw].std(ddof=0)
        for draw in (0, 1)
    ]
    row = row_of(table_of(crossed, "shift"), metric="birqa-tiny", defense="flip", attack=FURTHEST, direction="up")
    assert row.shift_over_sigma == pytest.approx(np.mean(expected))


def test_the_furthest_of_two_stays_off_the_terminal_and_of_one_does_not_exist(run):
    shift = table_of(run, "shift")
    assert any(row[1] == FURTHEST for row in shift.full.rows)
    assert not any(row[1].startswith("furthest") for row in shift.compact.rows)
    third = run.records[run.records.attack == "fgsm"].assign(attack="third")
    three = table_of(dataclasses.replace(run, records=pd.concat([run.records, third])), "shift")
    assert any(row[1] == "furthest" for row in three.compact.rows)
    alone = dataclasses.replace(run, records=run.records[run.records.attack != "fgsm"])
    assert FURTHEST not in set(table_of(alone, "shift").frame.attack)
    assert "furthest" not in table_of(alone, "shift").protocol and "furthest of all =" in shift.protocol


def test_the_furthest_of_a_failed_attack_fails(run):
    r = run.records
    lost = (r.metric == "psnr") & (r.attack == "fgsm") & (r.sign == 1) & ((r.eps - EPS).abs() < 1e-9)
    partial = dataclasses.replace(run, records=r[~(lost & r["item"].str.endswith("5"))])
    shift = table_of(partial, "shift")
    assert row_of(shift, metric="psnr", attack=FURTHEST, direction="up").state == "failed"
    assert row_of(shift, metric="psnr", attack=PGD, direction="up").state == "ok"


def test_the_transfer_matrix_equals_the_records(run):
    r = run.records[(run.records.dataset == "mini") & (run.records.defense == "base")]
    moved = r[(r.metric == "ssim")].assign(source="psnr", threat="transfer")
    moved["attacked"] = moved.clean + 0.25 * (moved.attacked - moved.clean)
    data = dataclasses.replace(run, records=pd.concat([run.records, moved]))
    table = table_of(data, "transfer")
    row = row_of(table, source="psnr", metric="ssim", attack=PGD, direction="up")
    direct = rows_of(run, "ssim", PGD, 1)
    expected = 0.25 * (direct.attacked - direct.clean).mean() / direct.clean.std(ddof=0)
    assert row.shift_over_sigma == pytest.approx(expected) and row.shift_over_sigma_low < expected
    assert table.full.header == ("attacked", "attack", "direction", "ε", "psnr", "ssim")
    line = next(row for row in table.full.rows if row[:4] == ("psnr", PGD, "up", "8/255"))
    assert line[5].startswith(f"+{expected:.2f}")
    own = row_of(table, source="psnr", metric="psnr", attack=PGD, direction="up")
    assert line[4].startswith(f"+{own.shift_over_sigma:.2f}"), "the direct attack stands beside"
    assert "transfer = attacked on another metric" in table.protocol
    assert [one for one in build_tables(dataclasses.replace(run, tables=["transfer"])) if one.name == "transfer"] == []


def test_adequacy_flags_where_doubling_still_gains(run):
    facts = {"fgsm": AttackFacts("pgd", {"steps": 5}, True), PGD: AttackFacts("pgd", {"steps": 10}, True)}
    table = table_of(dataclasses.replace(run, attacks=facts), "adequacy")
    row = row_of(table, metric="psnr", value=10, direction="up")
    five, ten = (rows_of(run, "psnr", attack, 1) for attack in ("fgsm", PGD))
    sigma = ten.clean.std(ddof=0)
    assert row.gain == pytest.approx((ten.attacked - five.attacked).mean() / sigma) and row.since == 5
    assert row.allowed == pytest.approx(0.02 + 0.05 * row.shift_over_sigma)
    assert row.plateau == "NO" and row.gain_low > row.allowed
    line = next(row for row in table.full.rows if row[:4] == ("psnr", "pgd: steps", "up", "8/255"))
    assert {row[2] for row in table.compact.rows} == {"10/255"}, "the terminal has the largest budget alone"
    assert line[6] == "NO" and line[4].startswith("5: +")


def test_adequacy_sees_a_plateau_and_a_step_that_is_no_doubling(run):
    records = run.records.copy()
    ten, five = records.attack == PGD, records.attack == "fgsm"
    records.loc[five, "attacked"] = records.loc[ten, "attacked"].to_numpy()
    facts = {"fgsm": AttackFacts("pgd", {"steps": 5}, True), PGD: AttackFacts("pgd", {"steps": 10}, True)}
    flat = table_of(dataclasses.replace(run, records=records, attacks=facts), "adequacy")
    assert row_of(flat, metric="psnr", value=10, direction="up").plateau == "yes"
    facts["fgsm"] = AttackFacts("pgd", {"steps": 8}, True)
    near = table_of(dataclasses.replace(run, attacks=facts), "adequacy")
    assert row_of(near, metric="psnr", value=10, direction="up").plateau == ""
    facts["fgsm"] = AttackFacts("pgd", {"steps": 8, "restarts": 2}, True)
    facts[PGD] = AttackFacts("pgd", {"steps": 10, "restarts": 1}, True)
    apart = table_of(dataclasses.replace(run, attacks=facts), "adequacy")
    assert set(apart.frame.effort) == {""} and set(apart.frame.plateau) == {""}, "two things differ: no series"


def test_adequacy_holds_every_attack_against_the_best_image_known(run):
    """Of any attack, control, transfer, smaller budget or cell added for verdicts that the metric scored in the ball."""
    records = outside(run.records)
    number = records["item"].str.extract(r"(\d+)")[0].astype(int)
    mini = (records.dataset == "mini") & (records.metric == "psnr") & (records.defense == "base")
    large, small = (mini & ((records.eps - eps).abs() < 1e-9) for eps in (EPS, 4 / 255))
    raised = pd.Series(records.clean, index=records.index)
    records.loc[small & (records.attack == "fgsm") & (records.sign == 1) & (number % 4 == 0), "attacked"] = raised + 5
    inside = large & (records.attack == "restore") & (number % 4 == 1)
    records.loc[inside, ["attacked", "linf"]] = np.column_stack([raised[inside] + 6, np.full(inside.sum(), EPS)])
    transfer = records[large & (records.attack == PGD) & (records.sign == 1) & (number % 4 == 2)]
    transfer = transfer.assign(threat="transfer", source="ssim", attacked=transfer.clean + 7)
    added = records[large & (records.attack == PGD) & (records.sign == 1) & (number % 4 == 3)]
    added = added.assign(attack="verdicts: pgd", attacked=added.clean + 8)
    data = dataclasses.replace(run, records=pd.concat([records, transfer]), verdict_records=added)
    row = row_of(table_of(data, "adequacy"), metric="psnr", attack=PGD, direction="up", defense="base")
    pgd = rows_of(run, "psnr", PGD, 1)
    best = np.array([5.0, 6.0, 7.0, 8.0])[pgd.index.get_level_values("item").str.extract(r"(\d+)")[0].astype(int) % 4]
    push = (pgd.attacked - pgd.clean).to_numpy()
    assert row.best_over_sigma == pytest.approx(best.mean() / pgd.clean.std(ddof=0))
    assert row.share == pytest.approx(push.mean() / best.mean()) and row.adequate == "NO"
    whole = row_of(
        table_of(dataclasses.replace(run, records=outside(run.records)), "adequacy"),
        metric="ssim",
        attack=PGD,
        direction="up",
    )
    assert whole.share > 0.95 and whole.adequate in ("yes", "open")
