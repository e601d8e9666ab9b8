"""The pictures of a report as a run folder keeps them, and the pool that they are chosen from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import page_checks, seal
from harness.engine.folder_files import FolderFiles, digest
from harness.engine.soundness import SEALED

if TYPE_CHECKING:
    from harness.engine.gallery_pool import Candidates

GALLERY = "gallery"
"""In a run folder: `CASES`, a folder of pictures for each case, and while a run goes on `POOL`."""
CASES = "gallery.json"
"""Which cases there are; it vouches for every picture."""
POOL = "pool"
_OLD_POOL = ".pool"
"""What is left of a pool once it has been chosen from."""
SHOWN = ("reference", "distorted", "attacked")
"""Pictures of a case, each a PNG file."""


@dataclass(frozen=True)
class GalleryCase:
    """One attacked image that the page of a report shows.

    Attributes:
        about: What it is a case of, its scores, what other metrics say; keys as `harness.engine.gallery` writes them.
        pictures: Name, of `SHOWN`, -> the content of its PNG file.
    """

    about: Mapping[str, Any]
    pictures: Mapping[str, bytes]


@dataclass(frozen=True)
class GalleryKept:
    """What a run folder keeps for the page of its report.

    Attributes:
        cases: In the order of the page.
        left_out: Cases that were left out for their bytes, as "ssim: median".
        limit: Bytes that all pictures may take in the page.
        competed: Label of a metric -> samples of its data set that it was chosen from.
    """

    cases: Sequence[GalleryCase] = ()
    left_out: Sequence[str] = ()
    limit: int = 0
    competed: Mapping[str, int] = field(default_factory=dict)


class GalleryStore(FolderFiles):
    """The folder `gallery` of a run folder."""

    def add_candidates(self, pool: str, index: int, found: Candidates) -> None:
        """Let images of one slice compete with what is in a pool already."""
        from harness.engine.gallery_pool import candidate_tensors, merged_candidates

        if found:
            path = self.path / GALLERY / POOL / pool / f"{index:05d}.safetensors"
            merged = merged_candidates(self._candidates(path), found)
            self._write(path, seal.sealed_tensors(candidate_tensors(merged), self.soundness.name(path)))

    def candidates(self, pool: str) -> Iterator[Candidates]:
        """What competes in a pool, slice by slice."""
        for path in sorted((self.path / GALLERY / POOL / pool).glob("*.safetensors")):
            yield self._candidates(path)

    def _candidates(self, path: Path) -> Candidates:
        from harness.engine.gallery_pool import candidates_in

        return candidates_in(self._tensors(path) or {})

    def has_pool(self) -> bool:
        """Whether there is something to choose from."""
        return (self.path / GALLERY / POOL).is_dir()

    def drop_pool(self) -> None:
        """Remove the pool; it is gone at once, whenever this is stopped."""
        old = self.path / GALLERY / _OLD_POOL
        shutil.rmtree(old, ignore_errors=True)
        if self.has_pool():
            (self.path / GALLERY / POOL).rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def write_gallery(self, kept: GalleryKept) -> None:
        """Store the cases of a run in place of those that are there.

        Pictures come first, under names that their content decides, then the page that names them, and what it does not
        name goes last: stopped at any moment, the old cases or the new ones are there, whole.
        """
        folder = self.path / GALLERY
        cases, names = [], set()
        for case in kept.cases:
            files = {f"{name}.png": [len(case.pictures[name]), digest(case.pictures[name])] for name in SHOWN}
            cases.append({**case.about, "files": files})
            for name in SHOWN:
                path = folder / str(case.about["folder"]) / f"{name}.png"
                names.add(path)
                if not path.is_file() or path.read_bytes() != case.pictures[name]:
                    self._write(path, case.pictures[name])
        page = {"limit": kept.limit, "left_out": list(kept.left_out), "competed": dict(kept.competed), "cases": cases}
        self._write_page(folder / CASES, json.dumps(page, indent=1))
        for place in [path for path in folder.iterdir() if path.is_dir() and path.name not in (POOL, _OLD_POOL)]:
            for path in [path for path in place.iterdir() if path not in names]:
                path.unlink()
            if not any(place.iterdir()):
                place.rmdir()

    def read_gallery(self) -> GalleryKept:
        """The cases that are there and whole; none where there never were any."""
        page = self._page(self.path / GALLERY / CASES, page_checks.gallery)
        if page is None:
            return GalleryKept()
        cases = [case for about in page["cases"] if (case := self._case(about)) is not None]
        return GalleryKept(cases, page["left_out"], page["limit"], page["competed"])

    def _case(self, about: Mapping[str, Any]) -> GalleryCase | None:
        place = self.path / GALLERY / about["folder"]
        found = {name: self.read_picture(place / f"{name}.png", about) for name in SHOWN}
        pictures = {name: content for name, content in found.items() if content is not None}
        told = {name: value for name, value in about.items() if name != "files"}
        return GalleryCase(told, pictures) if len(pictures) == len(SHOWN) else None

    def read_picture(self, path: Path, about: Mapping[str, Any]) -> bytes | None:
        """The content of a picture; None where it is missing or damaged, which is noted."""
        try:
            content = path.read_bytes()
        except OSError as error:
            self.soundness.note(path, f"it cannot be read: {error.strerror}")
            return None
        fits = about.get("files", {}).get(path.name, [0, ""])[1] == digest(content)
        self.soundness.note(path, SEALED if fits else f"its bytes are not those that {CASES} names")
        return content if fits else None

    def picture_about(self, path: Path) -> Mapping[str, Any]:
        """What `CASES` says of the case that a picture belongs to; nothing where it knows none."""
        page = self._page(self.path / GALLERY / CASES, page_checks.gallery) or {"cases": ()}
        return next((one for one in page["cases"] if one["folder"] == path.parent.name), {})

    def tidy_gallery(self) -> None:
        """Remove what is damaged of it: nothing can make it again, and nothing but the page misses it."""
        shutil.rmtree(self.path / GALLERY / _OLD_POOL, ignore_errors=True)
        if not (self.path / GALLERY / CASES).is_file():
            return
        kept = self.read_gallery()
        damaged = [name for name in self.soundness.damaged() if name.startswith(f"{GALLERY}/")]
        for name in damaged:
            (self.path / name).unlink(missing_ok=True)
        if damaged and kept.cases:
            self.write_gallery(kept)
