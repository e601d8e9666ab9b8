"""The Python door: run suites, read what they left, score and attack single pairs. Mistakes are `UserError`s.

`import robustiqa` and `import harness` offer the same names, and load torch only when one of them needs it.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts import Norm
from harness.engine.memory import keep_freed_memory
from harness.engine.memory_cap import batch_memory, size_in_mib
from harness.engine.one_pair import Attacked, Image, PairScore, attack_pair, score_pair
from harness.engine.priority import NICE
from harness.engine.progress import Progress, fitting_progress
from harness.errors import UserError
from harness.flow import EXECUTORS, Options, RunResult, open_folder, run_suite
from harness.plugins.model import Kind
from harness.plugins.registry import Registry
from harness.report.compare import Comparison, compare_runs
from harness.report.compare_metrics import compare_metrics
from harness.report.figures import draw_figures
from harness.report.grouped import as_texts
from harness.report.layout import as_html
from harness.report.split_headlines import whole_headlines
from harness.report.summary import sentences
from harness.rng import HIGHEST_SEED
from harness.suite.alone import resolve_attack, resolve_metric
from harness.suite.compose import Overrides
from harness.suite.model import Suite
from harness.suite.resolve import load_suite, read_suite
from harness.suite.shipped import suite_file
from harness.wording import did_you_mean, for_html

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture

__all__ = [
    "Attacked",
    "Comparison",
    "Run",
    "attack",
    "compare",
    "list_attacks",
    "list_datasets",
    "list_defenses",
    "list_metrics",
    "list_recipes",
    "open_run",
    "run",
    "score",
]

Plugins = str | Path | Sequence[str | Path]
"""A file that registers plugins, or several, as ``--plugin`` takes them."""


class Run:
    """What a run left in its folder: records, tables, figures, attacked images. Made by `run` and `open_run`.

    >>> tiny = {"name": "tiny", "datasets": ["mini"], "metrics": ["psnr"], "limit": 4}
    >>> tiny |= {"attacks": ["fgsm", "restore"], "budgets": {"linf": [8 / 255]}}
    >>> found = run(tiny, workers=1, progress=False)
    >>> sorted(found.records()["attack"].unique())
    ['clean', 'fgsm', 'restore']
    """

    def __init__(self, result: RunResult) -> None:
        self._result = result
        self.folder: Path = result.folder.path
        """The run folder."""

    def records(self) -> pd.DataFrame:
        """A row per item, attack, direction, budget, scorer and draw; `docs/concepts.md` has the columns.

        >>> records = open_run("results/runs/tiny").records()
        >>> bool(records.loc[records["attack"] == "fgsm", "linf"].max() <= 8 / 255 + 1e-6)
        True
        """
        records = self._result.data.records
        return records.copy() if (texts := as_texts(records)) is records else texts

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Table -> every figure in it as a number, all data sets one under the other, as in its CSV.

        >>> tables = open_run("results/runs/tiny").tables
        >>> sorted(tables["shift"]["direction"].unique())
        ['control', 'mos_split', 'up']
        """
        import pandas as pd

        names = dict.fromkeys(table.name for table in self._result.tables)
        frames = {name: [t.frame for t in self._result.tables if t.name == name] for name in names}
        return {name: pd.concat(found, ignore_index=True) for name, found in frames.items()}

    def figure(self, name: str | None = None) -> Picture:
        """The figure of a data set, as a picture that notebooks show.

        Args:
            name: Label of the data set; may be left out where there is one.

        Raises:
            UserError: There is no such figure.

        >>> open_run("results/runs/tiny").figure("mini").format
        'PNG'
        """
        from PIL import Image as Pictures

        figures = draw_figures(self._result.tables)
        if name is None and len(figures) != 1:
            raise UserError(
                f"{self.folder}: it has {len(figures)} figures. Name one of: {', '.join(figures) or 'none'}."
            )
        chosen = next(iter(figures)) if name is None else str(name)
        if chosen not in figures:
            raise UserError(f"{self.folder}: no figure '{name}'.{did_you_mean(chosen, list(figures))}")
        return Pictures.open(io.BytesIO(figures[chosen]))

    def examples(self) -> list[Attacked]:
        """Attacked images that were kept, for suites with ``save_examples``.

        >>> open_run("results/runs/tiny").examples()
        []
        """
        return list(self._result.examples())

    def compare(self, a: str, b: str) -> Comparison:
        """Two metrics of the run: which is harder to move and which keeps more of its SROCC, paired over clusters.

        Args:
            a: Label of a metric, or ``LABEL@DEFENSE``.
            b: Another; differences are a minus b.

        Raises:
            UserError: One is no metric of the run, or both are the same.

        >>> two = {"name": "two", "datasets": ["mini"], "metrics": ["psnr", "ssim"], "attacks": ["fgsm"], "limit": 4}
        >>> found = run(two | {"budgets": {"linf": [8 / 255]}}, workers=1, progress=False).compare("ssim", "psnr")
        >>> found.rows.loc[found.rows["attack"] == "fgsm", "figure"].unique().tolist()
        ['srocc', 'shift_over_sigma']
        """
        return compare_metrics(self._result.data, a, b)

    @property
    def report_path(self) -> Path:
        """The page with tables, intervals and plots.

        >>> open_run("results/runs/tiny").report_path.name
        'index.html'
        """
        return self._result.folder.report / "index.html"

    @property
    def failures(self) -> list[str]:
        """What could not be computed, a line for each cause; empty if all was.

        >>> open_run("results/runs/tiny").failures
        []
        """
        return list(dict.fromkeys(f"{f.sample}: {f.message}".removeprefix(": ") for f in self._result.failures))

    def __repr__(self) -> str:
        cells, failed = len(self._result.plan.cells), len(self.failures)
        return f"<run '{self._result.plan.suite.name}' in {self.folder}: {cells} cells, {failed} failures>"

    def _repr_html_(self) -> str:
        """For notebooks: what the tables say in short, and the first of them."""
        told = "".join(
            f"<li>{for_html(line)}</li>"
            for line in sentences(whole_headlines(self._result.headlines, self._result.data.splits))
        )
        first = self._result.tables[:1]
        shown = "".join(f"<p><b>{for_html(t.title)}</b></p>{as_html(t.compact)}" for t in first)
        return f"<p>{for_html(repr(self))}</p><ul>{told}</ul>{shown}"


def run(
    suite: str | Path | Mapping[str, Any] | Suite,
    *,
    limit: int | None = None,
    seed: int | None = None,
    only: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: Literal["serial", "processes"] | None = None,
    device: str | None = None,
    memory: str | None = None,
    max_batch_memory: str | None = None,
    nice: int = NICE,
    plugins: Plugins = (),
    probes: bool = True,
    progress: bool = True,
    yes: bool = False,
    **keys: Any,
) -> Run:
    """Run a suite, resume it or extend it, and write its report. The same call again runs nothing.

    Args:
        suite: Path of a suite file, the mapping it would hold, or a validated suite.
        limit: Evaluate the first n samples of each split only.
        seed: The suite's seed.
        only: ``METRIC/ATTACK``, two shell patterns on labels.
        out: The run folder; ``results/runs/<name>`` if left out.
        workers: Worker processes; one per core if left out.
        executor: Where blocks run; processes on a CPU, serial on a GPU if left out.
        device: "cpu" or "cuda"; a GPU is taken where there is one.
        memory: What each worker may take, such as "4GiB"; batches become smaller to stay below it.
        max_batch_memory: What a batch may take that radii, directions and slices are attacked as, such as "8GiB"; "0"
            packs none. If left out, most of what is free on a GPU; nothing is packed on a CPU.
        nice: How far worker processes stand back for what else the machine does, 0 (not at all) to 19.
        plugins: Files that register plugins.
        probes: Whether each metric's contract is probed first.
        progress: Whether to show how far it is: a bar in terminals and notebooks, lines elsewhere.
        yes: Whether a suite of more than 100,000 cells is meant to be one.
        **keys: Keys of the suite that replace the file's, such as ``save_examples=4`` or ``metrics=["psnr"]``.

    Raises:
        UserError: The suite is wrong, the folder cannot be used, or a data set is missing. What fails in a single cell
            is in `Run.failures` instead.

    >>> found = run({"name": "clean", "datasets": ["mini"], "metrics": ["psnr", "ssim"]}, limit=4, progress=False)
    >>> sorted(found.records()["metric"].unique())
    ['psnr', 'ssim']
    >>> run("nowhere.yaml")
    Traceback (most recent call last):
        ...
    harness.errors.UserError: nowhere.yaml: no such file. Give the path of a YAML file.
    """
    registry = _registry(plugins)
    _refuse_less("limit", limit, 1)
    _refuse_seed(seed)
    _refuse_less("workers", workers, 1)
    if not isinstance(only, str | None):
        raise UserError(f"only {only!r}: should be METRIC/ATTACK, such as 'birqa*/pgd*'.")
    found = _suite(suite, registry, Overrides((), only, limit, seed), keys)
    if executor is not None and executor not in EXECUTORS:
        *others, last = EXECUTORS
        raise UserError(f"executor {executor!r}: should be {', '.join(others)} or {last}.")
    keep_freed_memory()
    place = None if device is None else str(device)
    allowed = None if memory is None else size_in_mib(str(memory), "memory")
    if nice not in range(20):
        raise UserError(f"nice {nice!r}: should be a whole number from 0 to 19.")
    folder = None if out is None else _path("out", out)
    packed = None if max_batch_memory is None else batch_memory(str(max_batch_memory), "max_batch_memory")
    options = Options(folder, executor, workers, place, (0, 1), probes, yes, allowed, nice, batch_memory=packed)
    with fitting_progress() if progress else Progress() as shown:
        return Run(run_suite(found, registry, options, shown))


def _changed(suite: Suite, keys: Mapping[str, Any]) -> Suite:
    """A suite with other values, in each of its splits."""
    return dataclasses.replace(suite, parts=tuple(_changed(part, keys) for part in suite.parts), **keys)


def _suite(
    suite: str | Path | Mapping[str, Any] | Suite, registry: Registry, overrides: Overrides, keys: Mapping[str, Any]
) -> Suite:
    if isinstance(suite, Suite):
        if keys or overrides.only is not None:
            raise UserError("a validated suite is complete: give only limit and seed beside it, or a path or mapping.")
        changed = {name: getattr(overrides, name) for name in ("limit", "seed")}
        return _changed(suite, {name: value for name, value in changed.items() if value is not None})
    if isinstance(suite, Mapping):
        return read_suite(suite, registry, overrides, keys)
    if not isinstance(suite, str | Path):
        raise UserError(f"a suite is a path, a mapping or a Suite, not {type(suite).__name__}.")
    return load_suite(suite_file(Path(suite)), registry, overrides, keys)


def _refuse_less(name: str, value: object, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise UserError(f"{name} {value!r}: should be a whole number of at least {least}.")


def _refuse_seed(seed: object) -> None:
    _refuse_less("seed", seed, 0)
    if isinstance(seed, int) and seed > HIGHEST_SEED:
        raise UserError(f"seed {seed}: should be at most {HIGHEST_SEED}.")


def _path(name: str, value: object) -> Path:
    if not isinstance(value, str | Path):
        raise UserError(f"{name} {value!r}: should be a path.")
    return Path(value)


def _registry(plugins: Plugins | None) -> Registry:
    files = [plugins] if isinstance(plugins, str | Path) else [] if plugins is None else plugins
    if not isinstance(files, Sequence):
        raise UserError(f"plugins {plugins!r}: should be a path or a list of paths.")
    return Registry([_path("plugins", file) for file in files])


def open_run(folder: str | Path, *, plugins: Plugins = ()) -> Run:
    """What an earlier run left, computing and writing nothing.

    Args:
        folder: The run folder.
        plugins: Files that register plugins, as the run was given; asked for by folders of older versions alone, which
            do not hold their plan.

    Raises:
        UserError: It is no run folder, or it holds no plan and none can be made.

    >>> open_run("results/runs/tiny")
    <run 'tiny' in results/runs/tiny: 4 cells, 0 failures>
    """
    return Run(open_folder(_path("folder", folder), _registry(plugins)))


def compare(a: str | Path | Run, b: str | Path | Run, *, plugins: Plugins = ()) -> Comparison:
    """Two runs, where both measured the same condition on the same images; `Run.compare` is for metrics of one.

    Args:
        a: A run, or its folder.
        b: Another; differences are b minus a.
        plugins: As for `open_run`.

    Raises:
        UserError: One is no run folder, or it holds no plan and none can be made.

    >>> float(compare("results/runs/tiny", "results/runs/tiny").rows["quality_change"].abs().max())
    0.0
    """
    one, other = (run if isinstance(run, Run) else open_run(run, plugins=plugins) for run in (a, b))
    return compare_runs(one._result.data, other._result.data, (str(one.folder), str(other.folder)))


def score(
    metric: str,
    ref: Image,
    dist: Image,
    *,
    weights: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    plugins: Plugins = (),
    device: str = "cpu",
) -> PairScore:
    """Score one distorted image against its reference; `float` of the result is the score.

    Args:
        metric: A registered name.
        ref: The reference: a file, a tensor of 3 x H x W or 1 x 3 x H x W, or an array of H x W x 3; RGB, and floats in
            [0, 1] unless it is a file.
        dist: The distorted image, of the same size.
        weights: What a suite says under ``weights``: a name, a file, a folder of published files, or "random".
        parameters: Parameters of the metric, as in a suite.
        plugins: Files that register plugins.
        device: Where to score.

    Raises:
        UserError: An image is not as above, the sizes differ, an image is too small for the metric, or the metric, its
            parameters or its weights cannot be had. The message names the argument.

    >>> import numpy as np
    >>> ref = np.full((64, 64, 3), 0.5)
    >>> round(float(score("psnr", ref, ref + 0.1)), 4)  # 20 log10(1 / 0.1)
    20.0
    """
    registry = _registry(plugins)
    use = resolve_metric(_entry(metric, weights, parameters), registry)
    return next(score_pair(ref, dist, [use], registry, str(device)))


def attack(
    metric: str,
    ref: Image,
    dist: Image,
    attack: str | Mapping[str, Any] = "pgd",
    *,
    eps: float = 8 / 255,
    direction: Literal["up", "down"] = "down",
    norm: Norm = "linf",
    weights: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    plugins: Plugins = (),
    device: str = "cpu",
) -> Attacked:
    """Attack one distorted image: change it within a budget so that a metric says it is better, or worse.

    Args:
        metric: A registered name.
        ref: The reference; see `score`.
        dist: The distorted image, of the same size.
        attack: A registered name, or as a suite lists it: ``{"name": "pgd", "steps": 20}``.
        eps: Radius of the budget in [0, 1] image units.
        direction: "up" raises quality, "down" lowers it.
        norm: "linf" or "l2".
        weights: Of the metric; see `score`.
        parameters: Of the metric; see `score`.
        seed: Root of the attack's randomness.
        plugins: Files that register plugins.
        device: Where to attack.

    Raises:
        UserError: As for `score`; or the attack, its parameters or its budget cannot be had.

    >>> import torch
    >>> ref = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> dist = (ref + 0.1).clamp(0, 1)
    >>> found = attack("psnr", ref, dist, {"name": "pgd", "steps": 5}, eps=4 / 255, direction="down")
    >>> found.score < found.clean and found.linf <= 4 / 255 + 1e-6
    True
    """
    registry = _registry(plugins)
    use = resolve_metric(_entry(metric, weights, parameters), registry)
    listed = {"name": attack} if isinstance(attack, str) else attack
    if not isinstance(listed, Mapping) or not isinstance(listed.get("name"), str):
        raise UserError(f"attack {attack!r}: should be a name, or a mapping such as {{'name': 'pgd', 'steps': 20}}.")
    chosen = resolve_attack(listed, registry)
    _refuse_seed(seed)
    if direction not in ("up", "down"):
        raise UserError(f"direction {direction!r}: should be 'up' or 'down'.")
    if norm not in ("linf", "l2"):
        raise UserError(f"norm {norm!r}: should be 'linf' or 'l2'.")
    eps = eps.item() if hasattr(eps, "item") else eps
    if (
        not isinstance(eps, int | float)
        or isinstance(eps, bool)
        or not 0 < eps < float("inf")
        or (norm == "linf" and eps > 1)
    ):
        raise UserError(f"eps {eps!r}: should be a number above 0, in linf at most 1, such as 8 / 255.")
    return attack_pair(
        ref, dist, use, chosen, registry, direction=direction, norm=norm, eps=float(eps), seed=seed, device=str(device)
    )


def _entry(name: str, weights: str | Path | None, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """A metric as a suite lists it."""
    if not isinstance(parameters, Mapping | None):
        raise UserError(f"parameters {parameters!r}: should be a mapping, such as {{'channels': 8}}.")
    given = {**(parameters or {}), **({} if weights is None else {"weights": str(weights)})}
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"parameters: {error}. Give plain values: text, numbers, truth values, lists.") from error
    if own := {"name", "label"} & given.keys():
        raise UserError(f"parameters: {min(own)!r} is no parameter of a metric. Leave it out.")
    return {**given, "name": str(name)}


def list_metrics(plugins: Plugins = ()) -> list[str]:
    """Names of the metrics.

    >>> {"psnr", "ssim", "birqa-tiny"} <= set(list_metrics())
    True
    """
    return _names("metrics", plugins)


def list_attacks(plugins: Plugins = ()) -> list[str]:
    """Names of the attacks and controls.

    >>> {"fgsm", "pgd", "square", "restore"} <= set(list_attacks())
    True
    """
    return _names("attacks", plugins)


def list_defenses(plugins: Plugins = ()) -> list[str]:
    """Names of the purifiers, which suites put before a metric.

    >>> "flip" in list_defenses()
    True
    """
    return _names("purifiers", plugins)


def list_datasets(plugins: Plugins = ()) -> list[str]:
    """Names of the data sets.

    >>> {"mini", "tid2013"} <= set(list_datasets())
    True
    """
    return _names("datasets", plugins)


def list_recipes(plugins: Plugins = ()) -> list[str]:
    """Names of the training recipes.

    >>> "clean" in list_recipes()
    True
    """
    return _names("recipes", plugins)


def _names(kind: Kind, plugins: Plugins) -> list[str]:
    return _registry(plugins).names(kind)
