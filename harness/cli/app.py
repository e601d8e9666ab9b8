"""The program `robustiqa`, whose verbs are the files beside this one that define an `@verb(...)`.

A verb is called like its file, and adding one is adding a file. Only the file of the verb that was called is imported;
the help of the program imports all of them, so what is slow to import is imported in the functions that need it.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from harness.cli.output import reserved_output

Group = Literal["Run", "Look", "Your own", "Upkeep"]
"""Groups of the help, in the order in which a person meets them."""

_FOLDER = Path(__file__).parent
_IS_VERB = re.compile(r"^@verb\(", re.MULTILINE)


class Verb:
    """What one file adds to the command line: a command, or with `below` a group of them.

    Args:
        function: The command; of a group, its docstring is the help. Defined in the file that the verb is called like.
        panel: The group of the help that lists it.
        place: Where in that group; the smallest comes first.
    """

    def __init__(self, function: Callable[..., None], panel: Group, place: int) -> None:
        self.name = function.__module__.rpartition(".")[2]
        self.panel, self.place = panel, place
        self.summary = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
        self._function = function
        self._below: dict[str, Callable[..., None]] = {}

    def below(self, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Decorator that makes the verb a group and adds the command `robustiqa VERB NAME` to it."""

        def add(function: Callable[..., None]) -> Callable[..., None]:
            self._below[name] = function
            return function

        return add

    def command(self) -> Any:
        """The verb as typer runs it."""
        one = typer.Typer(name=self.name, add_completion=False, no_args_is_help=True)
        if self._below:
            one.callback()(self._function)
        for name, function in (self._below or {self.name: self._function}).items():
            one.command(name, cls=_Command)(function)
        return typer.main.get_command(one)


def verb(panel: Group, place: int) -> Callable[[Callable[..., None]], Verb]:
    """Decorator that makes a function the verb of its file; the arguments are those of `Verb`."""
    return lambda function: Verb(function, panel, place)


def verb_names() -> list[str]:
    """The names of all verbs, which are known without importing any."""
    files = sorted(_FOLDER.glob("*.py"))
    return [file.stem for file in files if _IS_VERB.search(file.read_text(encoding="utf-8", errors="replace"))]


def verb_named(name: str) -> Verb:
    """The verb that the file of that name defines, imported."""
    module = importlib.import_module(f"{__package__}.{name}")
    return next(value for value in vars(module).values() if isinstance(value, Verb))


class _Sparing:
    """A command that spares its parameters conversions that change nothing.

    For the first value it converts, typer imports pydantic, which takes longer than all of `robustiqa list`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, that of `--help` among them."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # beside a command class
        for parameter in parameters:
            if "process_value" not in vars(parameter):
                parameter.process_value = functools.partial(_processed, parameter, parameter.process_value)
        return parameters


def _processed(parameter: Any, process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """What a command gets for a value from the command line."""
    if parameter.required:
        return process(ctx, value)
    if value is None:
        left_out = () if parameter.multiple or parameter.nargs == -1 else None
        return parameter.callback(ctx, parameter, left_out) if parameter.callback else left_out
    choices = getattr(getattr(parameter, "type_descriptor", None), "choices", None) or ()
    chosen = [choice for choice in choices if value == getattr(choice, "value", choice)]
    return chosen[0] if chosen and not parameter.callback else process(ctx, value)


class _Program(_Sparing, TyperGroup):
    """Knows verbs by their files, and imports those that are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all verbs."""
        return verb_names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of that name; for a name that is none, all are loaded, as typer then suggests the nearest."""
        names = self.list_commands(ctx)
        for name in [cmd_name] if cmd_name in names else names:
            if name not in self.commands:
                self.commands[name] = verb_named(name).command()
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help in typer's form, but without the half of the time that typer needs to import its own."""
        from rich.console import Console
        from rich.padding import Padding

        screen = Console(highlight=False)
        options = [(option.opts[0], option.help or "") for option in self.get_params(ctx)]
        panels = {"Options": options, **_verbs_by_panel()}
        width = max(len(name) for rows in panels.values() for name, _ in rows)
        screen.print(Padding(ctx.get_usage(), 1), style="bold", markup=False)
        screen.print(Padding(self.help or "", (0, 1, 1, 1)))
        for title, rows in panels.items():
            screen.print(_panel(title, rows, width))
        screen.print(Padding(self.epilog or "", 1))


def _verbs_by_panel() -> dict[str, list[tuple[str, str]]]:
    """Panel -> the names and the summaries of its verbs, in the order in which a person meets them."""
    verbs = sorted(map(verb_named, verb_names()), key=lambda found: (found.place, found.name))
    panels = {name: [(found.name, found.summary) for found in verbs if found.panel == name] for name in get_args(Group)}
    return {name: rows for name, rows in panels.items() if rows}


def _panel(title: str, rows: list[tuple[str, str]], width: int) -> Any:
    """A box of names and what they are."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, expand=True, box=None, pad_edge=False, padding=(0, 1))
    table.add_column(style="bold cyan", no_wrap=True, width=width)
    table.add_column(ratio=1)
    for name, text in rows:
        table.add_row(name, Text(text))
    return Panel(table, title=title, title_align="left", border_style="dim")


class _Command(_Sparing, TyperCommand):
    """One command; while it does its work, standard output is what it reports and nothing else."""

    def invoke(self, ctx: Any) -> Any:
        """Do it."""
        with reserved_output():
            return super().invoke(ctx)


app = typer.Typer(
    name="robustiqa",
    cls=_Program,
    help="Measure how robust full-reference image-quality metrics are to adversarial attack.",
    epilog="First steps:  robustiqa run quickstart   |   robustiqa init   |   robustiqa list   |   robustiqa show pgd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from harness.engine.provenance import own_version

        print(own_version())
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how robust full-reference image-quality metrics are to adversarial attack."""
