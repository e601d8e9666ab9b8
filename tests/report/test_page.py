"""The page: its numbers are those of the tables, everything is said once, and it keeps to a size."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import zlib

import pytest
from matplotlib import font_manager
from PIL import ImageFont

from harness.report.arrays import lay_out
from harness.report.build import build_tables
from harness.report.headline import SUSPECT, Masking, headlines
from harness.report.page import all_tables, inline_json, page_html
from harness.report.page.columns import column_of
from harness.report.page.heat_map import heat_map
from harness.report.page.outlined import outlined_pdf
from harness.report.page.section import PageInput, id_text
from harness.report.page.svg import Picture, Stroke, Words
from harness.suite.tables import table_names


@pytest.fixture(scope="module")
def page(make_run):
    """A run of three metrics on pairs and triplets with all of its tables, as sections are made from it."""
    data = dataclasses.replace(make_run(images=48, references=12, defense=False), tables=list(table_names()))
    evaluated = lay_out(data)
    return PageInput(data, build_tables(data, evaluated), evaluated, headlines(data, evaluated))


@pytest.fixture(scope="module")
def text(page):
    return page_html(page)


def table_rows(text, name):
    """Heads of a table's columns, and its rows as lists of texts."""
    own = re.search(rf'<details class="table" id="{name}">.*?</details>', text, re.S)[0]
    heads = re.findall(r'data-column="([^"]+)"', own)
    body = re.search(r"<tbody>(.*?)</tbody>", own, re.S)[1]
    return heads, [re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in body.split("<tr>")[1:]]


def number_of(cell):
    return float(cell.replace("−", "-")) if cell not in ("", "–") else math.nan


def test_every_number_is_the_frames_and_stands_alone_in_its_cell(page, text):
    compared = set()
    for table in page.tables:
        if not table.protocol:
            continue
        heads, rows = table_rows(text, f"table-{table.name}-{table.dataset}".replace("_", "-"))
        assert len(rows) == len(table.frame) and {len(row) for row in rows} == {len(heads)}
        for place, name in enumerate(heads):
            if name in table.frame and table.frame[name].dtype == float and name != "eps":
                shown = [number_of(row[place]) for row in rows]
                assert shown == pytest.approx(table.frame[name].to_list(), rel=6e-4, abs=6e-4, nan_ok=True), (
                    table.name,
                    name,
                )
                compared.add((table.name, name))
        assert not any("[" in cell for row in rows for cell in row if re.match(r"[−\d]", cell))
    assert {name for name, _ in compared} == {table.name for table in page.tables if table.protocol}
    assert {("srocc", "srocc"), ("shift", "shift_over_sigma"), ("two_afc", "accuracy")} <= compared


def test_every_column_has_a_meaning_a_unit_and_a_direction_where_it_has_one(page):
    left = {(t.name, str(c)) for t in page.tables for c in t.frame if column_of(t.name, str(c)) is None}
    # Whose the row is stands in the column "metric" and "attack"; norms beside the attack, the rest in the protocol.
    assert {c for _, c in left} <= {"dataset", "threat", "source", "broken", "control", "norm", "labels"}
    assert (column_of("srocc", "srocc").arrow, column_of("shift", "shift_over_sigma").arrow) == ("↑", "↓")
    assert column_of("srocc", "srocc_low").told.startswith("Lower end of the 95 % interval of: rank correlation")


def test_the_protocol_stands_once_and_tables_link_to_it(page, text):
    for dataset in ("mini", "mini_2afc"):
        own = next(table for table in page.tables if table.dataset == dataset)
        (interval,) = re.findall(r"95 % intervals: [^;]+", own.protocol)
        assert text.count(f"<li>{html.escape(interval)}</li>") == 1
        link = f'href="#protocol-{dataset.replace("_", "-")}"'
        assert text.count(link) == sum(table.dataset == dataset and bool(table.protocol) for table in page.tables)
    assert "Protocol: " not in text
    assert len({id_text(name) for name in ("mini_2afc", "mini-2afc", "测试", "数据")}) == 4
    targets = set(re.findall(r'href="#([^"]+)"', text)) - {"main", "top"}
    assert targets <= set(re.findall(r' id="([^"]+)"', text))


def test_a_cell_of_the_heat_map_is_the_lowest_of_the_directions(page):
    drawn = heat_map(page).html
    srocc = next(table.frame for table in page.tables if table.name == "srocc")
    eps, worst = 8 / 255, 'data-norm="linf" data-eps="8/255" data-direction="worst" data-show="left"'
    variant = next(part for part in drawn.split("<div data-")[1:] if f"data-{part}".startswith(worst))
    attacks = re.findall(r'data-attack="([^"]+)"', variant)
    assert attacks[:2] == ["noise", "restore"] and {"fgsm", "pgd(steps=10)"} <= {*attacks}
    rows = re.findall(r'<tr data-metric="(.*?)</tr>', variant, re.S)
    assert len(rows) == srocc["metric"].nunique() == 3
    for row in rows:
        metric, cells = row.split('"')[0], re.findall(r"<td[^>]*>(?:<button>)?([^<]+)", row)
        own = srocc[(srocc["metric"] == metric) & (srocc["eps"] - eps).abs().lt(1e-6)]
        assert number_of(cells[0]) == pytest.approx(own["clean_srocc"].iloc[0], abs=6e-4)
        for attack, cell in zip(attacks, cells[1:], strict=True):
            assert number_of(cell) == pytest.approx(own[own["attack"] == attack]["srocc"].min(), abs=6e-4)


def test_where_one_direction_failed_there_is_no_worst_of_all(page, monkeypatch):
    known, failed = heat_map.__globals__["rows_of"], {"state": "failed", "srocc": math.nan}

    def rows_of(*which):
        return [row | failed if (row["attack"], row["direction"]) == ("fgsm", "up") else row for row in known(*which)]

    monkeypatch.setitem(heat_map.__globals__, "rows_of", rows_of)
    variants = heat_map(page).html.split("<div data-")
    for way, cell in (("worst", "failed"), ("up", "failed"), ("mos_split", "")):
        start = f'norm="linf" data-eps="8/255" data-direction="{way}" data-show="left"'
        (variant,) = (part for part in variants if part.startswith(start))
        assert variant.count("<td>failed") == (3 if cell else 0)


def test_a_metric_whose_gradients_are_suspect_carries_its_flag_in_every_ranking(page):
    verdicts = {"psnr": Masking(SUSPECT, ("x",), "x: 1")}
    told = [
        dataclasses.replace(
            one,
            rows=tuple(dataclasses.replace(r, masking=verdicts.get(r.metric, Masking("clean"))) for r in one.rows),
        )
        for one in page.headlines
    ]
    flagged = dataclasses.replace(page, headlines=told)
    assert '<th scope="row">psnr ⚑</th>' in heat_map(flagged).html and "ssim ⚑" not in heat_map(flagged).html
    heads, lines = table_rows(all_tables.tables_section(flagged, 10**7).html, "table-srocc-mini")
    assert {row[heads.index("metric")] for row in lines} == {"psnr ⚑", "ssim", "birqa-tiny"}


def test_too_long_tables_have_the_usual_budget_then_their_files_alone(page, monkeypatch):
    whole = all_tables.tables_section(page, 10**7).html
    monkeypatch.setattr(all_tables, "LEAST_BYTES", 0)
    cut = all_tables.tables_section(page, len(whole.encode()) // 2).html
    heads, rows = table_rows(cut, "table-attacks-mini")
    assert {row[heads.index("eps")] for row in rows} == {"8/255", "–"} and "those of the usual budget" in cut
    nothing = all_tables.tables_section(page, 0).html
    assert "<tbody>" not in nothing and 'href="tables/attacks.csv"' in nothing


def test_the_same_records_give_the_same_page_and_nothing_in_it_ends_a_script(page, text):
    assert page_html(page) == text
    value = {"a": "</script><!-- \u2028", "b": [1.5, None]}
    assert json.loads(inline_json(value)) == value and not re.search("[<\u2028]", inline_json(value))
    with pytest.raises(ValueError, match="JSON"):
        inline_json({"a": math.nan})


def test_a_pdf_of_the_page_has_no_font_and_its_lines_end_where_text_ends(page):
    picture = Picture(
        200.0, 100.0, "a title", "", (Stroke(((10, 20), (30, 40))), Words(100.0, 50.0, "Wi ε", anchor="middle"))
    )
    pdf = outlined_pdf(picture)
    assert pdf == outlined_pdf(picture) and b"/Font" not in pdf and b"Date" not in pdf
    start = int(pdf.split(b"startxref\n")[1].split()[0])
    assert pdf[start : start + 4] == b"xref" and all(
        pdf[int(place) :].startswith(b"%d 0 obj" % number)
        for number, place in enumerate(re.findall(rb"(\d{10}) 00000 n", pdf), 1)
    )
    drawn = zlib.decompress(pdf.split(b"stream\n")[1].rsplit(b"\nendstream", 1)[0]).decode()
    assert "10 20 m 30 40 l S" in drawn
    places = [float(x) for x in re.findall(r"0 0 -0\.12 (\S+) 50\.0 cm", drawn)]
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 1000)
    before = [0.012 * font.getlength(text) for text in ("", "W", "Wi ")]
    half = 0.006 * font.getlength("Wi ε")
    assert sorted(places) == pytest.approx([100 - half + one for one in before], abs=0.3)
