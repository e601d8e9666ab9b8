"""Figures in a browser: two metrics compared, dark screens, and what a download holds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from harness.report.arrays import lay_out
from harness.report.colours import DARK, LIGHT, attack_colour
from harness.report.headline import Ball, headlines
from harness.report.page import page_html
from harness.report.page.paired import differences_of
from harness.report.page.section import PageInput
from harness.wording import with_interval
from tests.engine.test_drawing import rgb


@pytest.fixture(scope="module")
def input_of_page(make_run):
    data = make_run(images=40, references=10, defense=False, triplets=False)
    evaluated = lay_out(data, resamples=60)
    return PageInput(dataclasses.replace(data, tables=["srocc"]), (), evaluated, headlines(data, evaluated))


@pytest.fixture(scope="module")
def written(input_of_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("figures") / "index.html"
    path.write_text(page_html(input_of_page), encoding="utf-8")
    return path


def rows(page):
    """Row of the figure A minus B -> what stands behind it."""
    found = page.evaluate(
        "[...document.querySelectorAll('#difference-0 [data-row]')]"
        ".map(r => [r.getAttribute('data-row'), r.querySelector('text:last-of-type').textContent])"
    )
    return dict(found)


def test_two_metrics_are_chosen_and_compared(open_page, written, input_of_page):
    pairs = differences_of(input_of_page.evaluated[0], input_of_page.headlines[0])
    page = open_page(written, "#eps=4/255&direction=up")
    first, second, third = pairs.metrics

    def wanted(a, b, eps):
        choice = Ball("linf", round(eps / 255, 9)), "up"
        found = (pairs.of(choice, pairs.metrics.index(a), pairs.metrics.index(b), name) for name in pairs.attacks)
        return [with_interval(*one, 2, True) for one in found]

    def shown():
        return [text for key, text in rows(page).items() if key[0] == "0"]

    assert shown() == wanted(first, second, 4)
    page.locator("#difference-0 select[data-key=b]").select_option(third)
    assert shown() == wanted(first, third, 4) and f"b={third}" in page.evaluate("location.hash")
    page.locator("#difference-0 select[data-key=a]").select_option(third)
    assert shown() == wanted(third, page.evaluate("robustiqa.state.b") or first, 4), "with itself none is compared"
    page.evaluate("robustiqa.set({a: '', b: '', eps: '8/255'})")
    assert shown() == wanted(first, second, 8)
    told = page.locator("#difference-0 svg desc").text_content()
    assert told.startswith(f"{first} minus {second} at ε 8/255 (linf), up") and "type blur" in told


def test_what_is_downloaded_is_whole(open_page, written, tmp_path):
    page = open_page(written, "#eps=2/255")

    def saved(chart, form):
        with page.expect_download() as waiting:
            page.locator(f"#{chart} .downloads button[data-form={form}]").click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    for chart, part in (
        ("headline-0", "mini_headline_linf_2-255_worst"),
        ("strength-0", "mini_strength_linf_mos_split"),
    ):
        path = saved(chart, "svg")
        text = path.read_text(encoding="utf-8")
        told = "".join(ElementTree.fromstring(text).itertext())
        assert path.name == f"{part}.svg"
        assert all(word in told for word in ("mini", "linf", "proxy quality", "pgd", "psnr", "birqa-tiny"))
        assert "var(" not in text and " id=" not in text and LIGHT[attack_colour("pgd")] in text
    with Image.open(saved("headline-0", "png")) as png:
        assert png.width > 900 and len(png.convert("RGB").getcolors(1 << 20)) > 20
    link = page.locator("#headline-0 .downloads a")
    assert link.get_attribute("download") == "mini_headline.pdf"
    assert link.get_attribute("href").startswith("data:application/pdf;base64,JVBERi")


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_figures_follow_the_screen_and_emphasise_what_was_chosen(open_page, written, scheme, colours):
    page = open_page(written, "#direction=up&attack=fgsm&metric=ssim", color_scheme=scheme)
    line = page.locator("#strength-0 .panels:not([hidden]) g[data-attack=fgsm] path[fill=none]").first
    fill = line.evaluate("one => getComputedStyle(one).stroke")
    assert [int(part) for part in re.findall(r"\d+", fill)][:3] == (
        255 * rgb([colours[attack_colour("fgsm")]])[0]
    ).round().tolist()
    chosen = page.evaluate("[...document.querySelectorAll('#strength-0 g.chosen')].map(g => g.dataset.attack)")
    assert set(chosen) == {"fgsm"}
    assert Path(written).stat().st_size < 1_000_000
