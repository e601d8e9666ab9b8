"""A figure of one data set as a page has it: variants by what is chosen, a caption, and what can be downloaded."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.headline import EVERY_DIRECTION, Ball, Headline
from harness.report.page.svg import Picture, composed, svg_of
from harness.report.page.variants import WORST, attributes, radius_key
from harness.wording import budget_text, counted, for_html

MOST_IN_A_SECTION = 25_000
"""Bytes of PDF that a section of a page carries; of what does not fit it says how to get it."""
MOST_MARKS = 2500
"""Marks of a figure whose PDF a page carries: more take long to draw."""


@dataclass(frozen=True)
class Variant:
    """What a figure shows under one choice.

    Attributes:
        pictures: One, or a legend followed by panels that stand beside each other.
        wanted: Keys of the page's state that it stands for, with their values.
        shown: Whether it is shown at first, and is what is printed.
        says: The choice in words, such as "8/255, mos_split".
    """

    pictures: tuple[Picture, ...]
    wanted: Mapping[str, str]
    shown: bool
    says: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        dataset: The data set's name in the run.
        name: What files of it are called behind the data set's name: letters, digits, underscores.
        caption: What stands under it; sentences.
        variants: All of them; one is shown.
        columns: Panels side by side in print.
        controls: Markup above it, such as what is compared with.
    """

    dataset: str
    name: str
    caption: str
    variants: tuple[Variant, ...]
    columns: int = 1
    controls: str = ""

    @property
    def first(self) -> Variant:
        """The variant that is shown at first."""
        return next((one for one in self.variants if one.shown), self.variants[0])

    def printed(self, columns: int | None = None) -> Picture:
        """What is written to a file: that variant, all its panels in one picture."""
        pictures = self.first.pictures
        return pictures[0] if len(pictures) == 1 else composed(pictures, columns or self.columns)


def choices(headline: Headline) -> Iterator[tuple[Ball, str, bool]]:
    """Every budget and direction of a data set, and whether it is the one that is shown at first.

    The worst of all directions, `EVERY_DIRECTION`, comes first where there are several.
    """
    several = len(headline.directions) > 1
    for ball in headline.budgets:
        for direction in (*[EVERY_DIRECTION] * several, *headline.directions):
            yield ball, direction, ball == headline.first and (not several or direction == EVERY_DIRECTION)


def choice_state(headline: Headline, ball: Ball, direction: str) -> dict[str, str]:
    """The state that a variant stands for; without the direction where a data set has but one."""
    found = {"norm": ball.norm, "eps": radius_key(*ball)}
    return found | ({"direction": direction or WORST} if len(headline.directions) > 1 else {})


def choice_text(ball: Ball, direction: str) -> str:
    """A budget and a direction in words: "ε 8/255 (linf), mos_split"."""
    return f"ε {budget_text(*ball)} ({ball.norm}), {direction or 'worst of all directions'}"


def usual_direction(directions: Sequence[str]) -> str:
    """The direction that is shown first where one must be: a mixed one, in which ranks suffer most; otherwise down."""
    order = ("mos_split", "self_split", "error", "random_sign", "down", "up")
    return min(directions, key=lambda way: order.index(way) if way in order else len(order))


def sample_text(headline: Headline) -> str:
    """What a figure is of, in words that never take a proxy for people: labels, images and independent units."""
    noun = "triplet" if headline.statistic.startswith("2AFC") else "image"
    sample = f"{counted(headline.images, noun)} of {counted(headline.clusters, headline.noun)}"
    return f"{headline.labels}; {sample}{f' in each of {headline.splits} splits' if headline.splits > 1 else ''}"


def chart_html(chart: Chart, number: int, pdf: bytes | None) -> str:
    """A figure with its caption and downloads.

    Args:
        chart: The figure.
        number: Of the figure within its section: tells ids apart.
        pdf: The first variant as PDF; None where the page has no room for it.
    """
    name = f"{chart.name}-{number}"
    variants = "".join(
        f'<div class="panels{" single" if len(one.pictures) == 1 else ""}"'
        f"{attributes(one.shown, **one.wanted)}>"
        f"{''.join(svg_of(each, f'{name}-{place}-{panel}') for panel, each in enumerate(one.pictures))}</div>"
        for place, one in enumerate(chart.variants)
    )
    return (
        f'<figure class="chart" id="{name}" data-file="{for_html(file_stem(chart))}" '
        f'data-dataset="{for_html(chart.dataset)}">{chart.controls}<div class="canvas" tabindex="0" role="group" '
        f'aria-label="{for_html(chart.dataset)}: figure"><div class="variants">{variants}</div></div>'
        f"<figcaption>{for_html(chart.caption)}{_downloads(chart, pdf)}</figcaption></figure>"
    )


def _downloads(chart: Chart, pdf: bytes | None) -> str:
    buttons = "".join(
        f'<button type="button" data-form="{form}" aria-label="Download as {form.upper()}: '
        f'{for_html(chart.first.pictures[0].title)}">{form.upper()}</button>'
        for form in ("svg", "png")
    )
    says = for_html(f" ({chart.first.says})" if len(chart.variants) > 1 and chart.first.says else "")
    if pdf is None:
        link = "<span>PDF: <code>robustiqa report RUN --figures pdf</code></span>"
    else:
        data = base64.b64encode(pdf).decode()
        link = f'<a download="{for_html(file_stem(chart))}.pdf" href="data:application/pdf;base64,{data}">PDF{says}</a>'
    return f'<span class="downloads">{buttons}{link}</span>'


def file_stem(chart: Chart) -> str:
    """What files of a figure are called: data set and figure, with nothing in it that a file's name cannot have."""
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in chart.dataset)
    return f"{name}_{chart.name}"


def section_html(charts: Sequence[Chart], intro: str = "") -> str:
    """Figures of one kind, one data set under the other; each with its PDF, as long as the page has room for them."""
    from harness.report.page.on_paper import marks_of
    from harness.report.page.outlined import outlined_pdf

    left = MOST_IN_A_SECTION
    parts = []
    for number, chart in enumerate(charts):
        picture, pdf = chart.printed(), None
        if left > 0 and len(marks_of(picture.parts)) <= MOST_MARKS:
            drawn = outlined_pdf(picture)
            pdf = drawn if len(drawn) <= left else None
        left -= len(pdf or b"")
        parts.append(chart_html(chart, number, pdf))
    return f"<p>{for_html(intro)}</p>{''.join(parts)}" if intro else "".join(parts)
