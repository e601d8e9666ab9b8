"""Whether a suite is right."""

from __future__ import annotations

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, Limit, Only, PluginFiles, Seed, Sets, SuitePath, console, print_json, registry_of


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
    """Check a suite and say everything that is wrong with it, before anything is loaded.

    Example: robustiqa validate suites/quickstart.yaml
    """
    from harness.suite.compose import Overrides
    from harness.suite.resolve import load_suite
    from harness.suite.strict_yaml import LocatedError

    try:
        found = load_suite(suite, registry_of(plugin), Overrides(tuple(sets or ()), only, limit, seed))
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
