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
from harness.plugins.weights.locate import SUFFIX
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite
from harness.training.feature_sets import FeatureRuns, read_feature_sets
from harness.training.recipe_file import read_recipe

_DATA = re.compile(r"Data set (\w+): folder \S+ cannot be read")
_PUBLISHED = re.compile(r"the weights '([^']+)' are not on this machine")
_FILE = re.compile(r"weight file (\S+): No such file")
_TRAINED = re.compile(r"the metric '([^']+)' has no weights of '([^']+)'")


@dataclass(frozen=True)
class Need:
    """What stands between a machine and an item.

    Attributes:
        data: Data sets that are not there.
        published: Published weights to be fetched.
        trained: Weight files to be trained.
        other: Whatever else the suites refuse, in their own words.
        hours: Of one worker, for what is left, as far as earlier runs measured it; None where nothing is known.
        done: Whether nothing is left to run.
    """

    data: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
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
    if not item.suites:
        lines += _untaught() if item.kind == "figure4" else _untrained(item)
    known = [one for one in hours if one is not None]
    return Need(
        data=_found(_DATA, lines),
        published=_found(_PUBLISHED, lines),
        trained=(
            *dict.fromkeys(map(_named, _found(_FILE, lines))),
            *(f"{metric}@{name}" for metric, name in _pairs(lines)),
        ),
        other=tuple(line for line in lines if not any(p.search(line) for p in (_DATA, _PUBLISHED, _FILE, _TRAINED))),
        hours=sum(known) if hours and len(known) == len(hours) else None,
        done=bool(hours) and not lines and all(one == 0 for one in hours),
    )


def _untaught() -> Iterator[str]:
    """Of Figure 4, how many of its sets of features have not been trained."""
    path = folder_of_suites() / "paper" / "figure4.yaml"
    try:
        runs = FeatureRuns(path, RUNS / read_feature_sets(path).name, "cpu", ())
        left = sum(runs.trained(one) is None for one in runs.sets)
    except UserError as error:
        yield from str(error).splitlines()
        return
    if left:
        yield f"{left} of {len(runs.sets)} feature sets to train (`robustiqa features {path}`)"


def _untrained(item: PaperItem) -> Iterator[str]:
    """Of an item that is made of trainings alone, those that have not been run."""
    for name in item.recipes:
        file = read_recipe(recipe_path(name))
        if not (RUNS / f"train-{file.name}" / "steps.jsonl").is_file():
            yield f"weight file {Path(file.output).name}: No such file"


def _named(path: str) -> str:
    """A weight file in few words: 'birqa@base', or 'train-birqa_live' of one of several members."""
    file = Path(path)
    return file.parts[-3] if file.stem == "weights" and len(file.parts) > 2 else file.name.removesuffix(SUFFIX)


def _found(pattern: re.Pattern[str], lines: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match[1] for line in lines if (match := pattern.search(line))))


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((match[1], match[2]) for line in lines if (match := _TRAINED.search(line))))
