"""Published correlations with people's opinions, where LIVE, CSIQ or TID2013 lie in $ROBUSTIQA_DATA_DIR; else skipped.

Minutes, by the cost of a pair: none of these sets is whole where the test was written, so its time was not measured.
"""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr, spearmanr
from skimage.metrics import peak_signal_noise_ratio

from harness.contracts import DataError
from harness.errors import UserError
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry

WHOLE = {"live": 779, "csiq": 866, "tid2013": 3000}
"""Images of the whole set; a part of one has other correlations."""
PUBLISHED = {
    "psnr": {"live": (0.844, 0.873), "csiq": (0.786, 0.809), "tid2013": (0.660, 0.687)},
    "ssim": {"live": (0.825, 0.910), "csiq": (0.765, 0.837), "tid2013": (0.656, 0.627)},
    "lpips-alex": {"live": (0.844, 0.924), "csiq": (0.901, 0.923), "tid2013": (0.753, 0.745)},
    "lpips-vgg": {"live": (0.934, 0.932), "csiq": (0.904, 0.883), "tid2013": (0.732, 0.670)},
    "topiq": {"live": (0.954, 0.976), "csiq": (0.959, 0.967), "tid2013": (0.916, 0.917)},
    # ssim.m, of which no PLCC without a fitted curve was found.
    "ssim-matlab": {"live": (None, 0.948)},
}
"""Metric -> set -> PLCC of the scores as they are, SROCC: pyiqa's benchmark, and Wang's program in most tables on LIVE."""
TOLERANCE = {"plcc": 0.02, "srocc": 0.01}
"""pyiqa rounds the luma and clips SSIM's contrast; LIVE's scores exist as released and realigned."""


def scored(dataset, metrics):
    """Quality by each metric and opinions, of every image: {name: [N]}, [N]."""
    quality, opinions = {name: [] for name in metrics}, []
    encoded = {}
    for entry in sorted(dataset.entries("all"), key=lambda entry: entry.reference_id):
        images = dataset.load(entry)
        with torch.inference_mode():
            if entry.reference_id not in encoded:
                encoded = {entry.reference_id: {n: m.encode(images["ref"][None]) for n, m in metrics.items()}}
            for name, metric in metrics.items():
                score = float(metric.score(encoded[entry.reference_id][name], images["dist"][None]))
                quality[name].append(score if metric.higher_is_better else -score)
        opinions.append(entry.opinion)
    return {name: np.array(values) for name, values in quality.items()}, np.array(opinions)


def whole_set(name):
    """The data set, or a skip."""
    dataset = Registry().dataset(name).build({})
    try:
        found = len(dataset.entries("all"))
    except DataError as error:
        pytest.skip(str(error))
    if found != WHOLE[name]:
        pytest.skip(f"{name} has {found} of {WHOLE[name]} images here")
    return dataset


def with_weights(name):
    """The metric with its default weights, or a skip."""
    try:
        return default_metric(name, Registry(), torch.device("cpu"))
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("psnr", "ssim", "ssim-matlab"), ("lpips-alex",), ("lpips-vgg",), ("topiq",)], ids=str
)
@pytest.mark.parametrize("data", WHOLE)
def test_correlations_with_opinions_are_the_published_ones(data, names):
    dataset = whole_set(data)
    quality, opinions = scored(dataset, {name: with_weights(name) for name in names})
    wrong = []
    for name in names:
        plcc, srocc = PUBLISHED[name].get(data, (None, None))
        found = {"plcc": pearsonr(quality[name], opinions)[0], "srocc": spearmanr(quality[name], opinions)[0]}
        for which, target in (("plcc", plcc), ("srocc", srocc)):
            if target is not None and abs(found[which] - target) > TOLERANCE[which]:
                wrong.append(f"{which} of {name} on {data}: {found[which]:.3f}, published {target}")
    assert not wrong, "; ".join(wrong)


def small_tid2013(root):
    """Two references under two kinds of noise, five levels each, with opinions in no order."""
    rng = np.random.default_rng(0)
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    lines = []
    for name in ("i01", "i02"):
        pixels = rng.integers(40, 216, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"reference_images/{name.upper()}.BMP")
        for kind, level in itertools.product(("01", "02"), range(1, 6)):
            noise = rng.integers(-8 * level, 8 * level + 1, pixels.shape)
            Image.fromarray((pixels + noise).astype(np.uint8)).save(
                root / f"distorted_images/{name}_{kind}_{level}.bmp"
            )
            lines.append(f"{9 * rng.random():.4f} {name}_{kind}_{level}.bmp")
    (root / "mos_with_names.txt").write_text("\n".join(lines))


def test_a_part_of_a_set_is_scored_as_scikit_image_does_and_not_taken_for_the_whole(tmp_path, monkeypatch):
    """Found as a user's folder is."""
    small_tid2013(tmp_path / "tid2013")
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(tmp_path))
    dataset = Registry().dataset("tid2013").build({})
    quality, opinions = scored(dataset, {"psnr": with_weights("psnr")})
    pairs = [(entry.opinion, dataset.load(entry)) for entry in dataset.entries("all")]
    theirs = [peak_signal_noise_ratio(i["ref"].numpy(), i["dist"].numpy(), data_range=1) for _, i in pairs]
    assert len(opinions) == 20
    assert spearmanr(quality["psnr"], opinions)[0] == pytest.approx(spearmanr(theirs, [o for o, _ in pairs])[0])
    with pytest.raises(pytest.skip.Exception, match="tid2013 has 20 of 3000 images"):
        whole_set("tid2013")
    with pytest.raises(pytest.skip.Exception, match="LIVE"):
        whole_set("live")
    monkeypatch.setitem(WHOLE, "tid2013", 20)
    with pytest.raises(AssertionError, match=r"srocc of ssim on tid2013: -?0\.\d+, published 0\.627"):
        test_correlations_with_opinions_are_the_published_ones("tid2013", ("psnr", "ssim", "ssim-matlab"))
