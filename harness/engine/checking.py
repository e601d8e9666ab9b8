"""A whole run folder looked at, byte by byte, and sealed where an older version wrote it without seals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.done import record_misfit
from harness.engine.run_folder import Misfit, RunFolder
from harness.engine.stamp import NOTE
from harness.files import PLAN, RESULT_FOLDERS, SUITE
from harness.suite.plan import Plan


@dataclass(frozen=True)
class FolderChecked:
    """What was found in a run folder; names are paths within it."""

    whole: Sequence[str]
    """Files of the run in which nothing wrong is seen, with a seal or without."""
    sealed: int
    """Those whose seal and content fit."""
    unsealed: Sequence[str]
    """Files that carry no seal, and in which nothing wrong is seen."""
    damaged: Mapping[str, str]
    """File -> what is wrong with it."""
    strange: Sequence[str]
    """Files that no run writes."""

    @property
    def damaged_results(self) -> Mapping[str, str]:
        """As `damaged`, but for the report, which is made again of the rest."""
        return {name: why for name, why in self.damaged.items() if not name.startswith("report/")}


def check_folder(store: RunFolder, plan: Plan | None) -> FolderChecked:
    """Look at every file, whatever was found before, and note what was found.

    Args:
        store: The run folder.
        plan: Of its suite, which says what records without a seal have to hold; None where it cannot be made.
    """
    store.soundness.forget()
    misfits = _misfits(plan)
    files = list(_files(store.path))
    own = [path for path in files if store.inspect(path, misfits)]
    store.soundness.keep()
    damaged, unsealed = store.soundness.damaged(), store.soundness.unsealed()
    strange = [store.soundness.name(path) for path in files if path not in {*own, store.report / NOTE}]
    whole = [name for name in map(store.soundness.name, own) if name not in damaged]
    return FolderChecked(whole, len(own) - len(damaged.keys() | unsealed), unsealed, damaged, strange)


def seal_folder(store: RunFolder, plan: Plan, checked: FolderChecked) -> None:
    """Seal what carries no seal and has nothing wrong with it; a file without one is damaged from then on.

    Raises:
        UserError: The folder cannot be written.
    """
    misfits = _misfits(plan)
    for name in checked.unsealed:
        if name != SUITE:
            store.seal(store.path / name, misfits)
    store.seal_suite()


def _misfits(plan: Plan | None) -> Callable[[str], Misfit]:
    cells = {cell.id: cell for cell in plan.cells} if plan is not None else {}

    def of_cell(cell: str) -> Misfit:
        return record_misfit(plan, cells[cell]) if plan is not None and cell in cells else None

    return of_cell


def _files(folder: Path) -> Iterator[Path]:
    """Everything that a run keeps; names with a dot in front are locks and what a kill left of a write."""
    yield folder / SUITE
    if (folder / PLAN).is_file():
        yield folder / PLAN
    for part in (*RESULT_FOLDERS, "report"):
        for place, folders, names in os.walk(folder / part):
            folders.sort()
            yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))
