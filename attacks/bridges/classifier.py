"""A score as a classifier, which is all that the libraries of attacks know, and an attack class for each of theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.contracts import Attack, Budget, Norm, Objective, QueryLimit, SampleRng, UserError

CLASSES = 4
"""Logits of the classifier: with two, losses that sort the logits have no third to divide by."""
FAR = 20.0
"""Minus the logits of the classes that never win."""
LINF: frozenset[Norm] = frozenset({"linf"})
L2: frozenset[Norm] = frozenset({"l2"})
BOTH = LINF | L2
_HIDDEN = (
    *("norm", "seed", "verbose", "n_classes", "targeted", "device"),
    *("batch_size", "batch_max", "max_batch_size", "summary_writer", "eps_for_division"),
)
"""Arguments of the libraries that the bridge sets, or that say nothing about the attack."""
NEAREST = "It looks for where the class flips, and finds little where the score cannot rise by its whole range."
"""What must be known of attacks that look for the nearest image of another class."""
LENGTHS = ("alpha", "eps_step", "lr", "learning_rate")
"""Parameters that cannot be 0."""

Spend = Callable[[int, Mapping[str, Any]], Mapping[str, Any]]
"""(queries, the other arguments) -> the arguments by which a library spends that many."""


@dataclass(frozen=True)
class KnownAttack:
    """What is known of a library's attack beforehand."""

    about: str
    """What it is, in one line."""
    norms: frozenset[Norm] = LINF
    eps: str = "eps"
    """Its argument for the radius; empty for an attack that looks for the least perturbation."""
    norm: Mapping[Norm, Any] = field(default_factory=dict)
    """What its argument ``norm`` is called with."""
    spend: Spend | None = None
    """Given for a black-box attack."""
    step: float = 0.0
    """What its argument ``eps_step`` is unless given, in radii; 0 for an attack without one."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of parameters in place of the library's, and parameters whose default there is of no plain type."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of parameters that are words."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, which are no parameters."""
    note: str = ""
    """What a user must know besides."""
    cite: str | tuple[str, ...] = ""
    """Its paper, as `harness.contracts.Citable.cite` has it, beside the library's."""


class AsClassifier(nn.Module):
    """The objective of one sample as a classifier of its images: an untargeted attack on class 0 raises J.

    Logits are (z, -z, -20, -20) with z = (tau - J) / T, T the range of clean quality and tau the start's J plus that
    range. So z is 1 at the start and class 0 wins until J has risen by the whole range. A tau near the start would end
    attacks that stop at another class, and one far away in units of T would saturate the softmax.

    Args:
        objective: The view of one sample.
        start: Its distorted image, 1 x 3 x H x W.
    """

    def __init__(self, objective: Objective, start: Tensor) -> None:
        super().__init__()
        self._objective = objective
        self._range = objective.scale or 1.0
        with torch.no_grad():
            self._tau = objective(start) + self._range
        # Libraries ask a parameter where the model is.
        self.place = nn.Parameter(torch.zeros(1, device=start.device), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x 4, of N images to be compared with the one reference."""
        objective = self._objective
        if len(images) > 1:
            objective = objective.select(torch.zeros(len(images), dtype=torch.int64, device=images.device))
        z = (self._tau - objective(images)) / self._range
        z = torch.where(z.isfinite(), z, FAR)  # out of queries, or no number: as bad as can be
        return torch.stack([z, -z, torch.full_like(z, -FAR), torch.full_like(z, -FAR)], dim=1)


@dataclass(frozen=True)
class Foreign(Attack):
    """An attack of a library. Sample by sample, since libraries rearrange batches and a reference would be lost.

    What counts is the best image inside the budget of all that the library evaluated, and of what it returned.
    """

    known: ClassVar[KnownAttack]
    library_class: ClassVar[Any]

    def __post_init__(self) -> None:
        for parameter in dataclasses.fields(self):
            value, default = getattr(self, parameter.name), parameter.default
            least = 1 if type(default) is int and default >= 1 else 0
            if isinstance(value, int | float) and not value >= least:
                raise ValueError(f"{parameter.name} should be at least {least}, got {value:g}")
            if parameter.name in LENGTHS and value == 0:
                raise ValueError(f"{parameter.name} should be above 0, got 0")

    def perturb(self, objective: Objective, images: Tensor, budget: Budget, rng: SampleRng) -> Tensor:
        """Let the library attack one sample after the other, each from a seed of its own."""
        for row, seed in enumerate(rng.integers(2**31 - 1).tolist()):
            index = torch.tensor([row], device=images.device)
            view, radius, start = objective.select(index), budget.select(index), images[row : row + 1]
            with fenced(seed, images.device), contextlib.suppress(QueryLimit):
                model = AsClassifier(view, start)
                with torch.set_grad_enabled(self.needs_gradient):
                    found = self.run(model, start.clone(), self.arguments(radius), seed)
                with torch.no_grad():
                    view(radius.project(found.detach().to(start), start))
        return objective.best()

    def arguments(self, budget: Budget) -> dict[str, Any]:
        """What the library's class is made with: parameters, radius and norm of one sample."""
        known = self.known
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if known.spend is not None:
            given.update(known.spend(given.pop("queries"), given))
        if known.norm:
            given["norm"] = known.norm[budget.norm]
        if known.eps:
            given[known.eps] = float(budget.eps)
        if known.step and given["eps_step"] is None:
            given["eps_step"] = known.step * float(budget.eps)
        return {**known.fixed, **given}

    def run(self, model: AsClassifier, start: Tensor, arguments: dict[str, Any], seed: int) -> Tensor:
        """What the library returns for one image, 1 x 3 x H x W in [0, 1], of class 0 before.

        Args:
            model: The sample's objective as a classifier.
            start: The distorted image.
            arguments: As `arguments` gives them.
            seed: For libraries that take one; global generators are seeded with it too.
        """
        raise NotImplementedError


@contextlib.contextmanager
def fenced(seed: int, device: torch.device) -> Iterator[None]:
    """Global random numbers that start from a seed, and are afterwards what they were; so is the tracing of calls."""
    python, legacy, tracing = random.getstate(), np.random.get_state(), sys.gettrace()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (what the libraries draw from)
            random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        sys.settrace(tracing)


def attack_class(library: str, name: str, known: KnownAttack, cls: Any, base: type[Foreign]) -> type[Foreign]:
    """An attack class for one class of a library, its parameters those of plain type there.

    Args:
        library: Prefix of the bridge.
        name: Name behind the prefix.
        known: What is known of the class.
        cls: The class in the library.
        base: Says how an attack of the library is run.

    Raises:
        UserError: The installed version's arguments are others.
    """
    signature = inspect.signature(cls.__init__).parameters
    named = [*known.defaults, *known.fixed, *_set_by_the_bridge(known)]
    lacking = [argument for argument in named if argument not in signature]
    if lacking:
        raise UserError(
            f"the {library} that is installed is of another version: its {cls.__name__} lacks the argument "
            f"'{lacking[0]}'. Install the version that the documentation of attack bridges names."
        )
    spent = known.spend(1000, {n: p.default for n, p in signature.items()}) if known.spend else {}
    plain = {n: p.default for n, p in signature.items() if isinstance(p.default, bool | int | float | str)}
    hidden = (*_HIDDEN, *known.fixed, known.eps, *spent)
    defaults: dict[str, Any] = {n: v for n, v in {**plain, **known.defaults}.items() if n not in hidden}
    if known.step:
        defaults["eps_step"] = None
    fields: list[Any] = [(n, _type(n, v, known), v) for n, v in defaults.items()]
    if known.spend:
        fields.append(("queries", int, 1000))
    body = {
        "__doc__": _description(library, cls.__name__, known),
        "__module__": __name__,
        "needs_gradient": known.spend is None,
        "norms": known.norms,
        "cite": known.cite,
        "known": known,
        "library_class": cls,
    }
    made: type[Foreign] = dataclasses.make_dataclass(
        f"{library}_{name.replace('-', '_')}", fields, bases=(base,), frozen=True, namespace=body
    )
    return made


def _set_by_the_bridge(known: KnownAttack) -> list[str]:
    return [name for name, on in ((known.eps, known.eps), ("norm", known.norm), ("eps_step", known.step)) if on]


def _type(name: str, default: Any, known: KnownAttack) -> Any:
    if default is None:
        return float | None
    return Literal[known.choices[name]] if name in known.choices else type(default)


def _description(library: str, called: str, known: KnownAttack) -> str:
    lines = [
        f"{known.about}: {called} of {library} on the score as a classifier.",
        known.note,
        "" if known.spend is None else "Black-box: no more than `queries` evaluations per sample.",
        f"`eps_step` is {known.step:g} times the radius unless given, in [0, 1] image units." if known.step else "",
        "" if known.eps else "It takes no budget: what counts is the best image inside it that the attack evaluates.",
    ]
    return "\n\n".join(line for line in lines if line)
