"""The script of a job array, run by a scheduler that does each job at once, the tasks of an array side by side."""

import os
import subprocess
import sys

import pytest

from harness.cli import main
from harness.cli.slurm import _check
from harness.errors import UserError
from tests.toys.stored import all_records

SBATCH = """#!/bin/bash
echo "$@" >> "$SUBMITTED"
last=0
while [[ "$1" == --* ]]; do
  [[ "$1" == --array=* ]] && last="${1#--array=0-}"
  shift
done
for i in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$i bash "$@" >&2 & done
wait
echo "7;federated"
"""


@pytest.mark.parametrize("time", ["90", "90:00", "8:00:00", "2-0", "2-12:30", "2-12:30:00", "unlimited"])
def test_each_form_of_time_that_sbatch_takes(time):
    _check(1, time, "short,long-2")
    for wrong in (f"{time}x", f"{time}\n", f"{time}:0:0:0"):
        with pytest.raises(UserError):
            _check(1, wrong, None)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_job_array_does_the_suite(toy_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ndatasets: [toy]\nmetrics: [negative_mse]\nattacks: [pgd]\nbudgets: {linf: [4/255]}\n"
        "directions: [up]\nverdicts: false\n"
    )
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(SystemExit) as ended:
        main(["slurm", "mine.yaml", "--shards", "2", "--plugin", str(toy_file), "--gpus", "0", "--out", "a run"])
    assert ended.value.code == 0 and "bash mine.slurm.sh" in capsys.readouterr().out
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(tmp_path / "submitted"))
    told = subprocess.run(["bash", "mine.slurm.sh"], capture_output=True, text=True)
    assert told.returncode == 0 and "submitted: facts 7, fits 7, blocks 7" in told.stdout, told.stderr
    submitted = (tmp_path / "submitted").read_text().splitlines()
    assert [line.split(" /")[0] for line in submitted] == [
        "--parsable", "--parsable --dependency=afterany:7", "--parsable --dependency=afterany:7 --array=0-1",
    ]  # fmt: skip
    records = all_records(tmp_path / "a run")
    assert set(records["attack"]) == {"clean", "pgd"}
    status = subprocess.run(["bash", "mine.slurm.sh", "status"], capture_output=True, text=True)
    assert "shards: 2 of 2 done." in status.stdout and "; finished." in status.stdout
