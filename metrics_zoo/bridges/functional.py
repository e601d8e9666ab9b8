"""Metrics made of library functions, with what must be known of each beforehand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import Metric, UserError

Function = Callable[..., Tensor]
"""(distorted, reference, further arguments by keyword) -> scores."""

_LIMITS = "[{:g}, {:g}]"


@dataclass(frozen=True)
class KnownMetric:
    """What is known of a library's function beforehand, at default arguments."""

    function: str
    """Its name in the library."""
    about: str
    """What it is, in one line."""
    higher_is_better: bool
    score_range: tuple[float, float]
    """Lowest and highest score of images in [0, 1], each attained or approached, or a bound."""
    minimum_size: int = 1
    parameters: tuple[str, ...] = ()
    """Arguments that are YAML parameters: of plain type, and changing neither range nor smallest size."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments."""
    scale: float = 1.0
    """What images are multiplied by before."""
    differentiable: bool = True
    row_by_row: bool = False
    """The function mixes the images of a batch, or its rounding depends on their number: it is given one at a time."""
    exact_gradient: bool = True
    """False: right, but kinks and rounding inside the library keep small finite differences from confirming it."""
    note: str = ""
    """What a user must know besides."""
    cite: str = ""
    """Its paper, as `harness.contracts.Citable.cite` has it, beside the library's."""


class FunctionMetric(Metric):
    """A metric that is one function of a library."""

    score_range: ClassVar[tuple[float, float]]
    known: ClassVar[KnownMetric]
    function: ClassVar[Function]
    options: Mapping[str, Any]
    """Values of the YAML parameters."""

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """Scores of shape [N] as the library has them; where its gradient is not finite, 0 stands in for it."""
        known = self.known
        ref, images = (known.scale * x.clamp(0, 1) for x in (reference, finite_gradient(dist)))
        if not known.row_by_row:
            return self._call(images, ref)
        return torch.cat([self._call(images[i : i + 1], ref[i : i + 1]) for i in range(len(images))])

    def _call(self, images: Tensor, ref: Tensor) -> Tensor:
        scores = type(self).function(images, ref, **self.known.fixed, **self.options)
        return scores.reshape(len(images), -1).mean(dim=1)


def metric_class(library: str, name: str, known: KnownMetric, module: Any) -> type[FunctionMetric]:
    """A metric class for one function; the defaults of its parameters are those of the installed library.

    Args:
        library: Prefix of the bridge.
        name: Name behind the prefix.
        known: What is known of the function.
        module: Where the function is.

    Raises:
        UserError: The installed version has no such function, or its arguments are others.
    """
    function = getattr(module, known.function, None)
    signature = inspect.signature(function).parameters if function else {}
    lacking = [argument for argument in (*known.fixed, *known.parameters) if argument not in signature]
    if function is None or lacking:
        what = f"its {known.function} has no argument '{lacking[0]}'" if function else f"it has no {known.function}"
        raise UserError(f"the {library} that is installed is of another version: {what}. Update it.")
    defaults = {parameter: signature[parameter].default for parameter in known.parameters}

    def __init__(self: FunctionMetric, **options: Any) -> None:  # noqa: N807
        Metric.__init__(self)
        self.options = {**defaults, **options}

    types = {p: type(default) for p, default in defaults.items()}
    keyword = inspect.Parameter.KEYWORD_ONLY
    __init__.__annotations__ = {**types, "return": None}
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(inspect.Parameter(p, keyword, default=defaults[p], annotation=types[p]) for p in defaults),
        ]
    )
    body = {
        "__doc__": _description(library, known),
        "__module__": __name__,
        "__init__": __init__,
        "higher_is_better": known.higher_is_better,
        "differentiable": known.differentiable,
        "exact_gradient": known.exact_gradient,
        "minimum_size": known.minimum_size,
        "score_range": known.score_range,
        "cite": known.cite,
        "known": known,
        "function": staticmethod(function),
    }
    return type(f"{library}_{name}", (FunctionMetric,), body)


def _description(library: str, known: KnownMetric) -> str:
    low, high = known.score_range
    best = "higher is better" if known.higher_is_better else "lower is better"
    lines = [
        f"{known.about}: the function {known.function} of {library}; {best}, in {_LIMITS.format(low, high)}.",
        known.note,
        "" if known.differentiable else "Its gradient cannot be had: it changes tensors in place.",
        ""
        if known.exact_gradient
        else "Kinks and rounding inside it keep finite differences from confirming its gradient.",
        "The images of a batch are given to it one at a time." if known.row_by_row else "",
    ]
    return "\n\n".join(line for line in lines if line)


def finite_gradient(images: Tensor) -> Tensor:
    """The images themselves; in backward, values of the gradient that are not finite become 0.

    A root or norm at 0 has an infinite slope there, and one such pixel would turn an attacked image into NaN.
    """
    passed: Tensor = _FiniteGradient.apply(images)  # type: ignore[no-untyped-call]
    return passed


class _FiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
