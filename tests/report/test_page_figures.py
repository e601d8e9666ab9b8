"""Figures of a report: their coordinates are the tables' numbers, their colours the attacks', their bytes always the same."""

import dataclasses
import re
from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from skimage.color import deltaE_ciede2000, rgb2lab

from harness.report.arrays import lay_out
from harness.report.build import build_tables
from harness.report.colours import DARK, LIGHT, attack_colour, looks
from harness.report.figures import figures_of
from harness.report.headline import Ball, headlines
from harness.report.measure import srocc_rows
from harness.report.page.chart import chart_html
from harness.report.page.difference import difference_chart
from harness.report.page.dumbbells import dumbbell_chart, dumbbells_html
from harness.report.page.figure_files import figure_files
from harness.report.page.on_paper import encoded_picture
from harness.report.page.paired import differences_of
from harness.report.page.scatter import scatter_chart
from harness.report.page.section import PageInput
from harness.report.page.strength import curves, strength_chart
from harness.report.page.svg import axis_over, svg_of
from harness.report.ranking import COMPARED, rank_rows
from tests.engine.test_drawing import rgb, seen

ROOT = Path(__file__).parents[2]
EPS = 8 / 255
USUAL = Ball("linf", round(EPS, 9))
USUAL_WORST = (USUAL, "")
SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def page(make_run):
    """Three metrics under two attacks, beside them one under a sweep; no triplets."""
    data = make_run(images=64, references=16, defense=False)
    evaluated = lay_out(data, resamples=60)
    return PageInput(data, (), evaluated, headlines(data, evaluated))


def swept(data):
    """The run with six variants of pgd in place of one."""
    known = data.records
    own = known[known["attack"] == "pgd(steps=10)"]
    parts = [known[known["attack"] != "pgd(steps=10)"]]
    for place, steps in enumerate((1, 2, 5, 10, 20, 40)):
        pushed = own["clean"] + (own["attacked"] - own["clean"]) * (0.4 + 0.1 * place)
        parts.append(own.assign(attack=f"pgd(steps={steps})", attacked=pushed))
    return dataclasses.replace(data, records=pd.concat(parts, ignore_index=True))


def read(picture):
    """A picture's SVG as a file of its own, as any reader of XML takes it."""
    return ElementTree.fromstring(svg_of(picture))


def scale_of(root, size, vertical=False):
    """Pixel -> value, from the ticks that are written beside an axis: a line through the first and the last of them."""
    texts = [
        one for one in root.iter(f"{SPACE}text") if one.get("font-size") == size and one.get("fill") == LIGHT["muted"]
    ]
    anchor = "end" if vertical else "middle"
    ticks = [one for one in texts if one.get("text-anchor") == anchor and re.fullmatch(r"−?\d+(\.\d+)?", one.text)]
    values = [float(one.text.replace("−", "-")) for one in ticks]
    pixels = [float(one.get("y")) - 4 if vertical else float(one.get("x")) for one in ticks]
    slope, start = np.polyfit(pixels, values, 1)
    return lambda pixel: slope * float(pixel) + start


def marks(group):
    """(x, y) of the marks in a group."""
    for one in group.iter():
        if one.tag == f"{SPACE}circle":
            yield float(one.get("cx")), float(one.get("cy"))
        elif one.get("data-x"):
            yield float(one.get("data-x")), float(one.get("data-y"))


def test_dumbbells_stand_where_the_table_says(page):
    rows = {
        (row["metric"], row["attack"]): row
        for row in srocc_rows(page.evaluated[0], ["mos_split"])
        if row["eps"] == USUAL.eps
    }
    variant = next(
        one
        for one in dumbbell_chart(page.headlines[0]).variants
        if one.wanted["direction"] == "mos_split" and one.wanted["eps"] == "8/255"
    )
    root = read(variant.pictures[0])
    value = scale_of(root, "11")
    groups = [one for one in root.iter(f"{SPACE}g") if one.get("data-metric")]
    left = []
    for group in groups:
        metric = group.get("data-metric")
        (clean, _), (worst, _) = marks(group)
        row = rows[metric, "lowest SROCC of all"]
        assert value(clean) == pytest.approx(row["clean_srocc"], abs=0.002), metric
        assert value(worst) == pytest.approx(row["srocc"], abs=0.002), metric
        ends = [
            value(x)
            for path in group.iter(f"{SPACE}path")
            if path.get("stroke-width") == "1"
            for x in re.findall(r"[ML]([\d.]+) ", path.get("d"))
        ]
        wanted = [row[f"{name}_{end}"] for name in ("clean_srocc", "srocc") for end in ("low", "high")]
        assert ends == pytest.approx(wanted, abs=0.003), metric
        left.append(row["srocc"])
    assert len(groups) == 3 and left == sorted(left, reverse=True), "most left first"
    assert "proxy quality (not human opinions)" in variant.pictures[0].description
    assert "64 images of 16 references" in "".join(root.itertext()), "n and what is independent"


def test_a_bracket_holds_those_that_cannot_be_told_from_the_best_and_few_clusters_rank_nothing(page, make_run):
    head = page.headlines[0]
    texts = ["".join(read(one.pictures[0]).itertext()) for one in dumbbell_chart(head).variants]
    assert any(row.at[USUAL, ""].rank for row in head.rows) and not any("Descriptive" in text for text in texts)
    for ranks, brackets in (((1, 1, 3), 1), ((1, 2, 1), 2), ((1, 2, 2), 0)):
        rows = [
            dataclasses.replace(row, at={USUAL_WORST: dataclasses.replace(row.at[USUAL_WORST], rank=(rank, 3))})
            for row, rank in zip(head.rows, ranks, strict=True)
        ]
        drawn = svg_of(dumbbell_chart(dataclasses.replace(head, rows=tuple(rows), budgets=(USUAL,))).first.pictures[0])
        assert drawn.count('d="M46 ') == brackets
    data = make_run(images=24, references=6, defense=False, triplets=False)
    few = headlines(data, lay_out(data, resamples=20))[0]
    told = "".join(read(dumbbell_chart(few).first.pictures[0]).itertext())
    assert "Descriptive: fewer than 8 references. Nothing is ranked." in told and "cannot be told" not in told
    assert "rank" not in dumbbell_chart(few).first.pictures[0].description


def test_splits_are_one_figure_of_their_means_without_intervals_and_ranks(page):
    names = ["a split 0", "a split 1"]
    heads = [dataclasses.replace(page.headlines[0], dataset=name) for name in names]
    data = dataclasses.replace(page.data, splits=dict.fromkeys(names, "a"))
    drawn = dumbbells_html(dataclasses.replace(page, data=data, headlines=heads))
    assert drawn.count("<figure") == 1 and "in each of 2 splits" in drawn and "means over 2 splits" in drawn
    assert "interval above" not in drawn and "rank 1" not in drawn
    row = heads[0].rows[0]
    assert f"{row.clean.value:.2f} → {row.at[USUAL_WORST].left.value:.2f}" in drawn


def test_strength_and_scatter_show_the_tables_figures(page):
    one, head = page.evaluated[0], page.headlines[0]
    rows = [
        row for row in srocc_rows(one, ["mos_split"]) if (row["metric"], row["attack"]) == ("ssim", "pgd(steps=10)")
    ]
    variant = next(each for each in strength_chart(one, head).variants if each.wanted["direction"] == "mos_split")
    panel = next(each for each in variant.pictures if each.metric == "ssim")
    assert "pgd" in panel.description and 'data-panel="ssim"' in svg_of(panel, "x")
    root = read(panel)
    group = next(
        each
        for each in root.iter(f"{SPACE}g")
        if (each.get("data-attack"), each.get("data-measure")) == ("pgd(steps=10)", "left")
    )
    ticks = [
        each
        for each in root.iter(f"{SPACE}text")
        if each.get("text-anchor") == "end" and each.get("font-size") == "10.5"
    ]
    upper = [
        (float(each.get("y")) - 4, float(each.text.replace("−", "-"))) for each in ticks if float(each.get("y")) < 220
    ]
    slope, start = np.polyfit(*zip(*upper, strict=True), 1)
    shown = [slope * y + start for _, y in marks(group)]
    assert shown == pytest.approx([row["srocc"] for row in rows], abs=0.005)
    known = {curve.attack for curve in curves(one, head)}
    assert {"fgsm", "pgd(steps=10)", "noise", "restore", "honest reference"} == known

    scatter = next(
        each
        for each in scatter_chart(head).variants
        if each.wanted == {"norm": "linf", "eps": "8/255", "direction": "worst"}
    )
    root = read(scatter.pictures[0])
    across, up = scale_of(root, "11"), scale_of(root, "11", vertical=True)
    groups = [each for each in root.iter(f"{SPACE}g") if each.get("data-metric")]
    assert len(groups) == len(head.rows) == 3
    for group in groups:
        row = next(each for each in head.rows if each.label == group.get("data-metric"))
        ((x, y),) = marks(group)
        assert across(x) == pytest.approx(row.clean.value, abs=0.001)
        assert up(y) == pytest.approx(row.at[USUAL, ""].left.value, abs=0.005)


def test_a_minus_b_is_the_contrast_of_the_table_ranks_and_within_a_type_that_of_its_images(page):
    one, head = page.evaluated[0], page.headlines[0]
    pairs = differences_of(one, head)
    rows = [
        row
        for row in rank_rows(one, head.directions)
        if row["kind"] == COMPARED and row["attack"] == "pgd(steps=10)" and row["direction"] == "up"
    ]
    assert len(rows) == 3
    for row in rows:
        a, b = (pairs.metrics.index(row[name]) for name in ("name", "against"))
        found = pairs.of((USUAL, "up"), a, b, "pgd(steps=10)")
        assert found == pytest.approx((row["difference"], row["difference_low"], row["difference_high"]))
        turned = pairs.of((USUAL, "up"), b, a, "pgd(steps=10)")
        assert turned == pytest.approx((-found.value, -found.high, -found.low))
    records = page.data.records
    own = records[
        (records["group"] == "blur")
        & (records["attack"] == "fgsm")
        & (records["eps"] == EPS)
        & (records["sign"] == 1)
        & (records["dataset"] == "mini")
    ]
    left = {metric: spearmanr(each["attacked"], each["opinion"]).statistic for metric, each in own.groupby("metric")}
    found = pairs.of((USUAL, "up"), pairs.metrics.index("psnr"), pairs.metrics.index("ssim"), "fgsm", "blur")
    assert found.value == pytest.approx(left["psnr"] - left["ssim"])
    chart = difference_chart(head, pairs)
    assert f"{pairs.metrics[0]} minus {pairs.metrics[1]}" in chart.first.pictures[0].description
    triplets = differences_of(page.evaluated[1], page.headlines[1])
    assert set(triplets.types) == {"cnn", "traditional"} and "fgsm" in triplets.attacks


def test_an_attack_has_one_colour_in_every_figure_fixed_by_its_name(page):
    assert (
        attack_colour("pgd") == attack_colour("pgd(steps=10)") == attack_colour("pgd steps=3") != attack_colour("fgsm")
    )
    assert attack_colour("someone's") == attack_colour("someone's(x=1)"), "of a name that nobody knows, too"
    variants = looks([f"pgd(steps={steps})" for steps in range(6)])
    assert len({one.colour for one in variants.values()}) == 1 and len(set(variants.values())) == 6
    for colours in (LIGHT, DARK):
        own = rgb([colours[f"attack-{place}"] for place in range(12)])
        for cones in ("all", "protanopia", "deuteranopia"):
            lab = rgb2lab(seen(own, cones)[None])[0]
            assert min(deltaE_ciede2000(a, b) for a, b in combinations(lab, 2)) > 11, cones
        linear = [
            np.where(one <= 0.04045, one / 12.92, ((one + 0.055) / 1.055) ** 2.4)
            for one in (own, rgb([colours["ground"]]))
        ]
        light, ground = (each @ [0.2126, 0.7152, 0.0722] for each in linear)
        contrast = (np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)
        assert contrast.min() >= 3, "WCAG 2.1, 1.4.11: of graphics"
    css = "".join(path.read_text() for path in (ROOT / "harness/report/page/static").glob("*.css"))
    for name, colour in LIGHT.items():
        assert f"--{name}: {colour};" in css and f"--{name}: {DARK[name]};" in css, name
    chart = strength_chart(page.evaluated[0], page.headlines[0])
    html = chart_html(chart, 0, None)
    assert f"var(--{attack_colour('fgsm')})" in html and f"var(--{attack_colour('pgd')})" in html


def test_a_sweep_has_a_line_and_an_entry_for_every_variant_and_controls_go_their_own_way(make_run):
    data = swept(make_run(images=24, references=8, defense=False, triplets=False))
    tables = build_tables(dataclasses.replace(data, tables=["shift"]))
    figure = figures_of(tables)["mini"]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    variants = [f"pgd(steps={steps}) up" for steps in (1, 2, 5, 10, 20, 40)]
    assert set(variants) <= set(lines) and {"fgsm up", "noise (control)", "restore (control)"} <= set(lines)
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text for text in told if text.startswith("pgd") and text.endswith("up")] == variants
    drawn = [lines[name] for name in variants]
    assert {line.get_color() for line in drawn} == {LIGHT[attack_colour("pgd")]}
    assert len({(str(line._unscaled_dash_pattern), line.get_alpha()) for line in drawn}) == 6
    assert min(lines["noise (control)"].get_ydata()) >= 0 and "own way" in figure.axes[0].get_ylabel()


def test_two_points_are_no_course(make_run):
    data = make_run(images=24, references=8, defense=False, triplets=False)
    known = data.records
    kept = known["attack"].isin(["clean", "noise"]) | (known["eps"] == EPS) & (known["attack"] == "fgsm")
    tables = build_tables(dataclasses.replace(data, records=known[kept], tables=["shift"]))
    lines = {line.get_label(): line for line in figures_of(tables)["mini"].axes[0].get_lines()}
    assert lines["fgsm up"].get_linestyle() == "None" and len(lines["fgsm up"].get_xdata()) == 1
    assert len(lines["noise (control)"].get_xdata()) == 5, "clean and four budgets"
    evaluated = lay_out(dataclasses.replace(data, records=known[kept]), resamples=20)
    head = headlines(data, evaluated)[0]
    panel = strength_chart(evaluated[0], head).first.pictures[1]
    group = next(one for one in read(panel).iter(f"{SPACE}g") if one.get("data-attack") == "fgsm")
    assert not [path for path in group.iter(f"{SPACE}path") if (path.get("stroke-width") or "") == "2"]


def test_files_say_what_they_show_and_have_the_same_bytes_each_time(page):
    only = dataclasses.replace(page, evaluated=page.evaluated[:1], headlines=page.headlines[:1])
    files = figure_files(only, ("svg",), "page")
    names = ("headline", "clean_worst", "strength", "difference")
    assert sorted(files) == sorted(f"mini_{name}_page.svg" for name in names)
    for title, content in files.values():
        told = "".join(ElementTree.fromstring(content).itertext())
        assert all(part in told for part in ("mini", "proxy quality (not human opinions)", "linf")) and "linf" in title
        assert b"var(" not in content and not re.search(rb"20\d\d-\d\d|\bid=", content)
    picture = dumbbell_chart(page.headlines[0]).printed()
    pdf = encoded_picture(picture, "pdf", 6.9)
    assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf and b"/FontFile2" in pdf
    assert encoded_picture(picture, "pdf", 6.9) == pdf
    png = Image.open(BytesIO(encoded_picture(picture, "png", 3.35)))
    assert abs(png.width - 3.35 * 300) <= 1 and not png.info.get("Software")


def test_names_of_strangers_are_text(make_run):
    data = make_run(images=24, references=8, defense=False, triplets=False)
    evil = "<script>alert(1)</script>\"'&$x_1^2$\u202e"
    records = data.records.assign(
        metric=data.records["metric"].replace("ssim", evil), source=data.records["source"].replace("ssim", evil)
    )
    medians = {(one, metric.replace("ssim", evil), kind): value for (one, metric, kind), value in data.medians.items()}
    data = dataclasses.replace(data, records=records, medians=medians)
    evaluated = lay_out(data, resamples=20)
    head = headlines(data, evaluated)[0]
    for chart in (
        dumbbell_chart(head),
        scatter_chart(head),
        strength_chart(evaluated[0], head),
        difference_chart(head, differences_of(evaluated[0], head)),
    ):
        html = chart_html(chart, 0, None)
        assert "<script" not in html and "alert(1)" in html and "\u202e" not in html
        ElementTree.fromstring(re.sub(r" hidden(?=[ >])|<input[^>]*>| selected(?=[ >])", "", html))


@pytest.mark.parametrize("values", [(0.3, 0.9), (-0.5, 1.0), (1.0, 1.0), (np.nan, 2e-3, 5e-3), ()])
def test_axes_hold_their_values_and_turn_back(values):
    axis = axis_over(values, 40, 460)
    known = [value for value in values if not np.isnan(value)]
    assert all(axis.low <= value <= axis.high for value in known) and axis.low < axis.high
    assert all(axis.value(axis.at(value)) == pytest.approx(value) for value in known)
    assert np.ptp(np.diff(axis.ticks)) < 1e-9 and axis.ticks[0] == axis.low and axis.ticks[-1] == axis.high
