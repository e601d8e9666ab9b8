"""One metric trained once for each of many sets of features, as for Figure 4 of the BiRQA paper (its appendix B).

A feature-set file names a recipe and the features; every set is a training of its own, with a run folder that resumes.
What has been trained or timed under the same recipe and protocol is not done again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
import pydantic

from harness.engine.provenance import device_name
from harness.engine.scorer import device_named
from harness.engine.speed import PAPER_FORWARDS, SpeedProtocol, measure_speed, timed_metric
from harness.files import write_whole
from harness.plugins.registry import Registry
from harness.suite.compose import FileKind, read_as
from harness.suite.layout_names import NAME
from harness.training.recipe_file import RecipeFile, TrainingError, read_recipe
from harness.training.record import RUN, SUMMARY
from harness.training.train import train

FEATURE_SETS = FileKind("feature-set", "name, recipe, features, ...", "suites/paper/figure4_mini.yaml")
_RAW = "raw"
_Names = Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
_Count = pydantic.PositiveInt


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Timing(_Strict):
    """How frames per second are measured."""

    width: _Count = 1920
    height: _Count = 1080
    forwards: _Count = PAPER_FORWARDS
    warmup: pydantic.NonNegativeInt = 10


class FeatureSets(_Strict):
    """A feature-set file, checked.

    Attributes:
        name: Of the folder of results.
        recipe: The recipe file by which every set is trained, relative to this file.
        changes: ``KEY=VALUE`` of the recipe that differ, as with ``--set``.
        features: All sets of these of each size in `sizes` are trained.
        sizes: 1 to 3 in the paper.
        kept: All sets of `kept_size` of these are trained too: what was not dropped.
        kept_size: 4 in the paper.
        chosen: The set that the figure marks; `raw` and `fifths` are added to it.
        raw: Whether both images are tried alone, and beside the chosen set.
        fifths: Features added to the chosen set, one at a time.
        timing: How frames per second are measured.
    """

    name: Annotated[str, pydantic.Field(pattern=NAME)]
    recipe: str
    changes: tuple[str, ...] = ()
    features: _Names
    sizes: tuple[_Count, ...] = (1, 2, 3)
    kept: tuple[str, ...] = ()
    kept_size: _Count = 4
    chosen: _Names
    raw: bool = True
    fifths: tuple[str, ...] = ()
    timing: Timing = Timing()

    @pydantic.model_validator(mode="after")
    def _each_once(self) -> Self:
        for key in ("features", "kept", "chosen", "fifths"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"`{key}` should name each feature once, got {', '.join(names)}")
        if strange := sorted({*self.kept, *self.chosen} - set(self.features)):
            raise ValueError(f"`features` should hold all of `kept` and `chosen`, and lacks {', '.join(strange)}")
        if both := sorted(set(self.fifths) & set(self.chosen)):
            raise ValueError(f"`fifths` are added to `chosen`, which has {', '.join(both)} already")
        return self


@dataclass(frozen=True)
class FeatureSet:
    """One set."""

    names: tuple[str, ...]
    kind: str
    """How many features it has, "raw", "raw + 4" or "fifth"."""

    @property
    def label(self) -> str:
        """Names joined by +."""
        return "+".join(self.names)

    @property
    def key(self) -> str:
        """What its folders are called."""
        return ".".join(self.names)


def read_feature_sets(path: Path) -> FeatureSets:
    """Read and check a feature-set file.

    Raises:
        UserError: It cannot be read, or has unknown keys or wrong values; all of them with their lines.
    """
    return read_as(path, FEATURE_SETS, FeatureSets)


def feature_sets(file: FeatureSets) -> list[FeatureSet]:
    """Every set of a file, each once: small ones first, then those of the kept, then the checks."""
    found: dict[frozenset[str], FeatureSet] = {}
    for size in file.sizes:
        for names in itertools.combinations(file.features, size):
            found.setdefault(frozenset(names), FeatureSet(names, str(size)))
    for names in itertools.combinations(file.kept, file.kept_size):
        found.setdefault(frozenset(names), FeatureSet(names, str(file.kept_size)))
    checks = [FeatureSet((_RAW,), _RAW), FeatureSet((*file.chosen, _RAW), "raw + 4")] if file.raw else []
    checks += [FeatureSet((*file.chosen, name), "fifth") for name in file.fifths]
    for one in checks:
        found.setdefault(frozenset(one.names), one)
    return list(found.values())


class FeatureRuns:
    """The sets of a file, and the folder that their trainings and timings stand in.

    Args:
        path: The feature-set file.
        folder: Holds ``training/SET``, ``weights/SET`` and ``speed/SET.json``.
        device: Where to train and to time.
        plugins: Extra plugin files.

    Raises:
        UserError: The file or its recipe is not in order, or the metric takes no such features.
    """

    def __init__(self, path: Path, folder: Path, device: str, plugins: Sequence[Path] = ()) -> None:
        self.file, self.folder, self.device, self.plugins = read_feature_sets(path), folder, device, tuple(plugins)
        self.recipe = path.parent / self.file.recipe
        self.sets = feature_sets(self.file)
        self.registry = Registry(plugins)
        everything = dict.fromkeys(name for one in self.sets for name in one.names)
        self._metric(FeatureSet(tuple(everything), ""))  # refuses unknown features before any is trained

    def recipe_of(self, one: FeatureSet) -> RecipeFile:
        """What trains a set."""
        return read_recipe(self.recipe, self._changes(one))

    def trained(self, one: FeatureSet) -> Mapping[str, Any] | None:
        """The summary of a set that has been trained by this very recipe; None otherwise."""
        run = self.folder / "training" / one.key
        record, summary = _read(run / RUN), _read(run / SUMMARY)
        same = record.get("recipe") == self.recipe_of(one).model_dump(mode="json")
        return summary if summary and same else None

    def train(self, one: FeatureSet) -> Mapping[str, Any]:
        """Train a set, or go on where that stopped; returns the summary.

        Raises:
            UserError: The training cannot be done.
        """
        folder = self.folder / "training" / one.key
        return train(self.recipe, folder, plugins=self.plugins, sets=self._changes(one), device=self.device).summary

    def timed(self, one: FeatureSet) -> Mapping[str, Any] | None:
        """The speed of a set, measured by this protocol on this kind of device; None otherwise."""
        page = _read(self._speed_path(one))
        return page["row"] if page.get("protocol") == self._protocol_page() else None

    def time(self, one: FeatureSet) -> Mapping[str, Any]:
        """Measure the speed of a set.

        Raises:
            UserError: The device cannot be used, or memory did not suffice.
        """
        row = measure_speed(self._metric(one), self._protocol(), self.plugins).row()
        page = {"row": row, "protocol": self._protocol_page()}
        write_whole(self._speed_path(one), (json.dumps(page, indent=1) + "\n").encode())
        return row

    def frame(self) -> pd.DataFrame:
        """A row per set that has been trained or timed: set, features, kind, srocc on validation, and its speed."""
        rows = []
        for one in self.sets:
            summary, speed = self.trained(one), self.timed(one)
            if summary is None and speed is None:
                continue
            validation = {"srocc": summary["validation"]["mean"], "collapsed": summary["collapsed"]} if summary else {}
            file = self.recipe_of(one)
            data = {"dataset": file.dataset.name, "labels": self.registry.dataset(file.dataset.name).cls.labels}
            rows.append(
                {"set": one.label, "features": len(one.names), "kind": one.kind, **validation, **(speed or {})}
                | {"precision": "fp32", "steps": file.steps, "metric": file.metric.name, **data}
            )
        frame = pd.DataFrame(rows)
        return frame.reindex(columns=list(dict.fromkeys(["set", "features", "kind", "srocc", "fps", *frame.columns])))

    def _changes(self, one: FeatureSet) -> list[str]:
        name = f"{self.file.name}.{one.key}"
        output = self.folder / "weights" / one.key
        own = {"name": name, "output": str(output), "metric.features": list(one.names)}
        return [*self.file.changes, *(f"{key}={json.dumps(value)}" for key, value in own.items())]

    def _metric(self, one: FeatureSet) -> Any:
        """The metric of a set, as it is timed."""
        metric = self.recipe_of(one).metric
        sets = [f"{key}={json.dumps(value)}" for key, value in metric.parameters().items()]
        return timed_metric(metric.name, sets, self.registry)

    def _protocol(self) -> SpeedProtocol:
        timing = self.file.timing
        return SpeedProtocol(timing.width, timing.height, timing.forwards, timing.warmup, self.device)

    def _protocol_page(self) -> dict[str, Any]:
        return {**asdict(self._protocol()), "device": device_name(device_named(self.device))}

    def _speed_path(self, one: FeatureSet) -> Path:
        return self.folder / "speed" / f"{one.key}.json"


def each_missing(
    runs: FeatureRuns, shard: tuple[int, int] = (0, 1), *, speed: bool = True, limit: int | None = None
) -> Iterator[tuple[FeatureSet, str]]:
    """Train, then time what is missing of one shard's sets; yields a set and "trained" or "timed" as each is done.

    Args:
        runs: The sets.
        shard: (i, n): every n-th set from the i-th on.
        speed: Whether sets are timed; other work on the machine at the same time makes them slow.
        limit: The first so many of them that are missing.

    Raises:
        TrainingError: A recipe whose validation is no SROCC.
    """
    own = [one for one in runs.sets[shard[0] :: shard[1]] if not (runs.trained(one) and (runs.timed(one) or not speed))]
    own = own[:limit]
    for one in own:
        if runs.trained(one) is None:
            summary = runs.train(one)
            if summary["measure"] != "srocc":
                raise TrainingError(f"{runs.recipe}: validates by {summary['measure']}; take a recipe on pairs.")
            yield one, "trained"
    for one in own if speed else ():
        if runs.timed(one) is None:
            runs.time(one)
            yield one, "timed"


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none that can be read."""
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return page if isinstance(page, dict) else {}
