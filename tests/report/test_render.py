import dataclasses
import html as escaping
import io
import re
import subprocess
import sys

import pandas as pd
import pytest

from harness.report.build import build_tables
from harness.report.data import Failure
from harness.report.render import csv_text, markdown, write_report
from harness.wording import for_markdown


@pytest.fixture(scope="module")
def tables(run):
    return build_tables(run)


def test_files_are_complete_and_nothing_is_left_behind(run, tmp_path):
    write_report(run, build_tables(run), tmp_path)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    names = ("adequacy", "attacks", "defenses", "ordering", "pair_accuracy", "per_type", "shift", "srocc", "two_afc")
    names += ("ir_score", "ranks", "verdicts")
    expected = [f"tables/{name}.{kind}" for name in names for kind in ("csv", "md")] + ["tables/verdicts.json"]
    assert found == sorted(["index.html", "terminal.json", "figures/mini.png", "figures/mini_2afc.png", *expected])
    assert (tmp_path / "figures/mini.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_stands_alone_and_escapes(run, tmp_path):
    failure = Failure("mini / psnr / clean", "i000", "<script>alert(1)</script>")
    failed = dataclasses.replace(run, failures=[failure], notices=["a < b"])
    write_report(failed, build_tables(failed), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "a &lt; b" in page
    assert not re.search(r'(?:src|href)="https?:', page)
    assert page.count("data:image/png;base64,") == 2
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))
    for table in build_tables(run):
        assert escaping.escape(table.protocol, quote=False).split(";")[0] in page


def test_csv_gives_the_numbers_back(tables):
    mine = [table for table in tables if table.name == "shift"]
    read = pd.read_csv(io.StringIO(csv_text(mine)))
    whole = pd.concat([table.frame for table in mine], ignore_index=True)
    assert len(mine) == 2 and set(read["dataset"]) == {"mini", "mini_2afc"}
    for name in ("shift_over_sigma", "eps", "excess_over_restore_low"):
        pd.testing.assert_series_equal(read[name], whole[name], rtol=1e-6)


def test_markdown_rows_have_as_many_cells_as_the_heading(tables):
    for table in tables:
        rows = [line for line in markdown(table).splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
        assert len(rows) == 2 + len(table.full.rows)
        assert for_markdown(table.protocol) in markdown(table)


def test_an_empty_run_is_reported(run, tmp_path):
    empty = dataclasses.replace(run, records=run.records.iloc[:0])
    assert build_tables(empty) == []
    write_report(empty, [], tmp_path)
    assert (tmp_path / "index.html").exists()


def test_importing_the_report_is_light():
    code = "import sys, harness.report; print([m for m in ('torch', 'matplotlib', 'jinja2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_report_broken_off_between_figures_and_tables_is_whole_the_next_time(run, tables, tmp_path, monkeypatch):
    import harness.report.render as render

    write = render.write_whole

    def broken_off(path, content):
        if path.suffix == ".csv":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(render, "write_whole", broken_off)
    with pytest.raises(KeyboardInterrupt):
        write_report(run, tables, tmp_path)
    monkeypatch.undo()
    write_report(run, tables, tmp_path)
    assert (tmp_path / "figures/mini.png").is_file() and "data:image/png" in (tmp_path / "index.html").read_text()


def test_a_table_that_is_no_longer_made_leaves_no_file(run, tables, tmp_path):
    write_report(run, tables, tmp_path)
    fewer = [table for table in tables if table.name != "ordering"]
    write_report(run, fewer, tmp_path)
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {table.name for table in fewer}


def test_a_table_of_several_versions_or_devices_says_so_at_its_head(run, tables):
    assert not any(table.explanation.startswith("MADE FROM") for table in tables)
    records = run.records.copy()
    triplets = records["dataset"] == "mini_2afc"
    records.loc[triplets & (records["metric"] == "ssim"), "device"] = "cuda NVIDIA H200"
    for table in build_tables(dataclasses.replace(run, records=records)):
        head = "MADE FROM RECORDS OF torch 2.13.0 on cpu AND OF torch 2.13.0 on cuda NVIDIA H200."
        assert table.explanation.startswith(head) == (table.dataset == "mini_2afc")
