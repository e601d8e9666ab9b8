"""Frames per second of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.app import verb
from harness.cli.common import (
    AsJson,
    FigureForms,
    PluginFiles,
    check_device,
    console,
    print_json,
    registry_of,
    runs_here,
)
from harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from harness.engine.speed import SpeedProtocol
    from harness.plugins.registry import Registry

_MOST = 100_000


@verb("Look", 7)
def _fps(
    metrics: Annotated[list[str], typer.Argument(help="Names of metrics.", metavar="METRIC")],
    size: Annotated[str, typer.Option(help="Of the images, in pixels.", metavar="WxH")] = "1920x1080",
    forwards: Annotated[int, typer.Option(min=1, max=_MOST, help="Timed forwards, each on an image of its own.")] = 100,
    warmup: Annotated[int, typer.Option(min=0, max=_MOST, help="Forwards before them that do not count.")] = 10,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="bf16: by autocast.")] = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch on the CPU.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Take images of this data set, such as pdap_hdds, as large as they are.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A parameter of the metrics, such as stride=8; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The CSV; the JSON stands beside it.", metavar="FILE.csv")] = Path(
        "results/fps.csv"
    ),
    against: Annotated[
        Path | None,
        typer.Option(
            callback=runs_here,
            help="Draw Figure 3: FPS against the PLCC of this run's table `agreement`.",
            metavar="RUN",
        ),
    ] = None,
    figures: FigureForms = None,
    width: Annotated[str, typer.Option(help="Of Figure 3 for print: column (3.35 in) or page (6.9 in).")] = "column",
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Measure how many pairs of images metrics score in a second, end to end, and the memory they take.

    Each metric runs in a fresh process, one pair at a time, features included. Weights are random, for time does not
    depend on them. Examples: robustiqa fps birqa topiq lpips-vgg --device cuda --dataset pdap_hdds

    robustiqa fps psnr ssim birqa-tiny --size 384x384 --forwards 20 --against results/runs/scores_mini
    """
    from harness.engine.drawing import figure_width, formats_named, save
    from harness.engine.speed import SpeedProtocol
    from harness.flow import default_device
    from harness.suite.alone import dataset_from_options

    registry = registry_of(plugin)
    check_device(device)
    wide, tall = _pixels(size)
    formats = formats_named(figures) if figures is not None else ("png",)
    figure_width(width)
    if figures is not None and against is None:
        raise UserError("--figures: Figure 3 takes PLCC from a run. Name one with --against.")
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: should end in .csv; the JSON stands beside it under the same name.")
    use = dataset_from_options(dataset, (), registry) if dataset is not None else None
    if use is not None and use.shape != "pairs":
        raise UserError(f"--dataset {dataset}: has triplets, and pairs are timed. Take another.")
    protocol = SpeedProtocol(wide, tall, forwards, warmup, device or default_device(), precision, threads, use)
    agreement = _agreement(against, registry) if against is not None else None
    frame, seconds = speeds_of(metrics, sets or [], protocol, registry)
    write_speeds(out, frame, seconds, protocol)
    if as_json:
        print_json({"rows": frame.to_dict("records"), "file": str(out)})
    else:
        _print(frame, out)
    if agreement is not None:
        from harness.report.paper_figures import draw_figure3, figure3_frame

        paths = save(draw_figure3(figure3_frame(frame, agreement)), out.with_name("figure3"), formats, width)
        if not as_json:
            console().print(f"Figure 3: {', '.join(map(str, paths))}", soft_wrap=True)


def _pixels(size: str) -> tuple[int, int]:
    wide, _, tall = size.lower().partition("x")
    if not (wide.isdecimal() and tall.isdecimal() and int(wide) and int(tall)):
        raise UserError(f"--size {size}: should be WIDTHxHEIGHT in pixels, such as 1920x1080.")
    return int(wide), int(tall)


def _agreement(folder: Path, registry: Registry) -> pd.DataFrame:
    """Every figure of a run's table `agreement`, all data sets one under the other."""
    import pandas as pd

    from harness.report.reading import open_folder

    found = [table.frame for table in open_folder(folder, registry).tables if table.name == "agreement"]
    if not found:
        raise UserError(
            f"--against {folder}: has no table `agreement`. Add it to the `tables` of its suite and run that."
        )
    return pd.concat(found, ignore_index=True)


def speeds_of(
    metrics: Sequence[str], sets: Sequence[str], protocol: SpeedProtocol, registry: Registry
) -> tuple[pd.DataFrame, dict[str, list[float]]]:
    """A row for each metric, and the seconds of each of its forwards.

    Args:
        metrics: Their names; each is timed once.
        sets: ``KEY=VALUE`` parameters of all of them.
        protocol: How they are timed.
        registry: Where they are looked up.

    Raises:
        UserError: A name or parameter is wrong, or a metric cannot be timed.
    """
    import pandas as pd

    from harness.engine.speed import measure_speed, timed_metric

    uses = [timed_metric(name, sets, registry) for name in dict.fromkeys(metrics)]  # all names, before any is timed
    rows, seconds = [], {}
    images = protocol.dataset.name if protocol.dataset is not None else "noise"
    for use in uses:
        found = measure_speed(use, protocol, registry.files)
        told = {"precision": protocol.precision, "warmup": protocol.warmup, "images": images}
        rows.append({"metric": use.label, **found.row(), **told, "weights": use.weights})
        seconds[use.label] = list(found.seconds)
    return pd.DataFrame(rows), seconds


def protocol_words(protocol: SpeedProtocol) -> dict[str, Any]:
    """A protocol as it stands in the JSON beside the figures."""
    from dataclasses import asdict

    return {**asdict(protocol), "dataset": protocol.dataset.label if protocol.dataset else None}


def write_speeds(out: Path, frame: pd.DataFrame, seconds: dict[str, list[float]], protocol: SpeedProtocol) -> None:
    """Write the CSV, and beside it the JSON with the protocol that made it.

    Raises:
        UserError: It cannot be written.
    """
    import json

    from harness.engine.provenance import versions
    from harness.engine.speed import machine
    from harness.files import csv_of, write_whole

    page: dict[str, Any] = {
        "protocol": protocol_words(protocol),
        "machine": machine(protocol.device),
        "versions": versions(protocol.device),
    }
    page |= {"rows": json.loads(frame.to_json(orient="records")), "seconds": seconds}
    try:
        write_whole(out, csv_of(frame).encode())
        write_whole(out.with_suffix(".json"), (json.dumps(page, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error}). Choose another.") from error


def _print(frame: pd.DataFrame, out: Path) -> None:
    from rich.table import Table

    columns = ("fps", "ms, median", "quartiles", "parameters", "peak MiB")
    table = Table("metric", *columns, box=None, padding=(0, 2), header_style="bold")
    for row in frame.to_dict("records"):
        low, middle, high = (f"{1e3 * row[f'seconds_{part}']:.3g}" for part in ("low", "median", "high"))
        table.add_row(
            row["metric"],
            f"{row['fps']:.3g}",
            middle,
            f"{low} to {high}",
            f"{row['parameters']:,}",
            f"{row['peak_memory']:.0f} ({row['memory_before']:.0f} before)",
        )
    first = frame.iloc[0]
    console().print(table)
    console().print(
        f"{first['forwards']} forwards of {first['width']} x {first['height']}, after {first['warmup']} uncounted; "
        f"one pair at a time, end to end, on {first['device']} in {first['precision']}, {first['threads']} threads. "
        f"FPS is 1 / mean time. {out} and {out.with_suffix('.json').name}.",
        soft_wrap=True,
    )
