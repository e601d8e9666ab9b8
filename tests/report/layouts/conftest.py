"""Layouts written in tests, and cells to lay out."""

from __future__ import annotations

import pytest

from harness.report.layouts import arrange
from harness.report.layouts.cells import Cell
from harness.suite.layout_file import layouts_of
from harness.suite.strict_yaml import parse_text

FACTS = {"labels": "human", "images": "2000", "split": "test", "seed": "0", "limit": "none"}


def cell_of(
    value, statistic="srocc", facts=FACTS, run="a", state="ok", why="", low=float("nan"), high=float("nan"), **at
):
    whole = {
        "dataset": "kadid10k",
        "training": "base",
        "defense": "none",
        "threat": "none",
        **at,
        "statistic": statistic,
    }
    made = {"dataset": whole["dataset"], "metric": whole["metric"]}
    return Cell(whole, value, low, high, state=state, why=why, run=run, facts=facts, made=made, protocol="Protocol: x.")


@pytest.fixture
def cell():
    """Maker of cells of a run on KADID-10k."""
    return cell_of


@pytest.fixture
def layout():
    """Text of a layout -> the layout; everything that is wrong with it is raised as of a file."""

    def read(text):
        document = parse_text(text, "layout.yaml")
        problems = list(document.problems)
        specs = layouts_of(document, problems)
        if problems:
            raise document.report(problems)
        return specs[0]

    return read


NASTY = r"a_b & 50% #1 $x$ <i>|~^\{z} [q] --- 'σ' ± − ↑ Q̂ é 中 =1+1 `c` *s*"


@pytest.fixture
def nasty(layout, cell):
    """A table whose names have every character that some form takes for its own."""
    spec = layout(
        "name: t\nrows: {metric: '*'}\ncolumns: {statistic: srocc, attack: '*'}\nbest: {per: row, srocc: higher}"
    )
    values = [cell(number, metric=name, attack=NASTY) for name, number in ((NASTY, -0.5), ("=2", 1234.5))]
    return arrange(spec, values)


@pytest.fixture
def nasty_name():
    """The name of its first row and of its column."""
    return NASTY
