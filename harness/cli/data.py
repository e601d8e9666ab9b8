"""Data sets: `data list`, `data fetch` and `data verify`."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.bars import progress_bars
from harness.cli.common import AsJson, MaxPixels, PluginFiles, Sets, console, print_json, registry_of
from harness.errors import UserError
from harness.files import shown
from harness.wording import counted, did_you_mean, tell

if TYPE_CHECKING:
    from harness.contracts import Dataset
    from harness.datasets.catalogue import Archive, Published
    from harness.plugins.registry import Registry
    from harness.suite.pixels import Images

_MADE = 24
"""Items that are made of a set without image files, to see that they can be."""
_SHOWN = 3
"""How many of several faults are printed; `--json` has all."""


@verb("Upkeep", 3)
def _data() -> None:
    """List, fetch and verify data sets."""


@_data.below("list")
def _list(plugin: PluginFiles = None, as_json: AsJson = False) -> None:
    """List the data sets: sizes as in Table 1 of the paper, terms, and which of them are on this machine.

    Example: robustiqa data list
    """
    registry = registry_of(plugin)
    rows = [_listed(name, registry) for name in registry.names("datasets")]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), collapse_padding=True)
    for name in ("name", "resolution", "ref. images", "dist. images", "ratings", "labels", "licence", "found"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[key] for key in _COLUMNS))
    screen = console()
    screen.print(table)
    for row in rows:  # below the table, whose cells would break a path
        if row["fault"] or row["found"] != "own":
            screen.print(f"{row['name']}: {row['fault'] or row['where']}", soft_wrap=True)
    screen.print("How to get one: robustiqa data fetch NAME. Own images: {name: csv, file: mine.csv}", soft_wrap=True)


_COLUMNS = ("name", "resolution", "references", "images", "ratings", "labels", "licence", "found")


def _listed(name: str, registry: Registry) -> dict[str, Any]:
    """What is published of a set, and whether it is here: 'yes', 'no', 'incomplete', or 'own' for a table."""
    from harness.datasets.catalogue import CATALOGUE

    plugin = registry.dataset(name)
    known = CATALOGUE.get(name)
    row: dict[str, Any] = {"name": name, "labels": plugin.cls.labels, "kind": plugin.cls.kind, "fault": ""}
    for key in ("title", "resolution", "references", "images", "ratings", "licence", "page"):
        row[key] = getattr(known, key) if known else ""
    row["where"] = (shown(known.where) if known.folder else "comes with robustiqa") if known else plugin.origin
    if any(parameter.default is inspect.Parameter.empty for parameter in plugin.parameters()):
        return row | {"found": "own", "where": "given in a suite"}
    if known and known.folder and not Path(known.where).is_dir():
        return row | {"found": "no"}
    try:
        dataset = plugin.build({})
        count = len(dataset.entries(dataset.splits[0]))
    except UserError as error:
        return row | {"found": "incomplete" if known else "no", "fault": str(error)}
    return row | {"found": "yes", "items": count}


@_data.below("fetch")
def _fetch(
    name: Annotated[str, typer.Argument(help="A data set.", metavar="NAME")],
    part: Annotated[
        list[str] | None, typer.Option(help="Of a set in several archives, only this; may be repeated.", metavar="PART")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Another place to fetch it from, such as a mirror of your own.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="With --url: the sha256 of the archive.")] = None,
) -> None:
    """Download a data set into the data folder, verify its sha256 and unpack it; a download that broke off goes on.

    Of most sets no stable address with a known sha256 is published, or their terms want you to visit a page: then this
    says which, and how the folder should look. Example: robustiqa data fetch bapps --part val
    """
    from harness.datasets.catalogue import CATALOGUE
    from harness.datasets.fetch import fetch_archive
    from harness.plugins.weights.fetch import OFFLINE, offline

    known = CATALOGUE.get(name)
    if name == "csv":
        raise UserError("data fetch csv: it is a table of your own. Name it in a suite: {name: csv, file: mine.csv}.")
    if known is None:
        raise UserError(f"data fetch {name}: no such set to fetch.{did_you_mean(name, list(CATALOGUE))}")
    if not known.folder:
        raise UserError(f"data fetch {name}: it comes with robustiqa. Name it in a suite.")
    archives = _archives(name, known, part or [], url, sha256)
    if offline():
        places = ", ".join(archive.url for archive in archives)
        raise UserError(f"data fetch {name}: {OFFLINE} is set, so nothing is downloaded. Unset it, or fetch {places}.")
    screen = console()
    for archive in archives:
        if archive.part and (Path(known.where) / archive.part).exists():
            screen.print(f"{name}: {archive.part} is there already.", soft_wrap=True)
            continue
        with progress_bars() as bar:
            folder = fetch_archive(name, archive, known.folder, bar(f"{name} {archive.part}"))
        screen.print(f"{name}: {archive.part or archive.url} is in {shown(folder)}.", soft_wrap=True)
    screen.print(f"Terms: {known.licence} ({known.page}). Next: robustiqa data verify {name}", soft_wrap=True)


def _archives(
    name: str, known: Published, parts: Sequence[str], url: str | None, sha256: str | None
) -> Sequence[Archive]:
    """What to fetch.

    Raises:
        UserError: There is nothing that could be fetched, or the options contradict each other.
    """
    from harness.datasets.catalogue import Archive

    if (url is None) != (sha256 is None):
        raise UserError(f"data fetch {name}: --url and --sha256 go together. Give both.")
    if url is not None and sha256 is not None:
        if parts:
            raise UserError(f"data fetch {name}: --part chooses among the archives known here. Take it out with --url.")
        digest = sha256.lower().removeprefix("sha256:")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise UserError(f"data fetch {name}: --sha256 {sha256} is no sha256, which has 64 digits 0-9 and a-f.")
        return [Archive("", url, digest)]
    if parts and not any(archive.part for archive in known.archives):
        raise UserError(f"data fetch {name}: --part chooses among archives, and this set has none. Take it out.")
    if not known.archives:
        raise UserError(
            f"data fetch {name}: no address with a known sha256 is published for {known.title}. Visit {known.page}, "
            f"download it (licence: {known.licence}) and unpack it into {shown(known.where)}, so that there lie "
            f"{known.layout}. From a mirror: robustiqa data fetch {name} --url ADDRESS --sha256 HASH"
        )
    every = [archive.part for archive in known.archives]
    for one in parts:
        if one not in every:
            raise UserError(f"data fetch {name}: no part '{one}'. Choose from {', '.join(every)}.")
    return [archive for archive in known.archives if archive.part in (parts or every)]


@_data.below("verify")
def _verify(
    what: Annotated[str, typer.Argument(help="A suite file, or the name of a data set.", metavar="SUITE|DATASET")],
    out: Annotated[Path | None, typer.Option(help="The run folder; results/runs/<name> of a suite.")] = None,
    sets: Sets = None,
    plugin: PluginFiles = None,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Decode every image, and compare the files with what a run folder recorded; exit code 1 if one is bad or changed.

    Says how many items there are, and of a whole official set how many there should be; sizes; files that are converted
    when they are read; files of equal content; items whose images are identical. Prints a hash over all contents of
    each split, which is the same wherever a set lies unchanged. Of a data set alone, `--set` gives parameters, as in
    `--set root=~/tid2013`, and `--set split=val` one split in place of all. Example: robustiqa data verify
    quickstart
    """
    rows = [_examined(one) for one in _chosen(what, out, sets or [], plugin)]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            for line in _lines(row):
                console().print(line, soft_wrap=True)
    bad = [message for row in rows for message in row["unreadable"]]
    changed = [file for row in rows for file in row["changed"]]
    for message in _few(bad):
        tell(f"failed: {message}")
    for file in changed:
        tell(f"failed: {file} is not what the run folder recorded.")
    if changed:
        cure = "Restore the files; or `touch` them and run the suite again, which then computes anew what they decide."
        tell(cure)
    if changed or bad:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Chosen:
    """A split to look at."""

    dataset: Dataset
    split: str
    images: Images
    expected: int | None
    """How many items the whole set has there; None where that is not known, or only a part was asked for."""


def _chosen(what: str, out: Path | None, sets: list[str], plugin: list[Path] | None) -> Iterator[_Chosen]:
    """The splits of a suite, or of a data set."""
    from harness.engine.run_folder import RunFolder
    from harness.files import RUNS
    from harness.suite.alone import dataset_from_options
    from harness.suite.compose import Overrides
    from harness.suite.planning import images_for
    from harness.suite.resolve import load_suite
    from harness.suite.shipped import suite_file

    registry = registry_of(plugin)
    file = Path(what)
    if not registry.knows("datasets", what):
        with contextlib.suppress(UserError):  # which says nothing of data sets
            file = suite_file(file)
    if file.is_file():
        suite = load_suite(file, registry, Overrides(tuple(sets)))
        uses, folder = suite.datasets, out or RUNS / suite.name
    elif registry.knows("datasets", what):
        use = dataset_from_options(what, sets, registry)
        alone = any(text.partition("=")[0].strip() == "split" for text in sets)
        every = [use.split] if alone else [split for split in use.splits if split == "all"] or use.splits
        uses, folder = tuple(replace(use, split=split, calibrated_on_train=False) for split in every), out or Path()
    else:
        names = ", ".join(registry.names("datasets"))
        raise UserError(
            f"data verify {what}: no such file or suite, and no data set. Give a suite file, or one of {names}."
        )
    store = RunFolder(folder)
    if out is not None and not (store.path / "suite.yaml").is_file():
        raise UserError(f"{store.path}: no run folder (no suite.yaml). Give the folder that 'robustiqa run' wrote.")
    ledgers = store.read_pixels if (store.path / "suite.yaml").is_file() else lambda key: {}
    for use in uses:
        dataset = registry.dataset(use.name).build(use.parameters)
        for split, images in images_for(use, dataset, ledgers, every=True).items():
            yield _Chosen(dataset, split, images, _expected(use.name, split, use.parameters, registry))


def _expected(name: str, split: str, parameters: Mapping[str, Any], registry: Registry) -> int | None:
    from harness.datasets.catalogue import CATALOGUE

    defaults = {parameter.name: parameter.default for parameter in registry.dataset(name).parameters()}
    if name not in CATALOGUE or any(value != defaults[key] for key, value in parameters.items() if key != "root"):
        return None
    return CATALOGUE[name].counts.get(split)


def _examined(chosen: _Chosen) -> dict[str, Any]:
    """What a split holds, what is wrong with it, and what became of each file since it was recorded."""
    from harness.datasets.verify import duplicates, look_at
    from harness.suite.identity import identity
    from harness.suite.pixels import GONE

    images, entries = chosen.images, list(chosen.dataset.entries(chosen.split))
    found = {name: images.read(name) for name in sorted(images.paths)}
    known = {name: images.ledger[name].last for name in found if name in images.ledger}
    made = entries and not images.paths and chosen.dataset.image_files(entries[0]) is not None
    seen = _some(entries) if made else entries
    looked = look_at(chosen.dataset, _told(seen, images.label))
    there = {images.paths[name]: seen.last for name, seen in found.items() if seen.last != GONE}
    return {
        "split": images.label,
        "items": len(entries),
        "made": len(seen) if made else 0,
        "fingerprint": chosen.dataset.fingerprint(),
        "notices": list(chosen.dataset.notices()) if made else [],
        "expected": chosen.expected,
        "files": len(found),
        "recorded": len(known),
        "changed": [shown(images.paths[name]) for name, content in known.items() if found[name].last != content],
        "missing": [shown(images.paths[name]) for name, seen in found.items() if seen.last == GONE],
        "unreadable": list(looked.unreadable),
        "identical": list(looked.identical),
        "duplicates": [[shown(path) for path in group] for group in duplicates(there)],
        "sizes": dict(looked.sizes),
        "converted": {what: [shown(path) for path in files] for what, files in looked.converted.items()},
        "contents": identity("pixels", {"all": [[name, seen.last] for name, seen in found.items()]}) if found else "",
    }


def _some(entries: Sequence[Any]) -> Sequence[Any]:
    """Some of the items of a set that makes its images, the same ones every time and of every kind."""
    chosen = sorted(entries, key=lambda entry: hashlib.sha256(entry.id.encode()).digest())[:_MADE]
    return [entry for entry in entries if entry in chosen]


def _told(entries: Sequence[Any], label: str) -> Iterable[Any]:
    """The entries, with a bar on a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        return entries
    from rich.progress import track

    return track(entries, description=label, console=screen, transient=True)


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    """'tid2013 all: 44 files, contents 0123456789abcdef; 44 recorded, 1 changed.' and what else there is to say."""
    if row["made"]:
        yield (
            f"{row['split']}: no image files: {counted(row['items'], 'item')}, made when they are asked for; "
            f"fingerprint {row['fingerprint'][:16]}."
        )
    elif not row["files"]:
        yield f"{row['split']}: the data set does not say which files its images are, so none is compared."
    else:
        same = f"{row['recorded']} recorded, {len(row['changed'])} changed" if row["recorded"] else "none recorded"
        missing = f", {len(row['missing'])} missing" if row["missing"] else ""
        yield f"{row['split']}: {row['files']} files, contents {row['contents']}; {same}{missing}."
    whole = row["expected"] is not None and row["items"] != row["expected"]
    sizes = sorted(row["sizes"], key=lambda size: -row["sizes"][size])
    if not sizes and not row["unreadable"]:
        return
    told = ", ".join(sizes[:_SHOWN]) + (f" and {len(sizes) - _SHOWN} more sizes" if len(sizes) > _SHOWN else "")
    published = f" of the published {row['expected']}" if whole else ""
    looked = f"{row['made']} of them made now" if row["made"] else counted(row["items"], "item")
    yield f"  {looked}{published}: {told or 'none readable'}"
    yield from (f"  {notice}" for notice in row["notices"])
    for what, files in row["converted"].items():
        yield f"  {counted(len(files), 'file')} {what}: {', '.join(_few(list(_from_common_folder(files))))}"
    if row["unreadable"]:
        yield f"  {len(row['unreadable'])} cannot be used"
    if row["identical"]:
        yield (
            f"  {counted(len(row['identical']), 'item')} whose images are identical: "
            f"{', '.join(_few(row['identical']))}"
        )
    if row["duplicates"]:
        groups = [" = ".join(_from_common_folder(group)) for group in row["duplicates"]]
        yield f"  {counted(len(groups), 'group')} of files with the same content: {'; '.join(_few(groups))}"


def _from_common_folder(paths: Sequence[str]) -> Iterator[str]:
    """Paths without the folders that all of them have in common."""
    whole = [Path(path).expanduser().absolute() for path in paths]
    common = os.path.commonpath([path.parent for path in whole])
    return (path.relative_to(common).as_posix() for path in whole)


def _few(messages: Sequence[str]) -> Sequence[str]:
    """The first of several, and how many more there are."""
    more = [f"and {len(messages) - _SHOWN} more"] if len(messages) > _SHOWN else []
    return [*messages[:_SHOWN], *more]
