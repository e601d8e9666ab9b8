"""The campaign of faults in its short form: what is read in one process. Kills are in tests/engine/test_kills.py."""

import importlib
import random
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def faults():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        return importlib.import_module("faults")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def counts(faults):
    return list(faults.mutants(25, random.Random(1)))


def test_altered_files_are_read_or_refused_in_one_message(counts):
    assert [count.tried for count in counts] == [25] * 5
    assert [(count.fault, count.notes) for count in counts if count.bad()] == []


def test_what_is_lost_double_and_wrong_is_counted(faults):
    count = faults.Count("one")
    count.compare({"a": 1, "b": 2}, {"b": 3, "c": 4})
    count.heard("Traceback (most recent call last):\n  File ...")
    assert (count.lost, count.double, count.wrong, count.tracebacks, count.bad()) == (1, 1, 1, 1, 4)
    assert faults.table([count]).splitlines()[2] == "| one | 0 | 1 | 1 | 1 | 1 | 0 |"
