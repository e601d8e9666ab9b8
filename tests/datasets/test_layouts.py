"""Folders as people have them: one set is the same in every layout, and what is missing is told with what is there."""

import re
import shutil
from pathlib import Path

import pytest

from harness.cli.app import verb_named
from harness.cli.doctor import _datasets
from harness.contracts import DataError
from harness.plugins.registry import Registry
from harness.suite.missing import missing_images
from harness.suite.resolve import validate
from harness.suite.strict_yaml import LocatedError, parse_text

REGISTRY = Registry()
LABELS = {
    "tid2013": ["MOS_with_names.TXT"],
    "kadid10k": ["dmos.csv"],
    "live": ["dmos.mat", "dmos_realigned.mat"],
    "csiq": ["csiq.DMOS.xlsx"],
    "pipal": ["Train_Label"],
    "pieapp": [f"{split}_reference_list.txt" for split in ("train", "val", "test")],
}


def build(name, root, **parameters):
    return REGISTRY.dataset(name).build({"root": str(root), **parameters})


def entries(data):
    return data.entries(data.splits[-1])


def damage(data, found):
    """Of every image, which in the trees follows its level."""
    return [float((images["ref"] - images["dist"]).abs().mean()) for images in map(data.load, found)]


@pytest.mark.parametrize("name", [*LABELS, "pieapp_2afc"])
def test_one_folder_deeper(tree, name):
    root = tree(name)
    data = build(name, root)
    found, fingerprint = entries(data), data.fingerprint()
    outer = root.with_name("unpacked")
    (outer / "papers").mkdir(parents=True)
    (outer / "ReadMe.TXT").write_text("hello")
    root.rename(outer / "Images of the set_v1.0")
    deeper = build(name, outer)
    assert entries(deeper) == found and deeper.fingerprint() == fingerprint
    assert "ref" in deeper.load(found[-1]) and outer in deeper.files()
    (outer / "again").mkdir()
    (outer / "again" / LABELS[name.removesuffix("_2afc")][0]).touch()
    with pytest.raises(
        DataError, match=r"Images of the set_v1.0 and .*again both hold such a set\. Give one of them as root"
    ):
        entries(build(name, outer))


@pytest.mark.parametrize("name", LABELS)
def test_without_labels_it_is_told_what_is_there_and_what_may_be(tree, name):
    root = tree(name)
    for file in LABELS[name]:
        (root / file).rename(root / f"my {file}")
    label = LABELS[name][-1] if name != "live" else "dmos.mat"
    known = sorted(path.name for path in root.iterdir())[0]
    with pytest.raises(
        DataError, match=rf"(?i)Data set {name}: {label} is missing in .*, which holds .*{known}"
    ) as told:
        entries(build(name, root))
    assert re.search(r" It is read as: .*\. Download .*http.* unpack it, and give its folder as root", str(told.value))
    assert "\n" not in str(told.value)
    empty = root.with_name("empty")
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty, which is empty\. It is read as: "):
        entries(build(name, empty))


PIPAL_FOLDERS = [
    ["Train_Dis"],
    ["Train_Dist"],
    ["Dist_Imgs"],
    ["Distortion1", "Distortion2", "Distortion3", "Distortion4"],
    ["Distortion_1", "Distortion_2", "Distortion_3", "Distortion_4"],
    ["Distortion_1/Distortion_1", "Distortion_2/Distortion_2", "Distortion_3", "Distortion_4"],
    ["Train_Dist/Distortion_1", "Train_Dist/Distortion_2"],
]


@pytest.mark.parametrize("folders", PIPAL_FOLDERS, ids=lambda folders: folders[0])
def test_pipal_wherever_its_distorted_images_lie(tree, folders):
    root = tree("pipal")
    data = build("pipal", root)
    found = data.entries("all")
    before, fingerprint = damage(data, found), data.fingerprint()
    for number, old in enumerate(("Distortion_1", "Distortion_2")):
        (root / old).rename(root / f"old{number}")
    for number, path in enumerate(sorted(root.glob("old*/*.bmp"), key=lambda path: path.name)):
        folder = root / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    moved = build("pipal", root)
    assert moved.entries("all") == found and damage(moved, found) == before
    assert moved.fingerprint() != fingerprint and not missing_images(moved, found, "pipal")
    Path(moved.image_files(found[0])[1]).unlink()
    with pytest.raises(DataError, match=rf"{folders[0]}.A0001_00_01\.bmp is missing\."):
        build("pipal", root).load(found[0])


def test_pipal_takes_no_image_from_two_folders_and_none_is_lost(tree):
    root = tree("pipal")
    data = build("pipal", root)
    found = data.entries("all")
    before = damage(data, found)
    (root / "Distortion_1/Distortion_1").mkdir()
    path = root / "Distortion_1/A0002_00_01.bmp"
    path.rename(root / "Distortion_1/Distortion_1" / path.name)
    moved = build("pipal", root)
    assert damage(moved, found) == before and not missing_images(moved, found, "pipal")
    (root / "Train_Dis").mkdir()
    shutil.copy(root / "Distortion_1/A0002_03_02.bmp", root / "Train_Dis")
    with pytest.raises(DataError, match=r"Distortion_1.A0002_03_02\.bmp and .*Train_Dis.A0002.* in two folders\. Keep"):
        build("pipal", root).load(found[0])


@pytest.mark.parametrize("labels", ["1600.AWGN.1.png", "1600.AWGN.1", "workbook"])
@pytest.mark.parametrize("folder", ["dst_imgs_all", "dst_imgs"])
def test_csiq_flat(tree, folder, labels):
    root = tree("csiq")
    data = build("csiq", root)
    found = data.entries("all")
    before = damage(data, found)
    (root / "dst_imgs").rename(root / "typed")
    (root / folder).mkdir()
    images = sorted((root / "typed").rglob("*.png"))
    for path in images:
        path.rename(root / folder / path.name)
    shutil.rmtree(root / "typed")
    if labels != "workbook":
        (root / "csiq.DMOS.xlsx").unlink()
        raw = {entry.id: entry.raw for entry in found}
        suffix = ".png" if labels.endswith(".png") else ""
        lines = [f"{path.stem}{suffix} {raw[path.stem.lower()]}\n" for path in images]
        (root / "csiq_label.txt").write_text("".join(lines))
    flat = build("csiq", root)
    assert {entry.id: entry for entry in flat.entries("all")} == {entry.id: entry for entry in found}
    assert damage(flat, found) == before and len(flat.fingerprint()) == 64
    (root / folder / "1600.AWGN.1.png").unlink()
    with pytest.raises(DataError, match=rf"{folder}.1600\.awgn\.1\.png is missing\."):
        build("csiq", root).load(found[0])


def test_live_with_realigned_scores(tree):
    root = tree("live")
    plain, realigned = build("live", root), build("live", root, labels="realigned")
    found = realigned.entries("all")
    # The published ends of the realigned scores are both on the scale.
    assert [e.raw for e in found[:3]] == [16.25, 111.77, -2.64] and len(found) == 779
    assert [e.opinion for e in found[1:3]] == pytest.approx([3.23 / 120, 117.64 / 120])
    assert [e.raw for e in plain.entries("all")[:3]] == [12.5, 91.0, 101.7]
    assert (plain.label_source(), realigned.label_source()) == ("dmos.mat", "dmos_realigned.mat")
    assert plain.fingerprint() != realigned.fingerprint()
    text = "name: a\ndatasets: [{{name: live, root: {}{}}}]\nmetrics: [psnr]\n"
    more = ("", ", labels: dmos", ", labels: realigned")
    uses = [validate(parse_text(text.format(root, one), "s"), REGISTRY).datasets[0] for one in more]
    assert [use.identity()["parameters"].get("labels") for use in uses] == [None, None, "realigned"]
    with pytest.raises(LocatedError, match=r"labels: .*aligned"):
        validate(parse_text(text.format(root, ", labels: aligned"), "s"), REGISTRY)
    (root / "dmos.mat").unlink()
    with pytest.raises(DataError, match=r"holds dmos_realigned\.mat, and dmos\.mat is missing\..*'labels: realigned'"):
        build("live", root).entries("all")
    assert build("live", root, labels="realigned").entries("all") == found


INCOMPLETE = {
    "tid2013": ["distorted_images/I01_08_1.bmp", "distorted_images/i25_24_2.bmp"],
    "kadid10k": ["images/I01_01_01.png", "images/I02_25_05.png"],
    "live": ["refimgs/caps.bmp", "jpeg/img8.bmp"],
    "csiq": ["dst_imgs/awgn/1600.AWGN.3.png", "src_imgs/swarm.png"],
    "pipal": ["Distortion_1/A0002_00_01.bmp", "Distortion_2/A0001_03_02.bmp"],
    "pieapp": ["distorted_images/test/ref_161/distort_161_blur_inter_0.png"],
    "pieapp_2afc": ["distorted_images/test/ref_161/distort_161_jpg_inter_2.png"],
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_image_files_are_counted_without_a_look_at_any(tree, name, monkeypatch):
    root = tree(name)
    data = build(name, root)
    looked_at = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: looked_at.append(self) or real(self, **how))
    assert missing_images(data, entries(data), name) == ""
    assert not [path for path in looked_at if path.suffix.lower() in (".bmp", ".png")]
    for file in INCOMPLETE[name]:
        next(path for path in root.rglob("*") if str(path).lower() == str(root / file).lower()).unlink()
    lacks = missing_images(build(name, root), entries(data), name)
    count = len(INCOMPLETE[name])
    assert re.match(rf"Data set {name} is incomplete: of [\d,]+ image files {count} (is|are) missing in ", lacks)
    assert lacks.endswith(" Add them, or unpack the set again.")
    assert all(Path(file).name.lower() in lacks.lower() for file in INCOMPLETE[name])


def test_validate_and_doctor_count_files(tree, tmp_path, monkeypatch):
    root = tree("kadid10k")
    path = tmp_path / "suite.yaml"
    path.write_text(f"name: a\ndatasets: [{{name: kadid10k, root: {root}}}]\nmetrics: [psnr]\n")
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(root.parent))
    check = verb_named("validate")._function
    check(path)
    for number in ("01", "02", "81"):
        (root / f"images/I{number}_01_01.png").unlink()
    told = r"of 15 image files 3 are missing in .*images: i01_01_01\.png, i02_01_01\.png, i81_01_01\.png\. Add them"
    with pytest.raises(LocatedError, match=rf"suite\.yaml: Data set kadid10k is incomplete: {told}"):
        check(path)
    monkeypatch.setattr(Registry, "names", lambda self, kind: ["kadid10k"])
    (found,) = _datasets(Registry())
    assert found.verdict == "problem" and re.search(told, found.detail)
    (root / "images").rename(root / "pictures")
    with pytest.raises(
        LocatedError, match=r"suite\.yaml:2.*images is missing in .*holds dmos\.csv, pictures\. It is read"
    ):
        check(path)
