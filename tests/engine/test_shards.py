"""Shards of a plan: fair by cost, the same for all who ask, and stages that are done once."""

import signal
import subprocess
import sys
import time

import pytest

from harness.engine.costs import read_paces, seconds_of_blocks
from harness.engine.run_folder import RunFolder
from harness.engine.shards import shards_kept, shards_of, shared_unmeasured, shares
from harness.errors import UserError
from harness.flow import Options, run_status, run_suite
from harness.plugins.registry import Registry
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

SUITE = """
name: shared
datasets: [{name: toy, references: 6}]
metrics: [negative_mse, linear]
attacks: [{name: pgd, steps: 40, label: long}, noise]
budgets: {linf: [4/255]}
directions: [up]
verdicts: false
slice: 2
"""


def test_the_longest_go_first_to_whoever_has_least():
    seconds = {("s", "a", 0): 7.0, ("s", "a", 1): 1.0, ("s", "b", 0): 3.0, ("s", "b", 1): 2.0, ("s", "b", 2): 2.0}
    assert list(shares(seconds, 2).items()) == [
        (("s", "a", 0), 0),
        (("s", "b", 0), 1),
        (("s", "b", 1), 1),
        (("s", "b", 2), 1),
        (("s", "a", 1), 0),
    ]


def test_too_many_shards_are_refused_and_a_page_of_them_is_damaged(tmp_path):
    store = RunFolder(tmp_path)
    with pytest.raises(UserError, match="1000000000 shards: should be at most 10,000"):
        shards_of(None, store, 10**9, "cpu")
    (tmp_path / "suite.yaml").touch()
    store.write_provenance("shards", [{"shards": 10**9, "device": "cpu", "costs": []}])
    assert shards_kept(None, store) == {} and "provenance/shards.json" in store.soundness.damaged()


def test_shards_by_stages_do_everything_once(run_toy, registry, tmp_path):
    out = tmp_path / "parts"
    with pytest.raises(UserError, match="--stage blocks: what blocks need was never done"):
        run_toy(SUITE, out, stage="blocks")
    facts = [run_toy(SUITE, out, stage="facts", shard=(i, 2)).jobs for i in range(2)]
    assert facts == [1, 1] and not (out / "report").exists()
    first = run_toy(SUITE, out, stage="blocks", shard=(1, 2))
    status = run_status(out, registry)
    assert [(row["shard"], row["done"]) for row in status["shards"]] == [("0/2", 0), ("1/2", first.blocks)]
    assert status["blocks"] == sum(row["blocks"] for row in status["shards"])
    store, plan = first.folder, first.plan
    kept = shards_kept(plan, store)[2]
    assert shards_of(plan, store, 2, "cpu") == kept  # though more was measured since
    blocks, paces = plan.blocks({}), read_paces(out)
    assert {key.scorer for key in paces} == {fact.scorer.key for fact in plan.facts}  # of both shards of the facts
    costs = dict(zip([block.key for block in blocks], seconds_of_blocks(plan, blocks, {}, "cpu", paces), strict=True))
    loads = [sum(costs[key] for key, shard in kept.items() if shard == i) for i in range(2)]
    assert max(loads) - min(loads) <= max(costs.values())
    other = run_toy(SUITE, out, stage="blocks", shard=(0, 2))
    assert first.blocks + other.blocks == len(blocks) and other.finished


SLOW = """
import time
from harness.contracts import Metric, register

@register("waits")
class Waits(Metric):
    cite = ""
    higher_is_better = True

    def __init__(self, *, milliseconds: int = 0) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def score(self, reference, dist):
        time.sleep(self.milliseconds / 1000 * len(dist))
        return -(dist - reference).square().flatten(1).mean(1)
"""


def test_facts_tell_which_scorers_are_slow(toy_file, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    registry = Registry([toy_file, tmp_path / "slow.py"])
    metrics = ", ".join(f"{{name: waits, milliseconds: {one}, label: w{one}}}" for one in (9, 1, 10, 2))
    text = SUITE.replace("negative_mse, linear", metrics).replace("slice: 2", "slice: 64")
    suite = validate(parse_text(text, "suite.yaml"), registry)
    plan, blind = make_plan(suite, registry), RunFolder(tmp_path / "blind" / "run")
    blind.open(suite)

    def shared(store):
        found = shards_of(plan, store, 2, "cpu")
        names = {block.key: block.source.label for block in plan.blocks({})}
        return sorted(sum(names[key] in ("w9", "w10") for key in found if found[key] == one) for one in range(2))

    assert shared(blind) == [0, 2] and shared_unmeasured(blind, 2)
    options = Options(tmp_path / "told" / "run", "serial", stage="facts", probe=False, device="cpu")
    told = run_suite(suite, registry, options).folder
    assert shared(told) == [1, 1] and not shared_unmeasured(told, 2)


def test_sigterm_finishes_what_has_begun(toy_file, tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE.replace("steps: 40", "steps: 400"))
    command = [sys.executable, "-m", "harness", "run", tmp_path / "suite.yaml", "--out", tmp_path / "run", "-q"]
    options = ["--plugin", toy_file, "--executor", "processes", "--workers", "1", "--no-probes"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("records/*/*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "another SIGTERM stops at once" in said and "Traceback" not in said
    assert not list((tmp_path / "run" / "failures").glob("*"))
