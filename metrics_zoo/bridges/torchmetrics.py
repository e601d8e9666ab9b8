"""`torchmetrics:NAME`: the full-reference image metrics of torchmetrics that need nothing besides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.contracts import Metric
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library
from metrics_zoo.bridges.functional import KnownMetric, metric_class

_INF = math.inf
UNIT = {"data_range": 1.0}
EACH = {"reduction": "none"}

KNOWN: Mapping[str, KnownMetric] = {
    "ergas": KnownMetric(
        "error_relative_global_dimensionless_synthesis",
        "Relative error of the channels, ERGAS (Wald 2000)",
        False,
        (0, _INF),
        parameters=("ratio",),
        fixed=EACH,
        note="Infinite or no number where a channel of the reference is black throughout.",
    ),
    "ms_ssim": KnownMetric(
        "multiscale_structural_similarity_index_measure",
        "MS-SSIM of R, G and B (Wang et al. 2003), mirrored at the borders",
        True,
        (0, 1),
        minimum_size=176,
        parameters=("k1", "k2"),
        fixed=UNIT | EACH,
        cite="wang2003msssim",
    ),
    "psnr": KnownMetric(
        "peak_signal_noise_ratio",
        "PSNR of R, G and B in dB, infinite for identical images",
        True,
        (0, _INF),
        fixed=UNIT | EACH | {"dim": (1, 2, 3)},
    ),
    "rase": KnownMetric(
        "relative_average_spectral_error",
        "Relative average spectral error, RASE, in windows of 8 px",
        False,
        (0, _INF),
        minimum_size=9,
        row_by_row=True,
        note="Infinite or no number where a window of the reference is black.",
    ),
    "rmse_sw": KnownMetric(
        "root_mean_squared_error_using_sliding_window",
        "Root mean squared error in windows of 8 px",
        False,
        (0, 1),
        minimum_size=9,
        row_by_row=True,
    ),
    "sam": KnownMetric(
        "spectral_angle_mapper",
        "Angle between the colours of a pixel, SAM, in radians",
        False,
        (0, math.pi / 2),
        fixed=EACH,
        note="No number where a pixel of either image is black: black has no angle.",
    ),
    "scc": KnownMetric(
        "spatial_correlation_coefficient",
        "Spatial correlation of edges, SCC (Zhou et al. 1998), in windows of 8 px",
        True,
        (-1, 1),
        minimum_size=8,
        fixed=EACH,
        cite="zhou1998wavelet",
    ),
    "ssim": KnownMetric(
        "structural_similarity_index_measure",
        "SSIM of R, G and B (Wang et al. 2004), mirrored at the borders",
        True,
        (-1, 1),
        minimum_size=6,
        parameters=("k1", "k2"),
        fixed=UNIT | EACH,
        cite="wang2004ssim",
    ),
    "uqi": KnownMetric(
        "universal_image_quality_index",
        "Universal quality index of R, G and B (Wang & Bovik 2002): SSIM without constants",
        True,
        (-1, 1),
        minimum_size=11,
        fixed=EACH,
        cite="wang2002uqi",
    ),
    "vif": KnownMetric(
        "visual_information_fidelity",
        "VIF in the pixel domain (Sheikh & Bovik 2006), the mean over R, G and B",
        True,
        (0, _INF),
        minimum_size=41,
        parameters=("sigma_n_sq",),
        fixed=EACH,
        scale=255.0,
        differentiable=False,
        note="Images are given to it in [0, 255], for which its noise variance sigma_n_sq is stated.",
        cite="sheikh2006vif",
    ),
}


@bridge("torchmetrics", "metrics", library="torchmetrics")
class TorchMetrics(Bridge):
    """Full-reference image metrics of torchmetrics; images in [0, 1], data range 1."""

    cite = "detlefsen2022torchmetrics"

    def names(self) -> Sequence[str]:
        """The metrics whose direction, range and smallest size are known."""
        return list(KNOWN)

    def cited(self, name: str) -> str | tuple[str, ...]:
        """The paper of that name, where the bridge knows it."""
        if name not in KNOWN:
            raise NoSuchNameError(name)
        return KNOWN[name].cite

    def load(self, name: str) -> type[Metric]:
        """The metric of that name.

        Raises:
            UserError: torchmetrics cannot be imported.
        """
        if name not in KNOWN:
            raise NoSuchNameError(name)
        functions = import_library("torchmetrics.functional.image", "pip install torchmetrics")
        return metric_class("torchmetrics", name, KNOWN[name], functions)
