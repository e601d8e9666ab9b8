"""Records to tables, figures and a page: for the terminal, Markdown, CSV and HTML."""

from harness.report.build import build_tables
from harness.report.data import AttackFacts, DatasetFacts, Failure, RunData, cell_label
from harness.report.render import TERMINAL, print_tables, write_report
from harness.report.table import Table
from harness.table_names import TABLE_NAMES

__all__ = [
    "TABLE_NAMES",
    "TERMINAL",
    "AttackFacts",
    "DatasetFacts",
    "Failure",
    "RunData",
    "Table",
    "build_tables",
    "cell_label",
    "print_tables",
    "write_report",
]
