"""Decorators read from text are those that Python itself finds, wherever their likes stand besides."""

import ast
from pathlib import Path

import pytest

from harness.plugins.decorators import decorators

ROOT = Path(__file__).parents[2]
AWKWARD = """
\'\'\'A text, "quoted", with

@register("in a docstring")
class No: ...
\'\'\'
import x  # it's a comment with one quote
# @register("in a comment")
S = "a string with # no comment and \\" a quote"
T = r\'\'\'
@register("in another text")
class NoEither:
\'\'\'


@register("first", steps=10)
@x.other
@register(
    "second",  # class Within: a comment
    note="class ) (",
)
@bridge("prefix", "metrics", library="lib")
class Yes(Base):
    @register("inside")
    class Inner: ...


@register("a function")
def no():
    pass


@registered("alike")
class Alike: ...


if x:
    @register("in a branch")
    class Branch: ...
class Bare: ...
@register("last")
class Last: ...
"""


def texts(calls):
    return [ast.unparse(call) for call in calls]


def test_texts_comments_functions_and_inner_classes_do_not_count():
    assert texts(decorators(AWKWARD, "register")) == [
        "register('first', steps=10)",
        "register('second', note='class ) (')",
        "register('last')",
    ]
    assert texts(decorators(AWKWARD, "bridge")) == ["bridge('prefix', 'metrics', library='lib')"]
    assert texts(decorators(AWKWARD, "benign")) == []


@pytest.mark.parametrize("folder", ["harness", "metrics_zoo", "attacks", "defenses", "docs", "tests"])
def test_they_are_those_of_the_syntax_tree(folder):
    for file in (ROOT / folder).rglob("*.py"):
        if file.is_relative_to(ROOT / "tests" / "bad"):
            continue
        text = file.read_text(encoding="utf-8")
        for name in ("register", "bridge", "dataclass"):
            classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
            calls = [call for cls in classes for call in cls.decorator_list if isinstance(call, ast.Call)]
            expected = [ast.unparse(call) for call in calls if ast.unparse(call.func) == name]
            assert texts(decorators(text, name)) == expected, file
