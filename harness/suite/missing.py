"""Which image files of a data set are not there, found without opening or looking at a single one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.contracts import DataError, Dataset, Entry
from harness.files import shown
from harness.wording import few

_NAMES_TOLD = 3


def missing_images(dataset: Dataset, entries: Iterable[Entry], name: str) -> str:
    """What an incomplete set lacks, with the cure; empty where all is there, or where the set names no files.

    Folders are listed and files not looked at one by one: of a set on a network drive that would take minutes.

    Args:
        dataset: The set.
        entries: Those whose images are looked for.
        name: What messages call the set.
    """
    paths: dict[Path, None] = {}
    for entry in entries:
        try:
            paths |= dict.fromkeys(map(Path, dataset.image_files(entry) or ()))
        except DataError as error:
            return str(error)
        except Exception:  # a fault of a plugin, which is told when the image is loaded
            return ""
    listings = {folder: _names_in(folder) for folder in dict.fromkeys(path.parent for path in paths)}
    # Where the file system ignores case, a file of another case is there all the same.
    missing = [path for path in paths if path.name not in listings[path.parent] and not path.exists()]
    return _told(missing, len(paths), name) if missing else ""


def _told(missing: list[Path], count: int, name: str) -> str:
    places = few(shown(path.parent) for path in missing)
    names = ", ".join(path.name for path in missing[:_NAMES_TOLD])
    more = f" and {len(missing) - _NAMES_TOLD:,} more" if len(missing) > _NAMES_TOLD else ""
    are = "is" if len(missing) == 1 else "are"
    return (
        f"Data set {name} is incomplete: of {count:,} image files {len(missing):,} {are} missing in {places}: "
        f"{names}{more}. Add them, or unpack the set again."
    )


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir())
    except OSError:
        return frozenset()
