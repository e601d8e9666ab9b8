"""Several cells in flight: packed into one batch, read ahead, written behind; with the results of doing them apart."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch

from harness.engine.behind import Behind
from harness.engine.costs import Key
from harness.engine.memory_cap import batch_memory
from harness.engine.packing import Packing
from harness.engine.peak import PeakMeter
from harness.engine.run_folder import RunFolder, StoreError
from harness.engine.scorer import Scorer
from harness.errors import UserError

SUITE = """
name: in_flight
datasets: [{datasets}]
metrics: [{metric}]
attacks: [{attacks}]
budgets: {{linf: [2/255, 4/255]{more}}}
directions: [{directions}]
slice: 8
save_examples: 3
tables: [{tables}]
"""
PAIRS = {
    "datasets": "{name: toy, levels: 3}",
    "metric": "ssim",
    "attacks": "noise, restarts, fgsm, guess, learnt",
    "directions": "up, down, error",
    "tables": "srocc",
    "more": "",
}
TRIPLETS = {
    "datasets": "{name: toy_triplets, references: 12}",
    "metric": "ssim",
    "attacks": "fgsm",
    "directions": "up, down, self_split",
    "tables": "two_afc",
    "more": "",
}
SIZES = {
    **PAIRS,
    "datasets": "toy_sizes",
    "attacks": "{name: pgd, steps: 2}",
    "directions": "up, down",
    "more": ", l2: [0.5]",
}
"""Of two image sizes in each slice, and of two norms."""
KEYS = ["defense", "item", "attack", "endpoint", "eps", "draw"]
COUNTED = ["forwards", "backwards", "queries", "sign", "status"]
NUMBERS = ["clean", "attacked", "attacked_8bit", "linf", "l2"]


def rows(result):
    return result.data.records.sort_values(KEYS).set_index(KEYS)


@pytest.mark.parametrize(
    ("what", "defense", "sizes"),
    [(PAIRS, "jitter", {"up": 24, "error": 16}), (TRIPLETS, "", {"up": 24}), (SIZES, "", {"up": 28})],
)
def test_cells_in_flight_give_what_they_give_apart(run_toy, tmp_path, what, defense, sizes):
    text = SUITE.format(**what) + (f"defenses: [{{name: {defense}, threat: adaptive, eot: 2}}]\n" if defense else "")
    apart, packed = run_toy(text, tmp_path / "apart"), run_toy(text, tmp_path / "packed", batch_memory=4096)
    ours, theirs = rows(packed), rows(apart)
    assert apart.failed == packed.failed == 0
    pd.testing.assert_frame_equal(ours[COUNTED], theirs[COUNTED])
    assert np.allclose(ours[NUMBERS], theirs[NUMBERS], atol=1e-5, equal_nan=True)
    at_once = ours.groupby("endpoint")["batch"].max()
    assert {key: at_once[key] for key in sizes} == sizes, (
        "of each slice, what the first radius took tells how much of the rest is attacked at once"
    )
    kept = [[(one.attack, one.direction, one.eps, one.clean) for one in run.examples()] for run in (apart, packed)]
    assert kept[0] == kept[1] and len(kept[0]) > 10
    again = run_toy(text, tmp_path / "packed")
    assert again.jobs == 0, "how much was attacked at once is part of no identity"


def test_a_fault_in_a_pack_is_that_of_its_sample_alone(run_toy, tmp_path):
    text = SUITE.format(
        **{**PAIRS, "metric": "{name: nan_at, below: 0.4}", "attacks": "fgsm, guess", "directions": "up, down"}
    )
    apart, packed = run_toy(text, tmp_path / "apart"), run_toy(text, tmp_path / "packed", batch_memory=4096)
    assert apart.failed == packed.failed > 0
    assert apart.failures == packed.failures
    pd.testing.assert_frame_equal(rows(packed)[COUNTED], rows(apart)[COUNTED])


def test_a_pack_that_was_too_much_is_made_smaller(run_toy, tmp_path, monkeypatch):
    scored = Scorer.quality

    def quality(self, reference, dist, *, inspect=False):
        if len(dist) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return scored(self, reference, dist, inspect=inspect)

    monkeypatch.setattr(Scorer, "quality", quality)
    text = SUITE.format(**{**PAIRS, "datasets": "toy", "attacks": "fgsm", "directions": "up, down"})
    result = run_toy(text, tmp_path / "run", batch_memory=4096)
    assert result.failed == 0 and not any("Out of memory" in note for note in result.data.notices)
    assert 8 < rows(result)["batch"].max() <= 20, "the batches of slices themselves were never too large"


def test_what_fits_is_what_was_measured():
    key, meter = Key("attack", "s", "m", "a", 1, "cpu"), PeakMeter(torch.device("cpu"))
    packing = Packing(meter, 1000)
    assert packing.rows(key, 512, 384) is None, "of what was never measured nothing is known"
    meter.highest[key, 512, 384] = 50.0
    assert packing.rows(key, 512, 384) == int(1000 / (1.2 * 50))
    packing.fewer(key, 512, 384, 12)
    assert packing.rows(key, 512, 384) == 6
    meter.highest[key, 4096, 4096] = 2000.0
    assert packing.rows(key, 4096, 4096) == 1


def test_images_are_read_ahead_and_records_written_behind(run_toy, tmp_path, monkeypatch):
    from harness.datasets.mini import Mini

    readers, writers, load, write = set(), set(), Mini.load, RunFolder._write_now

    def noted(seen, function):
        def called(self, *given):
            seen.add((threading.current_thread().name.partition("_")[0], str(given[0])))
            return function(self, *given)

        return called

    monkeypatch.setattr(Mini, "load", noted(readers, load))
    monkeypatch.setattr(RunFolder, "_write_now", noted(writers, write))
    text = SUITE.format(**{**PAIRS, "datasets": "mini", "metric": "psnr", "attacks": "fgsm", "directions": "up"})
    result = run_toy(text.replace("slice: 8", "slice: 2\nlimit: 6"), tmp_path / "run", batch_memory=64)
    assert result.failed == 0 and len(result.data.records) == 3 * 6
    assert {thread for thread, _ in readers} == {"MainThread", "decoded-ahead"}
    assert {path.split("run/")[1].split("/")[0] for thread, path in writers if thread == "written-behind"} == {
        "records",
        "examples",
    }


def test_what_a_write_behind_raises_is_raised_by_the_next_one():
    def full():
        raise StoreError("no room")

    with Behind() as behind:
        behind.put(full)
        with pytest.raises(StoreError, match="no room"):
            for _ in range(200):
                behind.put(lambda: None)
    with pytest.raises(StoreError, match="no room"), Behind() as behind:
        behind.put(full)


@pytest.mark.parametrize(("text", "mib"), [("0", 0), ("8GiB", 8192), ("300 MiB", 300)])
def test_sizes_of_batches(text, mib):
    assert batch_memory(text, "--max-batch-memory") == mib


@pytest.mark.parametrize("text", ["much", "-1GiB", "0.1MiB", "8"])
def test_sizes_of_batches_that_are_none(text):
    with pytest.raises(UserError, match=r"--max-batch-memory .*should be"):
        batch_memory(text, "--max-batch-memory")
