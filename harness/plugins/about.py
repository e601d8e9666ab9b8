"""What a plugin is in one sentence, and whether it can be used at once: read from its source, importing nothing of it.

A file of ours or of an installed package is parsed, so that listing everything takes no torch. Of a ``--plugin`` file,
which was imported already, its class is asked.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plugins.code import file_of_module
from harness.plugins.model import Source
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import entries, held, read_manifest

_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class About:
    """What is said of a plugin in a list.

    Attributes:
        sentence: What it is; empty where its author does not say.
        lacks: What it needs before it can be used, and how to get it; empty where it can be used at once.
        note: What is to be known of its use besides.
    """

    sentence: str
    lacks: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Read:
    """What the source of a class says under one of its registered names."""

    sentence: str
    preset: Mapping[str, Any]
    weights: str | None
    alone: bool
    """Whether this is the only name of the class."""
    needs_weights: bool
    network: bool
    fits: bool


def about_plugin(source: Source, registry: Registry) -> About:
    """The sentence on a plugin and what it lacks."""
    read = _of_class(source, registry) if source.file is not None else _of_source(source)
    if read is None:
        return About("")
    sentence = read.sentence.replace("``", "`").replace("**", "")
    if read.preset and not read.alone:
        sentence += " [" + ", ".join(f"{key}: {value}" for key, value in read.preset.items()) + "]"
    lacks, note = "", ""
    if read.weights is not None:
        lacks = missing_weights(read.weights)
    elif read.needs_weights:
        lacks = "weights of yours: `weights: FILE.safetensors`, such as `robustiqa train` writes"
    elif read.network:
        lacks = f"a model of yours: `robustiqa show {source.name}` says which it takes"
    elif read.fits:
        note = "learns from a data set first"
    return About(sentence, lacks, note)


def missing_weights(name: str) -> str:
    """Of weights of the manifest, how to get what is not here; empty where all of them are."""
    try:
        if name not in read_manifest():
            return "weights of yours: they do not come with robustiqa"
        (entry,) = entries([name])
        here = all(place.place != "missing" for place in held(entry))
    except UserError as error:
        return str(error)
    return "" if here else f"its weights: robustiqa weights fetch {name}"


def _of_class(source: Source, registry: Registry) -> _Read | None:
    """What the class of an imported file says."""
    plugin = registry.get(source.kind, source.name)
    names = vars(plugin.cls).get("registrations", ())
    return _Read(
        plugin.described({}).partition("\n")[0],
        plugin.preset,
        plugin.weights,
        len(names) < 2,
        bool(getattr(plugin.cls, "needs_weights", False)),
        False,
        bool(getattr(plugin.cls, "fits", False)),
    )


def _of_source(source: Source) -> _Read | None:
    """What the text of a class says."""
    file = file_of_module(source.module)
    for cls in _classes(file).values() if file else ():
        marks = list(_registrations(cls))
        for name, preset, weights in marks:
            if name == source.name:
                docstring = inspect.cleandoc(ast.get_docstring(cls) or "").partition("\n")[0]
                sentence = _filled(docstring, _defaults(cls) | preset)
                own = [one for base in _lineage(cls, file) for one in base.body]
                return _Read(
                    sentence,
                    preset,
                    weights,
                    len(marks) < 2,
                    _flag(own, "needs_weights"),
                    any(isinstance(one, ast.FunctionDef) and one.name == "network" for one in own),
                    _flag(own, "fits"),
                )
    return None


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """A docstring in which values stand for parameters in braces."""
    return _BRACES.sub(lambda found: str(values.get(found[1], found[1])), text)


@functools.cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _classes(file: Path | None) -> dict[str, ast.ClassDef]:
    return {one.name: one for one in _tree(file).body if isinstance(one, ast.ClassDef)} if file else {}


def _lineage(cls: ast.ClassDef, file: Path | None) -> Iterator[ast.ClassDef]:
    """A class and those of its bases that are written in the same file or imported from another of ours by name."""
    yield cls
    for base in cls.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        if name in (own := _classes(file)) and name != cls.name:
            yield from _lineage(own[name], file)
            continue
        for one in _tree(file).body if file else ():
            if isinstance(one, ast.ImportFrom) and one.module and name in {alias.name for alias in one.names}:
                if one.module.endswith("harness.contracts"):
                    continue
                there = file_of_module(one.module)
                if found := _classes(there).get(name):
                    yield from _lineage(found, there)


def _registrations(cls: ast.ClassDef) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Name, preset and weights of each `@register` over a class."""
    for call in cls.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "register":
            named = {str(one.arg): _literal(one.value) for one in call.keywords}
            weights = named.pop("weights", None)
            yield _literal(call.args[0]) if call.args else "", named, weights


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _defaults(cls: ast.ClassDef) -> dict[str, Any]:
    """Defaults of the parameters, as the text has them: fields, or what follows the star of `__init__`."""
    found: dict[str, Any] = {}
    for one in cls.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.value is not None:
            found[one.target.id] = _literal(one.value)
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            pairs = zip(one.args.kwonlyargs, one.args.kw_defaults, strict=True)
            found |= {argument.arg: _literal(value) for argument, value in pairs if value is not None}
    return found


def _flag(body: list[ast.stmt], name: str) -> bool:
    """Whether a class sets a constant of that name to True."""
    for one in body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = one.value  # type: ignore[attr-defined]  # both have one
            return isinstance(value, ast.Constant) and value.value is True
    return False
