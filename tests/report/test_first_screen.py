"""What is printed: the answer on one screen, the rest with --full; at every width, and the same again when stored."""

import dataclasses
import io

import pandas as pd
import pytest
from rich.console import Console

from harness.report.arrays import lay_out
from harness.report.build import build_tables
from harness.report.data import Failure
from harness.report.first_screen import MOST_LINES, first_screen
from harness.report.headline import headlines
from harness.report.render import write_report
from harness.report.screen import Columns, print_screen, read_screen
from harness.report.summary import sentences

WIDTHS = (80, 100, 110, 160)
"""Terminals, and 110 for what is piped."""
LONG = "birqa-tiny(features=[a, b, c], heads=4)"


def screen_of(run, **changed):
    data = dataclasses.replace(run, **changed)
    evaluated = lay_out(data, 200)
    return first_screen(data, build_tables(data, evaluated), headlines(data, evaluated))


def printed(screen, width, full=False):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_screen(screen, console, full)
    return console.file.getvalue()


def copies(run, count, verdicts=False):
    """A run of so many metrics: copies of ssim, under the numbers that follow it."""
    own = run.records[(run.records.dataset == "mini") & (run.records.metric == "ssim")]
    several = [own.assign(metric=f"metric-{i:02}", source=f"metric-{i:02}") for i in range(count)]
    return dataclasses.replace(run, records=pd.concat(several, ignore_index=True), verdicts=verdicts, tables=["srocc"])


@pytest.fixture(scope="module")
def screen(run):
    r = run.records
    names = {"birqa-tiny": LONG}
    renamed = r.assign(metric=r.metric.replace(names), source=r.source.replace(names))
    return screen_of(run, records=renamed, tables=["srocc", "shift", "verdicts", "two_afc", "ranks", "attacks"])


@pytest.mark.parametrize("width", WIDTHS)
def test_every_name_and_figure_stands_at_every_width(screen, width):
    text = printed(screen, width, full=True)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    flat = "".join(text.split())
    for block in (one for one in (*screen.short, *screen.full) if isinstance(one, Columns)):
        for row in (row for part in block.parts for row in part.rows):
            lines = [line for cell in row[block.labels :] for line in cell.split("\n") if len(line) < width / 2]
            assert [line for line in lines if "".join(line.split()) not in flat] == []
    # Names stand whole in a column of their own, folded where they must be.
    lines = printed(screen, width).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("metric"))
    end = next(i for i, line in enumerate(lines) if line.startswith("mini_2afc: "))
    column = "".join(line[: lines[start].index("clean") - 1] for line in lines[start + 2 : end])
    assert (
        "".join(column.split()) == "ssim" + LONG.replace(" ", "") + "psnr" + LONG.replace(" ", "") + "+flip(oblivious)"
    )
    # Each table repeats its names where it goes on below itself.
    heads = [line for line in text.splitlines() if line.startswith("metric")]
    assert len(heads) >= 7 and all(len(line.split()) > 1 for line in heads)


def test_the_answer_comes_first_on_one_screen(screen, run):
    lines = printed(screen, 80).splitlines()
    short = lines.index("In short")
    assert short <= MOST_LINES and sum(line.startswith("Protocol: ") for line in lines) == 1
    head = next(line for line in lines if line.startswith("metric"))
    assert head.split() == ["metric", *["clean", "↑", "up", "↑", "mixed", "↑", "excess,", "σ", "↓", "masking"]]
    assert "proxy quality (not human opinions), 96 images of 24 references" in " ".join(lines)
    whole = printed(screen, 2000, full=True)
    assert whole.index("In short") < whole.index("mini: SROCC with proxy quality (not human opinions)\n")
    assert whole.count("split test; 96 images") == 1, "the protocol stands once"
    assert "Protocol: as above" in whole and "lowest SROCC of all = " in whole


def test_figures_of_the_first_table_are_the_headlines(run):
    data = dataclasses.replace(run, tables=["srocc"])
    evaluated = lay_out(data, 200)
    head, _ = headlines(data, evaluated)
    screen = first_screen(data, build_tables(data, evaluated), [head])
    (block,) = (one for one in screen.short if isinstance(one, Columns))
    worst = [row.at[head.first, "mos_split"] for row in head.rows]
    assert [row[3] for row in block.parts[0].rows] == [f"{one.left.value:.2f}".replace("-", "−") for one in worst]
    assert [row[4].split()[0] for row in block.parts[0].rows] == [f"{one.excess.value:+.2f}" for one in worst]
    assert [row[-1] for row in block.parts[0].rows] == ["clean", "open", "open", "–"]


@pytest.mark.parametrize(("metrics", "more"), [(8, ""), (9, "1 more metric"), (20, "12 more metrics")])
def test_eight_metrics_fit_and_the_others_are_counted(run, metrics, more):
    screen = screen_of(copies(run, metrics))
    lines = printed(screen, 80).splitlines()
    table = lines[: lines.index("In short")]
    assert len(table) <= MOST_LINES and sum(line.startswith("metric-") for line in table) == 8
    assert any(line == f"... and {more}: --full prints all." for line in table) == bool(more)


def test_in_short_names_every_metric_of_four_and_counts_those_of_many(run):
    four = copies(run, 4)
    told = sentences(headlines(four, lay_out(four, 200)))
    assert len(told) == 3 and "cannot tell it from metric-01, metric-02 and metric-03" in told[0]
    assert "in between metric-01 0.63 and metric-02 0.63" in told[1] and all(
        f"metric-0{i} 0.90" in told[2] for i in range(4)
    )
    many = copies(run, 9)
    assert "and 3 more" in sentences(headlines(many, lay_out(many, 200)))[0]


def test_in_short_says_how_robust_and_how_far_beyond_the_control(run):
    heads = headlines(run, lay_out(run))
    assert sentences(heads) == [
        "Most robust on mini at ε 8/255: ssim keeps a proxy SROCC of 0.63 out of 0.94 under the worst attack (pgd, "
        "mos_split); attacks push it 0.39σ [0.29, 0.45] beyond the honest control; it is told apart from all others.",
        "Least robust: psnr (masking: open) keeps −0.60 out of 0.94 (pgd, mos_split); attacks push it 1.47σ [1.25, 1.68] "
        "beyond the honest control; in between birqa-tiny −0.32 (masking: open).",
        "The honest controls alone (restoring the reference, random noise) leave ssim 0.90, birqa-tiny 0.75 and psnr 0.44.",
    ]


def test_in_short_prints_labels_not_names_of_plugins_in_a_sweep(run):
    r = run.records[(run.records.dataset == "mini") & (run.records.defense == "base")]
    more = r[r.attack == "pgd(steps=10)"].assign(attack="pgd(steps=2, restarts=5)")
    more["attacked"] = more.clean + 0.5 * (more.attacked - more.clean)
    data = dataclasses.replace(run, records=pd.concat([r, more], ignore_index=True), verdicts=False)
    told = " ".join(sentences(headlines(data, lay_out(data, 200))))
    assert "(pgd(steps=10), mos_split)" in told and "(pgd, " not in told
    # Two attacks, each the stronger one on every other image: together they leave less than either.
    odd = r.attack.isin(["pgd(steps=10)"]) & (r["item"].str[-1].astype(int) % 2 == 1)
    taken = r.assign(attacked=r.clean + (1 - odd) * (r.attacked - r.clean))
    data = dataclasses.replace(run, records=taken, verdicts=False)
    assert "(whichever moves each image furthest, mos_split)" in sentences(headlines(data, lay_out(data, 200)))[0]


def test_what_cannot_be_said_is_not(run, make_run):
    few = make_run(images=28, references=7, triplets=False)
    told = sentences(headlines(few, lay_out(few, 200)))
    assert (
        told[0].startswith("On mini at ε 8/255: ")
        and "descriptive: 7 references are too few to rank metrics" in told[0]
    )
    assert "descriptive, and nothing is ranked" in printed(screen_of(few), 2000)
    facts = dataclasses.replace(run.datasets["mini"], labels="none", mean_opinion=None)
    pairs = run.records[run.records.dataset == "mini"].assign(opinion=float("nan"))
    blind = dataclasses.replace(run, records=pairs, datasets={"mini": facts}, directions=["up"], verdicts=False)
    told = sentences(headlines(blind, lay_out(blind, 200)))
    assert "ssim moves by 0.58σ" in told[0] and "without labels nothing is ranked" in told[0]
    assert "+0.58σ" in printed(screen_of(blind), 100)
    assert "in σ of clean scores at ε 8/255, smallest first" in printed(screen_of(blind), 100)
    alone = dataclasses.replace(run, records=run.records[~run.records.control], verdicts=False)
    assert sentences(headlines(alone, lay_out(alone, 200)))[2].startswith("No honest control was run")
    clean = screen_of(run, records=run.records[run.records.attack == "clean"])
    assert "Nothing was attacked; clean proxy SROCC on mini: ssim 0.94" in printed(clean, 2000)
    failure = Failure("mini / psnr / clean", "i000", "score is not finite")
    failed = screen_of(run, failures=[failure], tables=["srocc"])
    assert "1 failure: --full and the page list them." in printed(failed, 2000)
    assert "score is not finite" in printed(failed, 200, full=True)


def test_a_metric_whose_attack_failed_is_neither_ranked_nor_called_moved(run):
    r = run.records[(run.records.dataset == "mini") & (run.records.defense == "base")]
    lost = (r.metric == "ssim") & (r.attack == "fgsm") & (r.endpoint == "up") & (r["item"] > "i050")
    data = dataclasses.replace(run, records=r[~lost], verdicts=False, tables=["srocc"])
    (head,) = headlines(data, lay_out(data, 200))
    assert [row.label for row in head.rows] == ["birqa-tiny", "psnr", "ssim"]
    assert not head.rows[-1].at[head.first, ""].excess.known
    told = sentences([head])
    assert "ssim could not be measured" in told[0] and "ssim" not in told[1] + told[2]
    (line,) = (line for line in printed(screen_of(data), 100).splitlines() if line.startswith("ssim "))
    assert line.split() == ["ssim", "0.94", "failed", "failed", "failed", "–"]
    lost = (r.attack == "fgsm") & (r.endpoint == "up") & (r["item"] > "i050")
    data = dataclasses.replace(data, records=r[~lost])
    assert sentences(headlines(data, lay_out(data, 200))) == ["No proxy SROCC under attack could be measured on mini."]


def test_splits_without_labels_stand_by_their_mean_shift_and_have_no_interval(run):
    facts = dataclasses.replace(run.datasets["mini"], labels="none", mean_opinion=None)
    pairs = run.records[(run.records.dataset == "mini") & (run.records.defense == "base")].assign(opinion=float("nan"))
    # The order of the metrics in split 0 is not that of the means.
    first = pairs.assign(dataset="mini: split 0", attacked=pairs.clean + 0.1 * (pairs.attacked - pairs.clean))
    first.loc[first.metric == "ssim", "attacked"] = pairs.loc[pairs.metric == "ssim", "attacked"]
    records = pd.concat([first, pairs.assign(dataset="mini: split 1")], ignore_index=True)
    names = {f"mini: split {i}": "mini" for i in range(2)}
    datasets = {name: dataclasses.replace(facts, name=name) for name in names}
    changed = {"splits": names, "directions": ["up"], "verdicts": False, "tables": ["shift"]}
    screen = screen_of(run, records=records, datasets=datasets, **changed)
    (block,) = (one for one in screen.short if isinstance(one, Columns))
    rows = block.parts[0].rows
    assert [float(row[1].rstrip("σ")) for row in rows] == sorted(float(row[1].rstrip("σ")) for row in rows)
    assert all("[" not in row[2] for row in rows)


def test_what_is_stored_prints_the_same(run, tmp_path):
    data = dataclasses.replace(run, tables=["srocc", "two_afc"])
    evaluated = lay_out(data, 200)
    tables = build_tables(data, evaluated)
    (tmp_path / "terminal.txt").write_text("of an older version")
    write_report(data, tables, tmp_path, evaluated=evaluated)
    made = first_screen(data, tables, headlines(data, evaluated))
    kept = read_screen(tmp_path / "terminal.json")
    assert all(printed(made, width, full) == printed(kept, width, full) for width in WIDTHS for full in (True, False))
    assert not (tmp_path / "terminal.txt").exists()
    (tmp_path / "terminal.json").write_text('{"short": 1}')
    with pytest.raises(ValueError, match="no stored output"):
        read_screen(tmp_path / "terminal.json")
