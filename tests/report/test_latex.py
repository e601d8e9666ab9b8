"""Tables as LaTeX: whatever a name holds is escaped, and what is written compiles."""

import dataclasses
import itertools
import shutil
import subprocess

import pandas as pd
import pytest

from harness.report.build import build_tables
from harness.report.latex import latex
from harness.report.layout import Layout
from harness.report.render import PrintForms, write_report
from harness.report.table import Table
from harness.wording import for_latex

NASTY = r"a_b & c%d #1 $x$ <y> |z| {q} ~^\ Q̂ ≤ ε−1 é 图"


@pytest.fixture(scope="module")
def tables(run):
    return build_tables(dataclasses.replace(run, tables=["srocc", "ranks"]))


def a_table(name=NASTY, rows=1):
    layout = Layout((name, "SROCC ↑"), tuple((name, "−.93") for _ in range(rows)), 1, name)
    return Table("nasty", name, name, name, pd.DataFrame(), layout, layout, "Protocol: 100 %.", (name,))


def test_a_table_is_booktabs_with_caption_label_and_protocol(tables):
    table = next(table for table in tables if table.name == "srocc")
    text = latex(table)
    assert text.count(r"\toprule") == 2 and r"\label{tab:mini-srocc}" in text, "of the first page, and of the others"
    assert text.count(r" \\") >= len(table.compact.rows) and for_latex(table.protocol) in text.replace(
        r"\allowbreak{}", ""
    )
    names = [row[0] for row in table.compact.rows]
    changes = sum(one != other for one, other in itertools.pairwise(names))
    assert text.count(r"\addlinespace") == changes > 0 and text.count(f"\n{names[0]} &") == 1, "a name stands once"
    assert latex(a_table(rows=0)).startswith(r"\paragraph{a\_b")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_a_report_compiles(run, tables, tmp_path):
    long = dataclasses.replace(a_table("x " * 90, rows=2), dataset="long", name="long")
    write_report(run, [*tables, a_table(), long], tmp_path, PrintForms(True, ("pdf", "svg"), "column"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert r"\caption{mini: " in (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert "Overfull" not in done.stdout and (tmp_path / "report.pdf").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "figures").iterdir()} >= {
        "mini.png",
        "mini_column.pdf",
        "mini_column.svg",
    }


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_every_latin_letter_compiles_in_a_document_without_packages(tmp_path):
    letters = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180))]
    lines = "\n\n".join(for_latex("".join(letters[i : i + 16])) for i in range(0, len(letters), 16))
    (tmp_path / "all.tex").write_text(f"\\documentclass{{article}}\n\\begin{{document}}\n{lines}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0 and "Missing character" not in done.stdout, done.stdout[-2000:]
    spelt = {one for one in letters if for_latex(one).startswith("U+")}
    assert spelt == set("ĦħĸŦŧ"), "of which LaTeX has no letter"


def test_what_was_printed_of_other_figures_does_not_stay(run, tables, tmp_path):
    tables = [table for table in tables if table.name == "ranks"]
    write_report(run, tables, tmp_path, PrintForms(latex=True))
    assert (tmp_path / "tables/ranks.tex").is_file() and (tmp_path / "report.tex").is_file()
    write_report(run, tables, tmp_path)
    assert (tmp_path / "tables/ranks.tex").is_file(), "the tables say the same"
    write_report(run, [dataclasses.replace(tables[0], protocol="Protocol: another.")], tmp_path)
    assert not list(tmp_path.rglob("*.tex"))
