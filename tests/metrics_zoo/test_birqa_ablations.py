import pytest
import torch
from torch import nn

from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve
from metrics_zoo.birqa import BiRQA
from metrics_zoo.birqa.ablations import CrossAttention, Multiplication, PooledHead

SMALL = {"channels": 8, "stem_channels": 4, "head": 4}
SWITCHES = ("csram", "scgb", "rah")
OWN = {"csram": "strength_confidence", "scgb": "gates.0.mlp", "rah": "reliabilities"}
"""A part of the name of parameters that only the module itself has."""


def pair(height=64, width=72):
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
    ref = nn.functional.avg_pool2d(ref, 5, 1, 2, count_include_pad=False)
    return ref, (ref + 0.02 * torch.randn(ref.shape, generator=generator, dtype=torch.float64)).clamp(0.01, 0.99)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_replaces_its_module_and_no_other(switch):
    whole, without = BiRQA(**SMALL).double(), BiRQA(**SMALL, **{switch: False}).double()
    kept = {key: value.shape for key, value in without.state_dict().items()}
    for name, mark in OWN.items():
        assert any(mark in key for key in whole.state_dict())
        assert any(mark in key for key in kept) == (name != switch)
    # What is left has the same weights, so only the module makes the difference.
    without.load_state_dict({key: value for key, value in whole.state_dict().items() if key in kept}, strict=False)
    ref, dist = pair()
    assert not torch.allclose(whole(ref=ref, dist=dist), without(ref=ref, dist=dist))


@pytest.mark.parametrize("chosen", [*((switch,) for switch in SWITCHES), SWITCHES])
def test_ablated_scores_are_finite_and_agree_with_finite_differences(chosen):
    metric = BiRQA(**SMALL, features=["ssim", "info", "color"], **dict.fromkeys(chosen, False)).double()
    metric.requires_grad_(False)
    ref, dist = pair()
    reference = metric.encode(ref)
    (gradient,) = torch.autograd.grad(metric.score(reference, dist.requires_grad_()).sum(), dist)
    direction = torch.randn(dist.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = (metric.score(reference, dist + step) - metric.score(reference, dist - step)) / 2e-6
    assert gradient.isfinite().all()
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("size", [(64, 64), (67, 101)])
def test_ablated_metrics_take_any_size(size):
    metric = BiRQA(**SMALL, csram=False, scgb=False, rah=False).double()
    ref, dist = pair(*size)
    assert metric(ref=ref, dist=dist).isfinite().all()


def test_cross_attention_agrees_with_torch():
    module = CrossAttention(8).double()
    peer = nn.MultiheadAttention(8, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([module.query.weight, module.key_value.weight])[:, :, 0, 0])
        peer.in_proj_bias.copy_(torch.cat([module.query.bias, module.key_value.bias]))
        peer.out_proj.weight.copy_(module.out.weight[:, :, 0, 0])
        peer.out_proj.bias.copy_(module.out.bias)
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (torch.randn(2, 8, *size, generator=generator, dtype=torch.float64) for size in ((7, 8), (4, 4)))
    memory = nn.functional.avg_pool2d(fine, 2, ceil_mode=True).flatten(2).mT
    expected = peer(coarse.flatten(2).mT, memory, memory, need_weights=False)[0].mT.unflatten(2, (4, 4))
    assert torch.allclose(module(fine, coarse), coarse + expected)


def test_multiplication_and_pooled_head_by_hand():
    fine, coarse = torch.rand(1, 2, 4, 4), torch.full((1, 2, 2, 2), 3.0)
    assert torch.allclose(Multiplication(2)(fine, coarse), 3 * fine)
    head = PooledHead(2, 2, 2)
    constant = [torch.full((1, 2, 4, 4), 1.0), torch.full((1, 2, 2, 2), 2.0)]
    assert torch.allclose(head(constant), head.mlp(torch.tensor([[1.0, 1, 2, 2]]))[:, 0])


def test_the_explanation_adds_up_to_the_score():
    plugin = Registry().metric("birqa-tiny")
    metric = plugin.build({})
    load(metric, resolve("birqa-tiny", None, plugin.weights))
    ref, dist = (images.float() for images in pair(96, 80))
    with torch.no_grad():
        panels = metric.explain(ref=ref, dist=dist)
        score = float(metric(ref=ref, dist=dist))
    bars = {panel.title: panel.bars for panel in panels if panel.bars}
    assert sum(bars["contribution x weight"].values()) == pytest.approx(score, rel=1e-5)
    assert sum(bars["weight"].values()) == pytest.approx(1, rel=1e-5)
    rows = {panel.row for panel in panels}
    for level in range(4):
        assert sum(panel.row.startswith(f"Level {level}: feature maps") for panel in panels) == 9
        assert sum(panel.row == f"Level {level}: stem gates" for panel in panels) == 5
    for i in range(3):
        titles = [panel.title for panel in panels if panel.row == f"CSRAM, level {i} to {i + 1}"]
        assert [title.partition(",")[0] for title in titles] == ["strength", "confidence", "mask"]
    assert "SCGB" in rows
    assert all(panel.image is None or (panel.image.dim() == 2 and panel.image.isfinite().all()) for panel in panels)


def test_ablated_metrics_explain_what_they_have():
    metric = BiRQA(**SMALL, csram=False, scgb=False, rah=False, features=["raw"])
    ref, dist = (images.float() for images in pair())
    with torch.no_grad():
        rows = {panel.row for panel in metric.explain(ref=ref, dist=dist)}
    assert not any(word in row for row in rows for word in ("CSRAM", "SCGB", "head"))
