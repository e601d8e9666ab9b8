"""Every shipped attack keeps its contract on shipped metrics: by default a part of all pairs that covers both.

`ROBUSTIQA_MATRIX=1 pytest tests/attacks/test_every_metric.py` tries every pair, which takes minutes.
"""

import functools
import itertools
import os

import pytest
import torch

from harness.plugins.build import default_metric
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import read_manifest
from harness.testing import check_attack

SHORT = {
    "apgd": {"steps": 2},
    "autoattack": {"steps": 2, "queries": 4, "restarts": 1, "draws": 1},
    "bpda": {"steps": 2},
    "cw": {"steps": 2},
    "cw_l2": {"steps": 2, "searches": 1},
    "facpa": {"width": 2, "depth": 2, "iterations": 2, "learning_rate": 1e-2},
    "parsimonious": {"queries": 4},
    "pgd": {"steps": 2},
    "pgd_on_grid": {"steps": 2},
    "pgd_traced": {"steps": 2, "looks": 1},
    "random_search": {"queries": 4},
    "smoothed": {"steps": 2, "copies": 2},
    "square": {"queries": 4},
    "zhang": {"steps": 2},
}
"""The fewest evaluations in which an attack does all that it does; the contract is the same."""
ON_ALL_METRICS = ("fgsm", "pgd", "square")
BY_ALL_ATTACKS = ("birqa-tiny", "psnr", "ssim")
SIDE = 11
"""Least side in pixels, for metrics that score smaller ones: zhang measures fidelity by SSIM."""
REGISTRY = Registry()


def _shipped(kind, package):
    return [n for n in REGISTRY.names(kind) if REGISTRY.source(kind, n).origin.split(".")[0] == package]


METRICS, ATTACKS = _shipped("metrics", "metrics_zoo"), _shipped("attacks", "attacks")
PAIRS = [
    pytest.param(metric, attack, id=f"{metric}-{attack}")
    for metric, attack in itertools.product(METRICS, ATTACKS)
    if os.environ.get("ROBUSTIQA_MATRIX") == "1" or metric in BY_ALL_ATTACKS or attack in ON_ALL_METRICS
]


@functools.cache
def built(name):
    """A metric with its own weights where those are in the package, otherwise with random ones."""
    plugin = REGISTRY.metric(name)
    here = {weights for weights, entry in read_manifest().items() if "file" in entry}
    if plugin.weights in here or not plugin.cls.needs_weights:
        return default_metric(name, REGISTRY, torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return plugin.build({}).eval().requires_grad_(False)


@pytest.mark.parametrize(("metric", "attack"), PAIRS)
def test_keeps_its_contract(metric, attack):
    tried = REGISTRY.attack(attack).build(SHORT.get(attack, {}))
    check_attack(tried, name=attack, size=SIDE, build=built, metric=built(metric))


def test_the_part_covers_every_metric_and_attack():
    pairs = [pair.values for pair in PAIRS]
    assert {metric for metric, _ in pairs} == set(METRICS) >= {"birqa", "topiq", "lpips-vgg", *BY_ALL_ATTACKS}
    assert {attack for _, attack in pairs} == set(ATTACKS) >= {"autoattack", "benign", "facpa", *ON_ALL_METRICS}
