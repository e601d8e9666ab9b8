"""The one trainer behind every recipe: a recipe file in, a weight file and its manifest entry out.

A run is a deterministic function of the recipe file, the data set and the versions: batches and augmentation are drawn
from (seed, step), torch runs on the recipe's `threads` (one by default) whatever the machine has, and a run that was
killed resumes from its last validation and ends with the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import platform
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from scipy import stats
from torch import Tensor

import harness
from harness.contracts import Dataset, Entry, Metric, UserError
from harness.files import write_whole
from harness.recipe_file import RecipeFile, TrainingError, build, labelled, read_recipe, refuse_output
from harness.registry import Registry
from harness.weights import MANIFEST, SUFFIX, read_manifest

COLLAPSE = 0.2
"""Alarm below this std(prediction) / std(label) on the validation split: the metric is turning into a constant."""
RUNS = Path("results/runs")
VALIDATION_BATCH = 32


class Progress(NamedTuple):
    """One validation."""

    step: int
    srocc: float
    spread: float
    """std(prediction) / std(label)."""
    loss: float
    """Mean training loss since the validation before."""
    collapsed: bool


@dataclass(frozen=True)
class TrainResult:
    """What a finished training left behind."""

    weights: Path
    sha256: str
    run: Path
    best_step: int
    validation_srocc: float
    collapsed: bool
    """The alarm sounded at the validation whose weights were kept."""
    history: tuple[Progress, ...]


def train(path: Path, out: Path | None = None, *, plugins: Sequence[Path] = ()) -> TrainResult:
    """Train a metric by a recipe file; the same command again resumes a killed run.

    Args:
        path: The recipe file.
        out: Run folder; ``results/runs/train-<name>`` by default.
        plugins: Extra plugin files.

    Raises:
        TrainingError: Bad recipe file, unusable data, or a run folder of another recipe.
    """
    recipe_file = read_recipe(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe_file.threads)
    registry = Registry(plugins)
    try:
        return _Training(recipe_file, path, out or RUNS / f"train-{recipe_file.name}", registry).run()
    except UserError as error:
        if str(path) in str(error):
            raise
        raise TrainingError(f"recipe file {path}: {error}") from error
    except OSError as error:
        raise TrainingError(
            f"{error.filename or out}: cannot be used ({error.strerror or error}). "
            "Choose a writable run folder with --out, and a writable 'output'; the same command goes on from there."
        ) from error
    finally:
        torch.set_num_threads(threads)


class _Training:
    """One run: its objects, its state, its folder."""

    def __init__(self, file: RecipeFile, path: Path, folder: Path, registry: Registry) -> None:
        self.file, self.folder = file, folder
        self.metric, self.data, self.recipe = build(file, path, registry)
        if not any(True for _ in self.metric.parameters()):
            raise TrainingError(
                f"recipe file {path}: the metric '{file.metric.name}' has nothing to train. Choose another."
            )
        if file.crop is not None and file.crop < self.metric.minimum_size:
            raise TrainingError(
                f"recipe file {path}: crop {file.crop} is below the {self.metric.minimum_size} px that "
                f"'{file.metric.name}' needs. Raise it."
            )
        refuse_output(Path(file.output), path)
        self.code = [hashlib.sha256(plugin.read_bytes()).hexdigest() for plugin in registry.files]
        self.quality = 1.0 if self.metric.higher_is_better else -1.0
        self.entries = labelled(self.data, file.dataset.name, file.dataset.train)
        self.validation = labelled(self.data, file.dataset.name, file.dataset.val)
        self.images = ImageCache(self.data, file.cache_images)
        self.optimiser = torch.optim.Adam(self.metric.parameters(), lr=file.learning_rate)
        self.step = 0
        self.history: list[Progress] = []
        self.best = _copied(self.metric)
        self.seconds = 0.0

    def run(self) -> TrainResult:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        batches = self.recipe.batches(self.entries, np.random.default_rng([self.file.seed, 0]))
        losses: list[float] = []
        with _reporter(self.file) as report:
            for indices, attacked in itertools.islice(batches, self.step, self.file.steps):
                started = time.monotonic()
                losses.append(self._one_step(indices, attacked))
                self.step += 1
                due = self.step % self.file.evaluate_every == 0 or self.step == self.file.steps
                if due:
                    self._validate(float(np.mean(losses)))
                    losses.clear()
                self.seconds += time.monotonic() - started
                if due:
                    self._checkpoint()
                report(self.step, losses[-1] if losses else None, self.history[-1] if due else None)
        return self._finish()

    def _one_step(self, indices: Sequence[int], attacked: Sequence[bool]) -> float:
        if any(attacked):
            raise TrainingError(
                f"recipe '{self.file.recipe.name}' asks for attacked images, and this trainer has no inner attack yet. "
                "Use the recipe 'clean'."
            )
        self.metric.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.file.learning_rate * _schedule(self.file, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss, _ = self.recipe.loss(self.metric, self._batch(indices, attacked))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.metric.parameters(), self.file.gradient_clip)
        if not bool(norm.isfinite()):
            raise TrainingError(f"the gradient is not finite at step {self.step}. Lower the learning rate.")
        self.optimiser.step()
        return float(loss.detach())

    def _batch(self, indices: Sequence[int], attacked: Sequence[bool]) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.file.seed, 1, self.step])
        chosen = [self.entries[i] for i in indices]
        pairs = [_augmented(self.images.pair(entry), self.file, rng) for entry in chosen]
        if len({pair.shape for pair in pairs}) > 1:
            raise TrainingError(
                "the images of a batch differ in size. Give the recipe file a `crop` that fits them all."
            )
        ref, dist = torch.stack(pairs).unbind(dim=1)
        return {
            "ref": ref,
            "clean": dist,
            "dist": dist,
            "attacked": torch.tensor(attacked),
            "target": self._labels(chosen),
            "step": torch.tensor(self.step),
            "steps": torch.tensor(self.file.steps),
        }

    def _labels(self, entries: Sequence[Entry]) -> Tensor:
        low, high = self.file.label_scale
        opinions = torch.tensor([entry.opinion for entry in entries], dtype=torch.float32)
        return low + opinions * (high - low)

    def _validate(self, loss: float) -> None:
        self.metric.eval()
        scores = []
        with torch.no_grad():
            for start in range(0, len(self.validation), VALIDATION_BATCH):
                chunk = self.validation[start : start + VALIDATION_BATCH]
                for group in _by_size([self.images.pair(entry) for entry in chunk]):
                    ref, dist = group.unbind(dim=1)
                    scores.append(self.quality * self.metric(ref=ref, dist=dist))
        predicted = torch.cat(scores).numpy()
        labels = self._labels(self.validation).numpy()
        spread = float(predicted.std() / labels.std())
        srocc = float(stats.spearmanr(predicted, labels).statistic) if predicted.std() > 0 else 0.0
        point = Progress(self.step, srocc, spread, loss, spread < COLLAPSE)
        if not self.history or srocc > max(known.srocc for known in self.history):
            self.best = _copied(self.metric)
        self.history.append(point)

    def _identity(self) -> str:
        """What a checkpoint must agree with to be continued."""
        content = {
            "recipe": self.file.model_dump(mode="json", exclude={"output", "cache_images"}),
            "data": self.data.fingerprint(),
            "versions": [type(part).version for part in (self.metric, self.data, self.recipe)],
            "code": self.code,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _checkpoint(self) -> None:
        moments = {
            f"adam.{index}.{key}": value
            for index, state in self.optimiser.state_dict()["state"].items()
            for key, value in state.items()
        }
        tensors = {
            **{f"metric.{key}": value for key, value in self.metric.state_dict().items()},
            **{f"best.{key}": value for key, value in self.best.items()},
            **moments,
        }
        figures = {"identity": self._identity(), "step": self.step, "history": self.history, "seconds": self.seconds}
        write_whole(self.folder / "checkpoint.safetensors", save(tensors, {"training": json.dumps(figures)}))
        lines = [json.dumps(point._asdict()) for point in self.history]
        write_whole(self.folder / "history.jsonl", ("\n".join(lines) + "\n").encode())

    def _resume(self) -> None:
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as stored:
                figures = json.loads(stored.metadata()["training"])
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{path}: damaged ({error}). Remove the file to begin anew.") from error
        if figures["identity"] != self._identity():
            raise TrainingError(
                f"run folder {self.folder}: holds a run of another recipe or data set. "
                "Remove the folder, or give the recipe another name."
            )
        self.metric.load_state_dict(_under("metric.", tensors))
        self.best = _under("best.", tensors)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("adam.", tensors).items():
            index, field = key.split(".")
            state.setdefault(int(index), {})[field] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        self.step, self.seconds = figures["step"], figures["seconds"]
        self.history = [Progress(*point) for point in figures["history"]]

    def _finish(self) -> TrainResult:
        best = max(self.history, key=lambda point: point.srocc)
        output = Path(self.file.output)
        path = output.with_name(output.name + SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save(self.best)
        sha256 = hashlib.sha256(content).hexdigest()
        write_whole(path, content)
        manifest = read_manifest(path.parent)
        manifest[output.name] = self._entry(path.name, content, sha256, best)
        write_whole(path.parent / MANIFEST, (json.dumps(dict(sorted(manifest.items())), indent=2) + "\n").encode())
        return TrainResult(path, sha256, self.folder, best.step, best.srocc, best.collapsed, tuple(self.history))

    def _entry(self, file: str, content: bytes, sha256: str, best: Progress) -> dict[str, Any]:
        return {
            "file": file,
            "sha256": sha256,
            "size": len(content),
            "metric": self.file.metric.name,
            "parameters": self.file.metric.parameters(),
            "licence": "Apache-2.0",
            "recipe": self.file.model_dump(mode="json", exclude={"output", "cache_images"}),
            "trained_on": {
                "dataset": self.file.dataset.name,
                "split": self.file.dataset.train,
                "pairs": len(self.entries),
                "labels": self.data.labels,
                "fingerprint": self.data.fingerprint(),
            },
            "validation": {
                "split": self.file.dataset.val,
                "pairs": len(self.validation),
                "srocc": round(best.srocc, 4),
                "spread": round(best.spread, 4),
                "collapsed": best.collapsed,
                "step": best.step,
            },
            "minutes": round(self.seconds / 60, 1),
            "versions": {
                "robustiqa": harness.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


class ImageCache:
    """Decoded image pairs, kept as 8-bit up to a fixed number of images; results do not depend on that number.

    Args:
        data: Where pairs are loaded from.
        capacity: Most images kept (two a pair).
    """

    def __init__(self, data: Dataset, capacity: int) -> None:
        self._data = data
        self._capacity = capacity // 2
        self._pairs: OrderedDict[str, Tensor] = OrderedDict()

    def pair(self, entry: Entry) -> Tensor:
        """Reference and distorted image of an entry, rounded to 8 bits: 2 x 3 x H x W in [0, 1]."""
        pair = self._pairs.pop(entry.id, None)
        if pair is None:
            images = self._data.load(entry)
            pair = (torch.stack((images["ref"], images["dist"])) * 255).round().to(torch.uint8)
        if self._capacity:
            while len(self._pairs) >= self._capacity:
                self._pairs.popitem(last=False)
            self._pairs[entry.id] = pair
        return pair.to(torch.float32) / 255


def _augmented(pair: Tensor, file: RecipeFile, rng: np.random.Generator) -> Tensor:
    """The same crop and flips for both images, 2 x 3 x H x W. Always as many draws, whatever is switched on."""
    top, left = rng.random(2)
    flips = rng.random(2) < 0.5
    if file.crop is not None:
        height, width = pair.shape[2:]
        if min(height, width) < file.crop:
            raise TrainingError(f"crop {file.crop} is larger than an image of {height} x {width}. Give a smaller one.")
        row, column = int(top * (height - file.crop + 1)), int(left * (width - file.crop + 1))
        pair = pair[:, :, row : row + file.crop, column : column + file.crop]
    if file.flip:
        pair = pair.flip([axis for axis, wanted in zip((2, 3), flips, strict=True) if wanted])
    return pair


def _by_size(pairs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Runs of equally large pairs, in order."""
    for _, group in itertools.groupby(pairs, key=lambda pair: pair.shape):
        yield torch.stack(list(group))


def _schedule(file: RecipeFile, step: int) -> float:
    """Factor on the learning rate."""
    return 1.0 if file.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / file.steps))


def _copied(metric: Metric) -> dict[str, Tensor]:
    return copy.deepcopy({key: value.detach() for key, value in metric.state_dict().items()})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


class _reporter:  # noqa: N801 (used as a function)
    """Shows progress: a bar on a terminal, one line per validation elsewhere, on standard error."""

    def __init__(self, file: RecipeFile) -> None:
        self._file = file
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Callable[[int, float | None, Progress | None], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._file.name, total=self._file.steps)
        return self._report

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _report(self, step: int, loss: float | None, point: Progress | None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        if point is None:
            return
        alarm = f"  COLLAPSE: std(prediction)/std(label) is below {COLLAPSE}" if point.collapsed else ""
        line = (
            f"{self._file.name}: step {step}/{self._file.steps}  loss {point.loss:.4f}  "
            f"validation SROCC {point.srocc:.4f}  spread {point.spread:.2f}{alarm}"
        )
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)
