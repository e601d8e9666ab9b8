import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import nn

from harness.plugins.registry import Registry
from harness.testing import check_metric
from metrics_zoo.backbones import IMAGENET_MEAN, IMAGENET_STD, FrozenNorm, Normalise, ResNet50
from metrics_zoo.lpips import LPIPS, _Distance, _unit, lpips_state

NETWORKS = ("alex", "squeeze", "vgg")
FILES = {"alex": "alexnet_features", "squeeze": "squeezenet1_1_features"}


@pytest.fixture(scope="module")
def published(test_data):
    """The published metric of a network whose two files are there."""

    def build(network):
        trunk, heads = load_file(test_data / f"lpips/{FILES[network]}.safetensors"), heads_of(test_data, network)
        metric = LPIPS(network=network)
        metric.load_state_dict(lpips_state(trunk, heads))
        return metric.eval().requires_grad_(False)

    return build


def heads_of(test_data, network):
    return load_file(test_data / f"lpips/lpips_{network}_v0.1_heads.safetensors")


def random_metric(network, dtype=torch.float32):
    metric = LPIPS(network=network)
    generator = torch.Generator().manual_seed(1)
    for head in metric.heads.values():
        nn.init.uniform_(head.model.get_parameter("1.weight"), generator=generator)
    return metric.eval().requires_grad_(False).to(dtype)


def pair(height, width, count=1, dtype=torch.float32):
    ref, noise = torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return ref, (ref + 0.2 * (noise - 0.5)).clamp(0, 1)


# ------------------------------------------------------------------------------------------------ published values


def test_alex_on_the_published_examples(published, test_data):
    def read(name):
        pixels = np.asarray(Image.open(test_data / "lpips/examples" / name).convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    metric = published("alex")
    reference = metric.encode(read("ex_ref.png"))
    assert float(metric.score(reference, read("ex_p0.png"))) == pytest.approx(0.7219, abs=1e-4)
    assert float(metric.score(reference, read("ex_p1.png"))) == pytest.approx(0.1376, abs=1e-4)


def test_squeeze_on_the_random_images_of_torchmetrics(published):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        first, second = (torch.rand(10, 3, 100, 100) for _ in range(2))
    assert float(published("squeeze")(ref=first, dist=second).mean()) == pytest.approx(0.1005, abs=5e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_real_heads_on_deterministic_trunks(fixture, test_data, network):
    metric = LPIPS(network=network)
    trunk = fixture.weights({name: tuple(t.shape) for name, t in metric.trunk.state_dict().items()})
    metric.load_state_dict(lpips_state(trunk, heads_of(test_data, network)))
    expected = {size: value for (name, size), value in fixture.LPIPS_EXPECTED.items() if name == network}
    assert len(expected) == 2
    for size, value in expected.items():
        ref, dist = fixture.images(*size)
        assert float(metric(ref=ref, dist=dist).detach()) == pytest.approx(value, abs=1e-6)


@pytest.mark.slow
def test_alex_agrees_with_human_scores_as_published(published, test_data, tmp_path):
    """The published figure was taken on images in [0, 1] that were not scaled to [-1, 1]; scaled ones give .750."""

    build = test_data / "tid2013_subset" / "build.py"
    subprocess.run([sys.executable, str(build), str(tmp_path / "tid")], check=True, capture_output=True)
    dataset = Registry().dataset("tid2013").build({"root": str(tmp_path / "tid")})
    metric = published("alex")
    references, scores, opinions = {}, [], []

    def as_published(image):
        return (image[None] + 1) / 2  # undoes the scaling, 2 x - 1, that the metric does

    for entry in dataset.entries("all"):
        images = dataset.load(entry)
        if entry.reference_id not in references:
            references[entry.reference_id] = metric.encode(as_published(images["ref"]))
        scores.append(float(metric.score(references[entry.reference_id], as_published(images["dist"]))))
        opinions.append(entry.raw)
    assert len(scores) == 360
    assert -spearmanr(scores, opinions).statistic == pytest.approx(0.736, abs=0.003)


# ------------------------------------------------------------------------------------------------ weight files


def test_the_published_state_is_renamed_and_leaves_the_classifier_out():
    weights = torch.zeros(1)
    state = lpips_state({"features.0.bias": weights, "classifier.1.bias": weights}, {"lin0.model.1.weight": weights})
    assert set(state) == {"trunk.features.0.bias", "heads.lin0.model.1.weight"}


def test_vgg16_has_the_names_of_torchvision():
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = {f"features.{n}.{part}" for n in numbers for part in ("weight", "bias")}
    trunk = LPIPS(network="vgg").trunk.state_dict()
    assert set(trunk) == names
    assert sum(t.numel() for t in trunk.values()) == 14_714_688


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="one of alex, vgg, squeeze"):
        LPIPS(network="resnet")


# ------------------------------------------------------------------------------------------------ trunks


def test_the_published_shift_and_scale_are_the_imagenet_normalisation():
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    images = torch.rand(1, 3, 4, 5)
    theirs = (2 * images - 1 - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
    assert torch.allclose(Normalise()(images), theirs, atol=1e-6)
    assert torch.allclose((1 + shift) / 2, torch.tensor(IMAGENET_MEAN))
    assert torch.allclose(scale / 2, torch.tensor(IMAGENET_STD))


def test_frozen_norm_is_batch_norm_in_evaluation_mode():
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, 2, 1, bias=False), FrozenNorm(5)
    theirs = nn.BatchNorm2d(5)
    for tensor in (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    norm.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 9, 8)
    assert torch.allclose(norm.train().after(convolution, x), theirs.eval()(convolution(x)), atol=1e-6)


def test_resnet50_is_the_same_in_training_mode():
    trunk = ResNet50().requires_grad_(False)
    images = torch.rand(1, 3, 33, 40)
    assert all(torch.equal(a, b) for a, b in zip(trunk.train()(images), trunk.eval()(images), strict=True))
    assert [tuple(m.shape[1:]) for m in trunk(images)] == [
        (64, 17, 20), (256, 9, 10), (512, 5, 5), (1024, 3, 3), (2048, 2, 2),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ the distance


def plain_distance(maps, reference, weight):
    """The definition, left to autograd."""
    unit = maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
    return F.conv2d((unit - reference).square(), weight.view(1, -1, 1, 1)).mean(dim=(1, 2, 3))


def test_distance_and_its_gradients_agree_with_the_definition():
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 5, 3, 4), (2, 5, 3, 4), (5,))
    ]
    ours, theirs = _Distance.apply(*leaves), plain_distance(*leaves)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    upstream = torch.tensor([0.7, -1.3], dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(theirs, leaves, upstream), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-10)
    assert torch.autograd.gradcheck(_Distance.apply, leaves)


def test_a_dead_position_has_a_finite_distance_and_gradient():
    maps = torch.rand(1, 4, 2, 2)
    maps[:, :, 0, 0] = 0
    maps.requires_grad_()
    reference = _unit(torch.rand(1, 4, 2, 2))
    distance = _Distance.apply(maps, reference, torch.ones(4))
    (gradient,) = torch.autograd.grad(distance.sum(), maps)
    assert distance.isfinite().all() and gradient.isfinite().all()


# ------------------------------------------------------------------------------------------------ the metric


@pytest.mark.parametrize("network", NETWORKS)
def test_encode_and_score_is_the_only_path(network):
    metric = random_metric(network)
    ref, dist = pair(40, 47, 2)
    reference = metric.encode(ref)
    once = metric.score(reference, dist)
    assert torch.equal(once, metric(ref=ref, dist=dist))
    assert torch.equal(once, metric.score(reference, dist)), "a cached reference is left as it was"
    assert torch.equal(metric.score(reference, ref), torch.zeros(2)), "identical images score 0"


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_agrees_with_finite_differences(network):
    metric = random_metric(network, torch.float64)
    ref, dist = pair(36, 33, 1, torch.float64)
    reference = metric.encode(ref)
    leaf = dist.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric.score(reference, leaf).sum(), leaf)
    direction = torch.randn(dist.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-8 * direction
    difference = (metric.score(reference, dist + step) - metric.score(reference, dist - step)) / 2e-8
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize(("network", "least"), [("alex", 31), ("squeeze", 17), ("vgg", 16)])
def test_smallest_side_of_each_network(network, least):
    metric = random_metric(network)
    assert LPIPS.minimum_size >= least
    ref, dist = pair(least, least + 3)
    assert metric(ref=ref, dist=dist).isfinite().all()
    with pytest.raises(RuntimeError):
        metric(ref=ref[:, :, 1:], dist=dist[:, :, 1:])


@pytest.mark.parametrize("network", ["alex", "squeeze"])
def test_published_weights_keep_the_contract(published, network):
    check_metric(published(network), name=f"lpips-{network}")
