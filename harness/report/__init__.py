"""Records to tables, figures and a page: for the terminal, Markdown, CSV and HTML."""

from harness.report.build import build_tables
from harness.report.data import AttackFacts, DatasetFacts, Failure, RunData
from harness.report.render import TERMINAL, print_tables, write_report
from harness.report.table import Table
from harness.suite.cell_names import cell_name
from harness.suite.keys import TABLE_NAMES

__all__ = [
    "TABLE_NAMES",
    "TERMINAL",
    "AttackFacts",
    "DatasetFacts",
    "Failure",
    "RunData",
    "Table",
    "build_tables",
    "cell_name",
    "print_tables",
    "write_report",
]
