"""`score`: one pair of images, outside of any suite."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.api import score
from harness.cli import main
from harness.errors import UserError

IMAGES = Path(__file__).parents[1] / "datasets" / "images"


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
    assert code == 0 and "RANDOM weights" in out and "birqa-tiny(channels=8, weights=random)" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "psnrr"], "error: metric 'psnrr': unknown metric 'psnrr'. Did you mean 'psnr'?"),
        (["--metric", "psnr", "--set", "steps"], "--set steps: should be KEY=VALUE, such as weights=mine.safetensors."),
        (["--metric", "psnr", "--set", "steps=3"], "'psnr' has no parameter 'steps'."),
        (["--metric", "birqa-tiny", "--set", "channels=x"], "channels: should be a whole number, got 'x'."),
        (["--metric", "birqa"], "'birqa' needs weights. Name a file with '--set weights=FILE.safetensors'"),
    ],
)
def test_wrong_options_are_one_message(pair, tmp_path, capsys, options, said):
    code, out, err = run(capsys, tmp_path / "ref.png", tmp_path / "dist.png", *options)
    assert code == 2 and said in err and not out and "Traceback" not in err


def test_wrong_images_are_one_message(pair, tmp_path, capsys):
    ref = tmp_path / "ref.png"
    Image.new("RGB", (40, 40)).save(tmp_path / "small.png")
    Image.new("RGBA", (96, 80), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    Image.new("F", (96, 80)).save(tmp_path / "deep.tif")
    (tmp_path / "no.png").write_text("<html>")
    for name, said in (
        ("small.png", "has 96 x 80 pixels and DIST"),
        ("alpha.png", "is partly transparent"),
        ("deep.tif", "has the pixel format F;32F"),
        ("no.png", "cannot be read"),
        ("none.png", "is missing"),
    ):
        code, _, err = run(capsys, ref, tmp_path / name)
        assert code == 2 and said in err and name in err
    small = tmp_path / "small.png"
    code, _, err = run(capsys, small, small, "--metric", "birqa-tiny")
    assert code == 2 and "metric 'birqa-tiny' needs images of at least 64 px a side" in err


# ------------------------------------------------------------------------------------------------ from Python


def test_arrays_tensors_and_files_score_alike(pair, tmp_path):
    ref, dist = (pixels.astype(np.float32) / 255 for pixels in pair)
    peer = peak_signal_noise_ratio(ref, dist, data_range=1)
    tensors = [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in (ref, dist)]
    for given in (
        (ref, dist),
        (ref.astype(np.float64), dist),
        (tensors[0], tensors[1][None]),
        (tmp_path / "ref.png", str(tmp_path / "dist.png")),
    ):
        found = score("psnr", *given)
        assert found.metric == "psnr" and found.higher_is_better and found.score == pytest.approx(peer, abs=1e-4)
    tiny = score("birqa-tiny", *tensors, weights="random", parameters={"channels": 8})
    assert tiny.metric == "birqa-tiny(channels=8, weights=random)" and tiny.weights == "random"


GOOD = torch.full((3, 40, 40), 0.5)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ((GOOD * 255).to(torch.uint8), "{} holds uint8, not floats. Give floats in [0, 1]; 8-bit values are divided"),
        (np.zeros((40, 40, 3), dtype=np.int64), "{} holds int64, not floats"),
        (GOOD > 0, "{} holds bool, not floats"),
        (GOOD * 255, "{} holds values from 127.5 to 127.5. Rescale or clip them"),
        (GOOD - 1, "{} holds values from -0.5 to -0.5."),
        (GOOD / 0, "{} holds values that are not finite"),
        (GOOD * float("nan"), "{} holds values that are not finite"),
        (GOOD[:1], "{} has the shape 1 x 40 x 40, no RGB image; give 3 x H x W: repeat the grey channel three times."),
        (GOOD[0], "{} has the shape 40 x 40, no RGB image; give 3 x H x W: repeat the grey channel"),
        (GOOD.repeat(2, 1, 1)[:4], "{} has the shape 4 x 40 x 40, no RGB image; give 3 x H x W: flatten transparency"),
        (GOOD.permute(1, 2, 0), "give 3 x H x W: permute(2, 0, 1) moves the channels."),
        (GOOD.numpy(), "{} has the shape 3 x 40 x 40, no RGB image; give H x W x 3: transpose(1, 2, 0) moves"),
        (np.zeros((40, 40, 4)), "give H x W x 3: flatten transparency"),
        (np.zeros((40, 40)), "give H x W x 3: repeat the grey channel"),
        (GOOD[None].repeat(2, 1, 1, 1), "{} has the shape 2 x 3 x 40 x 40, no RGB image; give 3 x H x W."),
        (torch.tensor(0.5), "{} has the shape (), no RGB image"),
        ([[0.5]], "{} is of type list. Give a file, a tensor or an array."),
        (None, "{} is of type NoneType."),
    ],
)
def test_what_is_no_rgb_image_of_floats_is_one_error_that_names_the_argument(image, said):
    for name, given in (("ref", (image, GOOD)), ("dist", (GOOD, image))):
        with pytest.raises(UserError, match=re.escape(said.format(name))) as raised:
            score("psnr", *given)
        assert str(raised.value).startswith(name)


def test_sizes_and_missing_files_name_the_argument(tmp_path):
    with pytest.raises(UserError, match="ref has 40 x 40 pixels and dist has 30 x 40"):
        score("psnr", GOOD, GOOD[:, :, :30])
    with pytest.raises(UserError, match="needs images of at least 64 px a side, and ref has 40 x 40"):
        score("birqa-tiny", GOOD, GOOD)
    with pytest.raises(UserError, match=r"^DIST: Image .*none\.png is missing"):
        score("psnr", GOOD, tmp_path / "none.png")
    with pytest.raises(UserError, match=r"needs images of at least 1 px a side, and ref has 0 x 40"):
        score("psnr", GOOD[:, :, :0], GOOD[:, :, :0])
    with pytest.raises(UserError, match="'psnr' has no weights"):
        score("psnr", GOOD, GOOD, weights="random")


def test_explain_draws_a_figure(pair, tmp_path, capsys):
    figure = tmp_path / "why.png"
    code, out, _ = run(
        capsys, tmp_path / "ref.png", tmp_path / "dist.png", "--metric", "birqa-tiny", "--explain", figure
    )
    assert code == 0
    assert "How it came about" in out
    with Image.open(figure) as drawn:
        assert drawn.width > 1000
        assert drawn.height > 2000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "psnr", "--explain", "why.png"], "metric 'psnr' has no explanation to draw. These have: birqa, "),
        (["--explain", "why.png"], "one metric is explained at a time. Name it with --metric."),
        (["--metric", "birqa-tiny", "--explain", "why.txt"], "figures are written as .png, .pdf, .svg."),
        (["--metric", "birqa-tiny", "--explain", "none/why.png"], "the folder none does not exist."),
    ],
)
def test_what_cannot_be_explained_is_said_before_anything_is_scored(pair, tmp_path, capsys, options, said):
    code, out, error = run(capsys, tmp_path / "ref.png", tmp_path / "dist.png", *options)
    assert (code, out) == (2, "")
    assert said in error


@pytest.mark.parametrize("mode", ["L", "P"])
def test_what_was_converted_is_noted_on_standard_error(pair, tmp_path, capsys, mode):
    """Grey and palette files score as what Pillow makes of them."""
    Image.open(tmp_path / "dist.png").convert(mode).save(tmp_path / "one.png")
    Image.open(tmp_path / "one.png").convert("RGB").save(tmp_path / "same.png")
    code, out, error = run(capsys, tmp_path / "ref.png", tmp_path / "one.png", "--metric", "psnr", "--json")
    what = {"L": "expanded from grey to RGB", "P": "expanded from a palette to RGB"}[mode]
    note = f"DIST {tmp_path / 'one.png'} is {what}."
    assert (code, error) == (0, f"note: {note}\n") and json.loads(out)["notes"] == [note]
    _, plain, error = run(capsys, tmp_path / "ref.png", tmp_path / "same.png", "--metric", "psnr", "--json")
    assert not error and json.loads(plain)["scores"] == json.loads(out)["scores"]


def psnr_of(capsys, ref, dist):
    """PSNR on the command line, and what is said beside it."""
    code, out, error = run(capsys, ref, dist, "--metric", "psnr", "--json")
    assert code == 0, error
    return json.loads(out)["scores"][0]["score"], error


def test_sixteen_bits_are_scored_in_full(capsys, tmp_path):
    """Every value of the two differs by 255 of 65,535, so that PSNR is 20 log10(257); cut to 8 bits they are equal."""
    pair = (IMAGES / "rgb16_a.png", IMAGES / "rgb16_b.png")
    score, error = psnr_of(capsys, *pair)
    assert score == pytest.approx(20 * np.log10(257), abs=1e-3)
    assert error == "".join(
        f"note: {n} {p} is read at 16 bits a channel.\n" for n, p in zip(("REF", "DIST"), pair, strict=True)
    )
    greys = np.random.default_rng(0).integers(0, 65536 - 255, (40, 50), dtype=np.uint16)
    for name, pixels in (("a", greys), ("b", greys + np.uint16(255))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    assert psnr_of(capsys, tmp_path / "a.png", tmp_path / "b.png")[0] == pytest.approx(20 * np.log10(257), abs=1e-3)


def test_files_turned_by_exif_are_turned_first(capsys, pair, tmp_path):
    score, error = psnr_of(capsys, IMAGES / "plain.jpg", IMAGES / "exif3.jpg")
    assert score == pytest.approx(43.68, abs=0.005)
    assert error == f"note: DIST {IMAGES / 'exif3.jpg'} is turned as the EXIF orientation says.\n"
    exif = Image.Exif()
    exif[274] = 3
    Image.open(tmp_path / "ref.png").rotate(180).save(tmp_path / "exif3.png", exif=exif)
    assert psnr_of(capsys, tmp_path / "ref.png", tmp_path / "exif3.png")[0] == 100, "identical"


@pytest.mark.parametrize("name", ["frames.png", "frames.webp", "pages.tif", "frames.gif"])
def test_several_frames_are_refused_with_their_number(capsys, pair, tmp_path, name):
    frames = [Image.open(tmp_path / "ref.png").rotate(90 * i) for i in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    code, out, error = run(capsys, tmp_path / "ref.png", tmp_path / name)
    assert (code, out) == (2, "")
    assert f"error: DIST: Image {tmp_path / name} holds 3 frames or pages, and one image is compared. Save" in error


def test_too_many_pixels_are_refused_before_they_are_decoded(capsys, pair, tmp_path, monkeypatch):
    """169 million, of which the file holds but the head; 400 million raise Pillow's own alarm unless it is asked."""
    whole = (tmp_path / "ref.png").read_bytes()
    for side in (13_000, 20_000):
        head = whole[12:16] + side.to_bytes(4, "big") * 2 + whole[24:29]
        (tmp_path / "large.png").write_bytes(whole[:12] + head + zlib.crc32(head).to_bytes(4, "big") + whole[33:])
        code, out, error = run(capsys, tmp_path / "ref.png", tmp_path / "large.png")
        assert (code, out) == (2, "") and error.count("\n") == 1
        assert f"has {side} x {side} = {side * side:,} pixels, and the limit is 40,000,000. Crop or shrink it" in error
        assert f"or give --max-pixels {side * side} (or set ROBUSTIQA_MAX_PIXELS) where memory suffices" in error
    same = (tmp_path / "ref.png", tmp_path / "ref.png")
    for limit, said in (("7679", "has 96 x 80 = 7,680 pixels, and the limit is 7,679"), ("4k", "'4k' is no number of")):
        monkeypatch.setenv("ROBUSTIQA_MAX_PIXELS", limit)
        code, _, error = run(capsys, *same)
        assert code == 2 and said in error
    monkeypatch.setenv("ROBUSTIQA_MAX_PIXELS", "7_680")
    assert psnr_of(capsys, *same)[0] == 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"device": "banana"}, "device 'banana' cannot be used"),
        ({"metric": None}, "unknown metric 'None'"),
        ({"parameters": {"channels": object()}}, "parameters: Object of type object is not JSON serializable"),
    ],
)
def test_what_is_no_argument_of_score_is_one_error(arguments, said):
    image = torch.full((3, 16, 16), 0.5)
    with pytest.raises(UserError, match=re.escape(said)):
        score(**{"metric": "psnr", "ref": image, "dist": image, **arguments})


def test_json_has_no_number_that_json_has_not(pair, tmp_path, capsys):
    code, out, _ = run(capsys, tmp_path / "ref.png", tmp_path / "ref.png", "--metric", "psnr", "--json")
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail)["scores"]


def test_a_fault_of_a_plugin_names_it_once(toy_file):
    image = torch.full((3, 16, 16), 0.5)
    with pytest.raises(UserError) as caught:
        score("wrong_shape", image, image, plugins=[toy_file])
    said = str(caught.value)
    assert said.count("metric 'wrong_shape'") == 1 and "score() returned shape (1, 1)" in said
