"""What stands beside a metric in every ranking where attacks on it may be misled: then its figures may be too good."""

from __future__ import annotations

from collections.abc import Mapping

from harness.report.headline import NOT_FLAGGED, NOT_JUDGED, SUSPECT, UNDECIDED, HeadlineRow, Masking
from harness.report.page.section import PageInput

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
    decided = f"Decided by {masking.decided}." if masking.decided else ""
    return " ".join(part for part in (_WORDS[masking.verdict], decided) if part)


def flag_note(page: PageInput) -> str:
    """What the flag means, and where each is explained; empty where no metric has one."""
    if not flags(page):
        return ""
    return (
        f"<p>{FLAG}: whether gradients mislead the attacks on this metric is open, or they do, so that its figures may "
        'be too good; see <a href="#masking">the verdicts</a>.</p>'
    )
