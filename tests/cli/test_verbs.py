"""Verbs that look at runs and at the installation: status, compare, doctor; shards and Ctrl-C."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from harness.cli.doctor import examine, probe_named
from harness.errors import UserError
from harness.flow import run_status
from tests.toys.stored import parts, records, remove

SUITE = """
name: toy
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [4/255, 8/255]}}
directions: [up]
tables: [srocc, ranks, shift]
"""


def suite(metrics="negative_mse", attacks="noise, fgsm", more=""):
    return SUITE.format(metrics=metrics, attacks=attacks) + more


def test_status_counts_blocks_and_failures(run_toy, registry, tmp_path):
    run_toy(suite(), tmp_path / "run")
    assert run_status(tmp_path / "run", registry) | {"sources": []} == {
        "name": "toy", "blocks": 3, "done": 3, "failures": 0, "damaged": {}, "unchecked": 0, "sources": [],
        "shards": [],
    }  # fmt: skip
    remove(tmp_path / "run", next(one for one in parts(tmp_path / "run") if one[1] == 1))
    assert run_status(tmp_path / "run", registry)["done"] == 2


def test_two_shards_make_the_whole_and_share_no_block(run_toy, tmp_path):
    whole = run_toy(suite("linear, negative_mse"), tmp_path / "whole")
    first = run_toy(suite("linear, negative_mse"), tmp_path / "shared", shard=(0, 2))
    assert any("NOT FINISHED" in notice for notice in first.data.notices)
    second = run_toy(suite("linear, negative_mse"), tmp_path / "shared", shard=(1, 2))
    assert first.blocks + second.blocks == whole.blocks and first.cells + second.cells == whole.cells
    assert not any("NOT FINISHED" in notice for notice in second.data.notices)
    one, other = records(tmp_path / "whole"), records(tmp_path / "shared")
    assert one.keys() == other.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True)


def test_doctor_finds_the_installation_sound(registry):
    findings = {finding.subject: finding for finding in examine(registry)}
    assert {"torch", "cpu", "cache", "package attacks", "metrics", "weights birqa-tiny", "data set mini"} <= set(
        findings
    )
    assert findings["weights birqa-tiny"].verdict == "ok" and "2800" in findings["data set mini"].detail
    assert findings["data set tid2013"].verdict in ("ok", "note")


def test_doctor_tells_damaged_weights(registry, monkeypatch):
    import harness.plugins.weights.locate

    manifest = harness.plugins.weights.locate.read_manifest()
    wrong = {"birqa-tiny": {**manifest["birqa-tiny"], "sha256": "0" * 64}}
    monkeypatch.setattr("harness.plugins.weights.locate.read_manifest", lambda folder=None: wrong)
    (finding,) = [f for f in examine(registry) if f.subject == "weights birqa-tiny"]
    assert finding.verdict == "problem" and "sha256" in finding.detail


def test_doctor_probes_one_metric(registry):
    sound = {finding.subject: finding for finding in probe_named("psnr", registry)}
    assert {finding.verdict for finding in sound.values()} == {"ok"}
    assert sound["identical images"].detail == "score 100" and sound["smallest side"].detail.startswith("1 px works")
    broken = {finding.subject: finding.verdict for finding in probe_named("wrong_shape", registry)}
    assert broken["score() returns one float per image"] == "problem"
    with pytest.raises(UserError, match="unknown metric 'psnrr'"):
        list(probe_named("psnrr", registry))
    with pytest.raises(UserError, match="'birqa' needs weights"):
        list(probe_named("birqa", registry))


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_ctrl_c_finishes_the_block_says_how_to_resume_and_exits_130(run_toy, toy_file, tmp_path, executor):
    text = suite("linear, negative_mse", "noise, {name: pgd, steps: 300}")
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "harness", "run", str(path), "--plugin", str(toy_file), "--out", str(folder), "-q"]
    process = subprocess.Popen([*command, "--executor", executor], stderr=subprocess.PIPE, text=True)
    while not list(folder.glob("records/*/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command again" in said and "Traceback" not in said
    assert 0 < len(records(folder)) < len(records(run_toy(text, tmp_path / "whole").folder.path))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    one, other = records(tmp_path / "whole"), records(folder)
    assert one.keys() == other.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True)


def test_the_verbs_on_the_command_line(run_toy, toy_file, tmp_path):
    run_toy(suite(), tmp_path / "run")

    def call(*arguments, code=0):
        command = [sys.executable, "-m", "harness", *map(str, arguments), "--plugin", str(toy_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done

    assert "3 of 3 blocks" in call("status", tmp_path / "run").stdout
    assert json.loads(call("status", tmp_path / "run", "--json").stdout)["done"] == 3
    assert "SROCC" in call("compare", tmp_path / "run", tmp_path / "run").stdout
    assert any(row["subject"] == "torch" for row in json.loads(call("doctor", "--json").stdout))
    assert "no run folder" in call("status", tmp_path / "nowhere", code=2).stderr


def test_a_finished_run_makes_its_report_again_only_if_part_of_it_is_gone(run_toy, tmp_path):
    first = run_toy(suite("linear"), tmp_path)
    assert not first.unchanged and run_toy(suite("linear"), tmp_path).unchanged
    for gone in ("index.html", "tables/shift.csv", "figures/toy.png"):
        (tmp_path / "report" / gone).unlink()
        again = run_toy(suite("linear"), tmp_path)
        assert again.jobs == 0 and not again.unchanged and (tmp_path / "report" / gone).is_file()
    assert not run_toy(suite("linear").replace("[srocc, ranks, shift]", "[shift]"), tmp_path).unchanged, (
        "another report is asked for"
    )
