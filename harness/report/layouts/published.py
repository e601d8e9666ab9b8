"""Published numbers as cells: the files of `suites/paper/published`, read as their `columns.yaml` says."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.report.layouts.cells import NO_LIMIT, Cell
from harness.suite.layout_names import DIMENSIONS, NO_ATTACK, written
from harness.suite.strict_yaml import parse, parse_text
from harness.wording import did_you_mean

PUBLISHED = "published"
"""What published cells say they are from."""
PUBLISHED_FOLDER = Path(__file__).parents[3] / "suites" / "paper" / "published"
NOT_THERE = "no figure in the published table"


@dataclass(frozen=True)
class Name:
    """What a published name of a metric stands for here."""

    here: str
    """The metric's label without a label of its own, such as ``ms_ssim(luma=uint8)``; empty where there is none."""
    why: str


def unlike_the_papers(labels: str, limit: str, split: str, papers: str = "") -> str:
    """Why printed numbers may not stand beside figures of their data set, as in "on proxy labels"; empty if they may.

    Args:
        labels: Whose they are, as in the facts of a cell; empty where nobody says.
        limit: Of samples, or "none", or empty.
        split: That is evaluated, or empty.
        papers: The split that the paper evaluates, or empty.
    """
    if labels == "proxy":
        return "on proxy labels"
    if limit not in ("", NO_LIMIT):
        return f"on part of the images (limit {limit})"
    if split and split != papers and (papers or split == "train"):
        return f"on split {split}{f', not {papers}' if papers else ''}"
    return ""


def published_tables(folder: Path = PUBLISHED_FOLDER) -> dict[str, Mapping[str, Any]]:
    """What is said of the columns of each published table.

    Raises:
        UserError: There are no published numbers: they come with a checkout, not with the installed package.
    """
    path = folder / "columns.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no published numbers here. They come with a checkout of the repository.")
    document = parse(path)
    if document.problems:
        raise document.report(document.problems)
    tables: dict[str, Mapping[str, Any]] = document.value
    return tables


def published_cells(table: str, folder: Path = PUBLISHED_FOLDER) -> list[Cell]:
    """The cells of a published table, in the order of its file; metrics have the names that the paper gives them.

    Args:
        table: A name such as "table3".
        folder: Where the files are.

    Raises:
        UserError: There is no such table, or its file cannot be read.
    """
    known = published_tables(folder)
    if table not in known:
        raise UserError(f"no published table '{table}'.{did_you_mean(table, list(known))}")
    about = known[table]
    rows = _rows(folder / about["file"])
    return [cell for row in rows for cell in _cells(about, row)]


def metric_names(folder: Path = PUBLISHED_FOLDER) -> dict[str, Name]:
    """Published name of a metric -> what it stands for here.

    Raises:
        UserError: The file cannot be read.
    """
    return {row["published"]: Name(_label(row["here"]), row["why"]) for row in _rows(folder / "names.csv")}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Restore it from the repository.") from error
    return list(csv.DictReader(io.StringIO(text)))


def _label(here: str) -> str:
    """``{name: ms_ssim, luma: uint8}`` as tables call it without a label of its own: ``ms_ssim(luma=uint8)``."""
    value = parse_text(here, "names.csv").value if here else ""
    if not isinstance(value, dict):
        return str(value)
    parameters = ", ".join(f"{key}={one}" for key, one in value.items() if key != "name")
    return f"{value['name']}({parameters})"


def _cells(about: Mapping[str, Any], row: Mapping[str, str]) -> Iterator[Cell]:
    at: dict[str, Any] = {"training": "base", **about.get("at", {})}
    for column, dimension in about["columns"].items():
        value = about.get("values", {}).get(column, {}).get(row[column], row[column])
        at |= value if isinstance(value, dict) else {dimension: value}
    at |= {dimension: text.format(**row) for dimension, text in about.get("join", {}).items()}
    if at.get("attack") == NO_ATTACK:  # clean images have neither
        at = {name: value for name, value in at.items() if name not in ("norm", "budget", "direction")}
    texts = {name: written(name, at[name]) for name in DIMENSIONS if at.get(name) not in (None, "")}
    protocol = f"As printed in {about['title']} of the paper, computed by its authors."
    made = {"table": str(about["title"])}
    facts = {"split": str(about["split"])} if "split" in about else {}
    if reason := about.get("not_here", {}).get(texts.get("dataset")):
        made["not_here"] = str(reason)
    for column, statistic in about["figures"].items():
        place = texts if statistic == "value" else {**texts, "statistic": statistic}
        if "metric" not in place:  # of a data set, not of a metric
            place = {name: value for name, value in place.items() if name != "training"}
        if not row[column]:
            yield Cell(place, state="missing", why=NOT_THERE, protocol=protocol, run=PUBLISHED, facts=facts, made=made)
            continue
        half = float(row[about["halfwidth"]]) if "halfwidth" in about else math.nan
        value = _number(row[column])
        text = re.sub(r"(?<=\d)x(?=\d)", "×", row[column]) if math.isnan(value) else ""
        cell = Cell(place, value, value - half, value + half, protocol=protocol, run=PUBLISHED, text=text)
        yield dataclasses.replace(cell, facts=facts, made=made)


def _number(text: str) -> float:
    """A figure, or nan for what is none, such as 1M+ ratings."""
    try:
        return float(text)
    except ValueError:
        return math.nan
