"""Figures 3, 4 and 6: what is joined, what is drawn of it, and what is said where it is not what the paper did."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from harness.engine.drawing import PALETTE, labelled
from harness.errors import UserError
from harness.report.build import build_tables
from harness.report.paper_figures import draw_figure3, draw_figure4, draw_figure6, figure3_frame, figure6_frame, pareto


def said(figure):
    return " ".join(figure.legends[0].get_title().get_text().split())


def speeds(**more):
    rows = [("psnr", 100.0, 0, 0.6), ("birqa", 15.0, 5_420_000, 0.93), ("topiq", 5.0, 36_000_000, 0.93)]
    return pd.DataFrame(rows, columns=["metric", "fps", "parameters", "plcc"]).assign(**more)


def test_figure_3_has_areas_in_proportion_and_says_how_it_was_timed():
    paper = {"forwards": 100, "width": 1920, "height": 1080, "device": "cuda NVIDIA A100", "precision": "fp32"}
    figure = draw_figure3(speeds(**paper))
    areas = {
        tuple(one.get_offsets()[0]): one.get_sizes()[0] for one in figure.axes[0].collections if len(one.get_sizes())
    }
    assert areas[15.0, 0.93] / areas[5.0, 0.93] == pytest.approx(5.42 / 36)
    assert list(labelled(figure)) == ["psnr (none)", "birqa (5.42 M)", "topiq (36 M)"]
    assert "FPS of 100 forwards; 1920 x 1080; cuda NVIDIA A100; fp32." in said(figure) and "not" not in said(figure)
    small = said(draw_figure3(speeds(**paper | {"forwards": 3, "width": 384, "height": 384})))
    assert "3 forwards, not the paper's 100" in small and "384 x 384, not 1920 x 1080" in small


def test_figure_3_takes_clean_plcc_of_undefended_metrics():
    columns = ["dataset", "metric", "defense", "attack", "labels", "plcc", "plcc_low", "plcc_high"]
    rows = [
        ("mini", "psnr", "base", "clean", "proxy", 0.62, 0.5, 0.7),
        ("mini", "psnr", "base", "fgsm", "proxy", 0.1, 0.0, 0.2),
        ("mini", "psnr", "aat", "clean", "proxy", 0.3, 0.2, 0.4),
    ]
    agreement = pd.DataFrame(rows, columns=columns)
    found = figure3_frame(speeds().drop(columns="plcc"), agreement)
    assert found[["metric", "plcc", "fps"]].to_numpy().tolist() == [["psnr", 0.62, 100.0]]
    assert draw_figure3(found).axes[0].get_ylabel() == "PLCC with proxy"
    with pytest.raises(UserError, match="birqa, topiq"):
        figure3_frame(speeds()[1:], agreement)
    with pytest.raises(UserError, match="one data set"):
        figure3_frame(speeds(), pd.concat([agreement, agreement.assign(dataset="live")]))


def test_pareto_keeps_what_nothing_beats():
    fps, srocc = np.array([1.0, 2, 3, 3, 2, 4]), np.array([0.9, 0.9, 0.8, 0.7, 0.5, 0.6])
    assert pareto(fps, srocc).tolist() == [False, True, True, False, False, True]
    assert pareto(np.array([1.0, 1.0]), np.array([0.5, 0.5])).all(), "equals stand side by side"


def test_figure_4_marks_the_four_and_says_what_is_missing():
    rows = [
        ("saliency", "1", 0.80, 30.0),
        ("ssim", "1", 0.85, 29.0),
        ("ssim+info+color+lbp", "4", 0.94, 15.0),
        ("raw", "raw", 0.88, 28.0),
        ("ssim+lbp", "2", np.nan, 25.0),
    ]
    frame = pd.DataFrame(rows, columns=["set", "kind", "srocc", "fps"]).assign(steps=100)
    figure = draw_figure4(frame)
    star = next(one for one in figure.axes[0].collections if one.get_label() == "the paper's four")
    assert star.get_offsets().tolist() == [[15.0, 0.94]]
    line = next(one for one in figure.axes[0].lines if one.get_label() == "Pareto frontier")
    assert line.get_xdata().tolist() == [15, 28, 29, 30] and line.get_ydata().tolist() == [0.94, 0.88, 0.85, 0.80]
    told = said(figure)
    assert "3 feature sets and 1 checks, not the paper's 301 and 9" in told
    assert "saliency is spectral residual" in told and "100 training steps" in told


def test_figure_6_starts_clean_and_dashes_what_is_trained(run):
    (table,) = (one.frame for one in build_tables(dataclasses.replace(run, tables=["srocc"])))
    found = figure6_frame(table)
    clean = found[found["eps"] == 0].set_index("metric")["srocc"]
    rows = table[(table["attack"] == "fgsm") & (table["direction"] == "mos_split") & (table["defense"] == "base")]
    assert clean.to_dict() == rows.drop_duplicates("metric").set_index("metric")["clean_srocc"].to_dict()
    assert sorted(round(255 * eps) for eps in set(found["eps"])) == [0, 2, 4, 8, 10], "the paper's budgets"
    both = pd.concat([found, found[found["metric"] == "ssim"].assign(training="aat")])
    lines = {line.get_label(): line for line in draw_figure6(both).axes[0].lines}
    assert lines["ssim"].get_linestyle() == "-" and lines["ssim, aat"].get_linestyle() == "--"
    assert to_hex(lines["ssim"].get_color()) == to_hex(lines["ssim, aat"].get_color()) == PALETTE[1]
    with pytest.raises(UserError, match="no 'fgsm' down"):
        figure6_frame(table, direction="down")
