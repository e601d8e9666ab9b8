"""Stand-ins for what a suite needs and is not here, so that it can be planned and timed: noise, and random weights.

Time, memory and room do not depend on what images show or on what weights were learnt; scores do, and are thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.datasets.catalogue import CATALOGUE, Published
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, resolve
from harness.plugins.weights.manifest import SUFFIX
from harness.suite.compose import read
from harness.suite.keys import as_defense, as_entry
from harness.suite.places import settle
from harness.suite.uses import plugin_use

_SPLITTING = ("split", "split_seed", "folds", "fold", "label")


@dataclass(frozen=True)
class StandIns:
    """What stands for what.

    Attributes:
        keys: Keys of the suite with stand-ins in them, in place of its own.
        told: What they stand for, in words.
    """

    keys: Mapping[str, Any]
    told: Sequence[str]


def stand_ins(path: Path, registry: Registry, folder: Path | None) -> StandIns:
    """Stand-ins for the data sets and weights of a suite that are not here.

    Args:
        path: The suite.
        registry: Where its plugins come from.
        folder: Where they are written; None says only what there would be.

    Raises:
        UserError: The suite cannot be read.
    """
    document = read(path)
    settle(document)
    value = document.value if isinstance(document.value, dict) else {}
    told: list[str] = []
    datasets = [_dataset(as_entry(one), registry, folder, told) for one in _listed(value, "datasets")]
    metrics = [_metric(as_entry(one), registry, told) for one in _listed(value, "metrics")]
    labels = {str(one.get("label") or one.get("name")): one for one in metrics if isinstance(one, dict)}

    def trained(entry: Any) -> Any:
        return _trained(entry, labels, registry, folder, told)

    defenses = [_links(as_defense(one), trained) for one in _listed(value, "defenses")]
    keys = {"datasets": datasets, "metrics": metrics, **({"defenses": defenses} if defenses else {})}
    return StandIns(keys if told else {}, told)


def _listed(value: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _links(entry: Any, change: Callable[[Any], Any]) -> Any:
    """A defense, or the links of a chain, changed."""
    if isinstance(entry, dict) and isinstance(entry.get("chain"), list):
        return {**entry, "chain": [change(as_entry(link)) for link in entry["chain"]]}
    return change(entry)


def _dataset(entry: Any, registry: Registry, folder: Path | None, told: list[str]) -> Any:
    name = entry.get("name") if isinstance(entry, dict) else None
    page = CATALOGUE.get(str(name))
    if page is None or "triplets" in page.images or not registry.knows("datasets", str(name)):
        return entry
    plugin = registry.dataset(str(name))
    known = {parameter.name for parameter in plugin.parameters()}
    try:
        dataset = plugin.build({key: one for key, one in entry.items() if key in known})
        dataset.entries(dataset.splits[0])
        return entry
    except UserError:
        pass
    counts = _counts(page)
    if counts is None:
        return entry
    references, images, wide, tall = counts
    told.append(f"{name}: {images:,} images of noise, {wide} x {tall}, of {references} references, as published")
    kept = {key: one for key, one in entry.items() if key in _SPLITTING}
    file = "stand-in.csv" if folder is None else str(_write_images(folder / str(name), *counts))
    return {"name": "csv", "file": file, "label": name, "pixels": "names", **kept}


def _counts(page: Published) -> tuple[int, int, int, int] | None:
    """References, images, width and height of a data set as published; None where a number is missing."""
    size = re.fullmatch(r"(\d+) x (\d+)", page.resolution)
    references = re.match(r"\d+", page.references)
    images = page.counts.get("all")
    if size is None or references is None or images is None:
        return None
    return int(references[0]), images, int(size[1]), int(size[2])


def _write_images(folder: Path, references: int, images: int, wide: int, tall: int) -> Path:
    """A table of so many images, all of them one picture of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("ref", "dist"):
        Image.fromarray(rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for number in range(references):
        (folder / f"r{number}.png").hardlink_to(folder / "ref.png")
    rows = (f"r{i % references}.png,dist.png,{i},{i / images:.6f}" for i in range(images))
    table = folder / "stand-in.csv"
    table.write_text("\n".join(["ref,dist,id,opinion", *rows]) + "\n", encoding="utf-8")
    return table


def _metric(entry: Any, registry: Registry, told: list[str]) -> Any:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not registry.knows("metrics", str(name)):
        return entry
    plugin = registry.metric(str(name))
    weights = entry.get("weights")
    if not plugin.cls.needs_weights or weights == RANDOM_WEIGHTS or _found(plugin.name, weights, plugin.weights):
        return entry
    values = {one.name: entry.get(one.name, one.default) for one in plugin.parameters()}
    label = plugin_use("metrics", plugin, values, entry)["label"]
    told.append(f"{label}: random weights")
    return {**entry, "weights": RANDOM_WEIGHTS, "label": label}


def _found(name: str, weights: Any, default: str | None) -> bool:
    try:
        return resolve(name, weights, default) is not None
    except (UserError, ValueError, RuntimeError, TypeError):
        return False


def _trained(
    entry: Any, metrics: Mapping[str, Mapping[str, Any]], registry: Registry, folder: Path | None, told: list[str]
) -> Any:
    """A training with random weights of each metric whose trained ones are not here."""
    name = str(entry.get("name")) if isinstance(entry, dict) else ""
    if not name or name == "base" or registry.knows("purifiers", name):
        return entry
    asked = entry.get("weights")
    files, missing = {}, []
    for label, metric in metrics.items():
        if not registry.knows("metrics", str(metric["name"])):
            continue
        if not registry.metric(str(metric["name"])).cls.needs_weights:
            continue
        file = next((one for one in _named(asked, label, str(metric["name"]), name) if _found(label, one, None)), None)
        if file is None:
            missing.append(label)
            file = f"{label}@{name}{SUFFIX}"
            file = file if folder is None else str(_write_weights(folder / file, metric, registry, name))
        files[label] = file
    if not missing:
        return entry
    told.append(f"{name}: random weights of {', '.join(missing)}")
    return {**entry, "weights": files}


def _named(asked: Any, label: str, metric: str, training: str) -> Iterator[str]:
    """Where the weights that a training gave a metric may be, as a suite names them."""
    if isinstance(asked, dict):
        yield from (str(one) for one in [asked.get(label)] if one)
        return
    for name in dict.fromkeys((f"{label}@{training}", f"{metric}@{training}")):
        yield name if asked is None else str(Path(str(asked)) / f"{name}{SUFFIX}")


def _write_weights(file: Path, metric: Mapping[str, Any], registry: Registry, training: str) -> Path:
    """Weights as the metric is built with them; other trainings of it have the same numbers under another name."""
    plugin = registry.metric(str(metric["name"]))
    known = {parameter.name for parameter in plugin.parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = plugin.build({key: one for key, one in metric.items() if key in known})
    state = {key: value.detach().clone().contiguous() for key, value in built.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file, {"stands for": training})
    return file
