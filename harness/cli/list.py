"""What there is to use."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, print_json, registry_of
from harness.cli.output import report_stream
from harness.wording import for_screen

if TYPE_CHECKING:
    from harness.plugins.model import Kind
    from harness.plugins.registry import Registry


class Listed(StrEnum):
    """Things that can be listed."""

    metrics = "metrics"
    attacks = "attacks"
    defenses = "defenses"
    datasets = "datasets"
    recipes = "recipes"
    bridges = "bridges"
    suites = "suites"
    plugins = "plugins"


_KINDS: Mapping[str, Kind] = {
    "metrics": "metrics",
    "attacks": "attacks",
    "defenses": "purifiers",
    "datasets": "datasets",
    "recipes": "recipes",
}
"""What is listed by its kind alone -> that kind."""


@verb("Look", 1)
def _list(
    what: Annotated[Listed | None, typer.Argument(help="What to list; everything if left out.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List metrics, attacks, defenses, data sets, recipes, bridges to libraries, suites or plugins from elsewhere.

    Example: robustiqa list attacks
    """
    registry = registry_of(plugin)
    found = {kind.value: _listed(kind, registry) for kind in ([what] if what else Listed)}
    if as_json:
        print_json(found)
        return
    for kind, rows in found.items():
        typer.secho(kind, italic=True, file=report_stream())
        width = max((len(for_screen(row["name"])) for row in rows), default=0)
        for row in rows:
            name, origin = (for_screen(row[key]) for key in ("name", "from"))
            typer.echo(f"  {typer.style(name.ljust(width), bold=True)}    {origin}", file=report_stream())
        # Told to people alone: a program that reads the list takes every name in it for one that can be had.
        for gone, cure in sorted(registry.retired(_KINDS[kind]).items()) if kind in _KINDS else ():
            typer.echo(f"  {gone.ljust(width)}    not any more: {for_screen(cure)}", file=report_stream())
        if not rows:
            typer.echo("  (none)", file=report_stream())


def _listed(what: Listed, registry: Registry) -> list[dict[str, str]]:
    if what is Listed.suites:
        return [
            {"name": str(path), "from": "this folder"}
            for path in sorted(Path("suites").rglob("*.yaml"))
            if not {"train", "layouts", "published"} & {*path.parts}
        ]
    every: list[Kind] = ["metrics", "attacks", "purifiers", "datasets", "recipes"]
    kinds = {**{Listed(name): [kind] for name, kind in _KINDS.items()}, Listed.bridges: every, Listed.plugins: every}
    rows = []
    for kind in kinds[what]:
        mixed = f" ({kind})" if kinds[what] is every else ""
        for name in registry.names(kind) if what is not Listed.bridges else ():
            source = registry.source(kind, name)
            if what is not Listed.plugins or source.origin != source.module:
                rows.append({"name": name + mixed, "from": source.origin})
        for bridge in registry.bridges(kind):
            if what is not Listed.plugins or bridge.origin != bridge.module:
                rows.append({"name": f"{bridge.prefix}:NAME{mixed}", "from": bridge.status})
    if what is Listed.defenses:
        from harness.plugins.weights.locate import trained

        rows.insert(0, {"name": "base", "from": "no defense"})
        rows += [{"name": name, "from": f"weights {', '.join(weights)}"} for name, weights in trained().items()]
    return rows
