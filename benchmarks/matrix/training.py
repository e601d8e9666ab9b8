"""Trains every cell, two side by side: bases, the grid that decides the learning rate, then the arms."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import itertools
import json
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cells import CHOICE, Cell, Work
from declared import BASE

from harness.files import write_whole
from harness.training.train import train

SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Job:
    """One training."""

    name: str
    after: tuple[str, ...]
    recipe: Callable[[], Path]
    """Writes its recipe file, once what it comes after is done."""


def train_all(work: Work) -> None:
    """Train bases, then the grid of rates on one of them, then every arm; the same call again resumes."""
    (work.folder / "training").mkdir(parents=True, exist_ok=True)
    bases = [Cell(BASE, member) for member in range(work.matrix.members.count)]
    jobs = [Job(cell.name, (), lambda cell=cell: work.recipe(cell)) for cell in bases]
    grid = dict(_grid(work))
    first = work.matrix.rate.member if work.matrix.rate else 0
    jobs += [Job(name, (f"{BASE}@{first}",), make) for name, make in grid.items()]
    for cell in work.cells(with_base=False):
        after = (f"{BASE}@{cell.member}", *grid)
        jobs.append(Job(cell.name, after, lambda cell=cell: work.recipe(cell)))
    done: dict[str, Mapping[str, Any]] = {}
    for name, figures in _run(work, jobs):
        done[name] = figures
        print(f"{len(done):3}/{len(jobs)} {name:24} {_told(figures)}", flush=True)
        if grid and set(grid) <= set(done) and not (work.folder / CHOICE).is_file():
            choose_rate(work, {name: done[name] for name in grid}, done[f"{BASE}@{first}"])


def _grid(work: Work) -> Iterator[tuple[str, Callable[[], Path]]]:
    """The trainings that decide the learning rate, unless it is decided."""
    rate = work.matrix.rate
    if rate is None or (work.folder / CHOICE).is_file():
        return
    for value, arm in itertools.product(rate.grid, rate.arms):
        name, cell = f"rate-{value:g}-{arm}", Cell(arm, rate.member)
        changed = {"learning_rate": value, "steps": rate.steps, "evaluate_every": rate.steps}
        yield name, lambda cell=cell, name=name, changed=changed: work.recipe(cell, name, **changed)


def choose_rate(work: Work, found: Mapping[str, Mapping[str, Any]], base: Mapping[str, Any]) -> None:
    """Write down the learning rate of all arms, by the rule of the matrix file, and what it was chosen from."""
    rate = work.matrix.rate
    assert rate is not None
    of = {value: [found[f"rate-{value:g}-{arm}"] for arm in rate.arms] for value in rate.grid}
    least = base["srocc"] - rate.may_lose
    kept = [value for value, ends in of.items() if min(end["srocc"] for end in ends) >= least]
    pair = {value: statistics.mean(end["pair"] for end in ends) for value, ends in of.items()}
    chosen = max(kept, key=lambda value: pair[value]) if kept else min(rate.grid)
    content = {
        "learning_rate": chosen,
        "rule": f"highest mean robust validation pair accuracy of {', '.join(rate.arms)} after {rate.steps} steps, "
        f"among rates at which each keeps a validation SROCC of {least:.4f}, the base's - {rate.may_lose:g}",
        "none_kept": not kept,
        "found": {name: dict(end) for name, end in found.items()},
    }
    write_whole(work.folder / CHOICE, (json.dumps(content, indent=1) + "\n").encode())
    print(f"learning rate {chosen:g}: {content['rule']}", flush=True)


def _run(work: Work, jobs: Sequence[Job]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of trainings as they end, and their last validations; each starts when what it comes after is done."""
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(SIDE_BY_SIDE, context, torch.set_num_threads, (1,)) as pool:
        waiting, running, done = list(jobs), {}, set[str]()
        while waiting or running:
            ready = [job for job in waiting if done.issuperset(job.after)][: SIDE_BY_SIDE - len(running)]
            for job in ready:
                waiting.remove(job)
                running[pool.submit(train_one, job.recipe(), work.run(job.name))] = job.name
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                name = running.pop(future)
                done.add(name)
                yield name, future.result()


def train_one(recipe: Path, folder: Path) -> dict[str, Any]:
    """Train by a recipe file; what it prints goes into a file beside its run folder. Returns the last validation."""
    told = folder.with_name(f"{folder.name}.log")
    with told.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        result = train(recipe, folder)
    last = result.histories[0][-1]
    seconds = json.loads((folder / "run.json").read_text())["members"]["only"]["seconds"]
    return {
        "srocc": last.figure,
        "spread": last.spread,
        "collapsed": last.collapsed,
        "pair": getattr(last, "pair", None),
        "minutes": seconds / 60,
    }


def _told(figures: Mapping[str, Any]) -> str:
    pair = f", robust pair accuracy {figures['pair']:.3f}" if figures["pair"] is not None else ""
    collapsed = ", COLLAPSED" if figures["collapsed"] else ""
    return (
        f"{figures['minutes']:5.1f} min; val SROCC {figures['srocc']:.3f}, "
        f"std ratio {figures['spread']:.2f}{pair}{collapsed}"
    )
