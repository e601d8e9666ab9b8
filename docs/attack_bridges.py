"""Run every attack that the bridges have on a few images, and write the tables of docs/attack_bridges.md.

python docs/attack_bridges.py                       all libraries, some minutes
python docs/attack_bridges.py torchattacks          the tables of one
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.contracts import Attack, Budget, Norm, QueryLimit, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry

PAGE = Path(__file__).with_name("attack_bridges.md")
METRIC, SIZE, IMAGES, STEPS, QUERIES = "birqa-tiny", 64, 4, 10, 300
RADII: dict[Norm, tuple[float, str]] = {"linf": (8 / 255, "8/255"), "l2": (2.0, "2")}
WHOLE = {"torchattacks:AutoAttack": 1, "pyautoattack:standard": 1, "art:AutoAttack": 0}
"""Images of those that take thousands of evaluations each, in Linf alone; 0 is not run."""
ITERATIONS = ("steps", "max_iter", "n_iter", "num_iter_set")
ONE_STEP = ("FGSM", "FFGSM", "FastGradientMethod")


@dataclass
class Bench:
    """The images, the metric, and our own attacks' results on them."""

    registry: Registry = field(default_factory=Registry)
    ours: dict[tuple[str, Norm, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scorer = Scorer(default_metric(METRIC, self.registry, torch.device("cpu")))
        self.reference, self.distorted = self._pairs("test", 700, IMAGES)
        reference, distorted = self._pairs("train", 33, 96)
        with torch.no_grad():
            clean = self.scorer.quality(self.scorer.encode(reference, SampleRng([])), distorted)
        self.sigma, self.range = float(clean.std()), float(clean.max() - clean.min())

    def _pairs(self, split: str, every: int, count: int) -> tuple[Tensor, Tensor]:
        """The middles of some pairs of the embedded data set."""
        mini = self.registry.dataset("mini").build({})
        loaded = [mini.load(entry) for entry in mini.entries(split)[::every][:count]]
        low = (loaded[0]["ref"].shape[-1] - SIZE) // 2
        middle = slice(low, low + SIZE)
        return tuple(torch.stack([x[name][..., middle, middle] for x in loaded]) for name in ("ref", "dist"))

    def shift(self, attack: Attack, norm: Norm, sign: int, count: int) -> tuple[float, float, float]:
        """Mean shift in the attacked direction in sigma, and forwards and backwards per image."""
        reference, distorted = self.reference[:count], self.distorted[:count]
        budget = Budget(norm, torch.full((count,), RADII[norm][0]))
        ids = [str(i) for i in range(count)]
        objective = ScorerObjective(
            self.scorer,
            reference,
            distorted,
            torch.full((count,), float(sign)),
            budget,
            SampleRng.for_samples(0, ids, "defense"),
            white_box=attack.needs_gradient,
            query_limit=None if attack.needs_gradient else QUERIES,
            scale=self.range,
        )
        with contextlib.nullcontext() if attack.needs_gradient else torch.no_grad():
            try:
                found = attack.perturb(objective, distorted.clone(), budget, SampleRng.for_samples(0, ids, "attack"))
            except QueryLimit:
                found = objective.best()
        with torch.no_grad():
            encoded = self.scorer.encode(reference, SampleRng([]))
            images = budget.project(found, distorted)
            gain = sign * (self.scorer.quality(encoded, images) - self.scorer.quality(encoded, distorted))
        ledger = objective.ledger
        counts = (float(column.float().mean()) for column in (ledger.forwards, ledger.backwards))
        return float(gain.clamp_min(0).mean()) / self.sigma, *counts

    def beside(self, name: str, attack: Attack, norm: Norm, count: int) -> str:
        """Our own attack with as many steps or queries, and its shifts."""
        called, parameters = "pgd", {"steps": STEPS}
        if not attack.needs_gradient:
            called, parameters = "square", {"queries": QUERIES, "p_init": 0.8}
        elif name.partition(":")[2] in ONE_STEP and norm == "linf":
            called, parameters = "fgsm", {}
        elif "apgd" in name.lower() or "AutoProjected" in name or name in WHOLE:
            called, parameters = "apgd", {"steps": STEPS}
        key = (called, norm, count)
        if key not in self.ours:
            own = self.registry.attack(called).build(parameters)
            up, down = (self.shift(own, norm, sign, count)[0] for sign in (1, -1))
            self.ours[key] = f"{up:.2f} / {down:.2f} `{called}`"
        return self.ours[key]

    def rows(self, name: str) -> list[str]:
        """The rows of one attack, one for each norm."""
        plugin = self.registry.attack(name)
        count = WHOLE.get(name, IMAGES)
        if count == 0:
            return [f"| `{name}` | | not run: some 80,000 evaluations an image | | | |"]
        parameters: dict[str, Any] = {p.name: STEPS for p in plugin.parameters() if p.name in ITERATIONS}
        if not plugin.cls.needs_gradient:
            parameters["queries"] = QUERIES
        attack = plugin.build(parameters)
        made = []
        for norm in sorted(attack.norms - ({"l2"} if name in WHOLE else set()), reverse=True):
            (up, forwards, backwards), (down, more, further) = (self.shift(attack, norm, s, count) for s in (1, -1))
            some = "" if count == IMAGES else f", {count} image"
            made.append(
                f"| `{name}` | {norm}{some} | {up:.2f} / {down:.2f} | {self.beside(name, attack, norm, count)} | "
                f"{forwards:.0f} / {more:.0f} | {backwards:.0f} / {further:.0f} |"
            )
            print(made[-1], flush=True)
        return made


def refusals(prefix: str) -> list[str]:
    """The table of a library's classes that cannot serve a score."""
    reasons = defaultdict(list)
    for name, reason in getattr(importlib.import_module(f"attacks.bridges.{prefix}"), "REFUSED", {}).items():
        reasons[reason].append(f"`{name}`")
    rows = [f"| {', '.join(names)} | {reason} |" for reason, names in reasons.items()]
    return (
        ["", f"What `{prefix}` has besides, and why it cannot be had:", "", "| class | reason |", "|---|---|", *rows]
        if rows
        else []
    )


def section(prefix: str, bench: Bench) -> str:
    """All that is generated for one library."""
    bridge = next(b for b in bench.registry.bridges("attacks") if b.prefix == prefix)
    radii = " and ".join(f"{text} in {norm}" for norm, (_, text) in RADII.items())
    lines = [
        f"### {prefix}",
        "",
        f"{bridge.status} with torch {torch.__version__.partition('+')[0]}, on `{METRIC}`, {IMAGES} images of the "
        f"embedded set, {SIZE} px of their middle, radius {radii}; {STEPS} steps or {QUERIES} queries. Shifts in the "
        "attacked direction, up / down, in σ of clean quality; forwards and backwards per image.",
        "",
        "| attack | norm | shift | ours | forwards | backwards |",
        "|---|---|---|---|---|---|",
        *(row for name in bench.registry.offered(bridge) for row in bench.rows(name)),
        *refusals(prefix),
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the sections of the libraries named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ("torchattacks", "pyautoattack", "art")
    parser.add_argument("prefix", nargs="*", help=f"any of {', '.join(known)}; all unless given")
    wanted = parser.parse_args().prefix or known
    torch.set_num_threads(1)
    bench = Bench()
    for prefix in wanted:
        marks = f"<!-- {prefix} -->", f"<!-- end of {prefix} -->"
        text = "\n".join((marks[0], "", section(prefix, bench), "", marks[1]))
        page = PAGE.read_text(encoding="utf-8")
        pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
        if not pattern.search(page):
            raise SystemExit(f"{PAGE.name} has no place for {prefix}: write {marks[0]} and {marks[1]} into it")
        PAGE.write_text(pattern.sub(lambda _, text=text: text, page), encoding="utf-8")


if __name__ == "__main__":
    main()
