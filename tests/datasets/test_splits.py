"""Splits by reference: no leak, 6:2:2, folds that cover everything once, the same on every machine, and in the engine."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.contracts import DataError, UserError
from harness.datasets.splits import ReferenceSplits
from harness.datasets.tid2013 import TID2013
from harness.plugins.registry import Registry
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from harness.testing import check_dataset

PARTS = ("train", "val", "test")


def names(count):
    return [f"I{i:02}" for i in range(1, count + 1)]


def splits(split_seed=None, folds=None, fold=0):
    return ReferenceSplits("some", split_seed=split_seed, folds=folds, fold=fold)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 90), st.integers(0, 2**64 - 1))
def test_six_two_two_without_leak(count, seed):
    parts = splits(seed).references(names(count))
    assert sorted(name for part in parts.values() for name in part) == names(count)
    train, val, test = (len(parts[part]) for part in PARTS)
    assert train >= val == test >= 1
    assert abs(test - 0.2 * count) <= 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 90), st.integers(3, 12), st.integers(0, 9))
def test_folds_test_every_reference_once(count, folds, seed):
    folds = min(folds, count)
    each = [splits(seed, folds, fold).references(names(count)) for fold in range(folds)]
    assert sorted(name for parts in each for name in parts["test"]) == names(count)
    assert {len(parts["test"]) for parts in each} <= {count // folds, -(-count // folds)}
    for fold, parts in enumerate(each):
        assert parts["val"] == each[(fold + 1) % folds]["test"]
        assert sorted(name for part in parts.values() for name in part) == names(count)


def test_sizes_of_the_published_sets():
    for count, sizes in (
        (25, (15, 5, 5)),
        (29, (17, 6, 6)),
        (30, (18, 6, 6)),
        (81, (49, 16, 16)),
        (200, (120, 40, 40)),
    ):
        parts = splits(1).references(names(count))
        assert tuple(len(parts[part]) for part in PARTS) == sizes
    assert splits(folds=5).references(names(25)) == splits(0, 5).references(names(25))


def test_golden_and_blind_to_order():
    """Frozen: a change would silently move images between train and test of metrics trained before it."""
    parts = splits(0).references(names(10))
    assert parts == {
        "train": {"I03", "I05", "I06", "I07", "I08", "I09"},
        "val": {"I02", "I04"},
        "test": {"I01", "I10"},
    }
    assert splits(0).references([*reversed(names(10)), "I03"]) == parts
    assert splits(1).references(names(10)) != parts


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split_seed": -1}, r"split_seed: should be at least 0, got -1\."),
        ({"split_seed": 2**64}, r"split_seed: should be at most 18446744073709551615, got 18446744073709551616\."),
        ({"folds": 2}, r"folds: 2 cannot hold train, val and test\. Give 3"),
        ({"folds": 5, "fold": 5}, r"fold: 5 does not exist\. Choose from 0 to 4"),
        ({"folds": 5, "fold": -1}, r"fold: -1 does not exist"),
        ({"fold": 1}, r"fold: 1 means nothing without folds\. Add folds"),
        ({"split_seed": 3, "fold": 1}, r"fold: 1 means nothing without folds"),
    ],
)
def test_values_out_of_range_are_refused(asked, message):
    with pytest.raises(DataError, match=f"Data set tid2013, {message}"):
        TID2013(root="nowhere", **asked)


def test_too_few_references_are_refused():
    with pytest.raises(DataError, match=r"has 4 references left, too few for folds: 5\. Give folds from 3 to 4"):
        splits(folds=5).references(names(4))
    with pytest.raises(DataError, match=r"has 1 reference left, too few for train, val and test\. Keep more"):
        splits(0).references(["I01"])


@pytest.fixture
def tid(tmp_path) -> Path:
    """Six references with two images each, in the layout of TID2013."""
    root, lines = tmp_path / "tid", []
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    for reference in range(1, 7):
        Image.new("RGB", (8, 8), (90, 10 * reference, 70)).save(root / f"reference_images/I{reference:02}.BMP")
        for level in (1, 2):
            name = f"i{reference:02}_08_{level}.bmp"
            Image.new("RGB", (8, 8), (90 + level, 10 * reference, 70)).save(root / "distorted_images" / name)
            lines.append(f"{9 / level:.5f} {name}\n")
    (root / "mos_with_names.txt").write_text("".join(lines))
    return root


def test_filters_come_first_and_the_scale_is_that_of_the_whole(tid):
    data = TID2013(root=str(tid), references=[1, 2, 3], folds=3, fold=2)
    assert data.splits == ("all", *PARTS) and TID2013.splits == ("all",)
    held = {split: {entry.reference_id for entry in data.entries(split)} for split in PARTS}
    assert all(len(part) == 1 for part in held.values()) and set.union(*held.values()) == {"I01", "I02", "I03"}
    whole = {entry.id: entry for entry in TID2013(root=str(tid)).entries("all")}
    assert all(whole[entry.id] == entry for split in PARTS for entry in data.entries(split))


def test_split_sets_keep_the_contract(tid):
    for asked in ({"split_seed": 0}, {"folds": 5, "fold": 1}):
        check_dataset(TID2013(root=str(tid), **asked), again=lambda asked=asked: TID2013(root=str(tid), **asked))
    with pytest.raises(DataError, match=r"no split 'tset'\. Choose one of: all, train, val, test"):
        TID2013(root=str(tid), split_seed=0).entries("tset")
    with pytest.raises(DataError, match=r"no split 'train'\. Its only split is all; split_seed: 0 or folds: 5"):
        TID2013(root=str(tid)).entries("train")


def suite(tid, asked=""):
    text = (
        f"name: s\ndatasets: [{{name: tid2013, root: {tid}{asked}}}]\nmetrics: [psnr]\nattacks: [fgsm]\n"
        "budgets: {linf: [8/255]}\ndirections: [up]\n"
    )
    return validate(parse_text(text, "suite.yaml"), Registry())


def test_the_engine_evaluates_test_and_calibrates_on_train(tid):
    whole, split = suite(tid).datasets[0], suite(tid, ", folds: 3").datasets[0]
    assert (whole.split, whole.calibration_split, whole.label) == ("all", "all", "tid2013")
    assert (split.split, split.calibration_split, split.label) == ("test", "train", "tid2013(folds=3)")
    plan = make_plan(suite(tid, ", folds: 3"), Registry())
    assert {fact.split.split for fact in plan.facts} == {"train"}
    assert len(plan.entries[plan.splits[0].key]) == 4
    assert suite(tid, ", split_seed: 1, split: val").datasets[0].split == "val"


def test_an_unsplit_set_says_how_it_is_split(tid):
    with pytest.raises(
        UserError, match=r"'tid2013' has no split 'train'\..* It gets others by split_seed, folds, fold\."
    ):
        suite(tid, ", split: train")
    with pytest.raises(UserError, match=r"'tid2013' has no split 'tset'\. Did you mean 'test'\?$"):
        suite(tid, ", folds: 3, split: tset")


def test_identity_of_the_whole_set_is_that_of_before_it_could_be_split(tid):
    whole, split = suite(tid).datasets[0], suite(tid, ", folds: 3").datasets[0]
    assert whole.identity()["parameters"] == {"root": str(tid), "types": None, "references": None}
    assert split.identity()["parameters"] == {"root": str(tid), "types": None, "references": None, "folds": 3}
    first, other = suite(tid, ", folds: 3, fold: 1").datasets[0], suite(tid, ", folds: 3, split_seed: 1").datasets[0]
    assert len({str(use.identity()) for use in (whole, split, first, other)}) == 4
