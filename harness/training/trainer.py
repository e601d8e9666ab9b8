"""The training of one member: steps, validations, checkpoints, and the weights that are kept."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import ContradictionError, Metric, TrainingBatch
from harness.engine.provenance import device_name
from harness.files import write_whole
from harness.plugins.build import default_metric
from harness.plugins.guard import called_in_messages, calling
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import WeightFile, load, read_manifest
from harness.training.average import WeightAverage
from harness.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from harness.training.finite_json import finite_json
from harness.training.identity import checkpoint_identity, started_from
from harness.training.images import limits_of, training_batch
from harness.training.inner import Spent, build_inner
from harness.training.link import Linked
from harness.training.measures import COLLAPSE, Validation, best_of, qualities, ran_out, tested, validation
from harness.training.members import Material, Member
from harness.training.overheard import Overheard, Spread
from harness.training.recipe_file import RecipeFile, TrainingError, build_plugin
from harness.training.reporter import Reporter
from harness.training.robust import RobustValidation
from harness.training.steps import Step, StepLog
from harness.training.trainable import matching, trainable, training_mode

OPTIMISER = torch.optim.Adam
_TESTED = "tested.json"
_LINK_STARTS_FROM = 32
"""Items whose least-squares line the affine link begins at, where the first batch may not do."""


@dataclass(frozen=True)
class Trained:
    """What the training of one member left behind."""

    weights: Mapping[str, Tensor]
    """State dict of the validation that is kept."""
    best: Validation
    """The validation that is kept: the best one, or the last."""
    history: tuple[Validation, ...]
    stopped: bool
    """It ended early: validations got no better."""
    link: Mapping[str, float] | None
    """The affine link's `a` and `b` at the validation that is kept."""
    test: Mapping[str, Any] | None
    """Figures of the test split, where there is one."""
    facts: Mapping[str, Any]
    """Sizes, fingerprint, labels, starting weights and device, for records."""
    seconds: float
    alarm: int | None
    """First step at which the spread of training batches fell below the bar; None if it never did."""
    spent: Mapping[str, float]
    """Forwards and backwards, seconds of the inner attack, clean and attacked images, distinct ones."""


class Trainer:
    """One member: its objects, its state, its folder.

    Args:
        member: What to train.
        material: Its data and recipe.
        path: The recipe file, for messages.
        registry: Where plugins come from.
        device: Where to train.

    Raises:
        TrainingError: A plugin, a parameter or the data cannot be used.
    """

    def __init__(
        self, member: Member, material: Material, path: Path, registry: Registry, device: torch.device
    ) -> None:
        file = member.file
        self.member, self.file, self.folder, self.device = member, file, member.folder, device
        self.data, self.recipe, self.splits = material.data, material.recipe, material.splits
        self.images = material.images
        self._identity = functools.partial(checkpoint_identity, file, material, registry)
        plugin = registry.metric(file.metric.name)
        with torch.random.fork_rng(devices=[]):  # for metrics that draw their first weights from the global stream
            torch.default_generator.manual_seed(file.seed)
            self.metric = build_plugin(plugin, path, file.metric.parameters())
        if not any(True for _ in self.metric.parameters()):
            raise TrainingError(f"the metric '{file.metric.name}' has nothing to train. Choose another.")
        self.trained = trainable(self.metric, file)
        self.held = [self.trained[name] for name in matching(self.trained, file.nonnegative, "nonnegative", file)]
        self.started = started_from(file, registry)
        if self.started is not None:
            load(self.metric, self.started)
        self.metric.to(device)
        linked = file.link == "affine" or not self.metric.higher_is_better
        self.link = Linked(self.metric).to(device) if linked else None
        self.model: Metric = self.link or self.metric
        self.overheard = Overheard(self.model)
        links = [self.link.a, self.link.log_b] if self.link is not None else []
        self.parameters = [*self.trained.values(), *links]
        self.optimiser = OPTIMISER(self.parameters, lr=file.learning_rate, betas=file.betas)
        self.step = 0
        self.history: list[Validation] = []
        self.best, self.best_link = _copied(self.metric), self._link_state()
        self.seconds = 0.0
        self.inner = None
        if file.inner is not None and material.attack is not None:
            self.inner = build_inner(file.inner, self.recipe.kind, file.seed, material.attack, registry, device)
        self.robust = None
        if file.robust is not None:
            self.robust = RobustValidation(file.robust, file, self.splits.val, self.images, registry, device)
        self.helpers = {name: default_metric(name, registry, device) for name in self.recipe.uses_metrics()}
        helpers = {**self.helpers, **(self.inner.helpers if self.inner is not None else {})}
        for name, metric in ((file.metric.name, self.metric), *helpers.items()):
            if file.crop is not None and file.crop < metric.minimum_size:
                raise TrainingError(
                    f"crop {file.crop} is below the {metric.minimum_size} px that '{name}' needs. Raise it, or take "
                    "another metric there."
                )
        self.limits = limits_of(self.splits.train, file) if self.recipe.kind == "pairs" else None
        self.average = WeightAverage(self.model, file.ema)
        self.spread = Spread(armed=self.started is not None)
        self.spent = {"forwards": 0, "backwards": 0, "attack_s": 0.0, "clean": 0, "attacked": 0}
        self.seen: set[int] = set()
        """Entries of the train split that were in a batch."""

    def run(self, reporter: Reporter) -> Trained:
        """Train to the end, from the last checkpoint if there is one.

        Raises:
            TrainingError: The checkpoint is another recipe's, or gradient, weights or scores are not finite.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        reporter.begin(self.member.name, self.step, self.spread.alarm)
        losses: list[float] = []
        with StepLog(self.folder, self.step) as log:
            for indices, attacked in self._batches():
                if ran_out(self.history, self.file.patience):
                    break
                started = time.monotonic()
                losses.append(self.one_step(indices, attacked))
                log.add(self.logged)
                if self.spread.judge(self.logged.spread, self.step):
                    reporter.alarmed(self.step, self.logged.spread)
                self.step += 1
                due = self.step % self.file.evaluate_every == 0 or self.step == self.file.steps
                if due:
                    self._validate(float(np.mean(losses)))
                    losses.clear()
                self.seconds += time.monotonic() - started
                if due:
                    self._checkpoint()
                    reporter.validated(self.history[-1], self.recipe.kind)
                reporter.advanced(self.step)
        stopped = self.step < self.file.steps
        if stopped:
            reporter.stopped(self.step, self.file.patience or 0)
        return self._finish(stopped)

    def _batches(self) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
        """The batches that are left. Those before are drawn too: a recipe may keep count of them."""
        batches = self.recipe.batches(self.splits.train, np.random.default_rng([self.file.seed, 0]))
        for step, (indices, attacked) in zip(range(self.file.steps), batches, strict=False):
            if step >= self.step:
                yield indices, attacked
            else:
                self.seen.update(int(i) for i in indices)

    def _link_starts_from(self, batch: TrainingBatch) -> TrainingBatch:
        """The first batch; where a recipe attacks and a batch may be a narrow band of labels, a draw from all of them.

        A line through a band is hardly more than the noise within it, and its slope next to nothing.
        """
        if not self.recipe.attacks:
            return batch
        rng, train = np.random.default_rng([self.file.seed, 3]), self.splits.train
        chosen = [train[i] for i in rng.choice(len(train), min(len(train), _LINK_STARTS_FROM), replace=False)]
        flags = [False] * len(chosen)
        drawn = training_batch(chosen, flags, self.images, self.file, self.step, self.recipe.kind, self.limits)
        return TrainingBatch({key: value.to(self.device) for key, value in drawn.items()})

    def one_step(self, indices: Sequence[int], attacked: Sequence[bool]) -> float:
        """One batch: attack, loss, gradient, Adam; leaves its log line in `logged` and returns its loss.

        Raises:
            TrainingError: The gradient is not finite, or the recipe saw what cannot be.
        """
        began = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = self.file.learning_rate * _schedule(self.file, self.step)
        self.seen.update(int(i) for i in indices)
        chosen = [self.splits.train[i] for i in indices]
        batch = training_batch(chosen, attacked, self.images, self.file, self.step, self.recipe.kind, self.limits)
        batch = TrainingBatch({key: value.to(self.device) for key, value in batch.items()}, self.helpers.__getitem__)
        if self.link is not None and self.step == 0:
            training_mode(self.metric)
            with self._seeded():
                self.link.start(self._link_starts_from(batch))
        spent = Spent()
        if self.inner is None and any(attacked):
            raise TrainingError(
                f"recipe '{self.file.recipe.name}' flags rows to attack and does not say `attacks = True`. Mend it."
            )
        if self.inner is not None:
            batch, spent = self.inner(self.model, batch, [entry.id for entry in chosen], self.step)
        training_mode(self.metric)
        self.optimiser.zero_grad(set_to_none=True)
        self.overheard.begin()
        with self._seeded():
            loss, figures = self._loss(batch)
        with calling(called_in_messages(type(self.metric), self.file.metric.name), "backward"):
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.file.gradient_clip)
        ratio = self._ratio(batch)
        start = batch["start"].nanmean() if "start" in batch else torch.full((), torch.nan, device=self.device)
        told = (loss, norm, ratio, start, *figures.values())
        copied = torch.stack([value.detach().double() for value in told]).tolist()
        if not math.isfinite(copied[1]):
            raise TrainingError(
                f"the gradient is not finite at step {self.step}: the training diverged. Lower `learning_rate`."
            )
        self.optimiser.step()
        with torch.no_grad():
            for parameter in self.held:
                parameter.clamp_(min=0)
        self.average.take_in(self.step)
        heard = self.overheard
        spent = spent + Spent(heard.scored, heard.differentiated)
        self._account(spent, attacked)
        self.logged = Step(
            step=self.step,
            loss=copied[0],
            figures=dict(zip(figures, copied[4:], strict=True)),
            gradient_norm=copied[1],
            forwards=spent.forwards,
            backwards=spent.backwards,
            attack_s=round(spent.seconds, 4),
            step_s=round(time.perf_counter() - began, 4),
            spread=copied[2],
            start=copied[3],
        )
        return self.logged.loss

    def _loss(self, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        try:
            loss, figures = self.recipe.loss(self.overheard, batch)
        except ContradictionError as error:
            name = self.file.recipe.name
            raise TrainingError(
                f"recipe '{name}' at step {self.step}: {error}. This cannot be and is a bug of the recipe or the "
                "trainer, so the training stops: please report it with the recipe file."
            ) from error
        for key, value in {"the loss": loss, **figures}.items():
            if not (isinstance(value, Tensor) and value.ndim == 0):
                raise TrainingError(
                    f"recipe '{self.file.recipe.name}': {key} is {_kind_of(value)}. Return a tensor without axes."
                )
        return loss, figures

    def _ratio(self, batch: TrainingBatch) -> Tensor:
        """std(prediction) / std(label) over the last training batches; nan for triplets, which have no labels."""
        if self.recipe.kind == "triplets":
            return torch.full((), torch.nan, device=self.device)
        return self.spread.hear(self.overheard.answers, batch["target"])

    def _account(self, spent: Spent, attacked: Sequence[bool]) -> None:
        """Add up what a step cost; a validation's attacks are not among it."""
        found = {
            "forwards": spent.forwards,
            "backwards": spent.backwards,
            "attack_s": spent.seconds,
            "clean": len(attacked) - sum(attacked),
            "attacked": sum(attacked),
        }
        for key, value in found.items():
            self.spent[key] += value

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Within it, torch's generator follows from (seed, step); outside it is as it was."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._seed()
            yield

    def _seed(self) -> None:
        """Dropout of a metric that has some follows from (seed, step), as batches do."""
        seed = int(np.random.default_rng([self.file.seed, 2, self.step]).integers(2**62))
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _validate(self, loss: float) -> None:
        with self.average.in_place():
            quality = qualities(self.metric, self.splits.val, self.images, self.device)
            finite = bool(np.isfinite(quality).all()) and all(bool(p.isfinite().all()) for p in self.parameters)
            scored = validation(quality, self.splits.val, self.file, self.link) if finite else (math.nan, math.nan)
            figure, spread = scored
            if not math.isfinite(spread):
                raise self._diverged("weights or validation scores", self.step)
            robust = self.robust(self.model)[0] if self.robust is not None else ()
            point = Validation(self.step, figure, spread, loss, not spread >= COLLAPSE, *robust)
            self.history.append(point)
            self.spread.armed = self.spread.armed or not point.collapsed
            if self._kept_validation() is point:
                self.best, self.best_link = _copied(self.metric), self._link_state()

    def _kept_validation(self) -> Validation:
        """The validation whose weights are kept so far."""
        return self.history[-1] if self.file.keep == "last" else best_of(self.history)

    def _diverged(self, what: str, step: int) -> TrainingError:
        return TrainingError(
            f"{f'{self.member.name}: ' if self.member.name else ''}{what} are not finite at step {step}: the training "
            f"diverged, and no weights are written. Give a lower learning rate than {self.file.learning_rate:g}."
        )

    @functools.cached_property
    def identity(self) -> str:
        """What a checkpoint must agree with to be continued."""
        return self._identity(self.started)

    def _checkpoint(self) -> None:
        state = Checkpoint(
            identity=self.identity,
            step=self.step,
            history=tuple(self.history),
            seconds=self.seconds,
            metric=self.metric.state_dict(),
            best=self.best,
            link=self._link_state(),
            best_link=self.best_link,
            moments=self.optimiser.state_dict()["state"],
            average=self.average.state,
            window=self.spread.state(),
            armed=self.spread.armed,
            alarm=self.spread.alarm,
            spent=self.totals,
        )
        save_checkpoint(self.folder, state)

    def _resume(self) -> None:
        state = read_checkpoint(self.folder, self.identity)
        if state is None:
            return
        self.metric.load_state_dict(state.metric)
        if self.link is not None:
            self._set_link(state.link)
        self.best, self.best_link = dict(state.best), dict(state.best_link)
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state.moments})
        self.step, self.seconds, self.history = state.step, state.seconds, list(state.history)
        self.average.restore(state.average)
        self.spread.restore(state.window, state.armed, state.alarm, self.device)
        self.spent |= {key: state.spent[key] for key in self.spent if key in state.spent}

    @property
    def totals(self) -> dict[str, float]:
        """What training cost so far; of validations only their time is in `seconds`."""
        return {**self.spent, "attack_s": round(self.spent["attack_s"], 3), "distinct": len(self.seen)}

    def _link_state(self) -> dict[str, Tensor]:
        if self.link is None:
            return {}
        return {"a": self.link.a.detach().cpu().clone(), "log_b": self.link.log_b.detach().cpu().clone()}

    def _set_link(self, state: Mapping[str, Tensor]) -> None:
        assert self.link is not None
        with torch.no_grad():
            self.link.a.copy_(state["a"])
            self.link.log_b.copy_(state["log_b"])

    def _finish(self, stopped: bool) -> Trained:
        link = None
        if self.link is not None:
            link = {"a": float(self.best_link["a"]), "b": float(self.best_link["log_b"].exp())}
        return Trained(
            weights=self.best,
            best=self._kept_validation(),
            history=tuple(self.history),
            stopped=stopped,
            link=link,
            test=self._test() if self.splits.test else None,
            facts=self.facts,
            seconds=self.seconds,
            alarm=self.spread.alarm,
            spent=self.totals,
        )

    def _test(self) -> Mapping[str, Any]:
        """Scored once by the weights that are kept; a finished member is not scored again."""
        path, identity = self.folder / _TESTED, self.identity
        if path.is_file():
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if known["identity"] == identity and known["step"] == self._kept_validation().step:
                return dict(known["test"])
        self.metric.load_state_dict(self.best)
        quality = qualities(self.metric, self.splits.test, self.images, self.device)
        step = self._kept_validation().step
        if not np.isfinite(quality).all():
            raise self._diverged("test scores", step)
        figures = tested(quality, self.splits.test)
        content = {"identity": identity, "step": step, "test": figures}
        write_whole(path, (finite_json(content, indent=2) + "\n").encode())
        return figures

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Sizes, fingerprint, labels, starting weights and device, for records."""
        use = self.file.dataset
        return {
            "dataset": use.name,
            "labels": self.data.labels,
            "fingerprint": self.data.fingerprint(),
            "started_from": self.started.sha256 if self.started is not None else None,
            "licence": licence_after(self.started),
            "device": device_name(self.device),
            "splits": {
                part: {
                    "split": split,
                    self.recipe.kind: len(entries),
                    "references": len({entry.reference_id for entry in entries}),
                }
                for part, split, entries in (
                    ("train", use.train, self.splits.train),
                    ("val", use.val, self.splits.val),
                    ("test", use.test, self.splits.test),
                )
                if entries
            },
            "parameters": {
                "trained": sum(parameter.numel() for parameter in self.trained.values()),
                "all": sum(parameter.numel() for parameter in self.metric.parameters()),
            },
        }


def licence_after(started: WeightFile | None) -> str:
    """Licence of weights: ours where they were trained from nothing, else what they started from keeps its own."""
    if started is None:
        return "Apache-2.0"
    return str(read_manifest().get(started.name, {}).get("licence", "that of the weights it was trained from"))


def _kind_of(value: object) -> str:
    """'a float', 'a tensor of shape [8]'."""
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _schedule(file: RecipeFile, step: int) -> float:
    """Factor on the learning rate."""
    return 1.0 if file.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / file.steps))


def _copied(metric: Metric) -> dict[str, Tensor]:
    return copy.deepcopy({key: value.detach().cpu() for key, value in metric.state_dict().items()})
