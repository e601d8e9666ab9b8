import kornia
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from harness.plugins.registry import Registry
from harness.plugins.weights.locate import load, resolve
from metrics_zoo.birqa import BiRQA, features, maps
from metrics_zoo.birqa.network import GeneralisedMean

TINY = {"channels": 32, "stem_channels": 8, "head": 32}


@pytest.fixture(scope="module")
def tiny():
    plugin = Registry().metric("birqa-tiny")
    metric = plugin.build({})
    load(metric, resolve("birqa-tiny", None, plugin.weights))
    return metric.eval().requires_grad_(False)


def pairs(count, height=128, width=128, seed=0):
    """8-bit reference images with smooth and flat regions, and noisy, blurred or darkened versions of them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, height, width, generator=generator)
    ref = kornia.filters.gaussian_blur2d(noise, (15, 15), (4.0, 4.0), "replicate")
    ref = ((ref - 0.5) * 4 + 0.5).clamp(0, 1)
    ref[:, :, : height // 4, : width // 4] = 0.5
    dist = ref.clone()
    dist[0::3] += 0.06 * torch.randn(dist[0::3].shape, generator=generator)
    dist[1::3] = kornia.filters.gaussian_blur2d(dist[1::3], (9, 9), (2.0, 2.0))
    dist[2::3] = dist[2::3] * 0.8 + 0.04 * torch.randn(dist[2::3].shape, generator=generator)
    return (ref * 255).round() / 255, (dist.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize(("parameters", "count"), [(TINY, 95_532), ({}, 5_423_772), ({"stride": 8}, 5_534_364)])
def test_parameter_counts(parameters, count):
    assert sum(p.numel() for p in BiRQA(**parameters).parameters()) == count


def test_building_leaves_the_global_generator_alone_and_does_not_depend_on_it():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = BiRQA(**TINY)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = BiRQA(**TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_encode_and_score_is_the_only_path(tiny):
    ref, dist = pairs(3)
    assert torch.equal(tiny.score(tiny.encode(ref), dist), tiny(ref=ref, dist=dist))


def test_same_batch_same_bits(tiny):
    ref, dist = pairs(4)
    assert torch.equal(tiny(ref=ref, dist=dist), tiny(ref=ref, dist=dist))


def test_feature_maps_agree_with_scikit_image_and_kornia():
    ref, dist = pairs(2)
    found = features.feature_pyramid(features.reference_pyramid(ref), dist)[0]
    y, z = features.ycbcr(ref)[:, 0], features.ycbcr(dist)[:, 0]
    _, full = structural_similarity(
        y[0].double().numpy(), z[0].double().numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1, full=True,
    )  # fmt: skip
    assert np.abs(found[0, 0].numpy() - full)[5:-5, 5:-5].max() < 1e-3  # fp32 variances over C2 = 9e-4
    colour = kornia.color.rgb_to_ycbcr(dist) - kornia.color.rgb_to_ycbcr(ref)
    assert (found[:, 3:6] - colour).abs().max() < 2e-3  # kornia rounds its coefficients to three digits
    assert found.shape[1] == 9


def test_information_of_a_known_variance():
    assert float(maps.information(torch.tensor(maps.NOISE_VARIANCE))) == pytest.approx(np.log(2) / 8)
    assert float(maps.information(torch.tensor(0.0))) == 0


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (127, 70), (91, 131), (64, 200)])
def test_any_size_from_64_pixels(tiny, size):
    ref, dist = pairs(2, *size)
    dist.requires_grad_()
    score = tiny(ref=ref, dist=dist)
    score.sum().backward()
    assert score.shape == (2,)
    assert score.isfinite().all()
    assert dist.grad.isfinite().all()
    assert (dist.grad != 0).float().mean() > 0.5  # the last rows and columns count too


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("other", [None, 0.0, 1.0])
def test_identical_and_flat_pairs_have_finite_scores_and_gradients(tiny, value, other):
    ref = torch.full((1, 3, 64, 64), value)
    dist = torch.full_like(ref, value if other is None else other).requires_grad_()
    score = tiny(ref=ref, dist=dist)
    score.sum().backward()
    assert score.isfinite().all()
    assert dist.grad.isfinite().all()


def test_an_identical_pair_scores_above_its_distorted_versions(tiny):
    ref, dist = pairs(3)
    dist.requires_grad_()
    same = ref.clone().requires_grad_()
    scores = tiny(ref=ref, dist=same)
    scores.sum().backward()
    assert same.grad.isfinite().all()
    assert (scores > tiny(ref=ref, dist=dist)).all()


def test_a_sample_depends_on_its_own_row_alone(tiny):
    ref, dist = pairs(4)
    dist.requires_grad_()
    (gradient,) = torch.autograd.grad(tiny(ref=ref, dist=dist)[1], dist)
    assert gradient[1].abs().max() > 0
    assert (gradient[[0, 2, 3]] == 0).all()


def test_batch_of_32_against_1(tiny):
    ref, dist = pairs(32)
    with torch.no_grad():
        together = tiny(ref=ref, dist=dist)
        alone = torch.cat([tiny(ref=ref[i : i + 1], dist=dist[i : i + 1]) for i in range(32)])
    assert (together - alone).abs().max() < 1e-3
    assert together.std() > 0.2


def test_noise_of_a_rounding_error_moves_no_score(tiny):
    ref, dist = pairs(6)
    noise = 3e-8 * torch.randn(dist.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (tiny(ref=ref, dist=dist + noise) - tiny(ref=ref, dist=dist)).abs().max() < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_pgd_at_an_epsilon_of_a_millionth_moves_no_score(tiny, sign):
    ref, dist = pairs(6)
    with torch.no_grad():
        reference = tiny.encode(ref)
        clean = tiny.score(reference, dist)
    assert (_pgd(tiny, reference, dist, 1e-6, sign, steps=5) - clean).abs().max() < 1e-3


def test_pgd_at_a_real_budget_moves_every_score(tiny):
    ref, dist = pairs(3)
    with torch.no_grad():
        reference = tiny.encode(ref)
        clean = tiny.score(reference, dist)
    assert (_pgd(tiny, reference, dist, 8 / 255, -1, steps=5) < clean - 0.1).all()


def _pgd(metric, reference, dist, eps, sign, steps):
    attacked = dist
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(metric.score(reference, attacked).sum(), attacked)
        attacked = attacked.detach() + sign * eps / 2 * gradient.sign()
        attacked = torch.minimum(torch.maximum(attacked, dist - eps), dist + eps).clamp(0, 1)
    with torch.no_grad():
        return metric.score(reference, attacked)


def test_gradient_without_binary_patterns_agrees_with_finite_differences(tiny, monkeypatch):
    # Smaller than the metric's minimum, to keep the check exact and short; the coarse levels are still larger than 1.
    monkeypatch.setattr(features, "compare_patterns", lambda y, code: torch.zeros_like(torch.cat((y, y), dim=1)))
    metric = BiRQA(**TINY).double()
    metric.load_state_dict(tiny.state_dict())
    ref, dist = (images.double() for images in pairs(1, 33, 36))
    dist.requires_grad_()
    reference = metric.encode(ref)
    assert torch.autograd.gradcheck(lambda x: metric.score(reference, x), (dist,), eps=1e-6, atol=1e-5, fast_mode=True)
    (gradient,) = torch.autograd.grad(metric.score(reference, dist).sum(), dist)
    direction = torch.randn(dist.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = (metric.score(reference, dist + step) - metric.score(reference, dist - step)) / 2e-6
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 3.0, 6.0])
def test_generalised_mean_agrees_with_its_definition(exponent):
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    pool = GeneralisedMean()
    torch.nn.init.constant_(pool.exponent, exponent)
    assert torch.allclose(pool(x), x.pow(exponent).mean(dim=(2, 3)).pow(1 / exponent), rtol=1e-6)


def test_features_stay_in_fp32_under_autocast(tiny):
    ref, dist = pairs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = features.feature_pyramid(features.reference_pyramid(ref), dist)
    exact = features.feature_pyramid(features.reference_pyramid(ref), dist)
    assert all(torch.equal(a, b) for a, b in zip(low, exact, strict=True))
