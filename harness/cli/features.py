"""Sets of features, each trained and timed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import (
    FigureForms,
    FigureSize,
    PluginFiles,
    check_device,
    console,
    refuse_file,
    say_what_is_executed,
    shipped_too,
)
from harness.cli.run import shard_named


@verb("Your own", 4)
def _features(
    file: Annotated[
        Path,
        typer.Argument(
            callback=shipped_too,
            help="A feature-set file, such as suites/paper/figure4_mini.yaml.",
            metavar="FILE",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where all of it stands; results/runs/NAME by default.", metavar="DIR")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which sets there are and which are done.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first n sets that are missing.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only every N-th set from the I-th on (0/4 ... 3/4), for job arrays."),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Time the sets too, with nothing else on the machine.")
    ] = True,
    device: Annotated[str, typer.Option(help="Where to train and to time: cpu, cuda, cuda:1.")] = "cpu",
    figures: FigureForms = None,
    size: FigureSize = "column",
    plugin: PluginFiles = None,
) -> None:
    """Train a metric once for each of many sets of features, time each, and draw Figure 4.

    What is done is not done again, and a killed training goes on. Leaves features.csv (a row per set: validation
    SROCC, FPS) and figure4.png. Examples: robustiqa features suites/paper/figure4_mini.yaml

    robustiqa features suites/paper/figure4.yaml --device cuda --shard 0/8 --no-speed
    """
    from harness.engine.drawing import figure_width, formats_named, save
    from harness.files import RUNS, csv_of, write_whole
    from harness.report.paper_figures import draw_figure4
    from harness.training.feature_sets import FeatureRuns, each_missing, read_feature_sets

    check_device(device)
    own = shard_named(shard)
    formats = formats_named(figures) if figures is not None else ("png",)
    figure_width(size)
    folder = out or RUNS / read_feature_sets(file).name
    say_what_is_executed(plugin)
    refuse_file(folder)
    runs = FeatureRuns(file, folder, device, plugin or ())
    say = console().print
    done = sum(runs.trained(one) is not None for one in runs.sets)
    say(f"{runs.file.name}: {len(runs.sets)} feature sets, {done} trained. Folder: {folder}", soft_wrap=True)
    if dry_run:
        for one in runs.sets:
            state = "trained" if runs.trained(one) is not None else ""
            say(f"  {one.kind:8}{one.label}{'  ' if state else ''}{state}", soft_wrap=True)
        return
    for one, what in each_missing(runs, own, speed=speed, limit=limit):
        say(f"  {what} {one.label}", soft_wrap=True)
    frame = runs.frame()
    write_whole(folder / "features.csv", csv_of(frame).encode())
    paths = [folder / "features.csv"]
    if len(frame.dropna(subset=["srocc", "fps"])):
        paths += save(draw_figure4(frame, "+".join(runs.file.chosen)), folder / "figure4", formats, size)
    say(f"{', '.join(map(str, paths))}", soft_wrap=True)
