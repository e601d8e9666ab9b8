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
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite
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
        lines += _untrained(item)
    known = [one for one in hours if one is not None]
    return Need(
        data=_found(_DATA, lines),
        published=_found(_PUBLISHED, lines),
        trained=(*_found(_FILE, lines), *(f"{metric}@{name}" for metric, name in _pairs(lines))),
        other=tuple(line for line in lines if not any(p.search(line) for p in (_DATA, _PUBLISHED, _FILE, _TRAINED))),
        hours=sum(known) if hours and len(known) == len(hours) else None,
        done=bool(hours) and not lines and all(one == 0 for one in hours),
    )


def _untrained(item: PaperItem) -> Iterator[str]:
    """Of an item that is made of trainings alone, those that have not been run."""
    for name in item.recipes:
        file = read_recipe(recipe_path(name))
        if not (RUNS / f"train-{file.name}" / "steps.jsonl").is_file():
            yield f"weight file {Path(file.output).name}: No such file"


def _found(pattern: re.Pattern[str], lines: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match[1] for line in lines if (match := pattern.search(line))))


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((match[1], match[2]) for line in lines if (match := _TRAINED.search(line))))
