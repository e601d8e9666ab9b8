"""The keys of a suite file and their types, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

import pydantic

from harness.located import Problem, YamlPath
from harness.registry import did_you_mean

DIRECTIONS = ("up", "down", "mos_split", "self_split")
TABLES = ("srocc", "shift", "pair_accuracy", "ordering", "two_afc")


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)
    name: str
    label: Annotated[str, pydantic.Field(pattern=r"^[^/\\]+$", max_length=200)] | None = None


class _Transfer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    source: str
    scorer: str


class _Exclusion(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    dataset: str | None = None
    metric: str | None = None
    defense: str | None = None
    attack: str | None = None
    norm: str | None = None
    eps: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError(f"should give at least one of {', '.join(type(self).model_fields)}")
        return self


def as_entry(value: Any) -> Any:
    """A bare name as an entry."""
    return {"name": value} if isinstance(value, str) else value


_Entries = list[Annotated[_Entry, pydantic.BeforeValidator(as_entry)]]
_Budgets = Annotated[list[Annotated[float, pydantic.Field(gt=0, le=1)]], pydantic.Field(min_length=1)]


class SuiteFile(pydantic.BaseModel):
    """The keys of a suite file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    datasets: Annotated[_Entries, pydantic.Field(min_length=1)]
    metrics: Annotated[_Entries, pydantic.Field(min_length=1)]
    defenses: Annotated[_Entries, pydantic.Field(min_length=1)] = [_Entry(name="base")]
    attacks: _Entries = []
    budgets: dict[Literal["linf", "l2"], _Budgets] = {}
    directions: Annotated[list[str], pydantic.Field(min_length=1)] = ["up", "mos_split"]
    tables: list[str] = list(TABLES)
    transfer: list[_Transfer] = []
    exclude: list[_Exclusion] = []
    limit: Annotated[int, pydantic.Field(ge=1)] | None = None
    slice: Annotated[int, pydantic.Field(ge=1, le=4096)] = 8


def read_file(value: dict[str, Any]) -> tuple[SuiteFile | None, list[Problem]]:
    """The keys of a suite file in their types, or what is wrong with them."""
    try:
        return SuiteFile.model_validate(value), []
    except pydantic.ValidationError as error:
        return None, [_problem(e, value) for e in error.errors()]


_KNOWN_MESSAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda c: "should be text",
    "int_type": lambda c: "should be a whole number",
    "int_from_float": lambda c: "should be a whole number",
    "float_type": lambda c: "should be a number, such as 8/255 or 0.03",
    "bool_type": lambda c: "should be true or false",
    "list_type": lambda c: "should be a list: [a, b]",
    "dict_type": lambda c: "should be a mapping: {key: value}",
    "model_type": lambda c: "should be a name or a mapping with a name",
    "model_attributes_type": lambda c: "should be a name or a mapping with a name",
    "too_short": lambda c: "should not be empty",
    "greater_than": lambda c: f"should be above {c['gt']:g}",
    "greater_than_equal": lambda c: f"should be at least {c['ge']:g}",
    "less_than_equal": lambda c: f"should be at most {c['le']:g}",
    "less_than": lambda c: f"should be below {c['lt']:g}",
    "string_pattern_mismatch": lambda c: "should be letters, digits, '.', '_' and '-' only, starting with a letter",
    "literal_error": lambda c: f"should be {c['expected']}",
}


def _problem(error: Any, value: Any) -> Problem:
    path: YamlPath = tuple(error["loc"])
    if path and path[-1] == "[key]":
        path = path[:-1]
        near = did_you_mean(str(path[-1]), ["linf", "l2"])
        return Problem(path, f"unknown key '{path[-1]}'.{near}", on_key=True)
    if error["type"] == "extra_forbidden":
        inner = _Exclusion if path[0] == "exclude" else _Transfer
        known = [*SuiteFile.model_fields, "extends"] if len(path) == 1 else list(inner.model_fields)
        return Problem(path, f"unknown key '{path[-1]}'.{did_you_mean(str(path[-1]), known)}", on_key=True)
    if error["type"] == "missing":
        return Problem(path[:-1], f"the key '{path[-1]}' is missing.")
    return Problem(path, f"{worded(error)}, got {shown(error['input'])}.")


def worded(error: Any) -> str:
    """One of pydantic's errors in words: 'should be at least 1'."""
    worded = _KNOWN_MESSAGES.get(error["type"])
    if worded is not None:
        return worded(error.get("ctx", {}))
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
