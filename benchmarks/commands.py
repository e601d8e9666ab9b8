"""How long the commands a person waits for take, as multiples of starting Python, all in one run.

python benchmarks/commands.py            # list, --help, validate, quickstart again
python benchmarks/commands.py --first    # quickstart from nothing, images and all, as well
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = Path(__file__).parents[1] / "suites" / "quickstart.yaml"


def seconds(command: list[str], repeats: int) -> float:
    """Median wall-clock seconds of a command."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    robustiqa = [sys.executable, "-m", "harness"]
    floor = seconds([sys.executable, "-c", "pass"], 5)
    rows = [("python -c pass", floor)]
    rows += [(" ".join(words), seconds([*robustiqa, *words], 5)) for words in (["--help"], ["list"])]
    rows.append(("validate quickstart", seconds([*robustiqa, "validate", str(SUITE)], 3)))
    with tempfile.TemporaryDirectory() as folder:
        run = [*robustiqa, "run", str(SUITE), "--out", f"{folder}/run"]
        first = seconds(run, 1)
        if "--first" in sys.argv:
            rows.append(("run quickstart", first))
        rows.append(("run quickstart again", seconds(run, 3)))
    for name, taken in rows:
        print(f"{name:24} {taken:7.2f} s {taken / floor:8.1f} x")


if __name__ == "__main__":
    main()
