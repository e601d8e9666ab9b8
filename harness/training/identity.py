"""What a checkpoint must agree with to be continued: recipe, data, versions, code and starting weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from harness.plugins.code import code_of
from harness.plugins.contents import by_content
from harness.plugins.model import Plugin
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import WeightFile, resolve
from harness.suite.pixels import fixed_digest
from harness.training.checkpoint import has_checkpoint, refuse_another
from harness.training.members import Material, Member
from harness.training.recipe_file import RecipeFile
from harness.training.robust import VALIDATED_BY


def started_from(file: RecipeFile, registry: Registry) -> WeightFile | None:
    """The weights a training starts from, if any.

    Raises:
        UserError: They cannot be found.
    """
    plugin, wanted = registry.metric(file.metric.name), file.metric.weights
    return resolve(plugin.name, wanted, plugin.weights) if wanted is not None else None


def checkpoint_identity(file: RecipeFile, material: Material, registry: Registry, started: WeightFile | None) -> str:
    """The sha256 of all that decides a member's weights, 64 hexadecimal digits.

    Args:
        file: The member's recipe file.
        material: Its data and recipe.
        registry: Where its plugins come from.
        started: The weights it starts from.
    """
    metric = registry.metric(file.metric.name)
    plugins: list[Plugin[Any]] = [metric, registry.dataset(file.dataset.name), registry.recipe(file.recipe.name)]
    versions = [metric.cls.version, type(material.data).version, type(material.recipe).version]
    helpers = list(material.recipe.uses_metrics())
    if file.inner is not None and material.attack is not None:
        plugins.append(registry.attack(file.inner.name))
        versions.append(type(material.attack).version)
        helpers += material.attack.uses_metrics()
    if file.robust is not None:  # by which the weights may be chosen
        plugins.append(registry.attack(VALIDATED_BY))
        versions.append(plugins[-1].cls.version)
    pixels = fixed_digest(material.data, (*material.splits.train, *material.splits.val))
    content = {
        "recipe": by_content(file.described(), folders=False),
        "data": material.data.fingerprint(),
        **({"pixels": pixels} if pixels else {}),
        "versions": versions,
        "code": [*(code_of([one]).digest() for one in registry.files), *(one.code for one in plugins if one.code)],
        **({"started": started.sha256} if started is not None else {}),
        **({"helpers": [_helper(name, registry) for name in helpers]} if helpers else {}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _helper(name: str, registry: Registry) -> Sequence[str | int]:
    """What of a metric that recipe or attack uses decides the weights."""
    plugin = registry.metric(name)
    file = resolve(name, None, plugin.weights) if plugin.cls.needs_weights else None
    return [name, plugin.cls.version, plugin.code, file.sha256 if file is not None else ""]


def refuse_other_runs(members: Sequence[Member], materials: Sequence[Material], registry: Registry) -> None:
    """Look at every member's checkpoint before anything is written into the run folder.

    Raises:
        TrainingError: One is damaged, or of another recipe or data set.
    """
    for member, material in zip(members, materials, strict=True):
        if has_checkpoint(member.folder):
            started = started_from(member.file, registry)
            refuse_another(member.folder, checkpoint_identity(member.file, material, registry, started))
