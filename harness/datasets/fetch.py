"""Archives of data sets from the network into the data folder: resumed, verified, unpacked whole or not at all."""

from __future__ import annotations

import errno
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from harness.contracts import DataError
from harness.datasets.catalogue import Archive
from harness.errors import network_reason
from harness.files import data_dir, locked, sha256_of, shown

_TIMEOUT_S = 30
_CHUNK = 1 << 20
_CANNOT_RESUME = 416
"""What a server answers that has nothing beyond the bytes that are there."""
_OF_ARCHIVES = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""What a disk says of names that an archive has and should not have."""


def fetch_archive(name: str, archive: Archive, folder: str, bar: Any = None) -> Path:
    """Download an archive, verify it and unpack it into a data set's folder.

    What has come of a download that breaks off stays beside the folder, and the next call goes on with it; of an
    archive that cannot be unpacked nothing stays. A folder in the archive that is called like the set is the set's
    folder itself.

    Args:
        name: The data set, for messages.
        archive: Address and sha256.
        folder: Name of the set's folder in the data folder.
        bar: Shows progress, in the way of pooch; None shows nothing.

    Returns:
        The set's folder.

    Raises:
        DataError: The network fails, what came is another file, it cannot be unpacked, or something is in its way.
    """
    target = data_dir() / folder
    loaded = target.with_name(f".{folder}-{archive.sha256[:12]}.part")
    unpacked = target.with_name(f".{folder}-{archive.sha256[:12]}.unpacked")
    try:
        with locked(target):
            _download(name, archive, loaded, bar)
            try:
                try:
                    _unpack(name, loaded, unpacked)
                except DataError:
                    loaded.unlink()
                    raise
                _move(name, unpacked, target)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
            loaded.unlink()
    except OSError as error:
        raise DataError(
            f"Data set {name}: {shown(target)} cannot be written ({error.strerror or error}). Make room or change the "
            "rights, or choose another folder with ROBUSTIQA_DATA_DIR."
        ) from error
    return target


def _download(name: str, archive: Archive, path: Path, bar: Any) -> None:
    if path.is_file() and sha256_of(path) == archive.sha256:
        return
    begun = path.stat().st_size if path.is_file() else 0
    # A server that knows no ranges sends all of it again; what does not fit then is fetched from its first byte.
    for start in [begun, 0] if begun else [0]:
        if not start:
            path.unlink(missing_ok=True)
        if _receive(name, archive, path, start, bar) and sha256_of(path) == archive.sha256:
            return
    found = sha256_of(path)
    path.unlink()
    raise DataError(
        f"Data set {name}: {archive.url} is not the file expected: its sha256 begins with {found[:12]} in place of "
        f"{archive.sha256[:12]}. Nothing was kept. Check address and sha256."
    )


def _receive(name: str, archive: Archive, path: Path, start: int, bar: Any) -> bool:
    """Append what the server sends from a byte on; false where it has nothing to send from there."""
    import pooch

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    receive = pooch.HTTPDownloader(progressbar=bar or False, chunk_size=_CHUNK, timeout=_TIMEOUT_S, headers=headers)
    try:
        with path.open("ab") as file:
            receive(archive.url, file, None)
    except (OSError, ValueError) as error:  # some addresses that are none leave requests as a ValueError alone
        if getattr(error, "errno", None) is not None:  # of the disk; what requests raises carries none
            raise
        if start and getattr(getattr(error, "response", None), "status_code", 0) == _CANNOT_RESUME:
            return False
        cure = "Run the command again to go on where it broke off."
        if isinstance(error, ValueError):
            cure = "Check the address."
        raise DataError(
            f"Data set {name}: {archive.url} could not be downloaded ({network_reason(error)}). {cure}"
        ) from error
    finally:
        if path.is_file() and not path.stat().st_size:
            path.unlink()
    return True


_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
)
"""What reading an archive raises beside errors of the disk; some readers raise an OSError without a number."""


def _unpack(name: str, archive: Path, into: Path) -> None:
    """All of an archive into a folder of its own.

    Raises:
        DataError: It is no archive, damaged, empty, or has names that cannot be.
        OSError: The disk is full, or may not be written.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                outside = [one for one in packed.namelist() if _leaves(into, one)]
                if outside:
                    raise zipfile.BadZipFile(f"{outside[0]!r} would be extracted outside of its folder")
                packed.extractall(into)  # noqa: S202 (no name of it leaves the folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as packed:
                _extract(packed, into)
        else:
            raise DataError(
                f"Data set {name}: what was downloaded is neither zip nor tar. Nothing was kept: download it yourself, "
                "and unpack it by hand."
            )
        if not any(path.is_file() for path in into.rglob("*")):
            raise tarfile.TarError("nothing is in it")
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_ARCHIVES:
            raise
        reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
        raise DataError(
            f"Data set {name}: the archive cannot be unpacked ({reason or type(error).__name__}). Nothing was kept. "
            "Ask who serves it."
        ) from error


def _extract(packed: tarfile.TarFile, into: Path) -> None:
    """Files and folders alone, inside the folder; Python before 3.11.4 has no filter that sees to it."""
    for member in packed.getmembers():
        if _leaves(into, member.name):
            raise tarfile.TarError(f"{member.name!r} would be extracted outside of its folder")
        if not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
        member.mode = 0o755 if member.isdir() else 0o644
    if hasattr(tarfile, "data_filter"):
        packed.extractall(into, filter="data")
    else:
        packed.extractall(into)  # noqa: S202 (every member was looked at above)
    # The checksum of what was compressed stands behind the last file.
    while packed.fileobj is not None and packed.fileobj.read(_CHUNK):
        pass


def _leaves(folder: Path, name: str) -> bool:
    return not (folder / name).resolve().is_relative_to(folder.resolve())


def _move(name: str, unpacked: Path, target: Path) -> None:
    """Everything that was unpacked, or nothing."""
    children = sorted(unpacked.iterdir())
    if len(children) == 1 and children[0].is_dir() and _plain(children[0].name) in (_plain(target.name), _plain(name)):
        children = sorted(children[0].iterdir())
    for child in children:
        if (target / child.name).exists():
            raise DataError(f"Data set {name}: {shown(target / child.name)} is there already. Move it away first.")
    target.mkdir(parents=True, exist_ok=True)
    for child in children:
        child.rename(target / child.name)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
