import csv
import os
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from harness.contracts import DataError
from harness.datasets import mini
from harness.datasets.images import read_pixels
from harness.datasets.mini import LABELS_FILE, REFERENCES_FILE, Mini, pixel_hash
from harness.datasets.mini.distortions import DISTORTIONS, LEVELS, distort
from harness.datasets.mini.labels import METRICS, measure, monotone, proxy_quality
from harness.datasets.mini.references import CROPS, PHOTOGRAPHS, SIDE, names, reference
from harness.datasets.mini_2afc import Mini2AFC

with LABELS_FILE.open(encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.png"))


def test_size_of_the_set() -> None:
    data = Mini()
    references = {split: {e.reference_id for e in data.entries(split)} for split in data.splits}
    assert len(references["test"]) >= 24
    assert max(Counter(crop.photograph for crop in CROPS.values()).values()) <= 4
    assert not references["train"] & references["val"]
    assert not (references["train"] | references["val"]) & references["test"]
    photographs = {split: {e.cluster for e in data.entries(split)} for split in data.splits}
    # Procedural images are units of their own, so no photograph can be in two splits.
    assert photographs["train"] == photographs["val"] == {""}
    crops: dict[str, set[str]] = {}
    for entry in data.entries("test"):
        crops.setdefault(entry.cluster, set()).add(entry.reference_id)
    of_file = {p: Path(photo.file).stem for p, photo in PHOTOGRAPHS.items()}
    assert crops == {of_file[p]: {name for name, crop in CROPS.items() if crop.photograph == p} for p in PHOTOGRAPHS}
    assert len(DISTORTIONS) >= 15 and LEVELS == (1, 2, 3, 4, 5)
    for split in data.splits:
        entries = data.entries(split)
        assert len(entries) == len(references[split]) * len(DISTORTIONS) * len(LEVELS)
        assert (
            len({(e.reference_id, e.group, e.level) for e in entries}) == len(entries) == len({e.id for e in entries})
        )
        assert all(e.opinion == e.raw and 0 <= (e.opinion or 0) <= 1 for e in entries)


def test_every_photograph_is_credited_and_crops_do_not_overlap() -> None:
    with REFERENCES_FILE.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert [row["reference"] for row in rows] == list(CROPS)
    assert all(row["credit"] and row["licence"] in ("CC0", "public domain") and row["url"] for row in rows)
    for name in PHOTOGRAPHS:
        crops = [crop for crop in CROPS.values() if crop.photograph == name]
        for i, a in enumerate(crops):
            assert all(max(abs(a.x - b.x), abs(a.y - b.y)) >= SIDE for b in crops[:i])


def test_quality_falls_over_levels() -> None:
    series = defaultdict(list)
    for row in ROWS:
        series[row["reference"], row["type"]].append((int(row["level"]), float(row["quality"])))
    for levels in series.values():
        assert [level for level, _ in levels] == [1, 2, 3, 4, 5]
        assert all(np.diff([quality for _, quality in levels]) < 0)


def test_labels_follow_from_the_metric_columns() -> None:
    scores = {name: np.array([float(row[name]) for row in ROWS]) for name in METRICS}
    quality = [float(row["quality"]) for row in ROWS]
    np.testing.assert_allclose(proxy_quality(scores), quality, atol=6e-7)
    # Independently of that function: mean rank, before it is made monotone.
    mean_rank = np.mean([rankdata(sign * scores[name]) for name, sign in METRICS.items()], axis=0) / len(ROWS)
    assert np.abs(mean_rank - quality).mean() < 0.01


@pytest.mark.usefixtures("piq")
def test_metric_columns_follow_from_the_pixels() -> None:
    data = Mini()
    by_id = {row["id"]: row for row in ROWS}
    for split, start in (("train", 3), ("val", 7), ("test", 11)):
        entries = data.entries(split)[start::397][:4]
        images = [data.load(entry) for entry in entries]
        scores = measure(torch.stack([i["ref"] for i in images]), torch.stack([i["dist"] for i in images]))
        for name, values in scores.items():
            labelled = [float(by_id[entry.id][name]) for entry in entries]
            np.testing.assert_allclose(values, labelled, atol=2e-5)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
@settings(max_examples=50, deadline=None)
def test_monotone_is_strict_near_and_leaves_falling_sequences(levels: list[float]) -> None:
    values = np.array(levels)
    result = monotone(values)
    assert (np.diff(result) < 0).all() and result.min() >= 0 and result.max() <= 1
    falling = -np.sort(-values)
    assert np.abs(monotone(falling) - falling).max() <= 0.0011


def test_images_are_those_that_were_labelled() -> None:
    data = Mini()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for split in data.splits:
            for entry in data.entries(split)[::41]:
                images = data.load(entry)
                assert images["ref"].shape == images["dist"].shape == (3, SIDE, SIDE)
                assert images["dist"].dtype == torch.float32 and not torch.equal(images["ref"], images["dist"])
    assert data.notices() == []


def test_two_caches_hold_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    for name in ("a", "b"):
        monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / name))
        data = Mini()
        for split in data.splits:
            for entry in data.entries(split)[5::199]:
                data.load(entry)
        held.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.png")})
    assert held[0] == held[1] and len(held[0]) > 30


def test_loading_is_lazy_and_reads_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Mini()
    entry = next(e for e in data.entries("test") if e.id == "test/astronaut-0/gaussian_blur/3")
    assert not cache.exists()
    first = data.load(entry)
    assert pngs(cache) == ["astronaut-0.png", "gaussian_blur-3.png"]

    def refuse(*_: object) -> None:
        raise AssertionError("made again although it is in the cache")

    monkeypatch.setattr("harness.datasets.mini.distortions.distort", refuse)
    monkeypatch.setattr("harness.datasets.mini.references.reference", refuse)
    again = Mini().load(entry)
    assert torch.equal(first["dist"], again["dist"]) and torch.equal(first["ref"], again["ref"])


def test_damaged_cache_is_made_again(cache: Path) -> None:
    data = Mini()
    entry = data.entries("val")[0]
    first = data.load(entry)
    for path in cache.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    again = Mini().load(entry)
    assert torch.equal(first["dist"], again["dist"]) and torch.equal(first["ref"], again["ref"])
    assert all(read_pixels(path).shape == (SIDE, SIDE, 3) for path in cache.rglob("*.png"))
    assert not list(cache.rglob("*.tmp"))


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file in the folder's place stops every user, root too; permissions do not.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "file"))
    data = Mini()
    assert data.load(data.entries("val")[0])["dist"].shape == (3, SIDE, SIDE)
    assert data.notices() == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root ignores permissions")
def test_read_only_cache_is_done_without(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o500)
    data = Mini()
    assert data.load(data.entries("val")[0])["dist"].shape == (3, SIDE, SIDE)


def test_a_codec_that_changes_pixels_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_codec(ref: np.ndarray, name: str, kind: str, level: int) -> np.ndarray:
        image = distort(ref, name, kind, level)
        image[0, 0] ^= 1 if kind == "jpeg" else 0
        return image

    monkeypatch.setattr("harness.datasets.mini.distortions.distort", other_codec)
    data = Mini()
    entries = [e for e in data.entries("val") if e.reference_id == "val-text-0"]
    with pytest.warns(UserWarning, match=r"jpeg.*differs from the one that was labelled") as caught:
        for _ in range(2):
            for entry in entries[10:20]:
                data.load(entry)
    assert len(caught) == 1
    (line,) = data.notices()
    assert line.startswith("mini: images of type jpeg differ from those labelled")


def test_draws_depend_on_the_name_alone() -> None:
    ref = reference("val-cells-0")
    first = distort(ref, "val-cells-0", "white_noise", 3)
    distort(ref, "val-cells-0", "jitter", 1)
    assert pixel_hash(first) == pixel_hash(distort(ref, "val-cells-0", "white_noise", 3))
    assert pixel_hash(first) != pixel_hash(distort(ref, "other", "white_noise", 3))
    assert len({pixel_hash(reference(name)) for name in names("val")}) == len(names("val"))


def test_known_distortions() -> None:
    ref = np.full((SIDE, SIDE, 3), 100, dtype=np.uint8)
    noise = distort(ref, "flat", "white_noise", 2).astype(float) - 100
    assert noise.std() == pytest.approx(0.04 * 255, rel=0.02) and abs(noise.mean()) < 0.2
    for kind in ("gaussian_blur", "lens_blur", "motion_blur", "pixelate", "jitter", "contrast", "channel_shift"):
        assert (distort(ref, "flat", kind, 5) == 100).all(), kind
    impulse = distort(ref, "flat", "impulse_noise", 5)
    assert np.isin(impulse, (0, 100, 255)).all() and (impulse != 100).mean() == pytest.approx(0.15, abs=0.01)
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.uint8)[None, :, None] * 2, (SIDE, SIDE, 3))
    assert len(np.unique(distort(ramp, "ramp", "quantisation", 5))) == 4
    expected = np.rint((ramp / 255) ** 1.8 * 255)
    np.testing.assert_array_equal(distort(ramp, "ramp", "darken", 3), expected)


def test_label_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    monkeypatch.setattr(mini, "LABELS_FILE", path)
    with pytest.raises(DataError, match=r"labels\.csv cannot be read.*python -m harness\.datasets\.mini\.labels"):
        Mini().entries("test")
    path.write_text("id,split,reference\n")
    with pytest.raises(DataError, match=r"labels\.csv has no column type, level, quality, sha"):
        Mini().entries("test")
    path.write_text("id,split,reference,type,level,quality,sha\na,test,r,jpeg,1,good,0\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 2: quality or level is no number"):
        Mini().entries("test")


def test_reference_without_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "references.csv").write_text("reference,source,sha\n")
    monkeypatch.setattr(mini, "REFERENCES_FILE", tmp_path / "references.csv")
    with pytest.raises(DataError, match=r"reference astronaut-0 is missing in .*references\.csv\. Restore"):
        Mini().load(Mini().entries("test")[0])


def test_unknown_split_and_entry() -> None:
    with pytest.raises(DataError, match=r"no split 'all'.*train, val, test"):
        Mini().entries("all")
    with pytest.raises(DataError, match=r"no triplet"):
        Mini2AFC().load(Mini().entries("test")[0])
    with pytest.raises(DataError, match=r"no image"):
        Mini().load(Mini2AFC().entries("test")[0])


def test_missing_photograph_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.datasets.mini.references.PHOTOGRAPH_FOLDER", tmp_path)
    data = Mini()
    with pytest.raises(DataError, match=r"astronaut\.png.*does not hold.*pip install"):
        data.load(data.entries("test")[0])


def test_fingerprint_follows_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints = {Mini().fingerprint(), Mini().fingerprint()}
    assert len(prints) == 1
    for name, path in (("LABELS_FILE", LABELS_FILE), ("REFERENCES_FILE", REFERENCES_FILE)):
        changed = tmp_path / path.name
        changed.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(mini, name, changed)
            prints.add(Mini().fingerprint())
    assert len(prints) == 3


def test_triplets_share_a_reference_and_follow_the_proxy() -> None:
    data, quality = Mini2AFC(), {row["id"]: float(row["quality"]) for row in ROWS}
    for split, count in (("train", 640), ("val", 80), ("test", 24)):
        entries = data.entries(split)
        assert len(entries) == len({e.id for e in entries}) == count
        assert sum(e.judge or 0 for e in entries) == count / 2
        assert {e.reference_id for e in entries} <= {e.reference_id for e in Mini().entries(split)}
        for entry in entries:
            p0, p1 = data._triplets[split][entry.id]
            assert p0.reference_id == p1.reference_id == entry.reference_id and p0.group != p1.group
            assert entry.judge == float(quality[p1.id] > quality[p0.id])
            assert 0.08 <= abs(quality[p1.id] - quality[p0.id]) <= 0.35
        taken = [entry.id for pair in data._triplets[split].values() for entry in pair]
        assert len(taken) == len(set(taken)) == 2 * count
    images, (p0, p1) = data.load(entries[0]), data._triplets["test"][entries[0].id]
    assert set(images) == {"ref", "p0", "p1"}
    assert torch.equal(images["p1"], Mini().load(p1)["dist"]) and torch.equal(images["p0"], Mini().load(p0)["dist"])
