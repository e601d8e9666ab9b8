"""The benchmark for GPUs runs, on a CPU and in small."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_every_part_runs_and_a_cpu_agrees_with_itself(tmp_path):
    pytest.importorskip("torchattacks")
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--short", "--out", str(tmp_path / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "gpu" / "README.md").read_text(encoding="utf-8")
    assert "SHORT: the figures mean nothing" in page and "| birqa-tiny | pgd(steps=2) down | 0 |" in page
    assert all(
        title in page
        for title in (
            "Numbers: ",
            "PGD-10, ",
            "Frames per second, ",
            "torchattacks, cached",
            "In flight: ",
            "| torch.compile |",
        )
    )
