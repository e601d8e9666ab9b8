"""Write the pages of the documentation that follow from code.

* docs/suite*.md: what suites may say, from their schema and the registered plugins;
* docs/cli.md: every command, from the program's own help;
* docs/api.md: what may be imported, from docstrings;
* in docs/concepts.md the columns of a record, in docs/claims.md the verdicts on claims.

python docs/reference.py            writes the pages
python docs/reference.py --check    exits 1 when one is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from generators.api_page import api_page
from generators.cli_page import cli_page
from generators.plugin_pages import plugin_pages
from generators.suite_pages import suite_pages
from generators.text import DOCS, cell, filled

from harness.engine.record import as_table
from harness.plugins.registry import Registry
from harness.report.claims import VERDICTS, claims_table, read_claims
from harness.report.printed import printed_cells

COLUMNS = "<!-- columns: from harness/engine/record.py by docs/reference.py -->\n", "<!-- end of columns -->"
CLAIMS = (
    "<!-- claims: from suites/paper/claims.csv and suites/paper/published by docs/reference.py -->\n",
    "<!-- end of claims -->",
)


def concepts() -> str:
    """docs/concepts.md with the columns of a record as `harness.engine.record` has them."""
    return filled(DOCS / "concepts.md", COLUMNS[0], as_table(), COLUMNS[1])


def claims() -> str:
    """docs/claims.md with the verdicts that come out of the printed numbers."""
    found = claims_table(read_claims(DOCS.parent / "suites" / "paper" / "claims.csv"), printed_cells())
    counts = found["verdict"].value_counts()
    lines = [
        f"{len(found)} claims: {', '.join(f'{counts[name]} {name}' for name in VERDICTS if name in counts)}.",
        "",
        "| claim | sentence | from the printed numbers | verdict | what to know |",
        "|---|---|---|---|---|",
    ]
    for row in found.to_dict("records"):
        named = f"`{row['id']}`<br>{cell(row['place'])}"
        told = (row[name] for name in ("found", "verdict", "why"))
        lines.append(f"| {named} | “{cell(row['quote'])}” | {' | '.join(map(cell, told))} |")
    return filled(DOCS / "claims.md", CLAIMS[0], [*lines, ""], CLAIMS[1])


def pages() -> dict[Path, str]:
    """Page -> the text that it should have."""
    return {
        **suite_pages(),
        **plugin_pages(Registry()),
        DOCS / "cli.md": cli_page(),
        DOCS / "api.md": api_page(),
        DOCS / "concepts.md": concepts(),
        DOCS / "claims.md": claims(),
    }


def outdated(texts: dict[Path, str]) -> list[Path]:
    """Pages that are missing or say something else."""
    return [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    """Write the pages, or say whether they are what they should be."""
    texts = pages()
    old = outdated(texts)
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path}: out of date. Run python docs/reference.py and commit the page.", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.write_text(texts[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
