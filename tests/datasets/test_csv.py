"""Own images in a table: what may be left out, what is refused with its line, and what a suite makes of it."""

import codecs
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from harness.contracts import DataError
from harness.datasets.csv_file import CSV
from harness.datasets.image_files import DEEP, FROM_GREY, TURNED
from harness.errors import UserError
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import load_suite, read_suite
from harness.testing import check_dataset
from harness.wording import for_markdown
from tests.toys.stored import records

TABLE = """ref,dist,opinion,group,level
a.png,a1.png,4.5,blur,1
a.png,a2.png,1.5,blur,2
b.png,b1.png,3,noise,1
c.png,c1.png,2,,
"""
TRIPLETS = """ref,p0,p1,judge,group
a.png,a1.png,a2.png,0.25,blur
b.png,b1.png,b2.png,1,noise
"""


@pytest.fixture
def folder(tmp_path):
    """Images of every suffix that is used, each with a tone of its own."""
    for tone, name in enumerate(("a", "a1", "a2", "b", "b1", "b2", "c", "c1")):
        Image.new("RGB", (8, 6), (40 + 10 * tone, 90, 70)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def table(folder):
    """Text of a table -> the data set."""

    def build(text, **parameters):
        path = folder / "mine.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return CSV(file=str(path), **parameters)

    return build


def test_a_table_of_pairs(table):
    data = table(TABLE)
    assert (data.kind, data.labels, data.splits) == ("pairs", "human", ("all",))
    one, two, *_, last = data.entries("all")
    assert (one.id, one.reference_id, one.group, one.level, one.raw) == ("a1.png", "a.png", "blur", 1, 4.5)
    assert [e.opinion for e in data.entries("all")] == pytest.approx([1, 0, 0.5, 1 / 6])
    assert (last.group, last.level) == ("", None)
    images = data.load(two)
    assert [round(float(images[name][0, 0, 0]) * 255) for name in ("ref", "dist")] == [40, 60]
    assert [path.name for path in data.image_files(two)] == ["a.png", "a2.png"]
    check_dataset(data, name="csv", again=lambda: table(TABLE))


def test_lower_may_be_better_and_the_scale_given(table):
    worse = table(TABLE, higher_is_better=False, scale=(0.0, 5.0))
    assert [e.opinion for e in worse.entries("all")] == pytest.approx([0.1, 0.7, 0.4, 0.6])
    assert spearmanr([e.raw for e in worse.entries("all")], [e.opinion for e in worse.entries("all")]).statistic == -1


def test_only_the_images_are_needed(table):
    data = table("ref,dist\na.png,a1.png\nb.png,b1.png\n", labels="proxy")
    assert data.labels == "none" and [e.opinion for e in data.entries("all")] == [None, None]
    check_dataset(data, name="csv", again=lambda: table("ref,dist\na.png,a1.png\nb.png,b1.png\n"))


def test_a_table_of_triplets(table):
    data = table(TRIPLETS)
    assert data.kind == "triplets" and [e.judge for e in data.entries("all")] == [0.25, 1]
    assert data.entries("all")[0].id == "a1.png | a2.png" and set(data.load(data.entries("all")[0])) == {
        "ref",
        "p0",
        "p1",
    }
    check_dataset(data, name="csv", again=lambda: table(TRIPLETS))


@pytest.mark.parametrize(
    "written",
    [
        TABLE.replace(",", ";").replace("4.5", "4,5").replace("1.5", "1,5").encode(),
        TABLE.replace(",", "\t").encode(),
        codecs.BOM_UTF8 + TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("ref,dist,opinion", '"Ref", DIST ,Opinion').encode(),
        ("\n" + TABLE.replace("a1.png", '"a1.png"')).encode(),
        "\n".join(f"{i},{line}" if i else f",{line}" for i, line in enumerate(TABLE.split())).encode(),
        "\n".join(f"{line},note" for line in TABLE.split()).encode(),
        b"sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n").encode(),
    ],
    ids=[
        "semicolons",
        "tabs",
        "bom",
        "case and quotes",
        "empty line",
        "index without a name",
        "another column",
        "sep=",
    ],
)
def test_spreadsheets_write_tables_in_many_ways(table, written):
    assert table(written).entries("all") == table(TABLE).entries("all")


def test_paths_from_windows_ids_and_folders(table, folder):
    (folder / "x").mkdir()
    (folder / "a1.png").rename(folder / "x/a1.png")
    text = f"id,reference_id,ref,dist\none,A,a.png,x\\a1.png\ntwo,B,{folder}/b.png,./b1.png\n"
    data = table(text)
    assert [(e.id, e.reference_id) for e in data.entries("all")] == [("one", "A"), ("two", "B")]
    assert float(data.load(data.entries("all")[0])["dist"][0, 0, 0]) * 255 == pytest.approx(50)
    (notice,) = data.notices()
    assert f"lists 1 image outside its folder, such as {folder}/b.png" in notice
    assert table(TABLE).notices() == ()


SPELLINGS = ["./a.png", "x/../a.png", ".//a.png", "x\\..\\a.png", "{}/a.png", "linked/a.png"]


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_file_is_one_image_however_it_is_spelled(table, folder, spelled):
    (folder / "x").mkdir()
    (folder / "linked").symlink_to(folder)
    spelled = spelled.format(folder)
    data = table(f"ref,dist\na.png,a1.png\n{spelled},a2.png\nb.png,b1.png\n")
    assert [e.reference_id for e in data.entries("all")] == ["a.png", "a.png", "b.png"]
    with pytest.raises(DataError, match=r"line 3: reference 'a\.png' goes with 'test', and in line 2 with 'train'"):
        table(f"ref,dist,split\na.png,a1.png,train\n{spelled},a2.png,test\n").entries("all")
    again = spelled.replace("a.png", "a1.png")
    with pytest.raises(DataError, match=r"line 3: '.*a1\.png' stands in line 2, too"):
        table(f"ref,dist\na.png,a1.png\na.png,{again}\n").entries("all")
    with pytest.raises(DataError, match=r"line 2: p0 and p1 are one file"):
        table(f"ref,p0,p1,judge\nb.png,a1.png,{again},1\n").entries("all")


def test_splits_of_a_column_and_by_reference(table):
    named = "\n".join(
        f"{row},{split}" for row, split in zip(TABLE.split(), ["split", "train", "train", "val", "test"], strict=True)
    )
    data = table(named)
    assert data.splits == ("all", "train", "val", "test")
    assert [len(data.entries(split)) for split in data.splits] == [4, 2, 1, 1]
    check_dataset(data, name="csv", again=lambda: table(named))
    upper = table(named.replace("train", "Train").replace("test", "TEST").replace("val", "Other"))
    assert upper.splits == ("all", "train", "Other", "test") and len(upper.entries("train")) == 2
    seeded = table(TABLE, split_seed=0)
    assert [len({e.reference_id for e in seeded.entries(split)}) for split in seeded.splits] == [3, 1, 1, 1]
    with pytest.raises(DataError, match=r"no split 'tets'.*all, train, val, test"):
        data.entries("tets")
    with pytest.raises(DataError, match="has a column split, so split_seed and folds have no use"):
        table(named, split_seed=0)


BAD = {
    "no ref": ("dist,opinion\na1.png,1\n", r"mine\.csv: the columns are dist, opinion\. A table has ref,dist"),
    "both forms": ("ref,dist,p0,p1,judge\na,b,c,d,1\n", r"dist belongs to pairs, p0 and p1 to triplets"),
    "another name": ("ref,dist,mos\na.png,a1.png,1\n", r"Call 'mos' opinion to use it"),
    "a column twice": ("ref,dist,Opinion,opinion\na,b,1,2\n", r"mine\.csv, line 1: the column 'opinion' stands twice"),
    "a tilde": (TABLE + "~c.png,b1.png,1,,\n", r"1 of \d+ images is missing: ~c\.png \(line 6\)"),
    "a long name": (
        TABLE + f"{'c' * 300}.png,b1.png,1,,\n",
        r"1 of \d+ images is missing: c{17}\.\.\.c+\.png \(line 6\)",
    ),
    "no rows": ("ref,dist\n", r"mine\.csv: no rows below the names"),
    "a short row": (TABLE + "c.png\n", r"mine\.csv, line 6: 1 cell under 5 columns"),
    "a long row": (TABLE + "c.png,c1.png,1,x,1,9\n", r"line 6: 6 cells under 5 columns"),
    "a long cell": (
        TABLE + f"{'c' * 200000},b1.png,1,,\n",
        r"line 6: field larger .* of this line, or shorten its cell",
    ),
    "an open quote": (TABLE + '"c.png,b1.png,1,,\n', r"line 6: unexpected end of data"),
    "not UTF-8": (
        TABLE.encode() + b"\xe9.png,c1.png,1,,\n",
        r"mine\.csv, line 6: a letter that is not UTF-8\. Save it",
    ),
    "UTF-16": (TABLE.encode("utf-16"), r"mine\.csv is UTF-16\. Save it as UTF-8"),
    "missing files": (
        TABLE + "d.png,d1.png,1,,\ne.png,c1.png,1,,\ne.png,c2.png,1,,\n",
        r"4 of 11 images are missing: d\.png \(line 6\), d1\.png \(line 6\), e\.png \(line 7\) and 1 more\. Paths are relative to /.*\.",
    ),
    "an empty cell": (TABLE + ",c1.png,1,,\n", r"1 of 8 images is missing: an empty cell \(line 6\)"),
    "duplicates": (TABLE + "a.png,a1.png,1,,\n", r"line 6: 'a1\.png' stands in line 2, too"),
    "nan": (TABLE + "c.png,b1.png,nan,,\n", r"line 6: opinion 'nan' is no number"),
    "underscore": (TABLE + "c.png,b1.png,1_0,,\n", r"line 6: opinion '1_0' is no number"),
    "no opinion": (TABLE + "c.png,b2.png,,,\n", r"line 6: no opinion, and other rows have one"),
    "decimal comma": (
        TABLE + 'c.png,b2.png,"3,5",,\n',
        r"line 6: opinion '3,5' is no number\. Write decimals with a point",
    ),
    "constant": (
        "ref,dist,opinion\na.png,a1.png,2\nb.png,b1.png,2\n",
        r"every opinion is 2, which ranks nothing\. Give scale",
    ),
    "level": (TABLE + "c.png,b2.png,2,,1.5\n", r"line 6: level 1\.5 is no whole number"),
    "level 0": (TABLE + "c.png,b2.png,2,,0\n", r"line 6: level 0 is no whole number from 1 to 10,000\. Number"),
    "level -3": (TABLE + "c.png,b2.png,2,,-3\n", r"line 6: level -3 is no whole number from 1 to 10,000"),
    "level 1e23": (TABLE + "c.png,b2.png,2,,1e23\n", r"line 6: level 1e\+23 is no whole number from 1 to 10,000"),
    "two splits": (
        "ref,dist,split\na.png,a1.png,train\na.png,a2.png,test\n",
        r"line 3: reference 'a\.png' goes with 'test', and in line 2 with 'train'\. Put all rows of a reference into one",
    ),
    "two ids": (
        "ref,dist,reference_id\na.png,a1.png,A\na.png,a2.png,B\n",
        r"line 3: ref 'a\.png' goes with 'B', and in line 2 with 'A'",
    ),
    "one id of two": (
        "ref,dist,reference_id\na.png,a1.png,A\nb.png,b1.png,A\n",
        r"line 3: reference_id 'A' goes with 'b\.png', and in line 2 with 'a\.png'",
    ),
    "split All": ("ref,dist,split\na.png,a1.png,All\n", r"line 2: split is 'All'"),
    "no split": ("ref,dist,split\na.png,a1.png,\n", r"line 2: split is ''"),
    "judge": (TRIPLETS + "c.png,c1.png,b1.png,1.2,\n", r"line 4: judge '1\.2' is no share"),
    "no judge": (TRIPLETS + "c.png,c1.png,b1.png,,\n", r"line 4: judge '' is no share"),
    "mixed sizes": (
        TABLE + "c.png,large.png,1,,\n",
        r"line 6: the images differ in size \(c\.png 8 x 6, large\.png 9 x 6\)",
    ),
    "pages": (TABLE + "c.png,pages.tif,1,,\n", r"line 6: Image .*pages\.tif holds 2 frames or pages.* Save the one"),
    "CMYK": (TABLE + "c.png,ink.jpg,1,,\n", r"line 6: Image .*ink\.jpg has the pixel format CMYK"),
    "transparent": (TABLE + "c.png,clear.png,1,,\n", r"line 6: Image .*clear\.png is partly transparent"),
    "no image": (TABLE + "c.png,text.png,1,,\n", r"line 6: Image .*text\.png cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_message_with_file_and_line(table, folder, case):
    Image.new("RGB", (9, 6)).save(folder / "large.png")
    (folder / "text.png").write_text("no image")
    page = Image.new("RGB", (8, 6))
    page.save(folder / "pages.tif", save_all=True, append_images=[page])
    Image.new("CMYK", (8, 6)).save(folder / "ink.jpg")
    Image.new("RGBA", (8, 6), (9, 9, 9, 99)).save(folder / "clear.png")
    text, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        data = table(text)
        data.entries("all")
        data.fingerprint()
    assert "\n" not in str(caught.value) and "mine.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((5.0, 1.0), r"scale: \[5\.0, 1\.0\] is no range"),
        ((1.0,), "is no range"),
        ((2.0, 5.0), r"line 3: opinion 1\.5 lies outside the scale 2\.\.5"),
    ],
)
def test_a_scale_that_cannot_be(table, scale, message):
    with pytest.raises(DataError, match=message):
        table(TABLE, scale=scale).entries("all")


def test_load_names_the_line(table, folder):
    data = table(TABLE)
    entry = data.entries("all")[1]
    (folder / "a2.png").write_bytes((folder / "a2.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"mine\.csv, line 3: Image .*a2\.png cannot be read"):
        data.load(entry)
    Image.new("RGB", (9, 6)).save(folder / "a2.png")
    with pytest.raises(DataError, match=r"mine\.csv, line 3: the images differ in size"):
        data.load(entry)


def test_identity_is_what_the_table_says_and_not_where_it_lies(table, folder, tmp_path_factory):
    before = table(TABLE).fingerprint()
    assert table(TABLE.replace(",", ";").encode()).fingerprint() == before
    assert table("\n".join(f"{line},note" for line in TABLE.split())).fingerprint() == before
    assert table(TABLE.replace("4.5", "4.4")).fingerprint() != before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    table(TABLE)
    for path in folder.iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes())
    assert CSV(file=str(elsewhere / "mine.csv")).fingerprint() == before
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(elsewhere / "a1.png")
    assert CSV(file=str(elsewhere / "mine.csv")).fingerprint() != before


def test_a_table_saved_again_is_the_same_table(table, folder):
    before = table(TABLE)
    for text in ("\ufeff" + TABLE, TABLE.replace("\n", "\r\n"), "\ufeff" + TABLE.replace("\n", "\r\n")):
        again = table(text)
        assert (again.fingerprint(), again.entries("all")) == (before.fingerprint(), before.entries("all"))
    for name in ("Thumbs.db", ".DS_Store", "._a1.png", "a1.jpg"):
        (folder / name).write_bytes(b"\x00\x05")
    assert table(TABLE).fingerprint() == before.fingerprint() and not before.notices()


def test_names_that_differ_in_case_only_are_told(table, folder):
    Image.new("RGB", (8, 6), (1, 2, 3)).save(folder / "A1.png")
    data = table(TABLE + "a.png,A1.png,2.5,blur,3\n")
    assert len(data.entries("all")) == 5
    (notice,) = data.notices()
    assert notice.endswith(
        "lists a1.png and A1.png, which differ in case only: on a disk that ignores case they are one file."
    )


def test_a_suite_takes_the_form_of_the_table(folder, tmp_path):
    """Pairs without opinions have tables that need none; triplets have the one of triplets. Faults come with a line."""

    def run(text, out):
        (folder / "mine.csv").write_text(text)
        registry = Registry()
        own = {"name": "csv", "file": str(folder / "mine.csv")}
        suite = read_suite({"name": "own", "datasets": [own], "metrics": ["psnr"]}, registry)
        assert suite.datasets[0].label == "csv(file=mine.csv)"
        report = run_suite(suite, registry, Options(out=tmp_path / out, executor="serial", probe=False)).data
        assert not report.failures
        return {file.stem: pd.read_csv(file) for file in (tmp_path / out).rglob("tables/*.csv")}

    unrated = "ref,dist,group,level\na.png,a1.png,tone,1\na.png,a2.png,tone,2\nb.png,b1.png,tone,1\n"
    assert set(run(unrated, "unrated")) == {"ordering"}
    with pytest.raises(UserError, match="has no opinions, so the direction 'mos_split' cannot be had"):
        aimed = {"attacks": ["fgsm"], "budgets": {"linf": [8 / 255]}, "directions": ["mos_split"]}
        own = {"name": "csv", "file": str(folder / "mine.csv")}
        read_suite({"name": "own", "datasets": [own], "metrics": ["psnr"], **aimed}, Registry())
    tables = run(TRIPLETS, "triplets")
    hard = tables["two_afc"].query("kind == 'hard' and subset == 'all'")
    # p1 lies further from its reference in both triplets; people preferred p0 in the first and p1 in the second.
    assert hard["clean_accuracy"].tolist() == [0.5]
    with pytest.raises(UserError, match=r"datasets\.0: .*mine\.csv, line 3: split is ''"):
        run("ref,dist,split\na.png,a1.png,x\nb.png,b1.png,\n", "bad")


def test_16_bits_and_turned_files_reach_the_records_and_are_told_under_the_tables(tmp_path):
    """48.20 dB are 20 log10(257), below what 8 bits can hold; the turned file is its reference."""
    values = np.random.default_rng(0).integers(0, 65536 - 255, (12, 16), dtype=np.uint16)
    for name, change in (("a", 0), ("a1", 255)):
        Image.fromarray(values + np.uint16(change)).save(tmp_path / f"{name}.png")
    exif = Image.Exif()
    exif[274] = 3
    photo = Image.fromarray((values[..., None] >> np.array([8, 7, 6])).astype(np.uint8))
    photo.save(tmp_path / "b.png")
    photo.rotate(180).save(tmp_path / "b1.png", exif=exif)
    (tmp_path / "mine.csv").write_text("ref,dist\na.png,a1.png\nb.png,b1.png\n")
    own = {"name": "own", "datasets": [{"name": "csv", "file": str(tmp_path / "mine.csv")}], "metrics": ["psnr"]}
    options = Options(out=tmp_path / "run", executor="serial", probe=False)
    rows = run_suite(read_suite(own, Registry()), Registry(), options).data.records.set_index("item")
    assert rows.loc["a1.png", "clean"] == pytest.approx(20 * np.log10(257), abs=1e-3)
    assert rows["identical"].to_dict() == {"a1.png": False, "b1.png": True}
    rounded = np.rint((values + 255.0) / 257) * 257  # of which nothing was attacked
    peer = 20 * np.log10(65535) - 10 * np.log10(np.mean((rounded - values) ** 2))
    assert rows.loc["a1.png", "attacked_8bit"] == pytest.approx(peer, abs=1e-3) and abs(peer - 48.1987) > 0.01
    for what in (DEEP, TURNED, FROM_GREY):
        line = f"mine.csv: some image files are {what}; `robustiqa data verify` names them."
        assert all(for_markdown(line) in file.read_text() for file in (tmp_path / "run/report/tables").glob("*.md"))


def test_the_example_suite_needs_a_table_and_nothing_else(folder, monkeypatch):
    (folder / "mine.csv").write_text(TABLE)
    monkeypatch.chdir(folder)
    suite = load_suite(Path(__file__).parents[2] / "docs" / "examples" / "own_images.yaml", Registry())
    assert [(use.label, use.shape, use.labels) for use in suite.datasets] == [("csv(file=mine.csv)", "pairs", "human")]


def test_one_text_in_two_folders_names_different_images(tmp_path):
    """Files of equal names and sizes: only their pixels tell the folders apart, and records, too."""
    for step, name in ((10, "near"), (40, "far")):
        (tmp_path / name).mkdir()
        for tone, image in ((100, "a"), (100 + step, "a1"), (80, "b"), (80 + step, "b1")):
            Image.new("RGB", (8, 6), (tone, tone, tone)).save(tmp_path / name / f"{image}.bmp")
        (tmp_path / name / "mine.csv").write_text("ref,dist\na.bmp,a1.bmp\nb.bmp,b1.bmp\n")
    datasets = [{"name": "csv", "label": name, "file": str(tmp_path / name / "mine.csv")} for name in ("near", "far")]
    registry = Registry()
    suite = read_suite({"name": "two", "datasets": datasets, "metrics": ["psnr"]}, registry)

    def run():
        return run_suite(suite, registry, Options(out=tmp_path / "run", executor="serial", probe=False))

    assert run().cells == 2
    scores = [frame["clean"].tolist() for frame in records(tmp_path / "run").values()]
    expected = [[20 * np.log10(255 / step)] * 2 for step in (10, 40)]
    assert sorted(scores, reverse=True) == [pytest.approx(one, abs=1e-4) for one in expected]
    assert run().cells == 0, "no file was taken for one of the other folder that changed"
