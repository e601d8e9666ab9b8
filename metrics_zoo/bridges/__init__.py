"""Metrics of other libraries under their names there: `torchmetrics:ssim`, `piq:gmsd`, `pyiqa:lpips`."""
