import csv

import pytest
import torch
from torch import nn

from metrics_zoo.topiq import TOPIQ, Attention, DecoderLayer, EncoderLayer


@pytest.fixture(scope="module")
def shapes(test_data):
    """Name -> shape of every tensor of the published checkpoint."""
    with (test_data / "topiq" / "state_dict.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {r["name"]: () if r["shape"] == "scalar" else tuple(map(int, r["shape"].split("x"))) for r in rows}


@pytest.fixture(scope="module")
def metric():
    return TOPIQ().eval().requires_grad_(False)


def pair(height, width, count=2, dtype=torch.float32):
    ref, noise = torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return ref, (ref * 0.8 + 0.2 * noise).clamp(0, 1)


def test_names_and_shapes_are_those_of_the_published_checkpoint(shapes, metric):
    assert {name: tuple(tensor.shape) for name, tensor in metric.state_dict().items()} == shapes


def test_published_scores_on_deterministic_weights(shapes, fixture):
    metric = TOPIQ()
    metric.load_state_dict(fixture.weights(shapes))
    metric.eval().requires_grad_(False)
    for size, (distorted, same) in fixture.TOPIQ_EXPECTED.items():
        ref, dist = fixture.images(*size)
        reference = metric.encode(ref)
        assert float(metric.score(reference, dist)) == pytest.approx(distorted, abs=1e-4)
        assert float(metric.score(reference, ref)) == pytest.approx(same, abs=1e-4)


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(), nn.MultiheadAttention(256, 4, batch_first=True)
    nn.init.uniform_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.rand(2, 5, 256), torch.rand(2, 7, 256)
    assert torch.allclose(ours(query, memory), theirs(query, memory, memory)[0], atol=1e-6)
    assert torch.allclose(ours(query), theirs(query, query, query)[0], atol=1e-6)


def test_encoder_layer_is_that_of_torch():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", batch_first=True, norm_first=True)
    ours = EncoderLayer()
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.rand(2, 6, 256)
    assert torch.allclose(ours(tokens), theirs(tokens), atol=1e-5)


def test_decoder_layer_ignores_its_self_attention():
    layer = DecoderLayer()
    query, tokens = torch.rand(1, 4, 256), torch.rand(1, 6, 256)
    before = layer(query, tokens)
    nn.init.ones_(layer.self_attn.in_proj_weight)
    assert torch.equal(layer(query, tokens), before)


def test_building_leaves_the_global_generator_alone_and_does_not_depend_on_it(metric):
    before = torch.get_rng_state()
    again = TOPIQ()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(metric.parameters(), again.parameters(), strict=True))


def test_encode_and_score_is_the_only_path(metric):
    ref, dist = pair(64, 81)
    reference = metric.encode(ref)
    once = metric.score(reference, dist)
    assert torch.equal(once, metric(ref=ref, dist=dist))
    assert torch.equal(once, metric.score(reference, dist))


def test_score_runs_the_trunk_on_the_distorted_images_alone(metric):
    ref, dist = pair(64, 64)
    batches = []
    hook = metric.semantic_model.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    reference = metric.encode(ref)
    metric.score(reference, dist)
    metric.score(reference, dist)
    hook.remove()
    assert batches == [2, 2, 2]


@pytest.mark.parametrize("size", [(32, 32), (33, 100), (40, 224), (1, 1)])
def test_any_size(metric, size):
    ref, dist = pair(*size)
    dist.requires_grad_()
    score = metric(ref=ref, dist=dist)
    (gradient,) = torch.autograd.grad(score.sum(), dist)
    assert score.shape == (2,) and score.isfinite().all() and gradient.isfinite().all()


def test_gradient_agrees_with_finite_differences():
    metric = TOPIQ().double().eval().requires_grad_(False)
    ref, dist = pair(72, 64, 1, torch.float64)
    reference = metric.encode(ref)
    leaf = dist.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric.score(reference, leaf).sum(), leaf)
    direction = torch.randn(dist.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-7 * direction
    difference = (metric.score(reference, dist + step) - metric.score(reference, dist - step)) / 2e-7
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)
