import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from harness.report.arrays import FURTHEST
from harness.report.build import build_tables
from harness.report.data import Failure
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.suite.cell_names import cell_name
from harness.wording import budget_text, number, short_names

EPS = 8 / 255
PGD = "pgd(steps=10)"
UNFINISHED = (
    "failed: not finished. Some slices have no records yet, and no figure is made of a part: run the suite again."
)


@pytest.fixture(scope="module")
def tables(run):
    return {(table.name, table.dataset): table for table in build_tables(run)}


def cell(run, metric="birqa-tiny", attack=PGD, sign=1, defense="base", draw=0, dataset="mini"):
    """The raw records of one cell, by item."""
    r = run.records
    kept = r[(r.dataset == dataset) & (r.metric == metric) & (r.defense == defense) & (r.attack == attack)]
    kept = kept[(kept.sign == sign) & (kept.draw == draw) & ((kept.eps - EPS).abs() < 1e-9)]
    return kept.set_index("item").sort_index()


def only(frame, **wanted):
    for name, value in wanted.items():
        frame = frame[(frame[name] - value).abs() < 1e-6 if name == "eps" else frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def line(layout, *starts):
    (row,) = [row for row in layout.rows if row[: len(starts)] == starts]
    return dict(zip(layout.header, row, strict=True))


def test_srocc_equals_scipy_on_the_records(run, tables):
    frame = tables["srocc", "mini"].frame
    up, down = cell(run), cell(run, sign=-1)
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, direction="up")
    assert row.srocc == pytest.approx(spearmanr(up.attacked, up.opinion).statistic)
    assert row.clean_srocc == pytest.approx(spearmanr(up.clean, up.opinion).statistic)
    assert row.change == pytest.approx(row.srocc - row.clean_srocc)
    assert row.low < row.srocc < row.high if "low" in row else row.srocc_low < row.srocc < row.srocc_high
    mixed = np.where(up.opinion <= run.datasets["mini"].mean_opinion, up.attacked, down.attacked)
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, direction="mos_split")
    assert row.srocc == pytest.approx(spearmanr(mixed, up.opinion).statistic)


def test_shift_and_excess_equal_the_records(run, tables):
    frame = tables["shift", "mini"].frame
    up, restore, noise = cell(run), cell(run, attack="restore", sign=0), cell(run, attack="noise", sign=0)
    sigma = up.clean.std(ddof=0)
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, direction="up")
    assert row.shift_over_sigma == pytest.approx((up.attacked - up.clean).mean() / sigma)
    assert row.shift_over_sigma_8bit == pytest.approx((up.attacked_8bit - up.clean).mean() / sigma)
    assert row.excess_over_restore == pytest.approx((up.attacked - restore.attacked).mean() / sigma)
    assert row.restore_over_sigma == pytest.approx((restore.attacked - restore.clean).mean() / sigma)
    assert row.noise_over_sigma == pytest.approx((noise.attacked - noise.clean).mean() / sigma)
    assert math.isnan(row.excess_over_noise)
    assert row.milliseconds == pytest.approx(20) and row.forwards == 11

    low = up.opinion <= run.datasets["mini"].mean_opinion
    down = cell(run, sign=-1)
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, direction="mos_split")
    assert row.excess_over_restore == pytest.approx((up.attacked - restore.attacked)[low].mean() / sigma)
    assert row.excess_over_noise == pytest.approx((noise.attacked - down.attacked)[~low].mean() / sigma)
    fgsm = only(frame, metric="psnr", attack="fgsm", eps=EPS, direction="up")
    assert fgsm.start_share == pytest.approx(10 / 96)


def test_draws_are_averaged_and_their_spread_is_shown(run, tables):
    row = only(tables["srocc", "mini"].frame, defense="flip", attack=PGD, eps=EPS, direction="up")
    each = [
        spearmanr(one.attacked, one.opinion).statistic
        for one in (cell(run, defense="flip", draw=0), cell(run, defense="flip", draw=1))
    ]
    assert row.draws == 2
    assert row.srocc == pytest.approx(np.mean(each))
    assert row.srocc_draw_sd == pytest.approx(np.std(each, ddof=1))
    shown = line(tables["srocc", "mini"].full, "birqa-tiny + flip (oblivious)", PGD, "up")
    assert "draw sd" in shown["ε 8/255"]


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_robust_pair_accuracy_equals_a_loop(run, margin):
    up, down = cell(run), cell(run, sign=-1)
    y, low, high, clean = (one.to_numpy() for one in (up.opinion, down.attacked, up.attacked, up.clean))
    pairs = y[:, None] > y[None, :] + margin
    (table,) = build_tables(dataclasses.replace(run, tables=["pair_accuracy"], margin=margin))
    assert (
        ("differ by more than 0.1" in table.protocol) == ("differ by more than 0.1" in table.notes[0]) == (margin > 0)
    )
    frame = table.frame
    for attacked, better, worse in (
        ("both", low, high),
        ("worse one up", clean, high),
        ("better one down", low, clean),
    ):
        row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, attacked=attacked)
        assert row.accuracy == pytest.approx((better[:, None] > worse[None, :])[pairs].mean())
        assert row.clean_accuracy == pytest.approx((clean[:, None] > clean[None, :])[pairs].mean())


def test_ordering_equals_a_loop(run, tables):
    up, down = cell(run), cell(run, sign=-1)
    frame = tables["ordering", "mini"].frame
    right = [
        down.attacked[i] > up.attacked[j]
        for i in up.index
        for j in up.index
        if up.reference[i] == up.reference[j] and up.group[i] == up.group[j] and up.level[i] < up.level[j]
    ]
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, test="L")
    assert row.share == pytest.approx(np.mean(right))
    row = only(frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, test="D")
    assert row.share == pytest.approx((up.attacked < 1.1).mean())


def test_two_afc_equals_a_loop(run, tables):
    frame = tables["two_afc", "mini_2afc"].frame
    r = run.records[(run.records.dataset == "mini_2afc") & (run.records.metric == "birqa-tiny")]
    r = r[(r.attack == PGD) & ((r.eps - 2 / 255).abs() < 1e-9)].set_index(["sample", "patch"])
    hard, soft = [], []
    for sample in sorted({name for name, _ in r.index}):
        p0, p1 = r.loc[(sample, "p0")], r.loc[(sample, "p1")]
        wins = p1.attacked > p0.attacked
        soft.append(p1.judge if wins else 1 - p1.judge)
        if p1.judge != 0.5:
            hard.append(wins == (p1.judge > 0.5))
    kept = {"metric": "birqa-tiny", "attack": PGD, "eps": 2 / 255, "attacked": "both", "subset": "all"}
    assert only(frame, kind="hard", **kept).accuracy == pytest.approx(np.mean(hard))
    assert only(frame, kind="soft", **kept).accuracy == pytest.approx(np.mean(soft))
    assert only(frame, kind="hard", **kept).undecided == 40 - len(hard)
    parts = [only(frame, kind="hard", **(kept | {"subset": name})).accuracy for name in ("traditional", "cnn")]
    assert only(frame, kind="hard", **(kept | {"subset": "macro"})).accuracy == pytest.approx(np.mean(parts))
    assert f"leaves out {40 - len(hard)} evenly split" in " ".join(tables["two_afc", "mini_2afc"].notes)


def test_order_of_records_does_not_matter(run, tables):
    shuffled = dataclasses.replace(run, records=run.records.sample(frac=1, random_state=1), tables=["srocc", "two_afc"])
    for table in build_tables(shuffled):
        keys = [
            "metric",
            "defense",
            "attack",
            "eps",
            "direction",
            *(["attacked", "kind", "subset"] * ("kind" in table.frame)),
        ]
        mine, theirs = (
            f.sort_values(keys, ignore_index=True) for f in (table.frame, tables[table.name, table.dataset].frame)
        )
        pd.testing.assert_frame_equal(mine, theirs)


def test_rows_share_their_resamples(run):
    # Two metrics with the same scores have the same interval, and a metric does not depend on what runs beside it.
    r = run.records[run.records.metric == "psnr"]
    both = pd.concat([r, r.assign(metric="twin", source="twin")])
    data = dataclasses.replace(run, records=both, tables=["srocc"])
    frame = build_tables(data)[0].frame
    first, second = (frame[frame.metric == name].reset_index(drop=True) for name in ("psnr", "twin"))
    assert (first.srocc_low == second.srocc_low).all()
    (alone,) = build_tables(dataclasses.replace(run, records=r, tables=["srocc"]))
    np.testing.assert_array_equal(alone.frame.srocc_high, first.srocc_high)


def test_partial_cells_fail_and_absent_cells_are_dashes(run):
    r = run.records
    lost = (r.metric == "psnr") & (r.attack == PGD) & (r.sign == 1) & ((r.eps - EPS).abs() < 1e-9)
    partial = dataclasses.replace(run, records=r[~(lost & r["item"].str.endswith("5"))], tables=["srocc", "shift"])
    for table in build_tables(partial)[:2]:
        assert line(table.full, "psnr", PGD, "up")["ε 8/255"] == "failed" if table.name == "srocc" else True
        assert line(table.compact, "psnr", "pgd", "mos_split")["ε 8/255"] == "failed"
        assert line(table.compact, "psnr", "pgd", "up")["ε 4/255"] != "failed"
        assert [note for note in table.notes if note.startswith("failed: ")] == [UNFINISHED]
    failure = Failure("mini / psnr / pgd up eps 8/255", "x", "planted")
    told = build_tables(dataclasses.replace(partial, failures=[failure]))[0]
    assert "failed: see Failures." in told.notes and UNFINISHED not in told.notes
    absent = dataclasses.replace(run, records=r[~lost], tables=["srocc", "pair_accuracy"])
    srocc, pairs = (t for t in build_tables(absent) if t.dataset == "mini")
    assert line(srocc.compact, "psnr", "pgd", "up")["ε 8/255"] == "–"
    assert line(pairs.full, "psnr", PGD, "both")["ε 8/255"] == "–"
    assert line(pairs.full, "psnr", PGD, "better one down")["ε 8/255"] != "–"


def test_a_failure_names_its_cell(run):
    r = run.records
    lost = (r.metric == "psnr") & (r.attack == PGD) & (r.sign == 1) & ((r.eps - EPS).abs() < 1e-9)
    label = cell_name("mini", "psnr", "base", "none", "psnr", PGD, "up", "linf", EPS)
    assert label == f"mini / psnr / {PGD} up eps 8/255"
    failure = Failure(label, "i003", "score is not finite")
    srocc, failures = build_tables(dataclasses.replace(run, records=r[~lost], failures=[failure], tables=["srocc"]))
    assert line(srocc.compact, "psnr", "pgd", "up")["ε 8/255"] == "failed"
    assert failures.name == "failures" and failures.full.rows == (("score is not finite", "i003", label),)


def test_an_endpoint_that_failed_for_every_metric_is_no_endpoint_that_was_not_run(run):
    r = run.records
    at = (r.attack == PGD) & ((r.eps - EPS).abs() < 1e-9)
    kept = r[~(at & (r.endpoint == "down"))]
    label = cell_name("mini", "psnr", "base", "none", "psnr", PGD, "down", "linf", EPS)
    failed = dataclasses.replace(run, records=kept, failures=[Failure(label, "i003", "no")], tables=["srocc"])
    srocc = build_tables(failed)[0]
    assert line(srocc.compact, "psnr", "pgd", "mos_split")["ε 8/255"] == "failed"
    worst = srocc.frame[(srocc.frame.attack == FURTHEST) & (srocc.frame.metric == "psnr")]
    worst = worst[((worst.eps - EPS).abs() < 1e-9) & (worst.direction == "mos_split")]
    assert set(worst.state) == {"failed"}, "the worst of the others would be too weak"


def test_failed_clean_scores_fail_every_row_of_the_scorer(run):
    failure = Failure("mini / ssim / clean", "i001", "no")
    srocc = build_tables(dataclasses.replace(run, failures=[failure], tables=["srocc"]))[0]
    shown = line(srocc.compact, "ssim", "fgsm", "up")
    assert {shown["clean"], shown["ε 2/255"]} == {"failed"}


def test_proxy_labels_are_named_in_every_heading_that_uses_them(tables):
    for (name, _), table in tables.items():
        assert ("proxy" in table.title) == (name not in ("ordering", "verdicts", "adequacy", "msu"))
        assert (table.frame["labels"] == "proxy").all()


def test_protocol_line_and_assumption(tables):
    table = tables["srocc", "mini"]
    for part in (
        "split test",
        "96 images",
        "24 references",
        "proxy labels",
        PGD,
        "mos_split = raised where proxy quality",
        "linf 2/255, 4/255, 8/255, 10/255",
        "slices of 32",
        "seed 0",
        "torch 2.13.0",
        "1000 resamples",
        "oblivious =",
    ):
        assert part in table.protocol
    assert "Opinions are taken not to change within the budget." in table.notes
    assert "40 triplets" in tables["two_afc", "mini_2afc"].protocol


def test_no_labels_leave_out_tables_of_opinions(run):
    records = run.records[run.records.dataset == "mini"].assign(opinion=np.nan)
    facts = dataclasses.replace(run.datasets["mini"], labels="none", mean_opinion=None)
    made = build_tables(dataclasses.replace(run, records=records, datasets={"mini": facts}))
    assert [table.name for table in made] == ["attacks", "shift", "ordering", "adequacy", "verdicts"]
    assert line(made[1].compact, "psnr", "pgd", "up")
    assert not [row for row in made[1].compact.rows if row[2] == "mos_split"]


def test_clean_only_run(run):
    records = run.records[run.records.attack == "clean"]
    made = {table.name: table for table in build_tables(dataclasses.replace(run, records=records))}
    assert set(made) == {"srocc", "ranks", "pair_accuracy", "ordering", "two_afc", "per_type"}
    assert "no attacks" in made["srocc"].protocol
    clean = records[(records.metric == "psnr")]
    expected = spearmanr(clean.clean, clean.opinion).statistic
    assert line(made["srocc"].compact, "psnr")["clean"] == number(expected)


def test_self_split_needs_no_opinions(run):
    up, down = cell(run), cell(run, sign=-1)
    table = build_tables(dataclasses.replace(run, directions=["self_split"], tables=["shift"]))[0]
    row = only(table.frame, metric="birqa-tiny", defense="base", attack=PGD, eps=EPS, direction="self_split")
    push = np.where(up.clean <= 0.5, up.attacked - up.clean, down.clean - down.attacked)
    assert row.raw_shift == pytest.approx(push.mean())


def test_few_references_are_descriptive(make_run):
    made = build_tables(make_run(images=20, references=5, defense=False, triplets=False))
    assert all(any("descriptive" in note for note in table.notes) for table in made)
    assert (made[0].frame["interval"] == "descriptive").all()


def photographs(run, count):
    """A clean run whose references are cut from so many photographs."""
    records = run.records[(run.records.attack == "clean") & (run.records.dataset == "mini")]
    number = records.reference.str[1:].astype(int) % count
    facts = dataclasses.replace(run.datasets["mini"], cluster_noun="photograph")
    return dataclasses.replace(run, datasets={"mini": facts}, records=records.assign(cluster=number.astype(str)))


def test_photographs_are_the_units_and_pairs_of_levels_stay_within_a_reference(run):
    plain = {table.name: table.frame for table in build_tables(photographs(run, 24))}
    for table in build_tables(photographs(run, 6)):
        if table.name == "ordering":
            assert table.frame.clean_share.tolist() == plain["ordering"].clean_share.tolist()
        assert set(table.frame.clusters) == {6} and set(table.frame.references) == {24}
        assert "24 references of 6 photographs;" in table.protocol.replace(",", ";")
        assert f"Fewer than {DESCRIPTIVE_BELOW} photographs" in " ".join(table.notes)


def test_one_photograph_has_no_interval(run):
    (table,) = (table for table in build_tables(photographs(run, 1)) if table.name == "srocc")
    assert table.frame.clean_srocc_low.isna().all() and (table.frame.interval == "none").all()
    assert "[–]" in line(table.full, "psnr")["clean SROCC"] and "1 photograph: no intervals." in table.notes


def test_without_controls_there_is_no_excess(run):
    records = run.records[~run.records.control.astype(bool)]
    table = build_tables(dataclasses.replace(run, records=records, tables=["shift"]))[0]
    assert {row[table.full.header.index("excess over restore")] for row in table.full.rows} == {"–"}
    assert "(" not in line(table.compact, "psnr", "pgd", "up")["ε 8/255"]


def test_a_table_that_was_asked_for_in_vain_is_named(run):
    records = run.records[run.records.eps.isin([0, EPS]) | (run.records.eps - EPS).abs().lt(1e-9)]
    one_budget = dataclasses.replace(run, tables=["srocc", "ir_score"], records=records)
    *_, last = build_tables(one_budget)
    assert last.name == "not_made" and last.title == "Not made: ir_score" and last.full.rows[0][0] == "ir_score"
    by_default = [table.name for table in build_tables(dataclasses.replace(one_budget, tables=[]))]
    assert "not_made" not in by_default and "ir_score" not in by_default


def test_unknown_table_is_an_error(run):
    with pytest.raises(ValueError, match="unknown table sroc; tables are attacks, srocc"):
        build_tables(dataclasses.replace(run, tables=["sroc"]))


def test_words():
    assert budget_text("linf", np.float32(8 / 255)) == "8/255"
    assert budget_text("linf", 0.05) == "0.05"
    assert budget_text("linf", 1.0) == "1"
    assert budget_text("l2", 128 / 255) == "0.502"
    assert number(-0.001) == "0.00" and number(-1.5, 1) == "−1.5" and number(float("nan")) == "n/a"
    assert short_names(["pgd(steps=10)", "fgsm"]) == {"pgd(steps=10)": "pgd", "fgsm": "fgsm"}
    assert short_names(["pgd(steps=10)", "pgd(steps=20)"])["pgd(steps=10)"] == "pgd(steps=10)"
    own = ["my pgd (strong)", "my pgd(steps=2, start=[a, (b)])", "furthest of all", "honest reference"]
    assert list(short_names(own).values()) == ["my pgd (strong)", "my pgd", "furthest", "honest"]
