"""What a plugin author reads first: the contracts between plugins and the engine.

Conventions that hold everywhere:

* Images are float32 RGB in [0, 1], N x 3 x H x W. Budgets are in the same units, at the scorer's input.
* Normalisation, resizing and colour conversion live inside the metric.
* Only the engine moves tensors between devices.
* *Quality* is always higher-is-better; the engine negates the score of a metric that says otherwise.

A plugin is one file: a subclass of `Metric`, `Attack`, `Purifier`, `Dataset` or `Recipe` under `@register("name")`.
Its parameters (keyword-only ``__init__`` arguments, or the dataclass fields) are its YAML parameters, and its class
attribute `cite` is its paper.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import DataError, UserError
from harness.rng import Entry, SampleRng
from harness.rng import Norm as Norm

__all__ = [
    "Attack",
    "Budget",
    "Citable",
    "ContradictionError",
    "DataError",
    "Dataset",
    "Entry",
    "Metric",
    "Objective",
    "Panel",
    "Purifier",
    "QueryLimit",
    "Recipe",
    "SampleRng",
    "Sign",
    "TrainingBatch",
    "Tree",
    "UserError",
    "fingerprint",
    "map_tree",
    "register",
    "retired",
]

Tree = Any
"""A tensor, or a tuple, list or dict of Trees; every tensor has the batch on axis 0."""

Sign = Literal[-1, 0, 1]
"""Direction of one attacked sample: +1 raises quality, -1 lowers it, 0 is never attacked (clean, controls)."""

Split = str


@dataclass(frozen=True)
class Registration:
    """One registered name of a plugin class: the name, preset parameters and default weights."""

    name: str
    preset: Mapping[str, Any]
    weights: str | None


_P = TypeVar("_P", bound=type)


def register(name: str, *, weights: str | None = None, **preset: Any) -> Callable[[_P], _P]:
    """Class decorator giving a plugin its public name; several may stand on one class (presets).

    The name must be a literal string, so that `robustiqa list` can read it without importing the file.

    Args:
        name: Lower-case public name, as written in suites.
        weights: For metrics: name in the weights manifest that is loaded unless the suite says otherwise.
        **preset: Parameters fixed by this name; a suite may still override them.

    >>> @register("my_offset", offset=0.5)
    ... class Offset(Metric):
    ...     higher_is_better = True
    ...     def __init__(self, *, offset: float = 0.0) -> None:
    ...         super().__init__()
    ...         self.offset = offset
    ...     def score(self, reference, dist):
    ...         return dist.flatten(1).mean(1) + self.offset
    >>> [one.name for one in Offset.registrations]
    ['my_offset']
    """

    def mark(plugin: _P) -> _P:
        own = plugin.__dict__.get("registrations", ())
        plugin.registrations = (Registration(name, preset, weights), *own)  # type: ignore[attr-defined]
        return plugin

    return mark


def retired(name: str, *, cure: str) -> Callable[[_P], _P]:
    """Class decorator over what took the place of a name that is no longer one: whoever writes it is told the cure.

    Both arguments are literals, because they are read without importing the file. A plugin of one's own may be
    registered under the name.

    Args:
        name: The name that was taken back.
        cure: What to write instead, as whole sentences.

    >>> @retired("my_error", cure="It is called 'my_mse'.")
    ... class MyMSE: ...
    """
    return lambda plugin: plugin


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply a function to every tensor of a tree; anything that is no tensor stays as it is."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, value) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map_tree(function, value) for value in tree)
    return tree


def fingerprint(image: Tensor) -> bytes:
    """sha256 of an image's size and 8-bit RGB pixels, row by row; 32 bytes.

    Args:
        image: 3 x H x W in [0, 1].
    """
    pixels = (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return hashlib.sha256(f"{image.shape[2]}x{image.shape[1]}\0".encode() + pixels.numpy().tobytes()).digest()


@dataclass(frozen=True)
class Panel:
    """One picture of how a metric came to its score: a map, or bars."""

    row: str
    """Heading it stands under; panels of one heading stand side by side."""
    title: str
    image: Tensor | None = None
    """h x w."""
    bars: Mapping[str, float] | None = None
    """Name -> value."""
    limits: tuple[float, float] | None = None
    """Ends of the colour scale or of the axis; by default the values'."""


class Citable:
    """What every plugin says of where it comes from; no part of identity."""

    cite: ClassVar[str | tuple[str, ...] | None] = None
    """What to cite for it, one or several: BibTeX entries, or keys of harness/plugins/references.bib.

    Empty where there is no paper. None: it does not say, and the conformance kit asks for it."""

    @classmethod
    def cited(cls, parameters: Mapping[str, Any]) -> str | tuple[str, ...] | None:
        """What to cite for it with these parameters, all of them spelled out; by default `cite`, whatever they are."""
        return cls.cite


class Metric(Citable, nn.Module):
    """A full-reference image-quality metric.

    Subclasses have a keyword-only annotated ``__init__`` (its arguments are the YAML parameters), no global state and
    no randomness. Sample i of a batch must depend on row i alone.

    >>> class MeanError(Metric):
    ...     higher_is_better = False
    ...     def score(self, reference, dist):
    ...         return (dist - reference).abs().flatten(1).mean(1)
    >>> black = torch.zeros(1, 3, 8, 8)
    >>> MeanError()(ref=black, dist=black + 0.25)
    tensor([0.2500])
    """

    higher_is_better: ClassVar[bool]
    version: ClassVar[int] = 1
    """Part of identity. Raise it when the same parameters and weights give other scores."""
    differentiable: ClassVar[bool] = True
    """False: white-box attacks on it are refused when the suite is validated."""
    exact_gradient: ClassVar[bool] = True
    """False: backward is a surrogate (BPDA), so finite differences do not apply."""
    minimum_size: ClassVar[int] = 1
    """Smallest image side in pixels."""
    needs_weights: ClassVar[bool] = False
    """True: refused without weights; ``weights: random`` must be asked for."""
    neutral: ClassVar[Mapping[str, Any]] = {}
    """Values of parameters that leave scores as they were before it had them: at these they are no part of identity."""

    def encode(self, ref: Tensor) -> Tree:
        """What of the reference can be computed once: called without gradients, its result reused by `score`.

        Args:
            ref: Reference images, N x 3 x H x W in [0, 1].
        """
        return ref

    def score(self, reference: Tree, dist: Tensor) -> Tensor:
        """Score of each distorted image.

        Args:
            reference: What `encode` returned for the references.
            dist: Distorted images, N x 3 x H x W in [0, 1].

        Returns:
            Scores of shape [N], in the metric's own units and direction.
        """
        raise NotImplementedError

    def surrogate(self, reference: Tree, dist: Tensor) -> Tensor:
        """Differentiable stand-in for `score`, used for its backward pass only (BPDA), where the metric declares one.

        For a metric whose own backward pass does not follow its score (rounding, hard codes, `exact_gradient = False`):
        an honest approximation, in the units and direction of the score. Attacks ask for it through
        `Objective.surrogate_gradient`, and verdicts on gradient masking hold it against the metric's own gradient.

        Args:
            reference: What `encode` returned for the references.
            dist: Distorted images, N x 3 x H x W in [0, 1].

        Returns:
            Shape [N].
        """
        return self.score(reference, dist)

    def forward(self, *, ref: Tensor, dist: Tensor) -> Tensor:
        """Score of (ref, dist) pairs; keyword-only, because argument order differs between libraries."""
        score: Tensor = self.score(self.encode(ref), dist)
        return score

    def explain(self, *, ref: Tensor, dist: Tensor) -> Sequence[Panel]:
        """Pictures of how the score of one pair came about, in order; none by default.

        Args:
            ref: The reference, 1 x 3 x H x W in [0, 1].
            dist: The distorted image, of the same shape.
        """
        return ()

    @classmethod
    def published_state(cls, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """State dict from published files, each named as in the weights manifest; by default the only one as it is."""
        return dict(*parts.values())

    def probed(self) -> Metric:
        """What is probed on made images in its stead; a metric that knows certain references alone has another here."""
        return self


@dataclass(frozen=True)
class Purifier(Citable):
    """A transform put before a metric as a defense. Fields are the parameters.

    One draw is made per sample and shared by the reference and every patch of that sample.

    >>> @dataclass(frozen=True)
    ... class Mirror(Purifier):
    ...     randomised = False
    ...     def apply(self, images, draw):
    ...         return images.flip(-1)
    >>> Mirror().apply(torch.tensor([[[[0.0, 1.0]]]]), ())
    tensor([[[[1., 0.]]]])
    """

    version: ClassVar[int] = 1
    gradient: ClassVar[Literal["exact", "surrogate", "both"]] = "exact"
    """"surrogate": an adaptive attack differentiates `surrogate` in place of `apply` (BPDA).

    "both": it is run by either gradient, and the stronger result of each sample is kept."""
    randomised: ClassVar[bool] = True
    """False: `draw` uses no randomness, so one encoding of the reference serves every evaluation."""

    def network(self) -> nn.Module | None:
        """An untrained network that `purify` gets with its weights loaded, frozen, in evaluation mode; by default none.

        Its weights are found, verified and hashed like a metric's: by the key `weights` of a suite's entry, or the name
        that `@register(name, weights=...)` gives. They are part of identity.
        """
        return None

    def applies_to_reference(self) -> bool:
        """Whether the reference is purified too (default), with the draw of its distorted image."""
        return True

    def draw(self, images: Tensor, rng: SampleRng) -> Tree:
        """Random choices for each sample of a batch (N x 3 x H x W), as a tree with the batch on axis 0.

        Noise as large as an image is not drawn here: draw one seed per sample, and make the noise of it in `apply`.
        """
        return ()

    def apply(self, images: Tensor, draw: Tree) -> Tensor:
        """Purified images, N x 3 x H' x W' in [0, 1]; a deterministic function of its arguments."""
        raise NotImplementedError

    def purify(self, images: Tensor, draw: Tree, network: nn.Module | None) -> Tensor:
        """What the engine calls: `apply`, unless the purifier has a network, which then overrides this instead.

        Args:
            images: N x 3 x H x W in [0, 1].
            draw: What `draw` returned.
            network: That of `network()` with its weights; None where there is none.

        Returns:
            Purified images as of `apply`.
        """
        return self.apply(images, draw)

    def surrogate(self, images: Tensor, draw: Tree) -> Tensor:
        """Differentiable stand-in for `apply`, used for its backward pass only."""
        return images


@dataclass(frozen=True)
class Budget:
    """How far an attack may move each image: a norm and one radius per sample, in [0, 1] image units."""

    norm: Norm
    eps: Tensor
    """Radius of each sample, shape [N]."""

    def project(self, images: Tensor, centre: Tensor) -> Tensor:
        """Nearest images inside the ball around `centre`, then inside the box [0, 1]. All N x 3 x H x W."""
        eps = self.eps.view(-1, 1, 1, 1)
        if self.norm == "linf":
            return torch.minimum(torch.maximum(images, centre - eps), centre + eps).clamp(0, 1)
        delta = images.double() - centre.double()  # a sum of 10^5 squares in float32 is off by more than an image is
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        projected: Tensor = (centre + delta * (eps / length).clamp(max=1)).to(images.dtype).clamp(0, 1)
        return projected

    def select(self, index: Tensor) -> Budget:
        """The budgets of the given rows."""
        return Budget(self.norm, self.eps[index])


class Objective(ABC):
    """What an attack sees of the scorer: J[N], to be maximised: sign x quality, or for the direction `error` |Q^ - y|.

    Counting is done here and never in an attack. A view made by `select` shares ledger, best-seen images and notes.
    """

    sign: Tensor
    """Direction of each sample, float32 of shape [N]: +1 or -1 (0 for controls). For `error`, the side it starts on."""
    reference: Tensor
    """Reference images, N x 3 x H x W: the attacker knows them."""
    scale: float
    """Range (max - min) of quality on the clean calibration samples; for `error` in units of the opinions."""
    fitted: Mapping[int, Mapping[str, Tensor]]
    """sign -> what `Attack.fit` returned for it."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """J of each image, shape [N]; follows torch's grad mode. Counts a forward per sample, and backwards by a hook.

        Raises:
            QueryLimit: In a black-box view, when every sample has spent its queries; a single spent one scores -inf.
        """

    @abstractmethod
    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(J, dJ/dimages), shapes [N] and N x 3 x H x W; the mean over EOT draws, one graph at a time.

        Raises:
            RuntimeError: In a black-box view.
        """

    def surrogate_gradient(self, images: Tensor) -> Tensor:
        """Gradient of J as `Metric.surrogate` has it, N x 3 x H x W; that of J for a metric that declares none.

        Raises:
            RuntimeError: In a black-box view.
        """
        return self.gradient(images)[1]

    @abstractmethod
    def best(self) -> Tensor:
        """Per sample, the in-budget image of highest J evaluated so far (the start before any).

        Raises:
            RuntimeError: In a fit, or where `Attack.uses_best` said that it is not asked for.
        """

    @abstractmethod
    def select(self, index: Tensor) -> Objective:
        """A view of the given rows; rows may repeat (restarts, several budgets)."""

    @abstractmethod
    def plugin(self, name: str) -> Metric:
        """One of the metrics that `Attack.uses_metrics` names, built, frozen, on this device."""

    @abstractmethod
    def note(self, **columns: Tensor | Sequence[str]) -> None:
        """Extra record columns, one value per row of this view (``member=["apgd", ...]``)."""


class QueryLimit(Exception):  # noqa: N818 (a signal the engine expects, not an error)
    """A black-box attack has spent its queries; the engine goes on with the best image it evaluated."""


@dataclass(frozen=True)
class Attack(Citable):
    """An attack, or a control. Fields are the parameters.

    The engine calls `fit` once per (source, sign), then `perturb`; it alone projects, re-scores and keeps the better.
    A black-box attack has a field ``queries``: the hard limit of evaluations per sample.

    >>> @dataclass(frozen=True)
    ... class OneStep(Attack):
    ...     def perturb(self, objective, images, budget, rng):
    ...         _, gradient = objective.gradient(images)
    ...         return images + budget.eps.view(-1, 1, 1, 1) * gradient.sign()
    >>> OneStep().needs_gradient, sorted(OneStep.norms)
    (True, ['linf'])
    """

    version: ClassVar[int] = 1
    needs_gradient: ClassVar[bool] = True
    """False: it gets a black-box view (no gradient, inference mode, queries enforced per sample)."""
    norms: ClassVar[frozenset[Norm]] = frozenset({"linf"})
    control: ClassVar[bool] = False
    """True: run once with sign 0, and the result is kept as it is; otherwise the better of result and start is kept."""
    bounded: ClassVar[bool] = True
    """False, for controls only: its change is the same at any budget; it is clipped to [0, 1] and not projected."""
    neutral: ClassVar[Mapping[str, Any]] = {}
    """Values at which a parameter changes nothing, as before the attack had it: there it is no part of identity."""
    fits: ClassVar[bool] = False
    """True: `fit` is called on the train split before any `perturb`."""

    def uses_best(self) -> bool:
        """Whether `perturb` asks for `Objective.best`; where it never does, the engine need not remember images."""
        return True

    def uses_metrics(self) -> tuple[str, ...]:
        """Names of every metric it asks of `Objective.plugin`, which are checked with the suite and part of identity.

        Those of an attack that needs gradients have to be differentiable.
        """
        return ()

    def fit_batches(self) -> int | None:
        """How many batches `fit` takes, for the progress bar; None where it cannot be told."""
        return None

    def fit(self, batches: Iterator[tuple[Objective, Tensor]], rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Learn from (objective, distorted images) batches of the train split; found again in `Objective.fitted`.

        The objective of a fit has no sample budget, so it has no `best`.
        """
        return {}

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Attacked images, N x 3 x H x W; the engine projects them onto budget and box.

        What is returned may lie one unprojected step outside them (within twice the radius, and no more than one radius
        outside [0, 1]); the conformance kit takes more than that for an attack that ignores its budget.

        Args:
            objective: What to maximise.
            images: Distorted images to start from, N x 3 x H x W in [0, 1].
            budget: Norm and radius per sample.
            rng: Randomness per sample; use nothing else.
        """
        raise NotImplementedError


class Dataset(Citable):
    """A data set in its official layout. Its keyword-only annotated ``__init__`` gives the YAML parameters.

    >>> class Greys(Dataset):
    ...     labels = "none"
    ...     def entries(self, split):
    ...         return [Entry(f"grey {level}", "black", level=level) for level in (1, 2)]
    ...     def load(self, entry):
    ...         ref = torch.zeros(3, 16, 16)
    ...         return {"ref": ref, "dist": ref + 0.1 * entry.level}
    ...     def fingerprint(self):
    ...         return "two greys"
    >>> [entry.id for entry in Greys().entries("all")]
    ['grey 1', 'grey 2']
    """

    kind: ClassVar[Literal["pairs", "triplets"]] = "pairs"
    labels: ClassVar[Literal["human", "proxy", "none"]] = "human"
    """Whose opinions they are. An instance may have another kind, and other labels, than its class."""
    version: ClassVar[int] = 1
    splits: ClassVar[tuple[str, ...]] = ("all",)
    """Names `entries` accepts. A set with "train" is calibrated on it, one without on the evaluated split.

    An instance may have others than its class, where parameters ask for them."""
    calibrated_on_train: ClassVar[bool] = True
    """False: calibrated on the evaluated split although there is "train", as a set that gained it later always was."""
    cluster_noun: ClassVar[str] = "cluster"
    """What tables call an `Entry.cluster`, in the singular; where entries have none, units are called references."""
    group_names: ClassVar[Mapping[str, str]] = {}
    """Group -> what tables call it, where the layout has only a code: ``{"08": "08 Gaussian blur"}``."""
    levels_not_strength: ClassVar[Mapping[str, str]] = {}
    """Group -> why its `Entry.level` is no strength, in few words: ``{"18": "signed: .15 .08 0 -.08 -.15"}``.

    The L-test leaves these groups out and says so."""
    neutral: ClassVar[Mapping[str, Any]] = {}
    """Values of parameters that leave the set as it was before it had them: at these they are no part of identity."""

    def entries(self, split: Split) -> Sequence[Entry]:
        """Every item of a split, without decoding a pixel.

        Raises:
            DataError: A file of the layout is missing or malformed; names it and the cure.
        """
        raise NotImplementedError

    def load(self, entry: Entry) -> Mapping[str, Tensor]:
        """The images of one item, each 3 x H x W in [0, 1]: ``ref`` and ``dist``, or ``ref``, ``p0`` and ``p1``.

        Raises:
            DataError: The image cannot be read; names it and the cure.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hash of the label file, names and sizes; part of identity, reads no pixel."""
        raise NotImplementedError

    def files(self) -> Sequence[Path] | None:
        """Files and folders that `entries` and `fingerprint` looked at so far; a folder stands for the files in it.

        A finished run whose files are as they were, by size and time, is told to be finished without looking further.
        None: they are not known, so every run looks at everything.
        """
        return None

    def image_files(self, entry: Entry) -> Sequence[Path] | None:
        """The files that `load` reads for an entry, in a fixed order, without reading them; () where there are none.

        What is in them is then part of identity, as the key ``pixels`` of a suite says. None: not known, so a changed
        image is seen only as far as `fingerprint` shows it.
        """
        return None

    def notices(self) -> Sequence[str]:
        """What a reader of the results must know of the images loaded so far; one line each."""
        return ()

    def label_source(self) -> str:
        """Where several sets of scores are published, which of them these are, for the protocol line; else empty."""
        return ""


class TrainingBatch(dict[str, Tensor]):
    """What `Recipe.loss` gets: tensors by name, and the metrics that `Recipe.uses_metrics` names.

    Of pairs:

    * ``ref``, ``clean``, ``dist``: N x 3 x H x W in [0, 1]; ``dist`` is ``clean``, attacked where ``attacked`` says so.
    * ``attacked``: bool [N]; ``target``: labels [N] in the recipe file's label scale.
    * ``limits``: lowest and highest label of the train split in that scale, [2].
    * ``start``: quality of each attacked row where its attack began, [N]; nan where that is not known (`error`).

    Of triplets ``ref``, ``p0``, ``p1`` (attacked where ``attacked`` says so, bool [N]), ``clean_p0``, ``clean_p1`` and
    ``judge`` [N], the share of people who preferred p1. Of both ``step`` and ``steps``, scalars.

    Args:
        tensors: What it holds.
        build: Gives a metric by its name.
    """

    def __init__(self, tensors: Mapping[str, Tensor], build: Callable[[str], Metric] | None = None) -> None:
        super().__init__(tensors)
        self._build = build

    def plugin(self, name: str) -> Metric:
        """One of the metrics that `Recipe.uses_metrics` names: with its weights, frozen, on this device."""
        if self._build is None:
            raise RuntimeError(f"uses_metrics() names no metric '{name}'")
        return self._build(name)

    def replaced(self, **tensors: Tensor) -> TrainingBatch:
        """The same batch with other tensors under some names."""
        return TrainingBatch({**self, **tensors}, self._build)


@dataclass(frozen=True)
class Recipe(Citable):
    """How a metric is trained. Fields are the parameters; the trainer owns steps, inner attack, resume and logs.

    >>> @dataclass(frozen=True)
    ... class Squared(Recipe):
    ...     batch: int = 8
    ...     def batches(self, entries, rng):
    ...         while True:
    ...             yield rng.permutation(len(entries))[: self.batch], [False] * self.batch
    ...     def loss(self, metric, batch):
    ...         return (metric(ref=batch["ref"], dist=batch["dist"]) - batch["target"]).square().mean(), {}
    >>> Squared().kind
    'pairs'
    """

    version: ClassVar[int] = 1
    kind: ClassVar[Literal["pairs", "triplets"]] = "pairs"
    """The kind of data set it trains on."""
    attacks: ClassVar[bool] = False
    """True: some rows of its batches are attacked, so a recipe file needs the section `inner`; else it refuses one."""

    def check(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Look at the train split before the first step; returns lines to log.

        Raises:
            ValueError: It cannot be trained on these entries; says why, with the counts, and the cure.
        """
        return ()

    def uses_metrics(self) -> tuple[str, ...]:
        """Names of every metric it asks of `TrainingBatch.plugin`: checked before a step, and part of identity."""
        return ()

    def batches(
        self, entries: Sequence[Entry], rng: np.random.Generator
    ) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
        """Endless batches: (indices into entries, whether each of them is attacked).

        The size of a batch is a field ``batch`` of the recipe, filled from the recipe file's key of that name.
        """
        raise NotImplementedError

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one batch and figures to log, each a tensor without axes.

        Args:
            metric: The metric being trained, in training mode, as quality: the engine puts an affine map after a
                distance.
            batch: Images and labels; see `TrainingBatch`.

        Raises:
            ContradictionError: What cannot be is seen, such as a theorem violated: the training stops as a bug.
        """
        raise NotImplementedError


class ContradictionError(Exception):
    """A recipe saw what its mathematics rules out: a bug, at which the training stops."""
