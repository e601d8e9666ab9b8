"""The examples of the documentation: one file of at most 41 lines each, listed, validated and run by --plugin alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustiqa

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
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
    assert [f.stem for f in files] == ["folder_pairs", "mae", "momentum", "shift"]
    assert all(len(f.read_text().splitlines()) <= 41 for f in files)
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    plugins = [a for f in (*files, toy_file) for a in ("--plugin", str(f))]

    def call(*arguments):
        command = [sys.executable, "-m", "harness", *arguments, *plugins]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    listed = call("list").stdout
    assert all(name in listed for name in ("folder_pairs", "mae", "momentum", "shift"))
    assert call("validate", str(suite)).returncode == 0
    done = call("run", str(suite))
    assert done.returncode == 0, done.stderr
    assert "momentum" in done.stdout and "shift" in done.stdout


def test_what_the_examples_compute(run_toy, tmp_path, toy_file):
    from harness.flow import Options, run_suite
    from harness.plugins.registry import Registry
    from harness.suite.resolve import validate
    from harness.suite.strict_yaml import parse_text

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
    from harness.plugins.registry import Registry
    from harness.testing import check_attack, check_metric, check_purifier

    registry = Registry(sorted(EXAMPLES.glob("*.py")))
    check_metric(registry.metric("mae").build({}))
    check_attack(registry.attack("momentum").build({}))
    check_purifier(registry.purifier("shift").build({}))


LEVELS = (4, 8, 16, 32)


@pytest.fixture
def pairs_folder(tmp_path):
    """Three grey ramps, each with noise in four strengths, rated 4 to 1 on a scale of 1 to 5."""
    folder = tmp_path / "pairs"
    lines = ["reference,distorted,opinion,type,level"]
    rng = np.random.default_rng(0)
    for r in range(3):
        (folder / f"noise/{r}").mkdir(parents=True)
        ramp = np.linspace(40, 160 + 20 * r, 32)[:, None, None].repeat(48, axis=1).repeat(3, axis=2)
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"ref{r}.png")
        for level, width in enumerate(LEVELS, start=1):
            noisy = ramp.astype(np.uint8) + rng.choice([-width, width], ramp.shape)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"noise/{r}/{level}.png")
            lines.append(f"ref{r}.png,noise/{r}/{level}.png,{5 - level},noise,{level}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_data_set_by_plugin_alone(tmp_path, pairs_folder):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        f"""
name: pairs
datasets: [{{name: folder_pairs, root: {pairs_folder}}}]
metrics: [psnr, mae]
attacks: [restore]
budgets: {{linf: [4/255]}}
directions: [up]
""",
        encoding="utf-8",
    )
    plugins = [a for name in ("folder_pairs", "mae") for a in ("--plugin", str(EXAMPLES / f"{name}.py"))]
    for command in ("validate", "run"):
        line = [sys.executable, "-m", "harness", command, str(suite), *plugins]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "folder_pairs" in done.stdout

    plugins = [EXAMPLES / "folder_pairs.py", EXAMPLES / "mae.py"]
    frame = robustiqa.open_run(tmp_path / "results/runs/pairs", plugins=plugins).records()
    frame = frame[frame["metric"] == "mae"]
    clean = frame[frame["attack"] == "clean"]
    widths = clean["level"].map(dict(enumerate(LEVELS, start=1)))
    assert np.allclose(clean["clean"], -widths, atol=1e-3), "MAE in grey levels is the width of the noise"
    assert np.allclose(clean["opinion"], (4 - clean["level"]) / 4), "5 - level on a scale from 1 to 5"
    restored = frame[frame["attack"] == "restore"]
    assert np.allclose(restored["attacked"] - restored["clean"], 4, atol=1e-3), "each pixel 4 grey levels nearer"


def test_the_data_set_keeps_its_contract(pairs_folder):
    from harness.contracts import DataError
    from harness.plugins.registry import Registry
    from harness.testing import check_dataset

    plugin = Registry([EXAMPLES / "folder_pairs.py"]).dataset("folder_pairs")
    parameters = {"root": str(pairs_folder)}
    check_dataset(plugin.build(parameters), again=lambda: plugin.build(parameters))
    before = plugin.build(parameters).fingerprint()
    labels = pairs_folder / "labels.csv"
    labels.write_text(labels.read_text().replace(",4,", ",5,"))
    assert plugin.build(parameters).fingerprint() != before, "other labels are another data set"
    labels.write_text("reference,distorted\nref0.png,noise/0/1.png\n")
    with pytest.raises(DataError, match=r"labels\.csv"):
        plugin.build(parameters).entries("all")
