"""The kit on data sets: the bundled ones keep their contract, and planted faults are caught."""

import dataclasses

import pytest
import torch

from harness.contracts import DataError, Dataset, Entry
from harness.plugins.registry import Registry
from harness.testing import check_dataset, distorted, natural


@pytest.mark.parametrize("name", ["mini", "mini_2afc"])
def test_shipped_datasets(name):
    check_dataset(Registry().dataset(name).build({}), name=name, loads=2)


class Little(Dataset):
    """Faultless: two references a split, two images each."""

    cite = ""
    splits = ("train", "test")

    def entries(self, split):
        if split not in self.splits:
            raise DataError("no such split")
        return [
            Entry(f"{split}/{r}/{i}", f"{split}{r}", opinion=(i + r) / 2, level=i + 1)
            for r in range(2)
            for i in range(2)
        ]

    def load(self, entry):
        ref = natural(len(entry.reference_id) + int(entry.reference_id[-1]), 12, 12)
        return {"ref": ref, "dist": distorted(ref[None], 0.3)[0]}

    def fingerprint(self):
        return "little"


class SharesReferences(Little):
    def entries(self, split):
        return [dataclasses.replace(e, reference_id=e.reference_id[-1]) for e in super().entries(split)]


class SharesPhotographs(Little):
    def entries(self, split):
        return [dataclasses.replace(e, cluster="harbour") for e in super().entries(split)]


class TornReference(Little):
    def entries(self, split):
        return [dataclasses.replace(e, cluster=e.id) for e in super().entries(split)]


class SharesIds(Little):
    def entries(self, split):
        return [dataclasses.replace(e, id=e.id.partition("/")[2]) for e in super().entries(split)]


class FiveStars(Little):
    def entries(self, split):
        return [dataclasses.replace(e, opinion=5 * e.opinion) for e in super().entries(split)]


class NoJudge(Little):
    kind = "triplets"

    def load(self, entry):
        images = super().load(entry)
        return {"ref": images["ref"], "p0": images["dist"], "p1": images["dist"]}


class Unlabelled(Little):
    labels = "none"


class EmptySplit(Little):
    splits = ("train", "val", "test")

    def entries(self, split):
        return [] if split == "val" else super().entries(split)


class Bytes(Little):
    def load(self, entry):
        return {k: v * 255 for k, v in super().load(entry).items()}


class Doubles(Little):
    def load(self, entry):
        return {k: v.double() for k, v in super().load(entry).items()}


class WrongKeys(Little):
    def load(self, entry):
        return {"reference": super().load(entry)["ref"]}


class OtherReference(Little):
    def load(self, entry):
        ref = natural(int(entry.id[-1]), 12, 12)
        return {"ref": ref, "dist": ref}


class Shaky(Little):
    def load(self, entry):
        return {k: v * float(torch.rand(1)) for k, v in super().load(entry).items()}


class Dated(Little):
    def fingerprint(self):
        return str(id(self))


class Moody(Little):
    made = 0

    def __init__(self):
        type(self).made += 1
        self.mine = type(self).made

    def entries(self, split):
        return super().entries(split)[:: 1 if self.mine % 2 else -1]


class TakesAnySplit(Little):
    def entries(self, split):
        return super().entries(split if split in self.splits else "test")


class NamesNoFile(Little):
    def image_files(self, entry):
        return [f"{entry.id}.png"]


DATASETS = [
    (SharesReferences, "share no reference"),
    (SharesPhotographs, "share no cluster"),
    (TornReference, "a reference lies in one cluster"),
    (SharesIds, "ids are unique"),
    (FiveStars, "every opinion"),
    (NoJudge, "every judge"),
    (Unlabelled, "no opinions"),
    (EmptySplit, "every split has entries"),
    (Bytes, "[0, 1]"),
    (Doubles, "images of an item"),
    (WrongKeys, "images of an item"),
    (OtherReference, "one reference_id"),
    (Shaky, "load() is deterministic"),
    (Shaky, "no global random"),
    (Dated, "fingerprint"),
    (NamesNoFile, "image_files() names the files"),
    (Moody, "second instance"),
    (TakesAnySplit, "unknown split"),
]


def test_the_faultless_dataset_passes():
    check_dataset(Little())


@pytest.mark.parametrize(("planted", "rule"), DATASETS)
def test_planted_dataset(assert_caught, planted, rule):
    assert_caught(check_dataset, planted(), rule)
