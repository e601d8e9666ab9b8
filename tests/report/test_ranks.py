"""The table of ranks and its sentence: differences against scipy, groups, what is declared, and what cannot be told."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.report.build import build_tables
from harness.statistics.levels import holm

EPS = 8 / 255
PGD_UP = "pgd(steps=10) up"


def ranks(run, **changed):
    return [
        table for table in build_tables(dataclasses.replace(run, tables=["ranks"], **changed)) if table.name == "ranks"
    ]


def srocc(run, metric, attack="clean", sign=0, defense="base"):
    r = run.records
    kept = r[(r.dataset == "mini") & (r.metric == metric) & (r.defense == defense) & (r.attack == attack)]
    kept = kept[(kept.sign == sign) & (kept.eps.sub(EPS).abs().lt(1e-9) | (attack == "clean"))]
    return np.mean([spearmanr(part.attacked, part.opinion).statistic for _, part in kept.groupby("draw")])


@pytest.fixture(scope="module")
def table(run):
    (table,) = ranks(run)
    return table


def test_differences_are_scipys_and_every_two_metrics_are_compared(run, table):
    frame = table.frame
    assert set(frame.condition) == {
        "clean",
        *(f"{attack} {way}" for attack in ("fgsm", "pgd(steps=10)") for way in ("up", "mos_split")),
        *(f"lowest SROCC of all {way}" for way in ("up", "mos_split")),
    }
    for condition, attack, sign in (("clean", "clean", 0), (PGD_UP, "pgd(steps=10)", 1)):
        pairs = frame[(frame.kind == "contrast") & (frame.condition == condition)]
        assert list(zip(pairs.name, pairs.against, strict=True)) == [
            *itertools.combinations(["psnr", "ssim", "birqa-tiny"], 2)
        ]
        for row in pairs.itertuples():
            expected = srocc(run, row.name, attack, sign) - srocc(run, row.against, attack, sign)
            assert row.difference == pytest.approx(expected)
            assert row.difference_low < expected < row.difference_high
            assert row.resamples_low < row.resamples_median < row.resamples_high
        assert pairs.p_adjusted.to_numpy() == pytest.approx(holm(pairs.p))
        assert ((pairs.verdict == "told apart") == (pairs.p_adjusted < 0.05)).all()


def test_groups_follow_the_verdicts_best_first(table):
    metrics = table.frame[(table.frame.kind == "metric") & (table.frame.condition == PGD_UP)]
    assert list(metrics.name) == ["ssim", "birqa-tiny", "psnr"] and list(metrics.group) == ["a", "b", "c"]
    assert list(metrics.beaten_by) == ["", "ssim", "ssim and birqa-tiny"]
    clean = table.frame[(table.frame.kind == "metric") & (table.frame.condition == "clean")]
    assert set(clean.group) == {"a"}
    order = table.frame[(table.frame.kind == "order") & (table.frame.condition == PGD_UP)].iloc[0]
    assert order["name"] == "ssim > birqa-tiny > psnr" and order.same_order > 0.9 and order.mean_tau > 0.9


def test_protocol_and_notes_say_of_how_many_and_how(table):
    assert "Holm" in " ".join(table.notes) and "24 references" in table.protocol


def test_declared_contrasts_alone_are_made_and_defended_metrics_take_part(run):
    pairs = [("birqa-tiny@flip", "birqa-tiny"), ("ssim", "psnr"), ("ssim", "ssim@jpeg")]
    (table,) = ranks(run, contrasts=pairs, adjust="bh")
    clean = table.frame[(table.frame.kind == "contrast") & (table.frame.condition == "clean")]
    assert list(zip(clean.name, clean.against, strict=True)) == pairs[:2]
    expected = srocc(run, "birqa-tiny", defense="flip") - srocc(run, "birqa-tiny")
    assert clean.difference.iloc[0] == pytest.approx(expected)
    # flip was attacked obliviously, which says nothing of robustness: one contrast is left under attack.
    attacked = table.frame[(table.frame.kind == "contrast") & (table.frame.condition == PGD_UP)]
    assert list(attacked.name) == ["ssim"]
    assert set(table.frame.group.dropna()) == {""} and "share a letter" not in table.explanation
    assert "group" not in table.full.header and {len(row) for row in table.full.rows} == {len(table.full.header)}
    order = table.frame[(table.frame.kind == "order") & (table.frame.condition == "clean")]
    assert set(order["name"].iloc[0].split(" > ")) == {"birqa-tiny@flip", "birqa-tiny", "ssim", "psnr"}
    notes = " ".join(table.notes)
    assert "– under attack: birqa-tiny@flip was attacked without the attacker knowing" in notes
    assert "Not evaluated here, and so not compared: ssim − ssim@jpeg." in notes and "Benjamini-Hochberg" in notes


def test_ties_and_constant_scores(run):
    records = run.records[run.records.defense == "base"].copy()
    records.loc[records.metric == "psnr", ["clean", "attacked"]] = 0.5
    same = records[records.metric == "ssim"].set_index(["item", "attack", "sign", "eps"])[["clean", "attacked"]]
    twin = records.metric == "birqa-tiny"
    keys = list(records.loc[twin, ["item", "attack", "sign", "eps"]].itertuples(index=False, name=None))
    records.loc[twin & (records.dataset == "mini"), ["clean", "attacked"]] = same.loc[
        [key for key, dataset in zip(keys, records.loc[twin, "dataset"], strict=True) if dataset == "mini"]
    ].to_numpy()
    (table,) = ranks(run, records=records)
    pairs = table.frame[(table.frame.kind == "contrast") & (table.frame.condition == "clean")]
    assert list(zip(pairs.name, pairs.against, pairs.difference, pairs.p, strict=True)) == [
        ("ssim", "birqa-tiny", 0, 1)
    ]
    assert "one score for all images has no rank (psnr)" in " ".join(table.notes)


def test_few_clusters_tell_nothing_apart_and_one_metric_has_no_table(make_run):
    small = make_run(images=28, references=7, defense=False, triplets=False)
    (table,) = ranks(small)
    assert set(table.frame.verdict.dropna()) == {"descriptive"} and set(table.frame.group.dropna()) == {""}
    assert "Nothing is told apart by fewer than 8 references" in " ".join(table.notes)
    assert ranks(small, records=small.records[small.records.metric == "ssim"]) == []
