"""Standard output belongs to the report: whatever else prints goes to standard error, from C code and threads too."""

import ast
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import harness.cli
from harness.cli import main
from harness.cli.common import interruptions_held

PLUGIN = """
    import atexit, os, sys, threading, time
    from harness.contracts import Metric, register

    print("printed at import")
    os.write(1, b"written as C code does\\n")
    os.system("echo printed by a child")
    atexit.register(print, "printed at the end")


    def keep_on():
        while True:
            print("printed by a thread")
            time.sleep(0.05)


    threading.Thread(target=keep_on, name="mine").start()


    @register("mine")
    class Mine(Metric):
        "Prints."
        higher_is_better = False
        cite = ""

        def __init__(self):
            super().__init__()
            print("printed when built")

        def score(self, reference, dist):
            print("printed when scoring", file=sys.__stdout__)
            return (dist - reference).abs().flatten(1).mean(1)
"""
SUITE = """
name: printing
datasets: [{name: toy, references: 2, levels: 2, size: 8}]
metrics: [mine]
limit: 2
"""


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "mine.py"
    found.write_text(textwrap.dedent(PLUGIN))
    return found


def test_json_is_json_whatever_a_plugin_prints_or_leaves_running(file, toy_file, tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    command = [sys.executable, "-m", "harness", "plan", tmp_path / "suite.yaml", "--json"]
    plugins = ["--plugin", toy_file, "--plugin", file]
    done = subprocess.run([*command, *plugins], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["suite"] == "printing"
    for printed in ("at import", "by a child", "by a thread", "when built"):
        assert f"printed {printed}" in done.stderr, printed
    assert "written as C code does" in done.stderr
    assert "note: not waited for what a plugin left running: mine\n" in done.stderr


def test_before_code_is_executed_it_is_said_that_it_will_be(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("import sys\nprint('executed', file=sys.stderr)\n")
    with pytest.raises(SystemExit):
        main(["list", "--plugin", str(file), "--json"])
    said = capsys.readouterr()
    assert said.err.startswith(f"note: --plugin executes Python code with your rights: {file}\nexecuted\n")
    assert said.out == ""


def test_no_command_prints_where_it_would_go_to_standard_error_by_mistake():
    printing = []
    for path in sorted(Path(harness.cli.__file__).parent.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        prints = [call for call in calls if ast.unparse(call.func) in ("print", "typer.echo", "typer.secho")]
        printing += [path.name for call in prints if "file" not in {keyword.arg for keyword in call.keywords}]
    assert printing == ["app.py"], "--version, before any command; elsewhere say file=report_stream()"


def test_a_ctrl_c_while_something_is_imported_waits_until_it_is():
    before, imported = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), interruptions_held():
            signal.raise_signal(signal.SIGINT)
            imported.append("all of it")
        assert imported and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_an_import_turns_into_another_error_is_still_one():
    code = """
import os, signal, time
from harness import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background

def app(**_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise RecursionError("as numpy makes of it") from None

cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code, "plan"], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stderr == "error: interrupted. Nothing is kept.\n", done.stderr
    assert "Traceback" not in done.stderr
