"""Does a data set keep its contract?"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from harness.contracts import (
    DataError,
    Dataset,
    Entry,
)
from harness.plugins.returned import told
from harness.testing.common import Report, expect_reference, identical, watching_randomness


def check_dataset(
    dataset: Dataset, *, name: str | None = None, again: Callable[[], Dataset] | None = None, loads: int = 3
) -> None:
    """Check a data set against its contract.

    Args:
        dataset: The data set.
        name: What messages call it; its registered name unless given.
        again: Builds it a second time, to compare; without it, only a class without parameters is built again.
        loads: Items decoded per split.

    Raises:
        ConformanceError: A rule is broken; lists every one.
    """
    report = Report("data set", dataset, name)
    expect_reference(report, dataset)
    if again is None and not inspect.signature(type(dataset)).parameters:
        again = type(dataset)
    probe = _DatasetProbe(dataset, report, again)
    splits = probe.entries()
    probe.separate(splits)
    for split, entries in splits.items():
        probe.labels(split, entries)
        probe.images(split, entries, loads)
    probe.stable(splits)
    report.settle()


class _DatasetProbe:
    def __init__(self, dataset: Dataset, report: Report, again: Callable[[], Dataset] | None) -> None:
        self._dataset, self._report, self._again = dataset, report, again

    def entries(self) -> dict[str, list[Entry]]:
        """The entries of every split."""
        dataset, report = self._dataset, self._report
        report.expect(
            dataset.kind in ("pairs", "triplets") and dataset.labels in ("human", "proxy", "none"),
            "kind and labels are known words",
            f"kind = {dataset.kind!r}, labels = {dataset.labels!r}",
            "kind is pairs or triplets; labels is human, proxy or none",
        )
        report.expect(bool(dataset.splits), "splits are named", f"splits = {dataset.splits!r}", "name them")
        found: dict[str, list[Entry]] = {}
        for split in dataset.splits:
            rule, cure = "every split has entries", "return them from entries(split)"
            with report.probing(rule, f"split {split}", cure), watching_randomness(report, "entries()"):
                found[split] = list(dataset.entries(split))
                report.expect(bool(found[split]), rule, f"split {split} has none", cure)
        return found

    def separate(self, splits: Mapping[str, Sequence[Entry]]) -> None:
        """Ids are unique; train, val and test share no reference and no cluster; a reference lies in one cluster."""
        parts = {split: entries for split, entries in splits.items() if split != "all"} or splits
        ids = [entry.id for entries in parts.values() for entry in entries]
        twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
        self._report.expect(
            not twice and all(ids),
            "ids are unique across splits",
            f"{len(twice)} ids occur more than once or are empty, for example {(twice or [''])[0]!r}",
            "put split, reference and distortion into the id",
        )
        references = {s: {e.reference_id for e in parts[s]} for s in ("train", "val", "test") if s in parts}
        for (first, a), (second, b) in itertools.combinations(references.items(), 2):
            self._report.expect(
                not a & b,
                "train, val and test share no reference",
                f"{first} and {second} share {len(a & b)}, for example {min(a & b, default='')!r}",
                "split by reference, never by image",
            )
        self._units(parts)

    def _units(self, parts: Mapping[str, Sequence[Entry]]) -> None:
        """Clusters are made of whole references, and splits of whole clusters."""
        trained = [split for split in ("train", "val", "test") if split in parts]
        units = {split: {entry.cluster for entry in parts[split]} - {""} for split in trained}
        for (first, a), (second, b) in itertools.combinations(units.items(), 2):
            self._report.expect(
                not a & b,
                "train, val and test share no cluster",
                f"{first} and {second} share {len(a & b)}, for example {min(a & b, default='')!r}",
                "split by cluster: what is cut from one photograph goes into one split",
            )
        found: dict[str, set[str]] = {}
        for entry in itertools.chain.from_iterable(parts.values()):
            found.setdefault(entry.reference_id, set()).add(entry.cluster)
        torn = sorted(name for name, clusters in found.items() if len(clusters) > 1)
        self._report.expect(
            not torn,
            "a reference lies in one cluster",
            f"{len(torn)} do not, for example {(torn or [''])[0]!r}",
            "name a cluster by what its references are cut from",
        )

    def labels(self, split: str, entries: Sequence[Entry]) -> None:
        """Opinions or judgements as `labels` and `kind` say."""
        dataset = self._dataset
        triplets = dataset.kind == "triplets"
        what = "judge" if triplets else "opinion"
        values = [entry.judge if triplets else entry.opinion for entry in entries]
        if not triplets and dataset.labels == "none":
            given = sum(value is not None for value in values)
            self._report.expect(
                given == 0, "no opinions where labels is none", f"split {split} has {given}", "set labels"
            )
            return
        wrong = [(e.id, v) for e, v in zip(entries, values, strict=True) if v is None or not 0 <= v <= 1]
        self._report.expect(
            not wrong,
            f"every {what} lies in [0, 1]",
            f"split {split}: {len(wrong)} of {len(entries)} do not, for example {wrong[:1]}",
            "normalise, higher is better" if not triplets else "give the share of people who preferred p1",
        )

    def images(self, split: str, entries: Sequence[Entry], loads: int) -> None:
        """What load() returns for a few items."""
        report, dataset = self._report, self._dataset
        keys = {"ref", "p0", "p1"} if dataset.kind == "triplets" else {"ref", "dist"}
        references: dict[str, Tensor] = {}
        for entry in _spread(entries, loads):
            rule, cure = "load() returns the images of an item", f"return {sorted(keys)}, each 3 x H x W"
            with report.probing(rule, f"{split}: {entry.id}", cure):
                with watching_randomness(report, "load()"):
                    images = dataset.load(entry)
                report.expect(set(images) == keys, rule, f"{entry.id} has {sorted(images)}", cure)
                shapes = {tuple(image.shape) for image in images.values()}
                good = len(shapes) == 1 and all(len(s) == 3 and s[0] == 3 for s in shapes)
                types = {str(image.dtype) for image in images.values()}
                report.expect(
                    good and types == {"torch.float32"}, rule, f"{entry.id}: {sorted(shapes)} {sorted(types)}", cure
                )
                low = min(float(image.min()) for image in images.values())
                high = max(float(image.max()) for image in images.values())
                report.expect(
                    low >= 0 and high <= 1,
                    "images lie in [0, 1]",
                    f"{entry.id}: values from {low:g} to {high:g}",
                    "divide 8-bit values by 255",
                )
                report.expect(
                    identical(dict(images), dict(dataset.load(entry))),
                    "load() is deterministic",
                    f"{entry.id} differs on a second load",
                    "no randomness in a data set",
                )
                missing = [str(path) for path in dataset.image_files(entry) or () if not Path(path).is_file()]
                report.expect(
                    not missing,
                    "image_files() names the files that load() reads",
                    f"{entry.id}: {', '.join(missing)}: no such file",
                    "return their paths, () if images are made, or leave the method out",
                )
                known = references.setdefault(entry.reference_id, images["ref"])
                report.expect(
                    identical(known, images["ref"]),
                    "one reference_id is one image",
                    f"{entry.id}: its reference is not that of other items of {entry.reference_id!r}",
                    "name references by their image",
                )

    def stable(self, splits: Mapping[str, Sequence[Entry]]) -> None:
        """Fingerprint and entries are the same for equal instances; an unknown split is refused."""
        report, dataset = self._report, self._dataset
        twin = dataset
        if self._again is not None:
            with report.probing("a second instance can be built", "again()", "keep no state on the class"):
                twin = self._again()
        rule, cure = "fingerprint() is a stable text", "hash the label file, names and sizes; no times, no ids"
        with report.probing(rule, "fingerprint()", cure):
            prints = [dataset.fingerprint(), dataset.fingerprint(), twin.fingerprint()]
            good = all(isinstance(p, str) and p for p in prints) and len(set(prints)) == 1
            report.expect(good, rule, f"it was {sorted({str(p)[:24] for p in prints})}", cure)
        rule, cure = "entries() are the same on a second instance", "sort what the file system lists"
        with report.probing(rule, "a second instance", cure):
            moved = [split for split, entries in splits.items() if list(twin.entries(split)) != list(entries)]
            report.expect(not moved, rule, f"splits {moved} changed", cure)
        rule, cure = "an unknown split is refused by a DataError", "raise DataError naming the splits"
        try:
            dataset.entries("no such split")
            report.expect(False, rule, "entries('no such split') returned", cure)
        except DataError:
            pass
        except Exception as error:
            report.expect(False, rule, told(error), cure)


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """A few entries: the first, others over the whole list, and the second of the first's reference if there is one."""
    if not entries:
        return []
    chosen = [entries[i] for i in sorted({round(i) for i in np.linspace(0, len(entries) - 1, count)})]
    sibling = [e for e in entries[1:] if e.reference_id == entries[0].reference_id][:1]
    return [*chosen, *(e for e in sibling if e not in chosen)]
