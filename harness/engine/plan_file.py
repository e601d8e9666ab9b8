"""What the last run into a folder planned, as one file that belongs to one suite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from harness.engine import seal
from harness.engine.folder_files import FolderFiles, digest
from harness.files import PLAN, SUITE
from harness.suite.places import written_beside

if TYPE_CHECKING:
    from harness.suite.model import Suite

_SCHEMA = 1
_PLANNED = '"planned":'
"""Ends the first line of a stored plan, which says what the second is of."""


class StoredText(NamedTuple):
    """What a file of the run folder holds, and the sha256 of it."""

    text: str
    sha256: str


def plan_content(name: str, suite: str, planned: str) -> bytes:
    """The file `plan.json`, sealed.

    Args:
        name: Of the suite.
        suite: Its text, as ``suite.yaml`` has it without its seal.
        planned: What a run planned, as one line of JSON.
    """
    head = {"schema": _SCHEMA, "name": name, "suite": digest(suite.encode())}
    return seal.sealed_json(f"{json.dumps(head)[:-1]}, {_PLANNED}\n{planned}\n}}\n", PLAN)


class PlanFile(FolderFiles):
    """The file `plan.json` of a run folder."""

    def write_plan(self, suite: Suite, planned: str) -> StoredText:
        """Store what a run planned, as one line of JSON; it is that of this suite and of no other.

        Returns:
            What `read_plan` gives.
        """
        path = self.path / PLAN
        content = plan_content(suite.name, self._suite_text(suite), planned)
        if not path.is_file() or path.read_bytes() != content:
            self._write(path, content)
        return StoredText(planned, digest(planned.encode()))

    def has_plan(self) -> bool:
        """Whether a run stored what it planned; those of older versions did not."""
        return (self.path / PLAN).is_file()

    def read_plan(self) -> StoredText | None:
        """What the last run planned; None where that is not stored or damaged, or ``suite.yaml`` was changed since."""
        path = self.path / PLAN
        content = self.soundness.read(path)
        if content is None:
            return None
        try:
            head, planned, *_ = content.decode().split("\n")
            about = _head_read(head)
            schema, of_suite = about.get("schema"), about.get("suite")
        except (ValueError, AttributeError, RecursionError):
            self.soundness.note(path, "it is no plan")
            return None
        try:
            suite = seal.without_comment((self.path / SUITE).read_bytes().decode())
        except (UnicodeDecodeError, OSError):
            return None  # who reads it for itself says what is wrong with it
        if schema != _SCHEMA or of_suite != digest(suite.encode()):
            return None
        planned = planned.removesuffix(",")
        return StoredText(planned, digest(planned.encode()))

    def _plan_head(self) -> dict[str, Any]:
        """What the plan says of itself; nothing where there is none or it is damaged."""
        content = self.soundness.read(self.path / PLAN)
        try:
            return dict(_head_read((content or b"").decode().partition("\n")[0]))
        except (ValueError, TypeError, RecursionError):
            return {}

    def _suite_text(self, suite: Suite) -> str:
        """A suite as ``suite.yaml`` has it; what its own file had relative to itself is relative to that one."""
        return yaml.safe_dump(written_beside(suite.resolved(), suite.relative, self.path), sort_keys=False)


def _head_read(line: str) -> Any:
    """What the first line of a stored plan says."""
    return json.loads(line.removesuffix(f", {_PLANNED}") + "}")
