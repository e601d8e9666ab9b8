"""How long a suite of 10,000 cells takes to check, to plan and to find finished, and one of 100,000 to plan.

python benchmarks/planning.py

A busy machine stretches the wall clock; the CPU seconds (user and system) and the multiples of `import torch` say more.
"""

from __future__ import annotations

import json
import os
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
LONGER = (
    ("steps: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", f"steps: {list(range(1, 33))}"),
    ("[0.5/255, 1/255, 2/255, 3/255, 4/255]", f"[{', '.join(f'{i / 8:g}/255' for i in range(1, 16))}]"),
)
"""What makes 99,702 cells of it."""


def spent(command: Sequence[str], repeats: int = 3) -> tuple[float, float, float]:
    """Median wall-clock seconds, median CPU seconds and highest MiB of a command."""
    wall, cpu, most = [], [], 0
    for _ in range(repeats):
        began = time.perf_counter()
        with tempfile.TemporaryFile() as out:
            child = subprocess.Popen(command, stdout=out, stderr=out)
            _, status, used = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        wall.append(time.perf_counter() - began)
        cpu.append(used.ru_utime + used.ru_stime)
        most = max(most, used.ru_maxrss)
    return statistics.median(wall), statistics.median(cpu), most / 1024


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
        large = Path(folder) / "large.yaml"
        large.write_text(SUITE.replace(*LONGER[0]).replace(*LONGER[1]), encoding="utf-8")
        commands = [
            ("import torch", [sys.executable, "-c", "import torch"]),
            ("validate", [*robustiqa, "validate", str(suite)]),
            ("plan --json", plan),
            ("run, finished", [*robustiqa, "run", str(short), "--out", f"{folder}/finished", "-q"]),
            ("validate, large", [*robustiqa, "validate", str(large)]),
            ("plan, large", [*robustiqa, "plan", str(large), "--out", f"{folder}/run"]),
            ("plan --json, large", [*robustiqa, "plan", str(large), "--out", f"{folder}/run", "--json"]),
        ]
        rows = [(name, *spent(command)) for name, command in commands]
    print(f"{cells:,} cells; large: 99,702")
    for name, wall, cpu, mib in rows:
        times = cpu / rows[0][2]
        print(f"{name:18} {wall:7.2f} s wall {cpu:7.2f} s CPU {times:6.1f} x import torch {mib:6.0f} MiB")


if __name__ == "__main__":
    main()
