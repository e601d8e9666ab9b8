"""Plugins that return something their contract does not allow, one fault each."""

from dataclasses import dataclass
from pathlib import Path

import torch

from harness.contracts import Attack, Dataset, Entry, Metric, Purifier, register


class _Metric(Metric):
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()

    def mean(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1)


@register("score_shape")
class ScoreShape(_Metric):
    def score(self, reference, dist):
        return self.mean(reference, dist)[:, None]


@register("score_type")
class ScoreType(_Metric):
    differentiable = False

    def score(self, reference, dist):
        return (1000 * self.mean(reference, dist)).long()


@register("score_device")
class ScoreDevice(_Metric):
    def score(self, reference, dist):
        return torch.empty(len(dist), device="meta")


@register("score_none")
class ScoreNone(_Metric):
    def score(self, reference, dist):
        self.mean(reference, dist)


@register("no_graph")
class NoGraph(_Metric):
    def score(self, reference, dist):
        return self.mean(reference, dist.detach())


@dataclass(frozen=True)
class _Attack(Attack):
    needs_gradient = False
    queries: int = 10


@register("attack_shape")
@dataclass(frozen=True)
class AttackShape(_Attack):
    def perturb(self, objective, images, budget, rng):
        return images[:, :, 1:]


@register("attack_type")
@dataclass(frozen=True)
class AttackType(_Attack):
    def perturb(self, objective, images, budget, rng):
        return images.double()


@register("attack_device")
@dataclass(frozen=True)
class AttackDevice(_Attack):
    def perturb(self, objective, images, budget, rng):
        return images.to("meta")


@register("attack_nan")
@dataclass(frozen=True)
class AttackNan(_Attack):
    def perturb(self, objective, images, budget, rng):
        return images / 0 * 0


@register("attack_range")
@dataclass(frozen=True)
class AttackRange(_Attack):
    """No fault: the engine projects onto budget and box."""

    def perturb(self, objective, images, budget, rng):
        return images + 7


@register("purifier_range")
@dataclass(frozen=True)
class PurifierRange(Purifier):
    randomised = False

    def apply(self, images, draw):
        return images * 2 - 1


@register("purifier_type")
@dataclass(frozen=True)
class PurifierType(Purifier):
    randomised = False

    def apply(self, images, draw):
        return (images * 255).to(torch.uint8)


@register("purifier_shape")
@dataclass(frozen=True)
class PurifierShape(Purifier):
    randomised = False

    def apply(self, images, draw):
        return images.mean(1)


class _Dataset(Dataset):
    labels = "none"
    splits = ("test",)

    def entries(self, split):
        return [Entry(f"{type(self).__name__}/{i}", f"r{i}") for i in range(2)]

    def load(self, entry):
        return {"ref": torch.full((3, 16, 16), 0.5), "dist": self.spoil(torch.full((3, 16, 16), 0.4))}

    def fingerprint(self):
        return Path(__file__).name


@register("images_bytes")
class ImagesBytes(_Dataset):
    def spoil(self, image):
        return (255 * image).to(torch.uint8)


@register("images_range")
class ImagesRange(_Dataset):
    def spoil(self, image):
        return 255 * image


@register("images_grey")
class ImagesGrey(_Dataset):
    def spoil(self, image):
        return image[:1]


@register("images_nameless")
class ImagesNameless(_Dataset):
    def load(self, entry):
        return {"reference": torch.zeros(3, 16, 16), "dist": torch.zeros(3, 16, 16)}


@dataclass(frozen=True)
class _Learning(Attack):
    fits = True

    def perturb(self, objective, images, budget, rng):
        return images


@register("fit_none")
@dataclass(frozen=True)
class FitNone(_Learning):
    def fit(self, batches, rng):
        return None


@register("fit_number")
@dataclass(frozen=True)
class FitNumber(_Learning):
    def fit(self, batches, rng):
        return {"strength": 3}


@register("fit_raises")
@dataclass(frozen=True)
class FitRaises(_Learning):
    def fit(self, batches, rng):
        raise KeyError("layer")
