"""Small plugins that the engine's tests run on: closed forms, planted faults, and every contract once."""

import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harness.contracts import Attack, Dataset, Entry, Metric, Purifier, register


def _pixels(name, size):
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return torch.from_numpy(np.random.default_rng(seed).random((3, size, size), dtype=np.float32))


@register("toy")
class Toy(Dataset):
    """References and noisy copies; the opinion falls with the level."""

    cite = ""
    labels = "human"
    splits = ("train", "val", "test")
    neutral = {"first": 1}

    def __init__(self, *, references: int = 4, levels: int = 5, size: int = 16, first: int = 1) -> None:
        self.references, self.levels, self.size, self.first = references, levels, size, first

    def entries(self, split):
        return [
            Entry(f"{split}/r{r}/n/{level}", f"{split}-r{r}", opinion=1 - level / 6 + r / 100, group="n", level=level)
            for r in range(self.references)
            for level in range(self.first, self.levels + 1)
        ]

    def load(self, entry):
        ref = 0.25 + 0.5 * _pixels(entry.reference_id, self.size)
        noise = _pixels(entry.id, self.size) - 0.5
        return {"ref": ref, "dist": (ref + 0.1 * entry.level * noise).clamp(0, 1)}

    def fingerprint(self):
        return f"toy {self.references} {self.levels} {self.size}"


@register("toy_sizes")
class ToySizes(Toy):
    """Odd levels are larger images."""

    def load(self, entry):
        size = self.size + 4 * int(entry.level % 2)
        ref = 0.25 + 0.5 * _pixels(f"{entry.reference_id}{size}", size)
        return {"ref": ref, "dist": (ref + 0.1 * entry.level * (_pixels(entry.id, size) - 0.5)).clamp(0, 1)}


@register("toy_triplets")
class ToyTriplets(Toy):
    """Two noisy copies of each reference; the people prefer the first in even entries."""

    kind = "triplets"
    splits = ("test",)

    def entries(self, split):
        return [Entry(f"t{i}", f"r{i}", judge=float(i % 2)) for i in range(self.references)]

    def load(self, entry):
        ref = 0.25 + 0.5 * _pixels(entry.reference_id, self.size)
        noise = [_pixels(f"{entry.id}{i}", self.size) - 0.5 for i in range(2)]
        return {"ref": ref, "p0": (ref + 0.1 * noise[0]).clamp(0, 1), "p1": (ref + 0.2 * noise[1]).clamp(0, 1)}


def _weights(images):
    """A fixed pattern of +1 and -1 with the shape of one image."""
    c, h, w = images.shape[1:]
    index = torch.arange(c * h * w, dtype=torch.float32)
    return torch.where(torch.sin(index * 1.7) >= 0, 1.0, -1.0).view(c, h, w)


@register("linear")
class Linear(Metric):
    """Mean of w x (dist - ref), |w| = 1: the optimum of any Linf attack is eps sign(w)."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return (_weights(dist) * (dist - reference)).flatten(1).mean(1)


@register("linear_lower")
class LinearLower(Linear):
    """The same with the opposite sense: lower is better."""

    higher_is_better = False


@register("negative_mse")
class NegativeMse(Metric):
    """Minus the mean squared error."""

    cite = ""
    higher_is_better = True

    def score(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1)


@register("stairs")
class Stairs(Metric):
    """Not differentiable, and says so."""

    cite = ""
    higher_is_better = True
    differentiable = False

    def score(self, reference, dist):
        return -(dist - reference).abs().flatten(1).mean(1).mul(100).round()


@register("nan_at")
class NanAt(NegativeMse):
    """NaN where the reference's first pixel is below a threshold; the images decide, not their place in a batch."""

    def __init__(self, *, below: float = 0.3) -> None:
        super().__init__()
        self.below = below

    def score(self, reference, dist):
        return torch.where(reference[:, 0, 0, 0] < self.below, torch.nan, super().score(reference, dist))


@register("raises_at")
class RaisesAt(NanAt):
    """Raises where NanAt is NaN."""

    def score(self, reference, dist):
        if bool((reference[:, 0, 0, 0] < self.below).any()):
            raise RuntimeError("planted failure")
        return NegativeMse.score(self, reference, dist)


@register("dies_once")
class DiesOnce(NegativeMse):
    """Kills its process the first time it scores, if the flag file named by the environment is absent."""

    always = False

    def score(self, reference, dist):
        flag = Path(os.environ["TOY_FLAG"])
        if self.always or not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(reference, dist)


@register("dies_always")
class DiesAlways(DiesOnce):
    """Kills its process whenever it scores."""

    always = True


@register("dies_when_small")
class DiesWhenSmall(NegativeMse):
    """Kills its process on images that no test data set has, but the probes do."""

    def score(self, reference, dist):
        if dist.shape[-1] not in (16,):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(reference, dist)


@register("wrong_shape")
class WrongShape(NegativeMse):
    """Returns one number too many dimensions."""

    def score(self, reference, dist):
        return super().score(reference, dist)[:, None]


@register("jitter")
@dataclass(frozen=True)
class Jitter(Purifier):
    """Adds or removes a pattern that one random sign per sample decides: an attack that knows the sign gains most."""

    cite = ""
    strength: float = 0.2

    def draw(self, images, rng):
        return rng.signs(1)

    def apply(self, images, draw):
        sign = draw.view(-1, 1, 1, 1)
        pattern = _weights(images)
        return (0.5 + (images - 0.5) * (1 + sign * self.strength * pattern)).clamp(0, 1)


@register("rounding")
@dataclass(frozen=True)
class Rounding(Purifier):
    """Rounds to few levels: no gradient of its own, so it offers the identity as a surrogate."""

    cite = ""
    gradient = "surrogate"
    randomised = False

    def apply(self, images, draw):
        return torch.round(images * 15) / 15


@register("learnt")
@dataclass(frozen=True)
class Learnt(Attack):
    """Fits one universal direction on the train split."""

    cite = ""
    fits = True
    batches: int = 3

    def fit(self, batches, rng):
        total = 0
        for _ in range(self.batches):
            objective, images = next(batches)
            _, gradient = objective.gradient(images)
            total = total + gradient.sign().sum(0)
        return {"direction": total.sign()}

    def perturb(self, objective, images, budget, rng):
        direction = torch.stack([objective.fitted[int(s)]["direction"] for s in objective.sign.tolist()])
        return images + budget.eps.view(-1, 1, 1, 1) * direction


@register("restarts")
@dataclass(frozen=True)
class Restarts(Attack):
    """Random points in the ball, all restarts in one batch through `select`; notes which restart won."""

    cite = ""
    restarts: int = 3

    def perturb(self, objective, images, budget, rng):
        count = len(images)
        index = torch.arange(count).repeat(self.restarts)
        view, radius, draws = objective.select(index), budget.select(index), rng.select(index)
        eps = radius.eps.view(-1, 1, 1, 1)
        start = images[index]
        points = radius.project(start + eps * draws.uniform(*images.shape[1:], low=-1), start)
        value, gradient = view.gradient(points)
        value = view(radius.project(points + eps * gradient.sign(), start))
        winner = value.view(self.restarts, count).argmax(0)
        objective.note(winner=winner, member=[f"restart {int(w)}" for w in winner])
        return objective.best()


@register("guess")
@dataclass(frozen=True)
class Guess(Attack):
    """Black-box: random corners until the queries are spent."""

    cite = ""
    needs_gradient = False
    queries: int = 7

    def perturb(self, objective, images, budget, rng):
        while True:
            objective(budget.project(images + budget.eps.view(-1, 1, 1, 1) * rng.signs(*images.shape[1:]), images))


@register("cheat")
@dataclass(frozen=True)
class Cheat(Guess):
    """Claims to be black-box and asks for a gradient."""

    def perturb(self, objective, images, budget, rng):
        return objective.gradient(images)[1]


@register("sphere")
@dataclass(frozen=True)
class Sphere(Attack):
    """One step along the gradient, as long as either norm allows."""

    cite = ""
    norms = frozenset({"linf", "l2"})

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        eps = budget.eps.view(-1, 1, 1, 1)
        if budget.norm == "linf":
            return budget.project(images + eps * gradient.sign(), images)
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        return budget.project(images + eps * gradient / length, images)


@register("worse")
@dataclass(frozen=True)
class Worse(Attack):
    """Goes down instead of up, so the start must win."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images - budget.eps.view(-1, 1, 1, 1) * gradient.sign()


@register("worse_control")
@dataclass(frozen=True)
class WorseControl(Attack):
    """A control that lowers any quality: it must be kept all the same."""

    cite = ""
    control = True

    def perturb(self, objective, images, budget, rng):
        return images + budget.eps.view(-1, 1, 1, 1) * torch.where(images > objective.reference, 1.0, -1.0)


@register("far")
@dataclass(frozen=True)
class Far(Attack):
    """Leaves budget and box by far; the engine must bring it back."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        return images + 3 * objective.sign.view(-1, 1, 1, 1) * _weights(images)


@register("nan_attack")
@dataclass(frozen=True)
class NanAttack(Attack):
    """Returns NaN pixels."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        return images * torch.nan


@register("one_draw")
@dataclass(frozen=True)
class OneDraw(Attack):
    """The planted overfitter: asks for one encoding only and follows its gradient to the end of the budget."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        _, gradient = objective.gradient(images)
        return images + budget.eps.view(-1, 1, 1, 1) * gradient.sign()


@register("tell_scale")
@dataclass(frozen=True)
class TellScale(Attack):
    """Notes the scale it is shown."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        objective.note(scale=torch.full((len(images),), objective.scale, dtype=torch.float64))
        return images


@register("overwrites")
@dataclass(frozen=True)
class Overwrites(Attack):
    """Tries to forge its result."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        objective.note(attacked=torch.ones(len(images)))
        return images


@register("dies_here")
@dataclass(frozen=True)
class DiesHere(Attack):
    """Kills its process."""

    cite = ""

    def perturb(self, objective, images, budget, rng):
        os.kill(os.getpid(), signal.SIGKILL)


@register("needs_flag")
class NeedsFlag(NegativeMse):
    """Raises until the flag file named by the environment exists."""

    def score(self, reference, dist):
        if not Path(os.environ["TOY_FLAG"]).exists():
            raise RuntimeError("planted: no flag")
        return super().score(reference, dist)


@register("toy_broken")
class ToyBroken(Toy):
    """Cannot load one of its items, and not in the way the contract asks for."""

    splits = ("test",)

    def load(self, entry):
        if entry.id == "test/r1/n/2":
            raise ValueError("planted")
        return super().load(entry)
