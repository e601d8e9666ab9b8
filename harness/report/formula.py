"""Formulas over cells: how a sentence about numbers is written so that it can be computed again.

A formula is one or more of ``name = expression``, with semicolons between them::

    gain = table3[training=aat, statistic=srocc, attack=!none]
           - max(table3[training=r|at, statistic=srocc, attack=!none], over=training);
    low = min(gain); high = max(gain)

``table3[...]`` takes cells of a table by their dimensions: ``x=a`` one value, ``x=a|b`` several, ``x=!a`` all but;
what is not named is free. Where one value is left of every dimension it is a number, else a row of numbers, each with
what it is of. ``.low`` and ``.high`` after it are the ends of the interval. Rows of numbers are taken together cell by
cell, those that both have. There are ``+ - * /``, comparisons, ``and or not`` of single truths, ``& | ~`` of rows of
them, and the functions of `FUNCTIONS`; ``over=x`` takes one dimension together and leaves the rest. Nothing else is: a
formula is read with Python's own grammar, and every part that is not named here is refused.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.wording import did_you_mean

Number = float | bool
Value = float | bool | pd.Series
"""A number, a truth, or a row of either: a series whose index says of which cell each is."""

_SLACK = 1e-9
"""Printed numbers have a few decimals; what differs by less than this is equal."""
_LONGEST, _MOST_PARTS = 4000, 300
_LARGEST, _LARGEST_CHOICE = 1e12, 1000
_SELECTION = re.compile(r"([A-Za-z]\w*)\s*\[([^\[\]]*)\]")
_COMMA = re.compile(r",(?![^()]*\))")
"""Between conditions; not within a name such as BiRQA (no, no, no)."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class FormulaError(UserError):
    """A formula cannot be read or computed."""


class NoCellsError(FormulaError):
    """There is no number that a formula asks for."""


@dataclass(frozen=True)
class Selection:
    """Cells of one table that a formula asks for."""

    table: str
    chosen: Mapping[str, tuple[str, ...]]
    """Dimension -> values that are taken."""
    left_out: Mapping[str, tuple[str, ...]]
    """Dimension -> values that are not."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Dimensions of which one value is taken."""
        return tuple(dimension for dimension, values in self.chosen.items() if len(values) == 1)

    def __str__(self) -> str:
        parts = [f"{name}={'|'.join(values)}" for name, values in self.chosen.items()]
        parts += [f"{name}=!{'|'.join(values)}" for name, values in self.left_out.items()]
        return f"{self.table}[{', '.join(parts)}]"


Lookup = Callable[[Selection, str], Value]
"""Gives what a selection and the name of a figure (value, low or high) stand for.

Raises `NoCellsError` where there is no such cell.
"""


@dataclass(frozen=True)
class CellFormula:
    """A formula that was read: names, each with what it stands for, in order."""

    steps: tuple[tuple[str, ast.expr], ...]
    selections: tuple[Selection, ...]

    def compute(self, lookup: Lookup, known: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Every name with its value.

        Args:
            lookup: Where cells come from.
            known: Names that have a value already.

        Raises:
            FormulaError: It cannot be computed.
            NoCellsError: A number that it asks for is not there.
        """
        names: dict[str, Value] = dict(known or {})
        for name, node in self.steps:
            value = _Computation(lookup, self.selections, names).of(node)
            names[name] = value
            if isinstance(value, float) and not math.isfinite(value):
                raise FormulaError(f"'{name}' is no finite number")
        return names


def read_formula(text: str, known: Sequence[str] = ()) -> CellFormula:
    """Read a formula; computes nothing.

    Args:
        text: The formula. A last part without a name is called ``it``.
        known: Names that will have a value.

    Raises:
        FormulaError: It is none; says which part.
    """
    if len(text) > _LONGEST:
        raise FormulaError(f"a formula of {len(text)} letters, and {_LONGEST} are the most. Write two claims.")
    selections: list[Selection] = []

    def held(match: re.Match[str]) -> str:
        selections.append(_selection(match[1], match[2]))
        return f" _{len(selections) - 1} "

    names = list(known)
    steps = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, separator, expression = _named(part)
        if separator and not _NAME.fullmatch(name):
            raise FormulaError(f"'{name}' is no name. Write NAME = EXPRESSION, with letters and digits in NAME.")
        if re.search(r"(^|[^\w\]])_", expression):
            raise FormulaError(f"'{part[:60]}': names begin with a letter. Give the name another beginning.")
        rest = _SELECTION.sub(held, expression)
        if "#" in rest:
            raise FormulaError(f"'{part[:60]}': what follows # would not be read. Take it out.")
        node = _parsed(rest, part)
        _check(node, names, part)
        names.append(name)
        steps.append((name, node))
    if not steps:
        raise FormulaError("an empty formula. Write NAME = EXPRESSION.")
    return CellFormula(tuple(steps), tuple(selections))


def _named(part: str) -> tuple[str, str, str]:
    """Name, "=" and expression of ``name = expression``; the name ``it`` where there is none."""
    match = re.match(r"([^=<>!()\[\]]*?)\s*=(?!=)\s*", part)
    return (match[1].strip(), "=", part[match.end() :]) if match else ("it", "", part)


def _selection(table: str, text: str) -> Selection:
    """What stands between the brackets behind a table's name."""
    chosen: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in _COMMA.split(text))):
        dimension, separator, values = (piece.strip() for piece in part.partition("="))
        alternatives = tuple(value.strip() for value in values.removeprefix("!").split("|"))
        if not (dimension and separator and all(alternatives)):
            raise FormulaError(f"{table}[{text}]: '{part}' should be DIMENSION=VALUE. Write it so.")
        if dimension in {**chosen, **left_out}:
            raise FormulaError(f"{table}[{text}]: '{dimension}' stands twice. Write {dimension}=A|B.")
        (left_out if values.startswith("!") else chosen)[dimension] = alternatives
    return Selection(table, chosen, left_out)


def _parsed(text: str, part: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)  # 1and 2
            return ast.parse(text.strip().replace("\n", " "), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise FormulaError(f"'{part[:60]}' is no expression ({why}). Mend it.") from None


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_TRUTHS = (ast.BitAnd, ast.BitOr)
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any], Value]] = {
    ast.Gt: lambda difference: difference > _SLACK,
    ast.GtE: lambda difference: difference >= -_SLACK,
    ast.Lt: lambda difference: difference < -_SLACK,
    ast.LtE: lambda difference: difference <= _SLACK,
    ast.Eq: lambda difference: abs(difference) <= _SLACK,
    ast.NotEq: lambda difference: abs(difference) > _SLACK,
}
"""Comparison -> whether it is true of left minus right."""
_PARTS: Sequence[type[ast.AST]] = [
    *[ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Call, ast.Attribute, ast.Name, ast.Load, ast.Constant],
    *[ast.keyword, ast.USub, ast.Not, ast.Invert, ast.And, ast.Or],
]
_ALLOWED: tuple[type[ast.AST], ...] = (*_PARTS, *_ARITHMETIC, *_COMPARISONS)


def _check(node: ast.expr, known: Sequence[str], part: str) -> None:
    """Refuse what is not in the language.

    Raises:
        FormulaError: Says what.
    """
    if sum(1 for _ in ast.walk(node)) > _MOST_PARTS:
        raise FormulaError(f"'{part[:60]}' has more than {_MOST_PARTS} parts. Give names to some, NAME = ...; ...")
    calls = {id(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    for one in ast.walk(node):
        if not isinstance(one, _ALLOWED):
            raise FormulaError(f"'{part[:60]}': {type(one).__name__} is not in the language of formulas. Take it out.")
        if isinstance(one, ast.Constant) and not _is_plain(one.value):
            raise FormulaError(f"'{part[:60]}': {str(one.value)[:20]!r} is no number. Write numbers alone.")
        if isinstance(one, ast.Attribute) and not (
            one.attr in ("low", "high") and isinstance(one.value, ast.Name) and one.value.id.startswith("_")
        ):
            raise FormulaError(f"'{part[:60]}': only .low and .high of cells can be had. Take .{one.attr} out.")
        if isinstance(one, ast.Call):
            _check_call(one, part)
        elif isinstance(one, ast.Name) and not one.id.startswith("_"):
            names = list(FUNCTIONS) if id(one) in calls else known
            over = [k.value for call in ast.walk(node) if isinstance(call, ast.Call) for k in call.keywords]
            if one.id not in names and not any(one is value for value in over):
                raise FormulaError(f"'{part[:60]}': nothing is called '{one.id}'.{did_you_mean(one.id, names)}")


def _is_plain(constant: object) -> bool:
    return isinstance(constant, int | float) and not isinstance(constant, bool) and abs(constant) < _LARGEST


def _check_call(call: ast.Call, part: str) -> None:
    if not isinstance(call.func, ast.Name) or call.func.id.startswith("_"):
        raise FormulaError(f"'{part[:60]}': a call of no function. Use {', '.join(FUNCTIONS)}.")
    expected = FUNCTIONS[call.func.id].arguments if call.func.id in FUNCTIONS else len(call.args)
    if len(call.args) != expected:
        raise FormulaError(f"'{part[:60]}': {call.func.id} takes {expected} argument(s). Give so many.")
    for keyword in call.keywords:
        if call.func.id in FUNCTIONS and not FUNCTIONS[call.func.id].reduces:
            raise FormulaError(f"'{part[:60]}': {call.func.id} takes nothing together. Leave '{keyword.arg}' out.")
        if keyword.arg != "over" or not isinstance(keyword.value, ast.Name):
            raise FormulaError(f"'{part[:60]}': '{keyword.arg}' is no option. Write over=DIMENSION.")


@dataclass(frozen=True)
class _Computation:
    """Computes one expression."""

    lookup: Lookup
    selections: Sequence[Selection]
    names: Mapping[str, Value]

    def of(self, node: ast.expr) -> Value:
        """The value of a part of an expression."""
        match node:
            case ast.Constant(value=value):
                return float(value)  # type: ignore[arg-type]
            case ast.Attribute(value=ast.Name(id=name), attr=figure):
                return self.lookup(self.selections[int(name[1:])], figure)
            case ast.Name(id=name):
                if name.startswith("_"):
                    return self.lookup(self.selections[int(name[1:])], "value")
                return self.names[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(type(op), self.of(left), self.of(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_counted(self.of(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not _truth(self.of(operand))
            case ast.UnaryOp(operand=operand):
                row = self.of(operand)
                if not isinstance(row, pd.Series):
                    return not _truth(row)
                if not _is_truth(row):
                    raise FormulaError("~ is for truths, such as ~(a > b). Put the comparison in parentheses.")
                return ~row
            case ast.BoolOp(op=op, values=values):
                truths = [_truth(self.of(value)) for value in values]
                return all(truths) if isinstance(op, ast.And) else any(truths)
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self.of(side) for side in (left, *others)]
                found = [
                    _COMPARISONS[type(op)](_combined(ast.Sub, a, b))
                    for op, a, b in zip(ops, sides, sides[1:], strict=False)
                ]
                result = found[0]
                for more in found[1:]:
                    result = _combined(ast.BitAnd, result, more)
                return result
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                over = [k.value.id for k in keywords if isinstance(k.value, ast.Name)]
                return FUNCTIONS[name].call([self.of(argument) for argument in args], over[0] if over else None)
        raise FormulaError(f"{type(node).__name__} is not in the language of formulas. Take it out.")


def _combined(op: type[ast.operator], left: Value, right: Value) -> Value:
    """Two values by an operator; two rows cell by cell, those that both have.

    Raises:
        NoCellsError: They have none in common.
        FormulaError: They are not of the same dimensions, or one is divided by 0.
    """
    if isinstance(left, pd.Series) and isinstance(right, pd.Series):
        if set(left.index.names) != set(right.index.names):
            one, other = (", ".join(map(str, row.index.names)) for row in (left, right))
            raise FormulaError(f"rows of numbers over ({one}) and ({other}) do not go together. Fix a dimension.")
        if left.index.nlevels > 1:
            right = right.reorder_levels([right.index.names.index(name) for name in left.index.names])
        common = left.index.intersection(right.index, sort=False)
        if common.empty:
            raise NoCellsError("no two cells go together")
        left, right = left.loc[common], right.loc[common]
    if op not in _TRUTHS:
        left, right = (_counted(side) for side in (left, right))
    if op is ast.Div and not (right.all() if isinstance(right, pd.Series) else right):
        raise FormulaError("a division by 0. Mend the formula.")
    if op in _TRUTHS and not all(_is_truth(side) for side in (left, right)):
        raise FormulaError("& and | are for truths, such as (a > b) & (c > d). Put comparisons in parentheses.")
    return _ARITHMETIC[op](left, right)


def _is_truth(value: Value) -> bool:
    return value.dtype == bool if isinstance(value, pd.Series) else isinstance(value, bool)


def _counted(value: Value) -> Value:
    """Truths as 1 and 0."""
    if not _is_truth(value):
        return value
    return value.astype(float) if isinstance(value, pd.Series) else float(value)


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise FormulaError("and, or and not are for single truths. Use all(...), any(...) or &, | for rows.")
    return value


@dataclass(frozen=True)
class _Function:
    """A function of the language."""

    arguments: int
    call: Callable[[Sequence[Value], str | None], Value]
    """Given the arguments, and the dimension after ``over=``."""
    reduces: bool = False
    """Whether it takes numbers together, so that ``over=`` may say which."""


def _reduced(how: str, *, of_truths: str = "") -> _Function:
    """A function that makes one number of a row of them, or a row over fewer dimensions.

    Args:
        how: The name of what pandas does.
        of_truths: The name of a function that takes truths alone.
    """

    def call(arguments: Sequence[Value], over: str | None) -> Value:
        row = arguments[0]
        if of_truths and not _is_truth(row):
            raise FormulaError(f"{of_truths} is of truths, such as {of_truths}(a > b). Compare the numbers.")
        if not isinstance(row, pd.Series):
            if over is not None:
                raise FormulaError(f"{over} cannot be taken together: it is one number already. Leave 'over' out.")
            return row if of_truths in ("all", "any") else float(row)
        if over is None:
            return _plain(row.agg(how))
        if over not in row.index.names:
            known = [str(name) for name in row.index.names]
            raise FormulaError(f"there is no free dimension '{over}' to take together.{did_you_mean(over, known)}")
        rest = [name for name in row.index.names if name != over]
        if not rest:
            return _plain(row.agg(how))
        fewer: pd.Series = row.groupby(level=rest, sort=False).agg(how)
        return fewer

    return _Function(1, call, reduces=True)


def _plain(value: object) -> Number:
    """A number of numpy's as Python's."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, bool) else float(plain)  # type: ignore[arg-type]


def _absolute(arguments: Sequence[Value], over: str | None) -> Value:
    value = _counted(arguments[0])
    return value.abs() if isinstance(value, pd.Series) else abs(float(value))


def _choices(arguments: Sequence[Value], over: str | None) -> Value:
    n, k = (math.nan if isinstance(argument, pd.Series) else float(argument) for argument in arguments)
    if not (n.is_integer() and k.is_integer() and 0 <= k <= n <= _LARGEST_CHOICE):
        raise FormulaError(f"choose({n:g}, {k:g}) should be of whole numbers, 0 <= k <= n. Mend them.")
    return float(math.comb(int(n), int(k)))


def rounded_half_up(value: float, digits: int) -> float:
    """A number to so many decimals, halves away from zero, as people round what was printed."""
    scale = 10**digits
    return math.copysign(math.floor(abs(value) * scale + 0.5 + _SLACK) / scale, value)


FUNCTIONS: Mapping[str, _Function] = {
    **{name: _reduced(name) for name in ("min", "max", "mean")},
    **{name: _reduced(name, of_truths=name) for name in ("all", "any")},
    "count": _reduced("sum", of_truths="count"),
    "cells": _reduced("size"),
    "abs": _Function(1, _absolute),
    "choose": _Function(2, _choices),
}
"""Name -> function. ``count`` is of truths, ``cells`` of whatever there is, ``choose(n, k)`` of subsets."""
