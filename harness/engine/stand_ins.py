"""Stand-ins for what a suite needs and is not here, so that it can be planned and timed: noise, and random weights.

Time, memory and room do not depend on what images show or on what weights were learnt; scores do, and are thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.datasets.catalogue import CATALOGUE, Published
from harness.errors import UserError
from harness.files import expanded
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, SUFFIX, entries, held, read_manifest, resolve, trained
from harness.plugins.weights.manifest import file_in_folder
from harness.suite.compose import expand
from harness.suite.entries import METRIC_KEYS, EntryContext, built_entry, plugin_and_values
from harness.suite.keys import PIXELS, as_defense, as_entry
from harness.suite.over_splits import NUMBER, of_split
from harness.suite.strict_yaml import Document
from harness.suite.uses import plugin_use
from harness.wording import trained_name

_SPLITTING = ("split", "split_seed", "folds", "fold")
_MOST_SPLITS = 1000


@dataclass(frozen=True)
class StandIn:
    """What stands for what.

    Attributes:
        words: What it is; of weights what comes before the metrics that they are for.
        metrics: Labels of these.
        after: What comes after them.
    """

    words: str
    metrics: tuple[str, ...] = ()
    after: str = ""

    def of(self, metrics: Container[str]) -> str:
        """In words, for these metrics alone; empty where it is for none of them."""
        mine = [label for label in self.metrics if label in metrics]
        return f"{self.words}{', '.join(mine)}{self.after}" if mine or not self.metrics else ""


@dataclass
class StandIns:
    """Puts stand-ins in place of data sets and weights of a suite that are not here, and of nothing else.

    Whatever is wrong with an entry stays in it, for whoever validates the suite.

    Args:
        registry: Where its plugins come from.
        folder: Where stand-ins are written; None finds out only what there would be.
    """

    registry: Registry
    folder: Path | None = None
    told: list[StandIn] = field(default_factory=list)
    """What stands for what."""
    _splits: int | None = None
    _metrics: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)
    """Label of a metric with weights -> its entry, and its parameters."""
    _files: int = 0

    def put(self, document: Document) -> Document:
        """The suite with stand-ins.

        Args:
            document: The suite with the command line's values, its paths settled.
        """
        document = expand(document)
        if not isinstance(document.value, dict):
            return document
        value, count = dict(document.value), document.value.get("splits")
        self._splits = count if isinstance(count, int) and 1 <= count <= _MOST_SPLITS else None
        known: dict[str, Callable[[Any], Any]] = {"datasets": self._dataset, "metrics": self._metric}
        with torch.random.fork_rng(devices=[]):
            for key, change in {**known, "defenses": self._defense}.items():
                if isinstance(value.get(key), list):
                    value[key] = [change(one) for one in value[key]]
        return replace(document, value=value)

    def _dataset(self, listed: Any) -> Any:
        entry = as_entry(listed)
        page = CATALOGUE.get(_name(entry))
        if page is None or "triplets" in page.images or not _is_gone(entry.get("root"), page):
            return listed
        context = EntryContext(self.registry, [])
        plugin, values = plugin_and_values(context, "datasets", (), entry, ["split", "pixels"])
        built, counts = built_entry(context, plugin, (), values), _counts(page)
        if plugin is None or values is None or built is None or counts is None:
            return listed
        splits = tuple(built.instance.splits)
        default = "test" if "test" in splits else splits[0]
        split = entry.get("split", default)
        if split not in splits or entry.get("pixels", PIXELS[0]) not in PIXELS:
            return listed
        references, images, wide, tall = counts
        label = str(plugin_use("datasets", plugin, values, entry)["label"])
        label += f" {split}" if "label" not in entry and split != default else ""
        about = f"{images:,} images of noise, {wide} x {tall}, of {references} references, as published"
        self.told.append(StandIn(f"{label}: {about}"))
        file = "stand-in.csv" if self.folder is None else str(_write_images(self.folder / plugin.name, *counts))
        kept = {key: entry[key] for key in _SPLITTING if key in entry}
        return {"name": "csv", "file": file, "label": entry.get("label") or label, "pixels": "names", **kept}

    def _metric(self, listed: Any) -> Any:
        entry = as_entry(listed)
        if not self.registry.knows("metrics", _name(entry)):
            return listed
        context = EntryContext(self.registry, [])
        plugin, values = plugin_and_values(context, "metrics", (), entry, METRIC_KEYS)
        if plugin is None or values is None or not plugin.cls.needs_weights:
            return listed
        label = str(plugin_use("metrics", plugin, values, entry)["label"])
        self._metrics[label] = entry, values
        default = plugin.weights
        if not self._any_gone(entry.get("weights"), default) or built_entry(context, plugin, (), values) is None:
            return listed
        self.told.append(StandIn("", (label,), ": random weights"))
        return {**entry, "weights": RANDOM_WEIGHTS, "label": entry.get("label") or label}

    def _defense(self, listed: Any) -> Any:
        """A defense, or the links of a chain."""
        entry = as_defense(listed)
        if isinstance(entry, dict) and isinstance(entry.get("chain"), list):
            links = [self._training(link) for link in entry["chain"]]
            return links if isinstance(listed, list) else {**entry, "chain": links}
        return self._training(listed)

    def _training(self, listed: Any) -> Any:
        """A training with random weights of each metric whose trained ones are not here."""
        entry = as_entry(listed)
        name = _name(entry)
        if not name or name == "base" or self.registry.knows("purifiers", name):
            return listed
        asked = entry.get("weights")
        if not (isinstance(asked, str | dict) if "weights" in entry else name in trained()):
            return listed
        files, gone = {}, []
        for label, (metric, _) in self._metrics.items():
            places = _weights_of(asked, label, str(metric["name"]), name)
            found = next((one for one in places if all(map(_are_held, self._each(one)))), None)
            if found is not None:
                files[label] = found
            elif self._any_gone(asked.get(label, ""), None) if isinstance(asked, dict) else not _is_file(asked):
                files[label] = self._write_weights(label, name)
                gone.append(label)
        if not gone:
            return listed
        self.told.append(StandIn(f"{name}: random weights of ", tuple(gone)))
        return {**entry, "weights": {**asked, **files} if isinstance(asked, dict) else files}

    def _any_gone(self, weights: Any, default: str | None) -> bool:
        """Whether weights that a suite names rightly are not here, of any split."""
        each = self._each(weights)
        if any((one is not None and not isinstance(one, str)) or NUMBER in str(one) for one in each):
            return False
        return any(_are_gone(one, default) for one in each)

    def _each(self, weights: Any) -> list[Any]:
        """The weights of each split."""
        if self._splits is None or (isinstance(weights, list) and len(weights) != self._splits):
            return [weights]
        whole: dict[str, Any] = {"metrics": [{"weights": weights}]}
        return [of_split(whole, index)["metrics"][0]["weights"] for index in range(self._splits)]

    def _write_weights(self, label: str, training: str) -> str:
        """Weights as the metric is built with them; other trainings have the same numbers under another name."""
        if self.folder is None:
            return f"stand-in{SUFFIX}"
        entry, values = self._metrics[label]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = self.registry.metric(str(entry["name"])).build(values)
        state = {key: value.detach().clone().contiguous() for key, value in built.state_dict().items()}
        self._files += 1
        file = self.folder / f"{self._files}{SUFFIX}"
        save_file(state, file, {"stands for": training})
        return str(file)


def _name(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _is_gone(root: Any, page: Published) -> bool:
    """Whether the folder of a data set is not there, or holds nothing."""
    if not page.folder or not (root is None or isinstance(root, str)):
        return False
    try:
        folder = expanded(root or page.where, "root")
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except (UserError, OSError, ValueError):
        return False


def _are_gone(weights: str | None, default: str | None) -> bool:
    """Whether weights are not here, and are not named wrongly."""
    wanted = weights if weights is not None else default
    if wanted == RANDOM_WEIGHTS:
        return False
    try:
        if wanted in read_manifest():
            return any(one.place == "missing" for one in held(entries([str(wanted)])[0]))
        if weights is None:
            return True
        path = expanded(weights, "weights")
        named = path.suffix.lower() == SUFFIX or (len(path.parts) > 1 and not path.suffix)
        return named and not path.exists() and not _are_held(weights)
    except (UserError, OSError, ValueError):
        return False


def _are_held(weights: Any) -> bool:
    """Whether there are weights of such a name or at such a path."""
    try:
        return isinstance(weights, str) and resolve("", weights, None) is not None
    except (UserError, ValueError, RuntimeError):
        return False


def _is_file(asked: Any) -> bool:
    """Whether a file is named where a folder should be, or no folder can be meant."""
    try:
        return isinstance(asked, str) and (not asked or expanded(asked, "weights").is_file())
    except (UserError, ValueError):
        return True


def _weights_of(asked: Any, label: str, metric: str, training: str) -> Iterator[Any]:
    """Where the weights that a training gave a metric may be, as a suite names them."""
    if isinstance(asked, dict):
        yield from [asked[label]] if label in asked else []
        return
    names = dict.fromkeys(trained_name(one, training) for one in (label, metric))
    if asked is None:
        yield list(names)[-1]
        return
    yield from (str(Path(asked) / file_in_folder(name)) for name in names)


def _counts(page: Published) -> tuple[int, int, int, int] | None:
    """References, images, width and height of a data set as published; None where a number is missing."""
    size = re.fullmatch(r"(\d+) x (\d+)", page.resolution)
    references = re.match(r"\d+", page.references)
    images = page.counts.get("all")
    if size is None or references is None or images is None:
        return None
    return int(references[0]), images, int(size[1]), int(size[2])


def _write_images(folder: Path, references: int, images: int, wide: int, tall: int) -> Path:
    """A table of so many images, all of them one picture of noise; one for all splits of a data set."""
    table = folder / "stand-in.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("ref", "dist"):
        Image.fromarray(rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for number in range(references):
        (folder / f"r{number}.png").hardlink_to(folder / "ref.png")
    rows = (f"r{i % references}.png,dist.png,{i},{i / images:.6f}" for i in range(images))
    table.write_text("\n".join(["ref,dist,id,opinion", *rows]) + "\n", encoding="utf-8")
    return table
