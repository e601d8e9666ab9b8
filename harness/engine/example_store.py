"""Attacked images that a run keeps: their files, and whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import page_checks, seal
from harness.engine.examples import FILES, FLOATS, SCORES, Example, misfit, read_png
from harness.engine.folder_files import FolderFiles, damaged, digest
from harness.engine.soundness import SEALED, SIZE_FITS, SOUND, UNSEALED

if TYPE_CHECKING:
    from torch import Tensor


class ExampleStore(FolderFiles):
    """The folder `examples` of a run folder; a `scores.json` vouches for the images beside it."""

    def write_examples(self, cell: str, label: str, index: int, count: int, examples: Sequence[Example]) -> None:
        """Store the attacked images of one cell and slice, and that it was asked for those of so many samples."""
        folder = self.path / "examples" / cell / f"{index:05d}"
        named = folder.parent / "cell.txt"
        self._write(named, seal.sealed_text(f"{label}\n", self.soundness.name(named)))
        for example in examples:
            files = example.files()
            about = json.loads(files.pop(SCORES))
            for name, content in files.items():
                self._write(folder / example.name / name, content)
            about["files"] = {name: [len(content), digest(content)] for name, content in files.items()}
            self._write_page(folder / example.name / SCORES, json.dumps(about, indent=1))
        page = {"samples": count, "examples": [example.name for example in examples]}
        self._write_page(folder / "samples.json", json.dumps(page))

    def examples_kept(self, cell: str, index: int) -> int:
        """Samples of one cell and slice whose attacked images are stored; 0 where a file of one is damaged.

        Of the images themselves only the size is looked at, unless `read_example` or a check found more.
        """
        folder = self.path / "examples" / cell / f"{index:05d}"
        value = self._page(folder / "samples.json", page_checks.samples)
        whole = value is not None and all(self._has_example(folder / name) for name in value.get("examples", ()))
        return int(value["samples"]) if value is not None and whole else 0

    def _has_example(self, folder: Path) -> bool:
        state = self.soundness.state(folder / SCORES)
        looked_at = state == SEALED and all(self.soundness.state(folder / name) in SOUND for name in FILES)
        if looked_at or state in (UNSEALED, ""):  # without a seal it names no files
            return state != ""
        about = self._page(folder / SCORES, page_checks.example)
        return about is not None and all(
            self._has_image(folder / name, size) for name, (size, _) in about.get("files", {}).items()
        )

    def _has_image(self, path: Path, size: int) -> bool:
        state = self.soundness.state(path)
        if state is None:
            found = path.stat().st_size
            state = SIZE_FITS if found == size else f"it has {found} bytes, not {size}"
            self.soundness.note(path, state)
        return state in SOUND

    def read_example_file(self, path: Path, about: Mapping[str, Any]) -> bytes | None:
        """The content of a file beside an example's scores; None where it is missing or damaged, which is noted."""
        files = about.get("files")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.soundness.note(path, f"it cannot be read: {error.strerror}")
            return None
        fits = files is None or (path.name in files and files[path.name][1] == digest(content))
        state = "its bytes are not those that its scores.json names" if not fits else SEALED if files else UNSEALED
        self.soundness.note(path, state)
        return content if fits else None

    def example_folders(self, cell: str) -> list[Path]:
        """Folders of a cell's stored examples, in order."""
        return sorted(path.parent for path in (self.path / "examples" / cell).glob("*/*/scores.json"))

    def read_example(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
        """What is kept of an example: scores and name of its cell, its images, and the attacked one from its PNG.

        Raises:
            UserError: A file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = folder / SCORES
        about = dict(self._need_page(path, page_checks.example))
        path = folder / FLOATS
        try:
            images: dict[str, Tensor] = load(self._need_example_file(path, about))
            self._refuse(path, misfit(images))
            path = folder / "attacked.png"
            rounded = read_png(self._need_example_file(path, about))
            self._refuse(path, "" if rounded.shape == images["attacked"].shape else "another size than the floats")
            return {name: value for name, value in about.items() if name != "files"}, images, rounded
        except (SafetensorError, OSError) as error:
            self._refuse(path, str(error))
            raise

    def _need_example_file(self, path: Path, about: Mapping[str, Any]) -> bytes:
        content = self.read_example_file(path, about)
        if content is None:
            self.soundness.keep()  # the next run has to know
            raise damaged(path, self.soundness.state(path) or "there is none")
        return content
