"""`score`: one pair of images, outside of any suite."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.cli import main


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    ref = rng.integers(0, 255, (80, 96, 3), dtype=np.uint8)
    dist = np.clip(ref + rng.normal(0, 9, ref.shape), 0, 255).astype(np.uint8)
    for name, pixels in (("ref", ref), ("dist", dist)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return ref, dist


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_scores_are_those_of_a_peer(pair, tmp_path, capsys):
    ref, dist = pair
    code, out, _ = run(
        capsys, tmp_path / "ref.png", tmp_path / "dist.png", "--metric", "psnr", "--metric", "ssim", "--json"
    )
    assert code == 0
    scores = {row["metric"]: row["score"] for row in json.loads(out)["scores"]}
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(ref, dist), abs=1e-4)
    grey = [0.299, 0.587, 0.114]
    peer = structural_similarity(
        ref @ grey, dist @ grey, gaussian_weights=True, use_sample_covariance=False, data_range=255
    )
    assert scores["ssim"] == pytest.approx(peer, abs=2e-3), "borders differ"


def test_the_table_says_which_way_is_better_and_that_random_weights_mean_nothing(pair, tmp_path, capsys):
    images = (tmp_path / "ref.png", tmp_path / "dist.png")
    code, out, _ = run(capsys, *images)
    assert code == 0 and all(name in out for name in ("psnr", "ssim", "birqa-tiny", "higher is better"))
    code, out, _ = run(capsys, *images, "--metric", "birqa-tiny", "--set", "weights=random", "--set", "channels=8")
    assert code == 0 and "RANDOM weights" in out and "birqa-tiny(channels=8)" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "psnrr"], "error: metric 'psnrr': unknown metric 'psnrr'. Did you mean 'psnr'?"),
        (["--metric", "psnr", "--set", "steps"], "--set steps: should be KEY=VALUE, such as weights=mine.safetensors."),
        (["--metric", "psnr", "--set", "steps=3"], "'psnr' has no parameter 'steps'."),
        (["--metric", "birqa-tiny", "--set", "channels=x"], "channels: should be a whole number, got 'x'."),
        (["--metric", "birqa"], "'birqa' needs weights. Name a file with 'weights:', or ask for 'weights: random'."),
    ],
)
def test_wrong_options_are_one_message(pair, tmp_path, capsys, options, said):
    code, out, err = run(capsys, tmp_path / "ref.png", tmp_path / "dist.png", *options)
    assert code == 2 and said in err and not out and "Traceback" not in err


def test_wrong_images_are_one_message(pair, tmp_path, capsys):
    ref = tmp_path / "ref.png"
    Image.new("RGB", (40, 40)).save(tmp_path / "small.png")
    Image.new("RGBA", (96, 80), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    Image.new("I;16", (96, 80)).save(tmp_path / "deep.png")
    (tmp_path / "no.png").write_text("<html>")
    for name, said in (
        ("small.png", "has 96 x 80 pixels and DIST"),
        ("alpha.png", "is partly transparent"),
        ("deep.png", "has the pixel format I;16"),
        ("no.png", "cannot be read"),
        ("none.png", "is missing"),
    ):
        code, _, err = run(capsys, ref, tmp_path / name)
        assert code == 2 and said in err and name in err
    small = tmp_path / "small.png"
    code, _, err = run(capsys, small, small, "--metric", "birqa-tiny")
    assert code == 2 and "metric 'birqa-tiny' needs images of at least 64 px a side" in err
