"""What there is to use: `list` and `show`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import app
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of

if TYPE_CHECKING:
    from harness.registry import Kind, Plugin, Registry


class What(StrEnum):
    """Things that can be listed."""

    metrics = "metrics"
    attacks = "attacks"
    defenses = "defenses"
    datasets = "datasets"
    recipes = "recipes"
    suites = "suites"
    plugins = "plugins"


@app.command("list")
def list_(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List metrics, attacks, defenses, data sets, recipes, suites or plugins from elsewhere.

    Example: robustiqa list attacks
    """
    registry = registry_of(plugin)
    found = {kind.value: _listed(kind, registry) for kind in ([what] if what else What)}
    if as_json:
        print_json(found)
        return
    from rich.table import Table

    screen = console()
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for row in rows:
            table.add_row(f"[bold]{row['name']}[/]", row["from"])
        if not rows:
            table.add_row("(none)")
        screen.print(table)


def _listed(what: What, registry: Registry) -> list[dict[str, str]]:
    if what is What.suites:
        return [
            {"name": str(path), "from": "this folder"}
            for path in sorted(Path("suites").rglob("*.yaml"))
            if path.parent.name != "train"
        ]
    kinds: dict[What, list[Kind]] = {
        What.metrics: ["metrics"],
        What.attacks: ["attacks"],
        What.defenses: ["purifiers"],
        What.datasets: ["datasets"],
        What.recipes: ["recipes"],
        What.plugins: ["metrics", "attacks", "purifiers", "datasets", "recipes"],
    }
    rows = []
    for kind in kinds[what]:
        for name in registry.names(kind):
            source = registry.source(kind, name)
            if what is not What.plugins or source.origin != source.module:
                label = f"{name} ({kind})" if what is What.plugins else name
                rows.append({"name": label, "from": source.origin})
    if what is What.defenses:
        rows.insert(0, {"name": "base", "from": "no defense"})
    return rows


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A plugin's name.")], plugin: PluginFiles = None, as_json: AsJson = False
) -> None:
    """Show what a plugin is and its parameters.

    Example: robustiqa show pgd
    """
    from harness.registry import KINDS, PluginError, did_you_mean

    registry = registry_of(plugin)
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if name == "base":
        raise PluginError("'base' is no plugin: in a suite's defenses it stands for none.")
    if not kinds:
        known = [n for kind in KINDS for n in registry.names(kind)]
        raise PluginError(f"nothing is registered as '{name}'.{did_you_mean(name, known)}")
    pages = [_page(kind, registry.get(kind, name)) for kind in kinds]
    if as_json:
        print_json(pages)
        return
    from rich.markup import escape
    from rich.table import Table

    screen = console()
    for page in pages:
        screen.print(f"[bold]{name}[/] ({page['kind']}) from {escape(page['from'])}\n")
        screen.print(escape(page["description"]) + "\n")
        table = Table(title="parameters", title_justify="left")
        for column in ("parameter", "type", "default"):
            table.add_column(column)
        for parameter in page["parameters"]:
            table.add_row(*(escape(str(parameter[c])) for c in ("name", "type", "default")))
        screen.print(table if page["parameters"] else "no parameters")
        for key, value in page["properties"].items():
            screen.print(f"{key}: {escape(str(value))}")


_PROPERTIES = (
    *("higher_is_better", "differentiable", "exact_gradient", "minimum_size", "needs_weights"),
    *("needs_gradient", "norms", "control", "fits", "gradient", "randomised", "kind", "labels", "splits"),
)


def _page(kind: Kind, plugin: Plugin[Any]) -> dict[str, Any]:
    import inspect

    def plain(value: Any) -> Any:
        if value is inspect.Parameter.empty:
            return "(must be given)"
        if isinstance(value, frozenset | set):
            return sorted(value)
        return value

    return {
        "name": plugin.name,
        "kind": kind,
        "from": plugin.origin,
        "description": inspect.getdoc(plugin.cls) or "",
        "parameters": [
            {"name": p.name, "type": _type_text(p.annotation), "default": plain(p.default)} for p in plugin.parameters()
        ],
        "properties": {k: plain(getattr(plugin.cls, k)) for k in _PROPERTIES if hasattr(plugin.cls, k)},
    }


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
