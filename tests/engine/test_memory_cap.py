"""A cap on what a worker may take: smaller batches first, one clear failure where one image is too much; niceness."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.contracts import Metric, UserError
from harness.engine import priority
from harness.engine.batches import Batch
from harness.engine.memory import give_back_freed, resident_mib
from harness.engine.memory_cap import MemoryCap, size_in_mib
from harness.engine.scorer import Scorer
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

EACH = 48
"""MiB that the metric takes for each image: above 32, so that freed memory goes back to the system."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells what a process takes")

PLUGIN = f"""
import os
import torch
from harness.contracts import Dataset, Entry, Metric, register

@register("hungry")
class Hungry(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        held = torch.ones(len(dist), {EACH} * 2**18)
        return -(dist - reference).square().flatten(1).mean(1) + 0 * held[:, 0]

@register("tells_niceness")
class TellsNiceness(Dataset):
    labels = "none"

    def entries(self, split):
        return [Entry("one", "one")]

    def load(self, entry):
        return {{"ref": torch.zeros(3, 8, 8), "dist": torch.full((3, 8, 8), 0.5)}}

    def fingerprint(self):
        return "one"

    def notices(self):
        return [f"niceness {{os.nice(0)}}"]
"""
SUITE = """
name: capped
datasets: [toy]
metrics: [hungry]
attacks: [noise, {name: pgd, steps: 2}]
budgets: {linf: [4/255]}
directions: [up]
limit: 8
slice: 8
tables: [shift]
"""


@pytest.fixture
def run(tmp_path, toy_file):
    file = tmp_path / "hungry.py"
    file.write_text(PLUGIN, encoding="utf-8")
    registry = Registry([toy_file, file])

    def one(text, out, **options):
        suite = validate(parse_text(text, "suite.yaml"), registry)
        options = {"executor": "serial", "probe": False, **options}
        return run_suite(suite, registry, Options(out=tmp_path / out, **options))

    return one


def room(mib):
    """A cap that leaves this process so much."""
    give_back_freed()
    return int(resident_mib("VmRSS") + mib)


@pytest.mark.parametrize(
    ("text", "mib"),
    [("4GiB", 4096), ("0.5 gib", 512), ("900MiB", 900), ("4GB", 3814), ("600 mb", 572)],
)
@needs_proc
def test_sizes_are_read_by_their_units(text, mib):
    assert size_in_mib(text, "--memory") == mib


@pytest.mark.parametrize("text", ["4", "4G", "lots", "-4GiB", "1e3GiB", "4GiB each", "nanGiB", "", "9" * 400 + "GiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match=r"--memory .*should be"):
        size_in_mib(text, "--memory")


@pytest.mark.parametrize("text", ["100MiB", "0GiB"])
def test_a_cap_below_what_a_worker_takes_anyway_is_refused(text):
    with pytest.raises(UserError, match=f"{text}: should be at least 512MiB"):
        size_in_mib(text, "--memory")


class Held(Metric):
    """Takes a known share of memory for each image."""

    higher_is_better = True

    def score(self, reference, dist):
        held = torch.ones(len(dist), EACH * 2**18)
        return dist.flatten(1).mean(1) + 0 * held[:, 0]


class Broken(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        raise ValueError("no")


@needs_proc
def test_what_fits_follows_from_what_one_image_takes():
    images = torch.zeros(2, 3, 16, 16)
    item = type("Item", (), {"entry": type("E", (), {"id": "one"})})()
    batch = Batch((item, item), images, images)
    cap = MemoryCap(room(1200))
    found = cap.images(batch, [Scorer(Held())], 0, gradient=True)
    assert 1200 / (1.2 * EACH * 1.4) < found < 1200 / (1.2 * EACH * 0.85)
    assert cap.images(batch, [Scorer(Broken())], 0, gradient=True) == float("inf"), "its error is told by the work"


@needs_proc
def test_batches_become_smaller_before_the_cap_is_met(run):
    whole = run(SUITE, "whole").data.records.set_index(["item", "attack"]).sort_index()
    cap = room(5 * EACH)
    result = run(SUITE, "capped", memory=cap)
    assert result.failed == 0 and resident_mib("VmHWM") <= cap
    rows = result.data.records.set_index(["item", "attack"]).sort_index()
    assert whole["batch"].eq(8).all() and rows["batch"].between(1, 4).all()
    pd.testing.assert_index_equal(rows.index, whole.index)
    assert np.allclose(rows[["clean", "attacked", "linf"]], whole[["clean", "attacked", "linf"]], atol=1e-6)
    said = [note for note in result.data.notices if note.startswith(f"Under --memory {cap:,} MiB: hungry on toy")]
    assert len(said) == 1 and "in batches of at most" in said[0] and not any("Out of" in n for n in result.data.notices)


@needs_proc
def test_what_is_packed_stays_below_the_cap_too(run):
    text = SUITE.replace("[up]", "[up, down]").replace("4/255]", "2/255, 4/255, 8/255]")
    cap = room(16 * EACH)
    result = run(text, "packed", memory=cap, batch_memory=64 * EACH)
    assert result.failed == 0 and resident_mib("VmHWM") <= cap
    assert 8 < result.data.records["batch"].max() <= 16 and result.data.records["batch"].min() == 8
    assert not [note for note in result.data.notices if "--memory" in note], "of the cap it is not halved"


@needs_proc
def test_a_cap_that_one_image_overruns_is_one_clear_failure(run):
    cap = room(EACH // 3)
    result = run(SUITE, "small", memory=cap)
    messages = {failure.message for failure in result.data.failures}
    assert result.failed and all(
        f"--memory allows {cap:,} MiB, and the worker took" in m and "Traceback" not in m for m in messages
    )
    blocks = [m for m in messages if "on one image of 16 x 16. Allow more, or take smaller images" in m]
    assert blocks or all("calibrate" in m for m in messages)


@pytest.mark.parametrize(("now", "asked", "then"), [(0, 10, 10), (15, 10, 15), (5, 19, 19), (3, 0, 3)])
def test_workers_stand_back_and_never_forward(monkeypatch, now, asked, then):
    level = [now]

    def nice(by):
        level[0] += by
        return level[0]

    monkeypatch.setattr(os, "nice", nice, raising=False)
    priority.stand_back(asked)
    assert level[0] == then


@pytest.mark.skipif(not hasattr(os, "nice"), reason="this system has no niceness")
def test_worker_processes_have_the_niceness_that_was_asked_for(run):
    text = (
        SUITE.replace("[toy]", "[tells_niceness]").replace("[hungry]", "[psnr]").replace(", {name: pgd, steps: 2}", "")
    )
    expected = max(os.nice(0), 12)
    result = run(text, "nice", executor="processes", workers=1, nice=12)
    assert f"niceness {expected}" in result.data.notices
    assert Options().nice == priority.NICE == 10
