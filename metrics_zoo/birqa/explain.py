"""How a BiRQA score came about, as pictures: feature maps, gates, CSRAM, and what every scale contributed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.contracts import Panel
from metrics_zoo.birqa.features import CHANNEL_NAMES
from metrics_zoo.birqa.network import (
    AdaptiveFusion,
    CrossScaleResidualAttention,
    Network,
    ReliabilityAwareHead,
    SpatialCrossGating,
    Stem,
)


def explain(network: Network, features: Sequence[str], pyramid: Sequence[Tensor]) -> Iterator[Panel]:
    """Every panel of one pair; the walk is that of `Network.forward`.

    Args:
        network: The network.
        features: Names of its features.
        pyramid: Their maps on every level, finest first, 1 x F x h x w.
    """
    names = [name for feature in features for name in CHANNEL_NAMES[feature]]
    levels = []
    for i, (stem, fuse, maps) in enumerate(zip(network.stems, network.fusions, pyramid, strict=True)):
        assert isinstance(stem, Stem)
        assert isinstance(fuse, AdaptiveFusion)
        row = f"Level {i}: feature maps ({maps.shape[3]} x {maps.shape[2]})"
        for name, image in zip(names, maps[0], strict=True):
            yield Panel(row, name, image=image)
        embedded, gates = stem.parts(maps)
        for name, image in zip(features, gates[0], strict=True):
            yield Panel(f"Level {i}: stem gates", name, image=image, limits=(0, 1))
        gated = (embedded.unflatten(1, (len(features), -1)) * gates.unsqueeze(2)).flatten(1, 2)
        shares = fuse.attention.gates(gated)[0].unflatten(0, (len(features), -1)).mean(dim=1)
        yield Panel(f"Level {i}: stem gates", "fusion gate, mean", bars=_named(features, shares), limits=(0, 1))
        levels.append(fuse(gated))
    for i, lift in enumerate(network.lifts):
        if isinstance(lift, CrossScaleResidualAttention):
            strength, confidence, mask, _ = lift.parts(levels[i], levels[i + 1])
            row = f"CSRAM, level {i} to {i + 1}"
            yield Panel(row, "strength, mean over channels", image=strength[0].mean(dim=0))
            yield Panel(row, "confidence, mean over channels", image=confidence[0].mean(dim=0), limits=(0, 1))
            yield Panel(row, "mask", image=mask[0, 0], limits=(0, 1))
        levels[i + 1] = lift(levels[i], levels[i + 1])
    for i in reversed(range(len(network.gates))):
        gate = network.gates[i]
        if isinstance(gate, SpatialCrossGating):
            image = gate.mlp(levels[i + 1])[0].mean(dim=0)
            yield Panel("SCGB", f"gate of level {i} by {i + 1}, mean", image=image, limits=(0, 1))
        levels[i] = gate(levels[i], levels[i + 1])
    if isinstance(network.head, ReliabilityAwareHead):
        contributions, weights = network.head.parts(levels)
        scales = [f"level {i}" for i in range(len(levels))]
        row = "Reliability-aware head: score = sum of contribution x weight"
        yield Panel(row, "contribution", bars=_named(scales, contributions[0]))
        yield Panel(row, "weight", bars=_named(scales, weights[0]), limits=(0, 1))
        yield Panel(row, "contribution x weight", bars=_named(scales, (contributions * weights)[0]))


def _named(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(names, values.to(torch.float64).tolist(), strict=True))
