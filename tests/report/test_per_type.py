import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import pearsonr, spearmanr

from harness.report.arrays import OVER_ALL, lay_out
from harness.report.build import build_tables
from harness.report.first_screen import first_screen
from harness.report.measure import type_rows
from harness.report.render import csv_text, markdown, write_report
from harness.report.screen import Screen, print_screen
from harness.statistics.intervals import DESCRIPTIVE_BELOW, interval

EPS = 8 / 255
PGD = "pgd(steps=10)"


@pytest.fixture(scope="module")
def pairs(run):
    """The run without its triplets, two metrics (one of them also defended) at two budgets."""
    r = run.records
    kept = r[(r.dataset == "mini") & (r.metric != "ssim") & ((r.eps == 0) | (r.eps > 0.9 * EPS))]
    return dataclasses.replace(run, records=kept, datasets={"mini": run.datasets["mini"]})


@pytest.fixture(scope="module")
def table(pairs):
    return per_type(pairs)


def per_type(data):
    found = build_tables(dataclasses.replace(data, tables=["per_type"]))
    return found[0] if found[0].name == "per_type" else None


def grouped(data, name):
    """The run with other types: `name` gives an item's type from its number and its reference's."""
    r = data.records
    items, references = r["item"].str[1:].astype(int), r["reference"].str[1:].astype(int)
    types = [name(i, j) for i, j in zip(items, references, strict=True)]
    return dataclasses.replace(data, records=r.assign(group=types))


def cell(data, metric="birqa-tiny", attack=PGD, sign=1, eps=EPS):
    r = data.records
    kept = r[(r.metric == metric) & (r.defense == "base") & (r.attack == attack) & (r.sign == sign)]
    return kept[(kept.eps - eps).abs() < 1e-9].set_index("item").sort_index()


def only(frame, **wanted):
    for name, value in wanted.items():
        frame = frame[(frame[name] - value).abs() < 1e-6 if name == "eps" else frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_figures_of_a_type_equal_scipy_on_its_records(pairs, table):
    up, down = cell(pairs), cell(pairs, sign=-1)
    mixed = np.where(up.opinion <= pairs.datasets["mini"].mean_opinion, up.attacked, down.attacked)
    qualities = {
        ("clean", ""): up.clean,
        (PGD, "up"): up.attacked,
        (PGD, "mos_split"): pd.Series(mixed, up.index),
        ("noise", "control"): cell(pairs, attack="noise", sign=0).attacked,
    }
    for kind in ("all", "blur", "jpeg"):
        mine = slice(None) if kind == "all" else (up.group == kind).to_numpy()
        y = up.opinion[mine]
        clean = spearmanr(up.clean[mine], y).statistic
        for (attack, direction), quality in qualities.items():
            kept = {"metric": "birqa-tiny", "defense": "base", "attack": attack, "direction": direction, "type": kind}
            row = only(table.frame, eps=0 if attack == "clean" else EPS, **kept)
            assert row.srocc == pytest.approx(spearmanr(quality[mine], y).statistic)
            assert row.plcc == pytest.approx(pearsonr(quality[mine], y).statistic)
            assert row.images == len(y) and row.references == 24
            if attack == "clean":
                assert np.isnan(row.change)
            else:
                assert row.change == pytest.approx(row.srocc - clean, abs=1e-12)


def test_intervals_equal_a_loop_over_the_shared_resamples(pairs):
    # Types of 19 and of 5 of the 24 references: resamples hold none to several of a type's references.
    data = grouped(pairs, lambda item, reference: "wide" if reference % 5 else "narrow")
    data = dataclasses.replace(data, records=data.records[data.records.metric == "psnr"])
    (one,) = lay_out(data, resamples=60)
    up = cell(data, metric="psnr")
    frame = pd.DataFrame(list(type_rows(one, ["up"])))
    for kind in ("wide", "narrow"):
        mine = (up.group == kind).to_numpy()
        drawn = [np.repeat(np.flatnonzero(mine), times[one.codes][mine].astype(int)) for times in one.multiplicities]
        loops = {
            "srocc": [spearmanr(up.attacked.iloc[i], up.opinion.iloc[i]).statistic for i in drawn],
            "plcc": [pearsonr(up.attacked.iloc[i], up.opinion.iloc[i]).statistic for i in drawn],
        }
        clean = [spearmanr(up.clean.iloc[i], up.opinion.iloc[i]).statistic for i in drawn]
        loops["change"] = np.subtract(loops["srocc"], clean)
        row = only(frame, attack=PGD, type=kind, eps=EPS)
        present = np.bincount(one.codes[mine], minlength=one.clusters) > 0
        for name, values in loops.items():
            scale = "plain" if name == "change" else "correlation"
            expected = interval(row[name], np.array(values), one.clusters, scale, present)
            found = [row[f"{name}_{part}"] for part in ("low", "high", "bias")]
            assert found == pytest.approx([expected.low, expected.high, expected.bias])
        assert row.references == row.clusters == {"wide": 19, "narrow": 5}[kind]
        assert row.interval == {"wide": "95 % studentised", "narrow": "descriptive"}[kind]


def test_all_types_together_are_the_row_of_the_srocc_table(pairs, table):
    (srocc,) = build_tables(dataclasses.replace(pairs, tables=["srocc"]))
    mine = table.frame[(table.frame.type == "all") & (table.frame.attack != "clean")].reset_index(drop=True)
    theirs = srocc.frame[~srocc.frame.attack.isin(OVER_ALL)].reset_index(drop=True)
    for name in ("metric", "defense", "attack", "direction", "eps", "srocc", "srocc_low", "srocc_high", "change_low"):
        pd.testing.assert_series_equal(mine[name], theirs[name], check_exact=True)
    clean = table.frame[(table.frame.type == "all") & (table.frame.attack == "clean")]
    assert clean.srocc.tolist() == srocc.frame.drop_duplicates(["metric", "defense"]).clean_srocc.tolist()


def test_the_order_of_tables_asked_for_does_not_matter(pairs, table):
    # The srocc table and this one share figures, whichever is made first.
    mine = next(t for t in build_tables(dataclasses.replace(pairs, tables=["srocc", "per_type"])) if t.name != "srocc")
    pd.testing.assert_frame_equal(mine.frame, table.frame, check_exact=True)


def test_a_single_type_or_none_or_triplets_have_no_table(run, pairs):
    assert per_type(grouped(pairs, lambda item, reference: "blur")) is None
    assert per_type(grouped(pairs, lambda item, reference: "")) is None
    made = build_tables(dataclasses.replace(run, tables=["per_type"]))
    assert [t.dataset for t in made] == ["mini"]
    unlabelled = dataclasses.replace(pairs, records=pairs.records.assign(opinion=np.nan))
    assert per_type(unlabelled) is None


def test_types_with_few_images_or_references_are_only_within_all(pairs):
    def kind(item, reference):
        return "few images" if item < 7 else "one reference" if reference == 9 else "a" if item % 2 else ""

    assert per_type(grouped(pairs, kind)) is None, "one type is left"
    made = per_type(grouped(pairs, lambda item, reference: kind(item, reference) or "b"))
    assert set(made.frame.type) == {"all", "a", "b"}
    assert (made.frame[made.frame.type == "all"].images == 96).all()
    assert any("fewer than 8 images or 5 references: few images and one reference." in note for note in made.notes)


def test_images_without_opinions_are_left_out(pairs):
    r = pairs.records
    some = r.assign(opinion=r.opinion.where(r["item"].str[1:].astype(int) % 4 > 0))
    row = only(per_type(dataclasses.replace(pairs, records=some)).frame, metric="psnr", attack="clean", type="blur")
    clean = r[(r.metric == "psnr") & (r.attack == "clean") & (r.group == "blur")]
    rated = clean[clean["item"].str[1:].astype(int) % 4 > 0]
    assert row.images == len(rated) == 36
    assert row.srocc == pytest.approx(spearmanr(rated.clean, rated.opinion).statistic)


def test_types_are_named_and_numbers_are_in_order(pairs):
    codes = ["10", "9", "08"]
    data = grouped(pairs, lambda item, reference: codes[item % 3])
    named = dataclasses.replace(data, group_names={"mini": {"08": "08 Gaussian blur"}, "other": {"9": "no"}})
    made = per_type(named)
    shown = [row[1] for row in made.full.rows if row[0] == "psnr"]
    assert shown == ["all types", "08 Gaussian blur", "9", "10"]
    assert set(made.frame.type) == {"all", *codes}
    assert set(made.frame.type_name) == set(shown)


def test_the_page_has_the_largest_budget_and_the_csv_all(table):
    assert table.full.header[:5] == ("metric", "type", "images", "references", "clean")
    assert {name.rpartition("ε ")[2] for name in table.full.header[5:]} == {"10/255"}
    assert "pgd\nmos_split, ε 10/255" in table.full.header and "noise\ncontrol, ε 10/255" in table.full.header
    assert len(table.full.rows) == 3 * 3
    read = pd.read_csv(io.StringIO(csv_text([table])))
    assert set((read.eps * 255).round()) == {0, 8, 10}
    # 3 scorers x (all + 2 types) x (clean + (2 controls + 2 attacks x 2 directions) x 2 budgets)
    assert len(read) == 3 * 3 * (1 + 6 * 2)
    row = only(table.frame, metric="psnr", attack=PGD, direction="up", type="jpeg", eps=10 / 255)
    (line,) = [line for line in table.full.rows if line[:2] == ("psnr", "jpeg")]
    cell = dict(zip(table.full.header, line, strict=True))["pgd\nup, ε 10/255"]
    assert cell == f"{row.srocc:.2f} [{row.srocc_low:.2f}, {row.srocc_high:.2f}]".replace("-", "−")


def test_a_failed_cell_and_a_direction_not_run(pairs):
    r = pairs.records
    lost = (r.metric == "psnr") & (r.attack == PGD) & (r.sign == 1) & ((r.eps - 10 / 255).abs() < 1e-9)
    made = per_type(dataclasses.replace(pairs, records=r[~(lost & (r["item"] == "i005"))], directions=["up", "error"]))
    assert not [name for name in made.full.header if "error" in name], "a column of dashes says nothing"
    lines = {row[:2]: dict(zip(made.full.header, row, strict=True)) for row in made.full.rows}
    assert lines["psnr", "blur"]["pgd\nup, ε 10/255"] == "failed" and any(
        note.startswith("failed: not finished.") for note in made.notes
    )
    assert lines["birqa-tiny", "blur"]["pgd\nup, ε 10/255"] != "failed"


def test_notes_say_what_figures_mean(pairs, table):
    notes = " ".join(table.notes)
    assert "proxy quality (not human opinions)" in table.title and "proxy labels of a type" in notes
    assert "Opinions are taken not to change within the budget." in notes and "mos_split goes by" in notes
    assert "descriptive" not in notes and "clean" not in table.protocol
    up = per_type(dataclasses.replace(pairs, directions=["up"]))
    assert "mos_split" not in " ".join(up.notes)
    few = per_type(grouped(pairs, lambda item, reference: "wide" if reference % 5 else "narrow"))
    assert any(note.startswith(f"Fewer than {DESCRIPTIVE_BELOW} references within narrow:") for note in few.notes)
    people = dataclasses.replace(pairs.datasets["mini"], labels="human")
    human = per_type(dataclasses.replace(pairs, datasets={"mini": people}))
    assert "proxy" not in human.title + human.explanation + " ".join(n for n in human.notes if n not in pairs.notices)


def test_a_run_without_attacks_has_clean_figures(pairs):
    made = per_type(dataclasses.replace(pairs, records=pairs.records[pairs.records.attack == "clean"]))
    assert made.full.header == ("metric", "type", "images", "references", "clean")
    assert "no attacks" in made.protocol and not any("mos_split" in note for note in made.notes)


def test_files_have_the_table_and_the_terminal_says_where(pairs, table, tmp_path):
    clean = dataclasses.replace(pairs, records=pairs.records[pairs.records.attack == "clean"])  # needs no figure
    write_report(clean, build_tables(clean), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert table.title in page and "all types" in page and 'href="tables/per_type.csv"' in page
    rows = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(table.full.rows)
    assert (tmp_path / "tables" / "per_type.md").read_text(encoding="utf-8").startswith(f"## {table.title}")
    assert (tmp_path / "tables" / "per_type.csv").is_file()
    console = Console(width=110, file=io.StringIO())
    print_screen(Screen(full=first_screen(pairs, [table], []).full), console, full=True)
    printed = console.file.getvalue()
    assert "2 types and 3 scorers" in printed and "tables/per_type.csv" in printed
    assert len(printed.strip().splitlines()) == 2
