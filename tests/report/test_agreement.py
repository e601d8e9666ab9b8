"""The table of agreement against scipy: clean, attacked through the clean map, and where a map cannot be fitted."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau, pearsonr

from harness.report.build import build_tables

EPS = 8 / 255


@pytest.fixture(scope="module")
def small(make_run):
    made = make_run(images=64, references=16, defense=False, triplets=False)
    records = made.records[made.records.metric.isin(["psnr", "ssim"])]
    return dataclasses.replace(made, records=records[(records.eps == 0) | (records.eps.sub(EPS).abs() < 1e-9)])


def agreement(run, **changed):
    (table,) = build_tables(dataclasses.replace(run, tables=["agreement"], **changed))
    return table


def logistic(x, a, b, c, d):
    return b + (a - b) / (1 + np.exp(-(x - c) / abs(d)))


def test_figures_are_scipys_and_attacked_quality_goes_through_the_clean_map(small):
    frame = agreement(small).frame
    r = small.records[small.records.metric == "psnr"].set_index("item").sort_index()
    clean, attacked = r[r.attack == "clean"], r[(r.attack == "fgsm") & (r.sign == 1)]
    fitted, _ = curve_fit(logistic, clean.attacked, clean.opinion, p0=[1, 0, 0.5, 0.2], maxfev=10_000)
    rows = frame[frame.metric == "psnr"]
    for part, row in (
        (clean, rows[rows.attack == "clean"].iloc[0]),
        (attacked, rows[(rows.attack == "fgsm") & (rows.direction == "up")].iloc[0]),
    ):
        x, y, mapped = part.attacked, part.opinion, logistic(part.attacked, *fitted)
        assert row.krocc == pytest.approx(kendalltau(x, y).statistic)
        assert row.plcc == pytest.approx(pearsonr(x, y).statistic)
        assert row.plcc4 == pytest.approx(pearsonr(mapped, y).statistic, abs=2e-3)
        assert row.rmse4 == pytest.approx(np.sqrt(np.mean((mapped - y) ** 2)), abs=2e-3)
        assert row.fit4 == "ok" and all(
            row[f"{name}_low"] < row[name] < row[f"{name}_high"] for name in ("krocc", "rmse4")
        )


def test_no_fit_says_so_beside_the_figures_that_exist(small):
    records = small.records.copy()
    twice = (records.metric == "ssim") & (records.attack == "clean")
    records.loc[twice, ["clean", "attacked"]] = np.round(records.loc[twice, ["clean", "attacked"]]).clip(0, 1)
    table = agreement(small, records=records)
    row = table.frame[(table.frame.metric == "ssim") & (table.frame.attack == "clean")].iloc[0]
    assert "different scores" in row.fit4 and "different scores" in row.fit5 and row.krocc > 0.5
    shown = next(line for line in table.compact.rows if line[:2] == ("ssim", "clean"))
    assert shown[6:] == ("no fit",) * 4 and "no fit" not in shown[:6]
    assert "No fit: ssim, 4 parameters" in " ".join(table.notes)


def test_it_is_made_on_request_alone(suite_of):
    text = "name: toy\ndatasets: [toy]\nmetrics: [linear]\n"
    assert "agreement" not in suite_of(text).tables and "ranks" in suite_of(text).tables
    assert suite_of(text + "tables: [agreement]\n").tables == ("agreement",)
