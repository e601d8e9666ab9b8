"""The gallery of a page: what it says of planted cases, and what its slider, its button and its map of the change do."""

from __future__ import annotations

import dataclasses
import io
import re
from html import escape

import numpy as np
import pytest
from PIL import Image

from harness.engine.gallery_store import GalleryCase, GalleryKept
from harness.report.arrays import lay_out
from harness.report.page import page_html
from harness.report.page.gallery import gallery
from harness.report.page.section import PageInput

SIZE = (40, 60)
"""Height and width of the pictures."""
NASTY = "<b>&\"image' 1"


def picture(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def case(metric="ssim", name="largest", **about):
    rng = np.random.default_rng(len(metric))
    distorted = rng.integers(40, 200, (*SIZE, 3))
    change = np.zeros_like(distorted)
    change[:20], change[20:, 30:, 0] = 5, -3
    known = {
        **{"case": name, "metric": metric, "dataset": "mini", "attack": "pgd", "direction": "down", "norm": "linf"},
        **{"eps": 8 / 255, "item": NASTY, "sample": NASTY, "reference": "r0", "group": "blur", "cell": "c", "sign": -1},
        **{"clean": -0.1, "attacked": -0.312, "attacked_8bit": -0.3, "linf": 8 / 255, "control": "noise"},
        **{"control_8bit": -0.15, "excess": 0.15, "median": 0.05, "failed": 3, "count": 96, "samples": 48},
        **{"higher_is_better": False, "size": [300, 500], "crop": [10, 20, *SIZE]},
        "others": [{"metric": "psnr", "clean": 30.0, "attacked_8bit": 29.5, "higher_is_better": True}],
    }
    pictures = {"reference": distorted, "distorted": distorted, "attacked": distorted + change}
    return GalleryCase({**known, **about}, {key: picture(pixels) for key, pixels in pictures.items()})


def page_of(run, kept):
    data = dataclasses.replace(run, gallery=kept)
    return PageInput(data, [], lay_out(data, 10), [])


@pytest.fixture
def written(run, tmp_path, monkeypatch):
    """A page that is the gallery alone."""
    monkeypatch.setattr("harness.report.page._SECTIONS", (gallery,))
    path = tmp_path / "page.html"
    path.write_text(page_html(page_of(run, GalleryKept([case(), case("psnr")]))), encoding="utf-8")
    return path


def test_what_is_said_of_a_case(run):
    cases = [
        case(),
        case(name="failed", excess=-0.01),
        case("psnr", size=list(SIZE), crop=[0, 0, *SIZE], control_8bit=None),
    ]
    html = gallery(page_of(run, GalleryKept(cases, ["ssim: median"], 800_000, {"ssim": 48}))).html
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    moved = "by 0.2000, the control noise by 0.05000: an excess of +0.150."
    assert f"pgd lowers the quality that ssim gives {escape(NASTY)} {moved}" in text
    # Lower is better here: scores are in the metric's own units, the float beside the rounded one where they differ.
    assert "ssim, attacked ↓ 0.1000 0.3000 (0.3120 before rounding)" in text
    assert "ssim, control noise ↓ 0.1000 0.1500" in text and "psnr ↑ 30.00 29.50" in text
    assert "Here the attack failed" in text and "no control was run at this budget" in text
    assert "Of 96 pairs of image and direction the median excess is +0.0500; in 3 of them" in text
    assert text.count("Shown: the 60 × 40 px with the largest change, at x 20, y 10 of 500 × 300 px") == 2
    assert "chosen from the first 48 images" in text and "Left out to keep the page below 0.8 MB of pictures" in text
    assert "<b>" not in html and html.count("data:image/png;base64,") == 2, "each picture once, however many show it"
    assert len(re.findall(r'role="img" aria-label="(?:Reference|Distorted|The same) ', html)) == 9


def test_a_run_without_pictures_says_so(run):
    assert "keeps no attacked images" in gallery(page_of(run, GalleryKept())).html
    unattacked = dataclasses.replace(run, records=run.records[run.records["attack"] == "clean"])
    assert gallery(page_of(unattacked, GalleryKept())) is None


def test_slider_button_and_change(open_page, written):
    page = open_page(written)
    tool = page.locator("#gallery .case").first
    above, slider, button = tool.locator(".stage svg").nth(1), tool.locator("input[type=range]"), tool.locator("button")

    def shown():
        return above.evaluate("one => one.style.clipPath")

    assert shown() == "inset(0px 50% 0px 0px)"
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert shown() == "inset(0px 49% 0px 0px)" and "51 %" in slider.get_attribute("aria-valuetext")
    box = tool.locator(".stage").bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 5)
    assert shown() == "inset(0px 75% 0px 0px)"
    button.hover()
    page.mouse.down()
    assert shown() == "inset(0px 0% 0px 0px)" and button.get_attribute("aria-pressed") == "true"
    page.mouse.up()
    assert shown() == "inset(0px 100% 0px 0px)", "the distorted image alone"
    button.focus()
    page.keyboard.down("Space")
    assert shown() == "inset(0px 0% 0px 0px)"
    page.keyboard.up("Space")
    assert shown() == "inset(0px 100% 0px 0px)" and button.get_attribute("aria-pressed") == "false"
    # The change as it was planted, by hand: signed around grey, as many times as chosen.
    choice, canvas = tool.locator("select"), tool.locator("canvas")
    assert choice.input_value() == "16" and "16 times" in canvas.get_attribute("aria-label")
    choice.select_option("4")
    found = canvas.evaluate("one => [...one.getContext('2d').getImageData(0, 0, 60, 40).data]")
    expected = np.full((*SIZE, 3), 128)
    expected[:20], expected[20:, 30:, 0] = 128 + 5 * 4, 128 - 3 * 4
    assert np.array_equal(np.reshape(found, (*SIZE, 4))[..., :3], expected)


def test_without_a_script_three_pictures_stand_side_by_side(open_page, written):
    page = open_page(written, java_script_enabled=False, viewport={"width": 400, "height": 900})
    boxes = [one.bounding_box() for one in page.locator("#gallery .case").first.locator("figure svg").all()]
    assert len(boxes) == 3 and len({round(one["y"]) for one in boxes}) == 1 and all(one["width"] > 90 for one in boxes)
    assert page.locator("#gallery .tool").count() == 0
