"""What is asked of a metric before its scores are believed: the probes of its contract, and a few measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.contracts import Metric
from harness.engine.jobs import noting_failure
from harness.engine.scorer import load_metric
from harness.engine.worker import Done, Job, Worker
from harness.plugins.weights.locate import RANDOM_WEIGHTS
from harness.suite.plan import Probe
from harness.testing.common import ConformanceError, Report, image_pairs
from harness.testing.metrics import probe_contract, scores_of, smallest_side


@dataclass(frozen=True)
class ProbeJob(Job):
    """Probes a metric with its weights, and stores what is found."""

    probe: Probe

    @property
    def id(self) -> str:
        """That of the probe."""
        return self.probe.id

    @property
    def label(self) -> str:
        """'probe psnr'."""
        return f"probe {self.probe.label}"

    def work(self, worker: Worker) -> Done:
        """Probe it on the CPU, wherever the worker scores."""
        return noting_failure(self, worker.store, lambda: self._probe(worker))

    def _probe(self, worker: Worker) -> None:
        use = self.probe.metric
        metric = load_metric(use, worker.registry, torch.device("cpu"))
        found = probe_metric(metric, use.name, trained=use.weights != RANDOM_WEIGHTS)
        worker.store.write_probe(self.id, {"metric": use.label, **found})


def probe_metric(metric: Metric, name: str, *, trained: bool = True) -> dict[str, Any]:
    """Probe a metric on made images, on the CPU.

    Args:
        metric: On the CPU, its weights loaded.
        name: What messages call it.
        trained: False for random weights, whose scores have no sense to check.

    Returns:
        Plain values: ``faults`` (rule, seen, cure of every broken rule), ``range`` (lowest and highest finite score
        met), ``smallest`` (smallest square side in pixels that gets finite scores; None if none up to 512 does),
        ``identical`` and ``flat`` (scores of identical and of two flat images; None where they cannot be had).
    """
    metric = metric.probed()
    try:
        report = Report("metric", metric, name)
        probe_contract(metric, report, trained=trained)
        report.settle()
        faults: list[Mapping[str, str]] = []
    except ConformanceError as error:
        faults = [{"rule": f.rule, "seen": f.seen, "cure": f.cure} for f in error.faults]
    side = max(32, metric.minimum_size if isinstance(metric.minimum_size, int) else 1)
    ref, dist = image_pairs(side, side)
    flat = torch.full_like(ref[:1], 0.25)
    scores = {
        "distorted": scores_of(metric, ref, dist),
        "identical": scores_of(metric, ref[:1], ref[:1]),
        "flat": scores_of(metric, flat, flat + 0.25),
    }
    met = [value for found in scores.values() if found for value in found if abs(value) != float("inf")]
    return {
        "faults": faults,
        "range": [min(met), max(met)] if met else None,
        "smallest": smallest_side(metric),
        "identical": _plain(scores["identical"]),
        "flat": _plain(scores["flat"]),
    }


def _plain(scores: list[float] | None) -> float | str | None:
    """A score as JSON has it, which knows no infinity."""
    if not scores:
        return None
    return str(scores[0]) if abs(scores[0]) == float("inf") else scores[0]
