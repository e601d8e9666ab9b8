"""Attacked images that a run keeps, and scoring them again from what it kept."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.engine.rescore import rescore
from harness.errors import UserError
from harness.flow import reopen
from tests.toys.older import as_older
from tests.toys.stored import records

SUITE = """
name: kept
datasets: [{datasets}]
metrics: [negative_mse]
defenses: [{defenses}]
attacks: [fgsm, noise]
budgets: {{linf: [4/255]}}
directions: [up]
save_examples: {count}
exact: {exact}
"""


def suite(count=3, datasets="toy", defenses="base", exact=True):
    return SUITE.format(count=count, datasets=datasets, defenses=defenses, exact=str(exact and count > 0).lower())


def kept(folder):
    return sorted((Path(folder) / "examples").glob("*/*/*/scores.json"))


def again(folder, registry):
    return list(rescore(*reopen(Path(folder), registry), registry, "cpu"))


def test_the_first_samples_of_every_attacked_cell_are_kept(run_toy, tmp_path):
    result = run_toy(suite(), tmp_path)
    found = kept(tmp_path)
    assert len(found) == 2 * 3, "fgsm up and noise; the clean cell attacks nothing"
    first = {entry.id for entry in result.plan.limited(result.plan.splits[0])[:3]}
    assert {json.loads(path.read_text())["item"] for path in found} == first
    records = result.data.records
    for path in found:
        about, images = json.loads(path.read_text()), load_file(path.with_name("images.safetensors"))
        attack = about["cell"].split(" / ")[2].split()[0]
        cell = records[(records["item"] == about["item"]) & (records["attack"] == attack)]
        assert cell["attacked"].item() == pytest.approx(about["attacked"])
        delta = images["attacked"] - images["distorted"]
        assert float(delta.abs().max()) == pytest.approx(about["linf"]) and float(delta.abs().max()) <= 4 / 255 + 1e-6
        png = np.asarray(Image.open(path.with_name("attacked.png"))).transpose(2, 0, 1)
        assert np.array_equal(png, np.round(images["attacked"].numpy() * 255).astype(np.uint8))
        # The negative mean squared error by hand, from what is on the disk.
        mse = -float((images["attacked"] - images["reference"]).square().mean())
        assert about["attacked"] == pytest.approx(mse, rel=1e-5)
        middle = np.asarray(Image.open(path.with_name("perturbation.png"))).transpose(2, 0, 1).astype(float) / 255
        assert np.allclose(middle, 0.5 + 0.5 * delta.numpy() / (4 / 255), atol=0.5 / 255 + 1e-6)


def test_examples_are_pictures_in_folders_that_say_of_what(run_toy, registry, tmp_path):
    result = run_toy(suite(exact=False), tmp_path)
    folders = {path.name.rpartition("_")[0]: path for path in (tmp_path / "examples").iterdir()}
    assert set(folders) == {"negative-mse_fgsm_up_linf-4-255_toy", "negative-mse_noise_control_linf-4-255_toy"}
    assert {path.name.rpartition("_")[2] for path in folders.values()} < {cell.id for cell in result.plan.cells}
    assert not list(tmp_path.rglob("examples/**/*.safetensors"))
    rows = again(tmp_path, registry)
    # The toy's images have more than 8 bits, so that no PNG holds them as they are and nothing can be scored again.
    assert {(row.clean, row.attacked, row.attacked_8bit) for row in rows} == {(None, None, None)}
    with_floats = run_toy(suite(), tmp_path)
    assert with_floats.blocks == 1, "what is kept is not exact"
    assert [row.attacked for row in again(tmp_path, registry)].count(None) == 0
    assert run_toy(suite(exact=False), tmp_path).jobs == 0, "exact ones will do"


def test_what_is_exact_as_png_is_scored_again(run_toy, registry, tmp_path):
    run_toy(suite(2, "{name: mini, split: test}", exact=False).replace("save", "limit: 8\nsave"), tmp_path)
    rows = again(tmp_path, registry)
    assert len(rows) == 2 * 2 and not [row.complaint for row in rows if row.complaint]
    assert all(row.clean and row.attacked_8bit and row.attacked is None for row in rows)
    example = kept(tmp_path)[0]
    mse = np.square(
        np.float64(Image.open(example.with_name("attacked.png"))) - Image.open(example.with_name("reference.png"))
    )
    assert rows[0].attacked_8bit[1] == pytest.approx(-mse.mean() / 255**2, rel=1e-4)


def test_asking_for_examples_later_changes_no_record(run_toy, tmp_path):
    run_toy(suite(0), tmp_path)
    before = records(tmp_path)
    assert not kept(tmp_path)
    result = run_toy(suite(9), tmp_path)
    assert result.blocks == 2, "slices 0 and 1 of 3 hold the first nine samples"
    assert len(kept(tmp_path)) == 2 * 9
    for one, frame in records(tmp_path).items():
        pd.testing.assert_frame_equal(before[one], frame, check_exact=True)
    assert run_toy(suite(9), tmp_path).jobs == 0 and run_toy(suite(4), tmp_path).jobs == 0


@pytest.mark.parametrize(
    ("datasets", "defenses"),
    [("toy", "base"), ("toy", "{name: jitter, threat: adaptive, eot: 2, draws: 2}"), ("toy_triplets", "base")],
)
def test_rescore_agrees_with_the_records(run_toy, registry, tmp_path, datasets, defenses):
    run_toy(suite(4, datasets, defenses), tmp_path)
    rows = again(tmp_path, registry)
    # A triplet has two patches; fgsm raises one of them and lowers the other, noise is put on both.
    assert len(rows) == (2 * 4 if datasets == "toy" else 4 + 4 + 8)
    assert not [row.complaint for row in rows if row.complaint]


def test_rescore_notices_what_was_changed(run_toy, registry, tmp_path):
    run_toy(suite(1), tmp_path)
    as_older(tmp_path)  # a seal would tell of any change
    scores = kept(tmp_path)[0]
    about = json.loads(scores.read_text())
    scores.write_text(json.dumps({**about, "attacked": about["attacked"] * 1.01}))
    assert [row.complaint.split(" was ")[0] for row in again(tmp_path, registry) if row.complaint] == ["attacked"]
    scores.write_text(json.dumps(about))
    floats = scores.with_name("images.safetensors")
    images = load_file(floats)
    save_file({**images, "attacked": (images["distorted"] + 0.1).clamp(0, 1)}, floats)
    (complaint,) = [row.complaint for row in again(tmp_path, registry) if row.complaint]
    assert "attacked was" in complaint and "outside the linf budget" in complaint and "PNG is not" in complaint
    floats.write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"images.safetensors: damaged .*Run the suite again"):
        again(tmp_path, registry)


def test_rescore_without_examples_says_how_to_have_them(run_toy, registry, tmp_path):
    run_toy(suite(0), tmp_path)
    with pytest.raises(UserError, match=r"keeps no attacked images\. Run its suite again with 'save_examples: 4'"):
        again(tmp_path, registry)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"clean": None}, r"scores\.json: damaged \(no number 'clean'\)"),
        ({"item": 3}, r"scores\.json: damaged \(no texts 'item' and 'sample'\)"),
        ("png", r"attacked\.png: damaged \(another size than the floats\)"),
        ("double", r"images\.safetensors: damaged \('\w+' is no float32 image of 3 x H x W\)"),
        ("few", r"images\.safetensors: damaged \(it holds attacked, not reference, distorted, attacked\)"),
        ("size", r"images\.safetensors: damaged \(its images differ in size\)"),
    ],
)
def test_a_damaged_example_is_told_with_its_file(run_toy, registry, tmp_path, damage, said):
    run_toy(suite(1), tmp_path)
    as_older(tmp_path)
    scores = kept(tmp_path)[0]
    floats = scores.with_name("images.safetensors")
    images = load_file(floats)
    if isinstance(damage, dict):
        scores.write_text(json.dumps({**json.loads(scores.read_text()), **damage}))
    elif damage == "png":
        Image.new("RGB", (4, 4)).save(scores.with_name("attacked.png"))
    elif damage == "double":
        save_file({name: image.double() for name, image in images.items()}, floats)
    elif damage == "few":
        save_file({"attacked": images["attacked"]}, floats)
    else:
        save_file({**images, "attacked": images["attacked"][:, :8].contiguous()}, floats)
    with pytest.raises(UserError, match=said + r"\. Run the suite again, which makes it anew"):
        again(tmp_path, registry)
