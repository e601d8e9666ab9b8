"""What the commands share: options, the registry they ask for, how they print and how they end."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import report_stream
from harness.errors import UserError
from harness.files import run_named
from harness.wording import for_one_line, plain_console, tell

if TYPE_CHECKING:
    from harness.engine.run_folder import FailureRecord
    from harness.plugins.registry import Registry
    from harness.report.screen import Screen
    from harness.suite.compose import Overrides
    from harness.suite.model import Suite
    from harness.suite.strict_yaml import Document

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers plugins; may be repeated.", metavar="FILE.py"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else there.")]


def shipped_too(path: Path) -> Path:
    """The file that a path or the name of a shipped suite or recipe stands for."""
    from harness.suite.shipped import suite_file

    return suite_file(path)


def runs_here(path: Path | list[Path] | None) -> Path | list[Path] | None:
    """Run folders: where there is no such folder, those of that name below `results/runs`."""
    if isinstance(path, list | tuple):
        return [run_named(one) for one in path]
    return None if path is None else run_named(path)


SuitePath = Annotated[
    Path,
    typer.Argument(
        callback=shipped_too,
        help="A suite file, or the name of one that comes with robustiqa, such as quickstart.",
        metavar="SUITE",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Evaluate the first n samples of each split only.")]
Seed = Annotated[int | None, typer.Option(help="The suite's seed, 0 or more.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value, such as attacks.pgd.steps=20; may be repeated.", metavar="KEY=VALUE"),
]
Only = Annotated[
    str | None,
    typer.Option(help="Only these metrics and attacks: two shell patterns on labels.", metavar="METRIC/ATTACK"),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core if left out.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")]


def _allow_pixels(number: int | None) -> None:
    """For this process and its workers."""
    if number is not None:
        from harness.datasets.image_files import MAX_PIXELS

        os.environ[MAX_PIXELS] = str(number)


MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        callback=_allow_pixels,
        expose_value=False,
        help="The most pixels that an image may have; 40 million if left out.",
    ),
]
FigureForms = Annotated[
    str | None,
    typer.Option("--figures", help="Also draw every picture for print: png, pdf, svg or several.", metavar="pdf,svg"),
]
FigureSize = Annotated[str, typer.Option("--size", help="Of pictures for print: column (3.35 in) or page (6.9 in).")]

_FAILURES_SHOWN = 10
_REASON_SHOWN = 80


def registry_of(files: Sequence[Path] | None) -> Registry:
    """Every plugin that can be had, those of `--plugin` files among them."""
    from harness.plugins.registry import Registry

    say_what_is_executed(files)
    registry = Registry(files or ())
    for message in registry.refused:
        tell(f"note: {message}")
    return registry


def say_what_is_executed(files: Sequence[Path] | None) -> None:
    """Say of `--plugin` files, before it happens, that their code runs with the rights of whoever gives them."""
    if found := [str(file) for file in files or () if file.is_file()]:
        tell(f"note: --plugin executes Python code with your rights: {', '.join(found)}")


def checked_suite(
    path: Path, registry: Registry, overrides: Overrides, change: Callable[[Document], Document] | None = None
) -> Suite:
    """A suite whose layouts name nothing that nobody knows; `change` as of `harness.suite.resolve.load_suite`.

    Raises:
        LocatedError: Everything wrong with it.
    """
    from harness.suite.resolve import load_suite

    suite = load_suite(path, registry, overrides, change=change)
    if suite.layouts:
        from harness.report.layouts import check_layouts
        from harness.report.planned import registered

        check_layouts(suite, registered(registry))
    return suite


Full = Annotated[bool, typer.Option("--full", help="Every table, not the first one alone.")]


def print_report(screen: Screen, folder: Path, full: bool, did: str = "") -> None:
    """Print what a report says, what was done, and where everything is.

    Args:
        screen: What it says.
        folder: The run folder.
        full: Whether every table is printed.
        did: What was done.
    """
    from harness.report.screen import print_screen

    out = console()
    print_screen(screen, out, full)
    out.print(f"\n{did}Report: {folder / 'report' / 'index.html'}", soft_wrap=True)
    if not full:
        out.print(f"Every table: robustiqa report {folder} --full", soft_wrap=True)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """In here Python does not look for garbage, of which imports and plans leave hardly any: a tenth of their time."""
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


@contextlib.contextmanager
def interruptions_held() -> Iterator[None]:
    """In here a Ctrl-C waits until the end: an import in whose C code it came may swallow it, or abort the process."""
    answer, came = signal.getsignal(signal.SIGINT), list[tuple[int, FrameType | None]]()
    if not callable(answer) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, answer)
    if came:
        answer(*came[0])


@contextlib.contextmanager
def writing(target: Path, option: str = "-o") -> Iterator[None]:
    """Write what an option names.

    Raises:
        UserError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{option} {target}: cannot be written ({error.strerror}). Choose another place.") from error


def console(*, stderr: bool = False) -> Any:
    """A place to print on, strings as they are; wide enough for tables where it is no terminal."""
    on: dict[str, Any] = {"stderr": True} if stderr else {"file": report_stream()}
    console = plain_console(**on)
    return console if console.is_terminal else plain_console(**on, width=max(console.width, 110))


def print_json(value: Any) -> None:
    """The one document of `--json`; numbers that JSON has not (NaN, infinities) are null."""
    print(json.dumps(_finite(value), indent=1, default=str, allow_nan=False), file=report_stream())


def print_json_rows(about: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """As `print_json`, with a last key of rows, a line each, written as they come: there may be 100,000.

    Args:
        about: What comes before them.
        name: The key of the rows.
        rows: Whose values are texts and whole numbers.
    """
    out = report_stream()
    head = json.dumps(_finite({**about, name: []}), indent=1, default=str, allow_nan=False)
    out.write(head.removesuffix("]\n}"))
    for number, row in enumerate(rows):
        out.write(f"{',' if number else ''}\n  {json.dumps(row)}")
    print("\n ]\n}", file=out)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def end(failures: Sequence[FailureRecord]) -> None:
    """Say what failed, one line for each thing that went wrong however many cells it took down, and exit by it."""
    if not failures:
        return
    groups: dict[str, list[str]] = {}
    for failure in failures:
        groups.setdefault(failure.message, []).append(failure.sample)
    for message, samples in list(groups.items())[:_FAILURES_SHOWN]:
        first, *others = dict.fromkeys(samples)
        where = f"{first}{f' and {len(others)} more' if others else ''}: " if first else ""
        tell(for_one_line(f"failed: {where}{message} [{len(samples)} cell(s)]"))
    if len(groups) > _FAILURES_SHOWN:
        tell(f"... and {len(groups) - _FAILURES_SHOWN} more; the report lists them all.")
    tell("What was finished is kept; mend the cause and run the same command again.")
    raise typer.Exit(2 if any(failure.bad_input for failure in failures) else 1)


def refuse_file(folder: Path, option: str = "--out") -> None:
    """Refuse a file where a folder is to be written.

    Raises:
        UserError: It is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder}: a file, and a folder is to be written. Choose another place.")


def check_device(device: str | None) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: It cannot be had.
    """
    if device is None:
        return
    import torch

    try:
        torch.ones(1, device=device).item()  # 'meta' can be had and holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        why = f" ({reason})" if len(reason) <= _REASON_SHOWN else ""
        raise UserError(f"--device {device}: not to be had{why}. Leave it out, or take cpu.") from None
