"""What a suite may say: docs/suite.md and the pages of keys, entries and tables, from schema and command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generators.schema_text import type_text, written
from generators.text import DOCS, MARK, capital, items, wrapped
from harness.cli.app import verb_named
from harness.suite.keys import COMPOSING_KEYS, DIRECTIONS, DIRECTIONS_EXPLAINED, ENTRY_KEYS, SuiteFile
from harness.suite.tables import table_sources

EXAMPLE = DOCS / "examples" / "suite.yaml"

HEAD = f"""# Suites

{MARK.format("docs/generators/suite_pages.py, harness/suite/keys.py and the help of `run`")}

A suite is one YAML file: what to measure, attacked how, on which images.

```yaml
name: example
seed: 0
datasets:
  - {{name: mini, split: test}}
  - {{name: tid2013, root: ~/data/tid2013, types: [8, 16, 17]}}  # human opinions
metrics: [psnr, ssim, birqa-tiny]
defenses:
  - base                             # none
  - flip                             # oblivious: attacked without it
  - {{name: flip, threat: adaptive, eot: 20, draws: 3}}  # attacked through it
  - r                                # the weights birqa-tiny@r
attacks: [noise, restore, fgsm, {{name: pgd, steps: 10, step_size: 2/255}}]
budgets: {{linf: [2/255, 4/255, 8/255, 10/255]}}
directions: [up, mos_split]
transfer:                            # attacked on one, judged by another
  - {{source: ssim, scorer: birqa-tiny}}
exclude:                             # psnr and ssim have no such weights
  - {{metric: psnr, defense: r}}
  - {{metric: ssim, defense: r}}
limit: 96
```

Leave out `tid2013` if you have no copy; all else is embedded, and this runs as it is.

* `robustiqa validate SUITE` says everything that is wrong with it at once, each with file, line, column and a
  suggestion, before anything is loaded. Unknown and duplicate keys, values of the wrong type, unknown plugins and
  combinations that cannot be had are errors.
* Numbers may be written `8/255` or `1e-3`; `yes`, `no` and `10:30` are text; YAML tags and merge keys (`<<`) are
  refused.
* `robustiqa plan SUITE` says what it would run, `robustiqa run SUITE` runs it. Adding a metric, an attack or a budget
  to a suite that has run runs only what is new; a changed parameter, weight file or data set runs again just what it
  touches ([how this is told](concepts.md#identity-and-resume)).
* The suite with every default spelled out is saved as `suite.yaml` in the [run folder](concepts.md#the-run-folder).

What the words mean is in [Concepts](concepts.md), what the numbers mean in [Protocols](protocols.md).

## The reference

| page | what is there |
|---|---|
| [Keys](suite_keys.md) | every key of a suite, and the directions of attacks |
| [Entries](suite_entries.md) | what an entry of `datasets`, `metrics`, `defenses`, `attacks`, `transfer`, ... may say |
| [Tables](suite_tables.md) | the tables that `tables` may name |
| [Metrics](suite_metrics.md), [attacks](suite_attacks.md) | what comes with robustiqa, each with its parameters |
| [Defenses](suite_defenses.md), [data sets](suite_datasets.md) | likewise |
| [Recipes](suite_recipes.md) | likewise; they are named in the files of `robustiqa train` |
"""
COMPOSED = """A suite may build on another, vary parameters and leave cells out:

```yaml
extends: quickstart.yaml        # beside this file
name: steps
attacks:
  - {name: pgd, matrix: {steps: [5, 10], step_size: [1/255, 2/255]}}   # every combination
exclude: [{metric: psnr, attack: "pgd*"}]
```
"""
COMPOSING = """`extends` and `matrix` are resolved first; what they lead to is then checked like any other suite.
[`exclude`](suite_keys.md#exclude) takes cells out of the result."""
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
ENTRIES = """An entry of `datasets`, `metrics`, `defenses` or `attacks` is a registered name (`- fgsm`), or a mapping
that holds `name`, the keys below, and parameters of the plugin: `{name: pgd, steps: 20}`. Two entries of one list must
differ in more than their label."""
KEYS = """Every key of a [suite](suite.md). What entries of lists may say is on the page [Entries](suite_entries.md)."""
TABLES = """What the key [`tables`](suite_keys.md#tables) may name. [Protocols](protocols.md) defines every figure, and
[Tables](tables.md) lays figures out as you want them."""
FROM_KEYS = "harness/suite/keys.py"


def suite_pages() -> dict[Path, str]:
    """Page -> its text: the way in, keys, entries and tables."""
    return {
        DOCS / "suite.md": _page(_way_in()),
        DOCS / "suite_keys.md": _page(_all_keys()),
        DOCS / "suite_entries.md": _page(_all_entries()),
        DOCS / "suite_tables.md": _page(_all_tables()),
    }


def _page(parts: Iterator[str]) -> str:
    return "\n".join(parts).rstrip() + "\n"


def _way_in() -> Iterator[str]:
    yield HEAD
    yield "## Building on other suites, and varying parameters\n"
    yield COMPOSED
    yield wrapped(COMPOSING) + "\n"
    yield from items(COMPOSING_KEYS)
    yield "## Changes on the command line\n"
    yield wrapped(COMMAND_LINE) + "\n"
    yield from items(_options())
    yield "## Example\n"
    yield f"`docs/{EXAMPLE.relative_to(DOCS)}` uses most of it:\n"
    yield f"```yaml\n{EXAMPLE.read_text(encoding='utf-8').rstrip()}\n```"


def _all_keys() -> Iterator[str]:
    schema = SuiteFile.model_json_schema()
    yield f"# Keys of a suite\n\n{MARK.format(FROM_KEYS)}\n\n{wrapped(KEYS)}\n"
    for name, field in SuiteFile.model_fields.items():
        yield f"## `{name}`\n"
        yield from _about(name, field, schema["properties"][name])
    yield "## Directions\n"
    yield from items({name: DIRECTIONS_EXPLAINED[name] for name in DIRECTIONS})
    yield "Controls have no direction and run once.\n"


def _all_entries() -> Iterator[str]:
    schema = SuiteFile.model_json_schema()
    yield f"# Entries of a suite\n\n{MARK.format(FROM_KEYS)}\n\n{wrapped(ENTRIES)}\n"
    nested: dict[str, list[str]] = {}
    for name, key in schema["properties"].items():
        for reference in re.findall(r"#/\$defs/(\w+)", str(key)):
            nested.setdefault(reference, []).append(name)
    for reference, lists in nested.items():
        names = ", ".join(f"`{name}`" for name in lists)
        listed = any("items" in str(schema["properties"][name]) for name in lists)
        yield f"## {'An entry' if listed else 'Keys'} of {names}\n"
        yield from items(_keys(schema["$defs"][reference]))
    for name, keys in ENTRY_KEYS.items():
        if keys:
            yield f"## Further keys in `{name}`\n"
            yield from items(keys)


def _all_tables() -> Iterator[str]:
    yield f"# Tables of a report\n\n{MARK.format('harness/report/tables')}\n\n{wrapped(TABLES)}\n"
    yield from items({source.name: source.explains for source in table_sources()})


def _about(name: str, field: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    default = "" if field.is_required() else f" Default: `{written(field.default)}`."
    elsewhere = f"mapping with the [keys of `{name}`](suite_entries.md#keys-of-{name})"
    kind = elsewhere if "$ref" in schema else type_text(schema)
    yield f"{capital(kind)}.{default}{' Must be given.' if field.is_required() else ''}\n"
    yield wrapped(explanation(name, field)) + "\n"


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
        key: f"{capital(type_text(value))}{', must be given' if key in needed else ''}. {value['description']}"
        for key, value in model["properties"].items()
    }


def _options() -> dict[str, str]:
    """The options of `run` that change a suite, as its help says them."""
    command = verb_named("run").command()
    found = {parameter.name: parameter for parameter in command.params}
    return {
        f"{found[name].opts[0]} {found[name].metavar or 'N'}": f"{found[name].help} {more}"
        for name, more in MORE.items()
    }
