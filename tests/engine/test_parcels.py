"""Files that jobs name, taken to another machine: each content once, checked, and put where the job finds it."""

import dataclasses

import pytest

from harness.engine.executors.cluster import ClusterOptions, root_here
from harness.engine.executors.parcels import Depot, files_needed, parcel, relocated
from harness.engine.jobs import BlockJob
from harness.plugins.registry import Registry
from harness.suite.planning import make_plan
from harness.suite.resolve import read_suite

SUITE = {"name": "packed", "datasets": ["mini"], "metrics": ["birqa-tiny"], "defenses": ["base", "denoise"]}


def test_weights_travel_by_content_and_identities_stay(tmp_path):
    registry = Registry()
    plan = make_plan(read_suite(SUITE, registry), registry)
    jobs = [BlockJob(block) for block in plan.blocks({})]
    files = files_needed(jobs)
    assert {"birqa-tiny.safetensors", "manifest.json"} <= {file.name for file in files}
    depot = Depot(tmp_path / "contents", tmp_path / "files")
    contents = dict(parcel(file) for file in files)
    sent = []
    for _ in range(2):
        depot.put(contents, lambda one: sent.append(one.sha256) or contents[one])
    assert sorted(sent) == sorted({one.sha256 for one in contents})
    moved = relocated(jobs[0], depot.place, lambda use: {"root": "/elsewhere"})
    cell, was = moved.block.cells[0], jobs[0].block.cells[0]
    assert cell.source.metric.weights_file == depot.place(was.source.metric.weights_file)
    assert cell.source.metric.weights_file.read_bytes() == was.source.metric.weights_file.read_bytes()
    assert cell.source.key == was.source.key and moved.block.key == jobs[0].block.key
    assert moved.block.split.dataset.parameters["root"] == "/elsewhere"

    (one,) = [one for one in contents if one.path.name == "birqa-tiny.safetensors"]
    other = Depot(tmp_path / "others", tmp_path / "there")
    with pytest.raises(ValueError, match="what arrived is not what was sent"):
        other.put([one], lambda _: b"other bytes")
    assert not other.place(one.path).exists()


def test_where_a_data_set_lies_on_a_node(monkeypatch, tmp_path):
    use = read_suite(SUITE, Registry()).datasets[0]
    official = dataclasses.replace(use, name="tid2013", label="tid", parameters={"root": "/driver/tid2013"})
    table = dataclasses.replace(use, name="csv", label="my-set", parameters={"file": "/driver/mine/table.csv"})
    assert root_here(use, {}) == {} and root_here(official, {}) == {}
    assert root_here(official, {"tid2013": "/suite"}) == {"root": "/suite"}
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", "/node")
    assert root_here(official, {}) == {"root": "/node/tid2013"}
    assert root_here(table, {}) == {"file": "/node/mine/table.csv"}
    assert root_here(dataclasses.replace(official, parameters={"root": str(tmp_path)}), {}) == {}  # which is there
    monkeypatch.setenv("ROBUSTIQA_DATA_MY_SET", "/own")
    assert root_here(table, {"my-set": "/suite"}) == {"file": "/own/table.csv"}


def test_room_for_workers():
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 16 * 2.0**30}
    assert ClusterOptions().room(node) == 8
    assert ClusterOptions(gpus=0.5).room(node) == 4 and ClusterOptions(cpus=3).room(node) == 2
    assert ClusterOptions(memory_mib=6144).room(node) == 2 and ClusterOptions(gpus=1).room({"CPU": 4.0}) == 0
    assert ClusterOptions(gpus=0.1).room({"CPU": 99.0, "GPU": 1.0}) == 10
