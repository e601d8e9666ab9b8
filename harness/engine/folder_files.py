"""How files of a run folder are read and written: whole or not at all, sealed, and not there where they are damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine import seal
from harness.engine.behind import Behind
from harness.engine.soundness import SOUND, Soundness, StoreError
from harness.files import SUITE, expanded, stamp_of, write_whole

if TYPE_CHECKING:
    from torch import Tensor

ALL_SEALED = " so is every file beside it"
"""Said by the seal of a suite where a file without one cannot be of this run."""

_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What the system says of a full disk."""
_Found = TypeVar("_Found")
_NEVER_READ_BACK = ("records", "examples")
"""What the worker that writes it does not read while it works."""


def again_if_gone(work: Callable[[], _Found], times: int = 20) -> _Found:
    """What comes of work with files that others may take away meanwhile, as they put others in their place.

    Args:
        work: The work, which begins anew where a file or a folder is gone.
        times: How often it is tried.

    Raises:
        FileNotFoundError: Something was gone each time.
    """
    for _ in range(times - 1):
        with contextlib.suppress(FileNotFoundError):
            return work()
    return work()


def digest(content: bytes) -> str:
    """The sha256 of a content."""
    return hashlib.sha256(content).hexdigest()


def damaged(path: Path, reason: str) -> StoreError:
    """What is said of a file that is needed and damaged."""
    return StoreError(f"{path}: damaged ({reason}). Run the suite again, which makes it anew.")


_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What the system says of a full disk."""


class FolderFiles:
    """A folder of sealed files.

    Args:
        path: The folder.
        before_writing: Called before anything is written; what it raises stops that.
    """

    def __init__(self, path: Path, before_writing: Callable[[], None] = lambda: None) -> None:
        self.path = expanded(path, "the run folder")
        self._before_writing = before_writing
        self.behind: Behind | None = None
        """Where records and examples are written behind while a device is busy; None where they are written at once."""
        self._said = ("", False)
        self.soundness = Soundness(self.path, lambda: self.all_sealed)

    def require(self) -> None:
        """Stop where the folder is gone that a run writes into.

        Raises:
            StoreError: It has no suite any more.
        """
        if not (self.path / SUITE).is_file():
            raise StoreError(
                f"{self.path}: the run folder was removed or renamed while the run went on (no suite.yaml); nothing "
                "more is written. Put it back, or run the suite again."
            )

    @property
    def all_sealed(self) -> bool:
        """Whether every file of this folder was sealed when it was written."""
        stamp = stamp_of(self.path / SUITE)
        if self._said[0] != stamp:
            try:
                with (self.path / SUITE).open("rb") as file:
                    self._said = stamp, file.readline().rstrip().endswith(ALL_SEALED.encode())
            except OSError:
                return False
        return self._said[1]

    def _has_page(self, path: Path, wrong: Callable[[Any], str]) -> bool:
        state = self.soundness.state(path)
        return self._page(path, wrong) is not None if state is None else state in SOUND

    def _page(self, path: Path, wrong: Callable[[Any], str]) -> Any:
        """The value of a JSON file; None where there is none or it is damaged, which is noted."""
        content = self.soundness.read(path)
        if content is None:
            return None
        try:
            value = seal.without_seal(json.loads(content))
            reason = wrong(value)
        except (ValueError, RecursionError) as error:
            reason = str(error)
        if reason:
            self.soundness.note(path, reason)
            return None
        return value

    def _need_page(self, path: Path, wrong: Callable[[Any], str]) -> Any:
        value = self._page(path, wrong)
        if value is None:
            raise damaged(path, self.soundness.state(path) or "there is none")
        return value

    def _tensors(self, path: Path) -> dict[str, Tensor] | None:
        """The tensors of a file; None where there is none or it is damaged, which is noted."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self.soundness.read(path)
        if content is None:
            return None
        try:
            tensors: dict[str, Tensor] = load(content)
        except SafetensorError as error:
            self.soundness.note(path, str(error))
            return None
        return tensors

    def _refuse(self, path: Path, wrong: str) -> None:
        if wrong:
            self.soundness.note(path, wrong)
            self.soundness.keep()
            raise damaged(path, wrong)

    def _write_page(self, path: Path, text: str) -> None:
        """Write a JSON object or list with its seal."""
        self._write(path, seal.sealed_json(text, self.soundness.name(path)))

    def _write(self, path: Path, content: bytes, then: Callable[[], None] = lambda: None) -> None:
        if self.behind is not None and path.relative_to(self.path).parts[0] in _NEVER_READ_BACK:
            self.behind.put(partial(self._write_now, path, content, then))
        else:
            self._write_now(path, content, then)

    def _write_now(self, path: Path, content: bytes, then: Callable[[], None]) -> None:
        self._before_writing()

        def write() -> None:
            self.require()
            write_whole(path, content)

        try:
            again_if_gone(write)  # of a folder within, as that of pictures when another run has chosen some
        except OSError as error:
            raise self.unwritable(path, error) from error
        then()

    def accept(self, name: str, content: bytes, then: Callable[[], None] = lambda: None) -> None:
        """Write a file that was made, and sealed, for this folder elsewhere.

        Args:
            name: Its path within the folder.
            content: All of its bytes.
            then: Called when it is there.

        Raises:
            StoreError: It leads out of the folder, or cannot be written.
        """
        self._write(self._within(name), content, then)

    def drop(self, name: str) -> None:
        """Remove a file that is needed no more, if it is there.

        Args:
            name: Its path within the folder.

        Raises:
            StoreError: It leads out of the folder.
        """
        self._within(name).unlink(missing_ok=True)

    def _within(self, name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StoreError(f"{name}: no file within {self.path}.")
        return self.path / name

    def unwritable(self, path: Path, error: OSError) -> StoreError:
        """What is said where a file, or a folder of files, cannot be written."""
        if path.is_dir():
            return StoreError(f"{path}: a folder stands where a file is to be written. Remove it, and run again.")
        temporary = str(error.filename or "").endswith(".tmp")  # a name that nobody knows
        place = path if temporary else error.filename or path
        cure = "make room, or choose" if error.errno in _NO_ROOM else "choose"
        return StoreError(
            f"{place}: cannot be written ({error.strerror or error}). What was finished is kept; "
            f"{cure} another folder with --out, and run the same command again."
        )
