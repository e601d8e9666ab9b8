"""docs/api.md: what may be imported, from signatures and docstrings, read without importing anything."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from generators.text import wrapped

ROOT = Path(__file__).parents[2]
Definition: TypeAlias = ast.ClassDef | ast.FunctionDef

HEAD = """# Python interface

<!-- Written by docs/reference.py from docstrings. Change those, then run it. -->

[From Python](python.md) shows what the functions are for, [Add a plugin](plugins.md) how the classes are used. What is
named here stays; everything else is the engine's own. The examples are run by the tests.

* [`robustiqa`](#robustiqa): run suites, open run folders, score and attack one pair
* [`harness.contracts`](#harnesscontracts): what plugins are made of
* [`harness.testing`](#harnesstesting): the conformance kit for tests of plugins
"""
MODULES: Mapping[str, str] = {
    "robustiqa": "harness/__init__.py",
    "harness.contracts": "harness/contracts.py",
    "harness.testing": "harness/testing/__init__.py",
}
SECTIONS = {"Args": "**Arguments**", "Attributes": "**Attributes**", "Raises": "**Raises**"}
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
WIDEST = 100
"""A signature that is wider has a line for each argument."""


def api_page() -> str:
    """The text of docs/api.md."""
    parts, shown = [HEAD], dict[tuple[str, Path], str]()
    for module, path in MODULES.items():
        parts += _module(module, ROOT / path, shown)
    return "\n".join(parts).rstrip() + "\n"


def _module(module: str, path: Path, shown: dict[tuple[str, Path], str]) -> Iterator[str]:
    """A module's part of the page; what an earlier part has is named only."""
    yield f"## {module}\n"
    yield from _documented(ast.get_docstring(_tree(path)) or "")
    found = {name: where for name in _public(path) if (where := _found(name, path))}
    elsewhere = {name: _told_in(module, name, place, shown) for name, (_, place) in found.items()}
    for other in dict.fromkeys(filter(None, elsewhere.values())):
        names = ", ".join(f"`{name}`" for name, one in elsewhere.items() if one == other)
        yield (
            wrapped(f"{names} {'are' if ',' in names else 'is'} described under [`{other}`](#{_anchor(other)}).") + "\n"
        )
    for name in (name for name in found if elsewhere[name] is None):
        node, place = found[name]
        shown[name, place] = module
        if isinstance(node, ast.ClassDef):
            yield from _class(node)
        elif isinstance(node, ast.FunctionDef):
            yield f"### `{name}`\n\n{_signature(node)}"
            yield from _documented(ast.get_docstring(node) or "")
        else:
            yield f"### `{name}`\n\n```python\n{ast.unparse(node)}\n```\n"
            yield from _documented(_text_below(_tree(place).body, node))


def _told_in(module: str, name: str, place: Path, shown: Mapping[tuple[str, Path], str]) -> str | None:
    """The part of the page that describes a name, if another does: the module that defines it, or one before."""
    own = next((other for other, at in MODULES.items() if ROOT / at == place), module)
    return own if own != module else shown.get((name, place))


def _anchor(module: str) -> str:
    return module.replace(".", "")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _public(path: Path) -> list[str]:
    """The names in `__all__`."""
    values = (node.value for node in _tree(path).body if isinstance(node, ast.Assign) and _names(node, "__all__"))
    return list(ast.literal_eval(next(values)))


def _names(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _found(name: str, path: Path) -> tuple[Definition | ast.Assign, Path] | None:
    """Where a name is defined, through the imports of a file; None for a name of another library."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name and node in _tree(path).body:
            return node, path
        if isinstance(node, ast.Assign) and _names(node, name):
            return node, path
        if isinstance(node, ast.ImportFrom) and any(one.name == name for one in node.names):
            source = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            package = source.with_suffix("") / "__init__.py"
            return next((_found(name, file) for file in (source, package) if file.is_file()), None)
    return None


def _class(node: ast.ClassDef) -> Iterator[str]:
    bases = [ast.unparse(base) for base in node.bases if ast.unparse(base) not in ("ABC", "Citable")]
    marks = [f"@{ast.unparse(one)}" for one in node.decorator_list]
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    named = f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"
    head = "\n".join([*marks, named])
    fields = {ast.unparse(one.target): one for one in node.body if isinstance(one, ast.AnnAssign)}
    text = ast.get_docstring(node) or ""
    told = set(re.findall(r"^    (\w+): ", text, re.MULTILINE)) & fields.keys()
    lines = [
        _field(one, _text_below(node.body, one))
        for name, one in fields.items()
        if name not in told and not name.startswith("_")
    ]
    yield f"### `{node.name}`\n\n```python\n{head}\n```\n"
    yield from _documented(text, {name: _declared(fields[name]) for name in told})
    if made is not None:
        yield from _documented(ast.get_docstring(made) or "")
    if lines:
        yield "**Fields**\n\n" + "\n".join(lines) + "\n"
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and _shown(one):
            yield f"#### `{node.name}.{one.name}`\n\n{_signature(one)}"
            yield from _documented(ast.get_docstring(one) or "")


def _shown(method: ast.FunctionDef) -> bool:
    public = not method.name.startswith("_") or method.name == "__call__"
    return public and bool(ast.get_docstring(method))


def _declared(field: ast.AnnAssign) -> str:
    value = f" = {ast.unparse(field.value)}" if field.value is not None else ""
    return f"{ast.unparse(field.target)}: {ast.unparse(field.annotation)}{value}"


def _field(field: ast.AnnAssign, text: str) -> str:
    told = f": {' '.join(_plain(text).split())}" if text else ""
    return wrapped(f"* `{_declared(field)}`{told}", "  ")


def _text_below(body: list[ast.stmt], node: ast.stmt) -> str:
    """The text that stands as an expression right after a field or constant."""
    after = dict(itertools.pairwise(body)).get(node)
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return inspect.cleandoc(after.value.value)
    return ""


def _signature(function: ast.FunctionDef) -> str:
    marks = [f"@{ast.unparse(one)}" for one in function.decorator_list]
    returned = f" -> {ast.unparse(function.returns)}" if function.returns is not None else ""
    given = [one for one in _arguments(function.args) if one not in ("self", "cls")]
    line = f"{function.name}({', '.join(given)}){returned}"
    if len(line) > WIDEST:
        line = "".join([f"{function.name}(\n", *(f"    {one},\n" for one in given), f"){returned}"])
    return "\n".join(["```python", *marks, line, "```\n"])


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Each argument as it is written, `*` among them."""
    places = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(places) - len(given.defaults)), *given.defaults]
    for one, default in zip(places, defaults, strict=True):
        yield _argument(one, default)
    if given.vararg:
        yield f"*{_argument(given.vararg, None)}"
    elif given.kwonlyargs:
        yield "*"
    for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(one, default)
    if given.kwarg:
        yield f"**{_argument(given.kwarg, None)}"


def _argument(given: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(given.annotation)}" if given.annotation else ""
    return f"{given.arg}{kind}" + (f" = {ast.unparse(default)}" if default is not None else "")


def _documented(text: str, declared: Mapping[str, str] = types.MappingProxyType({})) -> Iterator[str]:
    """A docstring in Google's form as Markdown; `declared` are the types of what its sections name."""
    for block in _blocks(text):
        first, _, rest = block.partition("\n")
        section = SECTION.match(first)
        if section and section[1] in SECTIONS:
            yield SECTIONS[section[1]] + "\n"
            yield "\n".join(_entries(rest, declared)) + "\n"
        elif section:
            yield wrapped(f"**{section[1]}** {_plain(' '.join(rest.split()))}") + "\n"
        elif block.startswith(">>>"):
            yield f"```pycon\n{block}\n```\n"
        elif block.startswith("    "):
            yield f"```python\n{inspect.cleandoc(block)}\n```\n"
        elif block.startswith("* "):
            points = (" ".join(one.split())[2:] for one in re.split(r"\n(?=\* )", block))
            yield "\n".join(wrapped(f"* {_plain(point)}", "  ") for point in points) + "\n"
        else:
            yield wrapped(_plain(" ".join(block.split()))) + "\n"


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs; code with empty lines in it is one."""
    held: list[str] = []
    for block in filter(str.strip, re.split(r"\n\s*\n", text)):
        if held and not (held[0].startswith("    ") and block.startswith("    ")):
            yield "\n\n".join(held)
            held = []
        held.append(block)
    if held:
        yield "\n\n".join(held)


def _entries(text: str, declared: Mapping[str, str]) -> Iterator[str]:
    """The items of a section: a name, a colon, and a text that may go on in lines that stand further in."""
    for item in re.split(r"\n(?=\S)", inspect.cleandoc(text)):
        name, _, told = item.partition(":")
        yield wrapped(f"* `{declared.get(name.strip(), name.strip())}`: {_plain(' '.join(told.split()))}", "  ")


def _plain(text: str) -> str:
    """Text whose code and emphasis stay, and whose other signs are themselves."""
    parts = re.split(r"(`[^`]*`|(?<!\S)\*\w+\*)", text.replace("``", "`"))
    return "".join(part if i % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", part) for i, part in enumerate(parts))
