"""Tiny trees in the official layouts. In each, an image of level i is the reference made brighter by 20 i."""

from pathlib import Path

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image
from scipy.io import savemat

from harness.contracts import DataError

LIVE_COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
CSIQ_ROWS = [
    (1600, 1, "noise", 1, 0.062),
    (1600, 1, "noise", 3, 0.206),
    (1600, 3, "jpeg 2000", 5, 0.86),
    ("boston", 6, "contrast", 2, 0.13),
    ("boston", 2, "jpeg", 1, 0.0),
    ("swarm", 5, "blur", 5, 1.0),
]
CSIQ_TOKENS = {"noise": "AWGN", "jpeg 2000": "jpeg2000", "contrast": "contrast", "jpeg": "JPEG", "blur": "BLUR"}
CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")


def image(path: Path, level: int = 0, tone: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (tone + 20 * level, 90, 70)).save(path)


def kadid10k(root: Path) -> None:
    lines = ["dist_img,ref_img,dmos,var"]
    for reference in ("I01", "I02", "I81"):
        image(root / f"images/{reference}.png")
        for kind in ("01", "25"):
            for level, dmos in ((1, "4.57"), (5, "1.0")):
                image(root / f"images/{reference}_{kind}_{level:02}.png", level)
                lines.append(f"{reference}_{kind}_{level:02}.png,{reference}.png,{dmos},0.496")
    (root / "dmos.csv").write_text("\n".join(lines) + "\n")


def live(root: Path) -> None:
    """All 982 images: the label files are refused unless they are of this length."""
    names = [f"{name}.bmp" for name in ("bikes", "caps", "Plane")]
    total = sum(LIVE_COUNTS.values())
    copies, dmos = np.zeros((1, total)), np.full((1, total), 50.0)
    copies[0, 1::4][:203] = 1
    dmos[copies == 1] = 0
    dmos[0, [0, 2, 3]] = 12.5, 91.0, 101.7
    references = np.empty((1, total), dtype=object)
    references[0] = [names[i % 3] for i in range(total)]
    for folder in ("refimgs", *LIVE_COUNTS):
        (root / folder).mkdir(parents=True)
    for name in names:
        image(root / "refimgs" / name)
    for folder, count in LIVE_COUNTS.items():
        image(root / f"{folder}/img1.bmp", 1)
        same = (root / f"{folder}/img1.bmp").read_bytes()
        for number in range(2, count + 1):
            (root / f"{folder}/img{number}.bmp").write_bytes(same)
    for number in (1, 3, 4):
        image(root / f"jp2k/img{number}.bmp", number)
    savemat(root / "dmos.mat", {"dmos": dmos, "orgs": copies})
    dmos[0, [0, 2, 3]] = 16.25, 111.77, -2.64
    savemat(root / "dmos_realigned.mat", {"dmos_new": dmos, "orgs": copies, "dmos_std": 0 * dmos + 5})
    savemat(root / "refnames_all.mat", {"refnames_all": references})


def csiq(root: Path) -> None:
    """The published workbook has a title, and its table begins in the fourth row and column."""
    workbook = Workbook()
    workbook.active.title = "cover"
    sheet = workbook.create_sheet("all_by_image")
    sheet["A1"] = "DMOS by image"
    for column, name in enumerate(("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"), start=4):
        sheet.cell(4, column, name)
    for folder in CSIQ_FOLDERS:
        (root / "dst_imgs" / folder).mkdir(parents=True)
    for number, (name, index, kind, level, dmos) in enumerate(CSIQ_ROWS, start=5):
        for column, value in enumerate((name, index, kind, level, 0.1, dmos), start=4):
            sheet.cell(number, column, value)
        image(root / f"src_imgs/{name}.png")
        token = CSIQ_TOKENS[kind]
        image(root / f"dst_imgs/{token.lower()}/{name}.{token}.{level}.png", level)
    workbook.save(root / "csiq.DMOS.xlsx")


def pipal(root: Path) -> None:
    """Distorted images lie in two folders, as two archives unpack."""
    for part, reference in enumerate(("A0001", "A0002", "A0250"), start=1):
        image(root / f"Train_Ref/{reference}.bmp")
        lines = []
        for level, (kind, elo) in enumerate((("00", 1850.25), ("03", 1400.0), ("06", 901.5)), start=1):
            name = f"{reference}_{kind}_{level:02}.bmp"
            image(root / f"Distortion_{1 + part % 2}/{name}", level)
            lines.append(f"{name},{elo}")
        label = root / f"Train_Label/{reference}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("\n".join(lines) + "\n")


def pieapp(root: Path) -> None:
    """One reference in val and test, two in train; a blank preference, and the reference among the rated, as published."""
    head = "ref. image, distorted image A, distorted image B"
    heads = {"train": f"{head}, raw preference for A, processed preference for A"}
    heads |= {"val": f"{heads['train']},", "test": f"{head}, preference for A"}
    for split, numbers in (("train", (1, 2)), ("val", (141,)), ("test", (161,))):
        (root / "labels" / split).mkdir(parents=True)
        (root / f"{split}_reference_list.txt").write_text("".join(f"ref_{number}.png\n" for number in numbers))
        for number in numbers:
            image(root / f"reference_images/{split}/ref_{number}.png")
            names = [
                f"distort_{number}_{kind}_inter_{i}.png" for i, kind in enumerate(("blur", "gaussian_noise", "jpg"))
            ]
            for level, name in enumerate(names, start=1):
                image(root / f"distorted_images/{split}/ref_{number}/{name}", level)
            rows = [
                (names[0], names[1], "0.9", "0.875"),
                (names[1], names[2], "", "0.7"),
                (names[0], names[2], "1", ""),
            ]
            if split == "test":
                rows = [(a, b, raw) for a, b, raw, _ in rows] + [(f"ref_{number}.png", names[0], "0.6")]
            lines = [", ".join((f"ref_{number}.png", *row)) for row in rows]
            (root / f"labels/{split}/ref_{number}_pairwise_labels.csv").write_text("\n".join((heads[split], *lines)))
    scores = [("ref_161.png", 0.0), *zip(names, (-0.25, 1.75, 3.75), strict=True)]
    lines = [f"ref_161.png,{name},{score}" for name, score in scores]
    (root / "labels/test/ref_161_per_image_score.csv").write_text(
        "\n".join(["ref. image, distorted image A, score for A", *lines])
    )


def tid2013(root: Path) -> None:
    """Two references, two types, two levels, with names in mixed case."""
    lines = []
    for folder in ("Reference_Images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    for reference in (1, 25):
        Image.new("RGB", (8, 6), (90, 80, 70)).save(root / f"Reference_Images/{'iI'[reference < 9]}{reference:02}.BMP")
        for kind in (8, 24):
            for level in (1, 2):
                Image.new("RGB", (8, 6), (90 + level, kind, 70)).save(
                    root / f"distorted_images/{'Ii'[level % 2]}{reference:02}_{kind:02}_{level}.bmp"
                )
                lines.append(f"{9 / level:.5f} I{reference:02}_{kind:02}_{level}.bmp")
    (root / "MOS_with_names.TXT").write_text("\r\n".join(lines) + "\r\n")


TREES = {
    "tid2013": tid2013,
    "kadid10k": kadid10k,
    "live": live,
    "csiq": csiq,
    "pipal": pipal,
    "pieapp": pieapp,
    "pieapp_2afc": pieapp,
}


def put_about(root: Path) -> None:
    """What comes to lie in folders of images and labels, in each of them: nothing that a label names."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        some = next((path for path in sorted(folder.iterdir()) if path.is_file()), None)
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "readme.txt", "README.md", ".hidden.bmp", ".x.txt"):
            (folder / name).write_bytes(b"\x00\x05\x16\x07 Mac OS X\r\n")
        for suffix in (".png", ".bmp", ".jpg"):
            image(folder / f"extra{suffix}")
        if some is not None:
            (folder / f"._{some.name}").write_bytes(b"\x00\x05\x16\x07")
            (folder / f"{some.stem}.webp").write_bytes(some.read_bytes())


def saved_again(root: Path, encoding: str, ends: str) -> list[Path]:
    """Write label files of text anew, with a byte order mark or other ends of lines; gives them."""
    labels = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in (".txt", ".csv")]
    for path in labels:
        text = path.read_text(encoding="utf-8-sig")  # with one end of a line for all
        path.write_text(text, encoding=encoding, newline=ends)
    return labels


def every_entry(data):
    """What a set says: its fingerprint, its entries, and the images of each."""
    entries = [entry for split in data.splits for entry in data.entries(split)]
    return data.fingerprint(), entries, [[str(path) for path in data.image_files(entry)] for entry in entries]


@pytest.fixture
def looked_after():
    """Call it with a set's folder and what builds it: all that lies about and every way to save labels is tried."""

    def check(root: Path, build) -> None:
        before = every_entry(build())
        if saved_again(root, "utf-8-sig", "\r\n"):
            assert every_entry(build()) == before
            saved_again(root, "utf-8", "\r")
        put_about(root)
        again = build()
        assert every_entry(again) == before
        first = again.entries(again.splits[0])[0]
        assert again.load(first) and not again.notices()
        named = Path(again.image_files(first)[-1])
        other = named.with_name(named.name.swapcase())
        if other.exists():
            pytest.skip("a disk that ignores case")
        other.write_bytes(named.read_bytes())
        twice = build()
        assert twice.fingerprint() == before[0] and twice.load(first)
        (notice,) = twice.notices()
        assert "differ in case only and hold the same" in notice and named.name in notice and other.name in notice
        other.write_bytes(named.read_bytes() + b"\n")
        with pytest.raises(DataError, match=r"differ in case only, so .* Move one of them away\."):
            build().fingerprint()
        with pytest.raises(DataError, match=r"differ in case only, so .* Move one of them away\."):
            build().load(first)

    return check


@pytest.fixture
def tree(tmp_path):
    """Call it with the name of a data set for a folder in that set's layout."""

    def write(name: str) -> Path:
        root = tmp_path / ("pieapp" if name == "pieapp_2afc" else name)
        root.mkdir()
        TREES[name](root)
        return root

    return write
