"""What a plugin's class must state before anything is built from it."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.plugins.model import Kind, Plugin


def class_problem(kind: Kind, plugin: Plugin[Any], contract: type) -> str:
    """What is wrong with a plugin's class, to be read after its name; empty if nothing is.

    Args:
        kind: What it is registered as.
        plugin: The plugin with the presets of its name.
        contract: The class it must subclass.
    """
    cls = plugin.cls
    problem = _wrong_attribute(kind, cls, contract)
    if problem:
        pass
    elif not dataclasses.is_dataclass(cls) and isinstance(cls.__init__, types.FunctionType):
        extra = list(inspect.signature(cls.__init__).parameters.values())[1:]
        if any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in extra):
            problem = "must have keyword-only parameters: def __init__(self, *, ...)"
    elif kind in ("attacks", "purifiers", "recipes") and (not dataclasses.is_dataclass(cls) or _forgotten_fields(cls)):
        problem = "must be a frozen dataclass: @dataclass(frozen=True) under @register"
    return problem or _wrong_parameter(plugin)


def _wrong_attribute(kind: Kind, cls: type, contract: type) -> str:
    """What the engine reads off a class and would stumble over later."""
    for name, (fits, wanted) in {**_ATTRIBUTES[kind], "version": _VERSION, "cite": _CITE}.items():
        value = getattr(cls, name, None)
        if not fits(value):
            return f"must say {name} = {wanted}" + ("" if value is None else f", not {value!r}")
    for name in _METHODS[kind]:
        if kind == "purifiers" and cls.purify is not contract.purify:  # type: ignore[attr-defined]
            break  # with a network, in place of apply()
        if getattr(cls, name) is getattr(contract, name):
            return f"must have a method {name}(), as {contract.__name__} in harness/contracts.py describes it"
    fields = getattr(cls, "__dataclass_fields__", {})
    if kind == "attacks" and not (cls.needs_gradient or cls.control or "queries" in fields):  # type: ignore[attr-defined]
        return "must have a field queries, the most evaluations of a sample: queries: int = 1000"
    if kind == "attacks" and not (cls.bounded or cls.control):  # type: ignore[attr-defined]
        return "must say control = True where it says bounded = False; an attack keeps to its budget"
    return ""


def _forgotten_fields(cls: type) -> bool:
    """Whether a subclass of a dataclass declares fields and is none itself: they would be no parameters."""
    own = [name for name, annotation in inspect.get_annotations(cls).items() if "ClassVar" not in str(annotation)]
    return bool(own) and "__dataclass_fields__" not in cls.__dict__


def _wrong_parameter(plugin: Plugin[Any]) -> str:
    try:
        parameters = plugin.parameters()
    except Exception as error:
        return f"has a parameter whose type cannot be read ({type(error).__name__}: {error}). Mend its annotation"
    for parameter in parameters:
        if parameter.annotation is Any:
            return f"must say the type of its parameter '{parameter.name}': {parameter.name}: float"
    for name in plugin.preset:
        if name not in [parameter.name for parameter in parameters]:
            return f"has no parameter '{name}', which @register gives it. Add it to the class, or remove it there"
    return ""


def _one_of(*known: str) -> _Attribute:
    return (lambda value: value in known), " or ".join(repr(name) for name in known)


def _texts(value: Any) -> bool:
    return isinstance(value, tuple | list | frozenset | set) and all(isinstance(text, str) for text in value)


def _names_of(value: Any, known: Sequence[str] = ()) -> bool:
    return _texts(value) and bool(value) and (not known or set(value) <= set(known))


_Attribute = tuple[Callable[[Any], bool], str]
"""What a class attribute must be: a test, and words."""
_TRUTH: _Attribute = (lambda value: isinstance(value, bool)), "True or False"
_VERSION: _Attribute = (lambda value: type(value) is int), "a whole number"
_CITE: _Attribute = (
    (lambda value: value is None or isinstance(value, str) or (isinstance(value, tuple) and _texts(value))),
    'a BibTeX entry, a tuple of them, or "" where there is no paper',
)
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
    "attacks": {"needs_gradient": _TRUTH, "norms": _NORMS, "control": _TRUTH, "bounded": _TRUTH, "fits": _TRUTH},
    "purifiers": {"gradient": _one_of("exact", "surrogate", "both"), "randomised": _TRUTH},
    "datasets": {
        "kind": _one_of("pairs", "triplets"),
        "labels": _one_of("human", "proxy", "none"),
        "splits": _SPLITS,
        "neutral": ((lambda value: isinstance(value, Mapping)), "a mapping such as {}"),
        "levels_not_strength": (
            (lambda value: isinstance(value, Mapping) and _texts([*value, *value.values()])),
            'a mapping of groups to reasons such as {"18": "signed: .15 .08 0 -.08 -.15"}',
        ),
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
