"""One pair of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, MaxPixels, PluginFiles, check_device, console, print_json, registry_of
from harness.wording import tell


@verb("Look", 3)
def _score(
    ref: Annotated[Path, typer.Argument(help="The reference image.", metavar="REF")],
    dist: Annotated[Path, typer.Argument(help="The distorted image, of the same size.", metavar="DIST")],
    metric: Annotated[list[str] | None, typer.Option(help="A metric's name; may be repeated.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A parameter or the weights of the metric: weights=FILE.safetensors, or a FOLDER of published files.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Draw how the score came about into this .png, .pdf or .svg; for one metric.", metavar="FILE"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    max_pixels: MaxPixels = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Score one image against its reference, in the metric's own units; notes how files were converted to RGB.

    Examples: robustiqa score reference.png distorted.png --metric psnr --metric birqa-tiny

    robustiqa score reference.png distorted.png --metric lpips-alex --set weights=FOLDER

    robustiqa score reference.png distorted.png --metric birqa-tiny --explain why.png
    """
    from dataclasses import asdict

    from harness.engine.one_pair import conversions_of, explain_pair, score_pair
    from harness.flow import default_device
    from harness.report.explanation import draw, refuse_figure
    from harness.suite.alone import metric_from_options

    registry = registry_of(plugin)
    check_device(device)
    names = metric or ["psnr", "ssim", "birqa-tiny"]
    uses = [metric_from_options(name, sets or (), registry) for name in names]
    if explain is not None:
        refuse_figure(explain, uses, registry)
    rows = list(score_pair(ref, dist, uses, registry, device or default_device()))
    converted = conversions_of(ref, dist)
    for one in converted:
        tell(f"note: {one}")
    if explain is not None:
        draw(explain_pair(ref, dist, uses[0], registry, device or default_device()), explain)
    if as_json:
        print_json({"ref": str(ref), "dist": str(dist), "scores": [asdict(row) for row in rows], "notes": converted})
        return
    from rich.table import Table

    table = Table("metric", "score", "", title=f"{dist} against {ref}", title_justify="left")
    for row in rows:
        sense = "higher is better" if row.higher_is_better else "lower is better"
        random = ", RANDOM weights: means nothing" if row.weights == "random" else ""
        which = "" if random or not row.weights else f", weights sha256 {row.weights[:12]}"
        table.add_row(row.metric, f"{row.score:.6g}", sense + random + which)
    console().print(table)
    if explain is not None:
        console().print(f"How it came about: {explain}")
