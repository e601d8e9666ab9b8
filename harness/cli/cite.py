"""What to cite for a run or a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, registry_of, tell
from harness.errors import UserError
from harness.wording import for_screen


@verb("Look", 6)
def _cite(
    path: Annotated[Path, typer.Argument(help="A run folder, or a suite file.", metavar="RUN|SUITE")],
    form: Annotated[Literal["bibtex", "text"], typer.Option(help="A BibTeX file, or text for people.")] = "bibtex",
    plugin: PluginFiles = None,
) -> None:
    """Print the references of robustiqa and of every metric, attack, defense and data set that a run used.

    Example: robustiqa cite results/runs/quickstart > quickstart.bib
    """
    from harness.engine.run_folder import RunFolder
    from harness.suite.cited import cited

    registry = registry_of(plugin)
    if not path.is_dir():
        found = cited(path, registry)
    else:
        if not (path / "suite.yaml").is_file():
            raise UserError(
                f"{path}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote, or a suite file."
            )
        calls = RunFolder(path).read_provenance("invocations")
        files = dict.fromkeys(str(file) for call in calls for file in call.get("plugins", ()))
        if files and not plugin:
            given = " ".join(f"--plugin {file}" for file in files)
            tell(f"note: the run was made with {given}, whose references need them again.")
        versions = dict.fromkeys(
            str(made["robustiqa"]) for call in calls if "robustiqa" in (made := call.get("versions", {}))
        )
        weights = {str(sha256) for call in calls for sha256 in call.get("weights", {}).values()}
        found = cited(path / "suite.yaml", registry, versions=list(versions), weights=weights)
    for gap in found.gaps():
        tell(f"note: {gap}")
    print(for_screen(found.bibtex() if form == "bibtex" else found.text()), end="")
