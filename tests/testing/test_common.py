"""The made images that plugins are probed on."""

import numpy as np
import torch

from harness.testing import distorted, natural


def test_made_images_look_as_said():
    images = torch.stack([natural(i, 33, 48) for i in range(3)])
    assert images.shape == (3, 3, 33, 48) and images.dtype == torch.float32
    assert float(images.min()) >= 0.1 and float(images.max()) <= 0.9 and float(images.std()) > 0.05
    errors = [float((distorted(images, s) - images).square().mean()) for s in (0.1, 0.5, 1.0)]
    assert errors == sorted(errors) and errors[0] > 0
    spectrum = np.abs(np.fft.fft2(images[0, 0].numpy())) ** 2
    assert spectrum[0, 1:4].mean() > 100 * spectrum[12:16, 12:24].mean()
