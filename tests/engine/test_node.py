"""What an actor does on its node, without Ray: its own folder, and a job that brings its process down."""

from dataclasses import asdict, replace

import pytest

from harness.engine.costs import Cost
from harness.engine.executors.arrivals import keep
from harness.engine.executors.node import Hand, Supplies
from harness.engine.executors.node_book import NodeBook
from harness.engine.executors.parcels import parcel
from harness.engine.machines.reference import machine_here
from harness.engine.run_folder import FailureRecord, RunFolder
from harness.engine.worker import Context, Done
from harness.flow import pending_jobs
from harness.suite.planning import make_plan
from harness.suite.resolve import read_suite

SUITE = {
    "name": "fatal",
    "datasets": [{"name": "toy", "references": 1, "levels": 1}],
    "metrics": ["negative_mse"],
    "attacks": ["dies_here"],
    "budgets": {"linf": [0.02]},
    "directions": ["up"],
}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_plugin_that_kills_its_process_is_named_as_the_driver_knows_it(registry, toy_file, scratch, tmp_path):
    (scratch / "robustiqa-killed").mkdir()
    (scratch / "robustiqa-killed" / "held").touch()  # by nobody: its process was killed
    suite = read_suite(SUITE, registry)
    plan, store = make_plan(suite, registry), RunFolder(tmp_path / "run")
    store.open(suite)
    context = Context(store.path, (toy_file,), 0, 8, "cpu")
    hand = Hand(context, {}, {})
    beside = Hand(context, {}, {})
    assert len(list(scratch.iterdir())) == 2
    file, content = parcel(toy_file)
    pending = pending_jobs(plan, store, probe=False)
    jobs = [*pending["calibration"], *pending["blocks"]]
    store.write_failure(FailureRecord(jobs[0].id, 0, "", "once; not any more"))
    state = {path.relative_to(store.path).as_posix(): path for path in store.path.glob("failures/*.json")}
    state["suite.yaml"] = store.path / "suite.yaml"
    try:
        supplies = Supplies([file], {name: path.read_bytes() for name, path in state.items()})
        hand.prepare(supplies, lambda asked: content)
        here = hand.check([])
        book = NodeBook(store, "cpu")
        book.checked("node", here["machine"])
        cost = Cost("score", "split", "scorer", "", 1, "cpu", items=1, seconds=1.0)
        assert here["unfit"] == "" and store.read_provenance("machines") == [asdict(machine_here("cpu"))]
        (noted,) = book.with_machine("node", Done("", costs=(cost,))).costs
        assert noted == replace(cost, machine=machine_here("cpu").id)
        hand.withdraw(3)
        for number, job in enumerate(jobs, 1):
            keep(store, hand.execute(job, number))
        assert hand.execute(jobs[-1], 3) is None
    finally:
        for one in (hand, beside):
            one.leave()
    (failure,) = store.failures()
    assert len(list(store.path.glob("failures/*"))) == 1  # what failed once and is done is gone here, too
    assert f"SIGKILL in attack 'dies_here' from {toy_file}: perturb()" in failure.message
    assert not list(scratch.iterdir())
