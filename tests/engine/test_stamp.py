"""A finished run is told from sizes and times alone; whatever has changed takes the long way."""

import os
import subprocess
import sys
import time

import pytest

from harness.engine import stamp
from harness.plugins.code import code_of

CALL = {"suite": "suite.yaml", "limit": None, "plugin": []}
SUITE = "extends: base.yaml\nname: stamped\nmetrics: [psnr, near]\nlimit: 4\n"
BASE = "name: base\ndatasets: [mini]\nmetrics: [psnr]\n"
PLUGIN = """
from harness.contracts import Metric, register


@register("near")
class Near(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        from helper import nearness

        return nearness(reference, dist)
"""
HELPER = "def nearness(a, b):\n    return -(a - b).abs().flatten(1).mean(1)\n"


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A folder as a finished run leaves it, its inputs, and whether it is told to be finished."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    for name in ("records/cell/00000.parquet", "provenance/versions.json", "report/index.html", "suite.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    inputs = [tmp_path / "suite.yaml", tmp_path / "images", tmp_path / "absent"]
    inputs[0].write_text(SUITE)
    inputs[1].mkdir()
    (tmp_path / "other").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    inputs.append(tmp_path / "link")
    (inputs[1] / "one.png").write_text("1")
    stamp.note(folder, CALL, "stamped", inputs, time.time_ns())
    assert stamp.recall(folder, CALL) == "stamped"
    return tmp_path


def later(path):
    """The same bytes, written a moment later."""
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda at: (at / "suite.yaml").write_text(SUITE + "seed: 1\n"),
        lambda at: later(at / "suite.yaml"),
        lambda at: (at / "suite.yaml").unlink(),
        lambda at: (at / "images" / "two.png").write_text("1"),
        lambda at: (at / "images" / "one.png").write_text("12"),
        lambda at: later(at / "images" / "one.png"),
        lambda at: (at / "images" / "one.png").rename(at / "images" / "two.png"),
        lambda at: (at / "absent").write_text("here now"),
        lambda at: (at / "link").unlink() or (at / "link").symlink_to(at / "images" / "one.png"),
        lambda at: (at / "run" / "records" / "cell" / "00000.parquet").unlink(),
        lambda at: later(at / "run" / "records" / "cell" / "00000.parquet"),
        lambda at: (at / "run" / "failures").mkdir() or (at / "run" / "failures" / "cell-00000.json").write_text("{}"),
        lambda at: (at / "run" / "suite.yaml").write_text("2222"),
        lambda at: (at / "run" / "report" / "index.html").unlink(),
        lambda at: (at / "run" / "report" / stamp.NOTE).write_text("{"),
        lambda at: (at / "run" / "report" / stamp.NOTE).unlink(),
    ],
)
def test_a_change_of_any_file_is_seen(noted, change):
    change(noted)
    assert not stamp.recall(noted / "run", CALL)


def test_another_call_or_place_or_environment_is_another(noted, monkeypatch):
    for key, value in (("limit", 8), ("suite", "other.yaml"), ("plugin", ["mine.py"]), ("probes", False)):
        assert not stamp.recall(noted / "run", {**CALL, key: value})
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", "elsewhere")
    assert not stamp.recall(noted / "run", CALL)
    monkeypatch.delenv("ROBUSTIQA_DATA_DIR")
    assert stamp.recall(noted / "run", CALL)
    real = stamp.importlib.util.find_spec
    monkeypatch.setattr(
        stamp.importlib.util,
        "find_spec",
        lambda name: real(name) if name != "attacks" else real("defenses"),
    )
    assert not stamp.recall(noted / "run", CALL), "our own code is an input"


def test_what_was_touched_while_the_run_went_on_is_not_noted(noted):
    (noted / "run" / "report" / stamp.NOTE).unlink()
    began = time.time_ns()
    for name, change in (
        ("suite.yaml", later),
        ("link", lambda path: path.unlink() or path.symlink_to(noted / "other")),
    ):
        time.sleep(0.01)
        change(noted / name)
        stamp.note(noted / "run", CALL, "stamped", [noted / name], began)
        assert not (noted / "run" / "report" / stamp.NOTE).exists()
    time.sleep(0.01)
    stamp.note(noted / "run", CALL, "stamped", [noted / "suite.yaml"], time.time_ns())
    assert stamp.recall(noted / "run", CALL)


def test_what_a_plugin_imports_is_found_wherever_it_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "near.py").write_text(PLUGIN + "    import os, torch\n")
    (tmp_path / "helper.py").write_text("import deeper.inside\nfrom spaces.one import a\n" + HELPER)
    for name in ("deeper/__init__", "deeper/inside", "deeper/beside", "spaces/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    found = stamp.imported_by([tmp_path / "near.py"])
    files = ("near.py", "helper.py", "deeper/__init__.py", "deeper/inside.py", "spaces/one.py")
    assert found == {(tmp_path / name).resolve() for name in (*files, "deeper", "spaces")}
    assert stamp.imported_by([tmp_path / "none.py"]) is None
    lines = ("importlib.import_module(name)", "exec(text)", "torch.load(path)", "open('a')", "os.environ['A']")
    for line in (*lines, "path.read_text()"):
        (tmp_path / "helper.py").write_text(f"def f():\n    {line}\n")
        assert stamp.imported_by([tmp_path / "near.py"]) is None, "what runs cannot be told from the text"
    assert set(code_of(modules=["helper"]).files) == {(tmp_path / "helper.py").resolve()}
    assert not code_of(modules=["torch", "harness.flow", "json", "nothing_of_this_name"]).files


def test_a_finished_suite_is_told_without_torch_and_a_changed_helper_takes_the_long_way(tmp_path):
    for name, text in (("suite", SUITE), ("base", BASE)):
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "near.py").write_text(PLUGIN)
    (tmp_path / "helper.py").write_text(HELPER)
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print('heavy:', sorted({'torch', 'pandas', 'yaml', 'numpy', 'pyarrow'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "run", "suite.yaml", "--plugin", "near.py", "--executor", "serial"]

    def run(*more):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rpartition("heavy: ")

    first, _, heavy = run("--no-probes")
    assert ("torch" in heavy and "1 block" in first) or "blocks run" in first
    again, _, heavy = run("--no-probes")
    assert heavy.strip() == "[]" and "nothing left to run" in again
    assert again.partition("\nstamped: ")[0] == first.partition("\nstamped: ")[0], "the same tables"
    later(tmp_path / "base.yaml")
    assert "torch" in run("--no-probes")[2], "what the suite extends was touched"
    assert run("--no-probes")[2].strip() == "[]", "and was found as it was"
    later(tmp_path / "helper.py")
    assert "torch" in run("--no-probes")[2]
    assert "torch" in run()[2], "another call"
