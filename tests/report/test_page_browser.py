"""The page in a browser: what scripts do, that it is quiet and alone, and that axe finds no serious fault."""

from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from harness.report.arrays import lay_out
from harness.report.build import build_tables
from harness.report.render import html

AXE = "axe_playwright_python"
"""The package that has axe-core's script."""


@pytest.fixture(scope="module")
def written(make_run, tmp_path_factory):
    """The page of a small run."""
    data = make_run(images=48, references=12, defense=False)
    data = dataclasses.replace(data, tables=["srocc", "shift", "two_afc", "verdicts"])
    evaluated = lay_out(data)
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(html(data, build_tables(data, evaluated), evaluated), encoding="utf-8")
    return path


def column(page, name, table="table-srocc-mini"):
    """Texts of a column of the rows that are seen."""
    return page.evaluate(
        """([table, name]) => {
            const at = document.querySelector(`#${table} th[data-column=${name}]`).cellIndex;
            return [...document.querySelectorAll(`#${table} tbody tr`)].filter(r => !r.hidden)
                .map(r => r.cells[at].textContent);
        }""",
        [table, name],
    )


def numbers(texts):
    return [float(text.replace("−", "-")) for text in texts if text not in ("", "–")]


def test_a_table_is_made_when_opened_sorted_filtered_and_copied(open_page, written):
    page = open_page(written)
    assert page.locator("#table-srocc-mini table").count() == 0
    page.locator("#table-srocc-mini summary").click()
    head = page.locator("#table-srocc-mini th[data-column=srocc]")
    before = column(page, "srocc")
    for sort, way in (("descending", True), ("ascending", False)):
        head.locator("button").click()
        found = numbers(column(page, "srocc"))
        assert head.get_attribute("aria-sort") == sort and found == sorted(found, reverse=way) and len(found) > 60
    assert "sort=table-srocc-mini~srocc~asc" in page.evaluate("location.hash")
    lowest = column(page, "srocc")
    head.locator("button").click()
    assert column(page, "srocc") == before and head.get_attribute("aria-sort") is None

    page.locator("#table-srocc-mini input[type=search]").fill("psnr fgsm 8/255 up")
    assert {*column(page, "metric")} <= {"psnr", "psnr ⚑"} and {*column(page, "attack")} == {"fgsm"}
    assert page.locator("#table-srocc-mini output").inner_text() == "1 of 120 rows"
    page.locator("#table-srocc-mini input[name=ci]").check()
    copied = {}
    for form in ("CSV", "Markdown", "LaTeX"):
        page.locator("#table-srocc-mini").get_by_text(f"Copy {form}").click()
        copied[form] = page.evaluate("document.documentElement.robustiqaCopied")
    (value,) = column(page, "srocc_low")
    assert value.replace("−", "-") in copied["CSV"].split("\n")[1].split(",")
    assert copied["Markdown"].split("\n")[1].startswith("|---|---|---|---:")
    assert copied["LaTeX"].count(r" \\") == 2 and r"$\uparrow$" in copied["LaTeX"] and "8/255" in copied["LaTeX"]

    again = open_page(written, hash="#sort=table-srocc-mini~srocc~asc")
    assert column(again, "srocc") == lowest


def test_budget_direction_metric_and_attack_live_in_the_address(open_page, written):
    page = open_page(written)
    shown = "#heat-map .variants > div:visible"
    assert page.locator(shown).first.get_attribute("data-eps") == "8/255"
    page.locator(".switches button", has_text="2/255").click()
    page.locator(".switches button", has_text="mos_split").click()
    for section in ("headline", "clean-worst", "heat-map"):
        variant = page.locator(f"#{section} .variants > *:visible").first
        assert (variant.get_attribute("data-eps"), variant.get_attribute("data-direction")) == ("2/255", "mos_split")
    page.locator("#heat-map tr[data-metric^=ssim] button:visible").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    address = page.evaluate("location.hash")
    assert {"eps=2/255", "direction=mos_split", "metric=ssim", "attack=restore", "at=strength"} <= {
        *address[1:].split("&")
    }
    assert page.evaluate("document.activeElement.id") == "strength"

    again = open_page(written, hash=address)
    assert again.locator(".switches button[aria-pressed=true]").all_inner_texts() == ["2/255", "mos_split"]
    assert again.locator(shown).first.get_attribute("data-direction") == "mos_split"


def test_heads_say_what_they_mean_on_focus(open_page, written):
    page = open_page(written)
    page.locator("#table-shift-mini summary").click()
    page.locator("#table-shift-mini th[data-column=shift_over_sigma] button").focus()
    tip = page.locator("#tip").inner_text()
    assert "Lower is better" in tip and "standard deviations" in tip


def test_without_a_script_the_first_figures_and_all_tables_are_there(open_page, written):
    page = open_page(written, java_script_enabled=False)
    page.locator("#table-srocc-mini summary").click()
    assert page.locator("#table-srocc-mini tbody tr").count() == 120
    assert page.locator("#headline svg:visible").count() and page.locator("#heat-map table:visible").count() == 2
    assert not page.locator(".chips:visible").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_has_no_sideways_scroll(open_page, written, scheme):
    pytest.importorskip(AXE)
    page = open_page(written, color_scheme=scheme, viewport={"width": 400, "height": 800})
    page.locator("#table-srocc-mini summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.evaluate(resources.files(AXE).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    serious = [
        (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
