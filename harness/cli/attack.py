"""One pair of images under attack."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, MaxPixels, PluginFiles, check_device, console, print_json, registry_of
from harness.errors import UserError
from harness.wording import tell


class AttackWay(StrEnum):
    """Where an attack takes the quality."""

    down = "down"
    up = "up"


class NormName(StrEnum):
    """In which a change is measured."""

    linf = "linf"
    l2 = "l2"


@verb("Look", 4)
def _attack(
    ref: Annotated[Path, typer.Argument(help="The reference image.", metavar="REF")],
    dist: Annotated[Path, typer.Argument(help="The distorted image, of the same size.", metavar="DIST")],
    metric: Annotated[str, typer.Option(help="The metric that is attacked.")],
    attack: Annotated[str, typer.Option(help="An attack's name, or a control's.")] = "pgd",
    eps: Annotated[str, typer.Option(help="Radius of the budget, in units of images in [0, 1].")] = "8/255",
    direction: Annotated[AttackWay, typer.Option(help="Whether quality is lowered or raised.")] = AttackWay.down,
    norm: Annotated[NormName, typer.Option(help="Of the budget.")] = NormName.linf,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A parameter of metric or attack, or the metric's weights: steps=20, weights=FILE; may be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="Another metric that scores what comes out; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.", metavar="DIR")] = Path(
        "attacked"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Root of the attack's randomness.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")] = None,
    max_pixels: MaxPixels = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Attack one distorted image: change it within a budget so that a metric calls it worse, or better.

    Writes the attacked image (attacked.png of 16 bits a channel, attacked_8bit.png, attacked.safetensors exactly),
    strip.png with reference, distorted and attacked image and the change enlarged, and scores.json. Examples:
    robustiqa attack reference.png distorted.png --metric birqa-tiny --eps 4/255 -o attacked

    robustiqa attack reference.png distorted.png --metric ssim --attack apgd --set steps=50 --direction up --judge psnr
    """
    from harness.engine.attacked_files import STRIP_FILE, attacked_versions, scores_page, write_attacked
    from harness.engine.one_pair import attack_pair, conversions_of, score_versions
    from harness.flow import default_device
    from harness.suite.alone import metric_and_attack, metric_from_options

    radius = _radius(eps, norm)
    registry = registry_of(plugin)
    check_device(device)
    place = device or default_device()
    use, chosen = metric_and_attack(metric, attack, sets or (), registry)
    uses = [use, *(metric_from_options(name, (), registry) for name in judge or ())]
    notes = conversions_of(ref, dist)
    for note in notes:
        tell(f"note: {note}")
    how = {"direction": direction.value, "norm": norm.value, "eps": radius, "seed": seed, "device": place}
    found = attack_pair(ref, dist, use, chosen, registry, **how)  # type: ignore[arg-type]  # checked by typer
    scores = list(score_versions(found.reference, attacked_versions(found), uses, registry, place))
    page = {"ref": str(ref), "dist": str(dist), "seed": seed, **scores_page(found, scores), "notes": notes}
    files = write_attacked(found, scores, page, out)
    if as_json:
        print_json({**page, "files": {name: str(file) for name, file in files.items()}})
        return
    from rich.table import Table

    way = f", {found.direction}" if found.direction else ""
    title = f"{found.attack} on {found.metric}{way}, {norm.value} {eps}: largest change {255 * found.linf:.3g}/255"
    table = Table("metric", "distorted", "attacked", "as 8 bits", "", title=title, title_justify="left")
    for one in scores:
        sense = "higher is better" if one["distorted"].higher_is_better else "lower is better"
        shown = (f"{float(one[name]):.6g}" for name in ("distorted", "attacked", "attacked_8bit"))
        table.add_row(one["distorted"].metric, *shown, sense)
    screen = console()
    screen.print(table)
    if found.status == "start":
        screen.print("The attack found nothing better than the image itself.", soft_wrap=True)
    screen.print(f"Look at {files[STRIP_FILE]}; the image and its scores are beside it.", soft_wrap=True)


def _radius(text: str, norm: NormName) -> float:
    """The radius of a budget.

    Raises:
        UserError: It is no number above 0, or in linf one above 1.
    """
    from harness.suite.strict_yaml import parse_text

    value = parse_text(text or "null", f"--eps {text}").value
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if not good or (norm is NormName.linf and value > 1):
        raise UserError(f"--eps {text}: should be a number above 0, in linf at most 1, such as 8/255.")
    return float(value)
