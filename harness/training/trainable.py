"""Which parameters are trained, and what of a metric stands still while they are."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from harness.contracts import Metric
from harness.training.recipe_file import RecipeFile, TrainingError
from harness.wording import did_you_mean


def trainable(metric: Metric, file: RecipeFile) -> dict[str, nn.Parameter]:
    """The parameters to train by name; the others are frozen.

    Raises:
        TrainingError: A pattern matches none.
    """
    parameters = dict(metric.named_parameters())
    if file.trainable:
        chosen = matching(parameters, file.trainable, "trainable", file)
    else:
        normalised = {id(p) for module in metric.modules() if is_batch_norm(module) for p in module.parameters()}
        chosen = [name for name, parameter in parameters.items() if id(parameter) not in normalised]
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    return {name: parameters[name] for name in chosen}


def matching(parameters: Mapping[str, Any], patterns: Sequence[str], key: str, file: RecipeFile) -> list[str]:
    """Names that match a pattern, in their own order."""
    for pattern in patterns:
        if not fnmatch.filter(parameters, pattern):
            parts = sorted({f"{name.partition('.')[0]}.*" if "." in name else name for name in parameters})
            kind = "trained parameter" if key == "nonnegative" else "parameter"
            raise TrainingError(
                f"{key}: no {kind} of '{file.metric.name}' matches '{pattern}'.{did_you_mean(pattern, parts)}"
            )
    return [name for name in parameters if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module normalises by running statistics, of torch or of a metric's own make."""
    return "running_mean" in dict(module.named_buffers(recurse=False))


def training_mode(metric: Metric) -> None:
    """Training mode, but for batch normalisation: by a batch's statistics sample i would depend on the others."""
    metric.train()
    for module in metric.modules():
        if is_batch_norm(module):
            module.eval()
