"""Diffusion purification, against closed forms for Gaussian data and diffusers' own schedulers and networks."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import metrics_zoo
from defenses.denoiser import Denoiser, Schedule
from defenses.denoiser import reverse as reverse_module
from defenses.denoiser.reverse import Reverse, resized
from defenses.denoiser.train import SHOWN_STEPS, Settings, decibels, references, train_denoiser
from defenses.diffusion_models import GUIDED, diffusion_model
from defenses.guided_unet import GuidedUNet
from defenses.noise import noise_of
from defenses.purifiers.denoise import Denoise
from defenses.purifiers.diffpure import DiffPure
from defenses.purifiers.diffpure_mini import DiffPureMini
from harness.plugins.registry import Registry
from harness.suite.identity import identity
from harness.suite.model import Use
from harness.suite.uses import build_once, contents_of, plugin_use
from harness.testing import check_purifier

ZOO = Path(metrics_zoo.__path__[0]) / "weights"
SEEDS = torch.arange(4)


@pytest.fixture(scope="module")
def denoiser():
    network = Denoiser().eval().requires_grad_(False)
    network.load_state_dict(load_file(ZOO / "diffpure-mini.safetensors"))
    return network


class Gaussian(nn.Module):
    """The exact expectation of the noise, and variance of a step, where pictures are independent normal values."""

    mean, deviation = 0.1, 0.15

    def __init__(self, learnt=False):
        super().__init__()
        self.learnt = learnt

    def forward(self, x, index):
        kept = Schedule.linear().kept[index].view(-1, 1, 1, 1)
        clean = self.mean + self.gain(kept) * (x - kept.sqrt() * self.mean)
        noise = (x - kept.sqrt() * clean) / (1 - kept).sqrt()
        if not self.learnt:
            return noise
        before = Schedule.linear().kept[(index - 1).clamp_min(0)].view(-1, 1, 1, 1)
        beta = 1 - kept / before
        least = beta * (1 - before) / (1 - kept)
        exact = least + (before.sqrt() * beta / (1 - kept)) ** 2 * self.posterior(kept)
        share = (exact / least).log() / (beta / least).log()
        return torch.cat((noise, (2 * share - 1).expand_as(noise)), 1)

    def posterior(self, kept):
        return self.deviation**2 * (1 - kept) / (kept * self.deviation**2 + 1 - kept)

    def gain(self, kept):
        return kept**0.5 * self.deviation**2 / (kept * self.deviation**2 + 1 - kept)


@pytest.mark.parametrize(
    ("sampler", "steps", "mean_off", "deviation_off"),
    [("ddpm", 1, 1e-3, 1e-2), ("learnt", None, 1e-3, 1e-2), ("ddpm", 10, 1e-3, None), ("sde", None, 2e-3, 2e-2)],
)
def test_purified_gaussian_data_have_the_known_mean_and_deviation(sampler, steps, mean_off, deviation_off):
    t, network, value = 100, Gaussian(sampler == "learnt"), 0.3
    images = torch.full((4, 3, 64, 64), value, dtype=torch.float64)
    found = Reverse(Schedule.linear(), t, steps, "sde" if sampler == "sde" else "ddpm")(images, SEEDS, network)
    kept = float(Schedule.linear().kept[t - 1])
    gain = network.gain(kept)
    # Of x_0 given the noised x: by Bayes; over the noise of x, which is normal about sqrt(kept) x, once more.
    mean = network.mean + gain * kept**0.5 * (value - network.mean)
    of_noise = gain**2 * (1 - kept)
    deviation = math.sqrt(of_noise + (0 if steps == 1 else network.posterior(kept)))
    assert float(found.mean()) == pytest.approx(mean, abs=mean_off)
    if deviation_off:
        assert float(found.std()) == pytest.approx(deviation, rel=deviation_off)


@pytest.mark.parametrize("learnt", [False, True])
def test_ancestral_sampling_is_that_of_diffusers(learnt, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6 if learnt else 3, 3, padding=1), nn.Tanh()).requires_grad_(False)
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    reverse = Reverse(Schedule.linear(), 300, 5)
    ours = reverse(images, SEEDS, lambda x, index: network(x))

    theirs = diffusers.DDPMScheduler(1000, variance_type="learned_range" if learnt else "fixed_small")
    places = list(reversed(reverse.indices()))
    theirs.set_timesteps(timesteps=places)
    x = theirs.add_noise(images, noise_of(SEEDS, images), torch.full((4,), 299))
    for place, index in enumerate(places):
        # The last step adds no noise, as in guided diffusion; theirs would, where that step is none of index 0.
        given = noise_of(SEEDS, images, len(places) - place) * (index > places[-1])
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, given=given, **__: given)
        x = theirs.step(network(x), index, x).prev_sample
    assert (ours - x).abs().max() < 1e-4  # theirs is of float32 throughout


def test_a_folder_of_diffusers_purifies(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    folder = small_model(tmp_path)
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**json.loads((folder / "config.json").read_text()))
    network.save_pretrained(folder)
    for resize in ("model", "pad"):
        purifier = DiffPure(t=3, resize=resize, model=str(folder))
        untrained = purifier.network()
        untrained.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
        check_purifier(purifier, network=untrained.eval().requires_grad_(False), size=32)
    images = torch.rand(2, 3, 16, 16)
    ours = DiffPure(t=1, resize="pad", model=str(folder)).purify(images, SEEDS[:2], network.eval())
    scheduler = diffusers.DDPMScheduler(1000)
    noised = scheduler.add_noise(images * 2 - 1, noise_of(SEEDS[:2], images), torch.zeros(2, dtype=torch.int64))
    theirs = scheduler.step(network(noised, 0).sample, 0, noised).pred_original_sample
    assert torch.allclose(ours, (theirs + 1) / 2, atol=1e-5)


def small_model(folder, scheduler=None, **changes):
    config = {"_class_name": "UNet2DModel", "sample_size": 16, "in_channels": 3, "out_channels": 3}
    config |= {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "add_attention": False}
    config |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2} | changes
    (folder / "config.json").write_text(json.dumps(config))
    if scheduler is not None:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


LINEAR = {"beta_schedule": "linear"}


@pytest.mark.parametrize(
    ("changes", "scheduler", "parameters", "told"),
    [
        ({"in_channels": 4}, None, {}, "has in_channels = 4; purifying colour images takes 3,"),
        ({"out_channels": 4}, None, {}, "has out_channels = 4; purifying colour images takes 3 or 6,"),
        ({"_class_name": "UNet2DConditionModel"}, None, {}, "is a UNet2DConditionModel; diffpure takes a UNet2DModel"),
        ({"num_class_embeds": 10}, None, {}, "wants a class with each image; take an unconditional one"),
        ({"sample_size": None}, None, {}, "names no sample_size to resize to; take `resize: pad`"),
        ({"sample_size": 15}, None, {}, r"has sample_size = \[15, 15\], and its sides have to be multiples of 2"),
        ({"sample_size": "big"}, None, {}, "has sample_size = 'big'; it should be one or two sides in pixels"),
        (
            {},
            {"prediction_type": "v_prediction"},
            {},
            'prediction_type = "v_prediction", and diffpure follows "epsilon"',
        ),
        ({}, {"beta_schedule": "squaredcos_cap_v2"}, {}, 'beta_schedule is "squaredcos_cap_v2", and'),
        ({}, LINEAR | {"num_train_timesteps": 4}, {}, "t should be between 1 and 4, the steps of the model's schedule"),
        ({}, LINEAR | {"num_train_timesteps": None}, {}, "num_train_timesteps should be between 1 and .*, got null"),
        (
            {},
            LINEAR | {"rescale_betas_zero_snr": True},
            {},
            "rescale_betas_zero_snr = true, and diffpure follows false",
        ),
        ({}, LINEAR | {"clip_sample": False}, {}, "clip_sample = false, and diffpure follows true alone"),
        ({}, LINEAR | {"variance_type": "fixed_large"}, {}, 'variance_type = "fixed_large", and .* "fixed_small"'),
        ({"out_channels": 6}, LINEAR | {"variance_type": "fixed_small"}, {}, 'follows "learned_range" alone'),
        ({}, LINEAR | {"beta_start": 0}, {}, "beta_start should be above 0 and below 1, got 0; take another"),
        ({}, {"trained_betas": [0.1, 1.5]}, {}, "trained_betas should be above 0 and below 1, got 1.5"),
        ({}, {"trained_betas": [0.9] * 400}, {}, "should leave less of the image after every step, and never nothing"),
        ({}, {"_class_name": "ScoreSdeVeScheduler"}, {}, "beta_schedule is null, and diffpure takes linear or"),
        ({}, None, {"steps": 6}, "steps should be between 1 and t = 5, got 6"),
        ({}, None, {"sampler": "ddim"}, "sampler should be ddpm or sde, got 'ddim'"),
        ({}, None, {"apply_to": "ref"}, "apply_to should be both or dist, got 'ref'"),
    ],
)
def test_refused_models_and_parameters(tmp_path, changes, scheduler, parameters, told):
    folder = small_model(tmp_path, scheduler, **changes)
    with pytest.raises(ValueError, match=told) as caught:
        DiffPure(model=str(folder), **parameters)
    assert changes == {} or str(folder) in str(caught.value)


def decided(model):
    """What of a purifier with this model is part of identity."""
    plugin = Registry().purifier("diffpure")
    values = {parameter.name: parameter.default for parameter in plugin.parameters()} | {"model": model}
    use = plugin_use("purifiers", plugin, values, {}, contents_of(plugin, values, build_once(plugin, values)))
    return identity("defense", Use(**use).identity())


def test_everything_that_is_read_of_a_model_is_part_of_identity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipe" / "unet").mkdir(parents=True)
    (tmp_path / "pipe" / "scheduler").mkdir()
    small_model(tmp_path / "pipe" / "unet")
    scheduler = tmp_path / "pipe" / "scheduler" / "scheduler_config.json"
    ids, kept = set(), set()
    for last in (0.01, 0.02, 0.02):
        scheduler.write_text(json.dumps(LINEAR | {"beta_end": last}))
        ids.add(decided("./pipe"))
        kept.add(float(diffusion_model("./pipe").schedule.kept[-1]))
    assert len(ids) == len(kept) == 2
    for model, told in (
        ("pipe", r"model 'pipe' would not count by content: write \./pipe,"),
        ("pipe/unet", f"is part of a pipeline, .* give the pipeline's folder {tmp_path / 'pipe'}$"),
    ):
        with pytest.raises(ValueError, match=told):
            DiffPure(model=model)
    scheduler.parent.rename(tmp_path / "elsewhere")
    scheduler.parent.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ValueError, match=r"would not count by content: .* with no link to a folder in it"):
        DiffPure(model="./pipe")


def test_images_are_resized_without_a_filter():
    row = torch.tensor([0.0, 1.0, 4.0, 9.0]).expand(1, 3, 4, 4)
    assert resized(row, 4, 2)[0, 0, 0].tolist() == [0.5, 6.5], "means of the two pixels next to each new centre"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read .*Give `model` a folder that diffusers saved, or guided"):
        DiffPure(model=str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_schedules_are_those_of_diffusers(tmp_path, kind):
    diffusers = pytest.importorskip("diffusers")
    config = {"beta_schedule": kind, "num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.03}
    kept = diffusion_model(str(small_model(tmp_path, config))).schedule.kept
    assert torch.allclose(kept, diffusers.DDPMScheduler(**config).alphas_cumprod.double(), atol=1e-6)


def test_the_guided_network_has_the_published_weights():
    with torch.device("meta"):
        state = GuidedUNet().state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 552_814_086  # of 256x256_diffusion_uncond.pt
    assert state["out.2.weight"].shape == (6, 256, 3, 3)
    assert state["middle_block.1.qkv.weight"].shape == (3072, 1024, 1)
    assert state["output_blocks.2.1.proj_out.weight"].shape == (1024, 1024, 1)
    assert diffusion_model(GUIDED).size == (256, 256)


def test_a_small_guided_network_purifies():
    network = GuidedUNet(width=32, wider=(1, 2), attention=(2,), head=16).eval()
    images = torch.rand(2, 3, 32, 32)
    purified = DiffPure(t=2, resize="pad").purify(images, SEEDS[:2], network)
    assert purified.shape == images.shape


@pytest.mark.parametrize("purifier", [DiffPureMini(t=2), DiffPureMini(t=3, steps=2, sampler="sde"), Denoise()])
def test_the_embedded_denoiser_keeps_the_contract(purifier, denoiser):
    check_purifier(purifier, network=denoiser, size=16)


def test_checkpointing_changes_no_gradient(denoiser, monkeypatch):
    images = references("test")[:1, :, :33, :38]
    gradients, evaluations = [], []
    for repeated in (True, False):
        if not repeated:
            monkeypatch.setattr(reverse_module, "_repeatable", lambda step, x, whole: step(x))
        leaf, calls = images.clone().requires_grad_(True), []
        hook = denoiser.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        DiffPureMini(t=3).purify(leaf, SEEDS[:1], denoiser).square().sum().backward()
        hook.remove()
        gradients.append(leaf.grad)
        evaluations.append(len(calls))
    assert torch.equal(*gradients)
    assert evaluations == [6, 3], "three steps, of which checkpointing makes each a second time"


def test_who_is_purified_and_what_is_refused():
    for kind in (Denoise, DiffPureMini, DiffPure):
        assert kind().applies_to_reference()
        assert not kind(apply_to="dist").applies_to_reference()
    for kind in (Denoise, DiffPureMini):
        with pytest.raises(ValueError, match="t should be between 1 and 100, up to which the embedded denoiser was"):
            kind(t=101)
    with pytest.raises(ValueError, match="needs a network with its weights"):
        Denoise().purify(torch.rand(1, 3, 8, 8), SEEDS[:1], None)


def test_the_shipped_denoiser_is_the_one_of_the_manifest(denoiser):
    entry = json.loads((ZOO / "manifest.json").read_text())["diffpure-mini"]
    assert entry["purifier"] == "diffpure-mini"
    assert entry["size"] < 4e6
    assert entry["trained_on"]["split"] == "train"
    images = references("val")
    for steps in SHOWN_STEPS:
        before, after = entry["psnr"]["val"][str(steps)]
        assert decibels(denoiser, images, steps) == pytest.approx((before, after), abs=0.02)
        noise = -10 * math.log10((1 / float(Schedule.linear().kept[steps - 1]) - 1) / 4)  # of the closed form
        assert before == pytest.approx(noise, abs=0.05)
        assert after > before + 1


def test_training_repeats_itself():
    images, settings = references("val")[:2], Settings(steps=2, batch=2, crop=16)
    first, second = (train_denoiser(images, settings, print).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], tensor) for name, tensor in Denoiser().state_dict().items())
