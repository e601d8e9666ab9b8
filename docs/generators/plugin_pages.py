"""What comes with robustiqa: a page for metrics, attacks, defenses, data sets and recipes each, from the plugins."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from generators.schema_text import type_text, written
from generators.text import DOCS, MARK, capital, wrapped
from harness.contracts import Purifier
from harness.plugins.model import KINDS, Kind, Parameter, Plugin
from harness.plugins.registry import Registry

PAGES: Mapping[Kind, tuple[str, str, str]] = {
    "metrics": ("suite_metrics.md", "Metrics", "[Metrics](metrics.md) says how each is made."),
    "attacks": ("suite_attacks.md", "Attacks and controls", "[Protocols](protocols.md#attacks) says what each does."),
    "purifiers": ("suite_defenses.md", "Defenses", "[Defenses](defenses.md) says what each is worth."),
    "datasets": ("suite_datasets.md", "Data sets", "[Data sets](datasets.md) says how their folders look."),
    "recipes": (
        "suite_recipes.md",
        "Recipes",
        "They are named in the files of `robustiqa train`, not in suites: [Training](training.md).",
    ),
}
"""Kind -> file, title, and where more is."""
SHIPPED = """What comes with robustiqa, with its parameters, which go into a suite's entry beside `name`. `robustiqa
list` also shows plugins of installed packages and of `--plugin` files, `robustiqa show NAME` one of them."""


def plugin_pages(registry: Registry) -> dict[Path, str]:
    """Page -> its text, for every kind of plugin."""
    return {DOCS / PAGES[kind][0]: "\n".join(_page(kind, registry)).rstrip() + "\n" for kind in KINDS}


def _page(kind: Kind, registry: Registry) -> Iterator[str]:
    _, title, more = PAGES[kind]
    yield f"# {title}\n\n{MARK.format('the registered plugins')}\n\n{wrapped(f'{SHIPPED} {more}')}\n"
    for name in registry.names(kind):
        source = registry.source(kind, name)
        if source.origin == source.module:
            yield from _plugin(kind, registry.get(kind, name))


def _plugin(kind: Kind, plugin: Plugin[Any]) -> Iterator[str]:
    first = plugin.described({}).partition("\n\n")[0].replace("\n", " ")
    facts = "; ".join(_facts(kind, plugin))
    yield f"## `{plugin.name}`\n"
    yield wrapped(f"{first}{f' ({capital(facts)}.)' if facts else ''}") + "\n"
    texts = _documented(plugin.cls)
    rows = [_row(parameter, texts.get(parameter.name, "")) for parameter in plugin.parameters()]
    if rows:
        yield "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _row(parameter: Parameter, text: str) -> str:
    schema = pydantic.TypeAdapter(parameter.annotation).json_schema()
    needed = parameter.default is inspect.Parameter.empty
    default = "must be given" if needed else f"`{written(parameter.default)}`"
    return f"| `{parameter.name}` | {type_text(schema)} | {default} | {text} |".replace("  ", " ")


def _facts(kind: Kind, plugin: Plugin[Any]) -> Iterator[str]:
    """What a suite's author must know of a plugin beyond its parameters."""
    cls = plugin.cls
    if kind == "metrics":
        yield f"{'higher' if cls.higher_is_better else 'lower'} is better"
        yield "differentiable" if cls.differentiable else "not differentiable: black-box attacks only"
        if not cls.exact_gradient:
            yield "its gradient is a surrogate"
        if cls.minimum_size > 1:
            yield f"images of {cls.minimum_size} px a side or more"
        if cls.needs_weights:
            yield f"weights `{plugin.weights}`" if plugin.weights else "no default weights: give `weights`"
    elif kind == "attacks":
        white = "white-box" if cls.needs_gradient else "black-box"
        yield f"{'control' if cls.control else white}; {' and '.join(sorted(cls.norms))}"
        if cls.fits:
            yield "learns from the calibration split first"
    elif kind == "purifiers":
        yield "randomised" if cls.randomised else "deterministic"
        if cls.gradient == "surrogate":
            yield "adaptive attacks use a surrogate gradient"
        if cls.gradient == "both":
            yield "adaptive attacks are run by its gradient and by a surrogate, and the better result is kept"
        if cls.network is not Purifier.network:
            yield f"weights `{plugin.weights}`" if plugin.weights else "no default weights: give `weights`"
    elif kind == "datasets":
        yield f"{cls.kind}; {cls.labels} labels; splits {', '.join(cls.splits)}"


def _documented(cls: type) -> dict[str, str]:
    """Parameter -> its explanation, from Attributes or Args sections and from texts under the fields."""
    found: dict[str, str] = {}
    for documented in [one for base in reversed(cls.__mro__) for one in (base, vars(base).get("__init__"))]:
        section = re.search(
            r"(?:Attributes|Args):\n((?:    .*\n?)+)", (inspect.getdoc(documented) if documented else "") or ""
        )
        for item in re.split(r"\n(?=    \w)", section[1].rstrip()) if section else ():
            name, _, text = item.strip().partition(": ")
            found[name] = " ".join(text.split())
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(after.value.value).split())
    return {name: text.replace("``", "`").replace("|", "\\|") for name, text in found.items()}
