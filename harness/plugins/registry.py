"""Where plugins are found: our own packages, installed entry points, and files named on the command line.

Names are known without importing anything: our own files are read for their ``@register("name")`` and
``@bridge("prefix", ...)`` decorators, entry points are metadata. A plugin's module is imported when the plugin is first
asked for, and so is the library behind a bridge, whose plugins are called ``prefix:name``.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import PluginFaultError, UserError
from harness.plugins.bridges import SEPARATOR, Bridge, NoSuchNameError, bridges_in, bridges_written_in
from harness.plugins.class_checks import class_problem
from harness.plugins.code import EXECUTED, code_of, editable_source
from harness.plugins.decorators import decorators
from harness.plugins.model import (
    KINDS,
    BridgeSource,
    Kind,
    Plugin,
    PluginError,
    Source,
    library_version,
    singular,
)
from harness.plugins.retired import retired_names
from harness.plugins.siblings import allow_siblings
from harness.wording import did_you_mean, tell

if typing.TYPE_CHECKING:
    from harness.contracts import Attack, Dataset, Metric, Purifier, Recipe

NO_PLUGINS = "ROBUSTIQA_NO_PLUGINS"
_LOOKED_AT = 100
"""Python files of the current folder that are looked at for a name that nobody knows."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Registry:
    """Every plugin that can be named, by kind.

    Args:
        files: Plugin files given with ``--plugin``; imported at once, because their kinds cannot be known otherwise.

    Raises:
        PluginError: A file cannot be imported, registers nothing, or takes a name that is already taken.
    """

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self.files = [Path(f) for f in files]
        self.refused: list[str] = []
        """Why installed plugins cannot be had: who installed them cannot rename them, so the rest works."""
        self._sources: dict[Kind, dict[str, Source]] = {kind: {} for kind in KINDS}
        self._bridges: dict[Kind, dict[str, BridgeSource]] = {kind: {} for kind in KINDS}
        for source in [*_shipped(), *_entry_points(), *self._from_files()]:
            name, noun = (source.name, "name") if isinstance(source, Source) else (source.prefix, "bridge")
            group: dict[str, Any] = (self._sources if isinstance(source, Source) else self._bridges)[source.kind]
            if name in group:
                taken = f"{source.origin}: the {singular(source.kind)} {noun} '{name}' is already taken by"
                if source.version:
                    self.refused.append(
                        f"{taken} {group[name].origin}, which is used. Uninstall one of them, or set {NO_PLUGINS}=1."
                    )
                    continue
                raise PluginError(f"{taken} {group[name].origin}. Register it under another name.")
            group[name] = source

    def names(self, kind: Kind) -> list[str]:
        """Every registered name of a kind, sorted; those behind bridges are known to their libraries alone."""
        return sorted(self._sources[kind])

    def bridges(self, kind: Kind) -> list[BridgeSource]:
        """Every bridge of a kind, sorted by prefix."""
        return [self._bridges[kind][prefix] for prefix in sorted(self._bridges[kind])]

    def knows(self, kind: Kind, name: str) -> bool:
        """Whether the name is registered, or its prefix is that of a bridge; imports nothing."""
        return name in self._sources[kind] or (
            SEPARATOR in name and name.partition(SEPARATOR)[0] in self._bridges[kind]
        )

    def retired(self, kind: Kind) -> dict[str, str]:
        """Names that were taken back, with what to write instead; without those that a plugin has now."""
        return {name: cure for name, cure in retired_names(kind) if name not in self._sources[kind]}

    def source(self, kind: Kind, name: str) -> Source:
        """Where a name comes from.

        Raises:
            PluginError: The name is unknown, or was taken back; says the nearest, or the cure.
        """
        if name in self._sources[kind]:
            return self._sources[kind][name]
        prefix, separator, _ = name.partition(SEPARATOR)
        bridge = self._bridges[kind].get(prefix)
        if bridge is not None and separator:
            return Source(name, kind, bridge.module, bridge.status, bridge.file, bridge.version, bridge)
        if cure := self.retired(kind).get(name):
            raise PluginError(f"there is no {singular(kind)} '{name}' any more. {cure}")
        message = f"unknown {singular(kind)} '{name}'"
        if bridge is not None:
            message += f": '{prefix}' is a library. Write {prefix}:NAME; 'robustiqa show {prefix}' lists the names."
        elif separator:
            message += f": no library '{prefix}'.{did_you_mean(prefix, sorted(self._bridges[kind]))}"
        elif file := _registering(name):
            message += f": {file} registers it. Add --plugin {file}."
        else:
            message += f".{did_you_mean(name, self.names(kind))}"
            if "Did you mean" not in message:
                message += " A plugin of your own is given with --plugin FILE.py."
        raise PluginError(message)

    def offered(self, bridge: BridgeSource) -> list[str]:
        """Every name behind a bridge, ``prefix:name``, sorted; may import its library.

        Raises:
            PluginError: The bridge or its library cannot be imported.
        """
        names = _answer(f"'{bridge.prefix}'", _opened(bridge).names)
        return sorted(f"{bridge.prefix}{SEPARATOR}{name}" for name in names)

    def opened(self, kind: Kind, name: str) -> Bridge:
        """The bridge that a name ``prefix:name`` goes through; imports its file, and no library.

        Raises:
            PluginError: No bridge has that prefix, or its file cannot be imported.
        """
        bridge = self.source(kind, name).bridge
        if bridge is None:
            raise PluginError(f"the {singular(kind)} '{name}' goes through no bridge.")
        return _opened(bridge)

    def get(self, kind: Kind, name: str) -> Plugin[Any]:
        """Load a plugin.

        Raises:
            PluginError: The name is unknown, or its module cannot be imported.
        """
        return _load(self.source(kind, name))

    def metric(self, name: str) -> Plugin[Metric]:
        """Load a metric."""
        return self.get("metrics", name)

    def attack(self, name: str) -> Plugin[Attack]:
        """Load an attack."""
        return self.get("attacks", name)

    def purifier(self, name: str) -> Plugin[Purifier]:
        """Load a purifier."""
        return self.get("purifiers", name)

    def dataset(self, name: str) -> Plugin[Dataset]:
        """Load a data set class."""
        return self.get("datasets", name)

    def recipe(self, name: str) -> Plugin[Recipe]:
        """Load a training recipe."""
        return self.get("recipes", name)

    def _from_files(self) -> Iterator[Source | BridgeSource]:
        given: dict[str, Path] = {}
        for file in self.files:
            module = _import_file(file.resolve(), str(file), given)
            found = False
            for mark in [cls.bridge_mark for cls in bridges_in(module)]:
                found = True
                yield BridgeSource(
                    mark.prefix, mark.kind, mark.library, mark.install, module.__name__, str(file), file.resolve()
                )
            for kind, cls in _plugins_in(module):
                for registration in cls.__dict__["registrations"]:
                    found = True
                    if not isinstance(registration.name, str) or not _NAME.fullmatch(registration.name):
                        raise PluginError(
                            f"plugin file {file}: class {cls.__name__} is registered as {registration.name!r}. Give it "
                            "a name of letters, digits, '.', '_' and '-', starting with a letter or digit."
                        )
                    yield Source(registration.name, kind, module.__name__, str(file), file.resolve())
            if not found:
                raise PluginError(
                    f"plugin file {file}: registers nothing. Put @register('name') over a subclass of Metric, Attack, "
                    "Purifier, Dataset or Recipe."
                )


def _registering(name: str) -> str:
    """A Python file in the current folder that registers a name, which was not given with ``--plugin``; or nothing."""
    try:
        files = sorted(Path().glob("*.py"))[:_LOOKED_AT]
        for file in files:
            calls = decorators(file.read_text(encoding="utf-8", errors="replace"), "register", "contracts.register")
            if any(isinstance(one := call.args[0], ast.Constant) and one.value == name for call in calls if call.args):
                return str(file)
    except (OSError, SyntaxError, ValueError):
        return ""
    return ""


def _shipped() -> Iterator[Source | BridgeSource]:
    for kind, (package, _) in KINDS.items():
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            for file in sorted(Path(folder).rglob("*.py")):
                module = _module_name(file, Path(folder), package)
                text = file.read_text(encoding="utf-8")
                yield from _names_in(text, kind, module)
                yield from bridges_written_in(text, module)


def _module_name(file: Path, folder: Path, package: str) -> str:
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join((package, *(p for p in parts if p != "__init__")))


def _names_in(text: str, kind: Kind, module: str) -> Iterator[Source]:
    """Names of the ``@register("...")`` decorators in a file, read without importing it."""
    for call in decorators(text, "register", "contracts.register"):
        name = call.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield Source(name.value, kind, module, module)


def _entry_points() -> Iterator[Source | BridgeSource]:
    if os.environ.get(NO_PLUGINS) == "1":
        return
    installed = importlib.metadata.entry_points()
    for kind in KINDS:
        for group in (f"robustiqa.{kind}", f"robustiqa.{kind}.bridges"):
            for point in installed.select(group=group):
                package = point.dist.name if point.dist else "an installed package"
                version = f"{package} {point.dist.version}" if point.dist else package
                origin = f"{package} ({point.value})"
                if group.endswith("bridges"):
                    yield BridgeSource(point.name, kind, "", "", point.module, origin, version=version)
                else:
                    yield Source(point.name, kind, point.module, origin, version=version)


@functools.cache
def _load(source: Source) -> Plugin[Any]:
    if source.bridge is not None:
        return _load_through(source.bridge, source)
    module = _module_of(source, f"{singular(source.kind)} '{source.name}'")
    for kind, cls in _plugins_in(module):
        for registration in cls.__dict__["registrations"]:
            if kind == source.kind and registration.name == source.name:
                preset, weights = dict(registration.preset), registration.weights
                code, files = _code(source)
                return _checked(kind, Plugin(source.name, cls, preset, weights, source.origin, code, files))
    raise PluginError(
        f"{source.origin}: no {KINDS[source.kind][1]} is registered as '{source.name}' there. "
        f"Put @register('{source.name}') over the class."
    )


def _load_through(bridge: BridgeSource, source: Source) -> Plugin[Any]:
    opened, name = _opened(bridge), source.name.partition(SEPARATOR)[2]
    try:
        cls = _answer(f"{singular(source.kind)} '{source.name}'", lambda: opened.load(name))
    except NoSuchNameError:
        names = [f"{bridge.prefix}{SEPARATOR}{other}" for other in _answer(f"'{bridge.prefix}'", opened.names)]
        unknown = f"unknown {singular(source.kind)} '{source.name}'"
        raise PluginError(f"{unknown}.{did_you_mean(source.name, sorted(names))}") from None
    contract = getattr(importlib.import_module("harness.contracts"), KINDS[source.kind][1])
    if not (isinstance(cls, type) and issubclass(cls, contract)):
        raise PluginError(f"{bridge.origin}: load('{name}') must return a subclass of {contract.__name__}.")
    library = opened.bridge_mark.library
    own, files = _code(source)
    developed = editable_source(library)
    parts = (own, f"{library} {library_version(library)}", f"source {developed}" if developed else "")
    code = "; ".join(part for part in parts if part)
    return _checked(source.kind, Plugin(source.name, cls, {}, None, source.origin, code, files))


def _opened(source: BridgeSource) -> Bridge:
    """The bridge itself, made anew: it has no state."""
    module = _module_of(source, f"bridge '{source.prefix}'")
    for cls in bridges_in(module):
        if (cls.bridge_mark.prefix, cls.bridge_mark.kind) == (source.prefix, source.kind):
            return cls()
    raise PluginError(
        f"{source.origin}: no bridge of {source.kind} is marked as '{source.prefix}' there. "
        f"Put @bridge('{source.prefix}', '{source.kind}', library=...) over the class."
    )


def _answer(who: str, ask: Callable[[], Any]) -> Any:
    """What a bridge answers, what goes wrong in it told in one sentence."""
    from harness.plugins.guard import calling

    try:
        with calling(who):
            return ask()
    except NoSuchNameError:
        raise
    except UserError as error:
        raise PluginError(f"{who}: {error}") from error
    except Exception as error:
        raise PluginError(f"{who} cannot be had: {_what(error)}.") from error


def _module_of(source: Source | BridgeSource, who: str) -> types.ModuleType:
    from harness.plugins.guard import importing

    try:
        if source.file:
            return _import_file(source.file, source.origin)
        if source.version and source.module not in sys.modules and multiprocessing.parent_process() is None:
            tell(f"note: an installed plugin executes Python code with your rights: {source.origin}")
        with importing(f"{who} from {source.origin}"):
            return importlib.import_module(source.module)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(
            f"{who} from {source.origin} cannot be imported: "
            f"{_what(error)}. Mend or uninstall it; {NO_PLUGINS}=1 runs without installed plugins."
        ) from error


def _code(source: Source) -> tuple[str, Mapping[Path, str]]:
    """What of identity a plugin's code is, and the files that a version does not stand for."""
    if source.file is not None:
        code = code_of([source.file])
        hashes = code.hashes()
        return code.digest(hashes), hashes
    if not source.version:
        return "", {}
    code = code_of(modules=[source.module])
    hashes = code.hashes()
    return source.version + (f"; source {code.digest(hashes)[:16]}" if code.files else ""), hashes


def _checked(kind: Kind, plugin: Plugin[Any]) -> Plugin[Any]:
    from harness.plugins.guard import calling, guard

    contract = getattr(importlib.import_module("harness.contracts"), KINDS[kind][1])
    who = f"{singular(kind)} '{plugin.name}' from {plugin.origin}"
    with calling(who):  # defaults of parameters may be made by its code
        problem = class_problem(kind, plugin, contract)
    if problem:
        raise PluginError(f"{who}: class {plugin.cls.__name__} {problem}.")
    names = [registration.name for registration in vars(plugin.cls).get("registrations", ())] or [plugin.name]
    guard(plugin.cls, contract, f"{singular(kind)} '{' / '.join(names)}' from {plugin.origin}")
    return plugin


def _plugins_in(module: types.ModuleType) -> Iterator[tuple[Kind, type]]:
    contracts = importlib.import_module("harness.contracts")
    for cls in vars(module).values():
        if isinstance(cls, type) and "registrations" in cls.__dict__ and cls.__module__ == module.__name__:
            for kind, (_, contract) in KINDS.items():
                if issubclass(cls, getattr(contracts, contract)):
                    yield kind, cls
                    break
            else:
                raise PluginError(
                    f"{module.__file__}: class {cls.__name__} is registered but is no Metric, Attack, Purifier, "
                    "Dataset or Recipe. Make it a subclass of one of them."
                )


def _import_file(file: Path, shown: str, given: dict[str, Path] | None = None) -> types.ModuleType:
    name = f"robustiqa_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise PluginError(f"plugin file {shown}: no such file. Give the path of a Python file after --plugin.")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin file {shown}: not a Python file. Give a path ending in .py.")
    from harness.plugins.guard import importing

    allow_siblings(file, shown, {} if given is None else given)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Not by the loader, which may run what it compiled of an older file of the same size and second.
        content = file.read_bytes()
        EXECUTED[file] = hashlib.sha256(content).hexdigest()
        with importing(f"plugin file {shown}"):
            exec(compile(content, str(file), "exec", dont_inherit=True), vars(module))  # noqa: S102 (a plugin is code)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(
            f"plugin file {shown} cannot be imported: {_where(error, file)}. Mend the file, or leave it out."
        ) from error
    return module


def _where(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    line, trace = None, _raised(error).__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    beside = " (a module beside the file is imported by its bare name: `import helper`)" if _is_relative(error) else ""
    return f"{f'line {line}: ' if line else ''}{_what(error)}{beside}"


def _is_relative(error: Exception) -> bool:
    return isinstance(error, ImportError) and "relative import" in str(error)


def _what(error: Exception) -> str:
    return f"{type(_raised(error)).__name__}: {_raised(error)}"


def _raised(error: Exception) -> BaseException:
    """What code raised itself, where it is what would have ended the program."""
    return error.__cause__ if isinstance(error, PluginFaultError) and error.__cause__ else error
