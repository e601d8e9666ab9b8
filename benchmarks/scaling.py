"""What a run takes before its first block, for its blocks and after them, on one worker and on two, in turns.

python benchmarks/scaling.py                                 # quickstart at limit 48, twice in turns: about 9 minutes
python benchmarks/scaling.py --limit 16 --rounds 3 --ray     # and two workers of a Ray cluster of this machine
python benchmarks/scaling.py --limit 8 --against FOLDER      # and another checkout, whose lines are marked with *
python benchmarks/scaling.py --driver                        # processor time of the driver for each of many blocks

Seconds are of the clock, so the machine must have nothing else to do; a run says itself, line by line on standard
error, when its blocks begin and end. *Start* is the way there: Python, imports, suite, plan, workers, probes, facts.
*End* is what follows: pictures, report, and the end of the process. *Busy* is what the run folder says that attacks and
scorings took, over what its workers had for them; the rest is reading, writing, and workers that have nothing left.

For the driver, blocks are of toy metrics of which each takes milliseconds, and the first fifth is left out; what other
processes and waiting take does not count, the lines that are printed do.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from harness.engine.run_folder import RunFolder

HERE = Path(__file__).parents[1]
BLOCKS = re.compile(rb"attacking and scoring: (\d+) of (\d+)")
MANY = """\
name: many
datasets: [{name: toy, references: 500, levels: 8}]
metrics: [negative_mse]
attacks: [noise]
budgets: {linf: [4/255]}
directions: [up]
slice: 8
verdicts: false
"""


@dataclass(frozen=True)
class Taken:
    """Seconds of one run."""

    start: float
    blocks: float
    end: float
    worked: float
    """What attacks and scorings took, on all workers together."""

    @property
    def whole(self) -> float:
        """All of it."""
        return self.start + self.blocks + self.end


@dataclass(frozen=True)
class Way:
    """One way to run the suite."""

    name: str
    checkout: Path
    options: tuple[str, ...]
    workers: int

    def run(self, suite: str, limit: int) -> Taken:
        """Run it from nothing."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "harness", "run", suite, "--limit", str(limit), "--out", f"{folder}/run"]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(self._paths())}
            began, first, last = time.perf_counter(), 0.0, 0.0
            to: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": folder}
            with subprocess.Popen([*command, *self.options], env=environment, **to) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    if found := BLOCKS.search(line):
                        first = first or time.perf_counter()
                        last = time.perf_counter() if found[1] == found[2] else last
                process.wait()
            ended = time.perf_counter()
            if process.returncode or not last:
                sys.exit(f"{self.name}: the run failed with exit code {process.returncode}")
            costs = RunFolder(Path(folder) / "run").read_provenance("costs")
        return Taken(first - began, last - first, ended - last, sum(cost["seconds"] for cost in costs))

    def _paths(self) -> list[str]:
        return [str(self.checkout), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def ways(against: Path | None, ray: bool) -> list[Way]:
    """What is compared; of each checkout one worker comes first, which its others are set against."""
    found = [
        Way(f"{count} worker{'s'[: count - 1]}{mark}", checkout, ("--workers", str(count)), count)
        for mark, checkout in (("", HERE), *([("*", against)] if against else []))
        for count in (1, 2)
    ]
    return [*found, *([Way("2 of ray", HERE, ("--executor", "ray", "--workers", "2"), 2)] if ray else [])]


def compare(chosen: list[Way], suite: str, limit: int, rounds: int) -> None:
    """Run every way in turns, and print medians; ratios are taken within a turn."""
    taken: dict[str, list[Taken]] = {way.name: [] for way in chosen}
    for turn in range(rounds):
        for way in chosen if turn % 2 == 0 else reversed(chosen):
            taken[way.name].append(way.run(suite, limit))
    heads = ("start", "blocks", "end", "whole", "busy")
    print(f"{f'limit {limit}':12}{''.join(f'{head:>8}' for head in heads)}   times 1 worker: whole, blocks only")
    for way in chosen:
        own, one = taken[way.name], taken[next(each.name for each in chosen if each.checkout == way.checkout)]
        start, blocks, end, whole = (
            statistics.median(getattr(each, part) for each in own) for part in ("start", "blocks", "end", "whole")
        )
        busy = statistics.median(each.worked / (way.workers * each.blocks) for each in own)
        faster = statistics.median(first.whole / each.whole for first, each in zip(one, own, strict=True))
        on_blocks = statistics.median(first.blocks / each.blocks for first, each in zip(one, own, strict=True))
        seconds = "".join(f"{part:8.1f}" for part in (start, blocks, end, whole))
        print(f"{way.name:12}{seconds}{busy:8.0%}   {faster:.2f}, {on_blocks:.2f}")


def driver(executor: str) -> tuple[int, float]:
    """How many small blocks were run, and milliseconds of this process's processor time for each."""
    from rich.console import Console

    from harness.engine.progress import ConsoleProgress
    from harness.engine.stages import Tally
    from harness.flow import Options, run_suite
    from harness.plugins.registry import Registry
    from harness.suite.resolve import validate
    from harness.suite.strict_yaml import parse_text

    registry = Registry([HERE / "tests" / "toys" / "toy.py"])
    suite, spent, add = validate(parse_text(MANY, "many.yaml"), registry), [], Tally.add

    def marked(self: Tally, result: Any, stage: str) -> None:
        add(self, result, stage)
        spent.extend([time.process_time()] if stage == "blocks" else [])

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Tally, "add", marked),
        mock.patch("harness.report.render.write_report"),
        ConsoleProgress(Console(file=io.StringIO())) as progress,
    ):
        run_suite(suite, registry, Options(Path(folder) / "run", executor, 2, probe=False), progress)
    counted = spent[len(spent) // 5 :]
    return len(spent), 1000 * (counted[-1] - counted[0]) / (len(counted) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default=str(HERE / "suites" / "quickstart.yaml"))
    parser.add_argument("--limit", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ray", action="store_true", help="two workers of a Ray cluster of this machine as well")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout, run in turns with this one")
    parser.add_argument("--driver", action="store_true", help="only the driver's processor time for each block")
    options = parser.parse_args()
    if not options.driver:
        compare(ways(options.against, options.ray), str(Path(options.suite).resolve()), options.limit, options.rounds)
        return
    for executor in ("processes", "ray") if importlib.util.find_spec("ray") else ("processes",):
        blocks, milliseconds = driver(executor)
        print(f"{executor:12} {blocks} blocks, {milliseconds:.2f} ms of the driver's processor time for each")


if __name__ == "__main__":
    main()
