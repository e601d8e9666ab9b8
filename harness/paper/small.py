"""Every table and figure in small: suites that need no download, trainings of a few steps, one page of all."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.engine.progress import Progress
from harness.errors import UserError
from harness.files import write_whole
from harness.flow import Options, RunResult, run_suite
from harness.paper.items import Item, folder_of_suites, recipe_path
from harness.plugins.registry import Registry
from harness.report.layouts.arrange import arrange
from harness.report.layouts.cells import cells_of
from harness.report.layouts.files import statistics_of, write_grids
from harness.report.layouts.forms import write
from harness.suite.layout_file import read_layouts
from harness.suite.resolve import load_suite

PAGE = "index.html"


@dataclass(frozen=True)
class Made:
    """What became of an item.

    Attributes:
        item: The table or figure.
        table: It as HTML; empty for a figure.
        pictures: The PNG files of a figure.
        protocol: What a picture was made from, in one line; a table says it itself.
        failed: Why it could not be made; empty where it was.
    """

    item: Item
    table: str = ""
    pictures: tuple[Path, ...] = ()
    protocol: str = ""
    failed: str = ""


def make_small(
    items: Sequence[Item], out: Path, registry: Registry, progress: Progress, say: Callable[[str], None]
) -> list[Made]:
    """Make the mini form of items; what is done already is not done again, and one that fails does not stop the others.

    Args:
        items: The tables and figures.
        out: Folder of the page; run folders lie in ``runs`` below it.
        registry: Where plugins come from.
        progress: Shows how far each run is.
        say: Is told what is being made.
    """
    found = []
    for item in items:
        say(f"{item.name}: {item.title}")
        try:
            made = _make(item, out, registry, progress)
        except (UserError, ValueError, OSError, RuntimeError) as error:
            made = Made(item, failed=str(error) or type(error).__name__)
            say(f"{item.name}: {made.failed}")
        found.append(made)
    return found


def _make(item: Item, out: Path, registry: Registry, progress: Progress) -> Made:
    trainings = [_trained(name, out / "runs") for name in item.mini_recipes]
    if item.kind == "figure5":
        return _figure5(item, trainings, out)
    suite = load_suite(folder_of_suites() / "paper" / "mini" / f"{item.name}.yaml", registry)
    result = run_suite(suite, registry, Options(out / "runs" / suite.name, probe=False), progress)
    if result.failures:
        raise UserError(f"{result.failures[0].message}; see {result.folder.report / 'index.html'}.")
    return _laid_out(item, result, out) if item.kind == "layout" else _figure6(item, result, out)


def _trained(name: str, runs: Path) -> Path:
    """The run folder of a training, which is run where its weights are not there."""
    from harness.training.output import weight_path
    from harness.training.recipe_file import read_recipe
    from harness.training.train import train

    path = recipe_path(name)
    file = read_recipe(path)
    folder = runs / f"train-{file.name}"
    if not (weight_path(file.output).is_file() and (folder / "summary.json").is_file()):
        train(path, folder)
    return folder


def _laid_out(item: Item, result: RunResult, out: Path) -> Made:
    specs = read_layouts(folder_of_suites() / "paper" / "mini" / "layouts" / f"{item.name}.yaml")
    cells = cells_of(result.data, str(result.folder.path), statistics_of(specs))
    grids = [arrange(spec, cells) for spec in specs]
    write_grids(grids, out)
    return Made(item, table="\n".join(write(grid, "html") for grid in grids))


def _figure5(item: Item, trainings: Sequence[Path], out: Path) -> Made:
    from harness.training.curve_figures import draw_curves
    from harness.training.curves import read_curves

    curves = read_curves(list(trainings))
    drawn = draw_curves(curves, out / item.name)
    kept = tuple(path for path in drawn if path.suffix == ".png" and "figure_5" in path.name)
    names = ", ".join(folder.name for folder in trainings)
    return Made(item, pictures=kept, protocol=f"Step log of {names}; Theorem 1 is checked on every batch.")


def _figure6(item: Item, result: RunResult, out: Path) -> Made:
    raise UserError(f"{item.name}: not drawn yet; its run is {result.folder.path}.")


def write_page(made: Sequence[Made], out: Path) -> Path:
    """The page of all that were made, pictures within; needs no other file.

    Args:
        made: In the order of the page.
        out: Its folder.

    Raises:
        UserError: It cannot be written.
    """
    import jinja2

    source = resources.files("harness.paper").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pictures = {
        one.item.name: [base64.b64encode(path.read_bytes()).decode() for path in one.pictures] for one in made
    }
    page = environment.from_string(source).render(made=made, pictures=pictures)
    try:
        write_whole(out / PAGE, page.encode())
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror}). Give --out.") from error
    return out / PAGE


