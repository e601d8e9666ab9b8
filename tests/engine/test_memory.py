"""Memory that is too short: batches are halved, the run goes on, and the report says so."""

import numpy as np
import pandas as pd
import pytest
import torch

from harness.engine.batches import SampleError
from harness.engine.memory import out_of_memory
from harness.engine.scorer import Scorer
from harness.report.build import build_tables
from tests.toys.stored import records, remove

SUITE = """
name: shortage
datasets: [toy]
metrics: [ssim]
attacks: [noise, fgsm, pgd, guess]
budgets: {linf: [2/255, 4/255]}
directions: [up, down]
slice: 8
limit: 16
tables: [srocc, shift]
"""
KEYS = ["item", "attack", "sign", "eps"]


@pytest.fixture
def short_of(monkeypatch):
    """Lets no more than so many images be scored at once, with or without a gradient."""

    def limit(with_gradient, without=10**6, error=torch.OutOfMemoryError):
        scored = Scorer.quality

        def quality(self, reference, dist, *, inspect=False):
            if len(dist) > (with_gradient if torch.is_grad_enabled() else without):
                raise error("CUDA out of memory. Tried to allocate 20.00 GiB")
            return scored(self, reference, dist, inspect=inspect)

        monkeypatch.setattr(Scorer, "quality", quality)

    return limit


def rows(result):
    return result.data.records.sort_values([*KEYS, "draw"]).set_index(KEYS)


@pytest.mark.parametrize(
    ("together", "with_gradient", "without", "error"),
    [(True, 3, 10**6, torch.OutOfMemoryError), (False, 10**6, 2, RuntimeError), (True, 1, 1, MemoryError)],
)
def test_a_run_goes_on_in_smaller_batches(run_toy, tmp_path, short_of, together, with_gradient, without, error):
    text = SUITE + f"batch_budgets: {str(together).lower()}\n"
    whole = rows(run_toy(text, tmp_path / "whole"))
    short_of(with_gradient, without, error)
    result = run_toy(text, tmp_path / "short")
    assert result.failed == 0
    halved = rows(result)
    pd.testing.assert_index_equal(halved.index, whole.index)
    for column in ("clean", "attacked", "attacked_8bit", "linf"):
        assert np.allclose(halved[column], whole[column], atol=1e-5), column
    pd.testing.assert_frame_equal(
        halved[["forwards", "backwards", "queries"]], whole[["forwards", "backwards", "queries"]]
    )
    assert halved["batch"].min() <= min(with_gradient, without), "the records say how large the batches were"
    said = [note for note in result.data.notices if "Out of memory" in note]
    assert len(said) == 1 and "ssim on toy" in said[0] and "at most" in said[0]
    assert said[0] in build_tables(result.data)[0].notes


def test_one_image_that_is_too_large_fails_with_the_cure(run_toy, tmp_path, short_of):
    short_of(0)
    result = run_toy(SUITE, tmp_path / "run")
    assert result.failed == 16, "two attacks with gradients, two directions, two radii, two slices"
    assert {"out of memory on one image of" in failure.message for failure in result.data.failures} == {True}
    assert {"Take smaller images" in failure.message for failure in result.data.failures} == {True}


def test_a_fit_begins_again_with_smaller_batches(run_toy, tmp_path, short_of):
    text = SUITE.replace("noise, fgsm, pgd, guess", "{name: facpa, width: 2, depth: 1, iterations: 2}")
    short_of(3)
    result = run_toy(text, tmp_path / "run")
    assert result.failed == 0
    assert any("fitting facpa" in note and "batches of 2" in note for note in result.data.notices)


def test_what_counts_as_a_lack_of_memory():
    try:
        try:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        except RuntimeError as error:
            raise SampleError("t0", "ssim failed") from error
    except SampleError as error:
        assert out_of_memory(error)
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("metric", ["ssim", "birqa-tiny"])
def test_budgets_in_one_batch_give_what_they_give_apart(run_toy, tmp_path, metric):
    text = SUITE.replace("metrics: [ssim]", f"metrics: [{metric}]").replace("limit: 16", "limit: 8")
    apart, together = (
        run_toy(text.replace("[toy]", "[{name: toy, size: 64, references: 2}]") + more, tmp_path / name)
        for name, more in (("apart", ""), ("together", "batch_budgets: true\n"))
    )
    assert together.failed == 0
    ours, theirs = rows(together), rows(apart)
    pd.testing.assert_index_equal(ours.index, theirs.index)
    control = ours.index.get_level_values("attack").isin(["clean", "noise"])
    assert ours["batch"][~control].eq(16).all() and ours["batch"][control].eq(8).all()
    pd.testing.assert_frame_equal(
        ours[["forwards", "backwards", "queries"]], theirs[["forwards", "backwards", "queries"]]
    )
    spread = theirs["clean"].std()
    assert np.abs(ours["attacked"] - theirs["attacked"]).max() < 0.02 * spread, "signs of tiny gradients may turn round"


def test_budgets_in_one_batch_do_not_depend_on_what_is_pending(run_toy, tmp_path):
    text = SUITE.replace("metrics: [ssim]", "metrics: [birqa-tiny]").replace(
        "[toy]", "[{name: toy, size: 64, references: 2}]"
    )
    text = text.replace("limit: 16", "limit: 8") + "batch_budgets: true\n"
    whole = rows(run_toy(text, tmp_path / "run"))
    lost = [one for one, frame in records(tmp_path / "run").items() if "pgd" in set(frame["attack"])]
    remove(tmp_path / "run", lost[0])
    again = rows(run_toy(text, tmp_path / "run"))
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
