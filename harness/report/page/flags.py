"""What stands beside a metric in every ranking where attacks on it may be misled: then its figures may be too good."""

from __future__ import annotations

from collections.abc import Mapping

from harness.report.headline import NOT_FLAGGED, NOT_JUDGED, SUSPECT, UNDECIDED, HeadlineRow, Masking
from harness.report.page.section import PageInput
from harness.wording import for_html

FLAG = "⚑"
_WORDS = {
    SUSPECT: "Gradients may mislead attacks on it: its figures may be too good.",
    UNDECIDED: "Whether gradients mislead attacks on it is open: more images would tell.",
    NOT_JUDGED: "Whether gradients mislead attacks on it was not judged.",
    NOT_FLAGGED: "Nothing speaks for gradients that mislead attacks on it.",
}
LIGHTS = {SUSPECT: "bad", UNDECIDED: "warn", NOT_JUDGED: "none", NOT_FLAGGED: "good"}
"""Verdict -> the light that it is shown as."""


def flags(page: PageInput) -> Mapping[tuple[str, str], str]:
    """(data set, label of a metric) -> why it carries a flag; metrics whose verdict is clean are left out."""
    rows = ((one.dataset, row) for one in page.headlines for row in one.rows)
    return {(dataset, row.label): flag_of(row) for dataset, row in rows if flag_of(row)}


def flag_of(row: HeadlineRow) -> str:
    """Why a metric carries a flag, in words; empty for one that carries none, and for one that was not judged."""
    return words(row.masking) if row.masking.verdict in (SUSPECT, UNDECIDED) else ""


def words(masking: Masking) -> str:
    """A verdict in words, with the figure that decided."""
    return " ".join(part for part in (_WORDS[masking.verdict], masking.decided) if part)


def flag_html(reason: str) -> str:
    """The flag, with its reason for those who point at it or listen; empty without a reason."""
    if not reason:
        return ""
    text = for_html(reason)
    return f' <span class="flag" title="{text}" role="img" aria-label="masking: {text}">{FLAG}</span>'
