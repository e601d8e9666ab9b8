"""Makes the label files of `mini`: python -m harness.datasets.mini.labels (needs piq; about five minutes).

The **proxy quality** of an image is the mean of its ranks by GMSD, HaarPSI, FSIM and VIFp (piq) among all images of
all splits, scaled to [0, 1], then made monotone over the five levels of each reference and distortion type. It says
what four classical metrics agree on, not what people see.
"""

from __future__ import annotations

import csv
import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata
from torch import Tensor, nn

from harness.datasets.images import Pixels, to_tensor
from harness.datasets.mini import LABELS_FILE, PROCEDURAL, REFERENCES_FILE, pixel_hash
from harness.datasets.mini.distortions import DISTORTIONS, LEVELS, Array, distort
from harness.datasets.mini.references import CROPS, PHOTOGRAPHS, names, reference

SPLITS = ("train", "val", "test")

METRICS: Mapping[str, int] = {"gmsd": -1, "haarpsi": 1, "fsim": 1, "vifp": 1}
"""The metrics behind the proxy quality, and whether higher (+1) or lower (-1) is better."""

_STRICTNESS = 0.001


def measure(refs: Tensor, dists: Tensor) -> dict[str, Array]:
    """Scores of the four metrics for N pairs, N x 3 x H x W in [0, 1], each rounded to six decimals.

    Rounded, so that the proxy quality can be computed again from the label file exactly.
    """
    with torch.inference_mode():
        return {name: np.round(score(dists, refs).double().numpy(), 6) for name, score in _piq_metrics().items()}


def proxy_quality(scores: Mapping[str, Array]) -> Array:
    """Proxy quality in [0, 1], 1 = best, of N images from their scores by `METRICS`.

    Args:
        scores: Shape [N] each; rows of one reference and type follow each other in groups of five, weakest level first.
    """
    count = len(next(iter(scores.values())))
    ranks = [(rankdata(sign * scores[name]) - 1) / max(count - 1, 1) for name, sign in METRICS.items()]
    series = np.mean(ranks, axis=0).reshape(-1, len(LEVELS))
    return np.concatenate([monotone(levels) for levels in series])


def monotone(levels: Array) -> Array:
    """The falling sequence nearest to `levels` in the least-squares sense, tilted slightly so that no two are equal."""
    pooled = isotonic_regression(levels, increasing=False).x
    tilt = np.linspace(1, 0, len(levels))
    return np.asarray((1 - _STRICTNESS) * pooled + _STRICTNESS * tilt)


def _main() -> None:
    """Make every image, measure it, and write both label files."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[Array]] = {name: [] for name in METRICS}
    credits: list[dict[str, Any]] = []
    todo = [(split, name) for split in SPLITS for name in names(split)]
    for done, (split, name) in enumerate(todo, start=1):
        ref = reference(name)
        credits.append(_credit(split, name, ref))
        kinds = [(kind, level) for kind in DISTORTIONS for level in LEVELS]
        images = [distort(ref, name, kind, level) for kind, level in kinds]
        for metric, values in measure(_stack([ref] * len(images)), _stack(images)).items():
            scores[metric].append(values)
        for (kind, level), image in zip(kinds, images, strict=True):
            identity = {"id": f"{split}/{name}/{kind}/{level}", "split": split, "reference": name}
            rows.append({**identity, "type": kind, "level": level, "sha": pixel_hash(image)})
        print(f"\r{done}/{len(todo)} references: {split}/{name}".ljust(60), end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    columns = {name: np.concatenate(values) for name, values in scores.items()}
    quality = proxy_quality(columns)
    for i, row in enumerate(rows):
        row.update({name: f"{column[i]:.6f}" for name, column in columns.items()}, quality=f"{quality[i]:.6f}")
    _write(LABELS_FILE, ("id", "split", "reference", "type", "level", "quality", *METRICS, "sha"), rows)
    _write(REFERENCES_FILE, tuple(credits[0]), credits)


class _Anything(type):
    """A class every attribute of which is a class again: enough for piq to define networks nobody builds here."""

    def __getattr__(cls, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (nn.Module,), {})


class _Stub(types.ModuleType):
    """Stands in for torchvision, which piq imports for its networks and which has no build for every torch."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (nn.Module,), {})


def _import_piq() -> Any:
    absent = [name for name in ("torchvision", "torchvision.models") if name not in sys.modules]
    sys.modules.update({name: _Stub(name) for name in absent})
    try:
        return importlib.import_module("piq")
    finally:
        # Left in place, the stub would tell other libraries that torchvision is installed.
        for name in absent:
            del sys.modules[name]


def _piq_metrics() -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    piq = _import_piq()
    return {
        "gmsd": lambda dist, ref: piq.gmsd(dist, ref, reduction="none"),
        "haarpsi": lambda dist, ref: piq.haarpsi(dist, ref, reduction="none"),
        "fsim": lambda dist, ref: piq.fsim(dist, ref, reduction="none"),
        "vifp": lambda dist, ref: piq.vif_p(dist, ref, reduction="none"),
    }


def _stack(images: Sequence[Pixels]) -> Tensor:
    return torch.stack([to_tensor(image) for image in images])


def _credit(split: str, name: str, pixels: Pixels) -> dict[str, Any]:
    crop = CROPS.get(name)
    drawn = {"source": PROCEDURAL, "x": "", "y": "", "shrink": "", "credit": "robustiqa", "licence": "Apache-2.0"}
    if crop is None:
        return {"reference": name, "split": split, **drawn, "url": "", "sha": pixel_hash(pixels)}
    photo = PHOTOGRAPHS[crop.photograph]
    place = {"source": photo.file, "x": crop.x, "y": crop.y, "shrink": crop.shrink}
    owed = {"credit": photo.credit, "licence": photo.licence, "url": photo.source}
    return {"reference": name, "split": split, **place, **owed, "sha": pixel_hash(pixels)}


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    _main()
