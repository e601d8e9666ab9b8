import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from harness.contracts import DataError
from harness.datasets.csv_file import CSV
from harness.datasets.tid2013 import TID2013
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import read_suite
from harness.testing import check_dataset
from tests.toys.stored import all_records

TEST_DATA = os.environ.get("ROBUSTIQA_TEST_DATA")


@pytest.fixture
def small(tree: Callable[[str], Path]) -> Path:
    """Two references, two types, two levels, with names in mixed case."""
    return tree("tid2013")


def test_entries_and_images_whatever_the_case_of_names(small: Path) -> None:
    data = TID2013(root=str(small))
    entries = data.entries("all")
    assert [e.id for e in entries[:3]] == ["i01_08_1", "i01_08_2", "i01_24_1"]
    assert (entries[1].reference_id, entries[1].group, entries[1].level) == ("I01", "08", 2)
    assert (entries[1].raw, entries[1].opinion) == (4.5, 0.5)
    for entry in entries:
        images = data.load(entry)
        assert images["ref"].shape == images["dist"].shape == (3, 6, 8)
        assert images["dist"][0, 0, 0].item() * 255 == pytest.approx(90 + (entry.level or 0), abs=1e-4)


def test_filters(small: Path) -> None:
    assert len(TID2013(root=str(small)).entries("all")) == 8
    kept = TID2013(root=str(small), types=[24], references=[25]).entries("all")
    assert [e.id for e in kept] == ["i25_24_1", "i25_24_2"]
    with pytest.raises(DataError, match=r"no image is left.*types 8, 24 and references 1, 25; choose"):
        TID2013(root=str(small), types=[3]).entries("all")
    with pytest.raises(DataError, match=r"types: 0, 25 does not exist\. Choose from 1 to 24"):
        TID2013(root=str(small), types=[0, 8, 25])
    with pytest.raises(DataError, match=r"references: 26 does not exist\. Choose from 1 to 25"):
        TID2013(root=str(small), references=[26])


def test_default_root_is_in_the_data_folder(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(small.parent))
    assert len(TID2013().entries("all")) == 8
    monkeypatch.setenv("HOME", str(small.parent))
    assert len(TID2013(root="~/tid2013").entries("all")) == 8


def test_missing_parts_name_place_and_cure(small: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*no such file.*Download TID2013"):
        TID2013(root=str(small / "nowhere")).entries("all")
    with pytest.raises(DataError, match=r"no split 'test'.*all"):
        TID2013(root=str(small)).entries("test")
    data = TID2013(root=str(small))
    entry = data.entries("all")[0]
    (small / "distorted_images/i01_08_1.bmp").unlink()
    with pytest.raises(DataError, match=r"distorted_images.i01_08_1\.bmp is missing\. Restore the file"):
        data.load(entry)
    (small / "MOS_with_names.TXT").unlink()
    with pytest.raises(DataError, match=r"mos_with_names\.txt is missing in .*tid2013, which holds Ref.*Download"):
        TID2013(root=str(small)).entries("all")


@pytest.mark.parametrize("line", ["5.1", "good I01_08_1.bmp", "5.1 I01_08.bmp", "nan I01_08_1.bmp", "9.5 I01_08_1.bmp"])
def test_malformed_label_line_is_named(small: Path, line: str) -> None:
    with (small / "MOS_with_names.TXT").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"MOS_with_names\.TXT of data set tid2013, line 9: .*Unpack"):
        TID2013(root=str(small)).entries("all")


def test_damaged_and_unequal_images_are_refused(small: Path) -> None:
    data = TID2013(root=str(small))
    first, second = data.entries("all")[:2]
    path = small / "distorted_images/i01_08_1.bmp"
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(DataError, match=r"i01_08_1\.bmp cannot be read.*truncated"):
        data.load(first)
    Image.new("RGB", (9, 6)).save(small / "distorted_images/I01_08_2.bmp")
    with pytest.raises(DataError, match=r"differ in size \(8 x 6 and 9 x 6\)"):
        data.load(second)


def test_fingerprint_follows_labels_names_and_sizes(small: Path) -> None:
    before = TID2013(root=str(small)).fingerprint()
    assert TID2013(root=str(small)).fingerprint() == before
    Image.new("RGB", (9, 6)).save(small / "distorted_images/I01_08_2.bmp")
    after = TID2013(root=str(small)).fingerprint()
    assert after != before
    with (small / "MOS_with_names.TXT").open("a") as file:
        file.write("1.0 I25_08_3.bmp\n")
    assert TID2013(root=str(small)).fingerprint() not in (before, after)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the 360 rated images."""
    if TEST_DATA is None:
        pytest.skip("ROBUSTIQA_TEST_DATA is not set")
    root = tmp_path_factory.mktemp("rated")
    build = Path(TEST_DATA) / "tid2013_subset/build.py"
    subprocess.run([sys.executable, str(build), str(root)], check=True, capture_output=True)
    return str(root)


def test_five_folds_cover_the_rated_images_once(rated: str) -> None:
    folds = [TID2013(root=rated, folds=5, fold=fold) for fold in range(5)]
    tested = [entry.id for data in folds for entry in data.entries("test")]
    assert len(tested) == 360 == len(set(tested))
    assert sorted(len({entry.reference_id for entry in data.entries("test")}) for data in folds) == [4, 5, 5, 5, 5]
    assert [len(folds[0].entries(split)) for split in ("all", "train", "val", "test")] == [360, 210, 75, 75]
    assert all(data.load(data.entries("test")[0])["ref"].shape == (3, 384, 512) for data in folds)


def test_the_same_images_in_a_table_give_the_same_records(rated: str, tmp_path: Path) -> None:
    """Every entry is equal, and every record: clean of all images, of a few under random noise."""
    data = TID2013(root=rated)
    lines = ["id,ref,dist,opinion,reference_id,group,level"]
    for entry in data.entries("all"):
        ref, dist = (path.relative_to(rated) for path in data.image_files(entry))
        known = (entry.id, ref, dist, entry.raw, entry.reference_id, entry.group, entry.level)
        lines.append(",".join(map(str, known)))
    table = Path(rated) / "mine.csv"
    table.write_text("\n".join(lines))
    assert CSV(file=str(table), scale=(0, 9)).entries("all") == data.entries("all")

    def records(dataset: dict[str, object], out: Path) -> pd.DataFrame:
        noise = {"attacks": ["noise"], "limit": 4, "slice": 4, "budgets": {"linf": [8 / 255]}, "directions": ["up"]}
        for more in ({}, noise):
            registry = Registry()
            read = read_suite({"name": "x", "datasets": [dataset], "metrics": ["psnr"], **more}, registry)
            run_suite(read, registry, Options(out=out / str(len(more)), executor="serial", probe=False))
        frame = pd.concat([all_records(run) for run in out.iterdir()]).drop(columns="seconds")
        return frame.sort_values(["attack", "sign", "item"], ignore_index=True)

    official = records({"name": "tid2013", "root": rated}, tmp_path / "official")
    own = records({"name": "csv", "file": str(table), "scale": [0, 9]}, tmp_path / "own")
    assert len(own) == 360 + 8
    pd.testing.assert_frame_equal(own, official, check_exact=True)


def test_psnr_agrees_with_people_as_published(rated: str) -> None:
    data = TID2013(root=rated)
    entries = data.entries("all")
    assert len(entries) == 360 and {e.group for e in entries} == {"08", "16", "17"}

    def psnr(entry_index: int) -> float:
        images = data.load(entries[entry_index])
        error = np.square(images["ref"].double().numpy() - images["dist"].double().numpy()).mean()
        return float(-10 * np.log10(error))

    scores = [psnr(i) for i in range(360)]
    assert spearmanr(scores, [e.raw for e in entries]).statistic == pytest.approx(0.404, abs=0.003)


def test_it_keeps_the_contract_of_data_sets(small: Path) -> None:
    check_dataset(TID2013(root=str(small)), name="tid2013", again=lambda: TID2013(root=str(small)))
