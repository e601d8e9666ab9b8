"""Text in every form, read back by what reads that form: nothing in a name is markup, a formula or a command."""

import csv
import dataclasses
import html
import io
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from rich.table import Table as Grid

from harness.cli import main
from harness.engine.drawing import encoded, legend_below, new_figure
from harness.engine.glyphs import drawable
from harness.files import csv_of
from harness.report.build import build_tables
from harness.report.layout import as_html
from harness.report.render import write_report
from harness.report.screen import print_screen, read_screen
from harness.wording import (
    for_csv,
    for_html,
    for_latex,
    for_markdown,
    for_screen,
    html_environment,
    plain_console,
    visible,
)

HARNESS = Path(__file__).parents[2] / "harness"
NASTY = [
    "[red]p|snr[bold]",
    "[/b]",
    "<img src=x onerror=alert(1)>",
    "=HYPERLINK(1)\x1b[31m $x_1$ \textbf",
    "$x_{$",
    "x $y_$ z",
    "- a",
    "1. a",
    "# a",
    ":warning: *a* _b_ `c` ~~d~~ &amp; \\ {x}",
    "abc\u202edef\u2066\u200f",
    "_hidden",
    "\udcff",
]
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def rendered(text: str) -> str:
    """What a reader of Markdown sees of one paragraph."""
    page = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert page.startswith("<p>"), page
    return html.unescape(re.sub(r"<[^>]*>", "", page)).strip("\n")


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_read_back_as_it_is_from_every_form(name):
    shown = for_screen(name)
    assert not UNSEEN.search(shown)
    assert shown == name.replace("\t", " ") or UNSEEN.search(name)
    assert rendered(for_markdown(name)).replace("\t", " ") == shown.strip()
    assert html.unescape(for_html(name)).replace("\t", " ") == shown and not re.search(r"[<>]", for_html(name))
    assert html_environment().from_string("{{ x }}").render(x=name) == for_html(name).replace("&#x27;", "&#39;")
    assert for_csv(name).removeprefix("'").replace("\t", " ") == shown
    screen = plain_console(file=io.StringIO(), width=100)
    screen.print(name)
    table = Grid(name, title=name)
    table.add_row(name)
    screen.print(table)
    first = " ".join(shown.split())
    assert sum(first in " ".join(line.split()) for line in screen.file.getvalue().splitlines()) == 4


@given(st.text())
def test_no_text_gets_past_a_form(name):
    for escaped in (for_screen(name), for_markdown(name), for_html(name), for_csv(name), for_latex(name)):
        assert not UNSEEN.search(escaped)
    assert for_latex(name).isascii()
    assert not for_csv(name).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_frame_of_names_and_numbers_comes_back_from_csv():
    names = NASTY[:-1]  # pandas takes no halves of characters
    frame = pd.DataFrame({"metric": names, "=x": -0.5, "some": [None, *names[1:]]})
    read = list(csv.DictReader(io.StringIO(csv_of(frame))))
    assert [row["metric"].removeprefix("'") for row in read] == [visible(name) for name in names]
    assert {row["'=x"] for row in read} == {"-0.5"} and read[0]["some"] == ""
    assert read[3]["metric"].startswith("'=HYPERLINK") and read[6]["metric"] == "'- a"


@pytest.fixture(scope="module")
def named(make_run):
    """A run whose metric and data set have names with markup, and a failure that says what its plugin did."""
    run = make_run(images=24, references=6, defense=False, triplets=False)
    records = run.records.replace({"psnr": NASTY[3], "ssim": NASTY[0], "mini": NASTY[2]})
    parts = {NASTY[2]: run.datasets["mini"]}
    medians = {(NASTY[2], {"psnr": NASTY[3], "ssim": NASTY[0]}.get(m, m), k): v for (_, m, k), v in run.medians.items()}
    return dataclasses.replace(run, records=records, datasets=parts, medians=medians, tables=["srocc"])


def test_no_file_of_a_report_has_what_its_form_would_act_on(named, tmp_path):
    tables = build_tables(named)
    write_report(named, tables, tmp_path)
    forms = (".html", ".md", ".csv", ".json")
    pages = {path.suffix: path.read_text() for path in tmp_path.rglob("*") if path.suffix in forms}
    assert set(pages) == set(forms)
    screen = plain_console(file=io.StringIO(), width=200)
    print_screen(read_screen(tmp_path / "terminal.json"), screen, full=True)
    pages["printed"] = screen.file.getvalue()
    assert not any(UNSEEN.search(page) for page in pages.values())
    assert "<img src=x" not in pages[".html"] + pages[".md"].replace("\\<", "") + "".join(
        as_html(t.full) for t in tables
    )
    assert ",'=HYPERLINK" in pages[".csv"] and ",=HYPERLINK" not in pages[".csv"]
    assert "[red]p|snr[bold]" in pages["printed"]


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_names_are_drawn_without_formulas_and_without_a_warning(form):
    figure = new_figure(8, 9)
    axes = figure.subplots()
    names = [*NASTY, "中 א \U0001f600"]
    for place, name in enumerate(names):
        axes.plot([0, 1], [place, place], label=name if name != "_hidden" else " _hidden")
    axes.set_yticks(range(len(names)), names)
    figure.suptitle("$x_{$ 中")
    legend_below(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoded(figure, form)
    assert len(figure.legends[0].get_texts()) == len(names)


def test_a_letter_is_drawn_in_a_font_that_has_it():
    usual, other = (FT2Font(findfont(name)).get_charmap() for name in ("DejaVu Sans", "STIXGeneral"))
    only = next(chr(code) for code in other if code not in usual and chr(code).isprintable())
    found = drawable(f"a{only}")
    assert found.text == f"a{only}" and ord(only) in FT2Font(findfont(found.families[0])).get_charmap()
    assert drawable("a\U000e0fff\u0e5c").families == () and drawable("abc") == ("abc", ())
    assert drawable("\U00010ffd").text == "\U00010ffd", "for private use: `visible` writes its code"


@pytest.mark.parametrize("verb", ["validate", "plan", "run", "status", "report", "cite", "show", "compare"])
def test_markup_in_arguments_is_told_as_it_is(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, *["x[/b]\x1b[31my"] * (1 + (verb == "compare"))])
    said = "".join(capsys.readouterr())
    assert end.value.code == 2 and r"x[/b]\x1b[31my" in said and "\x1b" not in said


def test_every_writer_takes_the_escapings_of_one_module():
    own = re.compile(r"\bConsole\(|import jinja2|jinja2\.Environment|html\.escape|rich\.markup|(?<!\w)Text\(")
    known = {"wording.py", "app.py"}  # the help of the program is written by nobody else
    files = [path for path in HARNESS.rglob("*.py") if path.name not in known]
    found = {path.name: own.findall(path.read_text()) for path in files}
    assert {name: names for name, names in found.items() if names} == {}


PLUGIN = '''
from harness.contracts import Metric, register

@register("mk")
class M(Metric):
    """A [red]metric[/nonsense] <script>alert(1)</script>."""

    higher_is_better = False

    def __init__(self, *, mode: str = "x"):
        super().__init__()
        self.mode = mode

    def score(self, reference, dist):
        raise RuntimeError("boom [/bold] <script>alert(2)</script> \\x1b[31mred | pipe\\nsecond line \\\\textbf{x} $x$")
'''
SUITE = r"""
name: labels
datasets: [{name: toy, references: 2, levels: 2, size: 16, label: '<img src=x onerror=alert(1)>'}]
metrics: [{name: linear, label: '[red]p|snr[bold]'}, {name: mk, mode: '[/b]'}, {name: psnr, label: "=HYPERLINK(1)\e[31m $x_1$ \textbf"}]
tables: [srocc]
limit: 4
slice: 4
"""


def test_a_run_of_markup_into_a_folder_of_markup(tmp_path, toy_file, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "markup.py").write_text(PLUGIN)
    (tmp_path / "suite.yaml").write_text(SUITE)
    said, code = "", {}
    options = ["--plugin", "markup.py", "--plugin", str(toy_file)]
    run = ["run", "suite.yaml", "--out", "x[/b]y", "--executor", "serial"]
    for verb in (run, ["report", "x[/b]y", "--latex"], ["status", "x[/b]y"], ["show", "mk"]):
        with pytest.raises(SystemExit) as end:
            main([*verb, *options])
        code[verb[0]] = end.value.code
        said += "".join(capsys.readouterr())
    assert code == {"run": 1, "report": 1, "status": 0, "show": 0}
    assert not UNSEEN.search(said) and "Traceback" not in said
    assert "Report: x[/b]y/report/index.html" in said and "labels in x[/b]y" in said
    assert "A [red]metric[/nonsense] <script>" in said and "[red]p|snr[bold]" in said
    (line,) = {line for line in said.splitlines() if line.startswith("failed: ") and "boom" in line}
    assert r"<script>alert(2)</script> \x1b[31mred | pipe second line \textbf{x} $x$" in line
    pages = [
        path
        for path in (tmp_path / "x[/b]y" / "report").rglob("*")
        if path.suffix in (".html", ".md", ".csv", ".txt", ".json", ".tex")
    ]
    assert len(pages) > 6 and not any(UNSEEN.search(path.read_text()) for path in pages)
    assert "<script" not in (tmp_path / "x[/b]y" / "report" / "index.html").read_text()
