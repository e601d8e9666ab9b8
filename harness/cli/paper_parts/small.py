"""Every table and figure in small: suites that need no download, trainings of a few steps, one page of all."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from harness.cli.fps import protocol_words, speeds_of, write_speeds
from harness.cli.paper_parts.items import ITEMS, PaperItem, folder_of_suites, recipe_path
from harness.engine.drawing import FIGURE_FORMATS, save
from harness.engine.progress import Progress
from harness.engine.speed import SpeedProtocol
from harness.errors import UserError
from harness.files import csv_of, write_whole
from harness.flow import Options, RunResult, run_suite
from harness.plugins.registry import Registry
from harness.report.latex import latex
from harness.report.layout import Layout
from harness.report.layouts.arrange import arrange
from harness.report.layouts.cells import cells_of
from harness.report.layouts.files import statistics_of, write_grids
from harness.report.layouts.forms import write
from harness.report.paper_figures import draw_figure3, draw_figure4, draw_figure6, figure3_frame, figure6_frame
from harness.report.paper_tables import DescribedFeature, datasets_table, features_table, parameters_table
from harness.report.table import Table
from harness.suite.resolve import load_suite
from harness.training.curve_figures import draw_curves
from harness.training.curves import read_curves
from harness.training.feature_sets import FeatureRuns, each_missing
from harness.training.recipe_file import read_recipe
from harness.training.settings import settings_of
from harness.training.train import train
from harness.wording import MISSING, html_environment

PAGE = "index.html"
_SPEED = SpeedProtocol(384, 384, forwards=3, warmup=1, threads=1)
_TABLE_10 = {"clean": "paper/birqa_kadid10k.yaml", "aat": "defenses/birqa_aat.yaml"}
"""Part of Table 10 -> the recipe file that has its settings."""
_PRINTED = {"differs": "where the paper differs"}
_SHOWN: Mapping[str, Mapping[str, str]] = {
    "datasets": {
        **{"dataset": "data set", "resolution": "resolution", "references": "references", "images": "images"},
        **{"ratings": "ratings", **_PRINTED},
    },
    "features": {
        **{"feature": "feature", "key": "key", "description": "in the paper's words", "here": "here"},
        **{"maps": "maps", **_PRINTED},
    },
    "parameters": {"part": "training", "parameter": "parameter", "printed": "printed", "here": "here", **_PRINTED},
}
"""Kind of a table of words -> column -> its head; the CSV has every column."""


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

    item: PaperItem
    table: str = ""
    pictures: tuple[Path, ...] = ()
    protocol: str = ""
    failed: str = ""


def make_small(
    items: Sequence[PaperItem], out: Path, registry: Registry, progress: Progress, say: Callable[[str], None]
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


def _make(item: PaperItem, out: Path, registry: Registry, progress: Progress) -> Made:
    trainings = [_trained(name, out / "runs") for name in item.mini_recipes]
    if item.kind == "figure5":
        return _figure5(item, trainings, out)
    if item.kind == "figure4":
        return _figure4(item, out)
    if item.kind in ("datasets", "features", "parameters"):
        return _plain(item, out, registry)
    suite = load_suite(folder_of_suites() / "paper" / "mini" / f"{item.name}.yaml", registry)
    result = run_suite(suite, registry, Options(out / "runs" / suite.name, probe=False), progress)
    if result.failures:
        raise UserError(f"{result.failures[0].message.removesuffix('.')}; see {result.folder.report / 'index.html'}.")
    if item.kind == "layout":
        return _laid_out(item, result, out)
    return _figure3(item, result, out, registry) if item.kind == "figure3" else _figure6(item, result, out)


def _plain(item: PaperItem, out: Path, registry: Registry) -> Made:
    """Tables 1, 5 and 10, which are made of what is here and need no run."""
    printed = folder_of_suites() / "paper" / "published"
    if item.kind == "datasets":
        frame = datasets_table(printed / "table1_datasets.csv", registry)
    elif item.kind == "features":
        frame = features_table(printed / "table5_features.csv", _features())
    else:
        settings = {part: settings_of(read_recipe(recipe_path(name)), registry) for part, name in _TABLE_10.items()}
        frame = parameters_table(printed / "table10_parameters.csv", settings)
    write_whole(out / f"{item.name}.csv", csv_of(frame).encode())
    shown = _SHOWN[item.kind]
    table = frame.loc[:, list(shown)].set_axis(list(shown.values()), axis=1)
    write_whole(out / f"{item.name}.tex", latex(_as_table(item, table)).encode())
    return Made(item, table=table.to_html(index=False, border=0, na_rep="", classes="words", justify="left"))


def _as_table(item: PaperItem, frame: pd.DataFrame) -> Table:
    """A frame of words as a table of the report."""
    words = frame.astype(object).where(frame.notna(), MISSING).astype(str)
    layout = Layout(tuple(words.columns), tuple(map(tuple, words.to_numpy())), len(words.columns))
    return Table(item.name, "", item.title.capitalize(), "", frame, layout, layout, "")


def _features() -> Mapping[str, DescribedFeature]:
    """The features of BiRQA, which is a plugin and no part of the harness."""
    found: Mapping[str, DescribedFeature] = importlib.import_module("metrics_zoo.birqa.features").FEATURES
    return found


def _trained(name: str, runs: Path) -> Path:
    """The run folder of a training; one that is finished by this very recipe trains no step."""
    path = recipe_path(name)
    return train(path, runs / f"train-{read_recipe(path).name}").run


def _laid_out(item: PaperItem, result: RunResult, out: Path) -> Made:
    specs = result.plan.suite.layouts
    cells = cells_of(result.data, str(result.folder.path), statistics_of(specs))
    grids = [arrange(spec, cells) for spec in specs]
    write_grids(grids, out)
    return Made(item, table="\n".join(write(grid, "html") for grid in grids))


def _figure5(item: PaperItem, trainings: Sequence[Path], out: Path) -> Made:
    curves = read_curves(list(trainings))
    drawn = draw_curves(curves, out / item.name)
    kept = tuple(path for path in drawn if path.name.startswith("figure5"))
    names = ", ".join(folder.name for folder in trainings)
    return Made(item, pictures=kept, protocol=f"Step log of {names}; Theorem 1 is checked on every batch.")


def _figure3(item: PaperItem, result: RunResult, out: Path, registry: Registry) -> Made:
    stored = out / "fps.csv"
    names = [metric.name for metric in result.plan.suite.metrics]
    if not _timed(stored, names):  # times differ from one measurement to the next
        write_speeds(stored, *speeds_of(names, (), _SPEED, registry), _SPEED)
    frame = figure3_frame(pd.read_csv(stored), _frame(result, "agreement"))
    pictures = save(draw_figure3(frame), out / item.name, FIGURE_FORMATS, "column")
    return Made(item, pictures=tuple(pictures), protocol=_protocol(result, "agreement"))


def _timed(stored: Path, names: Sequence[str]) -> bool:
    """Whether these metrics were timed by this very protocol."""
    try:
        page = json.loads(stored.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (
        stored.is_file()
        and page["protocol"] == protocol_words(_SPEED)
        and [row["metric"] for row in page["rows"]] == names
    )


def _figure4(item: PaperItem, out: Path) -> Made:
    runs = FeatureRuns(folder_of_suites() / "paper" / "figure4_mini.yaml", out / "runs" / "figure4_mini", "cpu", ())
    for _ in each_missing(runs, (0, 1), speed=True, limit=None):
        pass
    frame = runs.frame()
    write_whole(out / "features.csv", csv_of(frame).encode())
    figure = draw_figure4(frame, "+".join(runs.file.chosen))
    return Made(item, pictures=tuple(save(figure, out / item.name, FIGURE_FORMATS, "column")))


def _figure6(item: PaperItem, result: RunResult, out: Path) -> Made:
    pictures = save(draw_figure6(figure6_frame(_frame(result, "srocc"))), out / item.name, FIGURE_FORMATS, "column")
    return Made(item, pictures=tuple(pictures), protocol=_protocol(result, "srocc"))


def _frame(result: RunResult, table: str) -> pd.DataFrame:
    """The figures of a run's table, all data sets one under the other."""
    return pd.concat([one.frame for one in result.tables if one.name == table], ignore_index=True)


def _protocol(result: RunResult, table: str) -> str:
    return next(one.protocol for one in result.tables if one.name == table)


def write_page(made: Sequence[Made], out: Path) -> Path:
    """The page of all that were made, now or by an earlier call, pictures within; needs no other file.

    Args:
        made: What this call made.
        out: Folder of the page; what it holds of each item is kept in ``parts`` below it.

    Raises:
        UserError: It cannot be written.
    """
    environment = html_environment()
    source = resources.files("harness.cli.paper_parts")
    texts = (source.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "part.html"))
    page, part = map(environment.from_string, texts)
    try:
        for one in made:
            png = [path.read_bytes() for path in one.pictures if path.suffix == ".png"]
            text = part.render(one=one, pictures=[base64.b64encode(picture).decode() for picture in png])
            write_whole(out / "parts" / f"{one.item.name}.html", text.encode())
        there = {item: out / "parts" / f"{item.name}.html" for item in ITEMS}
        parts = {item: path.read_text(encoding="utf-8") for item, path in there.items() if path.is_file()}
        write_whole(out / PAGE, page.render(parts=parts).encode())
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror}). Give --out.") from error
    return out / PAGE
