"""What is in a data set's image files, as far as it is part of identity: which contents are looked at, and when.

A run folder records, per split, the size, times and inode of each image file that its records were made from, and its
sha256 then (`FileSeen`). A file whose stamp agrees with what was recorded is not read. The digest of a split is over
the contents of 64 fixed files, and over those of all recorded files that are no longer what they were when first
recorded: so touching or copying a set changes nothing, a changed image does, and putting it back brings the old
records back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.files import stamp_of
from harness.plugins.code import sha256_or_missing
from harness.suite.identity import identity, order_key

if TYPE_CHECKING:
    from harness.contracts import Dataset, Entry
    from harness.suite.model import DatasetUse, PixelsKey

FIXED_FILES = 64
"""Files of a split, first in hash order of their names, whose contents are always part of identity."""
GONE = "missing"
"""In place of the sha256 of a file that is not there."""


class FileSeen(NamedTuple):
    """What a run folder recorded of an image file."""

    stamp: str
    """Size, times and inode when it was last read."""
    first: str
    """sha256 when it was first recorded."""
    last: str
    """sha256 when it was last read."""


PixelLedger = Mapping[str, FileSeen]
"""Name of an image file -> what a run folder recorded of it."""
Ledgers = Callable[[str], PixelLedger]
"""Key of a split (`Images.key`) -> its ledger; empty where nothing is recorded."""


@dataclass
class Images:
    """The image files of one split, and what is known of their contents.

    Attributes:
        key: What a run folder records them under.
        label: For people: 'tid2013 all'.
        pixels: Of which files the contents are part of identity.
        paths: Name -> file. A name is that of the first entry that has the file, with its place in it, so that it is
            the same wherever the set lies.
        names: Entry -> names of its files; entries in hash order.
        ledger: What is recorded of them.
    """

    key: str
    label: str
    pixels: PixelsKey
    paths: Mapping[str, Path]
    names: Mapping[str, Sequence[str]]
    ledger: PixelLedger = field(default_factory=dict)
    _read: dict[str, FileSeen] = field(default_factory=dict)

    def fixed(self) -> list[str]:
        """The files whose contents always count."""
        return sorted(self.paths, key=order_key)[:FIXED_FILES]

    def first(self, count: int) -> list[str]:
        """The first entries in hash order."""
        return list(self.names)[:count]

    def digest(self) -> str:
        """What of their contents is part of identity, 16 hex digits; empty where nothing is."""
        if self.pixels == "names" or not self.paths:
            return ""
        if self.pixels == "all":
            return identity("pixels", {"all": [[name, self.read(name).last] for name in sorted(self.paths)]})
        fixed = self.fixed()
        known = {name: self.look(name) for name in sorted(self.ledger.keys() & self.paths.keys())}
        changed = [[name, seen.last] for name, seen in known.items() if seen.last != seen.first and name not in fixed]
        return identity("pixels", {"fixed": [[name, self.look(name).last] for name in fixed], "changed": changed})

    def look(self, name: str) -> FileSeen:
        """What a file holds: as recorded where its stamp is the recorded one, otherwise as read now."""
        known = self._read.get(name) or self.ledger.get(name)
        return known if known is not None and known.stamp == stamp_of(self.paths[name]) else self.read(name)

    def read(self, name: str) -> FileSeen:
        """What a file holds now."""
        stamp = stamp_of(self.paths[name])  # before: what is written meanwhile is read again the next time
        content = sha256_or_missing(self.paths[name])
        known = self.ledger.get(name)
        self._read[name] = FileSeen(stamp, known.first if known is not None else content, content)
        return self._read[name]

    def record(self, entries: Iterable[str]) -> PixelLedger:
        """What is to be recorded before entries are computed with: their files, and whatever was read before."""
        wanted = {name: self.look(name) for entry in entries for name in self.names.get(entry, ())}
        return {name: seen for name, seen in {**self._read, **wanted}.items() if seen.last != GONE}


def images_of(dataset: Dataset, use: DatasetUse, split: str, entries: Sequence[Entry], ledgers: Ledgers) -> Images:
    """The image files of a split; none where the data set does not say, or has none.

    Args:
        dataset: The set.
        use: How a suite uses it.
        split: The split, which need not be the evaluated one.
        entries: Its entries in hash order.
        ledgers: What the run folder recorded.
    """
    table = {"file": use.parameters["file"]} if "file" in use.parameters else {}  # one text may lie in two folders
    where = {name: value for name, value in {**use.identity()["parameters"], **table}.items() if name != "root"}
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in f"{use.name}-{split}")
    key = f"{plain}-{identity('images', {'name': use.name, 'parameters': where, 'split': split})}"
    paths, names = _named(dataset, entries if use.pixels != "names" else ())
    return Images(key, f"{use.name} {split}", use.pixels, paths, names, ledgers(key) if paths else {})


def fixed_digest(dataset: Dataset, entries: Sequence[Entry]) -> str:
    """Hash of the contents of the fixed files among those of entries; empty where there are none."""
    return Images("", "", "sampled", *_named(dataset, entries)).digest()


def merged_ledgers(stored: PixelLedger, recorded: PixelLedger) -> PixelLedger:
    """What was recorded first stays first, whichever process came first."""
    return {**stored, **{name: FileSeen(s.stamp, stored.get(name, s).first, s.last) for name, s in recorded.items()}}


def ledger_text(label: str, ledger: PixelLedger) -> str:
    """A ledger as a run folder keeps it, a line for each file."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(list(seen))}" for name, seen in sorted(ledger.items()))
    return f'{{"split": {json.dumps(label)}, "files": {{\n{lines}\n}}}}\n'


def _named(dataset: Dataset, entries: Sequence[Entry]) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Name -> file, and entry -> names of its files."""
    paths: dict[Path, str] = {}
    names: dict[str, list[str]] = {}
    for entry in entries:
        found = [paths.setdefault(path, f"{entry.id}/{place}") for place, path in enumerate(_files_of(dataset, entry))]
        names[entry.id] = found
    return {name: path for path, name in paths.items()}, names


def _files_of(dataset: Dataset, entry: Entry) -> Sequence[Path]:
    """The files of an entry; none where the set cannot say, which is told when it is loaded, as any fault of it is."""
    try:
        return [Path(path) for path in dataset.image_files(entry) or ()]
    except Exception:
        return ()
