"""Data sets: `data verify`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, Sets, console, print_json, registry_of
from harness.errors import UserError
from harness.files import shown

if TYPE_CHECKING:
    from harness.suite.pixels import Images


@verb("Upkeep", 3)
def _data() -> None:
    """Verify the image files of data sets."""


@_data.below("verify")
def _verify(
    what: Annotated[str, typer.Argument(help="A suite file, or the name of a data set.", metavar="SUITE|DATASET")],
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> of a suite.")] = None,
    sets: Sets = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Read every image file and compare it with what a run folder recorded; exit code 1 if one was changed.

    Prints a hash over all contents of each split, which is the same wherever a set lies unchanged. Of a data set alone,
    `--set` gives parameters, as in `--set root=~/tid2013`, and `--set split=all` the split.
    Example: robustiqa data verify suites/quickstart.yaml
    """
    rows = [_compared(images) for images in _images(what, out, sets or [], plugin)]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            console().print(_text(row), soft_wrap=True, markup=False)
    changed = [file for row in rows for file in row["changed"]]
    for file in changed:
        print(f"failed: {file} is not what the run folder recorded.", file=sys.stderr)
    if changed:
        cure = "Restore the files; or `touch` them and run the suite again, which then computes anew what they decide."
        print(cure, file=sys.stderr)
        raise typer.Exit(1)


def _images(what: str, out: Path | None, sets: list[str], plugin: list[Path] | None) -> Iterator[Images]:
    """The splits of a suite, or of a data set."""
    from harness.engine.run_folder import RunFolder
    from harness.files import RUNS
    from harness.suite.compose import Overrides
    from harness.suite.planning import images_for
    from harness.suite.resolve import dataset_from_options, load_suite

    registry = registry_of(plugin)
    if Path(what).is_file():
        suite = load_suite(Path(what), registry, Overrides(tuple(sets)))
        uses, folder = suite.datasets, out or RUNS / suite.name
    elif registry.knows("datasets", what):
        uses, folder = (dataset_from_options(what, sets, registry),), out or Path()
    else:
        names = ", ".join(registry.names("datasets"))
        raise UserError(f"data verify {what}: no such file, and no data set. Give a suite file, or one of {names}.")
    store = RunFolder(folder)
    if out is not None and not (store.path / "suite.yaml").is_file():
        raise UserError(f"{store.path}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote.")
    ledgers = store.read_pixels if (store.path / "suite.yaml").is_file() else lambda key: {}
    for use in uses:
        dataset = registry.dataset(use.name).build(use.parameters)
        yield from images_for(use, dataset, ledgers, every=True).values()


def _compared(images: Images) -> dict[str, Any]:
    """What became of each file of a split since it was recorded."""
    from harness.suite.identity import identity
    from harness.suite.pixels import GONE

    found = {name: images.read(name) for name in sorted(images.paths)}
    known = {name: images.ledger[name].last for name in found if name in images.ledger}
    return {
        "split": images.label,
        "files": len(found),
        "recorded": len(known),
        "changed": [shown(images.paths[name]) for name, content in known.items() if found[name].last != content],
        "missing": [shown(images.paths[name]) for name, seen in found.items() if seen.last == GONE],
        "contents": identity("pixels", {"all": [[name, seen.last] for name, seen in found.items()]}) if found else "",
    }


def _text(row: dict[str, Any]) -> str:
    """'tid2013 all: 44 files, contents 0123456789abcdef; 44 recorded, 1 changed.'."""
    if not row["files"]:
        return f"{row['split']}: no image files to read: they are made, or the data set does not say which they are."
    same = f"{row['recorded']} recorded, {len(row['changed'])} changed" if row["recorded"] else "none recorded"
    missing = f", {len(row['missing'])} missing" if row["missing"] else ""
    return f"{row['split']}: {row['files']} files, contents {row['contents']}; {same}{missing}."
