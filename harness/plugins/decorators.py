"""Decorators of a file's classes and functions, read without importing it, and without parsing more than them."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from typing import Literal

_PIECES = re.compile(
    r"""
    (?P<quote>\"\"\"|''') (?: [^\\] | \\. )*? (?P=quote)    # texts and comments, so that nothing in them counts
    | " (?: [^"\\\n] | \\. )* "
    | ' (?: [^'\\\n] | \\. )* '
    | \#[^\n]*
    | ^@                                                    # a decorator of something at the top level,
    | ^(?P<end>class|def|async)\b                           # and that something
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def decorators(text: str, *names: str, over: Literal["class", "def"] = "class") -> Iterator[ast.Call]:
    """Calls such as ``register("psnr")`` over what a file defines at its top level, in the order of the text.

    Most of what a registry costs would be parsing whole files, so only the decorators are.

    Args:
        text: Python source.
        names: Names of the decorators that are wanted, as they are called: ``register``, or ``contracts.register``.
        over: Whether those over classes or those over functions.
    """
    if not any(f"@{name}(" in text for name in names):
        return
    begun: list[int] = []
    for piece in _PIECES.finditer(text):
        if piece[0] == "@":
            begun.append(piece.start())
        elif piece["end"]:
            if piece["end"] == over:
                yield from _calls(text, [*begun, piece.start()], names)
            begun.clear()


def _calls(text: str, places: list[int], names: tuple[str, ...]) -> Iterator[ast.Call]:
    for start, end in itertools.pairwise(places):
        if text.startswith(names, start + 1):
            try:
                call = ast.parse(text[start + 1 : end].strip(), mode="eval").body
            except SyntaxError as error:
                error.lineno = (error.lineno or 1) + text.count("\n", 0, start)
                raise
            if isinstance(call, ast.Call) and ast.unparse(call.func) in names:
                yield call
