"""What the engine hands to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.engine.gallery_store import GalleryKept
from harness.report.training_time import TrainingTime
from harness.statistics.directions import TRIPLETS
from harness.suite.model import NO_FLOOR, Adjustment, IrScore
from harness.wording import trained_name

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.grouped import CellRows

UNFINISHED = "NOT FINISHED"
"""How the notice of a run begins that is not done."""


def _no_records() -> pd.DataFrame:
    import pandas as pd  # a run plans with what stands here before it has any records

    return pd.DataFrame()


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set beyond the evaluated records."""

    name: str
    split: str
    labels: Literal["human", "proxy", "none"]
    kind: Literal["pairs", "triplets"]
    items: int
    references: int
    mean_opinion: float | None
    """Mean opinion score of the whole split, before any limit."""
    calibration: str = ""
    """The samples that lines from quality to opinions are fitted on, in words."""
    cluster_noun: str = "reference"
    """What the independent units of the split are called, in the singular."""


@dataclass(frozen=True)
class AttackFacts:
    """What stands behind an attack's label."""

    name: str
    """Registered name."""
    parameters: Mapping[str, Any]
    needs_gradient: bool
    """False for black-box attacks."""
    floor: str = NO_FLOOR
    """What its result is never worse than, beside the unattacked image."""


@dataclass(frozen=True)
class UseFacts:
    """What stands behind a label, for comparing it with that of another run."""

    name: str
    """Registered name; of a defense those of its parts, joined by +."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are not neutral, and what else decides results: weights, version, code, floor."""


@dataclass(frozen=True)
class Failure:
    """One sample on which a cell failed."""

    cell: str
    """The cell's one name, for instance "mini / birqa-tiny / pgd up eps 8/255"."""
    sample: str
    message: str


@dataclass(frozen=True)
class RunData:
    """One run: its records and what is needed to say how they were made."""

    name: str
    records: pd.DataFrame
    """One row per item, attack, sign, budget, scorer and draw; columns as in `harness.engine.record`, texts perhaps
    categorical (`harness.report.grouped.as_texts` has them as texts).

    Quality is higher-is-better; clean rows have attack "clean", sign 0 and eps 0."""
    datasets: Mapping[str, DatasetFacts]
    medians: Mapping[tuple[str, str, str], float]
    """(data set, metric, defense) -> median of clean quality, for `self_split`."""
    directions: Sequence[str]
    tables: Sequence[str]
    """Names of the tables wanted; empty for those that are made by default."""
    seed: int
    slice_size: int
    limit: int | None
    versions: Mapping[str, str]
    notices: Sequence[str]
    failures: Sequence[Failure]
    weights: Mapping[str, str]
    """Metric -> what it is and which weights it has; metrics without weights are left out."""
    networks: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(defense, purifier) -> what the purifier is and which weights it has; those without weights are left out."""
    expected: Sequence[tuple[str, str, str, str, str]] = ()
    """(data set, metric, defense, threat, source) of every scorer that the suite asks for, with records or without."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Metric -> rules of its contract that its probes found broken; metrics that keep all are left out."""
    group_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Data set -> group -> what tables call it; a group without a name is called what the records call it."""
    levels_not_strength: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Data set -> group -> why its levels are no strength of distortion; other groups are left out."""
    label_sources: Mapping[str, str] = field(default_factory=dict)
    """Data set -> which of several published sets of scores its labels are; others are left out."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Of a suite over several splits, name of a data set in one of them -> the data set's own, in their order."""
    attacks: Mapping[str, AttackFacts] = field(default_factory=dict)
    """Label -> what stands behind it."""
    blind: Sequence[str] = ()
    """Metrics that are not differentiable."""
    lower_is_better: Sequence[str] = ()
    """Metrics whose score is the lower the better; qualities are its negative."""
    ir_score: IrScore = field(default_factory=IrScore)
    """How the IR-Score is made."""
    map_records: pd.DataFrame = field(default_factory=_no_records)
    """Clean records of train splits, which maps are fitted on; columns as in `records`."""
    mapped_apart: Sequence[str] = ()
    """Data sets whose maps are to be fitted on a split of their own, whether its records are there or not."""
    which: str = "both"
    """Of a triplet's patches, those that are attacked: both, preferred_down, rejected_up or p0."""
    contrasts: Sequence[tuple[str, str]] = ()
    """(label of a metric, label of another) whose ranks are compared; empty for every two metrics without a defense."""
    adjust: Adjustment = "holm"
    """How p-values of several contrasts are adjusted."""
    margin: float = 0.0
    """Difference of opinions that a pair must exceed to count in pair accuracy."""
    precision: str = "fp32"
    """In which white-box attacks searched."""
    verdicts: bool = True
    """Whether verdicts on gradient masking are given."""
    verdict_records: pd.DataFrame = field(default_factory=_no_records)
    """Records of cells that verdicts alone look at, on the first few samples; columns as in `records`."""
    verdict_samples: int = 0
    """Samples of each data set that such cells were asked for; 0 where none were."""
    verdict_items: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Data set -> those samples."""
    trainings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Defense -> (training, purifiers) that it is made of; defenses that are purifiers alone are left out."""
    trained_on: Mapping[str, str] = field(default_factory=dict)
    """Metric, or METRIC@TRAINING -> the data set that its weights were trained on, where their manifest says so."""
    training_times: Mapping[tuple[str, str], TrainingTime] = field(default_factory=dict)
    """(metric, training) -> how long its weights were trained; "base" is the training of its own weights."""
    gallery: GalleryKept = field(default_factory=GalleryKept)
    """Attacked images that its page shows."""
    made: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """dataset, metric, attack or defense -> label -> registered name with the parameters that are no defaults."""

    uses: Mapping[str, Mapping[str, UseFacts]] = field(default_factory=dict)
    """dataset, metric, attack or defense -> label -> what stands behind it."""
    _memory: dict[tuple[str, str], Any] = field(init=False, default_factory=dict, compare=False, repr=False)
    """What several tables take from the records, made once."""

    def facts_of(self, dataset: str) -> DatasetFacts | None:
        """The facts of a data set; of one that is evaluated over several splits, those of its first."""
        first = next((one for one, own in self.splits.items() if own == dataset), dataset)
        return self.datasets.get(first)

    def records_of(self, dataset: str) -> pd.DataFrame:
        """Every record of a data set, those of cells that verdicts alone look at among them."""
        found: pd.DataFrame = self._once(("records", dataset), lambda: self._records_of(dataset))
        return found

    def _records_of(self, dataset: str) -> pd.DataFrame:
        import pandas as pd

        from harness.report.grouped import as_texts

        parts = [part for part in (self.records, self.verdict_records) if len(part)]
        wanted = [(part, (part["dataset"] == dataset).to_numpy()) for part in parts]
        kept = [part if here.all() else part[here] for part, here in wanted]
        if len(kept) < 2:
            return kept[0].reset_index(drop=True) if kept else self.records
        return pd.concat([as_texts(part) for part in kept], ignore_index=True)

    def cell_rows(self, dataset: str) -> CellRows:
        """The records of a data set by cell."""
        from harness.report.grouped import CellRows

        found: CellRows = self._once(("cells", dataset), lambda: CellRows(self.records_of(dataset)))
        return found

    def _once(self, key: tuple[str, str], make: Callable[[], Any]) -> Any:
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def weights_of(self, metric: str, defense: str) -> str:
        """What a metric is and which weights it has under a defense, which may bring its own; empty without weights."""
        training = self.trainings.get(defense, ("", ""))[0]
        return self.weights.get(trained_name(metric, training), self.weights.get(metric, ""))

    def directions_of(self, facts: DatasetFacts) -> Sequence[str]:
        """The directions that tables of a data set have; triplets have one, named after the patches attacked."""
        return self.directions if facts.kind == "pairs" else [TRIPLETS[self.which]]
