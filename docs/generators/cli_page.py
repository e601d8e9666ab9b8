"""docs/cli.md: every command of the program, from what typer makes of it."""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from generators.text import wrapped
from harness.cli.app import Group, Verb, verb_named, verb_names

HEAD = """# Command line

<!-- Written by docs/reference.py from harness/cli. Change the help of the commands, then run it. -->

`robustiqa --help` and `robustiqa VERB --help` print what stands here. RUN is a run folder such as
`results/runs/quickstart`, SUITE a [suite file](suite.md).

* **Again** means *go on*: `run`, `train` and `features` do what is missing. Ctrl-C finishes the blocks begun, a second
  one stops at once; neither loses what was finished.
* **Exit codes**: 0 all done, 1 some cells failed (or what a command was to check is wrong), 2 bad usage or input, 130
  interrupted.
* **For programs**: commands with `--json` print one JSON document on standard output and nothing else there; whatever
  else is said goes to standard error.
* **Plugins** of your own are files under `--plugin`, which executes their code with your rights, or installed packages.
"""
WORDS: Mapping[type, str] = {Path: "PATH", int: "N", float: "X", str: "TEXT"}
"""How a value is written where a command names none."""
EXAMPLES = re.compile(r"\bExamples?:\s+")


def cli_page() -> str:
    """The text of docs/cli.md."""
    verbs = sorted(map(verb_named, verb_names()), key=lambda verb: (verb.place, verb.name))
    panels = {panel: [verb for verb in verbs if verb.panel == panel] for panel in typing.get_args(Group)}
    parts = [HEAD, *(line for panel, found in panels.items() if found for line in _summary(panel, found))]
    for found in panels.values():
        for verb in found:
            parts += _verb(verb)
    return "\n".join(parts).rstrip() + "\n"


def _summary(panel: str, verbs: list[Verb]) -> Iterator[str]:
    yield f"**{panel}**\n\n| command | what it does |\n|---|---|"
    yield "\n".join(f"| [`{verb.name}`](#robustiqa-{verb.name}) | {_escaped(verb.summary)} |" for verb in verbs) + "\n"


def _verb(verb: Verb) -> Iterator[str]:
    command = verb.command()
    below: Mapping[str, Any] = getattr(command, "commands", {})
    yield f"## robustiqa {verb.name}\n"
    if not below:
        yield from _command(f"robustiqa {verb.name}", command)
        return
    yield from _told(command.help)
    for name, one in below.items():
        yield f"### robustiqa {verb.name} {name}\n"
        yield from _command(f"robustiqa {verb.name} {name}", one)


def _command(name: str, command: Any) -> Iterator[str]:
    yield from _told(command.help)
    arguments = [one for one in command.params if not one.opts[0].startswith("-")]
    options = [one for one in command.params if one.opts[0].startswith("-")]
    usage = " ".join([name, *map(_placed, arguments), *(["[OPTIONS]"] if options else [])])
    yield f"```text\n{usage}\n```\n"
    kinds = typing.get_type_hints(inspect.unwrap(command.callback))
    rows = [f"| `{_in_cell(_metavar(one))}` | {_escaped(one.help or '')} |" for one in arguments]
    rows += [f"| {_written(one, kinds.get(one.name))} | {_meaning(one)} |" for one in options]
    if rows:
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows]) + "\n"


def _told(help_text: str | None) -> Iterator[str]:
    """The text of a command, its examples as code."""
    text, *examples = EXAMPLES.split(inspect.cleandoc(help_text or ""), maxsplit=1)
    for paragraph in filter(None, (" ".join(part.split()) for part in text.split("\n\n"))):
        yield wrapped(_escaped(paragraph)) + "\n"
    if examples:
        lines = (" ".join(line.split()) for line in re.split(r"\n\s*\n|\s\|\s|\n(?=robustiqa )", examples[0]))
        yield "\n".join(["```bash", *filter(None, lines), "```\n"])


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper()).strip("[]").removesuffix("...")


def _placed(argument: Any) -> str:
    several = "..." if argument.nargs == -1 else ""
    return f"{_metavar(argument)}{several}" if argument.required else f"[{_metavar(argument)}{several}]"


def _in_cell(code: str) -> str:
    """Code that stands in a table."""
    return code.replace("|", "\\|")


def _written(option: Any, kind: Any) -> str:
    """The option as it is typed, with what it takes."""
    if option.secondary_opts:
        return f"`{option.opts[0]}` / `{option.secondary_opts[0]}`"
    takes = "" if kind is bool else f" {_value(option, kind)}"
    return _in_cell(", ".join(f"`{name}{takes}`" for name in sorted(option.opts, key=len, reverse=True)))


def _value(option: Any, kind: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    for one in (kind, *typing.get_args(kind)):
        if typing.get_origin(one) is Literal:
            return "|".join(map(str, typing.get_args(one)))
        if isinstance(one, enum.EnumMeta):
            return "|".join(str(member.value) for member in one)
        if one in WORDS:
            return WORDS[one]
    return _metavar(option)


def _meaning(option: Any) -> str:
    given = option.default if not callable(option.default) else None
    plain = given is None or isinstance(given, bool | list | tuple)
    default = "" if plain or given == "" else f" Default: `{getattr(given, 'value', given)}`."
    needed = " Must be given." if option.required else ""
    return f"{_escaped(option.help or '')}{needed}{default}"


def _escaped(text: str) -> str:
    """A help text in Markdown: code stays code, everything else is as it reads."""
    parts = re.split(r"(`[^`]*`)", text.replace("``", "`"))
    plain = (re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts[::2])
    code = (part.replace("|", "\\|") for part in parts[1::2])
    return "".join(one for pair in zip(plain, [*code, ""], strict=True) for one in pair)
