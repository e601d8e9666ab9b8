"""Benign controls: what each does to an image, and that no budget stands in the way."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter
from skimage.exposure import adjust_gamma
from skimage.metrics import peak_signal_noise_ratio

from attacks.benign import Benign
from harness.contracts import SampleRng
from harness.flow import Options, run_suite
from harness.plugins.model import PluginError
from harness.plugins.registry import Registry
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from tests.toys.stored import all_records

PLUGIN = '''
from dataclasses import dataclass
from harness.contracts import Attack, register

@register("bright")
@dataclass(frozen=True)
class Bright(Attack):
    """Everything far too bright."""
    control = {control}
    norms = frozenset({{"linf", "l2"}})
    bounded = False
    def perturb(self, objective, images, budget, rng):
        return images + 2
'''


def changed(transform, images, **parameters):
    ids = [str(row) for row in range(len(images))]
    return Benign(transform, **parameters).perturb(None, images, None, SampleRng.for_samples(0, ids, "benign"))


@pytest.fixture(scope="module")
def photo():
    """A photograph of 64 px."""
    data = Registry().dataset("mini").build({})
    return data.load(data.entries("test")[0])["ref"][None, :, 32:96, 32:96]


@pytest.mark.parametrize("pixels", [1, 2])
def test_shifts_go_four_ways_and_repeat_the_edge(pixels):
    images = SampleRng.for_samples(0, ["x"], "images").uniform(3, 9, 12).expand(40, -1, -1, -1)
    result = changed(f"shift{pixels}", images)
    ways = set()
    for image, moved in zip(images, result, strict=True):
        for way, (down, right) in {"d": (pixels, 0), "u": (-pixels, 0), "r": (0, pixels), "l": (0, -pixels)}.items():
            rows = (torch.arange(9) - down).clamp(0, 8)
            columns = (torch.arange(12) - right).clamp(0, 11)
            if torch.equal(moved, image[:, rows][:, :, columns]):
                ways.add(way)
                break
        else:
            pytest.fail("neither of the four shifts")
    assert ways == set("durl")
    assert torch.equal(changed(f"shift{pixels}", images[:3]), result[:3])


def test_jpeg_is_pillows_on_8_bit_pixels(photo):
    result = changed("jpeg95", photo)
    file = io.BytesIO()
    pixels = np.rint(photo[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    decoded = np.asarray(Image.open(file))
    assert np.array_equal(np.rint(result[0].permute(1, 2, 0).numpy() * 255), decoded)
    assert peak_signal_noise_ratio(pixels, decoded) > 35 and not torch.equal(result, photo)


def test_resizing_is_hardly_seen(photo):
    result = changed("resize", photo)
    assert result.shape == photo.shape and result.min() >= 0 and result.max() <= 1
    assert peak_signal_noise_ratio(photo.numpy(), result.numpy(), data_range=1) > 35
    flat = torch.full((1, 3, 15, 20), 0.3)
    assert torch.allclose(changed("resize", flat), flat, atol=1e-6)


def test_rounding_moves_by_half_a_level_at_most():
    images = SampleRng.for_samples(0, ["x"], "images").uniform(3, 9, 12)
    result = changed("round8", images)
    assert torch.equal(result * 255, (result * 255).round())
    assert (result - images).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(changed("round8", result), result)


def test_enhancements_are_those_of_scipy_and_skimage(photo):
    """Parameters are not the presets': a default that is used in their place would show."""
    channels = photo[0].double().numpy()
    blurred = np.stack([gaussian_filter(channel, 1.5, mode="nearest", radius=4) for channel in channels])
    expected = {
        "gamma": (adjust_gamma(channels, 0.7), {"gamma": 0.7}),
        "contrast": (channels.mean() + 1.3 * (channels - channels.mean()), {"contrast": 1.3}),
        "unsharp": (channels + 0.8 * (channels - blurred), {"sigma": 1.5, "amount": 0.8}),
        "denoise": (np.stack([median_filter(channel, 5, mode="nearest") for channel in channels]), {"window": 5}),
    }
    for transform, (theirs, parameters) in expected.items():
        ours = changed(transform, photo.expand(2, -1, -1, -1), **parameters)
        assert torch.equal(ours[0], ours[1]) and (ours[0] - photo[0]).abs().max() > 0.01, transform
        np.testing.assert_allclose(ours[0].numpy(), np.clip(theirs, 0, 1), atol=2e-6, err_msg=transform)


def test_the_enhancements_as_registered_are_mild(photo):
    for name in ("gamma", "contrast", "unsharp", "denoise"):
        plugin = Registry().attack(f"benign-{name}")
        result = plugin.build({}).perturb(None, photo, None, None)
        assert 20 < peak_signal_noise_ratio(photo.numpy(), result.numpy(), data_range=1) < 45, name


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"amount": 1.0}, "amount belongs to the transform unsharp.* Write 'transform: unsharp', or take amount out"),
        ({"transform": "gamma"}, "gamma 1.0 changes nothing. Write 'gamma: 0.9', say"),
        ({"transform": "gamma", "gamma": 0.0}, "gamma should be from 0.1 to 10, got 0.0. Write 'gamma: 0.9', say"),
        ({"transform": "gamma", "gamma": float("nan")}, "gamma should be from 0.1 to 10, got nan"),
        ({"transform": "unsharp", "amount": 0.5}, "sigma 0.0 changes nothing. Write 'sigma: 1.0', say"),
        ({"transform": "unsharp", "sigma": 1.0}, "amount 0.0 changes nothing"),
        ({"transform": "unsharp", "amount": 0.5, "sigma": 1e9}, "sigma should be from 0.1 to 50, got 1000000000.0"),
        ({"transform": "contrast", "contrast": -1.0}, "contrast should be from 0 to 10, got -1.0"),
        ({"transform": "denoise", "window": 1}, "window 1 changes nothing. Write 'window: 3', say"),
        (
            {"transform": "denoise", "window": 999999},
            "window should be from 3 to 31, got 999999. Write 'window: 3', say",
        ),
        ({"transform": "denoise", "window": 4}, "window should be odd, got 4. Write 'window: 3', say"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, said):
    with pytest.raises(ValueError, match=said):
        Benign(**parameters)


def test_the_presets_that_came_before_have_the_identity_they_had():
    def parameters(name):
        text = f"name: x\ndatasets: [mini]\nmetrics: [psnr]\nattacks: [{name}]\nbudgets: {{linf: [8/255]}}\n"
        return dict(validate(parse_text(text, "x.yaml"), Registry()).attacks[0].identity()["parameters"])

    assert parameters("benign-shift2") == {"transform": "shift2"}
    assert parameters("benign-unsharp") == {"transform": "unsharp", "sigma": 1.0, "amount": 0.5}


def records(text, registry, out):
    run_suite(
        validate(parse_text(text, "suite.yaml"), registry), registry, Options(out=out, executor="serial", probe=False)
    )
    return all_records(out)


SUITE = """
name: benign
datasets: [{name: toy, references: 2, levels: 2}]
metrics: [negative_mse]
attacks: [%s]
budgets: {linf: [1/255, 8/255], l2: [1/10]}
directions: [up]
tables: [shift]
"""


def test_no_budget_clips_it(toy_file, tmp_path):
    registry = Registry([toy_file])
    changes = ("shift2", "jpeg95", "resize", "round8", "gamma", "contrast", "unsharp", "denoise")
    names = ["benign", *(f"benign-{change}" for change in changes)]
    frame = records(SUITE % ", ".join([*names, "noise"]), registry, tmp_path / "run")
    for name in names:
        part = frame[frame["attack"] == name]
        assert set(part["status"]) == {"ok"} and set(part["sign"]) == {0}
        by_item = part.groupby("item")["attacked"]
        assert (by_item.count() == 3).all() and (by_item.nunique() == 1).all(), "the same at every budget"
        assert (part["attacked"] <= part["clean"] + 1e-3).all()
    shifted = frame[frame["attack"] == "benign"]
    assert (shifted["linf"] > 0.1).all() and (shifted["l2"] > 0.5).all()
    noise = frame[frame["attack"] == "noise"]
    assert (noise["linf"] <= noise["eps"] + 1e-6).all(), "other controls keep to the budget"


def test_an_unbounded_control_stays_in_the_box(toy_file, tmp_path):
    plugin = tmp_path / "bright.py"
    plugin.write_text(PLUGIN.format(control=True))
    frame = records(SUITE % "bright", Registry([toy_file, plugin]), tmp_path / "run")
    bright = frame[frame["attack"] == "bright"]
    assert len(bright) and (bright["linf"] <= 1).all() and (bright["linf"] > 0.5).all()


def test_an_attack_may_not_say_so(toy_file, tmp_path):
    plugin = tmp_path / "bright.py"
    plugin.write_text(PLUGIN.format(control=False))
    with pytest.raises(PluginError, match="control = True"):
        Registry([toy_file, plugin]).attack("bright")
