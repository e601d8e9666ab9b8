"""The suites that come with robustiqa: where they lie, what each is and costs, and how a name stands for one.

A shipped suite's head is comments: a paragraph that begins with a sentence on what it shows, and a line ``# Cost:``.
Nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import write_whole
from harness.wording import did_you_mean, tell

_YAML = ".yaml"
SUITES_FOLDER = "suites"
_NO_SUITES = {"train", "layouts", "published"}
"""Folders of other files than suites."""
_COST = re.compile(r"^# Cost: (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"(.+?[.])(?:\s|$)")
_SUITE = re.compile(r"^(datasets|extends):", re.MULTILINE)
"""What a suite has, and a file of feature sets has not."""


@dataclass(frozen=True)
class ShippedSuite:
    """A suite that comes with robustiqa.

    Attributes:
        name: What stands for it on the command line.
        file: Where it is.
        about: One sentence on what it shows.
        cost: What it takes, in words; empty where its head does not say.
    """

    name: str
    file: Path
    about: str
    cost: str


def shipped_folder() -> Path:
    """Where shipped suites lie, of a checkout and of an installed wheel alike: beside our packages."""
    return Path(__file__).parents[2] / SUITES_FOLDER


def shipped_suites() -> Iterator[ShippedSuite]:
    """Every suite that comes with robustiqa: those that run on embedded images first, then by name."""
    folder = shipped_folder()
    found = []
    for file in suites_below(folder):
        text = file.read_text(encoding="utf-8")
        name = file.relative_to(folder).with_suffix("").as_posix()
        found.append(ShippedSuite(name, file, _about(text), _cost(text)))
    yield from sorted(found, key=lambda suite: (len(suite.file.parts), suite.name != "quickstart", suite.name))


def suites_below(folder: Path) -> list[Path]:
    """Every suite file below a folder laid out as the shipped one, in order."""
    files = [file for file in folder.rglob(f"*{_YAML}") if not _NO_SUITES & {*file.relative_to(folder).parts}]
    return sorted(file for file in files if _SUITE.search(file.read_text(encoding="utf-8", errors="replace")))


def _about(text: str) -> str:
    """The first sentence of a file's head."""
    head = []
    for line in text.splitlines():
        if not line.startswith("# ") or _COST.match(line):
            break
        head.append(line[2:].strip())
    whole = " ".join(head)
    found = _SENTENCE.match(whole)
    return found[1] if found else whole.rstrip(":") + "."


def _cost(text: str) -> str:
    found = _COST.search(text)
    return found[1] if found else ""


def suite_file(path: Path) -> Path:
    """The file that is meant by what a person gave: a path, a path without its suffix, or the name of a shipped file.

    Args:
        path: ``mine.yaml``, ``mine`` for it, ``quickstart`` for the shipped suite, or ``suites/quickstart.yaml`` for it
            where the current folder has no such file.

    Returns:
        What is there; a path with a suffix as it is where nothing is.

    Raises:
        UserError: It is no path but a name, and nothing has it.
    """
    if path.exists() and not path.is_dir():
        return path
    if not path.name:
        return path
    beside = path.with_name(path.name + _YAML)
    if beside.is_file():
        return beside
    if path.is_absolute() or ".." in path.parts:
        return path
    inside = path.relative_to(SUITES_FOLDER) if path.parts[0] == SUITES_FOLDER else path
    for name in (inside, inside.with_name(inside.name + _YAML)):
        if (file := shipped_folder() / name).is_file():
            if inside != path:
                tell(f"note: {path} is not in this folder; the one that comes with robustiqa is taken.")
            return file
    if not path.suffix and not path.exists():
        known = [suite.name for suite in shipped_suites()]
        raise UserError(
            f"{path}: no such file, and no suite of that name comes with robustiqa.{did_you_mean(str(path), known)} "
            "'robustiqa list suites' lists them."
        )
    return path


def copy_suite(name: str, folder: Path) -> list[Path]:
    """Copy a shipped suite, with whatever files it builds on, into a folder.

    Args:
        name: Of the suite.
        folder: Where to; made where it is missing.

    Returns:
        The copies, the suite itself first.

    Raises:
        UserError: No suite has that name, or one of the files is there already; nothing is written then.
    """
    from harness.suite.compose import files_of

    known = {suite.name: suite.file for suite in shipped_suites()}
    wanted = name.removeprefix(f"{SUITES_FOLDER}/").removesuffix(_YAML)
    if wanted not in known:
        raise UserError(
            f"init {name}: no suite of that name comes with robustiqa.{did_you_mean(wanted, list(known))} "
            "'robustiqa list suites' lists them."
        )
    source = known[wanted]
    copies = {file: folder / file.relative_to(source.parent) for file in files_of(source)}
    for copy in copies.values():
        if copy.exists():
            raise UserError(
                f"init {name}: {copy} is there already, and nothing is overwritten. Move it away, or give another "
                "folder with --out."
            )
    try:
        for file, copy in copies.items():
            write_whole(copy, file.read_bytes())
    except OSError as error:
        raise UserError(
            f"init {name}: {error.filename or folder} cannot be written ({error.strerror or error}). Give another "
            "folder with --out."
        ) from error
    return list(copies.values())
