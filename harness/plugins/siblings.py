"""Modules beside a ``--plugin`` file, which it may import by their names.

What is installed, or can be imported without us, is never shadowed. What is run is compiled from the file's own bytes,
and its sha256 noted, so that it counts as the plugin's code (`harness.plugins.code`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import multiprocessing
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path

from harness.errors import UserError
from harness.plugins.code import EXECUTED, PLUGIN_FOLDERS
from harness.wording import tell


def allow_siblings(file: Path, shown: str, given: dict[str, Path]) -> None:
    """Let a ``--plugin`` file import the modules beside it, from now on and in this process.

    Args:
        file: It, its path resolved.
        shown: What messages call it.
        given: Name of a module -> its file, of what plugin files before it import from beside them; added to.

    Raises:
        UserError: It imports a module of a name that another plugin file already gave to a module beside it.
    """
    _FINDER.add(file.parent)
    for name, sibling in _imported_siblings(file, set()):
        elsewhere = found_elsewhere(name)
        if elsewhere is not None and not _same(elsewhere, sibling):
            if multiprocessing.parent_process() is None:
                tell(
                    f"note: {shown} imports {name}, which is {elsewhere}, and not {sibling.name} beside it. Rename it."
                )
            continue
        first = given.setdefault(name, _loaded_sibling(name) or sibling)
        if not _same(first, sibling):
            raise UserError(
                f"plugin file {shown}: imports {name}, and so does another plugin file, with {first} beside it. Python "
                "knows one module of a name: rename one of the two."
            )


def found_elsewhere(name: str) -> Path | None:
    """Where Python finds a top-level module without us; None where it does not, or only a folder without code."""
    if name in sys.builtin_module_names:
        return Path(name)
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None) if finder is not _FINDER else None
        if spec is not None and (spec.loader is not None or spec.origin is not None):
            return Path(spec.origin or name)
    return None


def _loaded_sibling(name: str) -> Path | None:
    """The file of a module that was imported from beside a plugin file."""
    file = getattr(sys.modules.get(name), "__file__", None)
    path = Path(file) if isinstance(file, str) else None
    return path if path is not None and PLUGIN_FOLDERS.intersection(path.parents) else None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


class _Executed(SourceFileLoader):
    """Compiles the bytes that are there, never what was compiled of an older file of the same size and second."""

    def get_code(self, fullname: str) -> types.CodeType:
        """The code of the file as it is, whose sha256 is noted."""
        path = Path(self.get_filename(fullname))
        content = path.read_bytes()
        EXECUTED[path.resolve()] = hashlib.sha256(content).hexdigest()
        return compile(content, str(path), "exec", dont_inherit=True)


class _Siblings(MetaPathFinder):
    """Finds modules in the folders of plugin files for the code in these folders, where nobody else has one."""

    def __init__(self) -> None:
        self._tops: set[str] = set()

    def add(self, folder: Path) -> None:
        """Look in one more folder."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        PLUGIN_FOLDERS.add(folder)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module beside a plugin file, or one within a package there."""
        if "." in fullname:
            inside = fullname.partition(".")[0] in self._tops
            return _by_its_bytes(PathFinder.find_spec(fullname, path)) if inside else None
        folder = _folder_of_importer()
        if folder is None or beside(folder, fullname) is None:
            return None
        found = _by_its_bytes(PathFinder.find_spec(fullname, [str(folder)]))
        elsewhere = found_elsewhere(fullname)
        if found is None or (elsewhere is not None and not _same(elsewhere, Path(found.origin or ""))):
            return None
        self._tops.add(fullname)
        return found


def _folder_of_importer() -> Path | None:
    """The folder of a plugin file that the code which imports lies in; None where it lies in none."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None and _is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return None
    above = Path(frame.f_code.co_filename).parents
    return next((folder for folder in above if folder in PLUGIN_FOLDERS), None)


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__


_FINDER = _Siblings()


def beside(folder: Path, name: str) -> Path | None:
    """The module of that name in a folder: a file, or the ``__init__`` of a package; None where there is none."""
    for found in (folder / name / "__init__.py", folder / f"{name}.py"):
        if found.is_file():
            return found
    return None


def _by_its_bytes(spec: ModuleSpec | None) -> ModuleSpec | None:
    if spec is not None and isinstance(spec.loader, SourceFileLoader):
        loader: Loader = _Executed(spec.loader.name, str(spec.loader.path))
        spec.loader = loader
    return spec


def _imported_siblings(file: Path, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    """Name and file of each module beside a file that it imports, or that one of these does."""
    if file in seen:
        return
    seen.add(file)
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    for name in sorted({one.partition(".")[0] for one in named}):
        if sibling := beside(file.parent, name):
            yield name, sibling
            yield from _imported_siblings(sibling, seen)
