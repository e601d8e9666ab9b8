"""The table of every attack: strength, ranks and costs, against pandas and scipy on the records."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from harness.report.arrays import FURTHEST, lay_out
from harness.report.build import build_tables
from harness.report.figures import _styles, draw_figures
from harness.report.headline import headlines
from harness.report.render import markdown, write_report

EPS = 8 / 255
PGD = "pgd(steps=10)"
COST = {"up": {"forwards": 30.0, "backwards": 5.0, "queries": 7.0, "seconds": 0.5}, "down": {"queries": 9.0}}


@pytest.fixture(scope="module")
def costly(run):
    """Pairs alone, on two metrics; PGD costs more upwards than downwards."""
    r = run.records
    r = r[(r.dataset == "mini") & (r.metric != "ssim")].copy()
    for endpoint, costs in COST.items():
        for name, value in costs.items():
            r.loc[(r.attack == PGD) & (r.endpoint == endpoint), name] = value
    return dataclasses.replace(run, records=r, datasets={"mini": run.datasets["mini"]})


@pytest.fixture(scope="module")
def table(costly):
    return the(costly, "attacks")


def the(data, name):
    (found,) = build_tables(dataclasses.replace(data, tables=[name]))
    return found


def cell(data, attack, endpoint, metric="psnr"):
    r = data.records
    kept = r[(r.metric == metric) & (r.defense == "base") & (r.attack == attack) & (r.endpoint == endpoint)]
    return kept[(kept.eps - EPS).abs() < 1e-9].set_index("item").sort_index()


def row_of(table, attack, direction, metric="psnr", eps=EPS):
    frame = table.frame[(table.frame.metric == metric) & (table.frame.defense == "base")]
    frame = frame[(frame.attack == attack) & (frame.direction == direction) & ((frame.eps - eps).abs() < 1e-6)]
    assert len(frame) == 1
    return frame.iloc[0]


def line_of(layout, *starts):
    (row,) = [row for row in layout.rows if row[: len(starts)] == starts]
    return dict(zip(layout.header, row, strict=True))


def test_strength_equals_the_records(costly, table):
    up, down = cell(costly, PGD, "up"), cell(costly, PGD, "down")
    restore, noise = cell(costly, "restore", ""), cell(costly, "noise", "")
    sigma = up.clean.std(ddof=0)
    raised, lowered = row_of(table, PGD, "up"), row_of(table, PGD, "down")
    assert raised.shift_over_sigma == pytest.approx((up.attacked - up.clean).mean() / sigma)
    assert raised.excess_over_restore == pytest.approx((up.attacked - restore.attacked).mean() / sigma)
    assert lowered.shift_over_sigma == pytest.approx((down.clean - down.attacked).mean() / sigma)
    assert lowered.excess_over_noise == pytest.approx((noise.attacked - down.attacked).mean() / sigma)
    assert raised.shift_over_sigma_low < raised.shift_over_sigma < raised.shift_over_sigma_high
    mixed = np.where(up.opinion <= costly.datasets["mini"].mean_opinion, up.attacked, down.attacked)
    assert row_of(table, PGD, "mos_split").srocc == pytest.approx(spearmanr(mixed, up.opinion).statistic)
    assert row_of(table, "noise", "control").srocc == pytest.approx(spearmanr(noise.attacked, up.opinion).statistic)
    y, low, high = up.opinion.to_numpy(), down.attacked.to_numpy(), up.attacked.to_numpy()
    right = (low[:, None] > high[None, :])[y[:, None] > y[None, :]].mean()
    assert raised.accuracy == lowered.accuracy == pytest.approx(right)


def test_costs_are_the_records_means_and_the_page_has_those_of_both_directions(costly, table):
    up, down = cell(costly, PGD, "up"), cell(costly, PGD, "down")
    for name, column in (("forwards", "forwards"), ("backwards", "backwards"), ("queries", "queries")):
        assert row_of(table, PGD, "up")[name] == up[column].mean()
        assert row_of(table, PGD, "down")[name] == down[column].mean()
    assert row_of(table, PGD, "up").milliseconds == pytest.approx(1000 * up.seconds.mean())
    shown = line_of(table.full, "psnr", PGD, "8/255")
    assert shown["forwards"] == f"{(30 + down.forwards.mean()) / 2:.0f}" and shown["queries"] == "8"
    assert shown["ms"] == f"{500 * (0.5 + down.seconds.mean()):.0f}"
    worst = row_of(table, FURTHEST, "up")
    assert worst.queries == 7 + cell(costly, "fgsm", "up").queries.mean(), "all attacks had to be run"
    assert line_of(table.compact, "psnr", "pgd")["fwd/bwd/queries"] == "20/8/8"


def test_a_line_of_clean_quality_comes_first(costly, table):
    clean = cell(costly, PGD, "up")
    row = row_of(table, "clean", "", eps=0)
    assert row.srocc == pytest.approx(spearmanr(clean.clean, clean.opinion).statistic)
    y, quality = clean.opinion.to_numpy(), clean.clean.to_numpy()
    assert row.accuracy == pytest.approx((quality[:, None] > quality[None, :])[y[:, None] > y[None, :]].mean())
    assert np.isnan(row.shift_over_sigma) and np.isnan(row.milliseconds)
    first = table.full.rows[0]
    assert first[:3] == ("psnr", "clean", "–") and first[-4:] == ("–",) * 4
    assert line_of(table.full, "psnr", "clean")["SROCC up"] == line_of(table.full, "psnr", "clean")["SROCC mos_split"]


def test_a_control_moves_down_what_it_does_not_move_up(table):
    row = row_of(table, "noise", "control")
    shown = line_of(table.full, "psnr", "noise", "8/255")
    assert shown["shift/σ up"].startswith(f"−{-row.shift_over_sigma:.2f}\n[−{-row.shift_over_sigma_low:.2f}, ")
    assert shown["shift/σ down"].startswith(f"+{-row.shift_over_sigma:.2f}\n[+{-row.shift_over_sigma_high:.2f}, ")
    assert shown["excess over noise"] == shown["robust pair accuracy"] == "–"
    assert f"−{-row.shift_over_sigma:.2f} \\[−" in markdown(table), "Markdown has no lines within a cell"


def test_a_missing_endpoint_leaves_only_its_own_figures_out(costly):
    r = costly.records
    alone = dataclasses.replace(costly, records=r[r.endpoint != "down"], directions=["up"])
    table = the(alone, "attacks")
    assert "shift/σ down" not in table.full.header and "SROCC up" in table.full.header
    assert line_of(table.full, "psnr", PGD, "8/255")["robust pair accuracy"] == "–"
    lost = (r.metric == "psnr") & (r.attack == PGD) & (r.endpoint == "down") & (r["item"] == "i005")
    broken = the(dataclasses.replace(costly, records=r[~lost]), "attacks")
    shown = line_of(broken.full, "psnr", PGD, "8/255")
    assert shown["shift/σ down"] == shown["robust pair accuracy"] == "failed" != shown["shift/σ up"]


def test_without_opinions_there_are_no_ranks(costly):
    facts = dataclasses.replace(costly.datasets["mini"], labels="none", mean_opinion=None)
    blind = dataclasses.replace(costly, records=costly.records.assign(opinion=np.nan), datasets={"mini": facts})
    table = the(blind, "attacks")
    assert not any("SROCC" in name or "pair" in name for name in table.full.header)
    assert line_of(table.full, "psnr", PGD, "8/255")["shift/σ up"].startswith("+")
    assert draw_figures([table])


def test_transfers_have_their_own_table_and_no_sentence(costly):
    r = costly.records
    moved = r[(r.metric == "psnr") & (r.attack != "clean")].assign(source="birqa-tiny", threat="transfer")
    moved["attacked"] = moved.clean + 9 * (moved.attacked - moved.clean)
    data = dataclasses.replace(costly, records=pd.concat([r, moved]), tables=[])
    made = {table.name: table for table in build_tables(data)}
    assert "transfer" not in set(made["attacks"].frame.threat)
    for name in ("srocc", "shift", "pair_accuracy", "ordering"):
        told = {row[0] for row in made[name].compact.rows}
        assert told and not any("transfer" in scorer for scorer in told)
        assert any("transfer" in row[0] for row in made[name].full.rows)
    assert not any("transfer" in row.label for head in headlines(data, lay_out(data)) for row in head.rows)


def test_alone_it_is_told_and_drawn(costly, tmp_path):
    one = costly.records[(costly.records.attack == "clean") | ((costly.records.eps - EPS).abs() < 1e-9)]
    data = dataclasses.replace(costly, records=one, tables=["attacks"])
    write_report(data, build_tables(data), tmp_path)
    assert (tmp_path / "figures" / "mini.png").read_bytes().startswith(b"\x89PNG")


def test_lines_of_attacks_are_told_apart_without_colours():
    """In grey: dashes tell attacks, markers directions."""
    names = [f"a{i}" for i in range(5)]
    one = pd.DataFrame({"attack": names, "direction": "up", "control": False})
    looks = [(look["marker"], look["linestyle"]) for look in _styles(one).values()]
    assert len({line for _, line in looks}) == 5 and {marker for marker, _ in looks} == {"^"}
    two = _styles(pd.concat([one, one.assign(direction="down")]))
    assert len({(look["marker"], look["linestyle"]) for look in two.values()}) == 10
