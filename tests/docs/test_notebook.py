"""The notebook of the documentation runs as it stands, and was committed with what it shows."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LARGEST = 400_000
"""Bytes: pictures are committed, and kept small."""


def test_the_notebook_runs_and_was_committed_with_its_outputs():
    nbformat = pytest.importorskip("nbformat")
    spec = importlib.util.spec_from_file_location("notebook", DOCS / "notebook.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    notebook = nbformat.read(script.NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code) and script.NOTEBOOK.stat().st_size < LARGEST
    kinds = [sorted(output.output_type for output in cell.outputs) for cell in code]
    again = [cell for cell in script.executed(notebook).cells if cell.cell_type == "code"]
    assert [sorted(output.output_type for output in cell.outputs) for cell in again] == kinds
