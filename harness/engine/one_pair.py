"""One pair of images, outside of any suite."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.contracts import Attack, Entry, Metric, Norm, Panel
from harness.datasets.images import image_head, read_image
from harness.engine.attack_batch import attack_parts
from harness.engine.batches import Batch, Item, SampleError
from harness.engine.example_store import KeptExample
from harness.engine.examples import png
from harness.engine.parts import AttackPart, Seen
from harness.engine.scorer import Scorer, device_named, in_messages, load_metric
from harness.errors import DataError, PluginFaultError, UserError
from harness.plugins.build import default_metric
from harness.plugins.model import Contents
from harness.plugins.registry import Registry
from harness.plugins.returned import MEND, RANGE, check_scores, told, told_under
from harness.suite.cell_names import CLEAN
from harness.suite.model import AttackUse, DatasetUse, MetricUse, Use
from harness.suite.plan import Cell, Endpoint, ScorerSpec, SplitSpec
from harness.wording import NO_DEFENSE, attack_text, budget_text, for_html, joined

Image = Path | str | Tensor | npt.NDArray[Any]
"""An image file; or RGB floats in [0, 1]: a tensor of 3 x H x W or 1 x 3 x H x W, or an array of H x W x 3."""


@dataclass(frozen=True)
class PairScore:
    """What one metric says of a pair: the score in its own units, and what these are.

    >>> float(PairScore("psnr", 20.0, True, ""))
    20.0
    """

    metric: str
    score: float
    higher_is_better: bool
    weights: str
    """sha256 of the weights, "random", or empty for metrics without weights."""

    def __float__(self) -> float:
        return self.score


@dataclass(frozen=True, eq=False)
class Attacked:
    """One attacked image. Images are 3 x H x W float32 RGB in [0, 1] on the CPU.

    Attributes:
        metric: Label of the metric that was attacked.
        attack: Label of the attack.
        direction: "up" raises quality, "down" lowers it, "error" takes it away from the opinion; empty for a control.
        norm: "linf" or "l2".
        eps: Radius of the budget in [0, 1] image units.
        reference: The reference.
        distorted: The image before the attack.
        attacked: The image after it.
        clean: Score of the distorted image, in the metric's own units.
        score: Score of the attacked image.
        score_8bit: Score of the attacked image rounded to 8 bits, as a file would hold it.
        higher_is_better: Whether a higher score says better quality.
        linf: Largest change of a value.
        l2: Length of the whole change.
        status: "ok", "start" where nothing better than the image itself was found, or "floor" where the restored
            image was better (with the floor "restore").
        forwards: Evaluations of the metric by the attack; None where it is not known.
        backwards: Gradients taken, likewise.

    >>> import harness
    >>> ref = torch.full((3, 16, 16), 0.5)
    >>> harness.attack("psnr", ref, ref + 0.1, "restore", eps=0.05)  # a control: takes the image to its reference
    <psnr under restore eps 0.05: 20 -> 26.02 (higher is better; 8-bit 26.19)>
    """

    metric: str
    attack: str
    direction: str
    norm: str
    eps: float
    reference: Tensor
    distorted: Tensor
    attacked: Tensor
    clean: float
    score: float
    score_8bit: float
    higher_is_better: bool
    linf: float
    l2: float
    status: str
    forwards: int | None = None
    backwards: int | None = None

    def __repr__(self) -> str:
        who = attack_text(self.attack, self.norm) + (f" {self.direction}" if self.direction else "")
        budget, better = budget_text(self.norm, self.eps), "higher" if self.higher_is_better else "lower"
        scores = f"{self.clean:.4g} -> {self.score:.4g} ({better} is better; 8-bit {self.score_8bit:.4g})"
        return f"<{self.metric} under {who} eps {budget}: {scores}>"

    def _repr_html_(self) -> str:
        """For notebooks: the three images, the change enlarged, and what it did to the score."""
        change = (self.attacked - self.distorted) / max(self.linf, 1e-12)
        shown = {
            "reference": self.reference,
            f"distorted: {self.clean:.4g}": self.distorted,
            f"attacked: {self.score:.4g}": self.attacked,
            f"change, times {0.5 / max(self.linf, 1e-12):.3g}": (0.5 + 0.5 * change).clamp(0, 1),
        }
        cells = "".join(_figure(caption, image) for caption, image in shown.items())
        return f'<div>{for_html(repr(self))}</div><div style="display:flex;flex-wrap:wrap">{cells}</div>'


def _figure(caption: str, image: Tensor) -> str:
    data = base64.b64encode(png(image)).decode()
    picture = f'<img src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0 .7em 0 0">{picture}<figcaption>{for_html(caption)}</figcaption></figure>'


def score_pair(
    ref: Image, dist: Image, uses: Sequence[MetricUse], registry: Registry, device: str
) -> Iterator[PairScore]:
    """Score a distorted image against its reference by every metric.

    Args:
        ref: The reference.
        dist: The distorted image, of the same size.
        uses: The metrics.
        registry: Where they come from.
        device: Where to score.

    Raises:
        UserError: An image is no `Image`, the sizes differ, or an image is too small for a metric.
    """
    for found in score_versions(ref, {"dist": dist}, uses, registry, device):
        yield found["dist"]


def score_versions(
    ref: Image, versions: Mapping[str, Image], uses: Sequence[MetricUse], registry: Registry, device: str
) -> Iterator[dict[str, PairScore]]:
    """Score several versions of one distorted image; each metric is loaded once.

    Args:
        ref: The reference.
        versions: Name -> distorted image, of the reference's size.
        uses: The metrics.
        registry: Where they come from.
        device: Where to score.

    Yields:
        Name -> score, for each metric in turn.

    Raises:
        UserError: See `score_pair`.
    """
    place = device_named(device)
    pairs = {name: _pair(ref, image, place) for name, image in versions.items()}
    for use in uses:
        metric, who = load_metric(use, registry, place), in_messages(use, registry)
        found = {}
        for name, pair in pairs.items():
            _refuse_small(metric, use, pair[0], _named("ref", ref))
            found[name] = PairScore(use.label, _score_of(metric, pair, who), metric.higher_is_better, use.weights)
        yield found


def conversions_of(ref: Image, dist: Image) -> list[str]:
    """What is done to files for them to be RGB, such as "DIST a.png is read at 16 bits a channel.".

    Raises:
        DataError: A file cannot be read.
    """
    images = {"ref": ref, "dist": dist}
    files = {_named(name, image): image for name, image in images.items() if isinstance(image, str | Path)}
    heads = {name: image_head(Path(file)) for name, file in files.items()}
    return [f"{name} is {joined(list(head.converted))}." for name, head in heads.items() if head.converted]


def _score_of(metric: Metric, pair: tuple[Tensor, Tensor], who: str) -> float:
    try:
        with torch.no_grad():
            score = float(check_scores(metric(ref=pair[0], dist=pair[1]), pair[1], who)[0])
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{told_under(who, error)}. {MEND}") from error
    if math.isnan(score):
        raise UserError(f"{who} gave no number (NaN). {MEND}")
    return score


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a metric came to the score of a pair.

    Attributes:
        title: The metric and the score.
        images: "reference" and "distorted", each 3 x H x W in [0, 1].
        panels: What the metric explained, in order.
    """

    title: str
    images: Mapping[str, Tensor]
    panels: Sequence[Panel]


def explain_pair(ref: Image, dist: Image, use: MetricUse, registry: Registry, device: str) -> Explanation:
    """How a metric came to the score of a pair; the arguments are those of `score_pair`.

    Raises:
        UserError: An image cannot be used.
    """
    place = device_named(device)
    first, second = _pair(ref, dist, place)
    metric = load_metric(use, registry, place)
    with torch.no_grad():
        panels = metric.explain(ref=first, dist=second)
        score = float(metric(ref=first, dist=second)[0])
    images = {"reference": first[0].cpu(), "distorted": second[0].cpu()}
    return Explanation(f"{use.label}: {score:.6g}", images, panels)


def attack_pair(
    ref: Image,
    dist: Image,
    use: MetricUse,
    attack: AttackUse,
    registry: Registry,
    *,
    direction: Literal["up", "down"],
    norm: Norm,
    eps: float,
    seed: int = 0,
    device: str = "cpu",
) -> Attacked:
    """Attack one distorted image.

    What a suite would calibrate on many images, the range of clean quality, is taken from this pair: the distance
    from its quality to that of the reference against itself.

    Args:
        ref: The reference.
        dist: The distorted image, of the same size.
        use: The metric.
        attack: The attack, which may be a control.
        registry: Where both come from.
        direction: Whether quality is raised or lowered; a control has none.
        norm: Of the budget.
        eps: Radius of the budget in [0, 1] image units.
        seed: Root of the attack's randomness.
        device: Where to attack.

    Raises:
        UserError: An image cannot be used, the attack has no such norm, needs a data set to learn from, needs a
            gradient that the metric does not have, or fails.
    """
    place = device_named(device)
    pair = _pair(ref, dist, place)
    metric = load_metric(use, registry, place)
    _refuse_small(metric, use, pair[0], _named("ref", ref))
    _refuse_attack(attack, metric, use, norm)
    scorer = Scorer(metric, (), [in_messages(use, registry)])
    item = Item(_PAIR, Entry(_PAIR, _PAIR), "", None)
    batch = Batch((item,), *pair)
    cell = _cell_of(use, attack, "" if attack.control else direction, norm, eps)
    seen = Seen([batch])
    try:
        with torch.no_grad():
            encoded = seen.encode(cell.source.key, scorer, batch, 0)
            clean, pristine = scorer.quality(encoded, batch.dist), scorer.quality(encoded, batch.ref)
        spread = float((pristine - clean).abs())
        tools = _PairTools(scorer, registry, place, seed, spread if 0 < spread < math.inf else 1.0)
        (found,) = attack_parts([AttackPart(cell, eps, batch, 0, seen)], tools)
        with torch.no_grad():
            rounded = torch.round(found.images * 255) / 255
            after, after_8bit = (scorer.quality(encoded, images) for images in (found.images, rounded))
    except UserError:
        raise
    except (SampleError, PluginFaultError) as error:
        raise UserError(f"{attack.label} on {use.label}: {error}") from error
    except Exception as error:
        raise UserError(f"{attack.label} on {use.label}: {told(error)}. {MEND}") from error
    sign = 1.0 if metric.higher_is_better else -1.0
    delta = (found.images - batch.dist).flatten(1)
    return Attacked(
        metric=use.label,
        attack=attack.label,
        direction=cell.endpoint,
        norm=norm,
        eps=eps,
        reference=pair[0][0].cpu(),
        distorted=pair[1][0].cpu(),
        attacked=found.images[0].cpu(),
        clean=sign * float(clean),
        score=sign * float(after),
        score_8bit=sign * float(after_8bit),
        higher_is_better=metric.higher_is_better,
        linf=float(delta.abs().amax()),
        l2=float(delta.norm()),
        status=found.status[0],
        forwards=found.forwards[0],
        backwards=found.backwards[0],
    )


def kept_example(cell: Cell, kept: KeptExample, *, higher_is_better: bool) -> Attacked:
    """An attacked image that a run kept.

    Args:
        cell: Its cell.
        kept: What is kept of it; qualities there are higher-is-better.
        higher_is_better: Of the metric, whose units the scores are in.
    """
    sign, about, images = 1.0 if higher_is_better else -1.0, kept.about, kept.images
    clean, score, rounded = (sign * float(about[name]) for name in ("clean", "attacked", "attacked_8bit"))
    attack = cell.attack.label if cell.attack else CLEAN
    pixels = (images["reference"], images["distorted"], images["attacked"])
    size = (float(about["linf"]), float(about["l2"]))
    who = (cell.scorer.label, attack, cell.endpoint, cell.norm, cell.eps)
    return Attacked(*who, *pixels, clean, score, rounded, higher_is_better, *size, str(about["status"]))


_PAIR = "pair"
"""Id of the only sample, from which its random streams are seeded."""


@dataclass(frozen=True)
class _PairTools:
    """What an attack on one pair needs; see `harness.engine.attack_batch.Tools`."""

    only: Scorer
    registry: Registry
    device: torch.device
    seed: int
    range: float

    def scorer(self, spec: ScorerSpec) -> Scorer:
        return self.only

    def attack(self, use: Use) -> Attack:
        return self.registry.attack(use.name).build(use.parameters)

    def metric(self, name: str) -> Metric:
        return default_metric(name, self.registry, self.device)

    def called(self, use: Use) -> str:
        return in_messages(use, self.registry)

    def fact(self, name: str) -> Mapping[str, Any]:
        return {"range": self.range, "line": None}

    def fit(self, name: str) -> Mapping[str, Tensor]:
        return {}

    def tell(self, text: str) -> None:
        """Nobody watches."""


def _cell_of(use: MetricUse, attack: AttackUse, endpoint: Endpoint, norm: Norm, eps: float) -> Cell:
    """The condition of one pair, as a plan would have it."""
    dataset = DatasetUse("datasets", _PAIR, {}, 1, "", Contents(), _PAIR, "", ("",), "none", "pairs")
    split, scorer = SplitSpec(dataset, "", ""), ScorerSpec(use)
    return Cell("", split, scorer, scorer, attack, endpoint, norm, eps, "none", NO_DEFENSE, 1, 1, "", ())


def _refuse_attack(attack: AttackUse, metric: Metric, use: MetricUse, norm: Norm) -> None:
    if attack.fits:
        raise UserError(f"attack '{attack.label}' learns from a data set before it attacks. Run it in a suite.")
    if norm not in attack.norms:
        raise UserError(f"attack '{attack.label}' works in {', '.join(sorted(attack.norms))}, not in {norm}.")
    if attack.needs_gradient and not attack.control and not metric.differentiable:
        cure = "Take a black-box attack, such as square."
        raise UserError(f"attack '{attack.label}' needs gradients, which metric '{use.label}' does not have. {cure}")


def _pair(ref: Image, dist: Image, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both images, each 1 x 3 x H x W on the device.

    Raises:
        UserError: One is no `Image`, or the sizes differ.
    """
    images = {"ref": read_argument("ref", ref), "dist": read_argument("dist", dist)}
    sizes = {name: f"{image.shape[2]} x {image.shape[1]}" for name, image in images.items()}
    if sizes["ref"] != sizes["dist"]:
        first, second = _named("ref", ref), _named("dist", dist)
        raise UserError(
            f"{first} has {sizes['ref']} pixels and {second} has {sizes['dist']}. Give two images of one size."
        )
    return images["ref"][None].to(device), images["dist"][None].to(device)


def _refuse_small(metric: Metric, use: MetricUse, image: Tensor, first: str) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < metric.minimum_size:
        raise UserError(
            f"metric '{use.label}' needs images of at least {metric.minimum_size} px a side, and {first} has "
            f"{width} x {height}. Give larger images, or take another metric."
        )


def read_argument(name: str, image: Image) -> Tensor:
    """An image that was handed over, 3 x H x W float32 RGB in [0, 1] on the CPU.

    Args:
        name: What the argument is called, for messages.
        image: The image.

    Raises:
        DataError: It is no RGB image of floats in [0, 1], or a file that cannot be read as one.
    """
    if isinstance(image, str | Path):
        try:
            return read_image(image)
        except DataError as error:
            raise DataError(f"{name.upper()}: {error}") from error
    if isinstance(image, np.ndarray):
        floats, kind = np.issubdtype(image.dtype, np.floating), str(image.dtype)
    elif isinstance(image, Tensor):
        floats, kind = image.is_floating_point(), str(image.dtype).removeprefix("torch.")
    else:
        raise DataError(f"{name} is of type {type(image).__name__}. Give a file, a tensor or an array.")
    if not floats:
        cure = "Give floats in [0, 1]; 8-bit values are divided by 255, 16-bit ones by 65535."
        raise DataError(f"{name} holds {kind}, not floats. {cure}")
    values = _channels_first(name, image)
    if not bool(values.isfinite().all()):
        raise DataError(f"{name} holds values that are not finite (NaN or infinity). Give floats in [0, 1].")
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if low < -RANGE or high > 1 + RANGE:
        raise DataError(f"{name} holds values from {low:.4g} to {high:.4g}. Rescale or clip them to [0, 1].")
    return values.clamp(0, 1)


def _channels_first(name: str, image: Tensor | npt.NDArray[Any]) -> Tensor:
    """A tensor of 3 x H x W, 1 x 3 x H x W or an array of H x W x 3 as 3 x H x W float32."""
    shape, is_array = tuple(image.shape), isinstance(image, np.ndarray)
    one = shape[1:] if not is_array and len(shape) == 4 and shape[0] == 1 else shape
    if len(one) != 3 or one[-1 if is_array else 0] != 3:
        drawn = " x ".join(map(str, shape)) or "()"
        raise DataError(f"{name} has the shape {drawn}, no RGB image; give {_layout_cure(one, is_array)}.")
    if isinstance(image, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
    return image.detach().reshape(one).to("cpu", torch.float32)


def _layout_cure(shape: Sequence[int], is_array: bool) -> str:
    """The layout that is wanted, and how to get there from this shape of an image."""
    channels = shape[-1 if is_array else 0] if len(shape) == 3 else 0
    cure = "H x W x 3" if is_array else "3 x H x W"
    if len(shape) == 3 and 3 in (shape[0], shape[-1]):
        return cure + (
            ": transpose(1, 2, 0) moves the channels" if is_array else ": permute(2, 0, 1) moves the channels"
        )
    if len(shape) == 2 or channels == 1:
        return f"{cure}: repeat the grey channel three times"
    return f"{cure}: flatten transparency onto a background and drop the fourth channel" if channels == 4 else cure


def _named(name: str, image: Image) -> str:
    """An argument in messages: as the command line calls it where it is a file."""
    return f"{name.upper()} {image}" if isinstance(image, str | Path) else name
