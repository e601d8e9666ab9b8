"""The examples of the documentation: one file of at most 40 lines each, listed, validated and run by --plugin alone."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SUITE = """
name: examples
datasets: [toy]
metrics: [mae, linear]
defenses: [base, {name: shift, threat: adaptive, eot: 2}]
attacks: [{name: momentum, steps: 4}]
budgets: {linf: [4/255]}
directions: [up]
"""


def test_a_metric_an_attack_and_a_purifier_by_plugin_alone(tmp_path, toy_file):
    files = sorted(EXAMPLES.glob("*.py"))
    assert [f.stem for f in files] == ["mae", "momentum", "shift"]
    assert all(len(f.read_text().splitlines()) <= 40 for f in files)
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    plugins = [a for f in (*files, toy_file) for a in ("--plugin", str(f))]

    def call(*arguments):
        command = [sys.executable, "-m", "harness", *arguments, *plugins]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    listed = call("list").stdout
    assert all(name in listed for name in ("mae", "momentum", "shift"))
    assert call("validate", str(suite)).returncode == 0
    done = call("run", str(suite))
    assert done.returncode == 0, done.stderr
    assert "momentum" in done.stdout and "shift" in done.stdout


def test_what_the_examples_compute(run_toy, tmp_path, toy_file):
    from harness.located import parse_text
    from harness.registry import Registry
    from harness.resolve import validate
    from harness.run import Options, run_suite

    registry = Registry([toy_file, *sorted(EXAMPLES.glob("*.py"))])
    suite = validate(parse_text(SUITE, "suite.yaml"), registry)
    frame = run_suite(suite, registry, Options(out=tmp_path / "run", executor="serial")).data.records
    linear = frame[(frame["metric"] == "linear") & (frame["attack"] != "clean") & (frame["defense"] == "base")]
    assert ((linear["attacked"] - linear["clean"]) > 4 / 255 - 2e-4).all(), "the closed form of a linear metric"
    mae = frame[(frame["metric"] == "mae") & (frame["attack"] == "clean") & (frame["defense"] == "base")]
    expected = -255 * 0.1 * mae["level"] * 0.25
    assert abs(mae["clean"] / expected - 1).max() < 0.1, "quality is minus the mean of |0.1 level u|, u uniform in +-.5"
    shifted = frame[(frame["metric"] == "mae") & (frame["attack"] == "clean") & (frame["defense"] == "shift")]
    assert abs(shifted["clean"].to_numpy() - mae["clean"].to_numpy()).max() < 1e-4, "rolling both changes no mean error"


def test_the_examples_keep_their_contracts():
    from harness.registry import Registry
    from harness.testing import check_attack, check_metric, check_purifier

    registry = Registry(sorted(EXAMPLES.glob("*.py")))
    check_metric(registry.metric("mae").build({}))
    check_attack(registry.attack("momentum").build({}))
    check_purifier(registry.purifier("shift").build({}))
