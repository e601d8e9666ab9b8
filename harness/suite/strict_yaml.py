"""Strict YAML with positions: every value knows its line and column, and all problems are reported at once.

Stricter than PyYAML where PyYAML surprises: duplicate keys are errors, ``1e-3`` and ``8/255`` are numbers, ``no`` and
``10:30`` are strings, tags and merge keys are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.wording import quoted, respelt_fractions

YamlPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?")
_FRACTION = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_MOST_NODES = 200_000
_MOST_BYTES = 1_000_000
"""Size of a file that people write; what is larger is something else, or should be said shorter."""
_DEEPEST = 50
"""Levels of lists and mappings in one another; the deepest suite that means something has about ten."""
MOST_PROBLEMS = 1_000
"""Problems after which a file is read no further."""
_PROBLEMS_SHOWN = 50
_HIGHEST_WHOLE = 2**64 - 1
"""Largest whole number, with either sign: `harness.rng.HIGHEST_SEED`, as only seeds come near it."""
_MOST_DIGITS = 400
"""Of a whole number that is read at all, to be told that it is too large."""
_CURES = {
    r"'\t'": "Indent with spaces.",
    "levels in one another": "Write fewer levels.",
    "another document": "Remove what follows '---', or keep it in a file of its own.",
    "without end": "Write the values out in place of the alias.",
    "#x": "Remove the character.",
}
"""Words of PyYAML's complaints -> what to do."""
_YAML_TAG = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_TAGS = {"null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value"}


NO_LINE = -1
"""Line of what was written in no file."""


@dataclass(frozen=True)
class Place:
    """Where a value was written: a line of a file, an option of the command line (line 0), or a mapping (`NO_LINE`)."""

    shown: str
    line: int
    column: int
    path: YamlPath
    """The value's path in that file."""

    def __str__(self) -> str:
        return f"{self.shown}:{self.line}:{self.column}" if self.line > 0 else self.shown


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file, and where."""

    path: YamlPath
    message: str
    on_key: bool = False
    """Point at the key of the mapping entry and not at its value."""
    place: Place | None = None
    """Where it is, if known already."""


class LocatedError(UserError):
    """Everything wrong with one YAML file, one line a problem: ``file:line:column: path: message``.

    Of very many the first are told, and how many more there are; `lines` has all.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        told, more = list(lines[:_PROBLEMS_SHOWN]), len(lines) - _PROBLEMS_SHOWN
        if more > 0:
            least = "at least " if len(lines) >= MOST_PROBLEMS else ""
            told.append(f"... and {least}{more:,} more. Mend these first.")
        super().__init__("\n".join(told))
        self.lines = list(lines)


@dataclass
class Document:
    """A parsed file: plain Python values and the position of each."""

    shown: str
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    values: dict[YamlPath, Place] = field(default_factory=dict)
    """Where each value stands."""
    keys: dict[YamlPath, Place] = field(default_factory=dict)
    """Where the key of each mapping entry stands."""

    def report(self, problems: Sequence[Problem]) -> LocatedError:
        """One error naming file, line and column of every problem, in the order of the file."""
        placed = [(self._place(problem), problem.message) for problem in problems]
        lines = []
        for place, message in sorted(placed, key=lambda item: self._order(item[0])):
            where = ".".join(str(part) for part in place.path) if place.line else ""
            lines.append(f"{place}: {f'{where}: ' if where else ''}{message}")
        return LocatedError(list(dict.fromkeys(lines)))

    def settled(self, problems: Sequence[Problem] | None = None) -> list[Problem]:
        """Problems (the document's own if left out) bound to their places, to be carried into another document."""
        own = self.problems if problems is None else problems
        return [replace(problem, place=self._place(problem)) for problem in own]

    def _order(self, place: Place) -> tuple[bool, bool, str, int, int]:
        """This file first, then other files, then options."""
        return place.line == 0, place.shown != self.shown, place.shown if place.line else "", place.line, place.column

    def _place(self, problem: Problem) -> Place:
        if problem.place is not None:
            return problem.place
        if problem.on_key and problem.path in self.keys:
            return self.keys[problem.path]
        path = problem.path
        while path and path not in self.values:
            path = path[:-1]
        place = self.values.get(path, Place(self.shown, 1, 1, ()))
        return replace(place, path=(*place.path, *problem.path[len(path) :]))


def parse(path: Path, *, start: str = "suites/quickstart.yaml") -> Document:
    """Read a YAML file; `start` is what messages recommend in place of an empty one.

    Raises:
        UserError: No such file, it cannot be read, or is larger than any that is written by hand.
        LocatedError: It is no YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)  # no more, though the file be a whole archive, or without end
        if len(content) > _MOST_BYTES:
            raise UserError(
                f"{path}: larger than 1 MB, the most that a file of this kind may be. Say it shorter, with 'matrix' or "
                "'extends', or split it into several."
            )
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Give the path of a YAML file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Give the path of a readable YAML file.") from None
    return parse_text(text, str(path), start=start)


def parse_text(text: str, shown: str, *, start: str = "suites/quickstart.yaml") -> Document:
    """Parse YAML text; `shown` names it in messages, `start` is what they recommend in place of an empty one."""
    document = Document(shown)
    try:
        node = yaml.compose(respelt_fractions(text), Loader=_Loader)  # as long as it was
        if node is None:
            document.problems.append(Problem((), f"the file is empty. Start from {start}."))
        else:
            document.value = _Builder(document).build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        reason = error.problem or error.context or "cannot be read"
        raise LocatedError([f"{shown}:{place}: not valid YAML: {reason}. {_cure(reason)}"]) from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise LocatedError([f"{shown}:1:1: not valid YAML: {reason}. {_cure(reason)}"]) from None
    return document


def _cure(reason: str) -> str:
    """What to do about one of PyYAML's complaints."""
    for words, cure in _CURES.items():
        if words in reason:
            return cure
    return "Mend the file there or just before."


class _Loader(yaml.SafeLoader):
    """Refuses levels beyond those that anything here can have, before they fill the stack of whatever reads them."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node of the tree; `parent` and `index` say where it hangs."""
        if self._depth > _DEEPEST:
            raise _too_deep(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _too_deep(mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"more than {_DEEPEST} levels in one another", problem_mark=mark)


class _Builder:
    """Turns a YAML node tree into values, noting positions and problems."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: YamlPath) -> Any:
        self._document.values[path] = self._position(node, path)
        self._count += 1
        if self._count > _MOST_NODES or id(node) in self._open:
            raise yaml.YAMLError("aliases expand without end")
        if len(path) > _DEEPEST:  # by aliases of aliases
            raise _too_deep(node.start_mark)
        if node.tag.removeprefix(_YAML_TAG) not in _PLAIN_TAGS:
            self._problem(path, f"the tag {node.tag.replace(_YAML_TAG, '!!')} is not allowed. Write the value plainly.")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: YamlPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str) or key == "<<":
                self._document.values[(*path, "?")] = self._position(key_node, (*path, "?"))
                self._problem((*path, "?"), "keys are plain words here; write the mapping out.")
                continue
            here = (*path, key)
            if key in result:
                line = self._document.keys[here].line
                self._document.keys[here] = self._position(key_node, here)
                self._problem(here, f"duplicate key '{key}', first given on line {line}. Remove one.", on_key=True)
                continue
            self._document.keys[here] = self._position(key_node, here)
            result[key] = self.build(value_node, here)
        return result

    def _scalar(self, node: yaml.Node, path: YamlPath) -> Any:
        text = str(node.value)
        if _SURROGATE.search(text):  # halves of a letter, as JSON writes an emoji
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if getattr(node, "style", None) is not None:
            return text
        if text.lower() in _CONSTANTS and text in {text.lower(), text.capitalize(), text.upper()}:
            return _CONSTANTS[text.lower()]
        if _INT.fullmatch(text):
            return self._whole(path, text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else self._not_finite(path, text)
        fraction = _FRACTION.fullmatch(text)
        if fraction:
            if float(fraction[2]) == 0:
                return self._not_finite(path, text)
            return float(fraction[1]) / float(fraction[2])
        return text

    def _whole(self, path: YamlPath, text: str) -> int:
        number = int(text) if len(text) <= _MOST_DIGITS else None
        if number is not None and abs(number) <= _HIGHEST_WHOLE:
            return number
        got = text if number is None else number
        bound = f"at least -{_HIGHEST_WHOLE}" if text.startswith("-") else f"at most {_HIGHEST_WHOLE}"
        self._problem(path, f"should be {bound}, got {quoted(got)}.")
        return 0

    def _not_finite(self, path: YamlPath, text: str) -> float:
        self._problem(path, f"'{text}' is not a finite number. Give one, such as 8/255 or 0.03.")
        return 0.0

    def _problem(self, path: YamlPath, message: str, *, on_key: bool = False) -> None:
        self._document.problems.append(Problem(path, message, on_key))

    def _position(self, node: yaml.Node, path: YamlPath) -> Place:
        return Place(self._document.shown, node.start_mark.line + 1, node.start_mark.column + 1, path)
