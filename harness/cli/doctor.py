"""What a person needs when something is wrong: versions, devices, folders, name collisions, weights, data sets."""

from __future__ import annotations

import importlib.metadata
import inspect
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, writing
from harness.errors import UserError
from harness.files import OWN_PACKAGES, cache_dir, data_dir
from harness.wording import rich_text

if TYPE_CHECKING:
    from harness.plugins.registry import Registry

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    verdict: Verdict
    detail: str


@verb("Upkeep", 1)
def _doctor(
    metric: Annotated[
        str | None, typer.Option(help="Probe one metric's contract instead: gradients, batches, flat pairs, ...")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="With --metric: a parameter of it or its weights; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    measure: Annotated[
        Path | None,
        typer.Option(
            help="Measure this machine instead, for robustiqa plan --machine FILE.json anywhere; do so while nothing "
            "else runs.",
            metavar="FILE.json",
        ),
    ] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Examine the installation: versions, devices, folders, name collisions, plugins, weights, data sets.

    Examples: robustiqa doctor --metric birqa-tiny

    robustiqa doctor --metric mine --set weights=mine.safetensors --plugin mine.py

    robustiqa doctor --measure box.json
    """
    if sets and metric is None:
        raise UserError(f"--set {sets[0]}: it is a metric's. Name the metric with --metric.")
    if measure is not None:
        for option, value in (("--metric", metric), ("--plugin", plugin)):
            if value:
                raise UserError(
                    f"--measure {measure}: the machine alone is measured, and {option} has no effect. Leave one out."
                )
        _measure(measure, as_json)
        return
    registry = registry_of(plugin)
    findings = list(probe_named(metric, registry, sets or ()) if metric else examine(registry))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.table import Table

        table = Table(show_header=False, box=None, padding=(0, 2))
        style = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for finding in findings:
            table.add_row(rich_text(finding.verdict, style[finding.verdict]), finding.subject, finding.detail)
        console().print(table)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def _measure(file: Path, as_json: bool) -> None:
    """Measure the GPU of this machine, or its processor where it has none, and write the page.

    Raises:
        UserError: The file has another ending, is there and holds something else, or cannot be written.
    """
    import torch

    from harness.engine.executors.choice import default_device
    from harness.engine.machines.pages import read_machine, write_machine
    from harness.engine.machines.reference import measured_machine

    if file.suffix != ".json":
        raise UserError(f"--measure {file}: should end in .json, by which plan --machine knows a page from a name.")
    if file.exists():
        try:
            read_machine(file)
        except UserError:
            raise UserError(
                f"--measure {file}: it is there, holds no machine, and is left as it is. Choose another name."
            ) from None
    machine = measured_machine(torch.device(default_device()))
    with writing(file, "--measure"):
        write_machine(file, machine)
    if as_json:
        print_json(asdict(machine))
        return
    console().print(
        f"{machine.title}: matrix product {machine.matmul:,.0f} GFLOP/s, convolution {machine.convolution:,.0f}, "
        f"memory {machine.bandwidth:,.1f} GB/s, by one {'thread' if machine.device == 'cpu' else 'GPU'}. "
        f"Use: robustiqa plan SUITE --machine '{file} x {machine.workers}'",
        soft_wrap=True,
    )


def examine(registry: Registry) -> Iterator[Finding]:
    """Look at everything in turn; cheap checks only: image files are counted, and one of each split is read."""
    yield from _versions()
    yield from _devices()
    yield from _folders()
    yield from _collisions()
    yield from _plugins(registry)
    yield from _weights()
    yield from _datasets(registry)


def probe_named(name: str, registry: Registry, sets: Sequence[str] = ()) -> Iterator[Finding]:
    """Whether a metric keeps its contract: every broken rule, and what was measured.

    Args:
        name: Its registered name.
        registry: Where it comes from.
        sets: ``KEY=VALUE``, parameters and weights other than its own.

    Raises:
        UserError: The metric is unknown, or its parameters or weights cannot be had.
    """
    import torch

    from harness.engine.scorer import load_metric
    from harness.plugins.references import UNSAID
    from harness.suite.alone import metric_from_options
    from harness.testing.probes import probe_metric

    torch.set_num_threads(1)
    metric = load_metric(metric_from_options(name, sets, registry), registry, torch.device("cpu"))
    if type(metric).cite is None:
        yield Finding("reference", "note", UNSAID)
    found = probe_metric(metric, name)
    for fault in found["faults"]:
        yield Finding(fault["rule"], "problem", f"{fault['seen']}. Cure: {fault['cure']}.")
    if not found["faults"]:
        yield Finding(name, "ok", "keeps every rule of the contract that can be probed")
    if found["range"] is not None:
        low, high = found["range"]
        yield Finding("range", "ok", f"{low:.4g} to {high:.4g} on distorted, identical and flat images")
    for pair in ("identical", "flat"):
        if found[pair] is not None:
            yield Finding(f"{pair} images", "ok", f"score {float(found[pair]):.4g}")
    asked, least = f"it asks for {metric.minimum_size} px", found["smallest"]
    if least is None:
        yield Finding("smallest side", "problem", f"no square image up to 512 px gets a score; {asked}")
    else:
        yield Finding("smallest side", "ok", f"{least} px works; {asked}")


def _versions() -> Iterator[Finding]:
    from harness.engine.provenance import versions

    for name, version in versions("").items():
        if name != "device":
            yield Finding(name, "ok", version)
    for extra in ("torchattacks", "pyautoattack", "adversarial-robustness-toolbox"):
        try:
            yield Finding(extra, "ok", importlib.metadata.version(extra))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(extra, "note", "not installed (optional)")


def _devices() -> Iterator[Finding]:
    import torch

    from harness.flow import cores

    yield Finding("cpu", "ok", f"{cores()} cores; one worker process of one torch thread on each")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("cuda", "ok", ", ".join(names))
    else:
        yield Finding("cuda", "note", "none; everything runs on the CPU")


def _folders() -> Iterator[Finding]:
    for subject, folder, variable in (
        ("cache", cache_dir(), "ROBUSTIQA_CACHE_DIR"),
        ("data", data_dir(), "ROBUSTIQA_DATA_DIR"),
    ):
        if not folder.exists():
            yield Finding(subject, "note", f"{folder} is not there yet; {variable} names another place")
        elif subject == "cache" and not os.access(folder, os.W_OK):
            yield Finding(subject, "problem", f"{folder} cannot be written, so images are made anew; set {variable}")
        else:
            yield Finding(subject, "ok", str(folder))


def _collisions() -> Iterator[Finding]:
    owners = importlib.metadata.packages_distributions()
    for package in OWN_PACKAGES:
        others = sorted({name for name in owners.get(package, []) if name != "robustiqa"})
        if others:
            detail = f"{', '.join(others)} also installs a top-level package '{package}'; uninstall one of them"
            yield Finding(f"package {package}", "problem", detail)
        else:
            yield Finding(f"package {package}", "ok", "no other distribution installs it")


def _plugins(registry: Registry) -> Iterator[Finding]:
    for message in registry.refused:
        yield Finding("installed plugin", "problem", message)
    from harness.plugins.references import UNSAID, plugin_references
    from harness.plugins.registry import NO_PLUGINS

    off = " (installed plugins are switched off)" if os.environ.get(NO_PLUGINS) == "1" else ""
    for kind in ("metrics", "attacks", "purifiers", "datasets", "recipes"):
        bad, silent = [], []
        for name in registry.names(kind):
            try:
                plugin = registry.get(kind, name)
                if plugin_references(kind, plugin, {}) is None:
                    silent.append(name)
            except UserError as error:
                bad.append(str(error))
        known = f"{len(registry.names(kind))} registered{off}"
        yield Finding(kind, "problem" if bad else "ok", "; ".join(bad) or known)
        if silent:
            yield Finding(f"references of {kind}", "note", f"{', '.join(silent)}: {UNSAID}")


def _weights() -> Iterator[Finding]:
    from harness.plugins.weights.locate import entries, held, resolve

    for entry in entries():
        subject, files = f"weights {entry.name}", ", ".join(part.file for part in entry.parts)
        if entry.published and any(place.place == "missing" for place in held(entry)):
            yield Finding(subject, "note", f"not on this machine; robustiqa weights fetch {entry.name}")
            continue
        try:
            file = resolve(entry.metric, entry.name, None)
            yield Finding(subject, "ok", f"{files}, sha256 {file.sha256[:12]}" if file else "")
        except UserError as error:
            yield Finding(subject, "problem", str(error))


def _datasets(registry: Registry) -> Iterator[Finding]:
    from harness.suite.missing import missing_images

    for name in registry.names("datasets"):
        try:
            plugin = registry.dataset(name)
            needed = [p.name for p in plugin.parameters() if p.default is inspect.Parameter.empty]
            if needed:
                yield Finding(f"data set {name}", "ok", f"is what a suite gives it: {', '.join(needed)}")
                continue
            dataset = plugin.build({})
            splits = {split: dataset.entries(split) for split in dataset.splits}
            items = ", ".join(f"{split} {len(entries)}" for split, entries in splits.items())
        except (UserError, TypeError) as error:
            yield Finding(f"data set {name}", "note", str(error))
            continue
        try:
            if lacks := missing_images(dataset, itertools.chain.from_iterable(splits.values()), name):
                yield Finding(f"data set {name}", "problem", lacks)
                continue
            for entry in (entries[0] for entries in splits.values() if entries):
                dataset.load(entry)
        except Exception as error:
            yield Finding(f"data set {name}", "problem", str(error))
            continue
        found = (
            f"{items} items, fingerprint {dataset.fingerprint()[:12]}, no image file missing, one of each split read"
        )
        told = "; ".join(dataset.notices())
        if any(dataset.image_files(entry) for entries in splits.values() for entry in entries[:1]):
            # Of files they say how these are read; of images that are made, that they differ from those labelled.
            yield Finding(f"data set {name}", "note" if told else "ok", "; ".join(filter(None, (found, told))))
            continue
        yield Finding(f"data set {name}", "problem" if told else "ok", told or found)
