"""What a step of adversarial training costs, as a share of what it may: 1.15 x (1 + inner steps) x a clean step.

python benchmarks/adversarial_training.py                    # birqa-tiny, 8 rows of 96 px, PGD-3, nine rounds
python benchmarks/adversarial_training.py --crop 128 --rounds 15

Both are whole steps of `Trainer`, from drawing the crops to Adam: one of the recipe `vanilla`, all of whose rows are
attacked, and one of `clean-plus` on as many rows. A round does one step of each way, in an order that changes from one
to the next, and ratios are taken within it: what slows the machine down for a while slows all. Processor time of one
thread. Beside it stand the mixed batches of `mix`, whose clean rows are not attacked: allowed are a clean step on all
rows and the inner steps on the attacked ones.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml

from harness.plugins.registry import Registry
from harness.training.members import material_of, members_of
from harness.training.recipe_file import read_recipe
from harness.training.trainer import Trainer

ALLOWED = 1.15
ROWS = 8


def trainer(recipe: str, batch: int, options: argparse.Namespace, folder: Path) -> Trainer:
    """A trainer of the metric by a recipe, from its shipped weights."""
    inner = {"name": "pgd", "steps": options.steps, "step_size": 4 / 255, "eps": 8 / 255, "direction": "random_sign"}
    content = {
        "name": f"{recipe}-{batch}",
        "metric": {"name": options.metric, "weights": options.metric},
        "dataset": "mini",
        "recipe": recipe,
        "steps": 10_000,
        "batch": batch,
        "learning_rate": 1e-5,
        "crop": options.crop,
        "output": str(folder / recipe),
        **({"inner": inner, "keep": "last"} if recipe != "clean-plus" else {}),
    }
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content))
    registry, file = Registry(), read_recipe(path)
    member = members_of(file, folder / recipe, registry)[0]
    return Trainer(member, material_of(member, path, registry), path, registry, torch.device("cpu"))


def steps_of(one: Trainer) -> Iterator[float]:
    """Processor seconds of one step after the other."""
    for indices, attacked in one.recipe.batches(one.splits.train, np.random.default_rng(0)):
        began = time.thread_time()
        one.one_step(indices, attacked)
        yield time.thread_time() - began
        one.step += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric", default="birqa-tiny")
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--steps", type=int, default=3, help="of the inner attack")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = {
            "clean, 8 rows": trainer("clean-plus", ROWS, options, folder),
            "clean, 16 rows": trainer("clean-plus", 2 * ROWS, options, folder),
            "vanilla, 8 attacked": trainer("vanilla", ROWS, options, folder),
            "mix, 8 of 16 attacked": trainer("mix", 2 * ROWS, options, folder),
        }
        running = {way: steps_of(one) for way, one in ways.items()}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(-2, options.rounds):  # two rounds are not counted: images are decoded in them
            for way in itertools.islice(itertools.cycle(ways), number % len(ways), number % len(ways) + len(ways)):
                seconds = next(running[way])
                if number >= 0:
                    taken[way].append(seconds)
    small, large = taken["clean, 8 rows"], taken["clean, 16 rows"]
    allowed = {
        "vanilla, 8 attacked": [ALLOWED * (1 + options.steps) * clean for clean in small],
        "mix, 8 of 16 attacked": [ALLOWED * (c + options.steps * s) for s, c in zip(small, large, strict=True)],
    }
    told = f"{options.metric}, {options.crop} px, PGD-{options.steps}, {options.rounds} rounds"
    print(f"torch {torch.__version__}, {told}\n")
    print("| step | ms | x what is allowed | lowest to highest |\n| --- | ---: | ---: | ---: |")
    for way, found in taken.items():
        ratios = [a / b for a, b in zip(found, allowed[way], strict=True)] if way in allowed else []
        share = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}" if ratios else " | "
        print(f"| {way} | {1e3 * statistics.median(found):.0f} | {share} |")


if __name__ == "__main__":
    main()
