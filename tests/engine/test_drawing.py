"""Pictures: colours that any reader tells apart, in grey too; widths, fonts and bytes of what is written."""

import re
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from harness.engine.drawing import FIGURE_WIDTHS, GREYS, PALETTE, encoded, formats_named, legend_below, new_figure, save
from harness.errors import UserError

ROOT = Path(__file__).parents[2]
CONES = {  # Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency (2009)
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def rgb(colours):
    return np.array([[int(one[i : i + 2], 16) / 255 for i in (1, 3, 5)] for one in colours])


def seen(colours, cones):
    """What colours look like: the matrices are of linear light, at severity 1."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    kept = np.clip(linear @ np.transpose(CONES[cones]), 0, 1)
    return np.where(kept <= 0.0031308, 12.92 * kept, 1.055 * kept ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("cones", CONES)
def test_any_two_colours_are_told_apart_whatever_cones_a_reader_has(cones):
    """CIEDE2000 of 2.3 is just noticeable on patches side by side; thin lines apart from each other want much more."""
    lab = rgb2lab(seen(rgb(PALETTE), cones)[None])[0]
    assert min(deltaE_ciede2000(a, b) for a, b in combinations(lab, 2)) > 13


def test_colours_print_in_grey():
    lightness = np.sort(rgb2lab(rgb(PALETTE)[None])[0, :, 0])
    assert np.diff(lightness).min() > 7 and lightness[-1] < 78, "of paper it has 100"
    first = np.sort(rgb2lab(rgb(PALETTE[:4])[None])[0, :, 0])
    assert np.diff(first).min() > 15
    assert np.diff(rgb2lab(rgb(GREYS)[None])[0, :, 0]).min() > 10
    luma = [Image.new("RGB", (1, 1), one).convert("L").getpixel((0, 0)) for one in PALETTE[:4]]
    assert np.diff(np.sort(luma)).min() > 30, "as programs turn pictures grey, of 255"


def test_colours_stand_in_two_modules():
    """Those of attacks and pages apart from those of everything else."""
    own = re.compile(r"[\"']#[0-9a-fA-F]{6}\b")
    files = [path for room in ("harness", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    assert [path.name for path in files if own.search(path.read_text(encoding="utf-8"))] == ["drawing.py", "colours.py"]


def picture():
    figure = new_figure(5, 3)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="ε & Ω")
    axes.scatter([0.5], [0.5])
    legend_below(figure)
    return figure


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_the_same_figure_is_the_same_bytes(form):
    once, again = encoded(picture(), form), encoded(picture(), form)
    assert once == again
    assert not re.search(rb"CreationDate|dc:date|20\d\d-\d\d-\d\d", once)


def test_fonts_are_embedded():
    pdf, svg = encoded(picture(), "pdf"), encoded(picture(), "svg")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"<text" not in svg and b"font-family" not in svg


@pytest.mark.parametrize("size", FIGURE_WIDTHS)
def test_a_size_is_the_width_on_paper(size, tmp_path):
    png, pdf = save(picture(), tmp_path / "a.b", ("png", "pdf"), size)
    assert (png.name, pdf.name) == ("a.b.png", "a.b.pdf")
    image = Image.open(BytesIO(png.read_bytes()))
    assert image.width == pytest.approx({"column": 3.35, "page": 6.9}[size] * 300, abs=1)
    wide = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf.read_bytes())[1])
    assert wide == pytest.approx({"column": 3.35, "page": 6.9}[size] * 72, abs=0.1)


def test_a_dollar_in_a_name_is_a_dollar():
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0.1, 1, 10], [1, 2, 3], label="m_$x$ and b_{$c")
    axes.set_title("a$b_{$c")
    axes.set_yticks([1, 2], ["$one$", r"two_{$ \\frac $"])
    axes.set_xscale("log")
    legend_below(figure)
    svg = encoded(figure, "svg")
    assert b"m_$x$ and b_{$c" in svg and b"a$b_{$c" in svg and b"$one$" in svg, (
        "matplotlib notes each text in a comment"
    )
    assert b"\\mathdefault" in svg, "powers of ten are still formulas"


def test_what_is_no_format_or_size_is_named():
    assert formats_named("PDF, svg,pdf") == ("pdf", "svg")
    for text, words in (("pdf,bmp", "'bmp' is no format"), ("", "names no format"), (",", "names no format")):
        with pytest.raises(UserError, match=words):
            formats_named(text)
    with pytest.raises(UserError, match="a5: no size"):
        save(picture(), Path("x"), ("png",), "a5")
