"""A worker that ran other code than was planned stores nothing, whatever its file says by then."""

import hashlib

import pytest

from harness.engine.planned_code import PlannedCode
from harness.engine.run_folder import StoreError
from harness.plugins.registry import Registry

PLUGIN = b"""
from harness.contracts import Metric, register

@register("mine")
class Mine(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)
"""


def test_what_ran_counts_and_not_what_the_file_is_now(tmp_path):
    file = tmp_path.resolve() / "mine.py"
    file.write_bytes(PLUGIN.replace(b"mean", b"sum"))
    Registry([file])
    planned, ran = (hashlib.sha256(text).hexdigest() for text in (PLUGIN, file.read_bytes()))
    file.write_bytes(PLUGIN)
    with pytest.raises(StoreError, match=r"mine\.py was changed after this run was planned"):
        PlannedCode({file: planned}).check()
    PlannedCode({file: ran}).check()
