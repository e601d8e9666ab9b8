"""How the packages are laid out: what a reader may count on without opening a file."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "metrics_zoo", "attacks", "defenses")

PROTOCOL = {
    "KNOWN": "what the bridge of this file reaches; the tests and docs/attack_bridges.py read it of every bridge",
    "REFUSED": "what the bridge of this file does not reach, with reasons; read of every bridge likewise",
}
"""Names that several modules define on purpose, with one meaning: whoever reads one goes over all of these modules."""

LEFT = {
    "CLEAN",
    "COLUMNS",
    "Scorer",
    "SuiteFile",
    "TOLERANCE",
    "fetch",
    "list_",
    "rescore",
    "score",
    "train",
    "validate",
    "verify",
}
"""Still defined twice, in the engine, the report and the command line; for the time being."""


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def names_bound(body: list[ast.stmt]) -> Iterator[str]:
    """What the statements of a module define, imports aside."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if _is_bound(name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.If | ast.Try):
            yield from names_bound([*node.body, *node.orelse])


def test_no_public_name_is_defined_in_two_modules():
    places = defaultdict(set)
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for name in names_bound(ast.parse(path.read_text(encoding="utf-8")).body):
            if not name.startswith("_"):
                places[name].add(path.relative_to(ROOT).as_posix())
    doubled = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    assert len(places) > 500, "the packages were not found"
    assert {name: where for name, where in doubled.items() if name not in {*PROTOCOL, *LEFT}} == {}
    assert {*PROTOCOL, *LEFT} - set(doubled) == set(), "listed, and no longer defined twice"
