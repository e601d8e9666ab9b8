"""The run folder: the state of a run, and with its six parts all that reads or writes it.

Every file is written to a temporary name, fsynced and renamed, so it is there whole or not at all, and carries its seal
(`harness.engine.seal`). One whose seal or content does not fit is *damaged*: it counts as not there, so that what it
held is computed again, and `soundness` says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.engine import page_checks, seal
from harness.engine.example_store import ExampleStore
from harness.engine.examples import SCORES
from harness.engine.folder_files import ALL_SEALED, again_if_gone, damaged, digest
from harness.engine.gallery_store import GalleryStore
from harness.engine.plan_file import PlanFile
from harness.engine.record_files import holds_of, records_table, said_by
from harness.engine.record_store import RecordStore
from harness.engine.report_note import MADE_FROM, ReportNote
from harness.engine.single_records import APPENDED, COMPACT
from harness.engine.single_records import Misfit as Misfit
from harness.engine.soundness import SEALED, SOUND, UNSEALED
from harness.engine.soundness import StoreError as StoreError
from harness.files import PLAN as PLAN
from harness.files import RESULT_FOLDERS, locked, write_whole
from harness.files import SUITE as SUITE
from harness.suite.identity import PROTOCOL
from harness.suite.pixels import FileSeen, Images, PixelLedger, ledger_text, merged_ledgers

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from harness.suite.model import Suite


@dataclass(frozen=True)
class FailureRecord:
    """One cell and slice that could not be computed."""

    cell: str
    slice: int
    sample: str
    message: str
    bad_input: bool = False
    """True: an image or label the user can mend (exit code 2), not a fault of a metric or an attack (exit code 1)."""


class RunFolder(RecordStore, ExampleStore, GalleryStore, ReportNote, PlanFile):
    """A run folder; `open` creates it."""

    def open(self, suite: Suite) -> None:
        """Create or resume the folder for a suite.

        Raises:
            UserError: It belongs to a suite of another name, or cannot be written.
        """
        saved = self.path / SUITE
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Listed first: whatever of another shard is seen then came after its suite.yaml, which is seen next.
            strange = any(not path.name.startswith(f".{SUITE}.") for path in self.path.iterdir())
            if new := not saved.exists():
                if strange:
                    raise StoreError(
                        f"{self.path}: not empty and no run folder (no suite.yaml). Give another folder with --out."
                    )
            else:
                self._refuse_another(saved, suite)
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}). "
                "Choose a writable folder with --out."
            ) from None
        self._refuse_misplaced()
        self._write_suite(self._suite_text(suite), all_sealed=new or self.all_sealed)
        for path in sorted((self.path / "provenance").glob("*.json")):  # looked at before they are begun anew
            self.read_provenance(path.stem)
        self.tidy_gallery()
        for path in self._damaged_failures():  # what failed is tried again, noted or not
            path.unlink(missing_ok=True)

    def _refuse_misplaced(self) -> None:
        """What cannot be put right by computing it again is told before anything is written."""
        for name in (*RESULT_FOLDERS, "report"):
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise StoreError(
                    f"{self.path / name}: no folder. Remove the file, or choose another folder with --out."
                )
        for path in sorted((self.path / "pixels").glob("*.json")):
            self.read_pixels(path.stem)

    def _refuse_another(self, saved: Path, suite: Suite) -> None:
        """A damaged suite is written anew; what is no run folder, or perhaps another suite's, is left alone."""
        wrong = self.suite_damage()
        try:
            text = saved.read_text(encoding="utf-8")
            found = re.match(r"name:[ ]*([\w.-]+)", text) if wrong else [None, str(yaml.safe_load(text)["name"])]
            name = found[1] if found else ""
        except (yaml.YAMLError, TypeError, KeyError, ValueError, RecursionError):
            name, wrong = "", "it is no suite"
        if wrong:
            if not any((self.path / part).is_dir() for part in RESULT_FOLDERS):
                raise StoreError(f"{saved}: damaged. Give another folder with --out, or remove this one.") from None
            self.soundness.note(saved, wrong)
            if not (name := self._plan_head().get("name") or name):
                raise StoreError(
                    f"{saved}: damaged ({wrong}), and its name cannot be read, so the folder may be another suite's. "
                    "Give another folder with --out, or put the file back."
                )
        if name != suite.name:
            raise StoreError(
                f"{self.path}: the run folder of another suite ('{name}', not '{suite.name}'). "
                "Give another folder with --out, or rename the suite."
            )

    def suite_damage(self) -> str:
        """What is wrong with the suite that is kept here, empty if nothing is seen."""
        content = (self.path / SUITE).read_bytes()
        return seal.broken(content, SUITE) if seal.is_sealed(content) else ""

    def refuse_damaged_suite(self) -> None:
        """Stop where the suite that is kept here is not the one that was written.

        Raises:
            StoreError: Its seal does not fit.
        """
        if wrong := self.suite_damage():
            raise StoreError(
                f"{self.path / SUITE}: damaged ({wrong}). 'robustiqa run' with the suite writes it again and keeps the "
                "records; where it was changed on purpose, run the changed suite."
            )

    def _write_suite(self, text: str, *, all_sealed: bool) -> None:
        path = self.path / SUITE
        self._before_writing()
        content = seal.sealed_text(text, SUITE, ALL_SEALED if all_sealed else "")
        try:
            if not path.is_file() or path.read_bytes() != content:
                write_whole(path, content)
        except OSError as error:
            raise self.unwritable(path, error) from error

    def write_records(self, cell: str, index: int, columns: Mapping[str, list[Any]]) -> None:
        """Store the records of one cell and slice, and forget that they ever failed."""
        self.write_block(index, {cell: records_table(columns)}, {})

    def write_block(self, index: int, found: Mapping[str, pa.Table], groups: Mapping[str, str]) -> None:
        """Store the records of some cells of one slice, and forget that they ever failed.

        Args:
            index: Of the slice.
            found: Id of a cell -> its records, as `records_table` makes them.
            groups: Id of a cell -> what it is to be compacted with.
        """
        self.append_records(index, found, groups, partial(self._forget_failures, [index]))

    def accept_records(self, name: str, content: bytes) -> None:
        """Write a file of records that was made for this folder elsewhere, and forget that what it holds ever failed.

        Args:
            name: Its path within the folder.
            content: All of its bytes.

        Raises:
            StoreError: It leads out of the folder, or cannot be written.
        """

        def forget() -> None:
            for cells, slices in holds_of(said_by(content)):
                self._forget_failures(slices, cells)

        self.accept(name, content, forget)

    def write_failure(self, failure: FailureRecord) -> None:
        """Note that a cell and slice failed; the next run tries it again."""
        self._write_page(self._failure(failure.cell, failure.slice), json.dumps(asdict(failure), indent=1))

    def forget_failure(self, cell: str, index: int) -> None:
        """What failed before has been done since."""
        self._forget_failures([index], [cell])

    def _forget_failures(self, slices: Iterable[int], cells: Sequence[str]) -> None:
        for index in slices:
            for cell in cells:
                self._failure(cell, index).unlink(missing_ok=True)

    def failures(self) -> Iterator[FailureRecord]:
        """Every noted failure of something that has not been done since; a damaged note counts for none."""
        paths = sorted((self.path / "failures").glob("*.json"))
        values = [self._page(path, page_checks.failure) for path in paths]  # None too where another shard just did it
        noted = [FailureRecord(**value) for value in values if value is not None]
        done_slices = self.slices_of({failure.cell: None for failure in noted}) if noted else {}
        for failure in noted:
            done = (
                failure.slice in done_slices[failure.cell]
                or self.has_fact(failure.cell)
                or self.has_fit(failure.cell)
                or self.has_probe(failure.cell)
            )
            if not done:
                yield failure

    def _damaged_failures(self) -> list[Path]:
        paths = sorted((self.path / "failures").glob("*.json"))
        return [path for path in paths if path.is_file() and self._page(path, page_checks.failure) is None]

    def has_fact(self, fact: str) -> bool:
        """Whether a fact is known."""
        return self._has_page(self.path / "facts" / f"{fact}.json", page_checks.fact)

    def write_fact(self, fact: str, value: Mapping[str, Any]) -> None:
        """Store a fact."""
        self._write_page(self.path / "facts" / f"{fact}.json", json.dumps(value, indent=1))

    def read_fact(self, fact: str) -> dict[str, Any]:
        """A stored fact.

        Raises:
            UserError: The file is damaged.
        """
        return dict(self._need_page(self.path / "facts" / f"{fact}.json", page_checks.fact))

    def has_probe(self, probe: str) -> bool:
        """Whether a metric has been probed."""
        return self._has_page(self.path / "probes" / f"{probe}.json", page_checks.probe)

    def write_probe(self, probe: str, value: Mapping[str, Any]) -> None:
        """Store what the probes of a metric found."""
        self._write_page(self.path / "probes" / f"{probe}.json", json.dumps(value, indent=1))

    def read_probe(self, probe: str) -> dict[str, Any]:
        """What the probes of a metric found.

        Raises:
            UserError: The file is damaged.
        """
        return dict(self._need_page(self.path / "probes" / f"{probe}.json", page_checks.probe))

    def has_fit(self, fit: str) -> bool:
        """Whether a fit is stored."""
        path = self.path / "fits" / f"{fit}.safetensors"
        state = self.soundness.state(path)
        return self._tensors(path) is not None if state is None else state in SOUND

    def write_fit(self, fit: str, tensors: Mapping[str, Tensor]) -> None:
        """Store what an attack learnt."""
        path = self.path / "fits" / f"{fit}.safetensors"
        self._write(path, seal.sealed_tensors(tensors, self.soundness.name(path)))

    def read_fit(self, fit: str) -> dict[str, Tensor]:
        """What an attack learnt.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "fits" / f"{fit}.safetensors"
        tensors = self._tensors(path)
        if tensors is None:
            raise damaged(path, self.soundness.state(path) or "there is none")
        return tensors

    def write_provenance(self, name: str, value: Any) -> None:
        """Store one page of provenance."""
        self._write_page(self.path / "provenance" / f"{name}.json", json.dumps(value, indent=1, default=str))

    def add_provenance(self, name: str, values: Sequence[Any]) -> None:
        """Add to a page that is a list; what stands there already is not repeated."""
        self.change_provenance(name, lambda known: [*known, *(value for value in values if value not in known)])

    def change_provenance(self, name: str, change: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Change a page that is a list; several processes may do so at the same time. A damaged one is begun anew."""
        path = self.path / "provenance" / f"{name}.json"
        self.require()
        try:
            with locked(path):
                known = self.read_provenance(name)
                changed = change(known)
                if list(changed) != known or not self._has_page(path, page_checks.provenance(name)):
                    self.write_provenance(name, changed)
        except OSError as error:
            raise self.unwritable(path, error) from error

    def older_protocol(self) -> str:
        """Version of robustiqa and protocol of which all records are, where that is not today's; else empty."""
        pages = [page for page in self.read_provenance("versions") if "protocol" in page]
        if not pages or any(page["protocol"] == str(PROTOCOL) for page in pages):
            return ""
        return f"{pages[-1].get('robustiqa', '')} (protocol {pages[-1]['protocol']})".strip()

    def read_provenance(self, name: str) -> list[Any]:
        """A page that is a list; empty where there is none, and where it is damaged."""
        value = self._page(self.path / "provenance" / f"{name}.json", page_checks.provenance(name))
        return [] if value is None else list(value)

    def read_pixels(self, key: str) -> dict[str, FileSeen]:
        """What was recorded of the image files of a split; empty where nothing was.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "pixels" / f"{key}.json"
        if not path.exists():
            return {}
        page = self._page(path, page_checks.pixels)
        if page is None:  # what it holds cannot be computed again
            raise StoreError(
                f"{path}: damaged ({self.soundness.state(path)}). It alone says which image files the records were "
                "made from. If none was changed since, remove it and run again; if one may have been, choose another "
                "folder with --out."
            )
        return {name: FileSeen(*map(str, row)) for name, row in page["files"].items()}

    def record_pixels(self, images: Images, recorded: PixelLedger) -> None:
        """Add what image files hold now to what was recorded; several processes may do so at the same time."""
        path = self.path / "pixels" / f"{images.key}.json"
        self.require()
        try:
            with locked(path):
                stored = self.read_pixels(images.key)
                changed = merged_ledgers(stored, recorded)
                if changed != stored:
                    self._write_page(path, ledger_text(images.label, changed))
        except OSError as error:
            raise self.unwritable(path, error) from error

    def stamps(self) -> list[str]:
        """Name, size and time of every stored result: what a report depends on."""
        found: list[str] = []
        for part in ("records", "facts", "probes", "failures", "provenance", "gallery"):
            found += again_if_gone(lambda part=part: self._stamps_in(part))  # type: ignore[misc]
        return sorted(found)

    def _stamps_in(self, part: str) -> list[str]:
        found, above = [], len(str(self.path)) + 1
        for folder, _, names in os.walk(self.path / part):
            for name in names:
                if not name.startswith("."):
                    about = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 (10,000 files: half the time)
                    found.append(f"{folder[above:]}/{name} {about.st_size} {about.st_mtime_ns}")
        return found

    def inspect(self, path: Path, misfits: Callable[[str], Misfit]) -> bool:
        """Look at one file, all of its bytes, and note what is found; False where no run writes such a file.

        Args:
            path: The file.
            misfits: Id of a cell -> what is wrong with records of it that carry no seal.
        """
        match path.relative_to(self.path).parts:
            case (file,) | ("examples", _, file) if file in (SUITE, PLAN, "cell.txt"):
                self.soundness.read(path)
            case ("records", part, file) if f"records/{part}" in (APPENDED, COMPACT) and file.endswith(".parquet"):
                self.look_at_records(path)
            case ("records", cell, file) if re.fullmatch(r"\d{5,}\.parquet", file):
                self.single_records(cell, int(path.stem), misfits(cell))
            case ("fits", _) if path.suffix == ".safetensors":
                self._tensors(path)
            case ("gallery", "pool", _, _):
                self._tensors(path)
            case ("gallery", _, _):
                self.read_picture(path, self.picture_about(path))
            case ("examples", _, _, _, name) if name != SCORES:
                if not path.with_name(SCORES).exists():  # it is written last, and says what the others have to be
                    return True
                about = self._page(path.with_name(SCORES), page_checks.example)
                self.read_example_file(path, about or {"files": {}})
            case ("report", *_):
                return self._inspect_report(path)
            case parts if (wrong := page_checks.of_file(parts)) is not None:
                self._page(path, wrong)
            case _:
                return False
        return True

    def _inspect_report(self, path: Path) -> bool:
        """Of a report, `made-from.txt` vouches for the other files; what was written beside them later is nobody's."""
        name = path.relative_to(self.report).as_posix()
        files = self.report_files()[1]
        if name in files:
            whole = self._has_report_file(name, files[name])
            state = (SEALED if files[name] else UNSEALED) if whole else "its bytes are not those of the report"
            self.soundness.note(path, state)
        return name in files or name == MADE_FROM

    def seal(self, path: Path, misfits: Callable[[str], Misfit]) -> None:
        """Seal a file that carries no seal; one that is damaged, or of no kind that carries one, is left as it is."""
        content = self.soundness.read(path)
        name = self.soundness.name(path)
        match path.relative_to(self.path).parts:
            case _ if content is None or seal.is_sealed(content):
                return
            case ("records", cell, _):
                self.seal_single(cell, int(path.stem), misfits(cell))
            case ("fits", _):
                self.write_fit(path.stem, self.read_fit(path.stem))
            case ("examples", _, "cell.txt"):
                self._write(path, seal.sealed_text(content.decode(), name))
            case ("examples", _, _, _, file):
                if file == SCORES:
                    others = {p.name: p.read_bytes() for p in sorted(path.parent.iterdir()) if p != path}
                    files = {key: [len(one), digest(one)] for key, one in others.items()}
                    self._write_page(path, json.dumps({**json.loads(content), "files": files}, indent=1))
            case ("report", *_):
                if path == self.report / MADE_FROM:
                    self.note_report(self.report_files()[0])
            case parts if parts == (PLAN,) or page_checks.of_file(parts) is not None:
                self._write_page(path, content.decode())

    def seal_suite(self) -> None:
        """Say of a folder that everything in it is sealed."""
        text = (self.path / SUITE).read_text(encoding="utf-8")
        self._write_suite(seal.without_comment(text), all_sealed=True)

    def _failure(self, cell: str, index: int) -> Path:
        return self.path / "failures" / f"{cell}-{index:05d}.json"
