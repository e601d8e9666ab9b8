"""A plugin as a suite uses it: its parameters spelled out, and what tables call it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.registry import Kind, Plugin
from harness.suite import RANDOM_WEIGHTS


def plugin_use(kind: Kind, plugin: Plugin[Any], values: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `harness.suite.Use`: by default an entry is labelled with the parameters that are not defaults.

    Parameters at values that the plugin calls neutral are left out: they change nothing, and are no part of identity.

    Args:
        kind: What it is.
        plugin: The plugin.
        values: Every parameter with its value.
        entry: What the suite says of it; its ``label`` is taken where it has one.
    """
    neutral = getattr(plugin.cls, "neutral", {})
    defaults = {p.name: p.default for p in plugin.parameters()}
    changed = [f"{k}={_short(v)}" for k, v in values.items() if v != defaults[k] and k != "root"]
    if kind == "metrics" and entry.get("weights") == RANDOM_WEIGHTS:
        changed.append(f"weights={RANDOM_WEIGHTS}")
    label = entry.get("label") or (f"{plugin.name}({', '.join(changed)})" if changed else plugin.name)
    return {
        "kind": kind,
        "name": plugin.name,
        "parameters": {k: v for k, v in values.items() if k not in neutral or v != neutral[k]},
        "version": int(plugin.cls.version),
        "code": plugin.code,
        "label": re.sub(r"[/\\]", "|", str(label)),
    }


def _short(value: Any) -> str:
    if isinstance(value, float):
        steps = round(value * 255, 2)
        # A length in steps of 1/255 has no short decimal; a share such as 0.8 has one, though it is 204/255.
        if 0 < abs(steps) < 255 and abs(value * 255 - steps) < 1e-9 and float(f"{value:.4g}") != value:
            return f"{steps:g}:255"
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(_short(v) for v in value)
    return str(value)
