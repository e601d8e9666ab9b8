"""Types, limits and defaults in words, from JSON schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pydantic
import yaml


def type_text(schema: Mapping[str, Any]) -> str:
    """The type and limits of a JSON schema in words."""
    if "anyOf" in schema:
        texts = [type_text(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(texts)) + (" or null" if len(texts) < len(schema["anyOf"]) else "")
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "entries"
    kind = schema.get("type")
    if kind == "array":
        item = type_text(schema.get("items", {}))
        plural = re.sub(r"^(text|number|whole number)(?=$| \()", r"\1s", item)
        return f"list of {plural}" + (", not empty" if schema.get("minItems") else "")
    if kind == "object":
        keys = schema.get("propertyNames", {}).get("enum")
        named = " or ".join(f"`{key}`" for key in keys) if keys else "names"
        value = schema.get("additionalProperties")
        return f"mapping: {named} to {f'a {type_text(value)}' if isinstance(value, dict) else 'values'}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    limits = [
        text.format(f"`{schema[key]}`" if key == "pattern" else schema[key])
        for key, text in (
            ("pattern", "matching {}"),
            ("maxLength", "at most {} characters"),
            ("exclusiveMinimum", "above {}"),
            ("minimum", "at least {}"),
            ("exclusiveMaximum", "below {}"),
            ("maximum", "at most {}"),
        )
        if key in schema
    ]
    return words.get(str(kind), "any value") + (f" ({', '.join(limits)})" if limits else "")


def written(default: Any) -> str:
    """A value as a suite writes it: 8/255 and not .0313725490196."""
    if isinstance(default, pydantic.BaseModel):
        values = default.model_dump(exclude_none=True)
        return (
            str(values["name"])
            if "name" in values
            else f"{{{', '.join(f'{k}: {written(v)}' for k, v in values.items())}}}"
        )
    if isinstance(default, list):
        return f"[{', '.join(written(one) for one in default)}]"
    if isinstance(default, float) and len(repr(default)) > 8 and abs(255 * default - round(255 * default, 3)) < 1e-9:
        return f"{255 * default:g}/255"
    return yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
