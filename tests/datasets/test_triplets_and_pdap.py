"""BAPPS, NIGHTS and PDAP-HDDS in tiny trees of their layouts; triplets are scored at 64 px."""

import functools
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from harness.contracts import DataError
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.missing import missing_images
from harness.suite.resolve import read_suite
from harness.testing import check_dataset
from tests.toys.stored import all_records

BAPPS = {
    "val": ("traditional", "cnn", "superres", "deblur", "color", "frameinterp"),
    "train": ("traditional", "cnn", "mix"),
}
"""The subsets of each split."""
PDAP_KINDS = (
    "awgn",
    "brightness",
    "color_distortion",
    "contrast",
    "Fast_Fading",
    "gblur",
    "jpeg",
    "jpeg2000",
    "mblur",
    "scaling",
)


def bapps_patches(split: str, subset: str, number: int, level: int = 0) -> np.ndarray:
    """A patch of 64 px before it is stored: noise of its own, disturbed by so many steps."""
    rng = np.random.default_rng([len(split), len(subset), number])
    reference = rng.integers(60, 190, (64, 64, 3))
    return (reference + level * rng.choice((-9, 9), (64, 64, 3))).astype(np.uint8)


def bapps(root: Path) -> None:
    """Three triplets of each subset, stored as published: 256 px of nearest neighbours, judges float32 of shape (1,).

    p1 is nearer in the first and the third; in train the last judges are split.
    """
    for split, subsets in BAPPS.items():
        for subset in subsets:
            folder = root / split / subset
            for name in ("ref", "p0", "p1", "judge"):
                (folder / name).mkdir(parents=True)
            for number, (levels, judge) in enumerate((((0, 3, 1), 0.8), ((0, 1, 2), 0.2), ((0, 4, 2), 0.6))):
                stem = f"{number:06}"
                for name, level in zip(("ref", "p0", "p1"), levels, strict=True):
                    patch = bapps_patches(split, subset, number, level)
                    Image.fromarray(patch.repeat(4, 0).repeat(4, 1)).save(
                        folder / name / f"{stem}.png", compress_level=1
                    )
                share = {"val": judge, "train": (1.0, 0.0, 0.5)[number]}[split]
                np.save(folder / "judge" / f"{stem}.npy", np.array([share], dtype=np.float32))


def nights(root: Path) -> None:
    """Two triplets of each split and one with too few votes."""
    lines = ["id,left_vote,right_vote,votes,ref_path,left_path,right_path,prompt,split,is_imagenet"]
    for number, split in enumerate(("train", "train", "val", "val", "test", "test", "test")):
        place = f"{number // 4:03}/{number:03}"
        image(root / f"ref/{place}.png")
        image(root / f"distort/{place}_0.png", 1)
        image(root / f"distort/{place}_1.png", 2)
        right = number % 2
        votes = 5 if number == 6 else 8
        paths = f"ref/{place}.png,distort/{place}_0.png,distort/{place}_1.png"
        lines.append(f"{number},{1 - right},{right},{votes},{paths},dog,{split},{right == 1}")
    (root / "data.csv").write_text("\n".join(lines) + "\n")


def pdap_hdds(root: Path) -> None:
    """Three references, three types, in the list with the paths that it was published with."""
    lines = ["dis_img_path,dis_type,ref_img_path,score"]
    for kind in PDAP_KINDS:
        (root / "distorted_image" / kind).mkdir(parents=True)
    for reference in ("Animals_sky_sea_type1", "Animals_type10", "Plants_type25"):
        image(root / f"reference_image/all_reference_image/{reference}.bmp")
        for kind in ("awgn", "Fast_Fading", "jpeg2000"):
            for level, score in ((1, 4.5), (5, 1)):
                image(root / f"distorted_image/{kind}/{reference}_{kind}_{level}.bmp", level)
                path = f"PDAP-HDDS/distorted_image/{kind}/{reference}_{kind}_{level}.bmp"
                lines.append(f"{path},{kind},PDAP-HDDS/reference_image/all_reference_image/{reference}.bmp,{score}")
    (root / "PDAP-HDDS.txt").write_text("\n".join(lines) + "\n")


TREES = {"bapps": bapps, "nights": nights, "pdap_hdds": pdap_hdds}


def image(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (40 + 20 * level, 90, 70)).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Name of a set -> a folder in its layout, made once."""

    @functools.cache
    def make(name):
        root = tmp_path_factory.mktemp("made") / name
        TREES[name](root)
        return root

    return make


@pytest.fixture
def tree(made, tmp_path):
    """Call it with the name of a set for a folder in its layout, to do with what you like."""
    return lambda name: shutil.copytree(made(name), tmp_path / name)


def build(name, root, **parameters):
    return Registry().dataset(name).build({"root": str(root), **parameters})


@pytest.mark.parametrize("name", TREES)
def test_they_keep_the_contract_of_data_sets(tree, name):
    root = tree(name)
    check_dataset(build(name, root), name=name, again=lambda: build(name, root))


@pytest.mark.parametrize("name", TREES)
def test_one_folder_deeper_and_incomplete(tree, name):
    root = tree(name)
    data = build(name, root)
    found, fingerprint = data.entries(data.splits[-1]), data.fingerprint()
    assert missing_images(data, found, name) == ""
    outer = root.with_name("unpacked")
    outer.mkdir()
    root.rename(outer / "Images of the set")
    deeper = build(name, outer)
    assert deeper.entries(deeper.splits[-1]) == found and deeper.fingerprint() == fingerprint
    for number in (0, 1):
        Path(
            data.image_files(found[0])[number].as_posix().replace(str(root), str(outer / "Images of the set"))
        ).unlink()
    told = missing_images(build(name, outer), found, name)
    assert re.match(rf"Data set {name} is incomplete: of \d+ image files 2 are missing in .*Add them, or", told)
    empty = outer.with_name("empty")
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty, which is empty\. It is read as: .*Download "):
        build(name, empty).entries(data.splits[-1])


@pytest.mark.parametrize("name", TREES)
def test_where_to_get_them(tree, name, monkeypatch):
    root = tree(name)
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(root.parent))
    data = Registry().dataset(name).build({})
    assert data.entries(data.splits[0])
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(root / "nowhere"))
    with pytest.raises(DataError, match=rf"Data set {name}: .*Download .*https://.*DATA_DIR/{name}\."):
        data = Registry().dataset(name).build({})
        data.entries(data.splits[0])


def test_bapps_gives_the_patches_before_they_were_enlarged(tree):
    root = tree("bapps")
    data = build("bapps", root)
    assert data.splits == ("val", "train")
    val, train = data.entries("val"), data.entries("train")
    assert [len(val), len(train)] == [18, 9] and {e.group for e in train} == set(BAPPS["train"])
    assert [e.judge for e in val[:3]] == pytest.approx([0.8, 0.2, 0.6]) and [e.judge for e in train[:3]] == [1, 0, 0.5]
    assert (val[4].id, val[4].group) == ("val/cnn/000001", "cnn")
    loaded = data.load(val[4])
    for name, level in zip(("ref", "p0", "p1"), (0, 1, 2), strict=True):
        pixels = np.rint(loaded[name].numpy() * 255).transpose(1, 2, 0)
        np.testing.assert_array_equal(pixels, bapps_patches("val", "cnn", 1, level))
    large = build("bapps", root, size=256).load(val[4])["p1"]
    assert large.shape == (3, 256, 256) and bool((large[:, ::4, ::4] == loaded["p1"]).all())


def test_bapps_in_other_folders_at_64_px_and_in_part(tree):
    root = tree("bapps")
    whole = build("bapps", root).entries("val")
    for place in ("2afc", "dataset/2afc"):
        (root / place).mkdir(parents=True)
        for split in ("val", "train"):
            next(root.rglob(f"{split}/cnn")).parent.rename(root / place / split)
        assert build("bapps", root).entries("val") == whole
    path = root / "dataset/2afc/val/cnn/p0/000000.png"
    small = Image.open(path).resize((64, 64), Image.Resampling.NEAREST)
    stored = build("bapps", root).load(whole[3])
    small.save(path)
    assert all(bool((image == stored[name]).all()) for name, image in build("bapps", root).load(whole[3]).items())
    assert build("bapps", root, size=256).load(whole[3])["p0"].shape == (3, 256, 256)
    part = build("bapps", root, subsets=["color", "deblur"])
    assert part.splits == ("val",) and {e.group for e in part.entries("val")} == {"color", "deblur"}
    with pytest.raises(
        DataError, match=r"subsets: none of them is in the split train\. Choose from traditional, cnn, mix"
    ):
        part.entries("train")


def test_bapps_says_what_is_wrong(tree):
    root = tree("bapps")
    entry = build("bapps", root).entries("val")[0]
    path = root / "val/traditional/p0/000000.png"
    Image.open(path).resize((200, 200)).save(path)
    with pytest.raises(DataError, match=r"000000\.png is 200 x 200; patches are 64 or 256 px"):
        build("bapps", root).load(entry)
    Image.open(path).resize((256, 256), Image.Resampling.BICUBIC).save(path)
    with pytest.raises(DataError, match=r"no enlargement of 64 px by nearest neighbour.*size: 256"):
        build("bapps", root).load(entry)
    assert build("bapps", root, size=256).load(entry)["p0"].shape == (3, 256, 256)
    judge = root / "val/cnn/judge/000002.npy"
    for content, said in (
        (np.array([0.2, 0.4]), "is no judge"),
        (np.array([1.5]), "lies outside 0..1"),
        (None, "no judge"),
    ):
        np.save(judge, content, allow_pickle=True)
        with pytest.raises(DataError, match=rf"000002\.npy of data set bapps.*{re.escape(said)}"):
            build("bapps", root, subsets=["cnn"]).entries("val")


def test_2afc_accuracy_is_measured_at_64_px(tree, tmp_path):
    """Against scikit-image's SSIM of the original patches; judges who are split evenly are left out of the hard figure."""
    root = tree("bapps")
    registry = Registry()
    datasets = [{"name": "bapps", "root": str(root), "split": split} for split in ("val", "train")]
    run = run_suite(
        read_suite({"name": "x", "datasets": datasets, "metrics": ["ssim"]}, registry),
        registry,
        Options(out=tmp_path / "run", executor="serial", probe=False),
    )
    assert not run.data.failures

    def ssim(split, subset, number, level):
        pair = [bapps_patches(split, subset, number, one).astype(np.float64) / 255 for one in (0, level)]
        return structural_similarity(
            *pair, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )

    records = all_records(tmp_path / "run")
    assert len(records) == 2 * (18 + 9)
    one = records.query("sample == 'val/color/000001'").set_index("patch")["clean"]
    assert one["p0"] - one["p1"] == pytest.approx(ssim("val", "color", 1, 1) - ssim("val", "color", 1, 2), abs=0.02)
    (path,) = (tmp_path / "run").rglob("two_afc.csv")
    tables = {
        split: rows.query("subset == 'all'").set_index("kind") for split, rows in pd.read_csv(path).groupby("dataset")
    }
    assert tables["bapps"].loc["hard", "clean_accuracy"] == pytest.approx(1)
    # Agreed with in turn: .8 for p1, .8 for p0, .6 for p1.
    assert tables["bapps"].loc["soft", "clean_accuracy"] == pytest.approx((0.8 + 0.8 + 0.6) / 3)
    assert tables["bapps train"].loc["hard", ["clean_accuracy", "undecided"]].tolist() == [1, 3]
    assert tables["bapps train"].loc["soft", "clean_accuracy"] == pytest.approx(2.5 / 3)


def test_nights_is_read_as_its_public_readers_read_it(tree):
    root = tree("nights")
    data = build("nights", root)
    assert {split: [(e.id, e.judge, e.group) for e in data.entries(split)] for split in data.splits} == {
        split: [(f"{split}/{n}", n % 2, "imagenet" if n % 2 else "no_imagenet") for n in numbers]
        for split, numbers in {"train": (0, 1), "val": (2, 3), "test": (4, 5)}.items()
    }
    assert len(build("nights", root, votes=5).entries("test")) == 3
    entry = data.entries("test")[1]
    assert entry.reference_id == "ref/001/005.png" and data.load(entry)["p1"].shape == (3, 224, 224)
    stored = build("nights", root, size=None).load(entry)
    assert [round(float(stored[name][0, 0, 0]) * 255) for name in ("ref", "p0", "p1")] == [40, 60, 80]


def test_nights_resizes_as_pillow_does(tree):
    root = tree("nights")
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "ref/001/005.png")
    data = build("nights", root, size=24)
    loaded = data.load(data.entries("test")[1])["ref"].numpy().transpose(1, 2, 0)
    resized = np.asarray(Image.fromarray(pixels).resize((24, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(np.rint(loaded * 255), resized)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9,0,1,8,ref/../../x.png,distort/a,distort/b,dog,test,True", r"line 9: '9,0,1,8.*is not of the form"),
        ("9,0,0,8,ref/a.png,distort/a,distort/b,dog,test,True", "line 9"),
        ("9,0,1,8,ref/a.png,distort/a,distort/b,dog,testing,True", "line 9"),
        ("9,0,one,8,ref/a.png,distort/a,distort/b,dog,test,True", r"line 9: 'right_vote one' is not"),
        ("5,0,1,8,ref/a.png,distort/a,distort/b,dog,test,True", r"names test/5 2 times"),
    ],
)
def test_malformed_lines_of_nights_are_named(tree, line, message):
    root = tree("nights")
    with (root / "data.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=rf"data\.csv of data set nights.*{message}.*Unpack NIGHTS again"):
        build("nights", root).entries("test")


def test_pdap_hdds(tree):
    root = tree("pdap_hdds")
    data = build("pdap_hdds", root, split_seed=0)
    entries = data.entries("all")
    assert len(entries) == 18 and [len(data.entries(split)) for split in ("train", "val", "test")] == [6, 6, 6]
    one, two = entries[2:4]
    assert (one.id, one.reference_id, one.group, one.level, one.raw) == (
        "animals_sky_sea_type1_fast_fading_1", "animals_sky_sea_type1", "fast_fading", 1, 4.5,
    )  # fmt: skip
    assert (one.opinion, two.opinion) == (0.875, 0) and set(data.levels_not_strength) == {"fast_fading"}
    with (root / "PDAP-HDDS.txt").open("a") as file:
        file.write("x/Animals_type1_haze_1.bmp,haze,x,3\n")
    with pytest.raises(DataError, match=r"line 20: 'x/Animals_type1_haze_1\.bmp 3' is not of the form"):
        build("pdap_hdds", root).entries("all")


@pytest.mark.parametrize("name", TREES)
def test_fingerprint_follows_labels_names_and_sizes(tree, name):
    root = tree(name)
    prints = [build(name, root).fingerprint()]
    labels = {"bapps": "val/cnn/judge/000000.npy", "nights": "data.csv", "pdap_hdds": "PDAP-HDDS.txt"}
    label = root / labels[name]
    if name == "bapps":
        np.save(label, np.array([0.4], dtype=np.float32))
    else:
        label.write_text(label.read_text() + "\n")
    prints.append(build(name, root).fingerprint())
    picture = next(path for path in sorted(root.rglob("*")) if path.suffix in (".png", ".bmp"))
    picture.write_bytes(picture.read_bytes() + b"\n")
    prints.append(build(name, root).fingerprint())
    assert len(set(prints)) == 3


@pytest.mark.parametrize("name", TREES)
def test_what_no_label_names_and_how_labels_were_saved_is_no_part_of_a_set(tree, name, looked_after):
    root = tree(name)
    looked_after(root, lambda: build(name, root))
