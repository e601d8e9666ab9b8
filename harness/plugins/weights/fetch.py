"""Weights from the network to the cache, and what is there compared with the manifest. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.errors import network_reason
from harness.files import locked, sha256_of, shown
from harness.plugins.weights.locate import Held, downloads, held, refusal
from harness.plugins.weights.manifest import WHOLE, Part, WeightsEntry, WeightsError, is_page, pin, pins

OFFLINE = "ROBUSTIQA_OFFLINE"
"""Environment variable; anything but empty or 0 forbids downloads."""
_TIMEOUT_S = 30
_CHUNK = 1 << 16


class Bar(Protocol):
    """What pooch tells of a download."""

    total: int

    def update(self, size: int) -> None:
        """So many more bytes came."""

    def reset(self) -> None:
        """Begin again at 0."""

    def close(self) -> None:
        """The download ended."""


@dataclass(frozen=True)
class Checked:
    """What re-reading one file of an entry found."""

    name: str
    file: str
    path: Path
    verdict: Literal["ok", "changed", "missing"]
    detail: str


def fetch(entry: WeightsEntry, bar: Callable[[Part], Bar | None] = lambda part: None) -> Iterator[tuple[Held, bool]]:
    """Download the files of an entry that are not there or not right; nothing is kept that was not verified.

    A download goes to a temporary name beside the file and is renamed when its size and sha256 are right, so that
    running it again goes on with the files that are left.

    Args:
        entry: Whose files.
        bar: Something that shows the progress of a download, or None.

    Yields:
        Each file's place, and whether it was downloaded now.

    Raises:
        WeightsError: Downloads are forbidden, the network fails, or what came is not the file of the manifest.
    """
    wanted = [place for place in held(entry) if not _is_right(place)]
    _refuse_offline(entry, [place.part for place in wanted])
    for place in held(entry):
        part = place.part
        if place not in wanted:
            yield place, False
            continue
        if not part.url:
            raise WeightsError(f"weights {entry.name}: {place.path} is missing or damaged. Reinstall robustiqa.")
        target = downloads() / part.file
        try:
            with locked(target):
                _download(entry, part, target, bar(part))
        except OSError as error:
            raise WeightsError(
                f"weights {entry.name}: {shown(target)} cannot be written ({error.strerror or error}). Make room or "
                "change the rights, or choose another folder with ROBUSTIQA_CACHE_DIR."
            ) from error
        yield Held(part, "in the cache", target), True


def offline() -> bool:
    """Whether downloads are forbidden."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def _is_right(place: Held) -> bool:
    """Whether a file is there and the manifest's; the hash of one that came by hand is pinned on the way."""
    if place.place == "missing":
        return False
    found = sha256_of(place.path)
    if refusal(place.part, place.path, found):
        return False
    if len(place.part.sha256) < WHOLE and place.place == "in the cache":
        pin(place.path.parent, place.part.file, found)
    return True


def _refuse_offline(entry: WeightsEntry, parts: Sequence[Part]) -> None:
    if parts and offline():
        files = ", ".join(f"{part.url} as {part.file}" for part in parts)
        raise WeightsError(
            f"weights {entry.name}: {OFFLINE} is set, so nothing is downloaded. Unset it, or download {files} "
            f"elsewhere and put that into {shown(downloads())}."
        )


def _download(entry: WeightsEntry, part: Part, target: Path, bar: Bar | None) -> None:
    import pooch

    # The lock makes the name ours: what lies there is of a download that was killed.
    temporary = target.with_name(f".{target.name}.part")
    try:
        try:
            receive = pooch.HTTPDownloader(progressbar=bar or False, chunk_size=_CHUNK, timeout=_TIMEOUT_S)
            receive(part.url, str(temporary), None)
        except OSError as error:
            if error.errno is not None:  # of the disk; what requests raises carries none
                raise
            raise WeightsError(
                f"weights {entry.name}: {part.url} could not be downloaded ({network_reason(error)}). Run the command "
                f"again to go on, or download it elsewhere and put it into {shown(target.parent)} as {part.file}."
            ) from error
        found = _verified(entry, part, temporary)
        temporary.replace(target)
        if len(part.sha256) < WHOLE:
            pin(target.parent, part.file, found)
    finally:
        temporary.unlink(missing_ok=True)


def _verified(entry: WeightsEntry, part: Part, path: Path) -> str:
    """The sha256 of what came."""
    size, found = path.stat().st_size, sha256_of(path)
    wrong = part.refusal(found, pins(downloads()).get(part.file))
    if part.size is not None and size != part.size:
        wrong = f"{size} bytes came, expected {part.size}"
    if not wrong:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return found
    if is_page(path):
        wrong = f"a web page came in place of the file, as a proxy or a log-in would send it; {wrong}"
    raise WeightsError(
        f"weights {entry.name}: {part.url} is not the file of the manifest: {wrong}. Nothing was kept. Run the command "
        f"again, or download it elsewhere and put it into {shown(downloads())} as {part.file}."
    )


def verify(chosen: Sequence[WeightsEntry]) -> Iterator[Checked]:
    """Read every file of these entries that is there, and compare it with the manifest."""
    seen: set[Path] = set()
    for entry in chosen:
        for place in held(entry):
            if place.path in seen:
                continue
            seen.add(place.path)
            if place.place == "missing":
                cure = f"robustiqa weights fetch {entry.name}" if place.part.url else "reinstall robustiqa"
                yield Checked(entry.name, place.part.file, place.path, "missing", cure)
                continue
            try:
                reason = refusal(place.part, place.path, sha256_of(place.path))
            except OSError as error:
                reason = f"cannot be read ({error.strerror or error})"
            yield Checked(entry.name, place.part.file, place.path, "changed" if reason else "ok", reason)
