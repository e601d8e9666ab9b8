"""Attacked images that a run keeps: their files, and whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import page_checks, seal
from harness.engine.example_names import folder_name, folders_by_id
from harness.engine.examples import FLOATS, IMAGES, PICTURES, SCORES, Example, misfit, read_png
from harness.engine.folder_files import FolderFiles, damaged, digest
from harness.engine.soundness import SEALED, SIZE_FITS, SOUND, UNSEALED
from harness.files import stamp_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.suite.plan import Cell


EXAMPLES = "examples"
"""In a run folder: a folder for each attacked cell, called as `harness.engine.example_names` says."""


@dataclass(frozen=True)
class KeptExample:
    """An example as it was kept.

    Attributes:
        about: The scores and the name of its cell.
        exact: Name -> image, of the images that are kept as they were scored: all three with `exact: true`; otherwise
            those that have 8 bits, which a PNG holds as they are.
        rounded: Name -> image, all three as their PNG has them.
    """

    about: Mapping[str, Any]
    exact: Mapping[str, Tensor]
    rounded: Mapping[str, Tensor]

    @property
    def images(self) -> Mapping[str, Tensor]:
        """Name -> image: all three, each as exact as it is kept."""
        return {**self.rounded, **self.exact}


class ExampleStore(FolderFiles):
    """The folder `examples` of a run folder; a `scores.json` vouches for the images beside it."""

    _example_names: tuple[str, Mapping[str, str]] = ("", {})
    """When it was looked at, and id of a cell -> the folder of its examples."""

    def write_examples(self, cell: Cell, index: int, count: int, examples: Sequence[Example], *, exact: bool) -> None:
        """Store the attacked images of one cell and slice, and that it was asked for those of so many samples."""
        if (place := self._examples_of(cell.id)) is None:
            place, self._example_names = self.path / EXAMPLES / folder_name(cell), ("", {})
        folder, named = place / f"{index:05d}", place / "cell.txt"
        self._write(named, seal.sealed_text(f"{cell.label}\n", self.soundness.name(named)))
        for example in examples:
            files = example.files()
            about = json.loads(files.pop(SCORES))
            if FLOATS not in files:  # of a run that asked for them
                (folder / example.name / FLOATS).unlink(missing_ok=True)
            for name, content in files.items():
                self._write(folder / example.name / name, content)
            about["files"] = {name: [len(content), digest(content)] for name, content in files.items()}
            self._write_page(folder / example.name / SCORES, json.dumps(about, indent=1))
        page = {"samples": count, "exact": exact, "examples": [example.name for example in examples]}
        self._write_page(folder / "samples.json", json.dumps(page))

    def examples_kept(self, cell: str, index: int, *, exact: bool = False) -> int:
        """Samples of one cell and slice whose attacked images are stored; 0 where a file of one is damaged.

        Of the images themselves only the size is looked at, unless `read_example` or a check found more.

        Args:
            cell: Its id.
            index: Of the slice.
            exact: Whether they have to be there as floats.
        """
        if (place := self._examples_of(cell)) is None:
            return 0
        folder = place / f"{index:05d}"
        value = self._page(folder / "samples.json", page_checks.samples)
        if value is None or (exact and not value.get("exact", True)):  # before there was a choice they were
            return 0
        floats = [FLOATS] if value.get("exact", True) else []
        whole = all(self._has_example(folder / name, [*floats, *PICTURES]) for name in value.get("examples", ()))
        return int(value["samples"]) if whole else 0

    def _examples_of(self, cell: str) -> Path | None:
        """The folder of a cell's examples; None where there is none."""
        place = self.path / EXAMPLES
        stamp = stamp_of(place)
        if self._example_names[0] != stamp:
            self._example_names = stamp, folders_by_id(place)
        name = self._example_names[1].get(cell)
        return place / name if name else None

    def _has_example(self, folder: Path, files: Sequence[str]) -> bool:
        state = self.soundness.state(folder / SCORES)
        looked_at = state == SEALED and all(self.soundness.state(folder / name) in SOUND for name in files)
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
        place = self._examples_of(cell)
        return [] if place is None else sorted(path.parent for path in place.glob("*/*/scores.json"))

    def example_scores(self, folder: Path) -> dict[str, Any]:
        """What is kept of an example beside its images: scores and name of its cell.

        Raises:
            UserError: The file is missing or damaged.
        """
        return dict(self._need_page(folder / SCORES, page_checks.example))

    def read_example(self, folder: Path) -> KeptExample:
        """What is kept of an example.

        Raises:
            UserError: A file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        about = self.example_scores(folder)
        path, floats = folder / FLOATS, None
        try:
            if path.name in about.get("files", {FLOATS: 0}):
                floats = load(self._need_example_file(path, about))
                self._refuse(path, misfit(floats))
            rounded = {}
            for name in IMAGES:
                path = folder / f"{name}.png"
                rounded[name] = read_png(self._need_example_file(path, about))
                fits = rounded[name].shape == (floats or rounded)["attacked" if floats else "reference"].shape
                self._refuse(path, "" if fits else f"another size than the {'floats' if floats else 'reference'}")
        except (SafetensorError, OSError) as error:
            self._refuse(path, str(error))
            raise
        whole = about.get("exact_as_png", ())
        exact = floats or {name: image for name, image in rounded.items() if name in whole}
        return KeptExample({name: value for name, value in about.items() if name != "files"}, exact, rounded)

    def _need_example_file(self, path: Path, about: Mapping[str, Any]) -> bytes:
        content = self.read_example_file(path, about)
        if content is None:
            self.soundness.keep()  # the next run has to know
            raise damaged(path, self.soundness.state(path) or "there is none")
        return content
