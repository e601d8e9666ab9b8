"""Tables as an author lays them out: cells of runs and published numbers, arranged by a layout file.

`harness.suite.layout_file` reads layouts, `cells` and `published` bring the figures, `arrange` makes a `Grid` of them,
and `forms` writes it.
"""

from harness.report.layouts.arrange import arrange, check_layouts, check_names, known_names
from harness.report.layouts.cells import DIMENSIONS, Cell, cells_of
from harness.report.layouts.forms import FORMS, write
from harness.report.layouts.published import published_cells, published_tables
from harness.suite.layout_file import LayoutSpec, read_layouts

__all__ = [
    "DIMENSIONS",
    "FORMS",
    "Cell",
    "LayoutSpec",
    "arrange",
    "cells_of",
    "check_layouts",
    "check_names",
    "known_names",
    "published_cells",
    "published_tables",
    "read_layouts",
    "write",
]
