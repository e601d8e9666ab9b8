"""Layouts written in tests, and cells to lay out."""

from __future__ import annotations

import pytest

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
