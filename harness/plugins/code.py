"""The code a plugin consists of: its own file, and every module it imports that no version stands for.

Python's own modules, installed distributions and our own packages go by their versions. Everything else counts by
content: files beside a ``--plugin`` file, packages on the path, editable installs. It is found by reading the source,
running nothing; where a file imports by a computed name, all Python files of its package count, or those beside it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from harness.files import OWN_PACKAGES, sha256_of

EXECUTED: dict[Path, str] = {}
"""``--plugin`` file -> sha256 of the bytes that were run when this process imported it."""
PLUGIN_FOLDERS: set[Path] = set()
"""Folders of ``--plugin`` files, whose modules these import by name (`harness.plugins.siblings`)."""
_INSTALLED = ("site-packages", "dist-packages")
_IMPORTING = {"import_module", "__import__", "run_path", "run_module", "spec_from_file_location", "iter_modules"}
"""Calls that import what the text does not name; exec and eval are such where they are called bare."""
_READING = re.compile(r"(load|read|open|fetch|download)(_.*|[a-z]*)|.*(_load|_read|_open|memmap|fromfile)")
"""Calls by which a file may depend on other files."""
_BY_NAME = {"getenv", "from_pretrained", "from_file", "genfromtxt", "exec", "eval", *_IMPORTING}


@dataclass
class Code:
    """Python files that belong together.

    Attributes:
        files: File -> its name as a module; '' for a file that was started from.
        packages: Folders of the packages that these are in.
        libraries: Top-level modules of installed distributions among their imports.
        open_ended: Whether what runs may depend on more than the text names: other code, data, the environment.
    """

    files: dict[Path, str] = field(default_factory=dict)
    packages: set[Path] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    open_ended: bool = False

    def hashes(self) -> dict[Path, str]:
        """The sha256 of each file; of a ``--plugin`` file that was run, of what was run."""
        return {file: EXECUTED.get(file) or sha256_or_missing(file) for file in self.files}

    def digest(self, hashes: Mapping[Path, str] | None = None) -> str:
        """64 hex digits: of a lone file its sha256, otherwise a hash over all files and versions of libraries.

        Args:
            hashes: What `hashes` gave; the files are read where it is left out.
        """
        hashes = self.hashes() if hashes is None else hashes
        lines = sorted(f"{self.files[file]}\0{sha256}" for file, sha256 in hashes.items())
        lines += versions_of(self.libraries)
        if len(lines) == 1:
            return next(iter(hashes.values()))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def code_of(files: Iterable[Path] = (), modules: Iterable[str] = ()) -> Code:
    """What files and modules consist of.

    Args:
        files: Such as ``--plugin`` files.
        modules: Names of modules; those that a version stands for are left out.
    """
    return _Reader(files, modules).code


def file_of_module(module: str) -> Path | None:
    """The file of a module, found without importing it; None where there is none."""
    found = list(_specs(module))
    return _file(found[-1]) if found and found[-1].name == module else None


def sha256_or_missing(file: Path) -> str:
    """The sha256 of a file; 'missing' where it cannot be read."""
    try:
        return sha256_of(file)
    except OSError:
        return "missing"


def versions_of(modules: Iterable[str]) -> list[str]:
    """'piq 0.8.0' for each distribution that top-level modules are of, but those that robustiqa itself requires.

    Those are kept with each record (torch) or run, and would change every identity at once.
    """
    names = {name for module in modules for name in _distributions_of(module)}
    return sorted(f"{name} {importlib.metadata.version(name)}" for name in names if _plain(name) not in _required())


def editable_source(distribution: str) -> str:
    """16 hex digits over all Python files of a distribution that is developed in place; empty for any other."""
    try:
        about = json.loads(importlib.metadata.distribution(distribution).read_text("direct_url.json") or "{}")
        folder = Path(urllib.parse.unquote(urllib.parse.urlparse(about["url"]).path))
        editable = about["dir_info"]["editable"]
    except (importlib.metadata.PackageNotFoundError, KeyError, TypeError, ValueError):
        return ""
    lines = [f"{file.relative_to(folder).as_posix()}\0{sha256_or_missing(file)}" for file in _python_files(folder)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if editable else ""


class _Reader:
    """Follows imports from file to file."""

    def __init__(self, files: Iterable[Path], modules: Iterable[str]) -> None:
        self.code = Code()
        self._left: list[tuple[Path, str, bool]] = []
        for file in files:
            self._add(file.resolve(), "", package=False)
        for module in modules:
            self._import(module)
        while self._left:
            self._read(*self._left.pop())

    def _add(self, file: Path, name: str, *, package: bool) -> None:
        if file not in self.code.files:
            self.code.files[file] = name
            if "." in name or package:
                self.code.packages.add(file.parent)
            self._left.append((file, name, package))

    def _read(self, file: Path, name: str, package: bool) -> None:
        if file.suffix != ".py":
            return
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            self.code.open_ended = True
            return
        nodes = list(ast.walk(tree))
        self.code.open_ended |= any(_is_open_ended(node) for node in nodes)
        for module in _imported(nodes, name if package else name.rpartition(".")[0]):
            self._import(module, file)
        if any(_imports_anything(node) for node in nodes):
            self._import_around(file, name)

    def _import(self, module: str, by: Path | None = None) -> None:
        """Add a module and the packages it is in, unless a version stands for them; ``a.*`` is every module of a.

        Args:
            module: Its name.
            by: The file that imports it.
        """
        beside = next((folder for folder in by.parents if folder in PLUGIN_FOLDERS), None) if by is not None else None
        for place, spec in enumerate(_specs(module, beside)):
            if place == 0 and (library := _stands_for(spec.name, spec)) is not None:
                self.code.libraries |= {library} - {""}
                return
            self.code.packages |= {Path(folder) for folder in spec.submodule_search_locations or ()}
            if (file := _file(spec)) is not None:
                self._add(file, spec.name, package=bool(spec.submodule_search_locations))
            if module == f"{spec.name}.*":
                for folder in spec.submodule_search_locations or ():
                    for other in sorted(Path(folder).glob("*.py")):
                        self._add(other.resolve(), f"{spec.name}.{other.stem}", package=other.stem == "__init__")

    def _import_around(self, file: Path, name: str) -> None:
        """Add what may be imported by a computed name: the whole package, or what lies beside a lone file."""
        top = next(_specs(name.partition(".")[0]), None) if name else None
        for folder in map(Path, (top.submodule_search_locations or ()) if top else ()):
            for other in _python_files(folder):
                inside = [part for part in other.relative_to(folder).with_suffix("").parts if part != "__init__"]
                module = ".".join((name.partition(".")[0], *inside))
                self._add(other.resolve(), module, package=other.stem == "__init__")
        if top is None or not top.submodule_search_locations:
            for other in sorted(file.parent.glob("*.py")):
                self._add(other.resolve(), other.stem, package=False)


def _specs(module: str, beside: Path | None = None) -> Iterator[ModuleSpec]:
    """Where a module and the packages it is in are, outermost first, as far as they are there; imports none of them.

    Args:
        module: Its name.
        beside: A folder that is looked into last.
    """
    spec: ModuleSpec | None = None
    names = module.split(".")
    for place in range(len(names)):
        name = ".".join(names[: place + 1])
        try:
            if spec is None:
                spec = importlib.util.find_spec(name)
                if beside is not None and (spec is None or (spec.loader is None and spec.origin is None)):
                    spec = PathFinder.find_spec(name, [str(beside)]) or spec
            else:
                spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
        except (ImportError, ValueError, AttributeError):
            return
        if spec is None:
            return
        yield spec


def _stands_for(top: str, spec: ModuleSpec) -> str | None:
    """What stands for a top-level module: '' for Python and for us, its name if installed; None if nothing does."""
    if top in OWN_PACKAGES or top in sys.stdlib_module_names:
        return ""
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    if not places:
        return ""  # compiled into Python
    place = Path(places[0]).resolve()
    if spec.submodule_search_locations and spec.has_location:
        place = place.parent
    if set(_INSTALLED) & set(place.parts):
        return top if _distributions_of(top) else None
    return top if _is_recorded(place) else None


def _is_recorded(place: Path) -> bool:
    """Whether a distribution installed into another folder lists a module or package there among its files."""
    for record in place.parent.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.startswith((f"{place.name},", f"{place.name}/")) for line in lines):
            return True
    return False


def _file(spec: ModuleSpec) -> Path | None:
    return Path(spec.origin).resolve() if spec.has_location and spec.origin else None


@functools.cache
def _distributions_of(module: str) -> Sequence[str]:
    """The installed distributions that a top-level module is of; most are called like it, which is told soonest."""
    try:
        return [importlib.metadata.distribution(module).name]
    except importlib.metadata.PackageNotFoundError:
        return _distributions().get(module, [])


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def _required() -> frozenset[str]:
    """Names of the distributions that robustiqa requires, without those of its extras, and its own."""
    try:
        lines = importlib.metadata.requires("robustiqa") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]
    return frozenset(map(_plain, ["robustiqa", *names]))


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _python_files(folder: Path) -> list[Path]:
    """Every Python file below a folder, in order; hidden folders and virtual environments are left out."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder).parts[:-1]
        if not any(part.startswith(".") or part in ("__pycache__", *_INSTALLED) for part in inside):
            found.append(file)
    return found


def _imported(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Full names of what a file imports, each possible module of ``from a import b`` among them."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level and package else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) == "import_module" and (name := _literal(node)):
            yield name


def _literal(node: ast.Call) -> str:
    """The text that a call is given first, if it is one; a relative name is none."""
    first = node.args[0] if node.args else None
    text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
    return "" if text.startswith(".") else text


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _imports_anything(node: ast.AST) -> bool:
    """Whether it may import what the text does not name."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval"):
        return True
    name = _called(node)
    return name in _IMPORTING and not (name == "import_module" and _literal(node))


def _is_open_ended(node: ast.AST) -> bool:
    """Whether something else than the text decides what happens here."""
    if isinstance(node, ast.Attribute) and node.attr == "environ":
        return True
    if not isinstance(node, ast.Call):
        return False
    name = _called(node)
    if name in ("exec", "eval"):
        return isinstance(node.func, ast.Name)  # a network has a method of that name
    return name in _BY_NAME or _READING.fullmatch(name) is not None
