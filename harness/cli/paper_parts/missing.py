"""What a table or figure of the paper needs that is not on this machine, and how long the rest would take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.cli.paper_parts.items import PaperItem, folder_of_suites, recipe_path
from harness.engine.costs import estimate, read_costs
from harness.engine.done import done_slices
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.files import RUNS
from harness.flow import default_device
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import SUFFIX, entries, held, read_manifest
from harness.suite.alone import dataset_from_options
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite
from harness.training.feature_sets import FeatureRuns, read_feature_sets
from harness.training.output import weight_path
from harness.training.recipe_file import RecipeFile, read_recipe

_DATA = re.compile(r"Data set (\w+?)(?:_2afc)?: folder \S+ cannot be read")
_PUBLISHED = re.compile(r"the weights '([^']+)' are not on this machine")
_FILE = re.compile(r"weight file (\S+): No such file")
_TRAINED = re.compile(r"the metric '([^']+)' has no weights of '([^']+)'")
_SPLITS = 10
"""Of suites over splits, in the paper's size."""
_KNOWN = (_DATA, _PUBLISHED, _FILE, _TRAINED)


@dataclass(frozen=True)
class Need:
    """What stands between a machine and an item.

    Attributes:
        data: Data sets that are not there.
        published: Published weights to be fetched.
        trained: Weights to be trained, by the recipes in order.
        by_hand: Weight files that no recipe makes and nothing fetches.
        other: Whatever else the suites refuse, in their own words.
        hours: Of one worker, for what is left, as far as earlier runs measured it; None where nothing is known.
        done: Whether nothing is left to run.
    """

    data: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    hours: float | None = None
    done: bool = False

    @property
    def told(self) -> str:
        """In one line: 'data kadid10k; weights topiq (fetch); ...', or that nothing is missing."""
        parts = [
            f"data {', '.join(self.data)}" if self.data else "",
            f"to fetch {', '.join(self.published)}" if self.published else "",
            f"to train {', '.join(self.trained)}" if self.trained else "",
            f"to put there by hand {', '.join(self.by_hand)}" if self.by_hand else "",
            *self.other,
        ]
        return "; ".join(part for part in parts if part) or ("nothing: finished" if self.done else "nothing")


def need_of(item: PaperItem, registry: Registry) -> Need:
    """What of an item at the paper's size is missing here.

    Args:
        item: The table or figure.
        registry: Where plugins come from.
    """
    lines: list[str] = []
    hours: list[float | None] = []
    for name in item.suites:
        try:
            suite = load_suite(folder_of_suites() / "paper" / name, registry)
            plan = make_plan(suite, registry)
        except UserError as error:
            lines += str(error).splitlines()
            continue
        store = RunFolder(RUNS / suite.name)
        blocks = plan.blocks(done_slices(plan, store))
        cost = estimate(plan, blocks, read_costs(store.path), default_device())
        hours.append(None if cost.unknown else cost.seconds / 3600)
    refused = bool(lines)
    trained = tuple(_trained_before(item, registry, lines))
    lines += _untaught() if item.kind == "figure4" else []
    known = [one for one in hours if one is not None]
    return Need(
        data=_found(_DATA, lines),
        published=_found(_PUBLISHED, lines),
        trained=trained,
        by_hand=tuple(name for name in map(_file_name, _found(_FILE, lines)) if name not in _makes(item)),
        other=tuple(dict.fromkeys(line for line in lines if not any(p.search(line) for p in _KNOWN))),
        hours=sum(known) if hours and len(known) == len(hours) else None,
        done=bool(hours) and not refused and all(one == 0 for one in hours),
    )


def _trained_before(item: PaperItem, registry: Registry, lines: list[str]) -> Iterator[str]:
    """Weights that an item's recipes make and that are not there; what these lack in turn is added to `lines`.

    A suite tells of the first weights that it misses alone, so that the recipes are asked, each by itself.
    """
    for file in map(read_recipe, map(recipe_path, item.recipes)):
        wanted = [RUNS / f"train-{file.name}" / "steps.jsonl"] if item.kind == "figure5" else _outputs(file)
        if all(path.is_file() for path in wanted):
            continue
        yield Path(file.output).name
        lines += _absent(file, registry)
        start = file.metric.weights
        if start in read_manifest() and any(one.place == "missing" for one in held(entries([start])[0])):
            lines.append(f"the weights '{start}' are not on this machine")
    for name in item.retrained:
        if not all(Path(name.format(split=split)).is_file() for split in range(_SPLITS)):
            yield "/".join(Path(name.removesuffix(SUFFIX)).parts[3:])


def _absent(file: RecipeFile, registry: Registry) -> list[str]:
    """Why the data set of a recipe cannot be read; nothing where it can."""
    try:
        dataset_from_options(file.dataset.name, (), registry)
    except UserError as error:
        return str(error).splitlines()
    return []


def _outputs(file: RecipeFile) -> list[Path]:
    """The weight files that a recipe leaves: its own, and one of each member where each has a split of its own."""
    folder, seeds = RUNS / f"train-{file.name}", range(file.seed, file.seed + file.seeds)
    members = [weight_path(str(folder / f"seed-{seed}" / "weights")) for seed in seeds]
    return [weight_path(file.output), *(members if file.resplit and file.seeds > 1 else [])]


def _makes(item: PaperItem) -> set[str]:
    """Names of the weight files that trainings of an item leave."""
    made = [path for name in item.recipes for path in _outputs(read_recipe(recipe_path(name)))]
    return {_file_name(str(path)) for path in (*made, *item.retrained)}


def _file_name(path: str) -> str:
    return Path(path).name.removesuffix(SUFFIX)


def _untaught() -> Iterator[str]:
    """Of Figure 4, the data set that is not there, and how many of its sets of features have not been trained."""
    path = folder_of_suites() / "paper" / "figure4.yaml"
    try:
        runs = FeatureRuns(path, RUNS / read_feature_sets(path).name, "cpu", ())
        yield from _absent(runs.recipe_of(runs.sets[0]), runs.registry)
        left = sum(runs.trained(one) is None for one in runs.sets)
    except UserError as error:
        yield from str(error).splitlines()
        return
    if left:
        yield f"{left} of {len(runs.sets)} feature sets to train (`robustiqa features {path}`)"


def _found(pattern: re.Pattern[str], lines: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match[1] for line in lines if (match := pattern.search(line))))
