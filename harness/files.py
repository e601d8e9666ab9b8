"""Where files are kept and how their places are shown; files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import UserError
from harness.wording import for_csv

if TYPE_CHECKING:
    import pandas as pd

RUNS = Path("results/runs")
"""Where run folders are kept, each under the name of its suite."""
SUITE, PLAN = "suite.yaml", "plan.json"
"""In a run folder: the suite, and what the last run planned of it."""
RESULT_FOLDERS = ("records", "facts", "fits", "probes", "examples", "gallery", "failures", "provenance", "pixels")
"""What a run folder keeps beside its suite and its report."""
OWN_PACKAGES = ("harness", "metrics_zoo", "attacks", "defenses", "robustiqa")
"""Top-level packages that this distribution installs."""
TERMINAL = "terminal.json"
"""In the folder of a report: what a run prints in the end."""
_WITHOUT_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What file systems say that know no flock."""


def cache_dir() -> Path:
    """Folder of what can be made again: ``ROBUSTIQA_CACHE_DIR``, else ``$XDG_CACHE_HOME/robustiqa``, else in home.

    Raises:
        UserError: It begins with a ~name that is nobody here.
    """
    if chosen := os.environ.get("ROBUSTIQA_CACHE_DIR"):
        return expanded(chosen, "ROBUSTIQA_CACHE_DIR")
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return expanded(xdg, "XDG_CACHE_HOME") / "robustiqa"
    return expanded("~/.cache/robustiqa", "the cache")


def data_dir() -> Path:
    """Folder that holds data sets in their official layouts: ``ROBUSTIQA_DATA_DIR``, else ``~/data``.

    Raises:
        UserError: It begins with a ~name that is nobody here.
    """
    return expanded(os.environ.get("ROBUSTIQA_DATA_DIR") or "~/data", "ROBUSTIQA_DATA_DIR")


def expanded(path: Path | str, what: str) -> Path:
    """A path with the home folder that ~ or ~name stands for.

    Args:
        path: As a person wrote it.
        what: Where, for the message.

    Raises:
        UserError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0]
        raise UserError(
            f"{what}: {path} begins with {user}, and no such user has a home folder here. Write the whole path."
        ) from error


def run_named(path: Path) -> Path:
    """The run folder that is meant: the path itself, or where nothing is there, that of this name in `RUNS`."""
    if path.exists() or path.is_absolute() or not path.name:
        return path
    below = RUNS / path
    return below if below.is_dir() else path


def shown(path: Path | str) -> str:
    """A path as printed in messages: the home folder is written ``~``, so that reports do not name the user."""
    path = Path(path)
    home = Path("~").expanduser()
    if home != Path(home.anchor) and path.is_relative_to(home):
        return str(Path("~") / path.relative_to(home))
    return str(path)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read piece by piece.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path | str) -> str:
    """Size, times and inode of a file, in which a change of it shows; 'missing' where there is none."""
    try:
        about = os.stat(path)  # noqa: PTH116 (10,000 files: half the time)
    except OSError:
        return "missing"
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name beside the file, fsync and rename; make folders as needed.

    Raises:
        OSError: The place cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """What `write_whole` does, for a content that is written piece by piece; what is raised within leaves no file.

    Raises:
        OSError: The place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def csv_of(frame: pd.DataFrame) -> str:
    """A table as CSV, numbers to 8 significant digits, the same bytes on every system; texts are `for_csv`."""
    import pandas as pd

    texts = {
        str(name): pd.Series([for_csv(one) if isinstance(one, str) else one for one in column], frame.index, object)
        for name, column in frame.items()
        if column.dtype.kind not in "biufcmM"
    }
    whole = frame.assign(**texts).rename(columns=for_csv)
    return str(whole.to_csv(index=False, float_format="%.8g", lineterminator="\n"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that several processes read, change and write.

    Where the file system knows no flock, as some network ones, a file that is there while the lock is held stands in.

    Raises:
        OSError: The folder cannot be written.
    """
    import filelock  # not above: most commands lock nothing, and it takes longer to import than this module

    path.parent.mkdir(parents=True, exist_ok=True)
    lock: filelock.BaseFileLock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in _WITHOUT_FLOCK:
            raise
        # Under a name of its own: the first try leaves its file behind, which would look like a lock that is held.
        lock = filelock.SoftFileLock(path.with_name(f".{path.name}.softlock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def umask() -> int:
    """The permissions that this process takes from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
