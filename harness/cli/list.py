"""What there is to use."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, print_json, registry_of
from harness.cli.output import report_stream
from harness.wording import for_screen

if TYPE_CHECKING:
    from harness.plugins.about import About
    from harness.plugins.model import BridgeSource, Kind
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
_MARGIN, _LEAST = 4, 30
"""Columns beside the name, and the fewest that a sentence gets."""


@verb("Look", 1)
def _list(
    what: Annotated[Listed | None, typer.Argument(help="What to list; everything if left out.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List metrics, attacks, defenses, data sets, recipes, bridges to libraries, suites or plugins from elsewhere.

    Each has a sentence on what it is, and whether it can be used at once: if not, what it needs. Suites have what they
    cost. Example: robustiqa list attacks
    """
    registry = registry_of(plugin)
    found = {kind.value: _listed(kind, registry) for kind in ([what] if what else Listed)}
    if as_json:
        print_json(found)
        return
    for kind, rows in found.items():
        lacking = "" if all(row["ready"] for row in rows) else "  (-: cannot be used at once)"
        typer.echo(f"{typer.style(kind, italic=True)}{lacking}", file=report_stream())
        width = max((len(for_screen(row["name"])) for row in rows), default=0)
        for row in rows:
            _print_row(row, width)
        # Told to people alone: a program that reads the list takes every name in it for one that can be had.
        for gone, cure in sorted(registry.retired(_KINDS[kind]).items()) if kind in _KINDS else ():
            typer.echo(f"  {gone.ljust(width)}    not any more: {for_screen(cure)}", file=report_stream())
        if not rows:
            typer.echo("  (none)", file=report_stream())


def _capitalised(sentence: str) -> str:
    """A sentence with a large first letter, unless it begins with the name of a file or of code."""
    first = sentence.split(maxsplit=1)[0].rstrip(".,:;")
    return sentence if re.search(r"[._]", first) else sentence[0].upper() + sentence[1:]


def _print_row(row: Mapping[str, Any], width: int) -> None:
    """A name, what it is, and what it needs; on a terminal broken where a line ends, else a line each."""
    stream = report_stream()
    name = for_screen(row["name"])
    ready = "" if row["ready"] else "needs " + row["needs"]
    origin = f"from {row['from']}" if row["from"] and row["elsewhere"] else ""
    parts = [row["about"], row.get("cost", ""), row["note"], ready, origin]
    told = for_screen(" ".join(f"{_capitalised(part).rstrip('.')}." for part in parts if part))
    lines = [told]
    if stream is not None and stream.isatty():
        room = max(shutil.get_terminal_size().columns - width - _MARGIN, _LEAST)
        lines = textwrap.wrap(told, room, break_on_hyphens=False) or [""]
    mark = " " if row["ready"] else "-"
    typer.echo(f"{mark} {typer.style(name.ljust(width), bold=True)}  {lines[0]}", file=stream)
    for line in lines[1:]:
        typer.echo(f"{' ' * (width + _MARGIN)}{line}", file=stream)


def _row(name: str, origin: str, about: About | None = None, *, elsewhere: bool = False) -> dict[str, Any]:
    """What is listed of one thing."""
    from harness.plugins.about import About

    about = about or About("")
    known = {"about": about.sentence, "ready": not about.lacks, "needs": about.lacks, "note": about.note}
    return {"name": name, "from": origin, "elsewhere": elsewhere, **known}


def _suites() -> list[dict[str, Any]]:
    """Those that come with robustiqa, and those in a folder `suites` here."""
    from harness.plugins.about import About
    from harness.suite.shipped import SUITES_FOLDER, shipped_suites, suites_below

    shipped = list(shipped_suites())
    rows = [{**_row(one.name, "robustiqa", About(one.about)), "cost": one.cost} for one in shipped]
    ours = {one.file.resolve() for one in shipped}
    for file in suites_below(Path(SUITES_FOLDER)):
        if file.resolve() not in ours:
            rows.append({**_row(str(file), "this folder", About("a suite in this folder")), "cost": ""})
    return rows


def _listed(what: Listed, registry: Registry) -> list[dict[str, Any]]:
    from harness.plugins.about import About, about_plugin, missing_weights

    if what is Listed.suites:
        return _suites()
    every: list[Kind] = ["metrics", "attacks", "purifiers", "datasets", "recipes"]
    kinds = {**{Listed(name): [kind] for name, kind in _KINDS.items()}, Listed.bridges: every, Listed.plugins: every}
    rows = []
    for kind in kinds[what]:
        mixed = f" ({kind})" if kinds[what] is every else ""
        for name in registry.names(kind) if what is not Listed.bridges else ():
            source = registry.source(kind, name)
            elsewhere = source.origin != source.module
            if what is not Listed.plugins or elsewhere:
                about = about_plugin(source, registry)
                about = _found(name, about) if kind == "datasets" else about
                rows.append(_row(name + mixed, source.origin, about, elsewhere=elsewhere))
        for bridge in registry.bridges(kind):
            if what is not Listed.plugins or bridge.origin != bridge.module:
                rows.append(_row(f"{bridge.prefix}:NAME{mixed}", bridge.status, _bridge(bridge)))
    if what is Listed.defenses:
        from harness.plugins.weights.locate import trained

        rows.insert(0, _row("base", "no defense", About("No defense: the metric as it is.")))
        for name, weights in trained().items():
            missing = "; ".join(filter(None, map(missing_weights, weights)))
            rows.append(
                _row(name, f"weights {', '.join(weights)}", About(f"Trained weights {', '.join(weights)}.", missing))
            )
    return rows


def _bridge(bridge: BridgeSource) -> About:
    """What there is behind a prefix, and its library."""
    from harness.plugins.about import About
    from harness.plugins.model import library_version

    missing = bool(bridge.library) and not library_version(bridge.library)
    names = f"`robustiqa show {bridge.prefix}` lists the names"
    about = f"{bridge.kind.capitalize()} of {bridge.library or bridge.origin}."
    return About(
        about, f"the library: {bridge.install}" if missing else "", "" if missing else f"{names} ({bridge.status})"
    )


def _found(name: str, about: About) -> About:
    """What is said of a data set, with what it is called and where it is."""
    from harness.datasets.catalogue import CATALOGUE
    from harness.files import shown

    known = CATALOGUE.get(name)
    if name == "csv":
        return replace(about, note="give it a table: {name: csv, file: mine.csv}")
    if known is None:
        return about
    about = replace(about, sentence=f"{known.title}. {about.sentence}")
    if not known.folder:
        return replace(about, note="embedded")
    if Path(known.where).is_dir():
        return replace(about, note=f"in {shown(known.where)}")
    return replace(about, lacks=f"its images in {shown(known.where)}: robustiqa data fetch {name}")
