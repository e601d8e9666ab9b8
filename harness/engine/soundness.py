"""Which files of a run folder are what they were written as; each is read once as long as nobody touches it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.engine import seal
from harness.errors import UserError
from harness.files import SUITE, stamp_of, write_whole

CHECKED = ".checked.json"
"""In a run folder: file -> its size, times and inode when it was read, and what was found."""
SEALED, UNSEALED = "sealed", "unsealed"
ROWS_FIT = "unsealed, its rows fit"
"""Of records without a seal, which a plan has been held against; `UNSEALED` ones were only read."""
SIZE_FITS = "its size fits"
"""Of an image beside its scores, which has not been read."""
SOUND = frozenset({SEALED, UNSEALED, ROWS_FIT, SIZE_FITS})
"""What is found of files in which nothing is wrong."""
NOT_SEALED = "it carries no seal, and every file of this folder was sealed"


DAMAGED = "DAMAGED"
"""How a report's notice of damaged files begins."""
_SHOWN = 5


class StoreError(UserError):
    """The run folder cannot be used or written; work stops, what was finished is kept."""


HeldSlices = tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
"""What can be read of a file of records: (cells, slices) as often as needed, every cell with each slice beside it."""


class Look(NamedTuple):
    """What was found of a file."""

    stamp: str
    state: str
    """One of `SOUND`; anything else says what is wrong with it."""
    holds: HeldSlices | None = None
    """Of a file of records; None where that was not looked at."""


def damage_text(damaged: Mapping[str, str]) -> str:
    """Damaged files and what is wrong with them, in one line; empty if there are none."""
    found = [f"{name} ({reason})" for name, reason in damaged.items()]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    count = "1 damaged file" if len(found) == 1 else f"{len(found)} damaged files"
    return f"{count}: {', '.join(found[:_SHOWN])}{more}" if found else ""


class Soundness:
    """What is known of the files of a run folder.

    Args:
        folder: The run folder.
        all_sealed: Whether a file without a seal cannot be one of its own.
    """

    met: dict[str, str]
    """File -> what was wrong with it when it was read; it may have been written anew since."""

    def __init__(self, folder: Path, all_sealed: Callable[[], bool]) -> None:
        self._folder = folder
        self._above = f"{folder}{os.sep}"
        self._all_sealed = all_sealed
        self._found: dict[str, Look] | None = None
        self._changed = False
        self.met = {}

    def name(self, path: Path) -> str:
        """What a file is sealed as: its path within the folder."""
        text = str(path)
        if text.startswith(self._above):  # of 50,000 files `relative_to` takes seconds
            return text[len(self._above) :].replace(os.sep, "/")
        return path.relative_to(self._folder).as_posix()

    def state(self, path: Path) -> str | None:
        """What was found of a file the last time, if it has not been touched since; None where it is to be read.

        The empty text stands for a file that is not there.
        """
        stamp = stamp_of(path)
        if stamp == "missing":
            return ""
        found = self._known().get(self.name(path))
        return found.state if found is not None and found.stamp == stamp else None

    def holds(self, name: str) -> HeldSlices | None:
        """What a file of records was found to hold, if it has not been touched since; None where it is to be read.

        Args:
            name: Its path within the folder.
        """
        found = self._known().get(name)
        if found is None or found.holds is None:
            return None
        return found.holds if stamp_of(f"{self._folder}/{name}") == found.stamp else None

    def note_holds(self, path: Path, holds: HeldSlices) -> HeldSlices:
        """Note what can be read of a file of records that was just looked at."""
        found = self._known().get(self.name(path))
        if found is not None and found.holds != holds:
            self._known()[self.name(path)] = found._replace(holds=holds)
            self._changed = True
        return holds

    def written(self, name: str) -> int:
        """When a file was written that was looked at, in nanoseconds since the epoch."""
        found = self._known().get(name)
        return int(found.stamp.split()[1]) if found is not None and " " in found.stamp else 0

    def read(self, path: Path) -> bytes | None:
        """The content of a file; None where there is none and where its seal does not fit, which is noted.

        Raises:
            StoreError: It may not be read.
        """
        stamp = stamp_of(path)  # before: what is put in its place meanwhile is read again
        if stamp == "missing":
            return None
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (50,000 files: half the time)
                content = file.read()
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}). Make it readable.") from None
        except OSError as error:
            self.note(path, f"it cannot be read: {error.strerror}", stamp)
            return None
        sealed, name = seal.is_sealed(content), self.name(path)
        wrong = seal.broken(content, name) if sealed else NOT_SEALED if self._all_sealed() else ""
        known = self._known().get(name)
        whole = SEALED if sealed else ROWS_FIT if known is not None and known[:2] == (stamp, ROWS_FIT) else UNSEALED
        self.note(path, wrong or whole, stamp)
        return None if wrong else content

    def note(self, path: Path, state: str, stamp: str = "") -> None:
        """Note what was found of a file."""
        name, found = self.name(path), (stamp or stamp_of(path), state)
        if state not in SOUND:
            self.met[name] = state
        known = self._known().get(name)
        if known is None or known[:2] != found:
            self._known()[name] = Look(*found)
            self._changed = True

    def damaged(self) -> dict[str, str]:
        """File -> what is wrong with it, of those that were looked at and are still as they were then."""
        return {name: state for name, state in self._still() if state not in SOUND}

    def unsealed(self) -> list[str]:
        """Files without a seal, of those that were looked at and are still as they were then."""
        return [name for name, state in self._still() if state in (UNSEALED, ROWS_FIT)]

    def forget(self) -> None:
        """Look at every file anew."""
        self._found, self._changed = {}, True

    def keep(self) -> None:
        """Write down what was found, where the folder can be written."""
        if self._changed and (self._folder / SUITE).is_file():
            there = {name: found for name, found in self._known().items() if stamp_of(self._folder / name) != "missing"}
            with contextlib.suppress(OSError):
                write_whole(self._folder / CHECKED, _written(there))
                self._changed = False

    def _still(self) -> list[tuple[str, str]]:
        told = sorted((name, one) for name, one in self._known().items() if one.state != SEALED)
        return [(name, one.state) for name, one in told if stamp_of(self._folder / name) == one.stamp]

    def _known(self) -> dict[str, Look]:
        if self._found is None:
            try:
                self._found = _looks(json.loads((self._folder / CHECKED).read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
                self._found = {}
        return self._found


def _written(looks: Mapping[str, Look]) -> bytes:
    """What was found, as a file: lists of cells, which many files of records share, stand in it once."""
    lists: dict[tuple[str, ...], int] = {}
    files = {
        name: [stamp, state]
        if holds is None
        else [stamp, state, [[lists.setdefault(cells, len(lists)), slices] for cells, slices in holds]]
        for name, (stamp, state, holds) in looks.items()
    }
    return json.dumps({"cells": list(lists), "files": files}, separators=(",", ":")).encode()


def _looks(noted: Mapping[str, Any]) -> dict[str, Look]:
    """What `_written` wrote down."""
    lists = [tuple(map(str, cells)) for cells in noted["cells"]]
    found = {}
    for name, (stamp, state, *more) in noted["files"].items():
        holds = tuple((lists[cells], tuple(map(int, slices))) for cells, slices in more[0]) if more else None
        found[str(name)] = Look(str(stamp), str(state), holds)
    return found
