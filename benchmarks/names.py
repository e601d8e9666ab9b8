"""How far the classical metrics lie from what bears their name elsewhere; the numbers of docs/metrics.md.

pip install --no-deps piq==0.8.0
python benchmarks/names.py --tid2013 FOLDER [--every 23] [--pair REFERENCE DISTORTED]

On the images of a TID2013 tree (every 23rd of them): the largest and the mean difference of two functions, and the
|SROCC| with the opinions of both, which so few images leave open. On one more pair, which needs no opinion: their
difference. All compute in float64, torchmetrics in float32. pyiqa cannot be installed beside robustiqa everywhere, so
what it does differently is written out here from its description.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytorch_msssim
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics import functional as torchmetrics

from harness.datasets.images import read_image
from harness.datasets.mini.labels import _import_piq
from harness.plugins.registry import Registry
from metrics_zoo.classical.ms_ssim import EXPONENTS
from metrics_zoo.gaussian import C1, C2, TAPS, blur_valid, luma, on_grid

Score = Callable[[Tensor, Tensor], Tensor]
"""(reference, distorted image), 1 x 3 x H x W each -> score."""


def ours(name: str, **parameters: object) -> Score:
    metric = Registry().metric(name).build(parameters)
    return lambda ref, dist: metric(ref=ref, dist=dist)


def pyiqa_scale(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure, each value of the latter at least 0."""
    mean, other, square, other_square, product = (blur_valid(m) for m in (y, z, y * y, z * z, y * z))
    contrast = (2 * (product - mean * other) + C2) / (square - mean**2 + other_square - other**2 + C2)
    contrast = contrast.clamp_min(0)
    return ((2 * mean * other + C1) / (mean**2 + other**2 + C1) * contrast).mean(), contrast.mean()


def pyiqa_ms_ssim(ref: Tensor, dist: Tensor) -> Tensor:
    """Contrast clipped for each pixel, and the luma rounded on every scale of the colour image."""
    score = torch.ones((), dtype=ref.dtype)
    for scale, exponent in enumerate(EXPONENTS, start=1):
        ssim, contrast = pyiqa_scale(on_grid(luma(ref)), on_grid(luma(dist)))
        score = score * (ssim if scale == len(EXPONENTS) else contrast) ** exponent
        ref, dist = (F.avg_pool2d(x, 2, padding=(x.shape[2] % 2, x.shape[3] % 2)) for x in (ref, dist))
    return score


def scikit_ssim(ref: Tensor, dist: Tensor) -> Tensor:
    y, z = (luma(x)[0, 0].numpy() for x in (ref, dist))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return torch.tensor(structural_similarity(y, z, **options))


def compared() -> dict[str, tuple[Score, Score]]:
    """What is measured: a title, ours, theirs."""
    piq = _import_piq()
    taps = torch.tensor(TAPS[:0:-1] + TAPS, dtype=torch.float64).view(1, 1, 1, -1)

    def of_piq(function: Callable[..., Tensor], **options: object) -> Score:
        return lambda ref, dist: function(dist, ref, reduction="none", **options)

    def msssim(function: Callable[..., Tensor], colour: bool) -> Score:
        def score(ref: Tensor, dist: Tensor) -> Tensor:
            pair = (dist, ref) if colour else (luma(dist), luma(ref))
            window = taps.expand(3 if colour else 1, 1, 1, -1)
            return function(*pair, data_range=1, size_average=False, win=window)

        return score

    def tm(function: Callable[..., Tensor]) -> Score:
        return lambda ref, dist: function(dist.float(), ref.float(), data_range=1.0)

    return {
        "psnr | piq.psnr": (ours("psnr"), of_piq(piq.psnr)),
        "psnr | torchmetrics": (ours("psnr"), tm(torchmetrics.image.peak_signal_noise_ratio)),
        "ssim | scikit-image, luma, Gaussian": (ours("ssim"), scikit_ssim),
        "ssim | pytorch-msssim, luma": (ours("ssim"), msssim(pytorch_msssim.ssim, False)),
        "ssim | pytorch-msssim, RGB": (ours("ssim"), msssim(pytorch_msssim.ssim, True)),
        "ssim | torchmetrics": (ours("ssim"), tm(torchmetrics.image.structural_similarity_index_measure)),
        "ssim | pyiqa's ssim, as described": (
            ours("ssim"),
            lambda r, d: pyiqa_scale(on_grid(luma(r)), on_grid(luma(d)))[0],
        ),
        "ssim | luma: uint8": (ours("ssim"), ours("ssim", luma="uint8")),
        "ssim | ssim-matlab": (ours("ssim"), ours("ssim-matlab")),
        "ssim-matlab | ssim-matlab-rgb": (ours("ssim-matlab"), ours("ssim-matlab-rgb")),
        "ssim-matlab-rgb | piq.ssim": (ours("ssim-matlab-rgb"), of_piq(piq.ssim)),
        "ms_ssim | pytorch-msssim, luma": (ours("ms_ssim"), msssim(pytorch_msssim.ms_ssim, False)),
        "ms_ssim | pytorch-msssim, RGB": (ours("ms_ssim"), msssim(pytorch_msssim.ms_ssim, True)),
        "ms_ssim | pyiqa's ms_ssim, as described": (ours("ms_ssim"), pyiqa_ms_ssim),
        "ms_ssim | luma: uint8": (ours("ms_ssim"), ours("ms_ssim", luma="uint8")),
        "gmsd | piq.gmsd": (ours("gmsd"), of_piq(piq.gmsd)),
        "gmsd | luma: uint8": (ours("gmsd"), ours("gmsd", luma="uint8")),
        "vifp | piq.vif_p": (ours("vifp"), of_piq(piq.vif_p)),
        "vifp | torchmetrics, vif": (
            ours("vifp"),
            lambda r, d: torchmetrics.image.visual_information_fidelity(255 * d.float(), 255 * r.float()),
        ),
        "vifp | luma: uint8": (ours("vifp"), ours("vifp", luma="uint8")),
        "haarpsi | piq.haarpsi": (ours("haarpsi"), of_piq(piq.haarpsi)),
        "fsim | piq.fsim": (ours("fsim"), of_piq(piq.fsim)),
        "fsim | piq.fsim, chromatic=False": (ours("fsim"), of_piq(piq.fsim, chromatic=False)),
    }


def colour_alone(ref: Tensor) -> Tensor:
    """The image with another colour at the same BT.601 luma, within [0, 1]."""
    change = torch.tensor([0.06, -0.06 * 0.299 / 0.587, 0], dtype=ref.dtype).view(1, 3, 1, 1)
    stripes = torch.sin(torch.arange(ref.shape[-1], dtype=ref.dtype) / 5)
    return on_grid(0.1 + 0.8 * ref + change * stripes), on_grid(0.1 + 0.8 * ref)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tid2013", required=True, help="a folder in TID2013's layout")
    parser.add_argument("--every", type=int, default=23, help="of how many images one is taken")
    parser.add_argument("--types", type=int, nargs="*", default=[], help="distortion types, if not all")
    parser.add_argument("--references", type=int, nargs="*", default=[], help="references, if not all")
    parser.add_argument("--pair", nargs=2, type=Path, help="a reference and a distorted image, compared by itself")
    arguments = parser.parse_args()
    options = {key: getattr(arguments, key) for key in ("types", "references") if getattr(arguments, key)}
    data = Registry().dataset("tid2013").build({"root": arguments.tid2013, **options})
    entries = data.entries("all")[:: arguments.every]
    pairs = compared()
    scores: dict[str, list[tuple[float, float]]] = {title: [] for title in pairs}
    for entry in entries:
        images = data.load(entry)
        ref, dist = (images[key].double()[None] for key in ("ref", "dist"))
        with torch.inference_mode():
            for title, (mine, theirs) in pairs.items():
                scores[title].append((float(mine(ref, dist)), float(theirs(ref, dist))))
    alone: dict[str, str] = {}
    if arguments.pair:
        ref, dist = (read_image(file).double()[None] for file in arguments.pair)
        with torch.inference_mode():
            alone = {title: f"{abs(float(a(ref, dist)) - float(b(ref, dist))):.2g}" for title, (a, b) in pairs.items()}
    opinions = [entry.opinion for entry in entries]
    print(f"{len(entries)} images of {arguments.tid2013}")
    print("| ours, theirs | largest difference | mean | SROCC, ours | theirs | the pair |\n|---|---|---|---|---|---|")
    for title, found in scores.items():
        values = torch.tensor(found, dtype=torch.float64)
        apart = (values[:, 0] - values[:, 1]).abs()
        ranks = [abs(spearmanr(values[:, side], opinions).statistic) for side in (0, 1)]
        cells = [f"{apart.max():.2g}", f"{apart.mean():.2g}", *(f"{rank:.3f}" for rank in ranks), alone.get(title, "")]
        print(f"| {' | '.join([title, *cells])} |")
    with torch.inference_mode():
        ref = data.load(entries[0])["ref"].double()[None]
        dist, ref = colour_alone(ref)
        kept, rounded = (float(ours("gmsd", luma=luma_)(ref, dist)) for luma_ in ("float", "uint8"))
        print(f"gmsd where colour alone differs: float {kept:.5f}, uint8 {rounded:.5f}, ratio {rounded / kept:.2f}")
        # FeatureSIM.m begins its blocks (block - 1) // 2 pixels earlier, among zeros: of 3 px at 768 x 1024.
        ref, dist = (F.interpolate(data.load(entries[0])[key].double()[None], (768, 1024)) for key in ("ref", "dist"))
        padded = (F.pad(images, (1, 0, 1, 0)) for images in (ref, dist))
        fsim = ours("fsim")
        print(f"fsim, blocks of 3 px as here {float(fsim(ref, dist)):.5f}, as FeatureSIM.m {float(fsim(*padded)):.5f}")


if __name__ == "__main__":
    main()
