"""Data sets with human labels, in tiny trees of their official layouts: labels, directions, images, errors."""

import re

import pytest
from openpyxl import load_workbook
from scipy.io import loadmat, savemat
from scipy.stats import spearmanr

from harness.contracts import DataError
from harness.plugins.registry import Registry
from harness.testing import check_dataset

WHOLE = ["kadid10k", "live", "csiq", "pipal"]
ALL = [*WHOLE, "pieapp", "pieapp_2afc"]
FIRST_SPLIT = {"pieapp": "test", "pieapp_2afc": "test"}


def build(name, root, **parameters):
    return Registry().dataset(name).build({"root": str(root), **parameters})


def first(data, name):
    return data.entries(FIRST_SPLIT.get(name, "all"))


@pytest.mark.parametrize("name", ALL)
def test_they_keep_the_contract_of_data_sets(tree, name):
    root = tree(name)
    check_dataset(build(name, root), name=name, again=lambda: build(name, root))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("asked", [{"split_seed": 3}, {"folds": 3, "fold": 2}])
def test_split_by_reference_they_keep_it_too(tree, name, asked):
    root = tree(name)
    data = build(name, root, **asked)
    check_dataset(data, name=name, again=lambda: build(name, root, **asked))
    parts = [data.entries(split) for split in ("train", "val", "test")]
    assert sorted(e.id for part in parts for e in part) == sorted(e.id for e in data.entries("all"))
    assert [len({e.reference_id for e in part}) for part in parts] == [1, 1, 1]
    assert build(name, root).splits == ("all",)


@pytest.mark.parametrize(
    ("name", "raw_is_better"), [("kadid10k", 1), ("live", -1), ("csiq", -1), ("pipal", 1), ("pieapp", -1)]
)
def test_a_better_image_has_the_higher_opinion(tree, name, raw_is_better):
    """In the trees the published scores follow the damage: the distance of the images from their reference."""
    data = build(name, tree(name))
    entries = [e for e in first(data, name) if name != "live" or e.id in ("jp2k/img1", "jp2k/img3", "jp2k/img4")]
    loaded = [data.load(entry) for entry in entries]
    damage = [float((images["ref"] - images["dist"]).abs().mean()) for images in loaded]
    opinions, raws = [e.opinion for e in entries], [raw_is_better * e.raw for e in entries]
    if name != "csiq":  # there, levels of different types were rated
        assert spearmanr(damage, opinions).statistic == pytest.approx(-1)
    assert spearmanr(raws, opinions).statistic == pytest.approx(1)
    assert all(0 <= opinion <= 1 for opinion in opinions)


def test_kadid10k(tree):
    entries = build("kadid10k", tree("kadid10k")).entries("all")
    assert len(entries) == 12
    one = entries[0]
    assert (one.id, one.reference_id, one.group, one.level, one.raw) == ("i01_01_01", "I01", "01", 1, 4.57)
    assert one.opinion == pytest.approx(3.57 / 4) and entries[1].opinion == 0


def test_live_has_779_images_and_no_copies(tree):
    data = build("live", tree("live"))
    entries = data.entries("all")
    assert len(entries) == 779
    count = {group: sum(e.group == group for e in entries) for group in ("jp2k", "jpeg", "wn", "gblur", "fastfading")}
    assert sum(count.values()) == 779 and max(count.values()) < 233
    # The order of the label files: 227 of jp2k come first, so the next is the first of jpeg.
    ids = [e.id for e in entries]
    assert ids[:3] == ["jp2k/img1", "jp2k/img3", "jp2k/img4"]
    assert next(i for i in ids if i.startswith("jpeg/")) == "jpeg/img1"
    assert [e.raw for e in entries[:3]] == [12.5, 91.0, 101.7]
    assert entries[0].opinion == pytest.approx(102.5 / 120)
    assert [e.reference_id for e in entries[:3]] == ["bikes", "plane", "bikes"]
    assert entries[0].level is None
    split = build("live", data._layout.root, split_seed=0)
    assert len({e.reference_id for e in split.entries("test")}) == 1


def test_csiq_workbook_and_list_say_the_same(tree):
    root = tree("csiq")
    book = build("csiq", root).entries("all")
    assert [(e.id, e.reference_id, e.group, e.level) for e in book[:3]] == [
        ("1600.awgn.1", "1600", "awgn", 1),
        ("1600.awgn.3", "1600", "awgn", 3),
        ("1600.jpeg2000.5", "1600", "jpeg2000", 5),
    ]
    assert [e.opinion for e in book[:2]] == pytest.approx([1 - 0.062, 1 - 0.206])
    (root / "csiq.DMOS.xlsx").unlink()
    (root / "csiq_label.txt").write_text(
        "1600.AWGN.1.png 0.062\n1600.AWGN.3.png\t0.206\n1600.jpeg2000.5.png 0.86\nboston.contrast.2.png 0.13\n"
        "boston.JPEG.1.png 0\nswarm.BLUR.5.png 1\n"
    )
    assert build("csiq", root).entries("all") == book


def test_pipal_in_one_folder_or_in_several(tree):
    root = tree("pipal")
    several = build("pipal", root)
    entries = several.entries("all")
    one = entries[0]
    assert (len(entries), one.id, one.reference_id, one.group) == (9, "A0001_00_01", "A0001", "00")
    assert one.opinion == pytest.approx(1050.25 / 1200) and one.level is None
    (root / "Train_Dist").mkdir()
    for folder in ("Distortion_1", "Distortion_2"):
        for path in (root / folder).iterdir():
            path.rename(root / "Train_Dist" / path.name)
        (root / folder).rmdir()
    together = build("pipal", root)
    assert together.entries("all") == entries and together.load(entries[-1])["dist"].shape == (3, 8, 8)
    (root / "Train_Dist/A0002_03_02.bmp").unlink()
    with pytest.raises(DataError, match=r"Train_Dist.A0002_03_02\.bmp is missing\. Restore the file"):
        build("pipal", root).load(entries[4])


def test_pieapp_scores_are_errors_and_the_reference_is_none_of_its_images(tree):
    data = build("pieapp", tree("pieapp"))
    entries = data.entries("test")
    assert [(e.id, e.group, e.raw) for e in entries] == [
        ("distort_161_blur_inter_0", "blur", -0.25),
        ("distort_161_gaussian_noise_inter_1", "gaussian_noise", 1.75),
        ("distort_161_jpg_inter_2", "jpg", 3.75),
    ]
    assert [e.opinion for e in entries] == [1, 0.5, 0]
    with pytest.raises(DataError, match=r"no split 'train'.*pieapp_2afc"):
        data.entries("train")


def test_pieapp_2afc_judges_for_the_second_image(tree):
    data = build("pieapp_2afc", tree("pieapp_2afc"))
    train, val, test = (data.entries(split) for split in data.splits)
    # Two references; the row without a processed preference is left out.
    assert [(e.id, e.judge) for e in train] == [
        ("train/ref_1/00002", pytest.approx(0.125)),
        ("train/ref_1/00003", pytest.approx(0.3)),
        ("train/ref_2/00002", pytest.approx(0.125)),
        ("train/ref_2/00003", pytest.approx(0.3)),
    ]
    # One was not voted on, in another one image is the reference.
    assert [(e.id, e.judge) for e in test] == [
        ("test/ref_161/00002", pytest.approx(0.1)),
        ("test/ref_161/00004", pytest.approx(0.0)),
    ]
    assert len(val) == 2
    # A is nearer to the reference and was preferred: judge, the share for p1 = B, is low.
    fresh = build("pieapp_2afc", data._layout.root).load(train[0])
    assert float((fresh["ref"] - fresh["p0"]).abs().mean()) < float((fresh["ref"] - fresh["p1"]).abs().mean())


def test_pieapp_2afc_without_processed_column_takes_the_votes(tree):
    root = tree("pieapp_2afc")
    path = root / "labels/val/ref_141_pairwise_labels.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text(
        "\n".join([header.removesuffix(", processed preference for A,"), *(r.rpartition(",")[0] for r in rows)])
    )
    judges = [e.judge for e in build("pieapp_2afc", root).entries("val")]
    assert judges == [pytest.approx(0.1), pytest.approx(0.0)]


@pytest.mark.parametrize("name", ALL)
def test_default_root_and_where_to_get_it(tree, name, monkeypatch):
    root = tree(name)
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(root.parent))
    data = Registry().dataset(name).build({})
    assert first(data, name)
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(root))
    with pytest.raises(
        DataError, match=rf"Data set {name}: folder .* cannot be read .*Download .*http.*DATA_DIR/{root.name}"
    ):
        first(Registry().dataset(name).build({}), name)


@pytest.mark.parametrize("name", ALL)
def test_fingerprint_follows_names_sizes_and_labels(tree, name):
    root = tree(name)
    before = build(name, root).fingerprint()
    labels = {"kadid10k": "dmos.csv", "live": "dmos.mat", "csiq": "csiq.DMOS.xlsx", "pipal": "Train_Label/A0001.txt"}
    label = root / labels.get(name, "test_reference_list.txt")
    label.write_bytes(label.read_bytes() + b"\n")
    changed = build(name, root).fingerprint()
    image = next(
        path for path in sorted(root.rglob("*")) if path.suffix in (".png", ".bmp") and "train" not in str(path)
    )
    image.write_bytes(image.read_bytes() + b"\n")
    assert len({before, changed, build(name, root).fingerprint()}) == 3


@pytest.mark.parametrize("name", ["tid2013", *ALL])
def test_what_no_label_names_and_how_labels_were_saved_is_no_part_of_a_set(tree, name, looked_after):
    root = tree(name)
    looked_after(root, lambda: build(name, root))


def test_the_list_of_csiq_may_be_saved_again(tree, looked_after):
    root = tree("csiq")
    (root / "csiq.DMOS.xlsx").unlink()
    (root / "csiq_label.txt").write_text("1600.AWGN.1.png 0.062\nboston.JPEG.1.png 0\n")
    looked_after(root, lambda: build("csiq", root))


MALFORMED = [
    ("kadid10k", "dmos.csv", "I01_01_02.png,I01.png,7,0.5", r"line 14: opinion score 7\.0 lies outside 1\.\.5"),
    ("kadid10k", "dmos.csv", "I01_01_02.png,I02.png,3,0.5", r"line 14: 'I01_01_02\.png,I02.*is not of the form"),
    ("kadid10k", "dmos.csv", "I01_01_02.png,I01.png", r"line 14: .* is not of the form 'I01_01_01"),
    ("kadid10k", "dmos.csv", "I01_01_01.png,I01.png,3,0.5", r"names i01_01_01\.png 2 times"),
    ("pipal", "Train_Label/A0001.txt", "A0001_00_09.bmp", r"A0001\.txt of data set pipal, line 4: .*A0000_00_00"),
    ("pipal", "Train_Label/A0001.txt", "A0001_00_09.bmp,nan", r"opinion score nan lies outside 800\.\.2000"),
    ("pieapp", "labels/test/ref_161_per_image_score.csv", "\nref_1.png,distort_1_x_inter_0.png,1", r"line 6: 'ref_1"),
    ("pieapp", "labels/test/ref_161_per_image_score.csv", "\nref_161.png,../../x,1", r"line 6: '\.\./\.\./x' is not"),
    ("pieapp", "test_reference_list.txt", "ref_1\n", r"test_reference_list\.txt of data set pieapp, line 2: 'ref_1'"),
    (
        "pieapp_2afc",
        "labels/val/ref_141_pairwise_labels.csv",
        "\nref_141.png,a.png,b.png,1,1.5",
        r"lies outside 0\.\.1",
    ),
    ("pieapp_2afc", "labels/val/ref_141_pairwise_labels.csv", "\nref_141.png,a.png,b.png,1,good", r"line 5: .*is not"),
]


@pytest.mark.parametrize(("name", "file", "line", "message"), MALFORMED)
def test_malformed_lines_are_named_with_place_and_cure(tree, name, file, line, message):
    root = tree(name)
    with (root / file).open("a") as text:
        text.write(line)
    with pytest.raises(DataError, match=message) as caught:
        data = build(name, root)
        [data.entries(split) for split in data.splits]
    assert re.search(r"Unpack \S+ again\.$", str(caught.value))


def test_wrong_header_of_kadid10k(tree):
    root = tree("kadid10k")
    path = root / "dmos.csv"
    path.write_text(path.read_text().replace("dist_img,ref_img", "image,reference"))
    with pytest.raises(DataError, match=r"line 1: 'image,reference,dmos,var' is not of the form 'dist_img,"):
        build("kadid10k", root).entries("all")


@pytest.mark.parametrize(
    ("name", "file", "damage", "message"),
    [
        ("live", "dmos.mat", b"no matrix", r"dmos\.mat of data set live holds no variable dmos that can be read"),
        ("live", "refnames_all.mat", b"", r"refnames_all\.mat of data set live holds no variable refnames_all"),
        ("csiq", "csiq.DMOS.xlsx", b"<html>", r"csiq\.DMOS\.xlsx of data set csiq holds no sheet all_by_image"),
        ("pipal", "Train_Label/A0002.txt", b"", r"A0002\.txt of data set pipal is empty"),
        ("kadid10k", "dmos.csv", b"", r"dmos\.csv of data set kadid10k is empty"),
    ],
)
def test_damaged_label_files_are_told(tree, name, file, damage, message):
    root = tree(name)
    (root / file).write_bytes(damage)
    with pytest.raises(DataError, match=message + r".*Unpack .* again\."):
        build(name, root).entries("all")


def test_label_files_of_another_release_of_live_are_refused(tree):
    root = tree("live")
    savemat(root / "dmos.mat", {"dmos": [[1.0, 2.0]], "orgs": [[0, 0]]})
    with pytest.raises(DataError, match=r"dmos has 2 values; release 2 has 982"):
        build("live", root).entries("all")


@pytest.mark.parametrize("value", [115.5, -6.0, float("nan")])
def test_a_score_off_the_scale_of_live_is_refused_not_clipped(tree, value):
    root = tree("live")
    labels = loadmat(root / "dmos.mat")
    labels["dmos"][0, 2] = value
    savemat(root / "dmos.mat", {key: labels[key] for key in ("dmos", "orgs")})
    with pytest.raises(
        DataError, match=r"dmos\.mat of data set live, jp2k/img3\.bmp: opinion score .* outside -5\.\.115"
    ):
        build("live", root).entries("all")


def test_cells_of_the_workbook_of_csiq_are_checked(tree):
    root = tree("csiq")
    path = root / "csiq.DMOS.xlsx"
    workbook = load_workbook(path)
    workbook["all_by_image"].cell(6, 9, 1.4)
    workbook.save(path)
    with pytest.raises(
        DataError, match=r"csiq\.DMOS\.xlsx of data set csiq, line 6: opinion score 1\.4 lies outside 0"
    ):
        build("csiq", root).entries("all")
    workbook["all_by_image"].cell(6, 9, 0.4)
    workbook["all_by_image"].cell(7, 6, "gamma")
    workbook.save(path)
    with pytest.raises(DataError, match=r"line 7: '1600 gamma 5 0\.86' is not of the form '1600 noise 1 0\.062'"):
        build("csiq", root).entries("all")
    workbook["all_by_image"].cell(4, 4, "picture")
    workbook.save(path)
    with pytest.raises(DataError, match=r"no row with the headings image, dst_type, dst_lev, dmos in the sheet"):
        build("csiq", root).entries("all")


def test_missing_images_are_named(tree):
    for name, file in (
        ("kadid10k", "images/I01_01_01.png"),
        ("live", "refimgs/bikes.bmp"),
        ("csiq", "dst_imgs/awgn/1600.AWGN.1.png"),
        ("pieapp", "distorted_images/test/ref_161/distort_161_blur_inter_0.png"),
    ):
        root = tree(name)
        data = build(name, root)
        entry = first(data, name)[0]
        (root / file).unlink()
        missing = file.rpartition("/")[2]
        with pytest.raises(DataError, match=rf"(?i){re.escape(missing)} is missing\. Restore the file"):
            build(name, root).load(entry)
