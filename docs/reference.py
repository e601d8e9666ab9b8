"""Write docs/suite.md, the reference of suite files, from their schema, the registered plugins and the command line.

And the table of a record's columns in docs/concepts.md, from their schema; and that of claims in docs/claims.md.

python docs/reference.py            writes the pages
python docs/reference.py --check    exits 1 when one is out of date
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from harness.cli.app import verb_named
from harness.contracts import Purifier
from harness.engine.record import as_table
from harness.plugins.model import KINDS, Kind, Parameter, Plugin
from harness.plugins.registry import Registry
from harness.report.claims import VERDICTS, claims_table, read_claims
from harness.report.printed import printed_cells
from harness.suite.keys import (
    COMPOSING_KEYS,
    DIRECTIONS,
    DIRECTIONS_EXPLAINED,
    ENTRY_KEYS,
    SuiteFile,
)
from harness.suite.tables import table_sources

PAGE = Path(__file__).with_name("suite.md")
CONCEPTS = Path(__file__).with_name("concepts.md")
COLUMNS_BEGIN = "<!-- columns: from harness/engine/record.py by docs/reference.py -->\n"
COLUMNS_END = "<!-- end of columns -->"
CLAIMS = Path(__file__).with_name("claims.md")
CLAIMS_BEGIN = "<!-- claims: from suites/paper/claims.csv and suites/paper/published by docs/reference.py -->\n"
CLAIMS_END = "<!-- end of claims -->"
EXAMPLE = Path(__file__).parent / "examples" / "suite.yaml"
WIDTH = 120

HEAD = f"""# Suite reference

<!-- Written by docs/reference.py from harness/suite/keys.py and the registered plugins. Change those, then run it. -->

A suite is one YAML file: what to measure, attacked how, on which images. `robustiqa validate SUITE` says everything
that is wrong with it at once, each with file, line, column and a suggestion, before anything is loaded. Unknown and
duplicate keys, values of the wrong type, unknown plugins and combinations that cannot be had are errors. Numbers may be
written `8/255` or `1e-3`; `yes`, `no` and `10:30` are text; YAML tags and merge keys (`<<`) are refused. The suite with
every default spelled out is saved as `suite.yaml` in the [run folder](concepts.md#the-run-folder).

What the words mean is in [Concepts](concepts.md), what the numbers mean in [Protocols](protocols.md).

## Example

`docs/{EXAMPLE.relative_to(PAGE.parent)}`, which uses most of what is below:

```yaml
{{example}}
```

## Keys
"""
ENTRIES = """An entry of `datasets`, `metrics`, `defenses` or `attacks` is a registered name (`- fgsm`), or a mapping
that holds `name`, the keys below, and parameters of the plugin: `{name: pgd, steps: 20}`. Two entries of one list must
differ in more than their label."""
COMPOSING = """These two keys are resolved first; what they lead to is then checked like any other suite. (`exclude`,
above, takes cells out of the result.)"""
COMMAND_LINE = """`validate`, `plan` and `run` take options that change a suite for one call. The changed suite is
checked like the file and saved as the run folder's `suite.yaml`; records of cells outside it stay, and count again when
a later call asks for them."""
MORE: Mapping[str, str] = {
    "sets": "The value is YAML. In a list of plugins an entry goes by its label, by its name where that is unique, or "
    "by its index from 0: `--set attacks.pgd.steps=20`, `--set attacks.3.steps=20`, `--set 'budgets.linf=[4/255]'`. A "
    "parameter that a `matrix` varies takes the one value given. `extends` cannot be set.",
    "only": "`--only 'birqa*/pgd*'` keeps these metrics and attacks, `--only '*/clean'` clean scores alone. Cells that "
    "`verdicts: n` adds are left out; budgets, transfers and exclusions that no longer apply are dropped.",
    "limit": "In place of the suite's `limit`.",
    "seed": "In place of the suite's `seed`.",
}
"""What the help of an option has no room for."""
TITLES: Mapping[Kind, str] = {
    "metrics": "Metrics",
    "attacks": "Attacks and controls",
    "purifiers": "Defenses",
    "datasets": "Data sets",
    "recipes": "Recipes",
}
PLUGINS = """What comes with robustiqa. `robustiqa list` also shows plugins of installed packages and of `--plugin`
files, `robustiqa show NAME` one of them. Parameters go into the entry beside `name`. Recipes are named in the files of
`robustiqa train`, not in suites."""


def page(registry: Registry) -> str:
    """The text of docs/suite.md."""
    schema = SuiteFile.model_json_schema()
    parts = [HEAD.format(example=EXAMPLE.read_text(encoding="utf-8").rstrip())]
    for name, field in SuiteFile.model_fields.items():
        parts += [f"### `{name}`\n", *_about(name, field, schema["properties"][name])]
    parts += ["## Entries\n", _wrapped(ENTRIES) + "\n"]
    nested: dict[str, list[str]] = {}
    for name, key in schema["properties"].items():
        for reference in re.findall(r"#/\$defs/(\w+)", str(key)):
            nested.setdefault(reference, []).append(name)
    for reference, lists in nested.items():
        names = ", ".join(f"`{name}`" for name in lists)
        model = schema["$defs"][reference]
        listed = any("items" in str(schema["properties"][name]) for name in lists)
        parts += [f"### {'An entry' if listed else 'Keys'} of {names}\n", *_items(_keys(model))]
    for name, keys in ENTRY_KEYS.items():
        if keys:
            parts += [f"### Further keys in `{name}`\n", *_items(keys)]
    explained = {name: DIRECTIONS_EXPLAINED[name] for name in DIRECTIONS}
    parts += ["## Directions\n", *_items(explained), "Controls have no direction and run once.\n"]
    parts += ["## Tables\n", *_items({source.name: source.explains for source in table_sources()})]
    parts += [
        "## Building on other suites, and varying parameters\n",
        _wrapped(COMPOSING) + "\n",
        *_items(COMPOSING_KEYS),
    ]
    parts += ["## Changes on the command line\n", _wrapped(COMMAND_LINE) + "\n", *_items(_options())]
    parts += ["## Plugins\n", _wrapped(PLUGINS) + "\n"]
    for kind in KINDS:
        parts.append(f"### {TITLES[kind]}\n")
        for name in registry.names(kind):
            source = registry.source(kind, name)
            if source.origin == source.module:
                parts += _plugin(kind, registry.get(kind, name))
    return "\n".join(parts).rstrip() + "\n"


def _about(name: str, field: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    default = "" if field.is_required() else f" Default: `{_written(field.default)}`."
    kind = type_text(schema) if "$ref" not in schema else "mapping with the keys named below"
    yield f"{_capital(kind)}.{default}{' Must be given.' if field.is_required() else ''}\n"
    yield _wrapped(explanation(name, field)) + "\n"


def explanation(name: str, field: Any) -> str:
    """What the schema says of a key.

    Raises:
        ValueError: It says nothing.
    """
    if not field.description:
        raise ValueError(f"harness/suite/keys.py: the key '{name}' has no description")
    return str(field.description)


def _keys(model: Mapping[str, Any]) -> dict[str, str]:
    needed = model.get("required", [])
    return {
        key: f"{_capital(type_text(value))}{', must be given' if key in needed else ''}. {value['description']}"
        for key, value in model["properties"].items()
    }


def _items(explained: Mapping[str, str]) -> Iterator[str]:
    yield "\n".join(_wrapped(f"* `{name}`: {text}", "  ") for name, text in explained.items()) + "\n"


def _options() -> dict[str, str]:
    """The options of `run` that change a suite, as its help says them."""
    command = verb_named("run").command()
    found = {parameter.name: parameter for parameter in command.params}
    return {
        f"{found[name].opts[0]} {found[name].metavar or 'N'}": f"{found[name].help} {more}"
        for name, more in MORE.items()
    }


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


def _written(default: Any) -> str:
    if isinstance(default, pydantic.BaseModel):
        values = default.model_dump(exclude_none=True)
        return (
            str(values["name"])
            if "name" in values
            else f"{{{', '.join(f'{k}: {_written(v)}' for k, v in values.items())}}}"
        )
    if isinstance(default, list):
        return f"[{', '.join(_written(one) for one in default)}]"
    if isinstance(default, float) and len(repr(default)) > 8 and abs(255 * default - round(255 * default, 3)) < 1e-9:
        return f"{255 * default:g}/255"
    return yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _plugin(kind: Kind, plugin: Plugin[Any]) -> Iterator[str]:
    first = plugin.described({}).partition("\n\n")[0].replace("\n", " ")
    facts = "; ".join(_facts(kind, plugin))
    yield f"#### `{plugin.name}`\n"
    yield _wrapped(f"{first}{f' ({_capital(facts)}.)' if facts else ''}") + "\n"
    texts = _documented(plugin.cls)
    rows = [_row(parameter, texts.get(parameter.name, "")) for parameter in plugin.parameters()]
    if rows:
        yield "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _row(parameter: Parameter, text: str) -> str:
    schema = pydantic.TypeAdapter(parameter.annotation).json_schema()
    needed = parameter.default is inspect.Parameter.empty
    default = "must be given" if needed else f"`{_written(parameter.default)}`"
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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(text: str, indent: str = "") -> str:
    text = text.replace("``", "`")
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def concepts() -> str:
    """docs/concepts.md with the columns of a record as `harness.engine.record` has them."""
    return _filled(CONCEPTS, COLUMNS_BEGIN, as_table(), COLUMNS_END)


def claims() -> str:
    """docs/claims.md with the verdicts that come out of the printed numbers."""
    found = claims_table(read_claims(CLAIMS.parents[1] / "suites" / "paper" / "claims.csv"), printed_cells())
    counts = found["verdict"].value_counts()
    lines = [
        f"{len(found)} claims: {', '.join(f'{counts[name]} {name}' for name in VERDICTS if name in counts)}.",
        "",
        "| claim | sentence | from the printed numbers | verdict | what to know |",
        "|---|---|---|---|---|",
    ]
    for row in found.to_dict("records"):
        named = f"`{row['id']}`<br>{_cell(row['place'])}"
        told = (row[name] for name in ("found", "verdict", "why"))
        lines.append(f"| {named} | “{_cell(row['quote'])}” | {' | '.join(map(_cell, told))} |")
    return _filled(CLAIMS, CLAIMS_BEGIN, [*lines, ""], CLAIMS_END)


def _cell(text: str) -> str:
    """Text that stands in a Markdown table as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|~$])", r"\\\1", text)


def _filled(path: Path, begin: str, lines: Iterable[str], end: str) -> str:
    """A page with what stands between two marks written anew."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    return "\n".join([before + begin, *lines, end]) + after


def main() -> int:
    """Write the pages, or say whether they are what they should be."""
    texts = {PAGE: page(Registry()), CONCEPTS: concepts(), CLAIMS: claims()}
    if "--check" in sys.argv[1:]:
        old = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
        for path in old:
            print(f"{path}: out of date. Run python docs/reference.py and commit the page.", file=sys.stderr)
        return 1 if old else 0
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
