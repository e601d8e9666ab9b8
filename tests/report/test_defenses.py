"""The table of defenses, the honest reference and the worst of draws, against loops over the records."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from harness.report.build import build_tables
from harness.report.grouped import mean_by_item
from harness.report.render import markdown
from harness.report.worst import favoured_draw

EPS = 8 / 255
PGD = "pgd(steps=10)"


def threatened(run, strength=1.5):
    """The run at one budget with attacks through the defense, so many times as strong as those on the bare metric."""
    records = run.records[(run.records.eps == 0) | (run.records.eps == EPS)]
    added = records[records.defense == "flip"].copy()
    added["threat"] = "adaptive"
    pushed = added.endpoint.isin(["up", "down"])
    change = added.attacked - added.clean
    added.loc[pushed, "attacked"] = added.clean + strength * change
    return dataclasses.replace(run, records=pd.concat([records, added], ignore_index=True))


def table_of(data, name="defenses", dataset="mini"):
    return next(one for one in build_tables(dataclasses.replace(data, tables=[name])) if one.dataset == dataset)


def row_of(table, **wanted):
    frame = table.frame[(table.frame["eps"] - EPS).abs() < 1e-9]
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def grid(data, attack, sign, metric="birqa-tiny", defense="flip", threat="adaptive", value="attacked"):
    """A column of the records as [draws, items]."""
    r = data.records
    r = r[(r.dataset == "mini") & (r.metric == metric) & (r.defense == defense) & (r.threat == threat)]
    r = r[(r.attack == attack) & (r.sign == sign) & ((r.eps - EPS).abs() < 1e-9)]
    return r.pivot(index="draw", columns="item", values=value).to_numpy()


def pair_accuracy(opinion, better, worse):
    """Over all ordered pairs, one by one."""
    credits = [
        float(better[i] > worse[j]) + 0.5 * float(better[i] == worse[j])
        for i in range(len(opinion))
        for j in range(len(opinion))
        if opinion[i] > opinion[j]
    ]
    return np.mean(credits)


@pytest.fixture(scope="module")
def data(make_run):
    return threatened(make_run(images=48, references=12, triplets=False))


@pytest.fixture(scope="module")
def table(data):
    return table_of(data)


@pytest.fixture(scope="module")
def opinion(data):
    return grid(data, "restore", 0, value="opinion")[0]


def test_who_asks_again_has_of_each_image_the_best_draw(data, table, opinion):
    up, down = grid(data, PGD, 1), grid(data, PGD, -1)
    row = row_of(table, figure="robust pair accuracy", attack=PGD, threat="adaptive")
    each = [pair_accuracy(opinion, *both) for both in zip(down, up, strict=True)]
    assert row.value == pytest.approx(np.mean(each)) and row.value_draw_sd == pytest.approx(np.std(each, ddof=1))
    assert row.value_worst == pytest.approx(pair_accuracy(opinion, down.min(axis=0), up.max(axis=0)))
    assert row.value_worst < min(each) and row.value_worst_low < row.value_worst < row.value_worst_high
    raised = opinion <= opinion.mean()
    row = row_of(table, figure="SROCC mos_split", attack=PGD, threat="adaptive")
    picked = np.where(raised, up.max(axis=0), down.min(axis=0))
    assert row.value_worst == pytest.approx(spearmanr(picked, opinion).statistic)
    shift = row_of(table_of(data, "shift"), metric="birqa-tiny", attack=PGD, threat="adaptive", direction="up")
    clean = grid(data, PGD, 1, value="clean").mean(axis=0)
    assert shift.shift_over_sigma_worst == pytest.approx((up.max(axis=0) - clean).mean() / clean.std())
    base = row_of(table, figure="robust pair accuracy", attack=PGD, defense="base")
    assert np.isnan(base.value_worst), "one draw is no choice"


def test_the_best_draw_is_told_by_where_it_leads_and_not_by_where_it_starts():
    clean, attacked = np.array([[0.0, 0.5], [1.0, 0.5]]), np.array([[0.6, 0.1], [1.2, 0.3]])
    picked, gained = favoured_draw(np.array([[1.0, -1.0], [1.0, -1.0]]), attacked, clean)
    assert picked.tolist() == [[1.2, 0.1]]
    np.testing.assert_allclose(gained, [[0.7, 0.4]])


def test_beside_every_robust_figure_stands_that_of_restore_and_noise(data, table, opinion):
    restored, noised = grid(data, "restore", 0), grid(data, "noise", 0)
    expected = np.mean([pair_accuracy(opinion, *both) for both in zip(noised, restored, strict=True)])
    row = row_of(table, figure="robust pair accuracy", attack=PGD, threat="adaptive")
    assert row.honest == pytest.approx(expected) and row.honest > row.value
    clean = grid(data, "noise", 0, value="clean")
    sensitivity = [(a - c).mean() / c.std() for a, c in zip(noised, clean, strict=True)]
    assert row.noise_over_sigma == pytest.approx(np.mean(sensitivity)) and row.noise_over_sigma < 0
    raised = opinion <= opinion.mean()
    split = np.mean(
        [spearmanr(np.where(raised, *both), opinion).statistic for both in zip(restored, noised, strict=True)]
    )
    assert row_of(table, figure="SROCC mos_split", attack=PGD, threat="adaptive").honest == pytest.approx(split)
    point = row_of(table_of(data, "frontier"), kind="point", attack=PGD, defense="flip")
    assert point.honest == pytest.approx(expected) and point.accuracy == row.value
    pairs = row_of(table_of(data, "pair_accuracy"), metric="birqa-tiny", threat="adaptive", attack="honest reference")
    assert pairs.accuracy == pytest.approx(expected) and pairs.attacked == "both"
    without = dataclasses.replace(data, records=data.records[data.records.attack != "noise"])
    lacking = table_of(without)
    assert lacking.frame["honest"].isna().all() and any("No honest reference" in note for note in lacking.notes)


def test_of_a_correlation_the_worst_is_no_higher_than_any_draw(data):
    """The draw that moved each image furthest may keep the order that a single draw has lost."""
    records = data.records.copy()
    one = (records.threat == "adaptive") & (records.attack == PGD) & (records.sign == 1) & (records.dataset == "mini")
    ahead = one & (records.draw == 0)
    records.loc[ahead, "attacked"] = 0.5 - 0.1 * records.loc[ahead, "opinion"]
    records.loc[one & (records.draw == 1), "attacked"] = 1.0 + records.loc[one & (records.draw == 1), "opinion"]
    changed = dataclasses.replace(data, records=records, directions=("up",))
    row = row_of(table_of(changed), figure="SROCC up", attack=PGD, threat="adaptive")
    assert (row.value, row.value_worst) == pytest.approx((0, -1))


@pytest.mark.parametrize(("strength", "outcome"), [(None, "pass"), (0.5, "FAIL")])
def test_the_verdict_holds_both_threats_against_each_other(data, table, make_run, strength, outcome):
    if strength:
        data = threatened(make_run(images=48, references=12, triplets=False), strength)
        table = table_of(data)
    row = row_of(table, figure="adaptive − oblivious, σ, down", attack=PGD)
    clean = grid(data, PGD, -1, value="clean").mean(axis=0)
    through, bare = (grid(data, PGD, -1, threat=threat).mean(axis=0) for threat in ("adaptive", "oblivious"))
    assert row.value == pytest.approx((bare - through).mean() / clean.std())
    assert row.least == pytest.approx(-0.02 - 0.1 * abs((clean - bare).mean() / clean.std()))
    assert row.outcome == outcome and row.value_low < row.value < row.value_high
    (note,) = (note for note in table.notes if note.startswith("Adaptive at least as strong"))
    assert f"birqa-tiny + flip {outcome}" in note
    assert ("more EOT draws, or gradients that mislead" in note) == (outcome == "FAIL")


def test_what_a_stranger_reads(data, table, make_run):
    text = markdown(table)
    assert "oblivious: not a robustness claim" in text and "worst of 2" in text and "may ask again" in text
    assert set(table.frame["metric"]) == {"birqa-tiny"}, "a metric without a defense has nothing to compare"
    assert max(len(" ".join(row)) for row in table.compact.rows) < 100
    none = dataclasses.replace(make_run(images=48, references=12, defense=False, triplets=False), tables=["defenses"])
    assert [one.name for one in build_tables(none)] == ["not_made"]


def test_patches_of_a_randomised_defense(make_run):
    """Two draws of triplets: who asks again lowers the preferred patch and raises the other, hit or not."""
    run = make_run(images=24, references=12, defense=False)
    triplets = run.records[(run.records.dataset == "mini_2afc") & (run.records.metric == "ssim")]
    drawn, noise = [], np.random.default_rng(0).normal(0, 0.05, (2, len(triplets)))
    for draw in (0, 1):
        one = triplets.assign(defense="flip", threat="adaptive", draw=draw)
        shift = one["item"].map(dict(zip(one["item"].unique(), noise[draw], strict=False)))
        drawn.append(one.assign(clean=one.clean + shift, attacked=one.attacked + shift))
    data = dataclasses.replace(run, records=pd.concat([triplets, *drawn], ignore_index=True))
    row = row_of(table_of(data, dataset="mini_2afc"), attack=PGD, threat="adaptive", figure="2AFC accuracy")
    r = pd.concat(drawn)
    r = r[(r.attack == PGD) & ((r.eps - EPS).abs() < 1e-9) & (r.judge != 0.5)]
    ends = r.groupby(["sample", "patch"]).agg(low=("attacked", "min"), high=("attacked", "max"), judge=("judge", "max"))
    p0, p1 = (ends.xs(patch, level="patch") for patch in ("p0", "p1"))
    expected = np.where(p0.judge > 0.5, p1.low > p0.high, p0.low > p1.high).mean()
    assert row.value_worst == pytest.approx(expected) and row.value_worst <= row.value
    restored, noised = (
        pd.concat(drawn).query(f"attack == '{name}' and judge != 0.5 and {EPS - 1e-9} < eps < {EPS + 1e-9}")
        for name in ("restore", "noise")
    )
    key = ["draw", "sample", "patch"]
    up, down = (one.set_index(key)["attacked"].unstack("patch") for one in (restored, noised))
    judge = restored.set_index(key)["judge"].unstack("patch")["p0"]
    assert row.honest == pytest.approx(np.where(judge > 0.5, down.p1 > up.p0, down.p0 > up.p1).mean())


def test_of_several_draws_of_an_item_the_mean_counts():
    found = mean_by_item(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 2, -1]), 3)
    assert np.array_equal(found, [2.0, np.nan, 5.0], equal_nan=True)
