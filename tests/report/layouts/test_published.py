import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.layouts import arrange, published_cells, published_tables, read_layouts, write
from harness.report.layouts.published import PUBLISHED_FOLDER, metric_names

LAYOUTS = PUBLISHED_FOLDER.parent / "layouts"
EXPECTED = Path(__file__).parent / "expected"
TABLES = ("table1", "table2", "table3", "table4", "table6", "table7", "table8", "table9")


def laid_out(table):
    (spec,) = read_layouts(LAYOUTS / f"{table}.yaml")
    return arrange(spec, published_cells(spec.published.table))


def compiled(source, folder):
    """The text of the PDF that a TeX engine makes of a document, in the order of the page."""
    found = (
        shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).returncode == 0
    )
    if shutil.which("pdflatex") is None or not found:
        pytest.skip("no TeX engine: apt-get install texlive-latex-recommended texlive-science")
    (folder / "document.tex").write_text(source, encoding="utf-8")
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0 and "Undefined control sequence" not in done.stdout, done.stdout[-3000:]
    assert (folder / "document.pdf").read_bytes().startswith(b"%PDF")
    return done.stdout


@pytest.mark.parametrize("table", TABLES)
def test_a_published_table_is_printed_as_the_paper_has_it(table):
    hand_written = (EXPECTED / f"{table}.tex").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(hand_written) if line.startswith("% Needs"))  # below the remarks
    assert write(laid_out(table), "tex").splitlines() == hand_written[start:]


def test_no_published_figure_is_left_out():
    known = published_tables()
    for table in TABLES:
        page = write(laid_out(table), "csv")
        with (PUBLISHED_FOLDER / known[table]["file"]).open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                for column in known[table]["figures"]:
                    assert not row[column] or re.search(
                        rf"(^|,){re.escape(row[column].replace('x', '×'))}(,|$)", page, re.M
                    )


def test_a_name_that_nobody_computes_the_same_has_no_counterpart():
    known = metric_names()
    assert known["MS-SSIM"].here == "ms_ssim(luma=uint8)" and known["VIF"].here == "" == known["LPIPS"].here


def test_fragments_are_input_and_a_document_of_any_names_compiles(nasty, tmp_path):
    for table in TABLES:
        (tmp_path / f"{table}.tex").write_text(write(laid_out(table), "tex"), encoding="utf-8")
    inputs = "\n".join(rf"\input{{{table}}}\clearpage" for table in TABLES)
    head = r"\documentclass{article}\usepackage{booktabs,siunitx,graphicx,amssymb}"
    told = compiled(rf"{head}\begin{{document}}\listoftables {inputs}\end{{document}}", tmp_path)
    assert "LaTeX Error" not in told and "Overfull \\hbox" not in told.split("document.aux")[0].replace(
        "(in paragraph", ""
    )
    compiled(write(nasty, "standalone.tex"), tmp_path)


def ours(cell, **facts):
    run = {"labels": "human", "images": "2025", "split": "test", "seed": "0", "limit": "none"} | facts
    rows = [("lpips-alex", "base", 0.9), ("topiq", "base", 0.93), ("topiq", "aat", 0.915)]
    return [cell(value, metric=metric, training=training, attack="none", facts=run) for metric, training, value in rows]


def test_published_numbers_stand_in_a_panel_of_their_own_with_differences(cell):
    (spec,) = read_layouts(LAYOUTS / "table3.yaml")
    grid = arrange(spec, ours(cell))
    assert [panel.title for panel in grid.panels] == ["Here", "Published (Table 3)", "Here − published"]
    clean = [{line.labels[0]: line.entries[0].printed for line in panel.lines} for panel in grid.panels]
    assert clean[1]["base TOPIQ"] == "0.938" and clean[2]["base TOPIQ"] == "−0.008"
    assert clean[2]["AAT-TOPIQ (ours)"] == "0.004"
    assert clean[1]["base LPIPS"] == "0.893" and clean[2]["base LPIPS"] == "–"
    assert any("LPIPS: the network is not named" in text for _, text in grid.footnotes)
    assert (
        clean[0]["base BiRQA"] == "–" and any("metric not in this run" in text for _, text in grid.footnotes) is False
    )
    assert any(text.startswith("published only, not computed here: ") for _, text in grid.footnotes)
    for form in ("md", "html", "csv", "tex"):
        assert "Published (Table 3)" in write(grid, form).replace("\\", "")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"labels": "proxy"}, "figures of kadid10k are on proxy labels"),
        ({"limit": "96"}, "figures of kadid10k are on part of the images (limit 96)"),
        ({"split": "all"}, "figures of kadid10k are on split all, not test"),
        ({"split": "val"}, "figures of kadid10k are on split val, not test"),
    ],
)
def test_published_numbers_never_stand_beside_proxies_or_a_part_of_the_data(cell, facts, why):
    (spec,) = read_layouts(LAYOUTS / "table3.yaml")
    grid = arrange(spec, ours(cell, **facts))
    assert len(grid.panels) == 1 and not any("0.938" in write(grid, form) for form in ("md", "tex"))
    assert any(why in note for note in grid.notes)


def test_published_numbers_never_stand_beside_another_data_set(cell):
    (spec,) = read_layouts(LAYOUTS / "table3.yaml")
    other = [type(one)(**{**vars(one), "made": {**one.made, "dataset": "csv(file=some.csv)"}}) for one in ours(cell)]
    grid = arrange(spec, other)
    assert len(grid.panels) == 1 and any("is not the paper's data set" in note for note in grid.notes)


def test_published_numbers_of_labels_that_nobody_has_stand_without_a_difference(cell):
    (spec,) = read_layouts(LAYOUTS / "table6.yaml")
    at = {"metric": "psnr", "attack": "none", "statistic": "srocc"}
    grid = arrange(spec, [cell(0.4, dataset=name, **at) for name in ("csiq", "pipal")])
    (line,) = [line for line in grid.panels[2].lines if line.labels == ("PSNR",)]
    assert [entry.printed for entry in line.entries].count("–") == len(line.entries) - 1, "csiq alone has a difference"
    assert any(
        text.startswith("no difference: the paper's are of the private test split") for _, text in grid.footnotes
    )
