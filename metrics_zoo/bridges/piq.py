"""`piq:NAME`: the full-reference metrics of piq that need no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.contracts import Metric
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library
from metrics_zoo.bridges.functional import KnownMetric, metric_class

_INF = math.inf
FIXED = {"data_range": 1.0, "reduction": "none"}

KNOWN: Mapping[str, KnownMetric] = {
    "dss": KnownMetric(
        "dss",
        "DCT subband similarity of the luma (Balanov et al. 2015)",
        True,
        (-1, 1),
        minimum_size=32,
        fixed=FIXED,
        exact_gradient=False,
        note="What is left of a side beyond a multiple of 8 px is cut off. The library says [0, 1]; the covariance "
        "of the lowest band can be negative.",
        cite="balanov2015dss",
    ),
    "fsim": KnownMetric(
        "fsim",
        "FSIM (Zhang et al. 2011), FSIMc with chromatic",
        True,
        (0, 1),
        minimum_size=2,
        parameters=("chromatic",),
        fixed=FIXED,
        cite="zhang2011fsim",
    ),
    "gmsd": KnownMetric(
        "gmsd",
        "Gradient magnitude similarity deviation of the luma (Xue et al. 2014)",
        False,
        (0, 0.5),
        parameters=("t",),
        fixed=FIXED,
        note="The standard deviation of values in [0, 1] is at most 0.5.",
        cite="xue2014gmsd",
    ),
    "haarpsi": KnownMetric(
        "haarpsi",
        "HaarPSI (Reisenhofer et al. 2018)",
        True,
        (0, 1),
        minimum_size=16,
        parameters=("c", "alpha", "subsample"),
        fixed=FIXED,
        note="Two black images score infinity.",
        cite="reisenhofer2018haarpsi",
    ),
    "information_weighted_ssim": KnownMetric(
        "information_weighted_ssim",
        "IW-SSIM of the luma (Wang & Li 2011)",
        True,
        (0, 1),
        minimum_size=161,
        parameters=("parent", "sigma_nsq", "k1", "k2"),
        fixed=FIXED,
        row_by_row=True,
        note="A flat reference has no score: the library inverts a matrix that is singular there.",
        cite="wang2011iwssim",
    ),
    "mdsi": KnownMetric(
        "mdsi",
        "Mean deviation similarity index (Nafchi et al. 2016)",
        False,
        (0, 1.25),
        fixed=FIXED,
        note="1.25 is a bound, not attained.",
        cite="nafchi2016mdsi",
    ),
    "multi_scale_gmsd": KnownMetric(
        "multi_scale_gmsd",
        "GMSD of the luma on four scales (Zhang et al. 2017)",
        False,
        (0, 0.5),
        minimum_size=17,
        fixed=FIXED,
        cite="zhang2017msgmsd",
    ),
    "multi_scale_ssim": KnownMetric(
        "multi_scale_ssim",
        "MS-SSIM of R, G and B (Wang et al. 2003), whole windows only",
        True,
        (0, 1),
        minimum_size=161,
        parameters=("kernel_sigma", "k1", "k2"),
        fixed=FIXED,
        cite="wang2003msssim",
    ),
    "psnr": KnownMetric(
        "psnr",
        "PSNR in dB, the mean squared error raised by 1e-8",
        True,
        (0, 80),
        parameters=("convert_to_greyscale",),
        fixed=FIXED,
    ),
    "srsim": KnownMetric(
        "srsim",
        "Spectral residual similarity (Zhang & Li 2012)",
        True,
        (0, 1),
        minimum_size=40,
        parameters=("chromatic",),
        fixed=FIXED,
        row_by_row=True,
        exact_gradient=False,
        note="The library scales saliency by its extremes over the whole batch.",
        cite="zhang2012srsim",
    ),
    "ssim": KnownMetric(
        "ssim",
        "SSIM of R, G and B (Wang et al. 2004), whole windows only, large images averaged down first",
        True,
        (-1, 1),
        minimum_size=11,
        parameters=("kernel_sigma", "k1", "k2", "downsample"),
        fixed=FIXED,
        cite="wang2004ssim",
    ),
    "vif_p": KnownMetric(
        "vif_p",
        "VIF in the pixel domain, of the luma (Sheikh & Bovik 2006)",
        True,
        (0, _INF),
        minimum_size=41,
        parameters=("sigma_n_sq",),
        fixed=FIXED,
        cite="sheikh2006vif",
    ),
    "vsi": KnownMetric(
        "vsi", "Visual saliency-induced index (Zhang et al. 2014)", True, (0, 1), fixed=FIXED, cite="zhang2014vsi"
    ),
}


@bridge("piq", "metrics", library="piq")
class Piq(Bridge):
    """Full-reference metrics of piq without weights; images in [0, 1], data range 1."""

    cite = "kastryulin2022piq"

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
            UserError: piq, or torchvision, which it imports, cannot be imported.
        """
        if name not in KNOWN:
            raise NoSuchNameError(name)
        return metric_class("piq", name, KNOWN[name], import_library("piq"))
