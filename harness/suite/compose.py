"""How a suite file is put together before it is validated: `extends`, ``--set`` and `matrix`.

Every value keeps the place where it was written, so that messages point into the right file or name the option.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import UserError
from harness.suite.layout_file import layout_files
from harness.suite.strict_yaml import NO_LINE, Document, LocatedError, Place, Problem, YamlPath, parse, parse_text
from harness.wording import did_you_mean, quoted, respelt_fractions

if TYPE_CHECKING:
    import pydantic

_M = TypeVar("_M", bound="pydantic.BaseModel")

LISTS = ("datasets", "metrics", "defenses", "attacks")
"""Keys that list plugins."""
MOST_COMBINATIONS = 10_000

LabelsOf = Callable[[str, Mapping[str, Any]], set[str]]
"""(top-level key, entry) -> the names an entry goes by besides its own 'name' and 'label'."""


@dataclass(frozen=True)
class Overrides:
    """What the command line changes of a suite.

    Attributes:
        sets: ``KEY.PATH=VALUE``, in order.
        only: ``METRIC/ATTACK``, two shell patterns.
        limit: First n samples of each split.
        seed: The suite's seed.
    """

    sets: tuple[str, ...] = ()
    only: str | None = None
    limit: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class FileKind:
    """What messages say of the files that extend one another."""

    name: str
    keys: str
    start: str
    """The file to start from."""


SUITES = FileKind("suite", "name, datasets, ...", "suites/quickstart.yaml")


def read(path: Path, kind: FileKind = SUITES) -> Document:
    """Read a suite file, or one of another kind, and what it extends.

    Raises:
        UserError: The file cannot be read, or is no YAML.
    """
    return _extended(parse(path, start=kind.start), path, (), kind)


def read_as(path: Path, kind: FileKind, model: type[_M], prepare: Callable[[dict[str, Any]], None] | None = None) -> _M:
    """Read a file and what it extends as a pydantic model.

    Args:
        path: The file.
        kind: What messages say of it.
        model: Its keys.
        prepare: Brings short forms of its mapping to the long ones.

    Raises:
        UserError: It cannot be read, or has unknown keys or wrong values; all of them with their lines.
    """
    import pydantic  # slow to import, and seldom needed

    document = read(path, kind)
    problems = list(document.problems)
    if isinstance(document.value, dict) and not problems:
        if prepare is not None:
            prepare(document.value)
        try:
            return model.model_validate(document.value)
        except pydantic.ValidationError as error:
            problems += map(_explained, error.errors())
    raise document.report(problems or [Problem((), f"must be a mapping. Start from {kind.start}.")])


def _explained(error: Any) -> Problem:
    place = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(place, f"unknown key '{place[-1]}'. Remove it.", on_key=True)
    if error["type"] == "missing":
        return Problem(place[:-1], f"the key '{place[-1]}' is missing. Add it.")
    if error["type"] == "value_error":
        return Problem(place, f"{error['ctx']['error']}.")
    return Problem(place, f"{error['msg']}, got {quoted(error['input'])}.")


def read_mapping(value: Mapping[str, Any], shown: str = "suite") -> Document:
    """A suite given as a mapping, and what it extends.

    Args:
        value: What a file would hold; paths and tuples stand for texts and lists.
        shown: What messages call it.
    """
    document = Document(shown, _plain(value))
    for path in _paths_in(document.value, ()):
        document.values[path] = Place(shown, NO_LINE, 0, path)
    return _extended(document, Path(shown), (), SUITES)


def _paths_in(value: Any, path: YamlPath) -> Iterator[YamlPath]:
    """The path of a value and of everything in it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from _paths_in(one, (*path, key))


def replace_keys(document: Document, keys: Mapping[str, Any]) -> None:
    """Put values in place of whole keys of a document, whatever stood there."""
    for key, value in keys.items():
        if not isinstance(document.value, dict):
            return
        if key == "extends":
            document.problems.append(Problem((), "'extends' cannot be given beside a suite; write it in the suite."))
            continue
        _forget(document, (key,))
        document.value[key] = _plain(value)
        for path in _paths_in(document.value[key], (key,)):
            document.values[path] = Place("suite", NO_LINE, 0, path)


def _plain(value: Any) -> Any:
    """As a file would be read: whoever writes Python has paths and tuples too."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()  # a number of numpy's or torch's
    return respelt_fractions(value) if isinstance(value, str) else str(value) if isinstance(value, Path) else value


def files_of(path: Path, kind: FileKind = SUITES) -> list[Path]:
    """A suite file, every file that it builds on and their files of layouts, as far as they can be read."""
    found, layouts = [path], list[Path]()
    while True:
        try:
            document = parse(found[-1], start=kind.start)
            layouts += layout_files(document)
            target = found[-1].parent / Path(document.value["extends"]).expanduser()
        except (UserError, TypeError, KeyError, ValueError, RuntimeError):
            return [*found, *layouts]
        if target in found:
            return [*found, *layouts]
        found.append(target)


def _extended(document: Document, path: Path, chain: tuple[Path, ...], kind: FileKind) -> Document:
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    chain = (*chain, path)
    given = document.value.pop("extends")
    no_path = f"should be the path of a {kind.name} file, got {given!r}."
    if not isinstance(given, str) or not given:
        return _refused(document, no_path)
    try:
        target = path.parent / Path(given).expanduser()
        base = parse(target, start=kind.start)
    except UserError as error:
        return _refused(document, str(error))
    except (ValueError, RuntimeError):  # a null character, a lone surrogate; the home of nobody
        return _refused(document, no_path)
    if target.resolve() in {file.resolve() for file in chain}:
        shown = " -> ".join(str(file) for file in (*chain, target))
        return _refused(document, f"a {kind.name} cannot extend itself: {shown}. Remove one 'extends'.")
    if not isinstance(base.value, dict) and not base.problems:
        return _refused(
            document,
            f"{target}: no {kind.name}; a {kind.name} is a mapping with the keys {kind.keys} Name another.",
        )
    return _merged(_extended(base, target, chain, kind), document)


def _refused(document: Document, message: str) -> Document:
    document.problems.append(Problem(("extends",), message))
    return document


def _merged(base: Document, over: Document) -> Document:
    """`over` on top of `base`: mappings merge by key, lists and scalars replace."""
    result = Document(over.shown, problems=[*base.settled(), *over.settled()])
    result.values, result.keys = dict(base.values), dict(base.keys)

    def merge(under: Any, above: Any, path: YamlPath) -> Any:
        if not isinstance(under, dict) or not isinstance(above, dict):
            _forget(result, path)
            for places, given in ((result.values, over.values), (result.keys, over.keys)):
                places.update({p: place for p, place in given.items() if p[: len(path)] == path})
            return above
        result.values[path] = over.values[path]
        return {**under, **{key: merge(under.get(key), value, (*path, key)) for key, value in above.items()}}

    result.value = merge(base.value if isinstance(base.value, dict) else {}, over.value, ())
    return result


def _forget(document: Document, path: YamlPath) -> None:
    for places in (document.values, document.keys):
        for old in [p for p in places if p[: len(path)] == path]:
            del places[old]


def override(document: Document, overrides: Overrides, labels_of: LabelsOf) -> None:
    """Write the command line's values into a document, noting what is wrong with the options."""
    if not isinstance(document.value, dict):
        return
    document.problems = document.settled()  # what is wrong in the file is wrong there, whatever an option says
    for text in overrides.sets:
        place = Place(f"--set {text}", 0, 0, ())
        try:
            _set(document, text, place, labels_of)
        except _BadOptionError as error:
            document.problems.append(Problem((), str(error), place=place))
    for key, value in (("limit", overrides.limit), ("seed", overrides.seed)):
        if value is not None:
            _put(document, document.value, (key,), value, Place(f"--{key} {value}", 0, 0, ()))


class _BadOptionError(Exception):
    """What is wrong with one ``--set``."""


def _set(document: Document, text: str, place: Place, labels_of: LabelsOf) -> None:
    target, *rest = _split(respelt_fractions(text), "=")
    keys = _split(target, ".")
    if not rest or not all(keys):
        raise _BadOptionError("should be KEY.PATH=VALUE, such as attacks.pgd.steps=20.")
    if keys[0] == "extends":
        raise _BadOptionError("'extends' cannot be set here; write it in the file.")
    value = _value("=".join(rest), document, place)
    node: Any = document.value
    path: YamlPath = ()
    for key in keys[:-1]:
        path = (*path, _step(node, path, key, labels_of))
        node = _opened(document, node, path, place)
    path = (*path, _step(node, path, keys[-1], labels_of))
    _put(document, node, path, value, place)


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text, those in parentheses kept whole: labels such as 'pgd(steps=5)' hold the separators."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(text: str, document: Document, place: Place) -> Any:
    if not text.strip():
        raise _BadOptionError("no value after '='. Write null for none.")
    try:
        parsed = parse_text(text, "")
    except LocatedError as error:
        raise _BadOptionError(error.lines[0].partition(": ")[2]) from None
    document.problems += [Problem((), problem.message, place=place) for problem in parsed.problems]
    return parsed.value


def _step(node: Any, path: YamlPath, key: str, labels_of: LabelsOf) -> str | int:
    """The key or index that one part of a key path means."""
    where = ".".join(str(part) for part in path)
    if isinstance(node, dict):
        return key
    if not isinstance(node, list):
        raise _BadOptionError(f"'{where}' is {node!r} and has no '{key}' to set.")
    if key in map(str, range(len(node))):
        return int(key)
    if key.isdecimal() or path not in [(name,) for name in LISTS]:
        raise _BadOptionError(f"'{where}' has no entry {key}; it has {len(node)}, counted from 0.")
    entries = [
        entry if isinstance(entry, dict) else {"chain" if isinstance(entry, list) else "name": entry} for entry in node
    ]
    called = [entry.get("label") or entry.get("name") for entry in entries]
    names = [
        ({str(name)} if name else set()) | labels_of(str(path[0]), entry)
        for name, entry in zip(called, entries, strict=True)
    ]
    for known in (names, [{str(e.get("name"))} for e in entries]):
        found = [i for i, of_entry in enumerate(known) if key in of_entry]
        if len(found) == 1:
            return found[0]
        if found:
            raise _BadOptionError(
                f"'{key}' is {len(found)} entries; say which: {', '.join(f'{where}.{i}' for i in found)}."
            )
    everything = dict.fromkeys(name for of_entry in names for name in sorted(of_entry))
    raise _BadOptionError(f"no entry '{key}' in '{where}'.{did_you_mean(key, list(everything))}")


def _opened(document: Document, node: Any, path: YamlPath, place: Place) -> Any:
    """The value at the end of a path, as something that has parts: a bare name becomes an entry."""
    at = path[-1]
    child = node.get(at) if isinstance(node, dict) else node[at]
    if child is None:
        if path[0] in LISTS and len(path) == 1:
            raise _BadOptionError(f"the suite lists no {at}.")
        child = {}
        _put(document, node, path, child, place)
    elif isinstance(child, list) and len(path) == 2 and path[0] in LISTS:
        child = node[at] = {"chain": child}
        for places in (document.values, document.keys):
            moved = {p: place for p, place in places.items() if p[:2] == path and len(p) > 2}
            for old, there in moved.items():
                del places[old]
                places[(*path, "chain", *old[2:])] = there
        document.values[(*path, "chain")] = document.values[path]
    elif isinstance(child, str) and path[0] in LISTS and (len(path) == 2 or path[2:-1] == ("chain",)):
        child = node[at] = {"name": child}
        document.values[(*path, "name")] = document.values[path]
    return child


def _put(document: Document, node: Any, path: YamlPath, value: Any, place: Place) -> None:
    _forget(document, path)
    node[path[-1]] = value
    document.values[path] = document.keys[path] = place
    matrix = node.get("matrix") if isinstance(node, dict) else None
    if path[0] in LISTS and len(path) == 3 and isinstance(matrix, dict) and path[-1] in matrix:
        del matrix[path[-1]]  # one value for all combinations
        if not matrix:
            del node["matrix"]


def expand(document: Document) -> Document:
    """A document with every `matrix` written out as one entry a combination."""
    value = document.value
    if not isinstance(value, dict) or not any(_has_matrix(value.get(key)) for key in LISTS):
        return document
    result = Document(document.shown, dict(value), document.settled())
    result.values = {p: place for p, place in document.values.items() if len(p) < 2 or p[0] not in LISTS}
    result.keys = {p: place for p, place in document.keys.items() if len(p) < 2 or p[0] not in LISTS}
    for key in LISTS:
        written = value.get(key)
        entries = written if isinstance(written, list) else []
        values, keys = _by_entry(document.values, key), _by_entry(document.keys, key)
        expanded: list[Any] = []
        for i, entry in enumerate(entries):
            in_values, in_keys = _EntryPlaces(values.get(i, {}), 3), _EntryPlaces(keys.get(i, {}), 2)
            for combination, moved in _combinations(document, result.problems, (key, i), entry):
                here = (key, len(expanded))
                result.values.update(in_values.moved(here, moved))
                result.keys.update(in_keys.moved(here, moved))
                expanded.append(combination)
        if isinstance(written, list):
            result.value[key] = expanded
        else:
            result.values.update({p: place for p, place in document.values.items() if p[:1] == (key,)})
            result.keys.update({p: place for p, place in document.keys.items() if p[:1] == (key,)})
    return result


def _has_matrix(entries: Any) -> bool:
    return isinstance(entries, list) and any(isinstance(entry, dict) and "matrix" in entry for entry in entries)


def _by_entry(places: Mapping[YamlPath, Place], key: str) -> dict[Any, dict[YamlPath, Place]]:
    """Index of an entry -> places in it, by what follows the index."""
    groups: dict[Any, dict[YamlPath, Place]] = {}
    for path, place in places.items():
        if len(path) > 1 and path[0] == key:
            groups.setdefault(path[1], {})[path[2:]] = place
    return groups


class _EntryPlaces:
    """Places of an entry as places of its combinations; a varied value keeps the place it has in the matrix.

    Sorted once for all combinations, of which there are as many as there are places, or more.
    """

    def __init__(self, places: Mapping[YamlPath, Place], depth: int) -> None:
        self._all = places
        self._depth = depth
        self._fixed = {path: place for path, place in places.items() if path[:1] != ("matrix",)}
        self._varied: dict[YamlPath, dict[YamlPath, Place]] = {}
        for path, place in places.items():
            if path[:1] == ("matrix",) and len(path) >= depth:
                self._varied.setdefault(path[1:depth], {})[path[depth:]] = place

    def moved(self, here: YamlPath, moved: Mapping[str, int]) -> Iterator[tuple[YamlPath, Place]]:
        """The places of the combination `here`, for which value number `moved` of each varied parameter is taken."""
        for path, place in (self._fixed if moved else self._all).items():
            yield (*here, *path), place
        for name, index in moved.items():
            for path, place in self._varied.get((name, index)[: self._depth - 1], {}).items():
                yield (*here, name, *path), place


def _combinations(
    document: Document, problems: list[Problem], path: YamlPath, entry: Any
) -> Iterator[tuple[Any, dict[str, int]]]:
    """Entries that an entry stands for, each with the index taken of every varied parameter."""
    if not isinstance(entry, dict) or "matrix" not in entry:
        yield entry, {}
        return
    rest = {key: value for key, value in entry.items() if key != "matrix"}
    wrong = list(_wrong(path, entry["matrix"], rest))
    if wrong:
        problems += document.settled(wrong)
        yield rest, {}
        return
    matrix: dict[str, list[Any]] = entry["matrix"]
    for indices in itertools.product(*(range(len(values)) for values in matrix.values())):
        taken = dict(zip(matrix, indices, strict=True))
        yield {**rest, **{name: matrix[name][i] for name, i in taken.items()}}, taken


def _wrong(path: YamlPath, matrix: Any, rest: Mapping[str, Any]) -> Iterator[Problem]:
    here = (*path, "matrix")
    if not isinstance(matrix, dict):
        yield Problem(here, f"should be a mapping of lists, such as {{steps: [5, 10]}}, got {matrix!r}.")
        return
    if not matrix:
        yield Problem(here, "should not be empty. Give parameters and their values, such as {steps: [5, 10]}.")
    for name, values in matrix.items():
        if name in ("name", "label", "matrix"):
            yield Problem((*here, name), f"'{name}' cannot be varied. List the entries one by one.", on_key=True)
        elif name in rest:
            yield Problem((*here, name), f"'{name}' is given beside the matrix, too. Remove one.", on_key=True)
        elif not isinstance(values, list):
            yield Problem((*here, name), f"should be a list of values: [a, b], got {values!r}.")
        elif not values:
            yield Problem((*here, name), "should not be empty. Give the values to take.")
    count = math.prod(len(values) for values in matrix.values() if isinstance(values, list))
    if count > MOST_COMBINATIONS:
        yield Problem(here, f"{count} combinations; at most {MOST_COMBINATIONS} are allowed. Vary less.")
    if "label" in rest and count > 1:
        yield Problem((*path, "label"), f"one label for {count} combinations. Remove it; they get labels of their own.")
