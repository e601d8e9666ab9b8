"""What a page begins with: the answer in sentences, and the dumbbells."""

from __future__ import annotations

from harness.report.page.dumbbells import dumbbells_html
from harness.report.page.flags import flag_note
from harness.report.page.section import PageInput, Section
from harness.report.split_headlines import whole_headlines
from harness.report.summary import sentences
from harness.wording import for_html


def headline_section(page: PageInput) -> Section | None:
    """The sentences "In short", then of each metric what its worst attack leaves."""
    told = "".join(
        f"<li>{for_html(sentence)}</li>" for sentence in sentences(whole_headlines(page.headlines, page.data.splits))
    )
    short = f'<div class="short" role="note" aria-label="In short"><ul>{told}</ul></div>' if told else ""
    figures = dumbbells_html(page)
    html = short + figures + (flag_note(page) if figures else "")
    return Section("headline", "In short", html) if html else None
