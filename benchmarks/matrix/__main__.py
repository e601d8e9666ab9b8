"""The comparison of training recipes that a matrix file declares: times it, trains it, evaluates it, analyses it.

python benchmarks/matrix suites/train/defenses_mini/matrix.yaml time --minutes 120  # what fits, what is dropped
python benchmarks/matrix suites/train/defenses_mini/matrix.yaml train
python benchmarks/matrix suites/train/defenses_mini/matrix.yaml evaluate
python benchmarks/matrix suites/train/defenses_mini/matrix.yaml frontier
python benchmarks/matrix suites/train/defenses_mini/matrix.yaml analyse

Every phase may be killed, and the same command goes on. All stands in ``results/runs/matrix-NAME``, or under --out:
recipe files, run folders of trainings, weights, the runs of the evaluation, and ``analysis/`` with Markdown, CSV and a
PNG. Without `time` nothing is dropped.

Equal for all arms (protocol of the comparison): the base weights of a seed, steps, attacked images a step, the inner
attack and its direction unless that is the arm's question, one learning rate for all chosen on validation, last
weights. A seed decides the batches, crops and attacks of base and arms; a metric whose first weights do not depend on
the seed starts every base from the same ones. Test images are scored once, by `evaluate`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cells import Work
from declared import read_matrix
from evaluating import part_of, run_part
from planning import plan
from training import train_all
from written import write_analysis

from harness.errors import UserError
from harness.files import RUNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("phase", choices=["time", "train", "evaluate", "frontier", "analyse"])
    parser.add_argument("--minutes", type=float, help="of `time`: training and evaluation should end within so many")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        matrix = read_matrix(options.file)
        work = Work(matrix, (options.out or RUNS / f"matrix-{matrix.name}").absolute())
        work.folder.mkdir(parents=True, exist_ok=True)
        _do(options.phase, work, options.minutes)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _do(phase: str, work: Work, minutes: float | None) -> None:
    if phase == "time":
        plan(work, minutes)
    elif phase == "train":
        train_all(work)
    elif phase == "analyse":
        print(write_analysis(work))
    else:
        for kind in ("evaluation", "check") if phase == "evaluate" else ("frontier",):
            part = part_of(work, kind)
            if part is not None:
                run_part(work, part, kind)


if __name__ == "__main__":
    main()
