"""Whether a suite is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from harness.cli.app import verb
from harness.cli.common import (
    AsJson,
    Limit,
    Only,
    PluginFiles,
    Seed,
    Sets,
    SuitePath,
    checked_suite,
    console,
    print_json,
    registry_of,
)

if TYPE_CHECKING:
    from harness.plugins.registry import Registry
    from harness.suite.model import DatasetUse


@verb("Run", 2)
def _validate(
    suite: SuitePath,
    sets: Sets = None,
    only: Only = None,
    limit: Limit = None,
    seed: Seed = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Check a suite and say everything that is wrong with it, before anything is loaded; counts the image files.

    Example: robustiqa validate quickstart
    """
    from harness.suite.compose import Overrides
    from harness.suite.strict_yaml import LocatedError

    registry = registry_of(plugin)
    try:
        found = checked_suite(suite, registry, Overrides(tuple(sets or ()), only, limit, seed))
        if lacks := [text for use in found.datasets if (text := _missing(use, registry))]:
            raise LocatedError([f"{suite}: {text}" for text in lacks])
    except LocatedError as error:
        if as_json:
            print_json({"suite": str(suite), "valid": False, "errors": error.lines})
            raise typer.Exit(2) from None
        raise
    if as_json:
        print_json({"suite": str(suite), "valid": True, "errors": []})
        return
    console().print(
        f"{suite}: valid. {len(found.datasets)} data set(s), {len(found.metrics)} metric(s), "
        f"{len(found.defenses)} defense(s), {len(found.attacks)} attack(s), {len(found.budgets)} budget(s)."
    )


def _missing(use: DatasetUse, registry: Registry) -> str:
    """What a data set lacks of the images of its evaluated split and of that which facts come from."""
    from harness.suite.missing import missing_images

    dataset = registry.dataset(use.name).build(use.parameters)
    splits = dict.fromkeys((use.split, use.calibration_split))
    return missing_images(dataset, (entry for split in splits for entry in dataset.entries(split)), use.label)
