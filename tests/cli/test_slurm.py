"""The script of a job array, run by a scheduler that does each job at once, the tasks of an array side by side."""

import math
import os
import subprocess
import sys

import pytest

from harness.cli import main
from harness.cli.slurm import _check
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from tests.toys.stored import all_records

SBATCH = """#!/bin/bash
if [[ "${REFUSED:-}" ]]; then  # does nothing, and takes all stages before this one
  [[ "${@: -1}" == "$REFUSED" ]] && exit 1
  echo submitted >> "$NUMBERS"
  echo $((4710 + $(wc -l < "$NUMBERS")))
  exit
fi
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


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, *capsys.readouterr()


def submitted(*arguments):
    return subprocess.run(["bash", "mine.slurm.sh", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("time", ["90", "90:00", "8:00:00", "2-0", "2-12:30", "2-12:30:00", "unlimited"])
def test_each_form_of_time_that_sbatch_takes(time):
    _check(1, time, "short,long-2")
    for wrong in (f"{time}x", f"{time}\n", f"{time}:0:0:0"):
        with pytest.raises(UserError):
            _check(1, wrong, None)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_job_array_does_the_suite(toy_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "mine.slurm.sh"
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ndatasets: [toy]\nmetrics: [negative_mse]\nattacks: [pgd]\nbudgets: {linf: [4/255]}\n"
        "directions: [up]\nverdicts: false\n"
    )
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    asked = ["slurm", "mine.yaml", "--shards", "2", "--plugin", str(toy_file), "--out", "a run"]
    code, out, _ = called(capsys, *asked, "--account", "lab")
    assert code == 0 and "2 shards of 3 blocks" in out and "no GPU (--device cpu" in out and "4 h 00 min" in out
    assert "bash mine.slurm.sh" in out and "\n#SBATCH --account=lab\n# No --mem: of 2 kinds" in script.read_text()
    script.write_text(edited := script.read_text().replace("--account=lab", "--account=mine"))
    code, out, said = called(capsys, *asked)
    assert code == 2 and "nothing is overwritten" in said and script.read_text() == edited
    assert submitted().stderr.startswith("not submitted: there is no sbatch here.")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(tmp_path / "submitted"))
    monkeypatch.setenv("NUMBERS", str(tmp_path / "numbers"))
    for stage, left in (
        ("facts", "Nothing is submitted."),
        ("fits", "Facts 4711 are submitted; 'scancel 4711' takes them back."),
        ("blocks", "Facts 4711 and fits 4712 are submitted; 'scancel 4711 4712' takes them back."),
    ):
        (tmp_path / "numbers").write_text("")
        monkeypatch.setenv("REFUSED", stage)
        told = submitted()
        assert told.returncode == 1 and told.stderr == f"not submitted: sbatch refused the {stage}. {left}\n"
        assert not told.stdout
    monkeypatch.delenv("REFUSED")
    told = submitted()
    assert told.returncode == 0 and "submitted: facts 7, fits 7, blocks 7" in told.stdout, told.stderr
    lines = (tmp_path / "submitted").read_text().splitlines()
    assert [line.split(" /")[0] for line in lines] == [
        "--parsable", "--parsable --dependency=afterany:7", "--parsable --dependency=afterany:7 --array=0-1 --output=mine.slurm/%x-%A_%a.txt",
    ]  # fmt: skip
    records = all_records(tmp_path / "a run")
    assert set(records["attack"]) == {"clean", "pgd"}
    status = submitted("status")
    assert "shards: 2 of 2 done." in status.stdout and "; all of them are done." in status.stdout
    code, out, said = called(capsys, *asked, "--cpus", "3", "--shards", "1001", "--time", "8", "--force")
    costs = RunFolder(tmp_path / "a run").read_provenance("costs")
    mib = max(peak["base"] + 8 * peak["mib"] for cost in costs for peak in cost["peaks"])
    gib = math.ceil((3 * 1.25 * mib + 1024) / 1024)
    assert (
        code == 0
        and f"{gib}G of memory and up to 8 min 0 s" in out
        and f"\n#SBATCH --mem={gib}G\n" in script.read_text()
    )
    assert (
        "there are 3 blocks; more shards" in said and "MaxArraySize" in said and "--time 8: to Slurm that is 8" in said
    )
    assert called(capsys, *asked, "--gpus", "2")[0] == called(capsys, *asked, "--mem", "8 GB")[0] == 2
