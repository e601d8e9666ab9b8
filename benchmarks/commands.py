"""How much processor time the commands a person waits for take, as multiples of `import torch`, interleaved in one run.

python benchmarks/commands.py            # --help, list, import robustiqa, validate, a finished quickstart again
python benchmarks/commands.py --rounds 9
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = Path(__file__).parents[1] / "suites" / "quickstart.yaml"
TORCH = "import torch"


def processor_seconds(command: list[str]) -> float:
    """User and system seconds of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times that each command is run")
    rounds = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as on anybody's machine
    robustiqa = [sys.executable, "-m", "harness"]
    with tempfile.TemporaryDirectory() as folder:
        again = [*robustiqa, "run", str(SUITE), "--limit", "8", "--out", f"{folder}/run"]
        changed = Path(folder) / "changed.yaml"
        long_way = [*robustiqa, "run", str(changed), "--out", f"{folder}/changed"]
        commands = {
            TORCH: [sys.executable, "-c", TORCH],
            "python -c pass": [sys.executable, "-c", "pass"],
            "import robustiqa": [sys.executable, "-c", "import robustiqa"],
            "robustiqa --help": [*robustiqa, "--help"],
            "robustiqa list": [*robustiqa, "list"],
            "robustiqa validate quickstart": [*robustiqa, "validate", str(SUITE)],
            "run quickstart again": again,
            "run a touched suite again": long_way,
        }
        changed.write_text(f"extends: {SUITE}\nname: quickstart\nmetrics: [psnr]\nlimit: 8\n", encoding="utf-8")
        for command in commands.values():
            subprocess.run(command, check=True, capture_output=True)  # what is to be found finished, and a warm cache
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            changed.touch()
            for name, command in commands.items():
                taken[name].append(processor_seconds(command))
    print(f"{'processor seconds, median of ' + str(rounds):34} {'s':>7} {'x import torch':>15}   (lowest to highest)")
    for name, seconds in taken.items():
        ratios = [one / torch for one, torch in zip(seconds, taken[TORCH], strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:34} {statistics.median(seconds):7.2f} {statistics.median(ratios):15.2f}   {spread}")


if __name__ == "__main__":
    main()
