"""A run as one file to send."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import PluginFiles, console, registry_of, runs_here, writing
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.report.reading import RunResult

_READ_ME = """This is the run '{name}' of robustiqa {version}, which measures how robust image-quality metrics
are to adversarial attack.

report/index.html is its report: open it in any browser. Where robustiqa is installed, the file that you were sent opens
as it is, and so does the folder that it unpacks to; neither data nor weights nor plugins are needed:

    robustiqa report {name}.zip
    robustiqa check {name}.zip

Attacked images that the suite had kept are in it where it was bundled with --examples.
"""


@verb("Look", 8)
def _bundle(
    folder: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder.", metavar="RUN")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The file; the run folder's name with .zip if left out.", metavar="FILE.zip"),
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="With the attacked images that the suite had kept (save_examples).")
    ] = False,
    allow_paths: Annotated[
        bool, typer.Option("--allow-paths", help="Also where names of images are absolute paths of this machine.")
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Pack a run into one file that opens anywhere: suite, records, facts, probes, report; no path of this machine.

    The same run gives the same bytes. Example: robustiqa bundle results/runs/quickstart -o quickstart.zip
    """
    from harness.engine.bundle import SUFFIX_OF_BUNDLES
    from harness.engine.folder_files import again_if_gone
    from harness.report.reading import open_folder

    registry = registry_of(plugin)
    result = open_folder(folder, registry)
    target = out or Path(f"{result.folder.path.resolve().name}{SUFFIX_OF_BUNDLES}")
    if target.suffix != SUFFIX_OF_BUNDLES or target.is_dir():
        raise UserError(f"-o {target}: a bundle is a file that ends in {SUFFIX_OF_BUNDLES}. Choose such a name.")
    try:
        count = again_if_gone(lambda: _packed(result, target, examples=examples, allow_paths=allow_paths), times=3)
    except FileNotFoundError as error:
        raise UserError(
            f"{result.folder.path}: files of it come and go ({error.filename}). Bundle it when the run has ended."
        ) from error
    state = "" if result.finished else " The run is not finished, or cells of it failed; its report says so."
    size = f"{target.stat().st_size / 1e6:.1f} MB"
    console().print(f"{target}: {count} files, {size}. robustiqa report {target} opens it.{state}", soft_wrap=True)


def _packed(result: RunResult, target: Path, *, examples: bool, allow_paths: bool) -> int:
    """Look at a run, copy, report and pack it; returns the number of files."""
    files = _whole_files(result)
    with tempfile.TemporaryDirectory(prefix="robustiqa-") as place:
        return _pack(result, files, Path(place), target, examples=examples, allow_paths=allow_paths)


def _whole_files(result: RunResult) -> list[str]:
    """The files of a run, but for its report, which is made anew.

    Raises:
        UserError: One is damaged.
    """
    from harness.engine.checking import check_folder
    from harness.engine.gallery_store import GALLERY, POOL

    store = result.folder
    checked = check_folder(store, result.plan)
    if damaged := checked.damaged_results:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        first, why = next(iter(damaged.items()))
        raise UserError(
            f"{store.path}: {first}{more} damaged ({why}). Run the suite again, which "
            f"makes it anew; 'robustiqa check {store.path}' says more."
        )
    return [name for name in checked.whole if not name.startswith(("report/", f"{GALLERY}/{POOL}/"))]


def _pack(result: RunResult, files: list[str], place: Path, target: Path, *, examples: bool, allow_paths: bool) -> int:
    """Copy, report and pack a run; returns the number of files."""
    from harness.engine.bundle import README, pack
    from harness.engine.placeless import copy_without_places, refuse_places, settle_times
    from harness.engine.provenance import own_version
    from harness.files import cache_dir, data_dir, write_whole
    from harness.report.reading import report_run
    from harness.report.render import file_name

    name = file_name(result.plan.suite.name)
    copy = place / name
    copy_without_places(result.folder, files, copy, examples=examples)
    report_run(copy, result.registry)
    write_whole(copy / README, _READ_ME.format(name=name, version=own_version()).encode())
    settle_times(copy)
    packed = _packed_files(copy)
    if not allow_paths:
        known = [result.folder.path.resolve(), Path.cwd(), Path("~").expanduser(), place, cache_dir(), data_dir()]
        refuse_places(copy, packed, known)
    with writing(target):
        pack(copy, name, target, packed)
    return len(packed)


def _packed_files(copy: Path) -> list[str]:
    """Everything but locks and notes on this machine's files."""
    from harness.engine.stamp import NOTE

    names = [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]
    own = {f"report/{NOTE}"}
    return [name for name in names if name not in own and not any(part[0] == "." for part in name.split("/"))]
