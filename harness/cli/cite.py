"""What to cite for a run or a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, registry_of, shipped_too
from harness.cli.output import report_stream
from harness.errors import UserError
from harness.files import run_named
from harness.wording import for_screen, tell

if TYPE_CHECKING:
    from harness.engine.run_folder import RunFolder
    from harness.plugins.registry import Registry
    from harness.suite.cited import Cited


@verb("Look", 6)
def _cite(
    path: Annotated[Path, typer.Argument(help="A run folder, or a suite file.", metavar="RUN|SUITE")],
    form: Annotated[Literal["bibtex", "text"], typer.Option(help="A BibTeX file, or text for people.")] = "bibtex",
    plugin: PluginFiles = None,
) -> None:
    """Print the references of robustiqa and of every metric, attack, defense and data set that a run used.

    Example: robustiqa cite results/runs/quickstart > quickstart.bib
    """
    from harness.engine.bundle import SUFFIX_OF_BUNDLES, run_folder_at
    from harness.engine.run_folder import RunFolder
    from harness.suite.cited import cited

    registry = registry_of(plugin)
    path = run_named(path)
    path = run_folder_at(path) if path.suffix == SUFFIX_OF_BUNDLES else path
    if not path.is_dir():
        path = shipped_too(path)
        found = cited(path, registry)
    else:
        if not (path / "suite.yaml").is_file():
            raise UserError(
                f"{path}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote, or a suite file."
            )
        found = _cited_in_run(RunFolder(path), registry, asked_again=bool(plugin))
    for gap in found.gaps():
        tell(f"note: {gap}")
    print(for_screen(found.bibtex() if form == "bibtex" else found.text()), end="", file=report_stream())


def _cited_in_run(store: RunFolder, registry: Registry, *, asked_again: bool) -> Cited:
    """What a run kept of what to cite; where it kept nothing, or plugins are given, they are asked now."""
    from harness.suite.cited import cited, cited_in

    calls = store.read_provenance("invocations")
    versions = list(
        dict.fromkeys(str(made["robustiqa"]) for call in calls if "robustiqa" in (made := call.get("versions", {})))
    )
    stored = None if asked_again else store.read_plan()
    kept = cited_in(store.read_provenance("cited"), stored.sha256, versions) if stored else None
    if kept is not None:
        return kept
    files = dict.fromkeys(str(file) for call in calls for file in call.get("plugins", ()))
    if files and not asked_again:
        given = " ".join(f"--plugin {file}" for file in files)
        tell(f"note: the run was made with {given}, whose references need them again.")
    weights = {str(sha256) for call in calls for sha256 in call.get("weights", {}).values()}
    return cited(store.path / "suite.yaml", registry, versions=versions, weights=weights)
