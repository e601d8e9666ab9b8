"""What a report was made from, and whether its files are those that were written then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.engine import seal
from harness.engine.folder_files import FolderFiles
from harness.engine.soundness import DAMAGED, damage_text
from harness.engine.stamp import NOTE
from harness.files import sha256_of

MADE_FROM = "made-from.txt"
"""In the folder of a report: what it was made from, and its files with the sha256 of each."""


class ReportNote(FolderFiles):
    """The folder `report` of a run folder."""

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def report_made_from(self) -> str:
        """What `note_report` was told when the report was made; empty where a file of it is missing or damaged."""
        state, files = self.report_files()
        whole = all(self._has_report_file(name, sha256) for name, sha256 in files.items())
        return state if whole else ""

    def report_files(self) -> tuple[str, dict[str, str]]:
        """What the report was made from, and its files with the sha256 of each (empty: not known)."""
        content = self.soundness.read(self.report / MADE_FROM)
        try:
            state, *lines = seal.without_comment((content or b"").decode()).splitlines() or [""]
        except UnicodeDecodeError:
            return "", {}
        pairs = [line.rpartition("\t") for line in lines]
        return state, {name or sha256: sha256 if name else "" for name, _, sha256 in pairs}

    def _has_report_file(self, name: str, sha256: str) -> bool:
        path = self.report / name
        try:
            return path.is_file() if not sha256 else sha256_of(path) == sha256
        except OSError:
            return False

    def note_report(self, state: str) -> None:
        """Note what the report was made from, and the files that it consists of."""
        files = sorted(p for p in self.report.rglob("*") if p.is_file() and p.name not in (MADE_FROM, NOTE))
        lines = [f"{path.relative_to(self.report)}\t{sha256_of(path)}" for path in files]
        path = self.report / MADE_FROM
        self._write(path, seal.sealed_text("\n".join([state, *lines]), self.soundness.name(path)))
        self.soundness.keep()

    def notices(self, asked_for: Callable[[str], bool]) -> list[str]:
        """What a report has to say of the files that it was made from.

        Args:
            asked_for: Whether the suite needs a file, by its path within the folder.
        """
        lines = []
        if damage := damage_text({name: why for name, why in self.soundness.damaged().items() if asked_for(name)}):
            lines.append(f"{DAMAGED}: {damage}; nothing of it counts, and the next run computes it again.")
        if unsealed := len(self.soundness.unsealed()):
            lines.append(
                f"UNCHECKED: {unsealed} files of this run carry no seal, as an older version wrote them; "
                "'robustiqa check RUN --seal' looks at them and seals them."
            )
        return lines
