"""A run folder as one zip file: packed to the same bytes from the same files, and opened without trusting it.

The file holds one folder, called like the suite. It is read by any program that reads zip files; this one refuses names
that lead out of the folder, links, what is encrypted or larger than it says, and more than fits.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from harness.errors import UserError
from harness.files import PLAN, RESULT_FOLDERS, SUITE, cache_dir, run_named, sha256_of, whole_file

SUFFIX_OF_BUNDLES = ".zip"
README = "README.txt"
"""In a bundle: what it is and how it is opened."""
WRITTEN_AT = 315_532_800
"""1 January 1980, when every file of a bundle was last written, in seconds: the earliest that a zip file can say."""
MOST_PACKED = 1_000_000
MOST_UNPACKED = 16 * 2**30
"""What a bundle may hold unpacked."""
_PIECE = 1 << 20
_LEVEL = 6
_TOLD = (SUITE, PLAN, README)
_OF_PACKERS = ("__MACOSX",)
"""Folders that programs add to zip files of their own accord."""
_STRANGE = re.compile(r"(?i)[\\:]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
"""What no part of a name has: what leads elsewhere on some system, or means a device there."""


def pack(folder: Path, name: str, target: Path, files: Iterable[str]) -> None:
    """Write files of a folder as a zip file, whole or not at all.

    Args:
        folder: Where they lie.
        name: Of the folder in the zip file.
        target: The zip file.
        files: Their paths within the folder.

    Raises:
        OSError: The place cannot be written.
    """
    with whole_file(target) as raw, zipfile.ZipFile(raw, "w") as packed:
        for file in sorted(files):
            info = zipfile.ZipInfo(f"{name}/{file}", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, (folder / file).read_bytes(), compresslevel=_LEVEL)


def run_folder_at(path: Path) -> Path:
    """A run folder as it is, or by its name in `RUNS`; of a bundle, the folder that it is unpacked to, in the cache.

    Raises:
        UserError: It is a file and no bundle, or one that is not to be opened.
    """
    path = run_named(path)
    if not path.is_file():
        return path
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: a file, and no bundle, or part of one. Give a run folder, or what 'robustiqa bundle' wrote."
        )
    place = cache_dir() / "bundles" / sha256_of(path)[:16]
    if not place.is_dir():
        unpack(path, place)
    return next(one for one in place.iterdir() if one.is_dir())


def unpack(path: Path, place: Path) -> None:
    """Unpack a bundle into a folder that is not there yet; it is there whole or not at all.

    Raises:
        UserError: It is damaged, not of a run, or not to be opened.
        OSError: The place cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        with zipfile.ZipFile(path) as packed:
            wanted = _members(path, packed)
            _refuse_too_large(path, wanted, aside)
            for info, parts in wanted:
                try:
                    _extract(path, packed, info, aside.joinpath(*parts))
                except OSError as error:  # a name that is too long, or below another file
                    raise UserError(f"{path}: {_quoted(info)} cannot be written ({error.strerror}).") from None
        try:
            aside.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was first
                raise
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, UnicodeError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}). Ask for the bundle again.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _members(path: Path, packed: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """The files of a run in a zip file, with the parts of their names.

    Raises:
        UserError: A name leads out of the folder, or it is a link, encrypted, twice there, or of no run.
    """
    infos = packed.infolist()
    if len(infos) > MOST_PACKED:
        raise UserError(f"{path}: {len(infos):,} files, more than {MOST_PACKED:,}. It is not opened.")
    found: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        parts = _safe_parts(path, info)
        if info.is_dir() or parts[0] in _OF_PACKERS or any(part.startswith(".") for part in parts):
            continue
        if (folded := "/".join(parts).casefold()) in seen:
            raise UserError(f"{path}: {_quoted(info)} is there twice. It is not opened.")
        seen.add(folded)
        found[parts] = info
    tops = {parts[0] for parts in found}
    if len(tops) != 1 or (next(iter(tops)), SUITE) not in found:
        raise UserError(
            f"{path}: no bundle of a run (no folder with a {SUITE} in it). Give what 'robustiqa bundle' wrote, or "
            "unpack the file and give the run folder."
        )
    return [(info, parts) for parts, info in sorted(found.items()) if _of_a_run(parts[1:])]


def _of_a_run(parts: tuple[str, ...]) -> bool:
    return (len(parts) == 1 and parts[0] in _TOLD) or (len(parts) > 1 and parts[0] in (*RESULT_FOLDERS, "report"))


def _safe_parts(path: Path, info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The parts of a name, none of which leads anywhere else.

    Raises:
        UserError: One does, or it is no plain file.
    """
    name = info.orig_filename
    parts = PurePosixPath(name.rstrip("/")).parts
    mode = info.external_attr >> 16
    wrong = ""
    strange = any(_STRANGE.search(part) for part in parts) or not name.isprintable()
    if not parts or name.startswith("/") or ".." in parts or strange:
        wrong = "has a name that leads out of the folder or cannot be written everywhere"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        wrong = "is a link or no plain file"
    elif info.flag_bits & 0x1:
        wrong = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong = "is compressed in another way than bundles are"
    if wrong:
        raise UserError(f"{path}: {_quoted(info)} {wrong}. It is not opened; no run writes such a file.")
    return parts


def _quoted(info: zipfile.ZipInfo) -> str:
    return repr(info.orig_filename[:200])


def _refuse_too_large(path: Path, wanted: list[tuple[zipfile.ZipInfo, tuple[str, ...]]], place: Path) -> None:
    size = sum(info.file_size for info, _ in wanted)
    if size > MOST_UNPACKED:
        raise UserError(
            f"{path}: {size / 2**30:.0f} GiB unpacked, more than {MOST_UNPACKED / 2**30:.0f}. Where that is right, "
            "unpack it with another program and give the folder."
        )
    if size > shutil.disk_usage(place).free:
        raise UserError(
            f"{path}: {size / 2**20:.0f} MiB unpacked, more than is free at {place.parent}. Make room, or point "
            "ROBUSTIQA_CACHE_DIR elsewhere."
        )


def _extract(path: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(info) as source, target.open("xb") as file:
        size = 0
        for piece in _pieces(source):
            size += len(piece)
            if size > info.file_size:
                raise UserError(f"{path}: {_quoted(info)} is larger than it says. It is not opened.")
            file.write(piece)
    os.utime(target, (WRITTEN_AT, WRITTEN_AT))


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(_PIECE):
        yield piece
