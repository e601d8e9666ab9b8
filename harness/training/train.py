"""One recipe file from reading it to the weight file: its members one after the other, each of them resumable."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.contracts import UserError
from harness.files import RUNS
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import WeightFile, read_manifest
from harness.plugins.weights.state_dicts import read_tensors
from harness.training.identity import refuse_other_runs
from harness.training.measures import Validation
from harness.training.members import Material, Member, material_of, members_of
from harness.training.output import (
    entry_of,
    entry_of_folds,
    join_folds,
    list_weights,
    refuse_taken,
    weight_path,
    write_weights,
)
from harness.training.recipe_file import RecipeFile, TrainingError, read_recipe, refuse_output
from harness.training.record import RunRecord, chosen, summary_of, write_summary
from harness.training.reporter import Reporter
from harness.training.trainer import Trained, Trainer
from harness.wording import for_one_line


@dataclass(frozen=True)
class TrainResult:
    """What a finished training left behind."""

    weights: Path
    """The one member's, the joined folds', or those of the seed with the best validation."""
    sha256: str
    run: Path
    summary: dict[str, Any]
    """What summary.json holds."""
    histories: tuple[tuple[Validation, ...], ...]
    """Every validation of every member."""

    @property
    def collapsed(self) -> bool:
        """The alarm sounded at the validation whose weights were kept, of one member at least."""
        return bool(self.summary["collapsed"])


@dataclass(frozen=True)
class Preview:
    """What a recipe file would train."""

    name: str
    steps: int
    batch: int
    members: tuple[dict[str, Any], ...]
    """Of each: name, seed, sizes of its splits, parameters trained and in all, sha256 it starts from."""
    weights: Path
    run: Path


def train(
    path: Path,
    out: Path | None = None,
    *,
    plugins: Sequence[Path] = (),
    sets: Sequence[str] = (),
    device: str = "cpu",
) -> TrainResult:
    """Train a metric by a recipe file; the same command again resumes a killed run.

    Args:
        path: The recipe file.
        out: Run folder; ``results/runs/train-<name>`` by default.
        plugins: Extra plugin files.
        sets: ``KEY.PATH=VALUE`` changes of the recipe file.
        device: Where to train. On the CPU the same recipe, data and versions give the same bytes.

    Raises:
        TrainingError: Bad recipe file, unusable data, a run folder or `output` of another recipe, or a training that
            diverged.
    """
    file = read_recipe(path, sets)
    threads = torch.get_num_threads()
    torch.set_num_threads(file.threads)
    try:
        return _Run(file, path, out, plugins, device).run()
    except UserError as error:
        raise _placed(error, path) from error
    except OSError as error:
        raise TrainingError(
            f"{error.filename or out}: cannot be used ({error.strerror or error}). "
            "Choose a writable run folder with --out, and a writable 'output'; the same command goes on from there."
        ) from error
    finally:
        torch.set_num_threads(threads)


def preview(path: Path, out: Path | None = None, *, plugins: Sequence[Path] = (), sets: Sequence[str] = ()) -> Preview:
    """What `train` would do; reads labels and starting weights, trains and writes nothing.

    Raises:
        TrainingError: As `train`.
    """
    file = read_recipe(path, sets)
    try:
        return _Run(file, path, out, plugins, "cpu").preview()
    except UserError as error:
        raise _placed(error, path) from error


def _placed(error: UserError, path: Path) -> UserError:
    return error if str(path) in str(error) else TrainingError(f"recipe file {path}: {error}")


class _Run:
    def __init__(self, file: RecipeFile, path: Path, out: Path | None, plugins: Sequence[Path], device: str) -> None:
        self.file, self.path, self.plugins, self.device = file, path, plugins, device
        self.folder = out or RUNS / f"train-{file.name}"
        self.registry = Registry(plugins)
        self.members = members_of(file, self.folder, self.registry)
        source = self.registry.source("metrics", file.metric.name)
        if file.folds is not None and source.file is not None:
            raise TrainingError(
                f"`folds`: the metric '{source.name}' comes from {source.origin}, and the weight file of several folds "
                "can hold installed metrics only. Make it a package with an entry point in the group robustiqa.metrics."
            )

    def run(self) -> TrainResult:
        """Train every member, then write the weights."""
        # All data are looked at before the first member is trained, so that the last one has no surprises.
        materials = self._materials()
        trainer = self._trainer(0, materials)
        self._refuse_what_is_there(materials)
        for note in _notes(self.file, trainer.started):
            print(for_one_line(f"note: {note}"), file=sys.stderr)
        record = RunRecord(self.folder, self.path, self.file, self.device, self.plugins)
        trained: list[Trained] = []
        with Reporter(self.file.name, len(self.members), self.file.steps) as reporter:
            for note in dict.fromkeys(note for material in materials for note in material.notes):
                reporter.noted(note)
            for i, member in enumerate(self.members):
                trainer = trainer if i == 0 else self._trainer(i, materials)
                trained.append(trainer.run(reporter))
                record.trained(member, trained[-1])
                if member.name:  # many networks need not be in memory at once
                    write_weights(_own_weights(member), trained[-1].weights)
                    trained[-1] = replace(trained[-1], weights={})
        kind = materials[0].recipe.kind
        summary = summary_of(self.file, self.members, trained, kind)
        write_summary(self.folder, summary)
        path = weight_path(self.file.output)
        if self.file.folds is not None:
            state = join_folds(self.file, materials, [_trained(member) for member in self.members])
            sha256 = write_weights(path, state)
            entry = entry_of_folds(self.file, self.members, trained, kind, len(state["held_out"]))
        else:
            best = chosen(trained)
            member = self.members[best]
            sha256 = write_weights(path, _trained(member) if member.name else trained[best].weights)
            entry = entry_of(member.file, trained[best], kind)
            if len(trained) > 1:
                entry["chosen"] = {"of": len(trained), "by": f"validation {summary['measure']}"}
        list_weights(path, entry)
        record.finished()
        return TrainResult(path, sha256, self.folder, summary, tuple(one.history for one in trained))

    def preview(self) -> Preview:
        """Build everything and train nothing."""
        found = []
        materials = self._materials()
        for i, member in enumerate(self.members):
            trainer = self._trainer(i, materials)
            facts = {key: trainer.facts[key] for key in ("splits", "parameters", "started_from")}
            found.append({"name": member.name or self.file.name, "seed": member.file.seed, **facts})
        self._refuse_what_is_there(materials)
        weights = weight_path(self.file.output)
        return Preview(self.file.name, self.file.steps, self.file.batch, tuple(found), weights, self.folder)

    def _refuse_what_is_there(self, materials: Sequence[Material]) -> None:
        """Before anything is written: neither another training's record nor its weights should be lost."""
        refuse_output(Path(self.file.output), self.path)
        refuse_taken(self.file)
        refuse_other_runs(self.members, materials, self.registry)

    def _materials(self) -> list[Material]:
        found: list[Material] = []
        for member in self.members:
            shared = found[0].images if found else None
            found.append(material_of(member, self.path, self.registry, shared))
        return found

    def _trainer(self, index: int, materials: Sequence[Material]) -> Trainer:
        device = torch.device(self.device)
        return Trainer(self.members[index], materials[index], self.path, self.registry, device)


def _notes(file: RecipeFile, started: WeightFile | None) -> list[str]:
    """What the figures will not say."""
    entry = read_manifest().get(started.name, {}) if started is not None else {}
    if started is None or entry.get("trained_on", {}).get("dataset") != file.dataset.name:
        return []
    return [
        f"the weights '{started.name}' were trained on {file.dataset.name} already, so its validation and test "
        "images are no news to them."
    ]


def _own_weights(member: Member) -> Path:
    """Where a member of several keeps its weights."""
    return weight_path(str(member.folder / "weights"))


def _trained(member: Member) -> dict[str, torch.Tensor]:
    """The weights that a member of several was trained to."""
    path = _own_weights(member)
    return read_tensors(path.read_bytes(), path)
