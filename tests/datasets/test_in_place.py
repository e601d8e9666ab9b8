"""Folders as they lie about, from the command line's way on: what is changed in place is noticed, what lies beside is not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.stats import spearmanr
from skimage.metrics import peak_signal_noise_ratio

from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import read_suite

REFERENCES, LEVELS = 4, 5


def make_tid(root: Path) -> None:
    """Waves with noise, disturbed by noise (01) and by a shift (16), rated by level."""
    (root / "reference_images").mkdir(parents=True)
    (root / "distorted_images").mkdir()
    y, x = np.mgrid[0:64, 0:80]
    lines = []

    def save(pixels, place):
        Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(root / place)

    for r in range(1, REFERENCES + 1):
        rng = np.random.default_rng(r)
        waves = [127 + 90 * np.sin(x / (5 + r) + c) * np.cos(y / (7 + c)) for c in range(3)]
        base = np.stack(waves, -1) + rng.normal(0, 6, (64, 80, 3))
        save(base, f"reference_images/I{r:02}.BMP")
        for kind in (1, 16):
            for level in range(1, LEVELS + 1):
                name = f"i{r:02}_{kind:02}_{level}.bmp"
                save(
                    base + (rng.normal(0, 4 * level, base.shape) if kind == 1 else 5 * level),
                    f"distorted_images/{name}",
                )
                lines.append(f"{8 - level - 0.1 * r + 0.3 * (kind == 16):.5f} {name}\n")
    (root / "mos_with_names.txt").write_text("".join(lines))


def srocc_of_psnr(root: Path) -> float:
    """With the opinions, by scikit-image and scipy; shifted images are nearly ties, which float32 breaks otherwise."""
    opinions, psnr = [], []
    for line in (root / "mos_with_names.txt").read_text().splitlines():
        mos, name = line.split()
        ref = np.asarray(Image.open(root / f"reference_images/I{name[1:3]}.BMP"))
        opinions.append(float(mos))
        psnr.append(peak_signal_noise_ratio(ref, np.asarray(Image.open(root / "distorted_images" / name))))
    return float(spearmanr(opinions, psnr).statistic)


@pytest.fixture
def root(tmp_path):
    make_tid(tmp_path / "tid")
    return tmp_path / "tid"


def test_an_image_changed_in_place_is_noticed_and_what_lies_beside_it_is_not(root, tmp_path):
    suite = {"name": "s", "datasets": [{"name": "tid2013", "root": str(root)}], "metrics": ["psnr", "ssim"]}

    def run():
        registry = Registry()
        found = run_suite(
            read_suite({**suite, "tables": ["srocc"]}, registry),
            registry,
            Options(tmp_path / "run", "serial", probe=False),
        )
        frame = next(table.frame for table in found.tables if table.name == "srocc")
        return found.jobs, [float(frame[frame["metric"] == name]["clean_srocc"].iloc[0]) for name in ("psnr", "ssim")]

    jobs, before = run()
    assert jobs and before == pytest.approx([0.92, 0.63], abs=0.005)
    assert before[0] == pytest.approx(srocc_of_psnr(root), abs=1e-3)
    image = root / "distorted_images/i01_01_1.bmp"
    ImageOps.invert(Image.open(image)).save(image)
    jobs, after = run()
    assert jobs and after == pytest.approx([0.80, 0.56], abs=0.005), "the right values of the changed set"
    assert after[0] == pytest.approx(srocc_of_psnr(root), abs=1e-3)
    for name in ("Thumbs.db", ".DS_Store", "._i01_01_1.bmp", "readme.txt", "i09_09_9.bmp"):
        (root / "distorted_images" / name).write_bytes(b"\x00\x05\x16\x07")
    labels = root / "mos_with_names.txt"
    labels.write_text(labels.read_text(), encoding="utf-8-sig", newline="\r\n")
    assert run() == (0, after)
