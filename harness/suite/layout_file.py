"""Layouts of tables as a file or a suite writes them: rows, columns, labels, what is best, and what is printed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import UserError
from harness.suite.layout_names import DIMENSIONS, NAME, comparable, written
from harness.suite.strict_yaml import Document, LocatedError, Problem, YamlPath, parse
from harness.wording import did_you_mean, quoted

Intervals = Literal["none", "beside", "below", "deviation", "halfwidth"]
Per = Literal["block", "column", "row"]
Way = Literal["higher", "lower", "closest"]

EVERY = "*"
"""Stands for all values that there are."""
START = "docs/examples/layout.yaml"
LAYOUT_KEYS: Mapping[str, str] = {
    "name": "Name of its files, and of its label `tab:NAME` in LaTeX.",
    "caption": "The short caption; the long one adds the protocol line. Default: the name.",
    "where": "Dimension -> the value that holds for every cell, unless a block says another.",
    "rows": "A list of blocks of rows, with a rule between blocks; or one block with the key `rule`.",
    "columns": "A list of blocks of columns, each under its `title`, with one level of headers for each list in it.",
    "labels": "Dimension -> value -> what is printed for it. `{metric}` and the like are filled in, and a label that "
    "names another dimension stands for both. A list fills several columns of row labels.",
    "stub": "What stands over the row labels; a list where there are several columns of them. Default: nothing.",
    "best": "Statistic -> `higher`, `lower`, `closest` (to 0) or `{closest: NUMBER}`: the best is bold, compared as "
    "printed, ties all. `per`: `block`, `column` or `row`, default `block`. `second: true` underlines the second best.",
    "digits": "Decimals, default 3; or statistic -> decimals, with `default` for the others.",
    "intervals": "`none`, `beside`, `below`: 95 % intervals; `deviation`: ± the standard deviation over splits or "
    "draws; `halfwidth`: ± half of the 95 % interval. Default: `none`.",
    "triangle": "`lower`: only the cells left of the diagonal, the others being their mirror images.",
    "published": "Published numbers that stand in a panel of their own below, with differences, under the same data "
    "set and protocol only: `table3`, or `{table: table3, rows: {METRIC: NAME}}`, where a published row of no known "
    "metric is to stand without a difference.",
    "notes": "Texts to print under the table.",
    "run_notes": "Texts to print under figures of runs, and not where published numbers alone are laid out.",
}
"""Every key of a layout in words."""
BLOCK_KEYS: Mapping[str, str] = {
    "title": "Over the columns of a block; over its rows, or the label of its only row.",
    "where": "As of the layout, for the cells of the block.",
    "rule": "Of one mapping under `rows`: the dimension between whose values there is a rule.",
}
"""Keys of a block beside the dimensions."""
_BEST_KEYS = ("per", "second")
_DIFFERENCE = "delta_"
"""How the names of statistics of two metrics begin that change their sign when these change places."""


@dataclass(frozen=True)
class Values:
    """What a block says of a dimension: one value that is fixed, or several that vary."""

    texts: tuple[str, ...]
    varies: bool


@dataclass(frozen=True)
class LayoutBlock:
    """Rows or columns that belong together: the product of what varies, the first outermost."""

    at: Mapping[str, Values]
    where: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Target:
    """Which of several figures is the best."""

    way: Way
    to: float = 0.0
    """For closest: to what."""


@dataclass(frozen=True)
class Best:
    """What is marked."""

    per: Per = "block"
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Statistic -> which of its figures is the best; those of others are not marked."""
    second: bool = False


@dataclass(frozen=True)
class PublishedKey:
    """Published numbers to stand beside a table."""

    table: str
    rows: Mapping[str, str] = field(default_factory=dict)
    """Metric of the layout -> published name that stands in its row without a difference."""


@dataclass(frozen=True)
class LayoutSpec:
    """A validated layout."""

    name: str
    rows: tuple[LayoutBlock, ...]
    columns: tuple[LayoutBlock, ...]
    caption: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Dimension -> value, as `compared` -> its texts."""
    stub: tuple[str, ...] = ()
    best: Best = field(default_factory=Best)
    digits: Mapping[str, int] = field(default_factory=dict)
    """Statistic -> decimals; "default" for the others."""
    intervals: Intervals = "none"
    triangle: str = ""
    published: PublishedKey | None = None
    notes: tuple[str, ...] = ()
    run_notes: tuple[str, ...] = ()
    """Of figures of runs alone."""
    source: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The mapping that it was read from."""
    document: Document | None = field(default=None, compare=False, repr=False)
    path: YamlPath = field(default=(), compare=False, repr=False)
    """Where in the document it stands."""

    def digits_of(self, statistic: str) -> int:
        """Decimals of a statistic."""
        return self.digits.get(statistic, self.digits.get("default", 3))

    def error(self, message: str, *keys: str | int) -> UserError:
        """An error at one of its keys, with file and line where it was read from a file."""
        return self.errors([(message, keys)])

    def errors(self, messages: Sequence[tuple[str, YamlPath]]) -> UserError:
        """One error of several messages, each at a key."""
        if self.document is None:
            return UserError("\n".join(f"{self.name}: {message}" for message, _ in messages))
        problems = [Problem((*self.path, *keys), f"{self.name}: {message}") for message, keys in messages]
        return self.document.report(problems)

    @property
    def statistics(self) -> list[str] | None:
        """The statistics that it names; None where it asks for all."""
        found = self.values_of("statistic")
        return None if EVERY in found else list(found)

    def values_of(self, dimension: str) -> dict[str, YamlPath]:
        """Every value that it names of a dimension, with the key under which it does so first."""
        found: dict[str, YamlPath] = {}
        if dimension in self.where:
            found[self.where[dimension]] = ("where", dimension)
        for key, blocks in (("rows", self.rows), ("columns", self.columns)):
            for place, block in enumerate(blocks):
                at = (key, place) if isinstance(self.source.get(key), list) else (key,)
                for text in block.at[dimension].texts if dimension in block.at else ():
                    found.setdefault(text, (*at, dimension))
                if dimension in block.where:
                    found.setdefault(block.where[dimension], (*at, "where", dimension))
        return found


def read_layouts(path: Path) -> list[LayoutSpec]:
    """The layouts of a file: one mapping, or a list under ``layouts:``.

    Raises:
        UserError: The file cannot be read.
        LocatedError: Everything wrong with it, each with file, line and column.
    """
    document = parse(path, start=START)
    problems: list[Problem] = list(document.problems)
    specs = layouts_of(document, problems)
    if problems:
        raise document.report(problems)
    return specs


def layouts_of(document: Document, problems: list[Problem]) -> list[LayoutSpec]:
    """The layouts of a document that holds nothing else; what is wrong is added to `problems`."""
    value = document.value
    if isinstance(value, dict) and set(value) == {"layouts"}:
        if not isinstance(value["layouts"], list) or not value["layouts"]:
            problems.append(Problem(("layouts",), "should be a list of layouts, each with name, rows and columns."))
            return []
        found = [read_layout(document, ("layouts", i), problems) for i in range(len(value["layouts"]))]
    elif value is None and problems:
        return []
    else:
        found = [read_layout(document, (), problems)]
    return _distinct([spec for spec in found if spec], problems)


def suite_layouts(document: Document, problems: list[Problem]) -> list[LayoutSpec]:
    """The layouts under the key ``layouts`` of a suite: mappings, or files relative to the file that names them."""
    listed = document.value.get("layouts")
    found: list[LayoutSpec] = []
    for i, one in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(one, dict):
            found += [spec for spec in [read_layout(document, ("layouts", i), problems)] if spec]
        if not isinstance(one, str):
            continue
        try:
            inner = parse(_beside(document, ("layouts", i), one), start=START)
        except LocatedError as error:
            problems += [Problem(("layouts", i), line) for line in error.lines]
            continue
        except (UserError, ValueError, RuntimeError) as error:
            problems.append(Problem(("layouts", i), str(error)))
            continue
        wrong = list(inner.problems)
        found += layouts_of(inner, wrong)
        problems += inner.settled(wrong)
    return _distinct(found, problems)


def layout_files(document: Document) -> list[Path]:
    """The files that a suite's key ``layouts`` names."""
    listed = document.value.get("layouts") if isinstance(document.value, dict) else None
    named = enumerate(listed if isinstance(listed, list) else [])
    return [_beside(document, ("layouts", i), one) for i, one in named if isinstance(one, str)]


def _beside(document: Document, path: YamlPath, name: str) -> Path:
    """A file named in a document, relative to the file where its name was written."""
    place = document.values.get(path)
    written_in = Path(place.shown).parent if place is not None and place.line > 0 else Path()
    return written_in / Path(name).expanduser()


def _distinct(specs: Sequence[LayoutSpec], problems: list[Problem]) -> list[LayoutSpec]:
    known: set[str] = set()
    for spec in specs:
        # Names are those of files, and a document that stands alone is NAME.standalone.tex.
        name = spec.name.lower().removesuffix(".standalone")
        if name in known and spec.document is not None:
            twice = Problem((*spec.path, "name"), f"two layouts would write the same files, '{spec.name}'. Rename one.")
            problems += spec.document.settled([twice])
        known.add(name)
    return list(specs)


def read_layout(document: Document, path: YamlPath, problems: list[Problem]) -> LayoutSpec | None:
    """The layout at a path of a document, or None; what is wrong with it is added to `problems`."""
    return _Reader(document, path, problems).layout()


class _Reader:
    """Reads one layout, noting everything that is wrong with it."""

    def __init__(self, document: Document, path: YamlPath, problems: list[Problem]) -> None:
        self.document, self.path, self.problems = document, path, problems
        self.value: Any = document.value
        for key in path:
            self.value = self.value[key]

    def add(self, path: YamlPath, message: str, *, on_key: bool = False) -> None:
        self.problems.append(Problem((*self.path, *path), message, on_key))

    def layout(self) -> LayoutSpec | None:
        before = len(self.problems)
        value = self.value
        if not isinstance(value, dict):
            self.add((), f"a layout is a mapping with the keys name, rows and columns. Start from {START}.")
            return None
        self._unknown((), value, list(LAYOUT_KEYS))
        for key in ("name", "rows", "columns"):
            if key not in value:
                self.add((), f"the key '{key}' is missing. Add it.")
        name = self._text(("name",), value.get("name", "x"))
        if not re.fullmatch(NAME, name):
            self.add(
                ("name",),
                "should be letters, digits, '.', '_' and '-' only, at most 80, beginning with a letter "
                f"or digit, got {quoted(name)}.",
            )
        spec = LayoutSpec(
            name=name,
            caption=self._text(("caption",), value.get("caption", name)),
            where=self._where(("where",), value.get("where", {})),
            rows=self._blocks("rows"),
            columns=self._blocks("columns"),
            labels=self._labels(value.get("labels", {})),
            stub=self._texts(("stub",), value.get("stub", [])),
            best=self._best(value.get("best", {})),
            digits=self._digits(value.get("digits", 3)),
            intervals=self._choice(("intervals",), value.get("intervals", "none"), get_args(Intervals)),
            triangle=self._choice(("triangle",), value["triangle"], ("lower",)) if "triangle" in value else "",
            published=self._published(value["published"]) if "published" in value else None,
            notes=self._texts(("notes",), value.get("notes", [])),
            run_notes=self._texts(("run_notes",), value.get("run_notes", [])),
            source=value,
            document=self.document,
            path=self.path,
        )
        if len(self.problems) == before:
            self._together(spec)
        return spec if len(self.problems) == before else None

    def _unknown(self, path: YamlPath, value: Mapping[str, Any], known: Sequence[str], what: str = "key") -> None:
        for key in value:
            if key not in known:
                self.add((*path, key), f"unknown {what} '{key}'.{did_you_mean(key, known)}", on_key=True)

    def _mapping(self, path: YamlPath, value: Any, such_as: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.add(path, f"should be a mapping, such as {such_as}, got {quoted(value)}.")
        return {}

    def _text(self, path: YamlPath, value: Any) -> str:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value if isinstance(value, str) else f"{value:g}"
        self.add(path, f"should be text, got {quoted(value)}.")
        return ""

    def _texts(self, path: YamlPath, value: Any) -> tuple[str, ...]:
        if isinstance(value, list):
            return tuple(self._text((*path, i), one) for i, one in enumerate(value))
        return (self._text(path, value),)

    def _choice(self, path: YamlPath, value: Any, known: Sequence[str]) -> Any:
        if value not in known:
            self.add(
                path,
                f"should be {', '.join(known[:-1])}{' or ' if known[1:] else ''}{known[-1]}, got "
                f"{quoted(value)}.{did_you_mean(str(value), known) if isinstance(value, str) else ''}",
            )
        return value

    def _where(self, path: YamlPath, value: Any) -> dict[str, str]:
        found = self._mapping(path, value, "{dataset: mini, direction: up}")
        self._unknown(path, found, DIMENSIONS, "dimension")
        for key, one in found.items():
            if one == EVERY:
                self.add((*path, key), f"'*' stands for all values of rows and columns. Give one value of {key}.")
        return {key: self._value((*path, key), key, one) for key, one in found.items() if key in DIMENSIONS}

    def _value(self, path: YamlPath, dimension: str, value: Any) -> str:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return written(dimension, value)
        self.add(path, f"should be one value of {dimension}, got {quoted(value)}.")
        return ""

    def _blocks(self, key: str) -> tuple[LayoutBlock, ...]:
        value = self.value.get(key)
        if key not in self.value:
            return ()
        if isinstance(value, dict):
            return (self._block((key,), value, one=True),)
        if not isinstance(value, list) or not value:
            self.add((key,), f"should be a block such as {{metric: [psnr, ssim]}}, or a list, got {quoted(value)}.")
            return ()
        return tuple(self._block((key, i), one) for i, one in enumerate(value))

    def _block(self, path: YamlPath, value: Any, one: bool = False) -> LayoutBlock:
        if not isinstance(value, dict):
            self._mapping(path, value, "{metric: [psnr, ssim]}")
            return LayoutBlock({})
        ruled = one and path[0] == "rows"
        self._unknown(path, value, [*DIMENSIONS, *(key for key in BLOCK_KEYS if ruled or key != "rule")])
        at = {name: self._values((*path, name), name, value[name]) for name in value if name in DIMENSIONS}
        if not at:
            self.add(path, f"a block names a dimension, one of {', '.join(DIMENSIONS)}. Add what it lays out.")
        rule = self._text((*path, "rule"), value.get("rule", ""))
        if rule and not (rule in at and at[rule].varies):
            listed = [name for name, values in at.items() if values.varies]
            self.add((*path, "rule"), f"'{rule}' is no dimension that this block lists.{did_you_mean(rule, listed)}")
        where = self._where((*path, "where"), value.get("where", {}))
        return LayoutBlock(at, where, self._text((*path, "title"), value.get("title", "")), rule)

    def _values(self, path: YamlPath, dimension: str, value: Any) -> Values:
        if isinstance(value, list):
            if not value:
                self.add(path, "should not be empty. Give the values to lay out, or '*' for all there are.")
            texts = tuple(self._value((*path, i), dimension, one) for i, one in enumerate(value))
            for i, text in enumerate(texts):
                if text == EVERY:
                    self.add((*path, i), f"'*' stands alone for all values. Write {dimension}: '*'.")
                if text in texts[:i]:
                    self.add((*path, i), f"'{text}' is listed twice. Remove one.")
            return Values(texts, True)
        text = self._value(path, dimension, value)
        return Values((text,), text == EVERY)

    def _labels(self, value: Any) -> dict[str, dict[str, tuple[str, ...]]]:
        found = self._mapping(("labels",), value, "{attack: {none: Clean}}")
        self._unknown(("labels",), found, DIMENSIONS, "dimension")
        labels: dict[str, dict[str, tuple[str, ...]]] = {}
        for dimension in (name for name in found if name in DIMENSIONS):
            path = ("labels", dimension)
            own = self._mapping(path, found[dimension], "{none: Clean}")
            labels[dimension] = {comparable(dimension, v): self._texts((*path, v), text) for v, text in own.items()}
            for name, texts in zip(own, labels[dimension].values(), strict=False):
                if not texts:
                    self.add((*path, name), "is an empty list. Write a text, or '' for none.")
                for text in texts:
                    self._placeholders((*path, name), text)
        return labels

    def _placeholders(self, path: YamlPath, text: str) -> None:
        for name in placeholders(text):
            if name not in DIMENSIONS:
                cure = "Write {{ and }} for braces that are printed."
                self.add(path, f"{{{name}}} is no dimension.{did_you_mean(name, DIMENSIONS)} {cure}")

    def _best(self, value: Any) -> Best:
        found = self._mapping(("best",), value, "{per: block, srocc: higher}")
        per = self._choice(("best", "per"), found.get("per", "block"), get_args(Per))
        second = found.get("second", False)
        if not isinstance(second, bool):
            self.add(("best", "second"), f"should be true or false, got {quoted(second)}.")
        targets = {name: self._target(("best", name), one) for name, one in found.items() if name not in _BEST_KEYS}
        return Best(per, targets, bool(second))

    def _target(self, path: YamlPath, value: Any) -> Target:
        if isinstance(value, dict) and set(value) == {"closest"}:
            to = value["closest"]
            if isinstance(to, int | float) and not isinstance(to, bool) and math.isfinite(to):
                return Target("closest", float(to))
            self.add((*path, "closest"), f"should be a number, such as 0, got {quoted(to)}.")
            return Target("closest")
        return Target(self._choice(path, value, get_args(Way)))

    def _digits(self, value: Any) -> dict[str, int]:
        given = value if isinstance(value, dict) else {"default": value}
        for name, one in given.items():
            if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= 9:
                path = ("digits", name) if isinstance(value, dict) else ("digits",)
                self.add(path, f"should be a whole number from 0 to 9, got {quoted(one)}.")
        return dict(given)

    def _published(self, value: Any) -> PublishedKey:
        if isinstance(value, str):
            return PublishedKey(value)
        found = self._mapping(("published",), value, "{table: table3, rows: {lpips-alex: LPIPS}}")
        self._unknown(("published",), found, ("table", "rows"))
        if "table" not in found:
            self.add(("published",), "the key 'table' is missing. Add it.")
        rows = self._mapping(("published", "rows"), found.get("rows", {}), "{lpips-alex: LPIPS}")
        texts = {name: self._text(("published", "rows", name), one) for name, one in rows.items()}
        return PublishedKey(self._text(("published", "table"), found.get("table", "")), texts)

    def _together(self, spec: LayoutSpec) -> None:
        """What is right by itself and does not go together."""
        rows = {name for block in spec.rows for name in (*block.at, *block.where)}
        for place, block in enumerate(spec.columns):
            for name in [name for name in (*block.at, *block.where) if name in rows]:
                path: YamlPath = ("columns", place) if isinstance(self.value["columns"], list) else ("columns",)
                self.add((*path, name), f"'{name}' is given in rows and in columns. Keep it in one of them.")
        statistics = spec.statistics
        self._titles(spec)
        if spec.triangle and (statistics is None or not all(name.startswith(_DIFFERENCE) for name in statistics)):
            self.add(
                ("triangle",),
                "only differences are the mirror image of others with the other sign. Take it out, or fix a statistic "
                "such as delta_srocc.",
            )

    def _titles(self, spec: LayoutSpec) -> None:
        """Names in braces of titles have one value in the whole block."""
        for key, blocks in (("rows", spec.rows), ("columns", spec.columns)):
            for place, block in enumerate(blocks):
                path: YamlPath = (key, place, "title") if isinstance(self.value[key], list) else (key, "title")
                before = len(self.problems)
                self._placeholders(path, block.title)
                fixed = {*spec.where, *block.where, *(name for name, values in block.at.items() if not values.varies)}
                for name in placeholders(block.title) if len(self.problems) == before else ():
                    if name not in fixed:
                        self.add(path, f"{{{name}}} has no one value in this block. Fix it, or take it out.")


_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def placeholders(text: str) -> list[str]:
    """The names in braces of a label or a title; ``{{`` and ``}}`` are braces that are printed."""
    return [found[1] for found in _BRACES.finditer(text) if found[1] is not None]


def fill(text: str, values: Mapping[str, str]) -> str:
    """A label or a title with its names in braces filled in."""

    def filled(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else values.get(found[1], found[0])

    return _BRACES.sub(filled, text)


def braced(text: str) -> str:
    """A text that `fill` leaves as it was."""
    return text.replace("{", "{{").replace("}", "}}")
