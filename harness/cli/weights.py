"""Weights of the metrics: `weights list`, `weights fetch`, `weights verify`, `weights convert` and `weights mix`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.bars import progress_bars
from harness.cli.common import AsJson, console, print_json
from harness.errors import UserError
from harness.files import shown
from harness.wording import tell

if TYPE_CHECKING:
    from harness.plugins.weights.manifest import WeightsEntry

_Names = Annotated[list[str] | None, typer.Argument(help="Names in the manifest.", metavar="NAME")]


@verb("Upkeep", 2)
def _weights() -> None:
    """List, fetch, verify, convert and mix the weights of metrics."""


@_weights.below("list")
def _list(as_json: AsJson = False) -> None:
    """List the weights of the manifest: what they are for, how large, under which licence, and where they are.

    Example: robustiqa weights list
    """
    from harness.plugins.weights.locate import entries

    found = entries()
    if as_json:
        print_json([_described(entry) for entry in found])
        return
    from rich.table import Table

    table = Table("name", "metric", "size", "licence", "where")
    for entry in found:
        table.add_row(entry.name, entry.metric, entry.bytes_shown(), entry.licence, _where(entry))
    screen = console()
    screen.print(table)
    screen.print("Get those that are missing with: robustiqa weights fetch NAME", soft_wrap=True)


def _described(entry: WeightsEntry) -> dict[str, Any]:
    from harness.plugins.weights.locate import held

    files = [
        {
            **{"part": place.part.name, "file": place.part.file, "where": place.place, "path": str(place.path)},
            **{"url": place.part.url, "size": place.part.size, "sha256": place.part.sha256},
            **{"licence": place.part.licence, "source": place.part.source},
        }
        for place in held(entry)
    ]
    raw = entry.raw
    about = {key: raw.get(key) for key in ("parameters", "input", "paper", "trained_on")}
    return {"name": entry.name, "metric": entry.metric, "licence": entry.licence, **about, "files": files}


def _where(entry: WeightsEntry) -> str:
    from harness.plugins.weights.locate import held

    places = [place.place for place in held(entry)]
    missing = places.count("missing")
    if 0 < missing < len(places):
        return f"missing: {missing} of {len(places)} files"
    return places[0]


@_weights.below("fetch")
def _fetch(
    names: _Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all that the manifest names.")] = False,
) -> None:
    """Download weights into the cache and verify them; files that are there and right are left as they are.

    Nothing half-written is kept: after a failure run the same command again. With ROBUSTIQA_OFFLINE=1 nothing is
    downloaded. Example: robustiqa weights fetch lpips-alex
    """
    from harness.plugins.weights.fetch import fetch
    from harness.plugins.weights.locate import entries

    if bool(names) == everything:
        raise UserError("weights fetch: give names, or --all. See `robustiqa weights list`.")
    screen = console()
    for entry in entries(names or ()):
        with progress_bars() as bar:
            for place, fetched in fetch(entry, lambda part: bar(part.file)):
                said = "fetched" if fetched else "already there"
                screen.print(f"{entry.name}: {shown(place.path)} ({said})", soft_wrap=True)
        screen.print(f"{entry.name}: licence {entry.licence}", soft_wrap=True)


@_weights.below("verify")
def _verify(names: _Names = None, as_json: AsJson = False) -> None:
    """Read all weights that are there and compare them with the manifest; exit code 1 if one was changed.

    Missing weights are told, and fail only where they were named. Example: robustiqa weights verify lpips-alex
    """
    from harness.plugins.weights.fetch import verify
    from harness.plugins.weights.locate import entries

    checked = list(verify(entries(names or ())))
    if as_json:
        print_json([asdict(row) for row in checked])
    else:
        for row in checked:
            detail = f": {row.detail}" if row.detail else ""
            console().print(f"{row.verdict:8} {row.name}  {shown(row.path)}{detail}", soft_wrap=True)
    changed = [row for row in checked if row.verdict == "changed"]
    for row in changed:
        cure = f"robustiqa weights fetch {row.name}"
        tell(f"failed: {shown(row.path)} is not the file of the manifest. Remove it and run `{cure}`.")
    absent = [row for row in checked if row.verdict == "missing"] if names else []
    for row in absent:
        tell(f"failed: {shown(row.path)} is missing. Run `{row.detail}`.")
    if changed or absent:
        raise typer.Exit(1)


@_weights.below("convert")
def _convert(
    file: Annotated[
        Path,
        typer.Argument(help="A state dict: a .safetensors file, or one of torch's that you trust.", metavar="FILE"),
    ],
    out: Annotated[Path, typer.Option(help="The new weight file.", metavar="FILE.safetensors")],
    add: Annotated[str, typer.Option(help="What is put in front of every name, such as net.", metavar="PREFIX")] = "",
    remove: Annotated[
        str, typer.Option(help="What is taken away from the front of every name, such as module.", metavar="PREFIX")
    ] = "",
    key: Annotated[
        str, typer.Option(help="Where the tensors are in a file of torch's, such as state_dict.", metavar="KEY")
    ] = "",
) -> None:
    """Write weights as a .safetensors file, and under other names where a network was saved by itself or in a wrapper.

    A file of torch's (.pth, .pt, .ckpt, ...) is a pickle and is read as tensors alone. Where weights would fit a metric
    but for a prefix, the message says which. Examples: robustiqa weights convert mine.pth --out mine.safetensors

    robustiqa weights convert mine.safetensors --add net. --out mine-renamed.safetensors
    """
    from harness.plugins.weights.convert import convert_file

    names = convert_file(file, out, remove, add, key)
    console().print(f"{shown(out)}: {len(names)} tensors, the first {names[0]}", soft_wrap=True)


@_weights.below("mix")
def _mix(
    a: Annotated[str, typer.Argument(help="The base: a name in the manifest, or a .safetensors file.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The defended model, likewise.", metavar="B")],
    at: Annotated[
        str, typer.Option(help="How much of B, from 0 to 1, with commas between.", metavar="SHARES")
    ] = "0,.25,.5,.75,1",
    out: Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")] = Path("results/weights"),
    name: Annotated[
        str | None, typer.Option(help="What the defense is called; by default what B is.", metavar="NAME")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write weights on the straight line from A to B, for the clean-robust frontier: METRIC@NAME@SHARE.safetensors.

    They are listed in the manifest of their folder, with the sha256 of both ends and the share. In a suite they are
    the defenses {name: NAME@SHARE, weights: DIR}; the table `frontier` joins them by a line and compares lines at
    equal clean SROCC. Example: robustiqa weights mix birqa-tiny birqa-tiny@aat --at .25,.5,.75
    """
    from harness.training.mix import mix, parse_shares

    written = mix(a, b, parse_shares(at), out, name)
    if as_json:
        print_json([{"file": str(one.path), "share": one.share, "sha256": one.sha256} for one in written])
        return
    for one in written:
        console().print(
            f"{shown(one.path)}: {1 - one.share:g} x {a} + {one.share:g} x {b} (sha256 {one.sha256[:12]}...)",
            soft_wrap=True,
        )
