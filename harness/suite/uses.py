"""Plugins as a suite uses them: parameters spelled out, what tables call them, the metrics that attacks bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import Attack, Dataset
from harness.errors import UserError
from harness.plugins.build import Members, noting_members
from harness.plugins.contents import RandomStateError, by_content, paths_in, state_of
from harness.plugins.model import Contents, Kind, Plugin
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, check, resolve
from harness.plugins.weights.manifest import WeightsError
from harness.suite.model import NO_FLOOR, MetricUse, Use
from harness.wording import value_text

_NO_CONTENTS = Contents()
_SEED_THEM = (
    "Say needs_weights = True in the class and give 'weights:', load them in __init__, or draw them from a generator "
    "with a seed of its own."
)
_REACH_THEM = (
    "Weights are loaded into its state dict, and that is no part of it: make it a parameter or a buffer, load it in "
    "__init__, or draw it from a generator with a seed of its own."
)


@dataclass(frozen=True)
class Built:
    """A plugin built once, and the metrics that it asked for meanwhile."""

    instance: Any
    members: Members


def build_once(plugin: Plugin[Any], values: Mapping[str, Any]) -> Built:
    """A plugin built of its parameters; raises whatever it raises."""
    with noting_members() as members:
        return Built(plugin.build(values), members)


def plugin_use(
    kind: Kind,
    plugin: Plugin[Any],
    values: Mapping[str, Any],
    entry: Mapping[str, Any],
    contents: Contents = _NO_CONTENTS,
) -> dict[str, Any]:
    """The fields of `Use`: by default an entry is labelled with the parameters that are not defaults.

    Parameters at values that the plugin calls neutral are left out: they change nothing, and are no part of identity.
    Where a preset of the name differs from the neutral value they stay, or the preset would come in their place.

    Args:
        kind: What it is.
        plugin: The plugin.
        values: Every parameter with its value.
        entry: What the suite says of it; its ``label`` is taken where it has one.
        contents: What of it counts by content; see `contents_of`.
    """
    neutral = getattr(plugin.cls, "neutral", {})
    defaults = {p.name: p.default for p in plugin.parameters()}
    changed = [f"{k}={value_text(v)}" for k, v in values.items() if v != defaults[k] and k != "root"]
    if kind == "datasets" and isinstance(table := values.get("file"), str):
        changed = [f"file={value_text(Path(table).name)}", *(one for one in changed if not one.startswith("file="))]
    if kind == "attacks" and entry.get("floor", NO_FLOOR) != NO_FLOOR:
        changed.append(f"floor={entry['floor']}")
    if kind in ("metrics", "purifiers") and entry.get("weights") == RANDOM_WEIGHTS:
        changed.append(f"weights={RANDOM_WEIGHTS}")
    name = value_text(plugin.name)
    label = entry.get("label") or (f"{name}({', '.join(changed)})" if changed else name)
    return {
        "kind": kind,
        "name": plugin.name,
        "parameters": {k: v for k, v in values.items() if k not in neutral or not v == neutral[k] == defaults[k]},
        "version": int(plugin.cls.version),
        "code": plugin.code,
        "contents": contents,
        "label": str(label),
    }


def automatic_label(plugin: Plugin[Any], use: Use) -> str:
    """What tables would call a plugin had the suite not labelled it: its name, and the parameters that are no defaults.

    Args:
        plugin: The plugin.
        use: It, as the suite uses it.
    """
    values = {p.name: use.parameters.get(p.name, p.default) for p in plugin.parameters()}
    for p in plugin.parameters():  # a file has lists where code has tuples
        if isinstance(p.default, tuple) and isinstance(values[p.name], list):
            values[p.name] = tuple(values[p.name])
    entry = {"weights": getattr(use, "weights", ""), "floor": getattr(use, "floor", NO_FLOOR)}
    return str(plugin_use(use.kind, plugin, values, entry)["label"])


def contents_of(
    plugin: Plugin[Any], values: Mapping[str, Any], built: Built, *, weights: str | None = None
) -> Contents:
    """What of a plugin counts by content, as it is used, and of every metric that it was built of.

    Args:
        plugin: The plugin.
        values: Every parameter with its value.
        built: It, built of them.
        weights: What the engine loads into it; see `state_of`.

    Raises:
        UserError: It makes its own weights at random, or a file that a parameter names cannot be read.
    """
    data = isinstance(built.instance, Dataset)  # its folders go by fingerprint and pixels, its root by nothing else
    looked_at = {key: value for key, value in values.items() if not (data and key == "root")}
    paths = {key: tuple(paths_in(value, folders=not data)) for key, value in looked_at.items()}
    try:
        named = {key: by_content(value, folders=not data) for key, value in looked_at.items() if paths[key]}
        state = "" if data else state_of(plugin, values, built.instance, weights=weights)
    except RandomStateError as error:
        raise UserError(
            f"'{plugin.name}' from {plugin.origin} makes '{error}' anew at random whenever it is built, so its scores "
            f"mean nothing. {_SEED_THEM if weights is None else _REACH_THEM}"
        ) from None
    except OSError as error:
        raise UserError(f"'{plugin.name}': {error.filename} cannot be read ({error.strerror}).") from error
    # A composed metric from elsewhere is looked at as a whole: it may fill what a member alone leaves to chance.
    members = _members_of(built.members, RANDOM_WEIGHTS if plugin.code else weights)
    files = [path for found in paths.values() for path in found]
    files += [path for member in members for path in member.contents.paths]
    return Contents(named, tuple(files), state, tuple(member.identity() for member in members))


def _members_of(members: Members, weights: str | None) -> list[Use]:
    """Each different member once, as it is used; the engine loads the whole's weights into them, too."""
    seen: list[tuple[Plugin[Any], Mapping[str, Any]]] = []
    uses: list[Use] = []
    for one in members:
        if (one.plugin, one.parameters) not in seen:
            seen.append((one.plugin, one.parameters))
            contents = contents_of(one.plugin, one.parameters, Built(one.instance, one.members), weights=weights)
            uses.append(Use(**plugin_use("metrics", one.plugin, one.parameters, {}, contents)))
    return uses


def metric_used(name: str, attack: Attack, registry: Registry) -> MetricUse:
    """A metric as `Objective.plugin` gives it to an attack: with its default parameters and weights.

    Args:
        name: One of `Attack.uses_metrics`.
        attack: The attack.
        registry: Where the name is looked up.

    Raises:
        UserError: It is unknown, cannot be built, lacks weights, or has no gradient for an attack that needs gradients.
    """
    plugin = registry.metric(name)
    if attack.needs_gradient and not plugin.cls.differentiable:
        raise UserError(f"the metric '{name}' is not differentiable. Take one that is, such as ssim.")
    defaults = {p.name: p.default for p in plugin.parameters()}
    try:
        built = build_once(plugin, defaults)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"metric '{name}' cannot be had with default parameters: {error}. Take another.") from error

    def use(weights: str | None = None) -> dict[str, Any]:
        return plugin_use("metrics", plugin, defaults, {}, contents_of(plugin, defaults, built, weights=weights))

    if not plugin.cls.needs_weights:
        return MetricUse(**use(), weights="", weights_file=None)
    try:
        file = resolve(name, None, plugin.weights)
        if file is not None:
            check(built.instance, file)
    except WeightsError as error:
        raise UserError(f"{error} As a part of an attack a metric has its default weights.") from error
    if file is None:
        raise UserError(f"metric '{name}' has no default weights. Take a metric that has.")
    return MetricUse(**use(file.sha256), weights=file.sha256, weights_file=file.path.absolute())
