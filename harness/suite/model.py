"""A validated suite: what it uses, with every parameter spelled out. `harness.suite.resolve` makes it from a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.plugins.model import Contents, Kind
from harness.plugins.weights.locate import read_manifest, zoo
from harness.plugins.weights.manifest import SUFFIX
from harness.rng import Norm
from harness.suite.conditions import Condition, Exclusion
from harness.suite.identity import Written, as_written, identity
from harness.suite.layout_file import LayoutSpec
from harness.wording import split_name, trained_name

PixelsKey = Literal["sampled", "all", "names"]
Precision = Literal["fp32", "bf16"]
"""In which the images of a white-box attack are scored while it searches."""

Adjustment = Literal["holm", "bh"]
"""Of p-values of contrasts: Holm's, for the chance of one error, or Benjamini and Hochberg's, for their share."""

Floor = Literal["none", "restore"]
"""What a result is compared with beside the start: nothing, or the ball's point nearest to the reference."""
NO_FLOOR: Floor = "none"

OPINIONS = "opinions"
"""What `IrScore.reference` says of the opinions of the train split."""
NO_MAP = "none"
"""What `IrScore.mapping` says where qualities are compared as they are."""
LEAST_RATED = 3
"""Images with opinions that a correlation needs."""


@dataclass(frozen=True)
class Use:
    """A plugin as a suite uses it, with every parameter spelled out."""

    kind: Kind
    name: str
    parameters: Mapping[str, Any]
    version: int
    code: str
    contents: Contents
    label: str

    def identity(self) -> dict[str, Any]:
        """What of it decides results; the label does not, and a path counts by what it names."""
        parameters = {key: self.contents.parameters.get(key, value) for key, value in self.parameters.items()}
        plain = {"name": self.name, "parameters": parameters, "version": self.version, "code": self.code}
        return {**plain, **self.contents.identity()}


@dataclass(frozen=True)
class DatasetUse(Use):
    """A data set and the split to evaluate."""

    split: str
    splits: tuple[str, ...]
    labels: Literal["human", "proxy", "none"]
    shape: Literal["pairs", "triplets"]
    pixels: PixelsKey = "sampled"
    """Of which image files the contents are looked at."""
    cluster_noun: str = "cluster"
    """`Dataset.cluster_noun`: a word of tables, no part of identity."""
    calibrated_on_train: bool = True
    """`Dataset.calibrated_on_train`; identity has what follows from it, the facts of the calibration split."""

    def identity(self) -> dict[str, Any]:
        """Adds the split; the plan adds the fingerprint."""
        return {**super().identity(), "split": self.split}

    @property
    def calibration_split(self) -> str:
        """The split that facts about scorers come from."""
        return "train" if self.calibrated_on_train and "train" in self.splits else self.split

    @property
    def learns_apart(self) -> bool:
        """Whether the calibration split shares no image with the evaluated one ("all" holds every split)."""
        return self.calibration_split != self.split and self.split != "all"


@dataclass(frozen=True)
class MetricUse(Use):
    """A metric and its weights."""

    weights: str
    """sha256 of the weight file, "random", or empty for metrics without weights."""
    weights_file: Path | None

    def identity(self) -> dict[str, Any]:
        """Adds the weights' hash."""
        return {**super().identity(), "weights": self.weights}


@dataclass(frozen=True)
class AttackUse(Use):
    """An attack or a control."""

    control: bool
    fits: bool
    norms: frozenset[Norm]
    needs_gradient: bool = True
    metrics: tuple[MetricUse, ...] = ()
    """Those it uses beside the one it attacks."""
    floor: Floor = NO_FLOOR
    """What its result is never worse than, beside the unattacked image."""

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides what it does."""
        return identity("attack", self.identity())

    @functools.cached_property
    def written(self) -> Written:
        """Its identity as it stands in that of cells and fits."""
        return as_written(self.identity())

    def identity(self) -> dict[str, Any]:
        """Adds the metrics it uses and its floor, where it has any."""
        metrics = [metric.identity() for metric in self.metrics]
        floor = {"floor": self.floor} if self.floor != NO_FLOOR else {}
        return {**super().identity(), **({"metrics": metrics} if metrics else {}), **floor}


@dataclass(frozen=True)
class PurifierUse(Use):
    """A purifier, and the weights of its network where it has one."""

    weights: str = ""
    """sha256 of the weight file, "random", or empty for purifiers without a network."""
    weights_file: Path | None = None

    def identity(self) -> dict[str, Any]:
        """Adds the weights' hash, where it has a network."""
        return {**super().identity(), **({"weights": self.weights} if self.weights else {})}


@dataclass(frozen=True)
class TrainedUse:
    """Weights that a training gave each metric: what stands for them in a suite's defenses."""

    name: str
    label: str
    metrics: Mapping[str, MetricUse] = field(default_factory=dict)
    """Label of a metric -> it with these weights; without the metrics that are left out."""
    asked: str | Mapping[str, str] | None = None
    """While a suite is read, where it says that the weights are: a folder, or metric label -> file or name; None: in
    the manifest."""

    def identity(self) -> dict[str, Any]:
        """What of it decides results; until weights are found, what was asked for."""
        found: dict[str, Any] = {label: metric.identity() for label, metric in self.metrics.items()}
        return found or {"name": self.name, "asked": self.asked}  # asked for, or of no metric at all


@dataclass(frozen=True)
class DefenseUse:
    """Weights trained as a defense, purifiers before the metric, or both; and what the attacker knows of them."""

    label: str
    purifiers: tuple[PurifierUse, ...]
    threat: Literal["none", "oblivious", "adaptive"]
    eot: int
    draws: int
    trained: TrainedUse | None = None
    """What takes the place of the metric's own weights."""

    def identity(self) -> dict[str, Any]:
        """What of it decides results; the label does not."""
        purifiers = [purifier.identity() for purifier in self.purifiers]
        trained = {"trained": self.trained.identity()} if self.trained else {}
        return {"purifiers": purifiers, "threat": self.threat, "eot": self.eot, "draws": self.draws, **trained}


@dataclass(frozen=True)
class IrScore:
    """How the IR-Score is made: an account of the report's, no part of identity."""

    mapping: str = "quantile"
    """How qualities are taken to the common domain: a name of `harness.statistics.transport.MAPPINGS`, or none."""
    reference: str = OPINIONS
    """What the common domain is: the opinions of the train split, or the label of a metric."""
    scaler: Literal["train", "test"] = "train"
    """Whose clean scores fill [0, 1] after the map."""
    rule: Literal["trapezoid", "mean"] = "trapezoid"
    """How budgets are weighed."""
    direction: str = "up"
    paper_dashes: bool = False
    """Whether rows without a defense are printed as dashes, as the paper has them."""

    @property
    def needs_opinions(self) -> bool:
        """Whether there is none without opinions."""
        return self.mapping != NO_MAP and self.reference == OPINIONS


@dataclass(frozen=True)
class Resources:
    """What a cluster gives each worker; no part of identity."""

    cpus: float = 1.0
    gpus: float | None = None
    """None: 1 where the device is a GPU, otherwise 0."""
    memory: float = 0.0
    """GiB; 0 for none that is set aside."""


@dataclass(frozen=True)
class Suite:
    """A validated suite.

    >>> from harness.plugins.registry import Registry
    >>> from harness.suite.resolve import read_suite
    >>> suite = read_suite({"name": "mine", "datasets": ["mini"], "metrics": ["psnr"]}, Registry())
    >>> [metric.label for metric in suite.metrics], suite.slice_size
    (['psnr'], 8)
    """

    name: str
    seed: int
    datasets: tuple[DatasetUse, ...]
    metrics: tuple[MetricUse, ...]
    defenses: tuple[DefenseUse, ...]
    attacks: tuple[AttackUse, ...]
    budgets: tuple[tuple[Norm, float], ...]
    directions: tuple[str, ...]
    tables: tuple[str, ...]
    transfer: tuple[tuple[str, str], ...]
    """(label of the attacked metric, label of the judging metric)."""
    limit: int | None
    slice_size: int
    contrasts: tuple[tuple[str, str], ...] = ()
    """(label, label) of metrics whose ranks are compared, as `contrast_names` has them; empty for every two metrics."""
    adjust: Adjustment = "holm"
    """How the p-values of contrasts are adjusted for their number."""
    margin: float = 0.0
    """Difference of opinions that a pair must exceed to count in pair accuracy."""
    exclude: tuple[Exclusion, ...] = ()
    save_examples: int = 0
    """Samples, first in hash order, whose attacked images are kept."""
    exact: bool = False
    """Whether they are kept as floats too."""
    which: Literal["both", "preferred_down", "rejected_up", "p0"] = "both"
    """Of a triplet's patches, those that are attacked."""
    precision: Precision = "fp32"
    """In which white-box attacks search."""
    batch_budgets: bool = False
    """Whether an attack takes all budgets of a norm in one batch."""
    verdicts: bool | int = True
    """Whether verdicts on gradient masking are given; as a number, with cells of their own on so many samples."""

    ir_score: IrScore = IrScore()
    """How the IR-Score is made, where tables ask for it."""
    parts: tuple[Suite, ...] = ()
    """Of a suite over several splits, the plain suite of each; metrics and defenses are then those of the first split,
    and data sets those of all, called by split."""
    layouts: tuple[LayoutSpec, ...] = ()
    """Tables as their author lays them out; no part of identity."""
    resources: Resources = Resources()
    """What a cluster gives each worker."""
    cluster: tuple[tuple[str, str], ...] = ()
    """(name or label of a data set, its folder on the nodes of a cluster)."""
    relative: frozenset[str] = field(default=frozenset(), compare=False)
    """Absolute forms of the paths to data and weights that were written as relative ones."""

    @property
    def verdict_samples(self) -> int:
        """Samples of each data set, first in hash order, on which cells are added for verdicts alone."""
        return 0 if isinstance(self.verdicts, bool) else self.verdicts

    @property
    def named_metrics(self) -> Sequence[tuple[str, MetricUse]]:
        """Every metric by its label, and with the weights of trained defenses by ``LABEL@DEFENSE``."""
        trained = [defense.trained for defense in self.defenses if defense.trained]
        labels = [metric.label for metric in self.metrics]
        defended = [
            (trained_name(label, one.label), use)
            for one in trained
            for label, use in one.metrics.items()
            if label in labels
        ]
        return [*((metric.label, metric) for metric in self.metrics), *dict(defended).items()]

    @property
    def contrast_names(self) -> Sequence[str]:
        """What `contrasts` may name: every metric, and with each of its defenses as ``LABEL@DEFENSE``."""
        defenses = dict.fromkeys(defense.label for defense in self.defenses if defense.purifiers or defense.trained)
        labels = [metric.label for metric in self.metrics]
        return [*labels, *(trained_name(label, defense) for label in labels for defense in defenses)]

    def weights(self) -> dict[str, str]:
        """sha256 of every weight file, or "random": of metrics, of these as trained, and of purifiers' networks."""
        if self.parts:
            of_each = enumerate(part.weights() for part in self.parts)
            return {split_name(name, i): sha256 for i, found in of_each for name, sha256 in found.items()}
        found = {name: metric.weights for name, metric in self.named_metrics}
        found |= {use.label: use.weights for defense in self.defenses for use in defense.purifiers}
        return {name: weights for name, weights in found.items() if weights}

    def excludes(self, condition: Condition) -> bool:
        """Whether a cell is left out."""
        return any(exclusion.removes(condition) for exclusion in self.exclude)

    def resolved(self) -> dict[str, Any]:
        """The suite as a file would say it with nothing left to defaults; reading it gives this suite again."""
        if self.parts:
            written = [part.resolved() for part in self.parts]
            own = {key: _listed_by_split([one[key] for one in written]) for key in ("metrics", "defenses")}
            return {**written[0], **own, "splits": len(written), **self._layouts_written()}
        labels = [metric.label for metric in self.metrics]
        return {
            "name": self.name,
            "seed": self.seed,
            "datasets": [{**_written(use), "split": use.split, "pixels": use.pixels} for use in self.datasets],
            "metrics": [{**_written(use), **_weights_written(use)} for use in self.metrics],
            "defenses": [_defense_written(use, labels) for use in self.defenses],
            "attacks": [{**_written(use), **_floor_written(use)} for use in self.attacks],
            "budgets": {norm: [eps for other, eps in self.budgets if other == norm] for norm in dict(self.budgets)},
            "directions": list(self.directions),
            "which": self.which,
            "precision": self.precision,
            "batch_budgets": self.batch_budgets,
            "tables": list(self.tables),
            "transfer": [{"source": source, "scorer": scorer} for source, scorer in self.transfer],
            "contrasts": [{"a": a, "b": b} for a, b in self.contrasts],
            "adjust": self.adjust,
            "margin": self.margin,
            "verdicts": self.verdicts,
            "exclude": [exclusion.written() for exclusion in self.exclude],
            "limit": self.limit,
            "slice": self.slice_size,
            "save_examples": self.save_examples,
            "exact": self.exact,
            **({"resources": asdict(self.resources)} if self.resources != Resources() else {}),
            **({"cluster": dict(self.cluster)} if self.cluster else {}),
            **self._layouts_written(),
            **({"ir_score": asdict(self.ir_score)} if self.ir_score != IrScore() else {}),
        }

    def _layouts_written(self) -> dict[str, Any]:
        return {"layouts": [dict(spec.source) for spec in self.layouts]} if self.layouts else {}


def _listed_by_split(values: Sequence[Any]) -> Any:
    """What the suites of several splits say: what differs, which weights alone do, as a list with an entry for each."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if isinstance(first, dict):
        return {key: _listed_by_split([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_listed_by_split(at_one_place) for at_one_place in zip(*values, strict=True)]
    return list(values)


def _written(use: Use) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps({"name": use.name, "label": use.label, **use.parameters}))
    return plain


def _weights_written(use: MetricUse | PurifierUse) -> dict[str, str]:
    return {"weights": _file_written(use) if use.weights_file else use.weights} if use.weights else {}


def _file_written(use: MetricUse | PurifierUse) -> str:
    """The name of weights that come with robustiqa, wherever it is installed; the path of any others."""
    file = Path(use.weights_file or "")
    name = file.name.removesuffix(SUFFIX)
    ours = file.parent == zoo() and read_manifest().get(name, {}).get("sha256") == use.weights
    return name if ours else str(file)


def _floor_written(use: AttackUse) -> dict[str, str]:
    return {"floor": use.floor} if use.floor != NO_FLOOR else {}


def _defense_written(use: DefenseUse, metrics: Sequence[str]) -> dict[str, Any]:
    """A defense as a file says it, with the trained weights of these metrics."""
    parts = [_trained_written(use.trained, metrics)] if use.trained else []
    parts += [{**_written(purifier), **_weights_written(purifier)} for purifier in use.purifiers]
    if not parts:
        return {"name": "base", "label": use.label}
    what = parts[0] if len(parts) == 1 else {"chain": parts}
    eot = {"eot": use.eot} if use.threat == "adaptive" else {}
    return {**what, "label": use.label, "threat": use.threat, "draws": use.draws, **eot}


def _trained_written(use: TrainedUse, metrics: Sequence[str]) -> dict[str, Any]:
    files = {label: _file_written(metric) for label, metric in use.metrics.items() if label in metrics}
    return {"name": use.name, "label": use.label, "weights": files}


def too_few_queries(use: AttackUse, defenses: Sequence[DefenseUse]) -> Iterator[str]:
    """What is wrong with a black-box attack that cannot pay for one evaluation: it would be recorded as harmless."""
    queries = use.parameters.get("queries")
    if not isinstance(queries, int) or use.control:
        return
    for defense in defenses:
        if defense.threat == "adaptive" and defense.eot > queries:
            cost = f"one evaluation through '{defense.label}' takes {defense.eot} (its eot)"
            yield f"'{use.label}' has {queries} queries, and {cost}. Raise queries, or lower eot."
