"""`pyiqa:NAME`: the full-reference metrics of pyiqa, with its own weights, by its documented interface.

pyiqa is free for non-commercial use only and is no dependency of robustiqa: nothing of it is contained here.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Metric, UserError
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library
from metrics_zoo.bridges.functional import finite_gradient

_OFFLINE = "ROBUSTIQA_OFFLINE"


class PyiqaMetric(Metric):
    """A full-reference metric of pyiqa with the weights that pyiqa downloads for it."""

    cite = ""
    score_range: ClassVar[tuple[float, float] | None]
    """As pyiqa states it, roughly."""
    prototype: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.metric = copy.deepcopy(type(self).prototype)

    def score(self, reference: Tensor, dist: Tensor) -> Tensor:
        """Scores of shape [N] as pyiqa has them; where its gradient is not finite, 0 stands in for it."""
        with _randomness_kept(dist.device):
            scores: Tensor = self.metric(finite_gradient(dist), reference).reshape(len(dist), -1).mean(dim=1)
        return scores if torch.is_grad_enabled() else scores.detach()


@bridge("pyiqa", "metrics", library="pyiqa")
class Pyiqa(Bridge):
    """Full-reference metrics of pyiqa (non-commercial licence), which downloads their weights itself."""

    cite = "chen2022pyiqa"

    def names(self) -> Sequence[str]:
        """What pyiqa lists as full-reference.

        Raises:
            UserError: pyiqa, or torchvision, which it imports, cannot be imported.
        """
        return list(import_library("pyiqa").list_models(metric_mode="FR"))

    def load(self, name: str) -> type[Metric]:
        """The metric of that name; its direction and range are read off an instance.

        Raises:
            UserError: pyiqa cannot be imported, cannot make the metric, or the metric takes no reference.
        """
        pyiqa = import_library("pyiqa")
        if name not in pyiqa.list_models():
            raise NoSuchNameError(name)
        if name not in self.names():
            raise UserError("it takes no reference image. Take a full-reference metric: robustiqa show pyiqa")
        metric = _created(pyiqa, name)
        best = "lower is better" if metric.lower_better else "higher is better"
        stated = getattr(metric, "score_range", None) or "not stated"
        body = {
            "__doc__": f"{name} of pyiqa, with pyiqa's weights; {best}, range as pyiqa states it: {stated}.",
            "__module__": __name__,
            "higher_is_better": not metric.lower_better,
            "score_range": _range(stated),
            "prototype": metric,
        }
        return type(f"pyiqa_{name}", (PyiqaMetric,), body)


def _created(pyiqa: Any, name: str) -> Any:
    """The metric on the CPU, differentiable, one score an image."""
    offline = os.environ.get(_OFFLINE, "") not in ("", "0")
    try:
        with _randomness_kept(torch.device("cpu")), _no_network() if offline else contextlib.nullcontext():
            return pyiqa.create_metric(name, as_loss=True, loss_reduction="none", device=torch.device("cpu")).eval()
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        why = (
            f"{_OFFLINE} is set, so nothing is downloaded; its weights are fetched"
            if offline
            else "Weights are fetched"
        )
        cure = f"{why} by pyiqa itself: python -c \"import pyiqa; pyiqa.create_metric('{name}')\""
        raise UserError(f"pyiqa cannot make it ({reason}). {cure}") from error


def _range(stated: Any) -> tuple[float, float] | None:
    """Two numbers from pyiqa's text, such as '~0, 1' or '0, inf'; None where there are none."""
    try:
        low, high = (float(part.strip().lstrip("~")) for part in str(stated).split(","))
    except ValueError:
        return None
    return None if math.isnan(low) or math.isnan(high) else (low, high)


@contextlib.contextmanager
def _randomness_kept(device: torch.device) -> Iterator[None]:
    """Leave Python's, numpy's and torch's global random numbers as they were: pyiqa seeds them."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (kept, not used)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Refuse every connection that Python code opens meanwhile."""

    def refuse(*_: Any) -> NoReturn:
        raise OSError(f"no connection: {_OFFLINE} is set")

    connect = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
