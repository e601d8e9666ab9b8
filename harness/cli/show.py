"""What one plugin is, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of
from harness.wording import rich_text, value_text

if TYPE_CHECKING:
    from harness.plugins.model import BridgeSource, Kind, Plugin
    from harness.plugins.registry import Registry


@verb("Look", 2)
def _show(
    name: Annotated[str, typer.Argument(help="A plugin's name, or the prefix of a bridge.")],
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plugin is and its parameters, or what there is behind a bridge.

    Example: robustiqa show pgd
    """
    from harness.plugins.model import KINDS, PluginError
    from harness.wording import did_you_mean

    registry = registry_of(plugin)
    kinds = [kind for kind in KINDS if registry.knows(kind, name)]
    bridges = [bridge for kind in KINDS for bridge in registry.bridges(kind)]
    opened = [bridge for bridge in bridges if bridge.prefix == name.removesuffix(":")]
    if name == "base":
        raise PluginError("'base' is no plugin: in a suite's defenses it stands for none.")
    if opened and name not in [n for kind in kinds for n in registry.names(kind)]:
        _show_bridges(opened, registry, as_json)
        return
    if not kinds:
        from harness.plugins.weights.locate import trained

        if weights := trained().get(name):
            _show_trained(name, weights, as_json)
            return
        for kind in KINDS:
            if name in registry.retired(kind):
                registry.source(kind, name)  # says what to write instead
        known = [n for kind in KINDS for n in registry.names(kind)]
        known += [bridge.prefix + name[len(name.partition(":")[0]) :] for bridge in bridges]
        raise PluginError(f"nothing is registered as '{name}'.{did_you_mean(name, known)}")
    pages = [_page(kind, registry.get(kind, name)) | _citation(kind, name, registry) for kind in kinds]
    if as_json:
        print_json(pages)
        return
    from rich.table import Table

    screen = console()
    for page in pages:
        _print_head(screen, page)
        screen.print(page["description"] + "\n")
        table = Table(title="parameters", title_justify="left")
        for column in ("parameter", "type", "default"):
            table.add_column(column)
        for parameter in page["parameters"]:
            default = parameter["default"]
            shown = value_text(default) if isinstance(default, float) else str(default)
            table.add_row(parameter["name"], parameter["type"], shown)
        screen.print(table if page["parameters"] else "no parameters")
        for key, value in page["properties"].items():
            screen.print(f"{key}: {value}")
        screen.print("\ncite: " + ("\n".join(page["cite"]) or page["uncited"]), soft_wrap=True)


def _print_head(screen: Any, page: Mapping[str, Any]) -> None:
    """What it is, of which kind and from where."""
    about = rich_text(f" ({page['kind']}) from {page['from']}\n", "not bold")
    screen.print(rich_text(page["name"], "bold").append(about))


def _show_trained(name: str, weights: Sequence[str], as_json: bool) -> None:
    """A name of `defenses` that stands for weights."""
    page = {"name": name, "kind": "defenses", "from": "the weights manifest", "weights": list(weights)}
    if as_json:
        print_json([page])
        return
    screen = console()
    _print_head(screen, page)
    screen.print("In a suite's defenses it stands for the metric's weights of that training.\n", soft_wrap=True)
    screen.print(f"weights: {', '.join(weights)}", soft_wrap=True)


def _show_bridges(bridges: Sequence[BridgeSource], registry: Registry, as_json: bool) -> None:
    """What there is behind a prefix; a library that is missing is told of, and is no mistake."""
    from harness.plugins.model import PluginError

    pages = []
    for bridge in bridges:
        page: dict[str, Any] = {"name": bridge.prefix, "kind": bridge.kind, "from": bridge.status}
        page |= {"names": [], "problem": ""}
        try:
            page["names"] = registry.offered(bridge)
        except PluginError as error:
            page["problem"] = str(error)
        pages.append(page)
    if as_json:
        print_json(pages)
        return
    screen = console()
    for page in pages:
        _print_head(screen, page)
        for line in page["names"] or [page["problem"]]:
            screen.print(line)


def _citation(kind: Kind, name: str, registry: Registry) -> dict[str, Any]:
    """What to cite for a plugin with its defaults, or why there is nothing; its library's paper comes last."""
    from harness.plugins.references import UNSAID, declared

    found = declared(registry, kind, name, {})
    entries = dict.fromkeys(one.text() for one in (*(found.own or ()), *(found.library or ())))
    return {
        "cite": list(entries),
        "uncited": "" if entries else UNSAID if found.own is None else "nothing; it says that there is no paper",
    }


_PROPERTIES = (
    *("higher_is_better", "score_range", "differentiable", "exact_gradient", "minimum_size", "needs_weights"),
    *("needs_gradient", "norms", "control", "bounded", "fits", "gradient", "randomised", "kind", "labels", "splits"),
)


def _page(kind: Kind, plugin: Plugin[Any]) -> dict[str, Any]:
    import inspect

    def plain(value: Any) -> Any:
        if value is inspect.Parameter.empty:
            return "(must be given)"
        if isinstance(value, frozenset | set):
            return sorted(value)
        return value

    properties = {k: plain(getattr(plugin.cls, k)) for k in _PROPERTIES if hasattr(plugin.cls, k)}
    if limits := properties.get("score_range"):
        properties["score_range"] = f"{limits[0]:g} to {limits[1]:g}"  # JSON knows no infinity
    return {
        "name": plugin.name,
        "kind": kind,
        "from": plugin.origin,
        "description": plugin.described({}),
        "parameters": [
            {"name": p.name, "type": _type_text(p.annotation), "default": plain(p.default)} for p in plugin.parameters()
        ],
        "properties": properties,
    }


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
