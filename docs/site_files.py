"""What mkdocs does besides: files of the checkout that pages link to (results, suites) become part of the site.

On a code host the pages are read where they stand, so their links lead through the checkout: `../results/...`. In the
site the folder docs/ is the root, and what such a link names stands under its path in the checkout. What pages taken in
so link to is taken in as well; a link to a folder becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\])\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add to the files of the site what its pages link to."""
    known = {Path(file.abs_src_path) for file in files}
    pages = [Path(file.abs_src_path) for file in files.documentation_pages()]
    while pages:
        for target in _targets(pages.pop()):
            if target.is_file() and target not in known:
                known.add(target)
                files.append(File.generated(config, _place(target), abs_src_path=str(target)))
                pages += [target] if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let the links of a page lead to where files stand in the site."""
    own = Path(page.file.abs_src_path)
    return re.sub(r"\[([^\[\]]*)\]\(([^)\s#:]+/)\)", r"\1", LINK.sub(lambda link: _led(link, own), markdown))


def _targets(page: Path) -> Iterator[Path]:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        yield (page.parent / link[1]).resolve()


def _place(file: Path) -> str:
    """Where a file stands in the site: under its path in docs/, or in the checkout."""
    return file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT).as_posix()


def _led(link: re.Match[str], page: Path) -> str:
    target = (page.parent / link[1]).resolve()
    if not target.is_relative_to(ROOT):
        return link[0]
    leads = posixpath.relpath(_place(target), posixpath.dirname(_place(page)) or ".")
    return f"({leads}{'/' if target.is_dir() else ''}{link[2] or ''})"
