"""Worker processes: a Ctrl-C while they import, and one that a plugin brings down."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUITE = """
name: imports
datasets: [toy]
metrics: [negative_mse]
attacks: [noise]
budgets: {linf: [4/255]}
directions: [up]
"""


def server_of(pid):
    """The process that a run's workers are to be copies of."""
    for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "forkserver" in Path(f"/proc/{number}/cmdline").read_text():
            return int(number)
    return None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("when", ["imports", "works"])
def test_a_ctrl_c_is_neither_a_traceback_nor_a_failure(when, toy_file, tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    run = [
        sys.executable,
        "-m",
        "harness",
        "run",
        tmp_path / "suite.yaml",
        "--out",
        tmp_path / "run",
        "-q",
        "--no-probes",
    ]
    options = ["--plugin", toy_file, "--executor", "processes", "--workers", "1"]
    # As from a terminal, every process of the group hears it, also where the tests run in the background of a shell.
    heard = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen([*run, *options], stderr=subprocess.PIPE, text=True, **heard)
    deadline = time.monotonic() + 120
    found = (lambda: server_of(process.pid)) if when == "imports" else (tmp_path / "run" / "suite.yaml").exists
    while not found():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    server = server_of(process.pid)
    time.sleep(0.2)  # Python has started, and imports what it is to do
    with contextlib.suppress(ProcessLookupError):  # of a slow machine, where it is over by now
        os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said and "KeyboardInterrupt" not in said, said
    assert not list((tmp_path / "run" / "failures").glob("*"))
    assert not Path(f"/proc/{server}").exists()


def test_who_brought_a_worker_down_is_told(run_toy, toy_file, tmp_path):
    text = SUITE.replace("[noise]", "[dies_here]") + "limit: 2\n"
    result = run_toy(text, tmp_path / "run", executor="processes", workers=1)
    assert {failure.message for failure in result.failures} == {
        f"its worker process died 2 times: it was ended by SIGKILL in attack 'dies_here' from {toy_file}: perturb(), "
        "as the kernel does where memory runs out"
    }
