"""Where caches and data sets live on this machine, and how a path is shown to a person."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder of what can be made again: ``ROBUSTIQA_CACHE_DIR``, else ``$XDG_CACHE_HOME/robustiqa``, else in home."""
    if chosen := os.environ.get("ROBUSTIQA_CACHE_DIR"):
        return Path(chosen).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "robustiqa"
    return Path("~/.cache/robustiqa").expanduser()


def data_dir() -> Path:
    """Folder that holds data sets in their official layouts: ``ROBUSTIQA_DATA_DIR``, else ``~/data``."""
    return Path(os.environ.get("ROBUSTIQA_DATA_DIR") or "~/data").expanduser()


def shown(path: Path | str) -> str:
    """A path as printed in messages: the home folder is written ``~``, so that reports do not name the user."""
    path = Path(path)
    home = Path("~").expanduser()
    if home != Path(home.anchor) and path.is_relative_to(home):
        return str(Path("~") / path.relative_to(home))
    return str(path)
