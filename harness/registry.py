"""Where plugins are found: our own packages, installed entry points, and files named on the command line.

Names are known without importing anything: our own files are read for their ``@register("name")`` decorators, entry
points are metadata. A plugin's module is imported when the plugin is first asked for.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from harness.errors import UserError

if typing.TYPE_CHECKING:
    from harness.contracts import Attack, Dataset, Metric, Purifier, Recipe

T = TypeVar("T")
Kind = Literal["metrics", "attacks", "purifiers", "datasets", "recipes"]

KINDS: Mapping[Kind, tuple[str, str]] = {
    "metrics": ("metrics_zoo", "Metric"),
    "attacks": ("attacks", "Attack"),
    "purifiers": ("defenses.purifiers", "Purifier"),
    "datasets": ("harness.datasets", "Dataset"),
    "recipes": ("defenses.recipes", "Recipe"),
}
"""Kind -> (package whose files are read for names, contract the plugin must subclass)."""

NO_PLUGINS = "ROBUSTIQA_NO_PLUGINS"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PluginError(UserError):
    """A plugin is unknown, or cannot be used as it is."""


@dataclass(frozen=True)
class Parameter:
    """One YAML parameter of a plugin."""

    name: str
    annotation: Any
    default: Any
    """`inspect.Parameter.empty` where it must be given."""


@dataclass(frozen=True)
class Source:
    """A name and where its class will come from; nothing is imported yet."""

    name: str
    kind: Kind
    module: str
    origin: str
    """What a person is told: a module, a distribution, or a file."""
    file: Path | None = None
    """Set for ``--plugin`` files: loaded from here, and its hash is part of identity."""
    version: str = ""
    """Distribution and version of an installed plugin; part of identity."""


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """A loaded plugin: its class under one of its registered names."""

    name: str
    cls: type[T]
    preset: Mapping[str, Any]
    weights: str | None
    origin: str
    code: str
    """What changes when its code does: hash of a ``--plugin`` file, version of an installed package; empty for ours."""

    def parameters(self) -> list[Parameter]:
        """Its YAML parameters with defaults, presets applied."""
        if dataclasses.is_dataclass(self.cls):
            hints = _hints(self.cls)
            found = [
                Parameter(f.name, hints[f.name], _field_default(f)) for f in dataclasses.fields(self.cls) if f.init
            ]
        else:
            init: Any = self.cls.__init__
            hints = _hints(init) if isinstance(init, types.FunctionType) else {}
            found = [
                Parameter(p.name, hints.get(p.name, Any), p.default)
                for p in inspect.signature(init).parameters.values()
                if p.kind is inspect.Parameter.KEYWORD_ONLY
            ]
        return [dataclasses.replace(p, default=self.preset.get(p.name, p.default)) for p in found]

    def build(self, parameters: Mapping[str, Any]) -> T:
        """An instance with the given parameters over the presets."""
        return self.cls(**{**self.preset, **parameters})


@functools.cache
def _hints(annotated: Any) -> Mapping[str, Any]:
    """Types of a class's fields or a function's arguments."""
    return typing.get_type_hints(annotated)


def _field_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty


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
        for source in [*_shipped(), *_entry_points(), *self._from_files()]:
            known = self._sources[source.kind].get(source.name)
            if known is not None:
                taken = f"{source.origin}: the {singular(source.kind)} name '{source.name}' is already taken by"
                if source.version:
                    self.refused.append(
                        f"{taken} {known.origin}, which is used. Uninstall one of them, or set {NO_PLUGINS}=1."
                    )
                    continue
                raise PluginError(f"{taken} {known.origin}. Register it under another name.")
            self._sources[source.kind][source.name] = source

    def names(self, kind: Kind) -> list[str]:
        """Every registered name of a kind, sorted."""
        return sorted(self._sources[kind])

    def source(self, kind: Kind, name: str) -> Source:
        """Where a name comes from.

        Raises:
            PluginError: The name is unknown; suggests the nearest.
        """
        try:
            return self._sources[kind][name]
        except KeyError:
            message = f"unknown {singular(kind)} '{name}'.{did_you_mean(name, self.names(kind))}"
            hint = "" if "Did you mean" in message else " A plugin of your own is given with --plugin FILE.py."
            raise PluginError(message + hint) from None

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

    def _from_files(self) -> Iterator[Source]:
        for file in self.files:
            module = _import_file(file.resolve(), str(file))
            found = False
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


def singular(kind: Kind) -> str:
    """The name of one thing of a kind, for messages."""
    return "data set" if kind == "datasets" else kind.removesuffix("s")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """' Did you mean 'x'?' or the whole short list; starts with a space."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def _shipped() -> Iterator[Source]:
    for kind, (package, _) in KINDS.items():
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            for file in sorted(Path(folder).rglob("*.py")):
                yield from _names_in(file, kind, _module_name(file, Path(folder), package))


def _module_name(file: Path, folder: Path, package: str) -> str:
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join((package, *(p for p in parts if p != "__init__")))


def _names_in(file: Path, kind: Kind, module: str) -> Iterator[Source]:
    """Names of the ``@register("...")`` decorators in a file, read without importing it."""
    text = file.read_text(encoding="utf-8")
    if "@register(" not in text:
        return
    for node in ast.parse(text, filename=str(file)).body:
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("register"):
                name = decorator.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield Source(name.value, kind, module, module)


def _entry_points() -> Iterator[Source]:
    if os.environ.get(NO_PLUGINS) == "1":
        return
    for kind in KINDS:
        for point in importlib.metadata.entry_points(group=f"robustiqa.{kind}"):
            package = point.dist.name if point.dist else "an installed package"
            version = f"{package} {point.dist.version}" if point.dist else package
            yield Source(point.name, kind, point.module, f"{package} ({point.value})", version=version)


@functools.cache
def _load(source: Source) -> Plugin[Any]:
    try:
        module = _import_file(source.file, source.origin) if source.file else importlib.import_module(source.module)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{singular(source.kind)} '{source.name}' from {source.origin} cannot be imported: "
            f"{type(error).__name__}: {error}. Mend or uninstall it; {NO_PLUGINS}=1 runs without installed plugins."
        ) from error
    code = hashlib.sha256(source.file.read_bytes()).hexdigest() if source.file else source.version
    for kind, cls in _plugins_in(module):
        for registration in cls.__dict__["registrations"]:
            if kind == source.kind and registration.name == source.name:
                _check_class(kind, cls, source)
                return Plugin(source.name, cls, dict(registration.preset), registration.weights, source.origin, code)
    raise PluginError(
        f"{source.origin}: no {KINDS[source.kind][1]} is registered as '{source.name}' there. "
        f"Put @register('{source.name}') over the class."
    )


def _check_class(kind: Kind, cls: type, source: Source) -> None:
    """What a plugin's class must state before anything is built from it."""
    problem = _wrong_attribute(kind, cls)
    if problem:
        pass
    elif not dataclasses.is_dataclass(cls) and isinstance(cls.__init__, types.FunctionType):  # type: ignore[misc]
        extra = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        if any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in extra):
            problem = "must have keyword-only parameters: def __init__(self, *, ...)"
    elif kind in ("attacks", "purifiers", "recipes") and (not dataclasses.is_dataclass(cls) or _forgotten_fields(cls)):
        problem = "must be a frozen dataclass: @dataclass(frozen=True) under @register"
    problem = problem or _wrong_parameter(cls, source)
    if problem:
        raise PluginError(f"{singular(kind)} '{source.name}' from {source.origin}: class {cls.__name__} {problem}.")


def _wrong_attribute(kind: Kind, cls: type) -> str:
    """What the engine reads off a class and would stumble over later."""
    for name, (fits, wanted) in {**_ATTRIBUTES[kind], "version": _VERSION}.items():
        value = getattr(cls, name, None)
        if not fits(value):
            return f"must say {name} = {wanted}" + ("" if value is None else f", not {value!r}")
    contract = getattr(importlib.import_module("harness.contracts"), KINDS[kind][1])
    for name in _METHODS[kind]:
        if getattr(cls, name) is getattr(contract, name):
            return f"must have a method {name}(), as {contract.__name__} in harness/contracts.py describes it"
    fields = getattr(cls, "__dataclass_fields__", {})
    if kind == "attacks" and not (cls.needs_gradient or cls.control or "queries" in fields):  # type: ignore[attr-defined]
        return "must have a field queries, the most evaluations of a sample: queries: int = 1000"
    return ""


def _forgotten_fields(cls: type) -> bool:
    """Whether a subclass of a dataclass declares fields and is none itself: they would be no parameters."""
    own = [name for name, annotation in inspect.get_annotations(cls).items() if "ClassVar" not in str(annotation)]
    return bool(own) and "__dataclass_fields__" not in cls.__dict__


def _wrong_parameter(cls: type, source: Source) -> str:
    registrations = cls.__dict__["registrations"]
    preset = next(registration.preset for registration in registrations if registration.name == source.name)
    try:
        parameters = Plugin(source.name, cls, {}, None, source.origin, "").parameters()
    except Exception as error:
        return f"has a parameter whose type cannot be read ({type(error).__name__}: {error}). Mend its annotation"
    for parameter in parameters:
        if parameter.annotation is Any:
            return f"must say the type of its parameter '{parameter.name}': {parameter.name}: float"
    for name in preset:
        if name not in [parameter.name for parameter in parameters]:
            return f"has no parameter '{name}', which @register gives it. Add it to the class, or remove it there"
    return ""


def _one_of(*known: str) -> _Attribute:
    return (lambda value: value in known), " or ".join(repr(name) for name in known)


def _names_of(value: Any, known: Sequence[str] = ()) -> bool:
    texts = isinstance(value, tuple | list | frozenset | set) and all(isinstance(name, str) for name in value)
    return texts and bool(value) and (not known or set(value) <= set(known))


_Attribute = tuple[Callable[[Any], bool], str]
"""What a class attribute must be: a test, and words."""
_TRUTH: _Attribute = (lambda value: isinstance(value, bool)), "True or False"
_VERSION: _Attribute = (lambda value: type(value) is int), "a whole number"
_NORMS: _Attribute = (
    (lambda value: isinstance(value, frozenset | set) and _names_of(value, ("linf", "l2"))),
    'frozenset({"linf"}), frozenset({"l2"}) or both',
)
_SPLITS: _Attribute = (lambda value: isinstance(value, tuple | list) and _names_of(value)), 'a tuple such as ("test",)'
_SIZE: _Attribute = (lambda value: type(value) is int and value > 0), "a whole number of pixels"
_ATTRIBUTES: Mapping[Kind, Mapping[str, _Attribute]] = {
    "metrics": {
        "higher_is_better": _TRUTH,
        "differentiable": _TRUTH,
        "exact_gradient": _TRUTH,
        "minimum_size": _SIZE,
        "needs_weights": _TRUTH,
    },
    "attacks": {"needs_gradient": _TRUTH, "norms": _NORMS, "control": _TRUTH, "fits": _TRUTH},
    "purifiers": {"gradient": _one_of("exact", "surrogate"), "randomised": _TRUTH},
    "datasets": {
        "kind": _one_of("pairs", "triplets"),
        "labels": _one_of("human", "proxy", "none"),
        "splits": _SPLITS,
    },
    "recipes": {},
}
_METHODS: Mapping[Kind, Sequence[str]] = {
    "metrics": ("score",),
    "attacks": ("perturb",),
    "purifiers": ("apply",),
    "datasets": ("entries", "load", "fingerprint"),
    "recipes": ("batches", "loss"),
}


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


def _import_file(file: Path, shown: str) -> types.ModuleType:
    name = f"robustiqa_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise PluginError(f"plugin file {shown}: no such file. Give the path of a Python file after --plugin.")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin file {shown}: not a Python file. Give a path ending in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(
            f"plugin file {shown} cannot be imported: {_where(error, file)}. Mend the file, or leave it out."
        ) from error
    return module


def _where(error: Exception | SystemExit, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {error}"
