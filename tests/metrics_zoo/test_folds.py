"""The metric `folds`: every row by the member that its reference's pixels choose, in any batch, with gradients."""

import hashlib

import numpy as np
import pytest
import torch

from harness.contracts import DataError, fingerprint
from harness.plugins.build import build_metric
from harness.testing.common import take_rows
from harness.testing.probes import probe_metric

TINY = {"channels": 8, "stem_channels": 4, "head": 8}


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    ref = (torch.rand(4, 3, 64, 64, generator=generator) * 255).round() / 255
    return ref, (ref + 0.05 * torch.randn(ref.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def folds(images):
    """Three members that score differently, and a table of the first three images: held out by 2, 0 and 2."""
    metric = build_metric("folds", {"parameters": TINY, "folds": 3, "references": 3})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in metric.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    table = [list(fingerprint(image)) for image in images[0][:3]]
    state = {"fingerprints": torch.tensor(table, dtype=torch.uint8), "held_out": torch.tensor([2, 0, 2])}
    metric.load_state_dict({**metric.state_dict(), **state})
    return metric.eval()


def test_a_fingerprint_is_the_sha256_of_size_and_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert fingerprint(image) == hashlib.sha256(b"7x5\0" + pixels.tobytes()).digest()
    assert fingerprint(image + 1e-4) == fingerprint(image) != fingerprint(image.flip(2))


def test_each_row_is_scored_by_the_member_that_held_its_reference_out(folds, images):
    order = [1, 0, 2, 0, 1]
    ref, dist = (part[order] for part in images)
    with torch.no_grad():
        scores = folds(ref=ref, dist=dist)
        by_hand = [
            folds.members[(2, 0, 2)[i]](ref=ref[j : j + 1], dist=dist[j : j + 1])[0] for j, i in enumerate(order)
        ]
        encoded = folds.encode(ref)
        soft = folds.surrogate(encoded, dist)
        some = folds.score(take_rows(encoded, torch.tensor([3, 0])), dist[[3, 0]])
    assert torch.allclose(scores, torch.stack(by_hand), atol=1e-5)
    with torch.no_grad():
        first = folds.members[0].surrogate(folds.members[0].encode(ref[:1]), dist[:1])
    assert torch.allclose(soft[0], first[0], atol=1e-5) and not torch.equal(soft, scores)
    assert len({round(float(s), 4) for s in scores}) == 3
    assert torch.allclose(some, scores[[3, 0]], atol=1e-5)


def test_gradients_reach_each_row_alone(folds, images):
    ref, dist = images[0][:3], images[1][:3].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(folds(ref=ref, dist=dist)[1], dist)
    assert bool(gradient[1].abs().sum() > 0)
    assert not gradient[[0, 2]].any()


def test_an_unknown_reference_is_refused_with_a_cure(folds, images):
    with pytest.raises(DataError, match=r"64 x 64 px is none of the 3 that its folds.*Give images of the data set"):
        folds.encode(images[0][3:])
    assert probe_metric(folds, "folds", trained=False)["faults"] == []


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_table_of_members_that_are_not_there_is_refused(folds, wrong):
    state = folds.state_dict()
    state["held_out"] = torch.tensor([0, wrong, 2])
    with pytest.raises(DataError, match=rf"member {wrong} held .*members are 0 to 2\. Restore the weight file"):
        folds.load_state_dict(state)


def test_without_weights_any_reference_is_taken(images):
    metric = build_metric("folds", {"parameters": TINY, "folds": 3})
    member, _ = metric.encode(images[0])
    assert member.tolist() == [int.from_bytes(fingerprint(image), "big") % 3 for image in images[0]]


def test_traits_are_the_members():
    assert build_metric("folds", {"metric": "lpips-alex", "folds": 2}).higher_is_better is False
    tiny = build_metric("folds", {"parameters": TINY})
    assert (tiny.higher_is_better, tiny.exact_gradient, tiny.minimum_size) == (True, False, 64)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"metric": "folds"}, "cannot be folds"),
        ({"metric": "psnr"}, "'psnr' has nothing to train"),
        ({"folds": 1}, "folds should be at least 2"),
        ({"references": 0}, "references should be at least 1"),
        ({"parameters": {"chanels": 8}}, "'birqa-tiny' has no parameter 'chanels'. Did you mean 'channels'"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        build_metric("folds", parameters)
