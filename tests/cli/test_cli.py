"""The command line as a person meets it: exit codes, one message a mistake, JSON and nothing else, and no slow imports."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.cli.app import verb_named, verb_names
from tests.toys.stored import parts

SUITE = """
name: toy
datasets: [toy]
metrics: [{metric}]
attacks: [fgsm]
budgets: {{linf: [8/255]}}
limit: 8
"""


@pytest.fixture
def robustiqa(tmp_path, toy_file):
    def call(*arguments, plugin=True):
        extra = ["--plugin", str(toy_file)] if plugin else []
        command = [sys.executable, "-m", "harness", *map(str, arguments), *extra]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    return call


@pytest.fixture
def suite(tmp_path):
    def write(metric="linear", change=("", "")):
        path = tmp_path / "suite.yaml"
        path.write_text(SUITE.format(metric=metric).replace(*change) if change[0] else SUITE.format(metric=metric))
        return path

    return write


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["run", "--help"], ["list", "attacks", "--json"]])
def test_list_and_help_import_neither_torch_nor_a_plugin(arguments):
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
        "heavy = ('torch', 'pandas', 'scipy', 'pydantic')\n"
        "ours = ('metrics_zoo.', 'attacks.', 'defenses.purifiers.', 'defenses.recipes.', 'harness.datasets.')\n"
        "slow = [m for m in sys.modules if m.split('.')[0] in heavy or m.startswith(ours)]\n"
        "slow = [m for m in slow if m != 'harness.datasets.catalogue']\n"  # which is data: what is published of the sets
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NEW_VERB = """
from harness.cli.app import verb
from harness.cli.common import console


@verb("Your own", 9)
def _greet(name: str = "you") -> None:
    \"\"\"Greet somebody.

    Example: robustiqa greet
    \"\"\"
    console().print(f"hello {name}")
"""


def test_a_new_verb_is_one_file(tmp_path):
    shutil.copytree(
        Path(harness.__path__[0]), tmp_path / "harness", ignore=shutil.ignore_patterns("datasets", "weights")
    )
    (tmp_path / "harness" / "cli" / "greet.py").write_text(NEW_VERB)

    def call(*arguments):
        command = [sys.executable, "-m", "harness", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100"}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    panel = call("--help").stdout.partition("─ Your own ─")[2].partition("╰")[0]
    named = [line.split()[1] for line in panel.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert named == ["init", "new", "train", "curves", "features", "greet"] and "Greet somebody." in panel
    assert call("greet", "--name", "all").stdout == "hello all\n"
    assert "Example: robustiqa greet" in call("greet", "--help").stdout
    assert "Did you mean 'greet'" in call("gret").stderr


def test_every_verb_has_a_file_a_summary_and_an_example():
    assert {"run", "list", "show", "score", "train", "doctor", "weights"} <= set(verb_names())
    for name in verb_names():
        found = verb_named(name)
        command = found.command()
        assert found.name == command.name == name and found.summary
        for one in getattr(command, "commands", {name: command}).values():
            assert "robustiqa " + name in " ".join(one.help.split()), one.name


def test_list_show_and_json(robustiqa):
    attacks = json.loads(robustiqa("list", "attacks", "--json", plugin=False).stdout)["attacks"]
    assert {"fgsm", "pgd", "noise", "restore"} <= {row["name"] for row in attacks}
    assert "linear" in robustiqa("list", "metrics").stdout
    assert "linear" in robustiqa("list", "plugins").stdout
    page = json.loads(robustiqa("show", "pgd", "--json", plugin=False).stdout)[0]
    assert {p["name"]: p["default"] for p in page["parameters"]}["steps"] == 10
    assert "steps" in robustiqa("show", "pgd", plugin=False).stdout
    unknown = robustiqa("show", "pgdd", plugin=False)
    assert unknown.returncode == 2 and "Did you mean 'pgd'?" in unknown.stderr and "Traceback" not in unknown.stderr


def test_validate(robustiqa, suite):
    assert robustiqa("validate", suite()).returncode == 0
    path = suite(change=("attacks", "atacks"))
    wrong = robustiqa("validate", path)
    assert wrong.returncode == 2 and f"{path}:5:1: atacks: unknown key 'atacks'" in wrong.stderr
    assert "Traceback" not in wrong.stderr and wrong.stdout == ""
    as_json = robustiqa("validate", path, "--json")
    assert as_json.returncode == 2 and json.loads(as_json.stdout)["valid"] is False


def test_run_ends_with_tables_and_runs_once(robustiqa, suite, tmp_path):
    path = suite()
    planned = json.loads(robustiqa("plan", path, "--json").stdout)
    assert planned["pending"]["blocks"] == 1 and planned["folder"] == "results/runs/toy"
    first = robustiqa("run", path)
    assert first.returncode == 0, first.stderr
    assert "SROCC" in first.stdout and "1 block run" in first.stdout
    folder = tmp_path / "results" / "runs" / "toy"
    assert (folder / "report" / "index.html").is_file() and list((folder / "report" / "tables").glob("*.csv"))
    again = robustiqa("run", path)
    assert again.returncode == 0 and "nothing left to run" in again.stdout
    short = again.stdout.partition("\n\ntoy: ")[0]
    assert short == first.stdout.partition("\n\ntoy: ")[0] and short.count("Protocol: ") == 1
    whole = robustiqa("run", path, "--full").stdout
    assert whole.startswith(short) and "Protocol: as above" in whole and "nothing left to run" in whole
    assert "results/runs/toy --full" in again.stdout and "--full" not in whole.rpartition("Report: ")[2]
    assert json.loads(robustiqa("plan", path, "--json").stdout)["pending"]["blocks"] == 0
    again = robustiqa("report", folder, "--full")
    assert again.returncode == 0 and again.stdout.startswith(whole.partition("\n\ntoy: ")[0])


def test_failed_cells_exit_1_and_name_the_sample(robustiqa, suite):
    done = robustiqa("run", suite("{name: nan_at, below: 2}"), "--executor", "serial")
    assert done.returncode == 1 and "NaN" in done.stderr and "test/r" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["report", "nowhere"], "nowhere: no run folder"),
        (["run", "suite.yaml", "--device", "warp"], "--device warp: not to be had"),
        (["run", "suite.yaml", "--workers", "0"], "--workers"),
        (["run", "suite.yaml", "--shard", "2/2"], "--shard 2/2: should be I/N"),
        (["run"], "SUITE"),
        (["lisst"], "lisst"),
    ],
)
def test_mistakes_exit_2_with_one_message(robustiqa, suite, arguments, message):
    suite()
    done = robustiqa(*arguments, plugin=arguments != ["lisst"])
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_truncated_image_is_one_message_naming_it_exit_2_and_the_rest_is_kept(robustiqa, tmp_path):
    import numpy as np
    from PIL import Image

    root = tmp_path / "tid"
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    lines = []
    for ref in range(1, 4):
        pixels = np.random.default_rng(ref).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "reference_images" / f"I{ref:02d}.BMP")
        for level in range(1, 6):
            name = f"i{ref:02d}_08_{level}.bmp"
            Image.fromarray(np.clip(pixels // 2 + level, 0, 255).astype(np.uint8)).save(
                root / "distorted_images" / name
            )
            lines.append(f"{9 - level} {name}\n")
    (root / "mos_with_names.txt").write_text("".join(lines))
    bad = root / "distorted_images" / "i02_08_3.bmp"
    bad.write_bytes(bad.read_bytes()[:500])
    path = tmp_path / "suite.yaml"
    path.write_text(
        SUITE.format(metric="psnr").replace("[toy]", f"[{{name: tid2013, root: {root}}}]").replace("8\n", "15\n")
    )
    done = robustiqa("run", path)
    assert done.returncode == 2 and done.stderr.count("i02_08_3.bmp") == 1 and "Traceback" not in done.stderr
    assert parts(tmp_path / "results" / "runs" / "toy"), "the other slice is kept"
    (root / "mos_with_names.txt").unlink()
    missing = robustiqa("run", path)
    assert missing.returncode == 2 and "mos_with_names.txt" in missing.stderr and "Traceback" not in missing.stderr


def test_weights_that_were_changed_are_refused_before_anything_runs(robustiqa, tmp_path, monkeypatch):
    import metrics_zoo

    copy = tmp_path / "birqa.safetensors"
    shutil.copy(Path(metrics_zoo.__path__[0]) / "weights" / "birqa-tiny.safetensors", copy)
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.format(metric=f"{{name: birqa, weights: {copy}}}"))
    wrong = robustiqa("run", path)
    assert wrong.returncode != 0 and "does not fit" in wrong.stderr and "Traceback" not in wrong.stderr
    path.write_text(SUITE.format(metric="{name: birqa-tiny, weights: nothing.pth}"))
    pickle = robustiqa("run", path)
    assert pickle.returncode == 2 and "pickles" in pickle.stderr
    path.write_text(SUITE.format(metric="birqa"))
    none = robustiqa("run", path)
    assert none.returncode == 2 and "'birqa' needs weights" in none.stderr
