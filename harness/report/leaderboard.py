"""A leaderboard over the entries of many runs: boards of one data set and threat model each, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from harness.report.entries import ALL_DIRECTIONS, REVIEWED, RULES
from harness.report.headline import NOT_FLAGGED, NOT_JUDGED, SUSPECT, UNDECIDED
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.wording import (
    MISSING,
    UNDEFINED,
    USUAL_BUDGET,
    budget_text,
    counted,
    html_environment,
    number,
    with_interval,
)

PublishedEntry = Mapping[str, Any]
_FLAGS = {
    NOT_FLAGGED: "no sign",
    UNDECIDED: "open",
    SUSPECT: "SUSPECT",
    NOT_JUDGED: "not judged",
}
_LABELS = {"human": "people's opinions", "proxy": "PROXY labels, not people's opinions", "none": "no labels"}


@dataclass(frozen=True)
class BoardLine:
    """An entry in a board.

    Attributes:
        entry: It.
        at: What it says of the board's threat model.
        rank: First and last rank that intervals allow; None where nothing is ranked.
    """

    entry: PublishedEntry
    at: Mapping[str, Any]
    rank: tuple[int, int] | None

    @property
    def left(self) -> float:
        """What the worst attack leaves."""
        return float(self.at["left"]["value"])


@dataclass(frozen=True)
class EntryBoard:
    """Entries of one data set under one threat model.

    Attributes:
        data: What the entries say of the data set.
        statistic: What is correlated, in words.
        norm: Of the budget.
        eps: Its radius.
        direction: Where quality is pushed.
        lines: Admissible entries, the highest figure first.
        others: Entries that break a rule, with the same figures and no rank.
        one_run: Whether all are of one run, so that ranks are from paired differences.
    """

    data: Mapping[str, Any]
    statistic: str
    norm: str
    eps: float
    direction: str
    lines: Sequence[BoardLine]
    others: Sequence[BoardLine]
    one_run: bool

    @property
    def name(self) -> str:
        """Its id in the page."""
        budget = budget_text(self.norm, self.eps).replace("/", "-")
        words = f"{self.data['dataset']}-{self.data['split_key'][:6]}-{self.data['n']}-{self.norm}-{budget}"
        return "".join(one if one.isalnum() or one in "-_." else "-" for one in f"{words}-{self.direction}")

    @property
    def threat(self) -> str:
        """Its threat model, in words."""
        return f"{self.norm} {budget_text(self.norm, self.eps)}, {self.direction}"


def boards_of(entries: Sequence[PublishedEntry]) -> list[EntryBoard]:
    """The boards of entries: people's opinions first, then by data set and threat model, in a fixed order."""
    groups: dict[tuple[Any, ...], list[tuple[PublishedEntry, Mapping[str, Any]]]] = {}
    for entry in sorted(entries, key=lambda one: str(one["entry"])):
        for at in entry["attacked"]:
            if at["left"]["value"] is not None:
                groups.setdefault(_key(entry, at), []).append((entry, at))
    return [_board(groups[key]) for key in sorted(groups)]


def _key(entry: PublishedEntry, at: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes figures comparable: the same labels of the same images, attacked within the same ball."""
    data = entry["data"]
    first = at["direction"] != ALL_DIRECTIONS, at["direction"]
    whose = ("human", "proxy", "none").index(data["labels"])
    same = (data["dataset"], data["split_key"], data["n"], data["clusters"], entry["statistic"])
    return (whose, *same, at["norm"] != "linf", at["norm"], abs(at["eps"] - USUAL_BUDGET) > 1e-6, at["eps"], *first)


def _board(found: Sequence[tuple[PublishedEntry, Mapping[str, Any]]]) -> EntryBoard:
    entry, at = found[0]
    admitted = sorted((one for one in found if one[0]["admissible"]), key=_best_first)
    runs = {(one["run"]["suite_digest"], one["run"]["suite"]) for one, _ in found}
    one_run = len(runs) == 1 and all(one["admissible"] or at["rank_in_run"] is None for one, at in found)
    descriptive = any(one["data"]["descriptive"] for one, _ in admitted)
    lines = [BoardLine(*one, None if descriptive else _rank(one, admitted, one_run)) for one in admitted]
    others = [BoardLine(*one, None) for one in sorted((o for o in found if not o[0]["admissible"]), key=_best_first)]
    threat = at["norm"], float(at["eps"]), str(at["direction"])
    return EntryBoard(entry["data"], entry["statistic"], *threat, lines, others, one_run)


def _best_first(one: tuple[PublishedEntry, Mapping[str, Any]]) -> tuple[float, str]:
    return -one[1]["left"]["value"], str(one[0]["entry"])


def _rank(
    one: tuple[PublishedEntry, Mapping[str, Any]],
    among: Sequence[tuple[PublishedEntry, Mapping[str, Any]]],
    one_run: bool,
) -> tuple[int, int] | None:
    """First and last rank: by the run's paired differences, or of several runs by intervals that do not overlap."""
    if one_run:
        found = one[1]["rank_in_run"]
        return (int(found[0]), int(found[1])) if found else None
    own = one[1]["left"]
    intervals = [at["left"] for _, at in among]
    if own["low"] is None or own["high"] is None or any(other["low"] is None for other in intervals):
        return None
    above = sum(other["low"] > own["high"] for other in intervals)
    below = sum(other["high"] < own["low"] for other in intervals)
    return above + 1, len(intervals) - below


def leaderboard_page(entries: Sequence[PublishedEntry], title: str) -> str:
    """The page: one HTML file that needs no other but, for those who follow its links, the entries beside it."""
    boards = boards_of(entries)
    place = resources.files("harness.report")
    style = [place.joinpath("page", "static", name).read_text(encoding="utf-8") for name in ("page.css", "boards.css")]
    source = place.joinpath("templates", "leaderboard.html").read_text(encoding="utf-8")
    template = html_environment().from_string(source)
    return template.render(
        title=title,
        style="\n".join(style),
        rules=RULES,
        fewest=DESCRIPTIVE_BELOW,
        entries=sorted(entries, key=lambda one: str(one["entry"])),
        sections=_sections(boards),
        unplaced=[one for one in entries if all(at["left"]["value"] is None for at in one["attacked"])],
        reviewed=REVIEWED,
        line=_told,
        how=_how_ranked,
        labels=_LABELS,
        counted=counted,
        overview=_overview(boards),
        missing=MISSING,
    )


def _sections(boards: Sequence[EntryBoard]) -> list[tuple[str, EntryBoard, Sequence[EntryBoard]]]:
    """Title of a data set -> the board that is told of first, and the others."""
    found: dict[tuple[Any, ...], list[EntryBoard]] = {}
    for board in boards:
        data = board.data
        found.setdefault((data["dataset"], data["split_key"], data["n"], data["clusters"], board.statistic), []).append(
            board
        )
    return [(_title(own[0]), own[0], own[1:]) for own in found.values()]


def _title(board: EntryBoard) -> str:
    data = board.data
    size = f"{counted(data['n'], data['kind'])} of {counted(data['clusters'], data['cluster_noun'])}"
    return f"{data['dataset']} {data['split']}: {size}, {_LABELS[data['labels']]}"


def _overview(boards: Sequence[EntryBoard]) -> tuple[list[EntryBoard], list[tuple[str, list[str]]]]:
    """Columns of the boards told of first, and a row for each metric with what is left in each of them."""
    columns = [board for _, board, _ in _sections(boards) if board.lines]
    names = dict.fromkeys(line.entry["metric"]["label"] for board in columns for line in board.lines)
    cells = [{line.entry["metric"]["label"]: number(line.left) for line in reversed(board.lines)} for board in columns]
    return columns, [(name, [cell.get(name, MISSING) for cell in cells]) for name in names]


def _how_ranked(board: EntryBoard) -> str:
    """How the ranks of a board came about, in one sentence."""
    data = board.data
    if data["descriptive"]:
        few = f"fewer than {DESCRIPTIVE_BELOW} independent {data['cluster_noun']}s"
        return f"Descriptive: {few} claim nothing, so nothing is ranked."
    if board.one_run:
        return "Ranks are of paired differences over clusters: metrics that cannot be told apart share them."
    return "Entries are of several runs: two whose 95 % intervals overlap share ranks."


def _told(line: BoardLine) -> dict[str, str]:
    """The cells of a line, as text."""
    entry, at = line.entry, line.at
    metric = entry["metric"]
    first, last = line.rank or (0, 0)
    return {
        "rank": MISSING if line.rank is None else str(first) if first == last else f"{first}–{last}",
        "metric": metric["label"],
        "weights": metric["weights_sha256"][:12],
        "clean": _figure(entry["clean"]),
        "left": _figure(at["left"]),
        "attack": f"{at['worst_attack']} {at['worst_direction']}".strip() or MISSING,
        "honest": _figure(at["honest_control"], interval=False),
        "excess": _figure(at["excess_sigma"], signed=True),
        "masking": _FLAGS[entry["masking"]["verdict"]],
        "why": entry["masking"]["decided"],
        "broken": ", ".join(entry["rules_broken"]),
        "file": f"entries/{entry['entry']}.json",
        "run": entry["run"]["suite"],
        "reviewed_by": str(entry.get("reviewed_by") or ""),
        "note": str(entry.get("note") or ""),
        "paper": str(entry.get("paper") or ""),
    }


def _figure(one: Mapping[str, float | None], *, interval: bool = True, signed: bool = False) -> str:
    value, low, high = one["value"], one["low"], one["high"]
    if value is None:
        return UNDEFINED
    if not interval or low is None or high is None:
        return number(value, 2, signed)
    return with_interval(value, low, high, 2, signed)
