"""The page's figures as files: what `robustiqa report RUN --figures` writes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.engine.drawing import figure_width
from harness.report.page.chart import Chart, file_stem
from harness.report.page.difference import difference_chart
from harness.report.page.dumbbells import dumbbell_chart
from harness.report.page.on_paper import PIXELS_PER_INCH, encoded_picture
from harness.report.page.paired import differences_of
from harness.report.page.scatter import scatter_chart
from harness.report.page.section import PageInput
from harness.report.page.strength import strength_chart
from harness.report.split_headlines import whole_headlines


def charts_of(page: PageInput) -> Iterator[Chart]:
    """Every figure of the page that has data set, budget and legend in it, in the page's order."""
    heads = whole_headlines(page.headlines, page.data.splits)
    yield from (chart for one in heads if (chart := dumbbell_chart(one)) is not None)
    yield from (chart for one in heads if (chart := scatter_chart(one)) is not None)
    both = list(zip(page.evaluated, page.headlines, strict=True))
    yield from (chart for one, headline in both if (chart := strength_chart(one, headline)) is not None)
    for one, headline in both:
        pairs = differences_of(one, headline)
        if pairs is not None:
            yield difference_chart(headline, pairs)


def figure_files(page: PageInput, formats: Sequence[str], size: str) -> dict[str, tuple[str, bytes]]:
    """What files hold: name -> (title, bytes). Each shows what the page shows at first.

    Args:
        page: What figures are made from.
        formats: Some of "png", "pdf", "svg".
        size: A key of `harness.engine.drawing.FIGURE_WIDTHS`; an SVG has the size of the screen.
    """
    found = {}
    for chart in charts_of(page):
        columns = 2 if figure_width(size) * PIXELS_PER_INCH > 600 else 1
        picture = chart.printed(columns)
        title = f"{picture.title}, {chart.first.says}."
        for form in formats:
            found[f"{file_stem(chart)}_{size}.{form}"] = title, encoded_picture(picture, form, figure_width(size))
    return found
