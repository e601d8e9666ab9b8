"""What is published of the data sets that come with a loader: sizes, terms, where they are to be had, and how they lie.

Sizes and ratings of the first six are those of Table 1 of the BiRQA paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.files import data_dir


@dataclass(frozen=True)
class Archive:
    """One archive of a data set that can be fetched: its address and the sha256 of what must come."""

    part: str
    """What is unpacked of it into the set's folder."""
    url: str
    sha256: str


@dataclass(frozen=True)
class Published:
    """What its authors say of a data set."""

    title: str
    resolution: str
    references: str
    images: str
    ratings: str
    """How many judgements; empty where that is not known."""
    licence: str
    page: str
    layout: str
    """What lies in its folder, in one line."""
    folder: str
    """Its name in the data folder; empty for a set that comes with robustiqa."""
    archives: tuple[Archive, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """Split -> items of the whole set."""

    @property
    def where(self) -> str:
        """Its folder; empty where it needs none."""
        return str(data_dir() / self.folder) if self.folder else ""


_ON_PAGE = "on its page"
_BAPPS = "https://perceptual-similarity.s3.us-west-2.amazonaws.com/dataset"
_PIEAPP = "{train,val,test}_reference_list.txt, reference_images/, distorted_images/, labels/"

CATALOGUE: Mapping[str, Published] = {
    "mini": Published(
        *("mini, embedded", "128 x 128", "68", "6,800", "proxy", "CC0, public domain"),
        *("harness/datasets/mini/references.csv", "", ""),
    ),
    "mini_2afc": Published(
        *("mini, triplets", "128 x 128", "68", "744 triplets", "proxy", "CC0, public domain"),
        *("harness/datasets/mini/references.csv", "", ""),
    ),
    "live": Published(
        *("LIVE release 2", "768 x 512", "29", "779", "25k", "keep its notice"),
        "https://live.ece.utexas.edu/research/quality/subjective.htm",
        "dmos.mat or dmos_realigned.mat, refnames_all.mat, refimgs/, jp2k/, jpeg/, wn/, gblur/, fastfading/",
        "live",
        counts={"all": 779},
    ),
    "csiq": Published(
        *("CSIQ", "512 x 512", "30", "866", "5k", _ON_PAGE),
        "http://vision.eng.shizuoka.ac.jp/mod/page/view.php?id=23",
        "csiq.DMOS.xlsx or csiq_label.txt, src_imgs/, dst_imgs/{awgn,blur,contrast,fnoise,jpeg,jpeg2000}/ (or flat)",
        "csiq",
        counts={"all": 866},
    ),
    "tid2013": Published(
        *("TID2013", "512 x 384", "25", "3,000", "524k", _ON_PAGE),
        "https://www.ponomarenko.info/tid2013.htm",
        "mos_with_names.txt, reference_images/I01.BMP, distorted_images/i01_01_1.bmp",
        "tid2013",
        counts={"all": 3000},
    ),
    "kadid10k": Published(
        *("KADID-10k", "512 x 384", "81", "10,125", "30.4k", "research"),
        "https://database.mmsp-kn.de/kadid-10k-database.html",
        "dmos.csv, images/I01.png, images/I01_01_01.png",
        "kadid10k",
        counts={"all": 10125},
    ),
    "pipal": Published(
        *("PIPAL", "288 x 288", "250 (200 public)", "23,200", "1.13M", _ON_PAGE),
        "https://www.jasongt.com/projectpages/pipal.html",
        "Train_Label/A0001.txt, Train_Ref/A0001.bmp, Train_Dist/A0001_00_00.bmp or Distortion_1/ to Distortion_4/",
        "pipal",
        counts={"all": 23200},
    ),
    "pieapp": Published(
        *("PieAPP, scored images", "256 x 256", "200 (40 scored)", "20,280 (600 scored)", "1M+", _ON_PAGE),
        *("https://github.com/prashnani/PerceptualImageError", _PIEAPP, "pieapp"),
        counts={"test": 600},
    ),
    "pieapp_2afc": Published(
        *("PieAPP, pairs of images", "256 x 256", "200", "20,280", "1M+", _ON_PAGE),
        *("https://github.com/prashnani/PerceptualImageError", _PIEAPP, "pieapp"),
        counts={"test": 4200},
    ),
    "bapps": Published(
        *("BAPPS", "64 x 64", "187k", "187k triplets", "", _ON_PAGE),
        "https://github.com/richzhang/PerceptualSimilarity",
        "{val,train}/{traditional,cnn,...}/{ref,p0,p1}/000000.png, {val,train}/{traditional,cnn,...}/judge/000000.npy",
        "bapps",
        archives=(  # the hashes are as a public reader has them (tasksource); the authors publish none
            Archive(
                "val",
                f"{_BAPPS}/twoafc_val.tar.gz",
                "41486671b06de923e7ba277c4797d4d9d86d609863ba35ecdb576133f8b9d859",
            ),
            Archive(
                "train",
                f"{_BAPPS}/twoafc_train.tar.gz",
                "b4f5c772c7cd88ac44bcb4ff0741745d434c05f0094f2bfb262ddcd0055bf393",
            ),
        ),
        counts={"train": 151400},
    ),
    "nights": Published(
        *("NIGHTS", "224 x 224", "20,019", "20,019 triplets", "", _ON_PAGE),
        "https://dreamsim-nights.github.io",
        "data.csv, ref/000/000.png, distort/000/000_0.png, distort/000/000_1.png",
        "nights",
    ),
    "pdap_hdds": Published(
        *("PDAP-HDDS", "1920 x 1080", "250", "12,000", "", _ON_PAGE),
        "https://sites.google.com/site/eelab907/zi-liao-ku",
        "PDAP-HDDS.txt (from https://github.com/icbcbicc/IQA-Dataset, folder csv), "
        "reference_image/all_reference_image/, distorted_image/{awgn,brightness,...}/",
        "pdap_hdds",
        counts={"all": 12000},
    ),
}
"""Registered name -> what is published."""
