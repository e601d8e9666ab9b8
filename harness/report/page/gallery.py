"""The gallery: attacked images that a run keeps, beside what they were made from, and what metrics say of them.

Without a script it is three pictures side by side. Its script adds a slider, a button that blinks, and the change.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.engine.gallery_choice import FAILED_CASE, LARGEST_CASE, LEAST_CASE, MEDIAN_CASE
from harness.engine.gallery_store import SHOWN, GalleryCase, GalleryKept
from harness.report.page.section import PageInput, Section
from harness.suite.cell_names import CLEAN
from harness.wording import attack_text, budget_text, counted, for_html, joined

_TITLES = {
    LARGEST_CASE: "Largest excess over the control",
    MEDIAN_CASE: "A median case",
    FAILED_CASE: "Here the attack failed",
    LEAST_CASE: "Least excess: the attack failed nowhere",
}
_OPEN = 1
"""Metrics whose pictures are shown at once; those of others unfold."""
_DIGITS = 4


def gallery(page: PageInput) -> Section | None:
    """The pictures of each metric; None where nothing was attacked."""
    records = page.data.records
    if not len(records) or (records["attack"] == CLEAN).all():
        return None
    kept = page.data.gallery
    if not kept.cases:
        told = "<p>This run keeps no attacked images: an older version made it, or it is not finished.</p>"
        return Section("gallery", "Gallery", told)
    by_metric: dict[str, list[GalleryCase]] = {}
    for case in kept.cases:
        by_metric.setdefault(case.about["metric"], []).append(case)
    parts = [_lead(kept), _store(kept.cases)]
    for place, (metric, cases) in enumerate(by_metric.items()):
        shown = "".join(map(_case, cases))
        unfolded = " open" if place < _OPEN else ""
        parts.append(
            f'<details class="shown-metric" data-metric="{for_html(metric)}"{unfolded}>'
            f"<summary>{for_html(metric)}: {for_html(_ground(cases[0].about))}</summary>"
            f"<p>{for_html(_spread(cases[0].about))}</p>{shown}</details>"
        )
    return Section("gallery", "Gallery", "".join(parts))


def _lead(kept: GalleryKept) -> str:
    text = (
        "<p>What attacks look like. Per metric three cases, not the worst alone: the largest excess over the honest "
        "control, one of the middle tenth, and one where the attack failed. Of each image and direction the attack "
        "counts that went furthest in 8 bits; its excess is what it did beyond <em>restore</em> (upwards) or "
        "<em>noise</em> (downwards) inside the same ball. Pictures are lossless.</p>"
    )
    if kept.left_out:
        left = joined([for_html(one) for one in kept.left_out])
        text += f"<p>Left out to keep the page below {kept.limit / 1e6:g} MB of pictures: {left}.</p>"
    return text


def _ground(about: Mapping[str, Any]) -> str:
    """What a metric's cases were chosen from."""
    ball = f"{about['norm']} {budget_text(about['norm'], about['eps'])}"
    return f"{about['dataset']}, {ball}, chosen from the first {counted(about['samples'], 'image')}"


def _store(cases: Sequence[GalleryCase]) -> str:
    """Every picture once, however many cases show it."""
    found = {}
    for case in cases:
        _, _, height, width = case.about["crop"]
        for name in SHOWN:
            found[_id(case.pictures[name])] = (case.pictures[name], width, height)
    images = "".join(
        f'<image id="{name}" width="{width}" height="{height}" href="data:image/png;base64,'
        f'{base64.b64encode(content).decode()}"/>'
        for name, (content, width, height) in found.items()
    )
    return f'<svg class="picture-store" width="0" height="0" aria-hidden="true"><defs>{images}</defs></svg>'


def _id(content: bytes) -> str:
    return f"picture-{hashlib.sha256(content).hexdigest()[:12]}"


def _case(case: GalleryCase) -> str:
    about = case.about
    _, _, height, width = about["crop"]
    box = f'class="picture" viewBox="0 0 {width} {height}" role="img"'
    figures = "".join(
        f'<figure data-picture="{_id(case.pictures[name])}">'
        f'<svg {box} aria-label="{for_html(_alternative(name, about))}">'
        f'<use href="#{_id(case.pictures[name])}"/></svg><figcaption>{name.capitalize()}</figcaption></figure>'
        for name in SHOWN
    )
    # What the script scales the change by at first: half of the range from grey to white, or black.
    scale = 2 ** round(math.log2(0.5 / max(float(about["linf"]), 1 / 255)))
    attributes = f'data-case="{about["case"]}" data-width="{width}" data-height="{height}" data-scale="{scale}"'
    return (
        f'<article class="case" {attributes}><h3>{_TITLES.get(about["case"], "A case")}</h3>'
        f"<p>{_told(about)}</p>"
        f'<div class="pictures">{figures}</div>{_place(about)}{_scores(about)}</article>'
    )


def _alternative(name: str, about: Mapping[str, Any]) -> str:
    """What a picture shows, in words."""
    item = f"{about['item']} of {about['dataset']}"
    if name == "reference":
        return f"Reference image {about['reference']} of {about['dataset']}"
    if name == "distorted":
        return f"Distorted image {item}, {about['group']}" if about["group"] else f"Distorted image {item}"
    return f"The same image attacked with {_attack(about)}: largest change {255 * float(about['linf']):.3g}/255"


def _attack(about: Mapping[str, Any]) -> str:
    ways = {"up": "to raise", "down": "to lower", "error": "to mislead"}
    return f"{attack_text(about['attack'], about['norm'])} {ways.get(about['direction'], 'on')} {about['metric']}"


def _spread(about: Mapping[str, Any]) -> str:
    """What all images of a metric say, whose cases are three."""
    several = about["count"] != about["samples"]
    count = counted(about["count"], "pair") + " of image and direction" if several else counted(about["count"], "image")
    return (
        f"Of {count} the median excess is {_figure(about['median'], signed=True)}; in {about['failed']} of them the "
        "attack did no more than its control."
    )


def _told(about: Mapping[str, Any]) -> str:
    """What happened, in words."""
    sign = 1 if about["sign"] > 0 else -1
    verb = "raises" if sign > 0 else "lowers"
    attack = attack_text(about["attack"], about["norm"])
    moved = _figure(sign * (about["attacked_8bit"] - about["clean"]))
    words = f"{attack} {verb} the quality that {about['metric']} gives {about['item']} by {moved}"
    if about["control_8bit"] is None:
        return for_html(f"{words}; no control was run at this budget, so that stands for the excess.")
    honest = _figure(sign * (about["control_8bit"] - about["clean"]))
    words += f", the control {about['control']} by {honest}: an excess of {_figure(about['excess'], signed=True)}."
    return for_html(words + (" Here it failed too." if about["case"] == MEDIAN_CASE and about["excess"] <= 0 else ""))


def _place(about: Mapping[str, Any]) -> str:
    """Where a part of a larger image lies in it; empty where it is shown whole."""
    (rows, columns), (top, left, height, width) = about["size"], about["crop"]
    if (rows, columns) == (height, width):
        return ""
    return (
        f'<p class="place"><svg viewBox="0 0 {columns} {rows}" role="img" aria-label="Where the part shown lies">'
        f'<rect class="frame" width="{columns}" height="{rows}"/>'
        f'<rect class="part" x="{left}" y="{top}" width="{width}" height="{height}"/></svg> '
        f"Shown: the {width} × {height} px with the largest change, at x {left}, y {top} of {columns} × {rows} px. All "
        "scores are of the whole image.</p>"
    )


def _scores(about: Mapping[str, Any]) -> str:
    """Scores before and after, of the attacked metric, of its control, and of the other metrics."""
    own = f"{about['metric']}, attacked"
    rows = [(own, about["clean"], about["attacked_8bit"], about["attacked"], about["higher_is_better"])]
    if about["control_8bit"] is not None:
        name = f"{about['metric']}, control {about['control']}"
        rows.append((name, about["clean"], about["control_8bit"], None, about["higher_is_better"]))
    for one in about.get("others", ()):
        rows.append((one["metric"], one["clean"], one["attacked_8bit"], None, one["higher_is_better"]))
    caption = "Scores in each metric’s own units, of the attacked image in 8 bits"
    return (
        f'<div class="scroll"><table class="said"><caption>{caption}</caption>'
        '<thead><tr><th scope="col">metric</th><th scope="col">better</th><th scope="col">before</th>'
        f'<th scope="col">after</th></tr></thead><tbody>{"".join(_rows(rows))}</tbody></table></div>'
    )


def _rows(rows: Sequence[tuple[str, float, float, float | None, bool]]) -> Iterator[str]:
    for name, before, after, exact, higher in rows:
        sign = 1 if higher else -1
        beside = ""
        if exact is not None and _figure(sign * exact) != _figure(sign * after):
            beside = f" <small>({_figure(sign * exact)} before rounding)</small>"
        better = (
            '<span role="img" aria-label="higher">↑</span>'
            if higher
            else '<span role="img" aria-label="lower">↓</span>'
        )
        yield (
            f'<tr><th scope="row">{for_html(name)}</th><td>{better}</td><td>{_figure(sign * before)}</td>'
            f"<td>{_figure(sign * after)}{beside}</td></tr>"
        )


def _figure(value: float, signed: bool = False) -> str:
    """A number of unknown scale, to four significant digits or, signed, to three."""
    text = f"{value:{'+' if signed else ''}#.{_DIGITS - signed}g}".rstrip(".")
    return "0" if float(text) == 0 else text.replace("-", "−")
