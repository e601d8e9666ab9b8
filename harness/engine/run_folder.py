"""The run folder: the state of a run, and the only module that reads or writes it.

Every file is written to a temporary name, fsynced and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from harness.engine import page_checks
from harness.engine.examples import FLOATS, Example, misfit, read_png
from harness.engine.record import NAMES, STORED
from harness.errors import UserError
from harness.files import RESULT_FOLDERS, expanded, locked, write_whole
from harness.suite.identity import PROTOCOL
from harness.suite.pixels import FileSeen, PixelLedger, ledger_text, merged_ledgers
from harness.suite.places import written_beside

if TYPE_CHECKING:
    from torch import Tensor

    from harness.suite.model import Suite
    from harness.suite.places import written_beside
from harness.suite.pixels import Images

_ARROW = {"text": pa.string(), "real": pa.float64(), "whole": pa.int64(), "truth": pa.bool_()}
_TYPES = {column.name: _ARROW[column.type] for column in STORED}
_OPTIONAL = frozenset(column.name for column in STORED if column.optional)
_MADE_FROM = "made-from.txt"
_PLAN, _PLAN_SCHEMA = "plan.json", 1
_PLANNED = '"planned":'
"""Ends the first line of a stored plan, which says what the second is of."""
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class StoreError(UserError):
    """The run folder cannot be used or written; work stops, what was finished is kept."""


@dataclass(frozen=True)
class FailureRecord:
    """One cell and slice that could not be computed."""

    cell: str
    slice: int
    sample: str
    message: str
    bad_input: bool = False
    """True: an image or label the user can mend (exit code 2), not a fault of a metric or an attack (exit code 1)."""


class StoredText(NamedTuple):
    """What a file of the run folder holds, and the sha256 of it."""

    text: str
    sha256: str


class RunFolder:
    """A run folder.

    Args:
        path: The folder; created by `open`.
        before_writing: Called before anything is written; what it raises stops that.
    """

    def __init__(self, path: Path, before_writing: Callable[[], None] = lambda: None) -> None:
        self.path = expanded(path, "the run folder")
        self._before_writing = before_writing

    def open(self, suite: Suite) -> None:
        """Create or resume the folder for a suite.

        Raises:
            UserError: It belongs to a suite of another name, or cannot be written.
        """
        saved = self.path / "suite.yaml"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Listed first: whatever of another shard is seen then came after its suite.yaml, which is seen next.
            strange = any(not path.name.startswith(".suite.yaml.") for path in self.path.iterdir())
            if saved.exists():
                name = self._saved_name(saved)
                if name != suite.name:
                    raise StoreError(
                        f"{self.path}: the run folder of another suite ('{name}', not '{suite.name}'). "
                        "Give another folder with --out, or rename the suite."
                    )
            elif strange:
                raise StoreError(
                    f"{self.path}: not empty and no run folder (no suite.yaml). Give another folder with --out."
                )
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}). "
                "Choose a writable folder with --out."
            ) from None
        self._refuse_damage()
        self._write_text(saved, yaml.safe_dump(self._saved(suite), sort_keys=False))

    def _saved(self, suite: Suite) -> dict[str, Any]:
        """A suite as ``suite.yaml`` has it; what its own file had relative to itself is relative to that one."""
        return written_beside(suite.resolved(), suite.relative, self.path)

    def _refuse_damage(self) -> None:
        """Small files are read before anything is written, so that a damaged folder stays as it is."""
        for name in (*RESULT_FOLDERS, "report"):
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise StoreError(
                    f"{self.path / name}: no folder. Remove the file, or choose another folder with --out."
                )
        for path in sorted((self.path / "facts").glob("*.json")):
            self.read_fact(path.stem)
        for path in sorted((self.path / "probes").glob("*.json")):
            self.read_probe(path.stem)
        for path in sorted((self.path / "examples").glob("*/*/samples.json")):
            self.examples_kept(path.parts[-3], int(path.parts[-2]))
        for path in sorted((self.path / "fits").glob("*.safetensors")):
            self.read_fit(path.stem)
        for path in sorted((self.path / "provenance").glob("*.json")):
            self.read_provenance(path.stem)
        for path in sorted((self.path / "pixels").glob("*.json")):
            self.read_pixels(path.stem)
        list(self._noted_failures())

    def _saved_name(self, saved: Path) -> str:
        try:
            value = yaml.safe_load(saved.read_text(encoding="utf-8"))
            return str(value["name"])
        except (yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
            raise StoreError(f"{saved}: damaged. Give another folder with --out, or remove this one.") from None

    def slices(self, cell: str) -> frozenset[int]:
        """Slices of a cell that have records."""
        try:
            names = [path.name for path in (self.path / "records" / cell).iterdir()]
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path}: cannot be read as a folder of records ({error.strerror}). "
                "Remove it, or choose another run folder with --out."
            ) from None
        return frozenset(int(n.removesuffix(".parquet")) for n in names if re.fullmatch(r"\d+\.parquet", n))

    def write_records(self, cell: str, index: int, columns: Mapping[str, list[Any]]) -> None:
        """Store the records of one cell and slice, and forget that they ever failed."""
        buffer = io.BytesIO()
        # Small files: dictionaries and statistics would cost more time and space than they save.
        pq.write_table(_table(columns), buffer, use_dictionary=False, write_statistics=False)
        self._write(self.path / "records" / cell / f"{index:05d}.parquet", buffer.getvalue())
        self.forget_failure(cell, index)

    def read_records(self, cell: str, index: int) -> pa.Table:
        """The records of one cell and slice.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "records" / cell / f"{index:05d}.parquet"
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{path}: damaged records ({error}). Remove the file and run again.") from None
        for name, kind in _TYPES.items():
            if name in _OPTIONAL and name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), kind))
            if name not in table.column_names or table.schema.field(name).type != kind:
                raise StoreError(
                    f"{path}: damaged records (no column '{name}' of {kind}). Remove the file and run again."
                )
        return table

    def write_failure(self, failure: FailureRecord) -> None:
        """Note that a cell and slice failed; the next run tries it again."""
        self._write_text(self._failure(failure.cell, failure.slice), json.dumps(asdict(failure), indent=1))

    def forget_failure(self, cell: str, index: int) -> None:
        """What failed before has been done since."""
        self._failure(cell, index).unlink(missing_ok=True)

    def failures(self) -> Iterator[FailureRecord]:
        """Every noted failure of something that has not been done since.

        Raises:
            UserError: A note is damaged.
        """
        for failure in self._noted_failures():
            done = (
                failure.slice in self.slices(failure.cell)
                or self.has_fact(failure.cell)
                or self.has_fit(failure.cell)
                or self.has_probe(failure.cell)
            )
            if not done:
                yield failure

    def _noted_failures(self) -> Iterator[FailureRecord]:
        kinds = {"cell": str, "slice": int, "sample": str, "message": str, "bad_input": bool}
        for path in sorted((self.path / "failures").glob("*.json")):
            try:
                value = _json(path)
            except FileNotFoundError:  # another shard has just done what failed
                continue
            if not isinstance(value, dict) or value.keys() != kinds.keys():
                raise _damaged(path, f"no mapping with the keys {', '.join(kinds)}")
            for key, kind in kinds.items():
                if not isinstance(value[key], kind):
                    raise _damaged(path, f"'{key}' is {value[key]!r}")
            yield FailureRecord(**value)

    def has_fact(self, fact: str) -> bool:
        """Whether a fact is known."""
        return (self.path / "facts" / f"{fact}.json").is_file()

    def write_fact(self, fact: str, value: Mapping[str, Any]) -> None:
        """Store a fact."""
        self._write_text(self.path / "facts" / f"{fact}.json", json.dumps(value, indent=1))

    def read_fact(self, fact: str) -> dict[str, Any]:
        """A stored fact.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "facts" / f"{fact}.json"
        value = _json(path)
        return dict(_whole(path, value, page_checks.fact(value)))

    def has_probe(self, probe: str) -> bool:
        """Whether a metric has been probed."""
        return (self.path / "probes" / f"{probe}.json").is_file()

    def write_probe(self, probe: str, value: Mapping[str, Any]) -> None:
        """Store what the probes of a metric found."""
        self._write_text(self.path / "probes" / f"{probe}.json", json.dumps(value, indent=1))

    def read_probe(self, probe: str) -> dict[str, Any]:
        """What the probes of a metric found.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "probes" / f"{probe}.json"
        value = _json(path)
        return dict(_whole(path, value, page_checks.probe(value)))

    def write_examples(self, cell: str, label: str, index: int, count: int, examples: Sequence[Example]) -> None:
        """Store the attacked images of one cell and slice, and that it was asked for those of so many samples."""
        folder = self.path / "examples" / cell / f"{index:05d}"
        self._write_text(folder.parent / "cell.txt", f"{label}\n")
        for example in examples:
            for name, content in example.files().items():
                self._write(folder / example.name / name, content)
        self._write_text(folder / "samples.json", json.dumps({"samples": count}))

    def examples_kept(self, cell: str, index: int) -> int:
        """Samples of one cell and slice whose attacked images are stored."""
        path = self.path / "examples" / cell / f"{index:05d}" / "samples.json"
        if not path.is_file():
            return 0
        value = _json(path)
        return int(_whole(path, value, page_checks.samples(value))["samples"])

    def example_folders(self, cell: str) -> list[Path]:
        """Folders of a cell's stored examples, in order."""
        return sorted(path.parent for path in (self.path / "examples" / cell).glob("*/*/scores.json"))

    def read_example(self, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
        """What is kept of an example: scores and name of its cell, its images, and the attacked one from its PNG.

        Raises:
            UserError: A file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / "scores.json"
        about = _json(path)
        _whole(path, about, page_checks.example(about))
        path = folder / FLOATS
        try:
            images: dict[str, Tensor] = load_file(path)
            _whole(path, images, misfit(images))
            path = folder / "attacked.png"
            rounded = read_png(path.read_bytes())
            _whole(path, rounded, "" if rounded.shape == images["attacked"].shape else "another size than the floats")
            return about, images, rounded
        except (SafetensorError, OSError) as error:
            raise _damaged(path, str(error)) from None

    def has_fit(self, fit: str) -> bool:
        """Whether a fit is stored."""
        return (self.path / "fits" / f"{fit}.safetensors").is_file()

    def write_fit(self, fit: str, tensors: Mapping[str, Tensor]) -> None:
        """Store what an attack learnt."""
        from safetensors.torch import save

        data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        self._write(self.path / "fits" / f"{fit}.safetensors", data)

    def read_fit(self, fit: str) -> dict[str, Tensor]:
        """What an attack learnt.

        Raises:
            UserError: The file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / "fits" / f"{fit}.safetensors"
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, str(error)) from None
        return tensors

    def write_provenance(self, name: str, value: Any) -> None:
        """Store one page of provenance."""
        self._write_text(self.path / "provenance" / f"{name}.json", json.dumps(value, indent=1, default=str))

    def add_provenance(self, name: str, values: Sequence[Any]) -> None:
        """Add to a page that is a list; what stands there already is not repeated."""
        self.change_provenance(name, lambda known: [*known, *(value for value in values if value not in known)])

    def change_provenance(self, name: str, change: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Change a page that is a list; several processes may do so at the same time."""
        path = self.path / "provenance" / f"{name}.json"
        try:
            with locked(path):
                known = self.read_provenance(name)
                changed = change(known)
                if list(changed) != known or not path.is_file():
                    self.write_provenance(name, changed)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def older_protocol(self) -> str:
        """Version of robustiqa and protocol of which all records are, where that is not today's; else empty."""
        pages = [page for page in self.read_provenance("versions") if "protocol" in page]
        if not pages or any(page["protocol"] == str(PROTOCOL) for page in pages):
            return ""
        return f"{pages[-1].get('robustiqa', '')} (protocol {pages[-1]['protocol']})".strip()

    def read_provenance(self, name: str) -> list[Any]:
        """A page that is a list; empty where there is none.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "provenance" / f"{name}.json"
        if not path.is_file():
            return []
        page = _json(path)
        kind, words = (str, "texts") if name == "notices" else (dict, "mappings")
        if not isinstance(page, list) or not all(isinstance(value, kind) for value in page):
            raise _damaged(path, f"no list of {words}")
        wrong = [reason for value in page if name == "costs" and (reason := page_checks.cost(value))]
        return list(_whole(path, page, wrong[0] if wrong else ""))

    def read_pixels(self, key: str) -> dict[str, FileSeen]:
        """What was recorded of the image files of a split; empty where nothing was.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / "pixels" / f"{key}.json"
        if not path.is_file():
            return {}
        page = _json(path)
        rows = page.get("files") if isinstance(page, dict) else None
        fields = len(FileSeen._fields)
        if not isinstance(rows, dict) or not all(isinstance(row, list) and len(row) == fields for row in rows.values()):
            raise _damaged(path, "no list of files")
        return {name: FileSeen(*map(str, row)) for name, row in rows.items()}

    def record_pixels(self, images: Images, recorded: PixelLedger) -> None:
        """Add what image files hold now to what was recorded; several processes may do so at the same time."""
        path = self.path / "pixels" / f"{images.key}.json"
        try:
            with locked(path):
                stored = self.read_pixels(images.key)
                changed = merged_ledgers(stored, recorded)
                if changed != stored:
                    self._write_text(path, ledger_text(images.label, changed))
        except OSError as error:
            raise self._unwritable(path, error) from error

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def stamps(self) -> list[str]:
        """Name, size and time of every stored result: what a report depends on."""
        found, above = [], len(str(self.path)) + 1
        for part in ("records", "facts", "probes", "failures", "provenance"):
            for folder, _, names in os.walk(self.path / part):
                for name in names:
                    if not name.startswith("."):
                        about = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 (10,000 files: half the time)
                        found.append(f"{folder[above:]}/{name} {about.st_size} {about.st_mtime_ns}")
        return sorted(found)

    def report_made_from(self) -> str:
        """What `note_report` was told when the report was made; empty where there is none."""
        path = self.report / _MADE_FROM
        if not path.is_file():
            return ""
        state, *files = path.read_text(encoding="utf-8").splitlines()
        return state if all((self.report / name).is_file() for name in files) else ""

    def note_report(self, state: str) -> None:
        """Note what the report was made from, and the files that it consists of."""
        files = sorted(str(p.relative_to(self.report)) for p in self.report.rglob("*") if p.is_file())
        self._write_text(self.report / _MADE_FROM, "\n".join([state, *(f for f in files if f != _MADE_FROM)]))

    def write_plan(self, suite: Suite, planned: str) -> StoredText:
        """Store what a run planned, as one line of JSON; it is that of this suite and of no other.

        Returns:
            What `read_plan` gives.
        """
        digest = _sha256(planned)
        head = {"schema": _PLAN_SCHEMA, "suite": _suite_digest(self._saved(suite)), "sha256": digest}
        text = f"{json.dumps(head)[:-1]}, {_PLANNED}\n{planned}\n}}\n"
        path = self.path / _PLAN
        if not path.is_file() or path.read_bytes() != text.encode():
            self._write_text(path, text)
        return StoredText(planned, digest)

    def has_plan(self) -> bool:
        """Whether a run stored what it planned; those of older versions did not."""
        return (self.path / _PLAN).is_file()

    def read_plan(self) -> StoredText | None:
        """What the last run planned; None where that is not stored, or ``suite.yaml`` was changed since.

        Raises:
            UserError: The file, or ``suite.yaml``, is damaged.
        """
        path = self.path / _PLAN
        try:
            head, _, rest = path.read_text(encoding="utf-8").partition("\n")
            about = json.loads(head.removesuffix(f", {_PLANNED}") + "}")
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise _damaged(path, str(error)) from None
        if not isinstance(about, dict) or about.get("schema") != _PLAN_SCHEMA:
            return None
        planned = rest.removesuffix("\n}\n")
        if about.get("sha256") != _sha256(planned):
            raise _damaged(path, "its sha256 is another")
        saved = self.path / "suite.yaml"
        try:
            suite = yaml.load(saved.read_bytes(), Loader=_YAML_LOADER)
        except (yaml.YAMLError, ValueError, RecursionError, OSError):
            return None  # who reads it for itself says what is wrong with it
        return StoredText(planned, about["sha256"]) if about.get("suite") == _suite_digest(suite) else None

    def _failure(self, cell: str, index: int) -> Path:
        return self.path / "failures" / f"{cell}-{index:05d}.json"

    def _write_text(self, path: Path, text: str) -> None:
        self._write(path, text.encode())

    def _write(self, path: Path, content: bytes) -> None:
        self._before_writing()
        try:
            write_whole(path, content)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: Path, error: OSError) -> StoreError:
        temporary = str(error.filename or "").endswith(".tmp")  # a name that nobody knows
        place = path if temporary else error.filename or path
        return StoreError(
            f"{place}: cannot be written ({error.strerror or error}). What was finished is kept; "
            "make room or choose another folder with --out, and run the same command again."
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _suite_digest(suite: Any) -> str:
    """What tells the suite of a folder from others, however its file is laid out."""
    return _sha256(json.dumps(suite, sort_keys=True, default=str))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(path, str(error)) from None


def _whole(path: Path, value: Any, wrong: str) -> Any:
    """The value of a file, if nothing is wrong with it."""
    if wrong:
        raise _damaged(path, wrong)
    return value


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path}: damaged ({reason}). Remove the file and run the suite again.")


def _table(columns: Mapping[str, list[Any]]) -> pa.Table:
    """Columns of fixed types in a fixed order, then the attack's notes sorted by name."""
    arrays = {name: pa.array(columns[name], type=_TYPES[name]) for name in NAMES}
    notes = {name: pa.array(columns[name]) for name in sorted(set(columns) - set(NAMES))}
    return pa.table({**arrays, **notes})
