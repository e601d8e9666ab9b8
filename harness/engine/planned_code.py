"""Whether the code that a worker runs is what the plan's identities say: looked at before anything is stored."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.engine.run_folder import StoreError
from harness.files import shown
from harness.plugins.code import EXECUTED, sha256_or_missing


class PlannedCode:
    """Files of plugins, compared with the plan once each, when they have been imported.

    Args:
        planned: File -> the sha256 that the plan's identities hold.
    """

    def __init__(self, planned: Mapping[Path, str]) -> None:
        self._left = {os.path.realpath(file): (file, sha256) for file, sha256 in planned.items()}
        self._modules = 0

    def check(self) -> None:
        """Compare what was imported since the last time.

        Raises:
            StoreError: A file was changed after the plan was made; its records would be filed under the old code.
        """
        if not self._left or len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        for module in list(sys.modules.values()):
            file, planned = self._left.pop(_place_of(module), (None, ""))
            if file is None:
                continue
            if (EXECUTED.get(file) or sha256_or_missing(file)) != planned:
                raise StoreError(
                    f"{shown(file)} was changed after this run was planned, and its results would be filed under the "
                    "code that it had then. Nothing was stored of them; leave it as it is and run the same command "
                    "again."
                )


@functools.cache
def _resolved(name: str) -> str:
    return os.path.realpath(name)


def _place_of(module: object) -> str:
    name = getattr(module, "__file__", None)
    return _resolved(name) if isinstance(name, str) else ""
