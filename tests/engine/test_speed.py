"""Frames per second: of a metric that sleeps, the protocol's own figures, and what cannot be timed."""

import json

import pandas as pd
import pytest

from harness.cli import main
from harness.engine.speed import Speed

SLEEPER = '''
import time
import torch
from harness.contracts import Metric, register


@register("sleeper")
class Sleeper(Metric):
    """Takes a tenth of a second for the reference and as much for the score, and holds 32 MiB."""

    higher_is_better = True
    minimum_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.held = torch.nn.Parameter(torch.ones(8 * 2**20))

    def encode(self, ref):
        time.sleep(0.1)
        return ref

    def score(self, reference, dist):
        time.sleep(0.1)
        return self.held[:1] - (reference - dist).abs().mean(dim=(1, 2, 3))
'''


@pytest.fixture
def sleeper(tmp_path):
    path = tmp_path / "sleeper.py"
    path.write_text(SLEEPER)
    return path


def call(*words):
    with pytest.raises(SystemExit) as end:
        main(["fps", *map(str, words)])
    return end.value.code


def test_a_metric_that_sleeps_is_timed_end_to_end(sleeper, tmp_path):
    out = tmp_path / "speeds.csv"
    size = ("--size", "48x40", "--forwards", 3, "--warmup", 1, "--device", "cpu", "--threads", 1)
    assert not call("sleeper", *size, "--plugin", sleeper, "--out", out)
    row = pd.read_csv(out).iloc[0]
    assert 0.2 <= row["seconds_low"] <= row["seconds_median"] <= row["seconds_high"] < 1, "both parts, and little else"
    assert 1 < row["fps"] < 5 and row["parameters"] == 8 * 2**20
    assert row["peak_memory"] - row["memory_before"] > 30, "MiB, of a process of its own"
    assert (row["width"], row["height"], row["forwards"], row["warmup"], row["threads"]) == (48, 40, 3, 1, 1)
    page = json.loads(out.with_suffix(".json").read_text())
    assert len(page["seconds"]["sleeper"]) == 3 and page["machine"]["cores"] and page["versions"]["torch"]


def test_the_rate_is_one_over_the_mean_time():
    row = Speed((0.1, 0.2, 0.3, 0.4), 5, 100.0, 50.0, 64, 64, "cpu", 1).row()
    assert row["fps"] == pytest.approx(4.0) and row["fps_median"] == pytest.approx(4.0)
    assert row["seconds_sd"] == pytest.approx(0.129099, rel=1e-5) and row["fps_low"] == pytest.approx(1 / 0.325)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("psnr", "--size", "12"), "--size 12: should be WIDTHxHEIGHT"),
        (("psnr", "--size", "0x5"), "--size 0x5"),
        (("psnr", "--out", "fps.txt"), "should end in .csv"),
        (("psnr", "--figures", "pdf"), "--against"),
        (("psnr", "--figures", "bmp", "--against", "x"), "'bmp' is no format"),
        (("psnr", "--dataset", "mini_2afc"), "triplets"),
        (("psnr", "--against", "nowhere"), "no run folder"),
        (("nope",), "unknown metric 'nope'"),
    ],
)
def test_what_cannot_be_timed_is_named(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
