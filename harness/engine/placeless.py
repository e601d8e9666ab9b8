"""A copy of a run folder that says nothing of where things lay on the machine that ran it, for sharing.

Of paths the last part is kept: a suite that named ``/home/me/data/pairs.csv`` names ``pairs.csv``, which is looked for
beside it and in the current folder. The identity of cells does not depend on places, so records stay those of the
suite. What was changed is sealed anew under its own name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from harness.engine import seal
from harness.engine.bundle import WRITTEN_AT
from harness.engine.folder_files import ALL_SEALED, digest
from harness.engine.plan_file import plan_content
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.files import PLAN, SUITE

_FILE_KEYS, _FOLDER_KEY = ("file", "weights"), "root"
"""Of an entry of a suite, those that name files, and the one that names a data set's folder."""
_LISTS = ("datasets", "metrics", "defenses", "attacks")
_PART = r"[^\s/\\:*?\"'<>|,;()\[\]{}]+"
_ABSOLUTE = re.compile(
    rf"(?:(?<=^)|(?<=[\s\"'=(,;\[{{<>]))(?:/{_PART}){{2,}}/?|\b[A-Za-z]:[\\/]{_PART}(?:[\\/]{_PART})*"
)
"""An absolute path in a text, of two parts or more."""
_ROOTS = re.compile(
    rf"(?<![\w.:/<-])/(?:home|Users|root|tmp|var|mnt|media|opt|srv|data|scratch|private|work|gpfs|lustre|nfs)/{_PART}"
)
"""One in a page, where slashes mean other things too."""
_FREE_TEXTS = (".html", ".md", ".tex", ".csv", ".txt", ".svg")
_TOLD = 5


def last_part(path: str) -> str:
    """The name of a file or folder, without where it lies."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def without_places(value: Any) -> Any:
    """Plain values with the last part of every absolute path that a text in them names."""
    if isinstance(value, dict):
        return {key: without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_places(one) for one in value]
    return _ABSOLUTE.sub(lambda found: last_part(found[0]), value) if isinstance(value, str) else value


def copy_without_places(store: RunFolder, files: Iterable[str], target: Path, *, examples: bool) -> None:
    """Copy a run folder, but for its report, so that it names no place of the machine.

    Args:
        store: The run folder; its plan is there and whole.
        files: What is copied, as paths within the folder.
        target: The copy.
        examples: Whether attacked images are copied that the suite had kept; else the copy's suite keeps none.

    Raises:
        UserError: The plan is missing, or not that of the suite.
    """
    stored = store.read_plan()
    if stored is None:
        raise UserError(
            f"{store.path}: it holds no {PLAN} that is of its suite, as those of older versions do not. Run the suite "
            "again, which writes it and computes nothing anew."
        )
    page = json.loads(stored.text)
    suite = yaml.safe_load((store.path / SUITE).read_text(encoding="utf-8"))
    named = list(_named_files(page))
    suite, page = _suite_without(suite, dict(named)), _plan_without(page)
    if not examples:
        suite, page = _keeping_none(suite), _plan_keeping_none(page)
    text, planned = yaml.safe_dump(suite, sort_keys=False), json.dumps(page)
    contents = {
        SUITE: seal.sealed_text(text, SUITE, ALL_SEALED if store.all_sealed else ""),
        PLAN: plan_content(suite["name"], text, planned),
    }
    for name in files:
        part = name.split("/")[0]
        if part in ("provenance", "failures"):
            value = seal.without_seal(json.loads((store.path / name).read_bytes()))
            contents[name] = _page_without(name, value, {stored.sha256: digest(planned.encode())})
        elif name not in contents and (examples or part != "examples"):
            contents[name] = (store.path / name).read_bytes()
    for name, content in contents.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    settle_times(target)


def settle_times(folder: Path) -> None:
    """Let every file of a folder have been written when those of a bundle are."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (WRITTEN_AT, WRITTEN_AT))


def _page_without(name: str, value: Any, digests: Mapping[str, str]) -> bytes:
    """A page of provenance or a failure, which names the plan by its new digest."""
    clean = without_places(value)
    if name == "provenance/cited.json":
        clean = [{**page, "planned": digests.get(page.get("planned"), page.get("planned"))} for page in clean]
    return seal.sealed_json(json.dumps(clean, indent=1), name)


def _is_use(value: Any) -> bool:
    return isinstance(value, dict) and {"kind", "name", "parameters", "contents", "label"} <= value.keys()


def _plan_without(value: Any) -> Any:
    """A stored plan in which parameters name files by their last part; what they count by stands beside them."""
    if isinstance(value, list):
        return [_plan_without(one) for one in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plan_without(one) for key, one in value.items()}
    if _is_use(plain):
        counted = plain["contents"]["parameters"]
        own = {key: _last_parts(one, counted.get(key, one)) for key, one in plain["parameters"].items()}
        plain["parameters"] = {**own, **({_FOLDER_KEY: None} if isinstance(own.get(_FOLDER_KEY), str) else {})}
    return plain


def _last_parts(value: Any, counted: Any) -> Any:
    """A parameter's value with the last part of each path in it: a text that counts by something else is one."""
    if isinstance(value, dict) and isinstance(counted, dict):
        return {key: _last_parts(one, counted.get(key, one)) for key, one in value.items()}
    if isinstance(value, list) and isinstance(counted, list):
        return [_last_parts(one, other) for one, other in zip(value, counted, strict=True)]
    return last_part(value) if isinstance(value, str) and value != counted else value


def _named_files(value: Any) -> Iterator[tuple[str, str]]:
    """Texts of a stored plan's parameters that name files, and what is left of them."""
    if isinstance(value, list):
        for one in value:
            yield from _named_files(one)
    elif isinstance(value, dict):
        if _is_use(value):
            counted = value["contents"]["parameters"]
            yield from _changed(value["parameters"], {**value["parameters"], **counted})
        for one in value.values():
            yield from _named_files(one)


def _changed(value: Any, counted: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and isinstance(counted, dict):
        for key, one in value.items():
            yield from _changed(one, counted.get(key, one))
    elif isinstance(value, list) and isinstance(counted, list):
        for one, other in zip(value, counted, strict=True):
            yield from _changed(one, other)
    elif isinstance(value, str) and value != counted:
        yield value, last_part(value)


def _suite_without(suite: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    return {key: _entries_without(value, named) if key in _LISTS else value for key, value in suite.items()}


def _entries_without(value: Any, named: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_entries_without(one, named) for one in value]
    if not isinstance(value, dict):
        return named.get(value, value) if isinstance(value, str) else value
    return {
        key: _files_without(one) if key in _FILE_KEYS else _entries_without(one, named)
        for key, one in value.items()
        if not (key == _FOLDER_KEY and isinstance(one, str))
    }


def _files_without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _files_without(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_files_without(one) for one in value]
    return last_part(value) if isinstance(value, str) else value


def _keeping_none(suite: Mapping[str, Any]) -> dict[str, Any]:
    return {**suite, "save_examples": 0} if suite.get("save_examples") else dict(suite)


def _plan_keeping_none(page: dict[str, Any]) -> dict[str, Any]:
    suite = page["plan"]["suite"]
    parts = [_keeping_none(part) for part in suite.get("parts", ())]
    return {**page, "plan": {**page["plan"], "suite": {**_keeping_none(suite), "parts": parts}}}


def refuse_places(folder: Path, files: Iterable[str], known: Iterable[Path]) -> None:
    """Refuse files that name an absolute path.

    Args:
        folder: Where they lie.
        files: Their paths within the folder.
        known: Folders of this machine that nothing must name, wherever it stands.

    Raises:
        UserError: One does; the message has the first few.
    """
    places = [str(one).encode() for one in known if len(one.parts) > 2]
    found: dict[str, str] = {}
    for name in files:
        content = (folder / name).read_bytes()
        told = [*_paths_in(name, content), *(one.decode(errors="replace") for one in places if one in content)]
        if told:
            found[name] = told[0]
    if found:
        first = "; ".join(f"{name}: {path}" for name, path in list(found.items())[:_TOLD])
        more = f"; and {len(found) - _TOLD} more files" if len(found) > _TOLD else ""
        raise UserError(
            f"Not bundled, because files of the run name places of this machine ({first}{more}). Names of images that "
            "are absolute paths come from the data set's table: make them relative there and run again. "
            "--allow-paths bundles them as they are."
        )


def _paths_in(name: str, content: bytes) -> Iterator[str]:
    if name.endswith(".parquet"):
        table = pq.read_table(pa.BufferReader(content))
        for column in table.column_names:
            if pa.types.is_string(table.schema.field(column).type):
                yield from _absolute(text for text in table[column].unique().to_pylist() if text)
    elif name.endswith(".json"):
        yield from _absolute(_texts_of(seal.without_seal(json.loads(content))))
    elif name == SUITE:
        yield from _absolute(_texts_of(yaml.safe_load(content)))
    elif name.endswith(_FREE_TEXTS):
        yield from (found[0] for found in _ROOTS.finditer(content.decode(errors="replace")))


def _absolute(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (found[0] for found in _ABSOLUTE.finditer(text))


def _texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts_of(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts_of(key)
            yield from _texts_of(one)
