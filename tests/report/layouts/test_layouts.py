import dataclasses
import html
import io
import math
import re
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from harness.cli import main
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.report.layouts import arrange, check_names, known_names, write
from harness.report.layouts.cells import DIMENSIONS, STATISTICS
from harness.report.layouts.forms import FORMS
from harness.report.layouts.forms.terminal import print_grid
from harness.report.planned import registered
from harness.suite.layout_file import BLOCK_KEYS, LAYOUT_KEYS, Intervals, Per, Way, read_layouts
from harness.suite.strict_yaml import LocatedError
from harness.wording import for_latex, for_markdown

GRID = """
name: t
caption: C
rows: {metric: [psnr, ssim], training: [base, aat], rule: metric}
columns:
  - {title: SROCC, statistic: srocc, attack: [none, fgsm, cw], where: {budget: 8/255}}
  - {title: Minutes, statistic: training_minutes}
best: {per: block, srocc: higher}
"""


@pytest.fixture
def cells(cell):
    """psnr and ssim, base and aat, clean and under fgsm at two budgets; no cw, and minutes of one."""
    found = []
    for m, metric in enumerate(("psnr", "ssim")):
        for t, training in enumerate(("base", "aat")):
            who = {"metric": metric, "training": training}
            found.append(cell(0.8 + m / 20 + t / 50, attack="none", **who))
            for budget, loss in (("4/255", 0.1), ("8/255", 0.2)):
                at = {"attack": "fgsm", "norm": "linf", "direction": "up", "budget": budget, **who}
                found.append(cell(0.8 + m / 20 + t / 50 - loss, **at))
    return [*found, cell(46, statistic="training_minutes", metric="psnr", training="aat")]


def printed(grid):
    return [[line.labels[0], *(entry.printed for entry in line.entries)] for line in grid.panels[0].lines]


def test_rows_and_columns_are_products_with_headers_over_several_columns(layout, cells):
    grid = arrange(layout(GRID), cells)
    assert list(grid.headers()) == [
        [("SROCC", 3), ("Minutes", 1)],
        [("clean", 1), ("fgsm", 1), ("cw", 1), ("", 1)],
    ]
    assert printed(grid) == [
        ["psnr, base", "0.800", "0.600", "–", "–"],
        ["psnr, aat", "0.820", "0.620", "–", "46.000"],
        ["ssim, base", "0.850", "0.650", "–", "–"],
        ["ssim, aat", "0.870", "0.670", "–", "–"],
    ]
    assert [line.block for line in grid.panels[0].lines] == [0, 0, 1, 1]
    assert write(grid, "tex").count("\\midrule") == 2 and "\\multicolumn{3}{c}{SROCC}" in write(grid, "tex")


def test_missing_cells_are_named_with_the_reason(layout, cells, cell):
    failed = cell(float("nan"), metric="psnr", attack="cw", budget="8/255", state="failed", why="failed: out of memory")
    grid = arrange(layout(GRID), [*cells, failed])
    assert dict(grid.footnotes) == {
        "a": "failed: out of memory: psnr, base: SROCC / cw.",
        "b": "not asked for by the suite: psnr, base: Minutes; psnr, aat: SROCC / cw; "
        "ssim, base and ssim, aat: SROCC / cw, Minutes.",
    }
    letters = {entry.note for line in grid.panels[0].lines for entry in line.entries}
    assert letters == {"", "a", "b"}


def test_a_star_is_all_there_is_in_the_order_of_the_run(layout, cells):
    text = "{name: t, where: {statistic: srocc, training: base}, rows: {metric: '*'}, columns: {budget: '*', attack: [fgsm]}}"
    grid = arrange(layout(text), cells)
    assert [line.labels for line in grid.panels[0].lines] == [("psnr",), ("ssim",)]
    assert [column.header[0] for column in grid.columns] == ["4/255", "8/255"]


def marks(layout, cell, values, best, digits=2):
    spec = layout(
        f"name: t\nrows: {{metric: [a, b, c, d]}}\ncolumns: {{statistic: srocc}}\nbest: {best}\ndigits: {digits}"
    )
    grid = arrange(spec, [cell(value, metric=name) for name, value in zip("abcd", values, strict=True)])
    return [line.entries[0].mark for line in grid.panels[0].lines]


def test_the_best_is_compared_as_printed_and_ties_are_all_marked(layout, cell):
    values = (0.804, 0.796, 0.7, 0.701)
    assert marks(layout, cell, values, "{srocc: higher, second: true}") == ["best", "best", "second", "second"]
    assert marks(layout, cell, values, "{srocc: higher, second: true}", 3) == ["best", "second", "", ""]
    assert marks(layout, cell, values, "{srocc: lower}") == ["", "", "best", "best"]
    assert marks(layout, cell, (-0.2, 0.1, -0.1, 0.5), "{srocc: closest}") == ["", "best", "best", ""]
    assert marks(layout, cell, (-0.2, 0.1, -0.1, 0.5), "{srocc: {closest: 0.45}}") == ["", "", "", "best"]


def test_the_best_is_of_blocks_columns_or_rows_and_a_block_of_one_has_none(layout, cells):
    def best(per, text=GRID):
        grid = arrange(layout(text.replace("per: block", f"per: {per}")), cells)
        lines = grid.panels[0].lines
        return [(i, j) for i, line in enumerate(lines) for j, one in enumerate(line.entries) if one.mark], grid.notes

    assert best("block")[0] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert best("column")[0] == [(3, 0), (3, 1)]
    assert best("row")[0] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    alone = GRID.replace("training: [base, aat]", "training: [aat]")
    assert best("block", alone) == (
        [],
        ("Bold: the best of each block, as printed.", "A block of one row has no best."),
    )


@pytest.mark.parametrize(
    ("intervals", "shown"),
    [
        ("none", "0.10"),
        ("beside", "0.10 \\[−0.20, 0.40\\]"),
        ("below", "0.10 \\[−0.20, 0.40\\]"),
        ("halfwidth", "0.10 ± 0.30"),
    ],
)
def test_intervals(layout, cell, intervals, shown):
    spec = layout(
        f"{{name: t, rows: {{metric: [a]}}, columns: {{statistic: srocc}}, digits: 2, intervals: {intervals}}}"
    )
    grid = arrange(spec, [cell(0.1, metric="a", low=-0.2, high=0.4)])
    assert f"| a | {shown} |" in write(grid, "md")
    head, row = write(grid, "csv").splitlines()
    assert ("SROCC low" in head) == (intervals in ("beside", "below")) and row.startswith("a,0.10")
    assert ("\\begin{tabular}[t]" in write(grid, "tex")) == (intervals == "below")


def test_intervals_are_spoken_of_where_one_is_printed(layout, cell):
    text = "{name: t, rows: {metric: [a]}, columns: {statistic: srocc}, digits: 2, intervals: deviation}"
    one = cell(0.9, metric="a")
    assert arrange(layout(text), [one]).notes == ()
    grid = arrange(layout(text), [dataclasses.replace(one, deviation=0.02)])
    assert grid.notes == ("After ±: the standard deviation.",) and "| a | 0.90 ± 0.02 |" in write(grid, "md")


def test_a_layout_of_failed_cells_alone_is_laid_out(layout, cell):
    spec = layout("{name: t, rows: {metric: [a]}, columns: {statistic: srocc}}")
    grid = arrange(spec, [cell(float("nan"), metric="a", state="failed", why="failed: out of memory")])
    assert printed(grid) == [["a", "–"]] and dict(grid.footnotes)["a"].startswith("failed: out of memory")


def test_two_figures_for_one_place_name_what_is_to_be_fixed(layout, cells):
    with pytest.raises(LocatedError, match=r"layout.yaml:2:1.*2 figures fit .*differ in budget \(4/255, 8/255\)"):
        arrange(layout(GRID.replace(", where: {budget: 8/255}", "")), cells)


def test_a_layout_of_nothing_says_what_the_run_has_not(layout, cells):
    text = GRID.replace("caption: C", "where: {dataset: mini}")
    with pytest.raises(LocatedError, match=r"all cells are missing: there is no dataset mini \(there: kadid10k\)"):
        arrange(layout(text), cells)
    with pytest.raises(UserError, match="there is no statistic srocc or training_minutes in the run"):
        arrange(layout(GRID), [])


def test_misspelt_names_are_told_with_their_line(layout, cells):
    spec = layout(GRID.replace("cw]", "fgsmm]").replace("[psnr, ssim]", "[psnr, simm]"))
    known = known_names({"attack": ["none", "fgsm", "cw"], "metric": ["psnr", "ssim"]})
    with pytest.raises(LocatedError) as caught:
        check_names(spec, cells, known)
    assert re.match(
        r"layout.yaml:4:\d+: rows.metric: t: no metric 'simm' .* Did you mean 'ssim'\?", caught.value.lines[0]
    )
    assert re.match(r"layout.yaml:6:\d+: .*no attack 'fgsmm' .* Did you mean 'fgsm'\?", caught.value.lines[1])
    check_names(layout(GRID), cells, known)  # cw is known, though not in this run


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("caption: C", "where: {direction: upp}", r"layout.yaml:3:\d+: where.direction: t: no direction 'upp' .*'up'"),
        ("caption: C", "where: {norm: linff}", "no norm 'linff' .* Did you mean 'linf'"),
        (
            "budget: 8/255",
            "budget: 8/25",
            r"layout.yaml:6:\d+: columns.0.where.budget: t: no budget '0.32' .* Known: 4/255, 8/255",
        ),
        ("[base, aat]", "[base, att]", r"layout.yaml:4:\d+: rows.training: t: no training 'att' .* Did you mean 'at'"),
        ("statistic: srocc", "statistic: sroc", "no statistic 'sroc' .* Did you mean 'srocc'"),
        ("caption: C", "where: {threat: adaptiv}", "no threat 'adaptiv' .* Did you mean 'adaptive'"),
    ],
)
def test_misspelt_values_of_every_dimension_are_refused(layout, cells, old, new, message):
    spec = layout(GRID.replace(old, new).replace("best: {per: block, srocc: higher}", ""))
    known = known_names({"attack": ["none", "fgsm", "cw"], "metric": ["psnr", "ssim"]})
    with pytest.raises(LocatedError, match=message):
        check_names(spec, cells, known)
    check_names(layout(GRID.replace("budget: 8/255", "budget: 2/255")), cells, known)  # not run, and none misspelt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits: {sroc: 2}", "8: digits.sroc: t: no statistic 'sroc' in this layout. Did you mean 'srocc'?"),
        ("labels: {attack: {fgms: F}}", "8: labels.attack: t: no attack 'fgms' in this layout. Did you mean 'fgsm'?"),
        ("labels: {attack: {pgd: F}}", "no attack 'pgd' in this layout, which has none, fgsm and cw."),
        ("digits: {plcc: 2}", "no statistic 'plcc' in this layout, which has srocc and training_minutes."),
        ("statistic: scrocc", "5: columns.0.statistic: t: no statistic 'scrocc' in the run, and none of that name"),
        ("labels: {attack: {fgsm: F}} #[none, fgms, cw]", "5: columns.0.attack: t: no attack 'fgms' in the run"),
    ],
)
def test_the_misspelt_name_is_to_blame_and_not_the_right_one(layout, cells, text, message):
    """`best: {srocc: higher}` is right where the columns misspell srocc, and so are labels of a misspelt attack."""
    line, _, attacks = text.partition(" #")
    text = GRID.replace("[none, fgsm, cw]", attacks or "[none, fgsm, cw]").lstrip("\n")
    text = text.replace("statistic: srocc", line) if line.startswith("statistic") else f"{text}{line}\n"
    known = known_names({"attack": ["none", "fgsm", "cw", "pgd"], "metric": ["psnr", "ssim"]})
    with pytest.raises(LocatedError) as caught:
        check_names(layout(text), cells, known)
    (told,) = caught.value.lines
    assert message in re.sub(r":\d+: ", ": ", told, count=1)


def test_a_registered_name_stands_for_the_only_label_that_is_made_of_it(layout, cells, cell):
    """`cw` finds the attack that the suite runs with another parameter, which the header tells."""
    at = {"norm": "linf", "direction": "up", "budget": "8/255"}

    def carried(label, metric, run="a"):
        found = cell(0.5, metric=metric, attack=label, run=run, **at)
        return dataclasses.replace(found, made={**found.made, "attack": label})

    own = [carried("cw(steps=5)", "psnr"), carried("cw(steps=5)", "ssim")]
    grid = arrange(layout(GRID), [*cells, *own])
    assert grid.columns[2].header[-1] == "cw(steps=5)" and [row[3] for row in printed(grid)] == ["0.500", "–"] * 2
    named = arrange(layout(GRID.lstrip() + "labels: {attack: {cw: C&W}}\n"), [*cells, *own])
    assert named.columns[2].header[-1] == "C&W" and printed(named)[0][3] == "0.500"
    exact = arrange(layout(GRID), [*cells, *own, carried("cw", "psnr")])
    assert exact.columns[2].header[-1] == "cw" and printed(exact)[2][3] == "–"
    with pytest.raises(LocatedError) as caught:
        arrange(layout(GRID), [*cells, *own, carried("cw(steps=9)", "psnr")])
    assert re.match(
        r"layout.yaml:6:\d+: columns.0.attack: t: attack 'cw' could be any of cw\(steps=5\)", str(caught.value)
    )
    assert "Write the whole label, in quotation marks, or give each a name of its own in the suite" in str(caught.value)


def test_no_layout_of_the_repository_is_misspelt():
    suites, known = Path(__file__).parents[3] / "suites", known_names(registered(Registry()))
    layouts = [spec for path in suites.rglob("layouts/*.yaml") for spec in read_layouts(path)]
    assert len(layouts) > 14
    for spec in layouts:
        check_names(spec, (), known)


@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_misspelt_labels_of_a_suite_are_told_before_anything_is_run(verb, tmp_path, toy_file, capsys):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: s\ndatasets: [{name: toy, references: 2, levels: 2, size: 8}]\nmetrics: [{name: linear, label: Mine}]\n"
        "attacks: [{name: fgsm, label: quick}]\nbudgets: {linf: [8/255]}\nlimit: 4\nlayouts:\n"
        "  - {name: a, rows: {metric: [Mine, psnr]}, columns: {statistic: [srocc, of_a_table_of_my_own], attack: [none, quick]}}\n"
        "  - {name: b, rows: {metric: [Mein]}, columns: {statistic: sroc, attack: [none, quik]}}\n"
    )
    with pytest.raises(SystemExit) as end:
        main([verb, str(suite), "--plugin", str(toy_file), *(["--out", str(tmp_path / "o")] if verb == "run" else [])])
    said = capsys.readouterr().err
    assert end.value.code == 2 and not (tmp_path / "o").exists()
    assert re.search(r"suite.yaml:9:\d+: layouts.1.rows.metric: b: no metric 'Mein' .* Did you mean 'Mine'\?", said)
    assert "no statistic 'sroc' of that name anywhere. Did you mean 'srocc'?" in said and "my_own" not in said
    assert re.search(r"suite.yaml:9:\d+: layouts.1.columns.attack: b: no attack 'quik' .* Did you mean 'quick'\?", said)


def test_braces_are_printed_where_they_are_doubled_and_in_labels_of_the_run(layout, cell):
    text = (
        "name: t\nrows:\n  - {metric: psnr, title: 'a {{b}} {metric}'}\n  - {metric: 'x{metric}'}\n"
        "columns: {statistic: srocc, attack: [none]}\nlabels: {metric: {psnr: 'P{{S}}NR'}, attack: {none: '{{$x$}}'}}"
    )
    figures = [cell(0.5, metric=name, attack="none") for name in ("psnr", "x{metric}")]
    grid = arrange(layout(text), figures)
    assert [line.labels for line in grid.panels[0].lines] == [("a {b} P{S}NR",), ("x{metric}",)]
    assert grid.columns[0].header == ("{$x$}",)


def test_published_rows_name_what_there_is(layout, cells):
    rows = "published: {table: table3, rows: {psnr: LPIPZ, pnsr: LPIPS}}\n"
    with pytest.raises(LocatedError) as caught:
        arrange(layout(GRID + rows), cells)
    first, second = caught.value.lines
    assert re.match(
        r"layout.yaml:9:\d+: published.rows.psnr: t: the published table has no metric 'LPIPZ'.*'LPIPS'", first
    )
    assert re.match(r"layout.yaml:9:\d+: published.rows.pnsr: t: no metric 'pnsr' in this layout.*'psnr'", second)


def test_the_reason_of_a_missing_figure_is_whole_in_csv(layout, cells, cell):
    failed = cell(float("nan"), metric="psnr", attack="cw", budget="8/255", state="failed", why="failed: out of memory")
    page = write(arrange(layout(GRID), [*cells, failed]), "csv")
    assert page.splitlines()[1].endswith("failed: out of memory; not asked for by the suite")


def test_odd_names_and_figures_print_in_every_form(layout, cell):
    """A label of two texts beside one, halves of an emoji, a carriage return, and figures without end."""
    text = GRID + 'labels: {metric: {psnr: [PSNR, old], ssim: "S\\ud83d\\ude00\\rM"}}\nintervals: below\n'
    who = {"attack": "none", "training": "base"}
    wide = dataclasses.replace(cell(0.5, metric="psnr", **who), low=-math.inf, high=math.inf)
    grid = arrange(layout(text), [wide, cell(0.4, metric="ssim", **who)])
    assert {len(line.labels) for line in grid.panels[0].lines} == {2} and printed(grid)[0][1] == "0.500"
    for form in FORMS:
        assert write(grid, form).encode()
    assert "S😀 M" in write(grid, "md")


def test_runs_of_different_protocol_are_refused_and_told(layout, cells, cell):
    other = {"labels": "human", "images": "96", "split": "test", "seed": "1", "limit": "96", "version of torch": "2"}
    more = cell(0.3, metric="psnr", attack="cw", budget="8/255", facts=other, run="b")
    with pytest.raises(
        LocatedError, match=r"disagree in protocol .*images of kadid10k: 2000 \(a\) and 96 \(b\).*despite"
    ):
        arrange(layout(GRID), [*cells, more])
    grid = arrange(layout(GRID), [*cells, more], despite_protocol=True)
    assert "seed: 0 (a) and 1 (b)" in grid.notes[-1] and printed(grid)[0][3] == "0.300"
    same = cell(0.3, metric="psnr", attack="cw", budget="8/255", run="b")
    assert printed(arrange(layout(GRID), [*cells, same]))[0][3] == "0.300"
    clash = cell(0.5, metric="psnr", attack="none", run="b")
    with pytest.raises(LocatedError, match="a and b have other figures for the same cells"):
        arrange(layout(GRID), [*cells, clash])


def test_runs_that_make_one_label_otherwise_are_refused(layout, cells, cell):
    at = {"metric": "psnr", "attack": "fgsm", "norm": "linf", "direction": "up", "budget": "8/255"}
    few = dataclasses.replace(cells[2], made={**cells[2].made, "attack": "fgsm(steps=10)"})
    more = cell(0.6, run="b", **at)
    more = dataclasses.replace(more, made={**more.made, "attack": "fgsm"})
    with pytest.raises(LocatedError, match=r"protocol \(attack fgsm: fgsm\(steps=10\) \(a\) and fgsm \(b\); "):
        arrange(layout(GRID), [*cells[:2], few, *cells[3:], more])


def test_runs_agree_in_what_only_one_of_them_says(layout, cells, cell):
    facts = {name: value for name, value in cells[0].facts.items() if name != "images"} | {"precision": "fp32"}
    minutes = cell(50, statistic="training_minutes", metric="ssim", training="aat", run="b", facts=facts)
    assert printed(arrange(layout(GRID), [*cells, minutes]))[3][4] == "50.000"


WRONG = [
    ("nme: x", r"layout.yaml:8:1: nme: unknown key 'nme'. Did you mean 'name'\?"),
    ("intervals: under", "intervals: should be none, beside, below, deviation or halfwidth, got 'under'"),
    ("where: {datset: mini}", r"unknown dimension 'datset'. Did you mean 'dataset'\?"),
    ("labels: {attack: {fgsm: []}}", r"labels\.attack\.fgsm: is an empty list"),
    ("labels: {attack: {fgsm: 'F {metrc}'}}", r"\{metrc\} is no dimension. Did you mean 'metric'\?"),
    ("published: {tables: table3}", r"unknown key 'tables'. Did you mean 'table'\?"),
    ("triangle: upper", "should be lower, got 'upper'"),
    ("stub: [1, [2]]", r"stub.1: should be text, got \[2\]"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_what_is_wrong_with_a_layout_is_told_at_its_place(layout, line, message):
    with pytest.raises(LocatedError, match=message):
        layout(GRID.lstrip("\n") + line + "\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: t\n", "", "the key 'name' is missing"),
        ("rule: metric", "rule: attack", r"'attack' is no dimension that this block lists"),
        ("[psnr, ssim]", "[psnr, psnr]", "'psnr' is listed twice"),
        ("[psnr, ssim]", "[]", "should not be empty"),
        ("[psnr, ssim]", "[psnr, '*']", r"'\*' stands alone"),
        ("statistic: srocc, ", "statistic: srocc, metric: psnr, ", "'metric' is given in rows and in columns"),
        (
            "caption: C",
            "where: {metric: '*'}",
            r"'\*' stands for all values of rows and columns. Give one value of metric",
        ),
        ("{title: Minutes, statistic: training_minutes}", "{}", "a block names a dimension, one of dataset, metric"),
        ("srocc: higher", "srocc: {closest: true}", "best.srocc.closest: should be a number, such as 0, got True"),
        ("title: SROCC", "title: '{metrik}'", r"\{metrik\} is no dimension. Did you mean 'metric'\? Write \{\{"),
        ("title: SROCC", "title: '{attack}'", r"\{attack\} has no one value in this block"),
        ("caption: C", "triangle: lower", "only differences are the mirror image .* such as delta_srocc"),
        ("srocc: higher", "srocc: highest", r"should be higher, lower or closest.*Did you mean 'higher'\?"),
        ("per: block", "per: blocks", r"Did you mean 'block'\?"),
    ],
)
def test_parts_of_a_layout_that_cannot_be(layout, old, new, message):
    assert old in GRID
    with pytest.raises(LocatedError, match=message):
        layout(GRID.replace(old, new))


def test_an_unknown_published_table_and_an_unknown_form(layout, cells):
    with pytest.raises(LocatedError, match=r"layout.yaml:8:12.*no published table 'table33'.*Did you mean 'table3'\?"):
        arrange(layout(GRID.lstrip("\n") + "published: table33\n"), cells)
    with pytest.raises(UserError, match=r"unknown form 'pdf'. Forms are md, csv, html, tex, standalone.tex"):
        write(arrange(layout(GRID), cells), "pdf")


def test_names_come_out_as_they_are_in_every_form(nasty, nasty_name):
    name = nasty_name
    assert html.escape(name, quote=False).replace("'", "&#39;") in write(nasty, "html")
    assert "<i>" not in write(nasty, "html") and for_markdown(name) in write(nasty, "md")
    rows = [line for line in write(nasty, "md").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert "'=2,1234.500," in write(nasty, "csv") and f',"{name}"' not in write(nasty, "csv")
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    print_grid(nasty, console)
    assert name in console.file.getvalue() and "1,234.500" in console.file.getvalue()


def test_latex_escapes_what_it_has_and_spells_what_it_has_not():
    known = {
        "_&%#$": r"\_\&\%\#\$",
        "<|>": r"\textless{}\textbar{}\textgreater{}",
        "~^\\{}": r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}",
        "[x]": "{[}x{]}",
        "a--b": "a-{-}b",
        "↑ ε σ Σ ς ± −": r"$\uparrow$ $\varepsilon$ $\sigma$ $\Sigma$ $\varsigma$ $\pm$ $-$",
        "Q̂ é ü ñ": r"\^{Q} \'{e} \"{u} \~{n}",
        "x² ﬁ µ": r"x\textsuperscript{2} fi $\mu$",
        "中\n": "U+4E2D ",
        "½ Œ £ ą": r"\textonehalf{} \OE{} \textsterling{} {\fontencoding{T1}\selectfont\k{a}}",
        "«x»": r"{\fontencoding{T1}\selectfont\guillemotleft{}}x{\fontencoding{T1}\selectfont\guillemotright{}}",
        "?` !‘ *": r"?\textasciigrave{} !\textquoteleft{} {*}",
        "\x1b\u202e": r"\textbackslash{}x1b\textbackslash{}u202e",
    }
    assert {text: for_latex(text) for text in known} == known


def test_any_character_is_ascii_in_latex():
    for start in (*range(0x20, 0x600, 7), *range(0x2000, 0x2300, 3), 0x1F600):
        assert for_latex(chr(start) + "a").isascii()


def test_the_page_names_every_key_dimension_and_statistic():
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
    names = (*LAYOUT_KEYS, *BLOCK_KEYS, *DIMENSIONS, *STATISTICS, *get_args(Intervals), *get_args(Per), *get_args(Way))
    assert [name for name in names if not re.search(rf"`[^`]*\b{name}\b[^`]*`", page)] == []
