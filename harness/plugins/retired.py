"""Names that are no longer a plugin's, each with what to write instead; read from the files, as names are."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from harness.plugins.decorators import decorators
from harness.plugins.model import KINDS, Kind


def retired_names(kind: Kind) -> Iterator[tuple[str, str]]:
    """(name, cure) of every ``@retired("...", cure="...")`` in our own files of a kind, without importing them."""
    spec = importlib.util.find_spec(KINDS[kind][0])
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).rglob("*.py")):
            yield from retired_in(file.read_text(encoding="utf-8"))


def retired_in(text: str) -> Iterator[tuple[str, str]]:
    """(name, cure) of every such decorator in a file's text."""
    for call in decorators(text, "retired", "contracts.retired"):
        cures = [ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "cure"]
        yield ast.literal_eval(call.args[0]), cures[0]
