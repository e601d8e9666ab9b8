"""How long a suite of more than 10,000 cells takes to check, to plan and to find finished, next to importing torch.

python benchmarks/planning.py

A busy machine stretches the wall clock; the CPU seconds (user and system) and the multiples of `import torch` say more.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.engine.record import STORED
from harness.engine.run_folder import RunFolder
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite

LEAST_CELLS = 10_000
_EMPTY: dict[str, Any] = {"text": "", "real": 0.0, "whole": 0, "truth": False}
SUITE = """\
name: planning
datasets: [mini, {name: mini, split: train}]
metrics: [birqa-tiny, ssim, psnr]
defenses: [base, flip, {name: flip, threat: adaptive}]
attacks:
  - noise
  - fgsm
  - name: pgd
    matrix: {steps: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], step_size: [0.5/255, 1/255, 2/255, 3/255, 4/255]}
budgets: {linf: [1/255, 2/255, 3/255, 4/255, 6/255, 8/255]}
exclude: [{metric: psnr, attack: "pgd(steps=3*"}]
limit: 64
"""


def seconds(command: Sequence[str], repeats: int = 3) -> tuple[float, float]:
    """Median wall-clock seconds and median CPU seconds of a command."""
    wall, cpu = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), _cpu()
        subprocess.run(command, check=True, capture_output=True)
        wall.append(time.perf_counter() - began)
        cpu.append(_cpu() - spent)
    return statistics.median(wall), statistics.median(cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finish(suite: Path, folder: Path) -> None:
    """A run folder with one made-up record for each cell, facts and probes among them, and its report."""
    registry = Registry()
    plan = make_plan(load_suite(suite, registry), registry)
    store = RunFolder(folder)
    store.open(plan.suite)
    for cell in plan.cells:
        (entry,) = plan.limited(cell.split)
        row = {column.name: _EMPTY[column.type] for column in STORED} | {"batch": 1, "status": "ok"}
        row |= {"item": entry.id, "sample": entry.id, "reference": entry.reference_id, "group": entry.group}
        row |= {"cluster": entry.cluster or entry.reference_id}
        row |= {"attack": cell.attack.name if cell.attack else "clean", "norm": cell.norm, "eps": cell.eps}
        store.write_records(cell.id, 0, {name: [value] for name, value in row.items()})
    for fact in plan.facts:
        store.write_fact(fact.id, {"range": 1.0, "std": 1.0, "median": 0.5, "line": None})
    for probe in plan.probes:
        store.write_probe(probe.id, {"faults": []})
    run_suite(plan.suite, registry, Options(out=folder))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.yaml"
        suite.write_text(SUITE, encoding="utf-8")
        robustiqa = [sys.executable, "-m", "harness"]
        plan = [*robustiqa, "plan", str(suite), "--out", f"{folder}/run", "--json"]
        printed = subprocess.run(plan, check=True, capture_output=True, text=True).stdout
        cells = len(json.loads(printed)["cells"])
        if cells < LEAST_CELLS:
            sys.exit(f"the suite has {cells} cells, fewer than {LEAST_CELLS}; give it more")
        short = Path(folder) / "short.yaml"  # one image, so that making it up does not take hours
        short.write_text(SUITE.replace("limit: 64", "limit: 1"), encoding="utf-8")
        finish(short, Path(folder) / "finished")
        commands = [
            ("import torch", [sys.executable, "-c", "import torch"]),
            ("validate", [*robustiqa, "validate", str(suite)]),
            ("plan --json", plan),
            ("run, finished", [*robustiqa, "run", str(short), "--out", f"{folder}/finished", "-q"]),
        ]
        rows = [(name, *seconds(command)) for name, command in commands]
    print(f"{cells} cells")
    for name, wall, cpu in rows:
        print(f"{name:14} {wall:7.2f} s wall {cpu:7.2f} s CPU {cpu / rows[0][2]:6.1f} x import torch")


if __name__ == "__main__":
    main()
