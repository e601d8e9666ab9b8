"""A run on a cluster of three nodes that may be lost: the same bytes as in one process."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toys.stored import parts
from tests.toys.stored import records as stored_records

ray = pytest.importorskip("ray", reason="pip install 'robustiqa[ray]'")

SLOW = Path(__file__).parents[1] / "toys" / "slow.py"
PLUGIN = '''
from pathlib import Path
from harness.contracts import Metric, register
from sibling import FACTOR

@register("scaled")
class Scaled(Metric):
    """Minus the mean squared error, times what a file says."""
    cite = ""
    higher_is_better = True
    def __init__(self, *, file: str) -> None:
        super().__init__()
        self.factor = FACTOR * float(Path(file).read_text())
    def score(self, reference, dist):
        return -self.factor * (dist - reference).square().flatten(1).mean(1)
'''
HEALTH = {"health_check_period_ms": 300, "health_check_failure_threshold": 5, "health_check_timeout_ms": 5000}
"""So that a node that was killed is missed within seconds, and one that is only slow is not."""
SUITE = """
name: spread
datasets: [{{name: toy, references: 2, levels: 4}}, {{name: csv, label: mine, file: {table}}}]
metrics: [negative_mse, {{name: scaled, file: {factor}}}]
attacks: [leisurely, noise]
budgets: {{linf: [4/255, 8/255]}}
directions: [up]
save_examples: 1
slice: 2
"""


def own_images(folder):
    """A table of four rated images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("r", "a", "b", "c", "d"):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    rows = [f"r.png,{name}.png,{grade}" for grade, name in enumerate("abcd")]
    (folder / "mine.csv").write_text("\n".join(("ref,dist,opinion", *rows)) + "\n")
    return folder


def records(run):
    """(cell, slice), or name of another file of results -> what it holds, but for times."""
    found = {one: frame.to_csv() for one, frame in stored_records(run).items()}
    others = [*run.glob("facts/*"), *run.glob("probes/*"), *run.glob("examples/**/*.png"), *run.glob("gallery/*/*.png")]
    return found | {path.relative_to(run).as_posix(): path.read_bytes() for path in others if path.is_file()}


def wait_for(condition, process=None):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.02)


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("SLOW_SECONDS", "0.02")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    )
    yield found
    found.shutdown()


@pytest.mark.slow
def test_nodes_and_the_driver_are_lost_and_no_byte_is(cluster, toy_file, tmp_path):
    own = own_images(tmp_path / "own")
    copies = [tmp_path / f"copy{i}" for i in range(4)]
    for copy in copies:
        shutil.copytree(own, copy)
    Image.new("RGB", (16, 16)).save(copies[3] / "a.png")  # a node whose data are damaged
    (tmp_path / "lib").mkdir()  # which only the driver looks for modules in
    for name, text in (("plugin.py", PLUGIN), ("lib/sibling.py", "FACTOR = 2.0\n"), ("factor.txt", "1.5")):
        (tmp_path / name).write_text(text)
    own_path = {**os.environ, "PYTHONPATH": f"{tmp_path / 'lib'}{os.pathsep}{os.environ['PYTHONPATH']}"}
    (tmp_path / "suite.yaml").write_text(SUITE.format(table=own / "mine.csv", factor=tmp_path / "factor.txt"))
    run = [sys.executable, "-m", "harness", "run", tmp_path / "suite.yaml", "-q"]
    for plugin in (toy_file, SLOW, tmp_path / "plugin.py"):
        run += ["--plugin", plugin]
    serial = subprocess.Popen(
        [*run, "--out", tmp_path / "serial", "--executor", "serial"], env=own_path, stderr=subprocess.PIPE
    )

    def node(number):
        place = {"ROBUSTIQA_DATA_MINE": str(copies[number]), "ROBUSTIQA_CACHE_DIR": str(tmp_path / f"cache{number}")}
        return cluster.add_node(num_cpus=1, env_vars=place)

    rng = random.Random(os.environ.get("ROBUSTIQA_TEST_SEED", "0"))
    out, done = tmp_path / "spread", (lambda: len(parts(tmp_path / "spread")))
    on_cluster = [*run, "--out", out, "--ray-address", cluster.address]
    node(3)
    nodes = [node(0), node(1)]
    with (tmp_path / "said.txt").open("w") as file:
        driver = subprocess.Popen(on_cluster, env=own_path, stderr=file)
    said = lambda: (tmp_path / "said.txt").read_text()  # noqa: E731
    more_than = lambda count: wait_for(lambda: done() > count, driver)  # noqa: E731
    for count in (1, 2):
        more_than(done() + rng.randint(1, 6))
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
        nodes.append(node(2)) if count == 1 else None
        wait_for(lambda count=count: said().count("was lost; what ran there is done elsewhere") == count, driver)
    more_than(done() + rng.randint(0, 3))
    driver.kill()
    driver.wait()
    assert serial.wait(300) == 0, serial.stderr.read()
    assert "raylet" not in said() and "core_worker" not in said() and "Traceback" not in said(), said()
    assert said().count("gets no work: data set mine all: labels, or names or sizes of images, are not those") == 1
    assert 0 < done() < len(parts(tmp_path / "serial"))

    again = subprocess.run(on_cluster, env=own_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert records(out) == records(tmp_path / "serial")
    nodes_met = json.loads((out / "provenance" / "nodes.json").read_text())
    assert all(one["did"] and one["hardware"]["cores"] for one in nodes_met if "node" in one)


def test_an_address_where_nobody_answers(toy_file, tmp_path):
    (tmp_path / "suite.yaml").write_text("name: lone\ndatasets: [toy]\nmetrics: [negative_mse]\n")
    run = [
        sys.executable,
        "-m",
        "harness",
        "run",
        tmp_path / "suite.yaml",
        "--plugin",
        toy_file,
        "--out",
        tmp_path / "run",
    ]
    said = subprocess.run([*run, "--ray-address", "ray://127.0.0.1:9"], capture_output=True, text=True)
    assert said.returncode == 2
    assert "--ray-address ray://127.0.0.1:9: no cluster answers there" in said.stderr and "Traceback" not in said.stderr
