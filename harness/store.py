"""The run folder: the state of a run, and the only module that reads or writes it.

Every file is written to a temporary name, fsynced and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from harness.errors import UserError
from harness.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from harness.suite import Suite

_TEXT = ("item", "sample", "patch", "reference", "group", "attack", "norm", "source", "scorer", "status")
_REAL = (
    "level",
    "opinion",
    "judge",
    "eps",
    "clean",
    "pristine",
    "attacked",
    "attacked_8bit",
    "linf",
    "l2",
    "seconds",
)
_WHOLE = ("sign", "draw", "forwards", "backwards", "queries", "batch")
COLUMNS = (
    *("item", "sample", "patch", "reference", "group", "level", "opinion", "judge", "sign", "attack", "norm", "eps"),
    *("source", "scorer", "draw", "clean", "pristine", "attacked", "attacked_8bit", "linf", "l2"),
    *("forwards", "backwards", "queries", "seconds", "batch", "status"),
)
"""Columns of a record, one row per item and draw; an attack's notes follow them."""


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


class RunFolder:
    """A run folder.

    Args:
        path: The folder; created by `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, suite: Suite) -> None:
        """Create or resume the folder for a suite.

        Raises:
            UserError: It belongs to a suite of another name, or cannot be written.
        """
        saved = self.path / "suite.yaml"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if saved.exists():
                name = self._saved_name(saved)
                if name != suite.name:
                    raise StoreError(
                        f"{self.path}: the run folder of another suite ('{name}', not '{suite.name}'). "
                        "Give another folder with --out, or rename the suite."
                    )
            elif any(not path.name.startswith(".suite.yaml.") for path in self.path.iterdir()):
                raise StoreError(
                    f"{self.path}: not empty and no run folder (no suite.yaml). Give another folder with --out."
                )
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}). "
                "Choose a writable folder with --out."
            ) from None
        self._write_text(saved, yaml.safe_dump(dict(suite.resolved()), sort_keys=False))

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
        return frozenset(int(n.removesuffix(".parquet")) for n in names if re.fullmatch(r"\d+\.parquet", n))

    def write_records(self, cell: str, index: int, columns: Mapping[str, list[Any]]) -> None:
        """Store the records of one cell and slice, and forget that they ever failed."""
        buffer = io.BytesIO()
        pq.write_table(_table(columns), buffer)
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
                return file.read()
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreError(f"{path}: damaged records ({error}). Remove the file and run again.") from None

    def write_failure(self, failure: FailureRecord) -> None:
        """Note that a cell and slice failed; the next run tries it again."""
        self._write_text(self._failure(failure.cell, failure.slice), json.dumps(asdict(failure), indent=1))

    def forget_failure(self, cell: str, index: int) -> None:
        """What failed before has been done since."""
        self._failure(cell, index).unlink(missing_ok=True)

    def failures(self) -> Iterator[FailureRecord]:
        """Every noted failure of something that has not been done since."""
        for path in sorted((self.path / "failures").glob("*.json")):
            failure = FailureRecord(**json.loads(path.read_text(encoding="utf-8")))
            done = (
                failure.slice in self.slices(failure.cell) or self.has_fact(failure.cell) or self.has_fit(failure.cell)
            )
            if not done:
                yield failure

    def has_fact(self, fact: str) -> bool:
        """Whether a fact is known."""
        return (self.path / "facts" / f"{fact}.json").is_file()

    def write_fact(self, fact: str, value: Mapping[str, Any]) -> None:
        """Store a fact."""
        self._write_text(self.path / "facts" / f"{fact}.json", json.dumps(value, indent=1))

    def read_fact(self, fact: str) -> dict[str, Any]:
        """A stored fact."""
        value: dict[str, Any] = json.loads((self.path / "facts" / f"{fact}.json").read_text(encoding="utf-8"))
        return value

    def has_fit(self, fit: str) -> bool:
        """Whether a fit is stored."""
        return (self.path / "fits" / f"{fit}.safetensors").is_file()

    def write_fit(self, fit: str, tensors: Mapping[str, Tensor]) -> None:
        """Store what an attack learnt."""
        from safetensors.torch import save

        data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        self._write(self.path / "fits" / f"{fit}.safetensors", data)

    def read_fit(self, fit: str) -> dict[str, Tensor]:
        """What an attack learnt."""
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(self.path / "fits" / f"{fit}.safetensors")
        return tensors

    def write_provenance(self, name: str, value: Any) -> None:
        """Store one page of provenance."""
        self._write_text(self.path / "provenance" / f"{name}.json", json.dumps(value, indent=1, default=str))

    def add_provenance(self, name: str, values: Sequence[Any]) -> None:
        """Add to a page that is a list; what stands there already is not repeated."""
        known = self.read_provenance(name)
        added = [value for value in values if value not in known]
        if added or not known:
            self.write_provenance(name, [*known, *added])

    def read_provenance(self, name: str) -> list[Any]:
        """A page that is a list; empty where there is none."""
        path = self.path / "provenance" / f"{name}.json"
        if not path.is_file():
            return []
        page: list[Any] = json.loads(path.read_text(encoding="utf-8"))
        return page

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def _failure(self, cell: str, index: int) -> Path:
        return self.path / "failures" / f"{cell}-{index:05d}.json"

    def _write_text(self, path: Path, text: str) -> None:
        self._write(path, text.encode())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            raise StoreError(
                f"{error.filename or path}: cannot be written ({error.strerror or error}). What was finished is kept; "
                "make room or choose another folder with --out, and run the same command again."
            ) from error


def _table(columns: Mapping[str, list[Any]]) -> pa.Table:
    """Columns of fixed types in a fixed order, then the attack's notes sorted by name."""
    types = {**dict.fromkeys(_TEXT, pa.string()), **dict.fromkeys(_REAL, pa.float64())}
    types.update(dict.fromkeys(_WHOLE, pa.int64()))
    arrays = {name: pa.array(columns[name], type=types[name]) for name in COLUMNS}
    notes = {name: pa.array(columns[name]) for name in sorted(set(columns) - set(COLUMNS))}
    return pa.table({**arrays, **notes})
