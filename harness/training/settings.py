"""Every value that a recipe file puts into effect, those it leaves to defaults among them."""

from __future__ import annotations

from typing import Any

from harness.plugins.model import Plugin
from harness.plugins.registry import Registry
from harness.training.recipe_file import PluginUse, RecipeFile
from harness.training.trainer import OPTIMISER


def settings_of(file: RecipeFile, registry: Registry) -> dict[str, Any]:
    """The keys of a recipe file with their values.

    Args:
        file: The recipe file.
        registry: Where the recipe and the inner attack are found.

    Returns:
        Every key of the file; `recipe` and `inner` (None without one) have every parameter of the plugin, given or
        default, and `inner` its `eps`, `norm`, `direction` and `which`; `optimiser` is the name of torch's class.

    Raises:
        PluginError: There is no such recipe or attack.
    """
    values = {key: getattr(file, key) for key in type(file).model_fields}
    values["recipe"] = _parameters(file.recipe, registry.recipe(file.recipe.name)) | {"batch": file.batch}
    if file.inner is not None:
        values["inner"] = _parameters(file.inner, registry.attack(file.inner.name))
    return values | {"optimiser": OPTIMISER.__name__}


def _parameters(use: PluginUse, plugin: Plugin[Any]) -> dict[str, Any]:
    return {parameter.name: parameter.default for parameter in plugin.parameters()} | use.model_dump()
