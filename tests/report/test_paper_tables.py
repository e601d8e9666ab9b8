"""Tables 1, 5 and 10 from the data sets, the features and the recipes, beside what the paper prints; training minutes."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.report.build import build_tables
from harness.report.layouts.cells import cells_of
from harness.report.paper_tables import datasets_table, features_table, parameters_table
from harness.report.training_time import TrainingTime, time_of, time_of_file, training_minutes
from harness.training.recipe_file import read_recipe
from harness.training.settings import settings_of
from metrics_zoo.birqa.features import FEATURES

ROOT = Path(__file__).parents[2]
PRINTED = ROOT / "suites" / "paper" / "published"
RECIPES = {
    "clean": ROOT / "suites" / "train" / "paper" / "birqa_kadid10k.yaml",
    "aat": ROOT / "suites" / "train" / "defenses" / "birqa_aat.yaml",
}


def rows_of(table):
    with (PRINTED / table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def settings(registry):
    return {part: settings_of(read_recipe(path), registry) for part, path in RECIPES.items()}


def test_table_1_has_the_papers_rows_and_says_where_the_sets_differ(registry):
    table = datasets_table(PRINTED / "table1_datasets.csv", registry)
    printed = rows_of("table1_datasets.csv")
    assert list(table["dataset"]) == [row["dataset"] for row in printed]
    assert list(table["printed_ratings"]) == [row["ratings"] for row in printed]
    alike = table[table["differs"] == ""].set_index("name")
    assert list(alike.index) == ["live", "csiq", "tid2013", "kadid10k"]
    assert alike.loc["tid2013", "images"] == "3,000" and alike.loc["tid2013", "printed_images"] == "3000"
    pipal = table.set_index("name").loc["pipal"]
    assert (pipal["references"], pipal["printed_references"]) == ("250 (200 public)", "250")
    assert "200 x 116" in pipal["differs"] and pipal["described"].startswith("200 references x 116 distorted images")
    assert int(pipal["printed_images"]) == 200 * 116


def test_table_5_has_every_feature_and_says_that_saliency_is_no_network():
    table = features_table(PRINTED / "table5_features.csv", FEATURES).set_index("key")
    assert set(table.index) == set(FEATURES) - {"raw", "info-gradient"} and len(table) == 11
    assert list(table["description"]) == [row["description"] for row in rows_of("table5_features.csv")]
    saliency = table.loc["saliency"]
    assert "neural network" in saliency["description"]
    assert "spectral-residual" in saliency["here"] and "spectral residual" in saliency["differs"]
    assert "gradient magnitude" in table.loc["info", "description"] and "variance" in table.loc["info", "here"]
    assert table["maps"].loc[["ssim", "info", "color", "lbp"]].sum() == 9, "the nine channels that birqa has by default"


def test_table_10_is_what_the_recipe_files_say(settings):
    table = parameters_table(PRINTED / "table10_parameters.csv", settings)
    printed = table[table["printed"] != ""]
    assert list(printed["printed"]) == [row["value"] for row in rows_of("table10_parameters.csv")]
    alike = printed[printed["differs"] == ""]
    assert [*zip(alike["parameter"], alike["here"], strict=True)] == [
        *(("Optimizer", "Adam"), ("Adam (beta_1, beta_2)", "0.9/0.999"), ("Batch size", "32")),
        *(("Learning rate", "0.0001"), ("alpha_1", "0.7"), ("Inner attacker", "PGD-10"), ("PGD step size", "2/255")),
        *(("PGD norm type", "linf"), ("Perturbation budget eps, train", "8/255"), ("alpha_2", "0.5")),
    ]
    differing = printed[printed["differs"] != ""].set_index("parameter")
    assert differing.loc["Epochs", "here"] == "2500 steps" and "105 minutes" in differing.loc["Epochs", "differs"]
    assert list(differing.index) == [
        *("Epochs", "Loss function", "Perturbation budget eps, test", "Anchor spacing lambda", "AAT loss"),
    ]
    silent = table[table["printed"] == ""].set_index(["part", "parameter"])["here"]
    assert silent["aat", "label_scale"] == "1, 5" and silent["clean", "seeds"] == "10"


def test_a_changed_recipe_shows_in_table_10(registry, settings):
    changed = read_recipe(RECIPES["aat"], ["inner.steps=7", "recipe={name: aat, hinge: 0.25}"])
    table = parameters_table(
        PRINTED / "table10_parameters.csv", {**settings, "aat": settings_of(changed, registry)}
    ).set_index("parameter")
    assert table.loc["Inner attacker", ["here", "differs"]].tolist() == ["PGD-7", "the paper has PGD-10"]
    assert table.loc["alpha_2", ["here", "differs"]].tolist() == ["0.25", "the paper has 0.5"]


def test_what_a_table_cannot_be_made_of(settings, registry, tmp_path):
    unknown = tmp_path / "table.csv"
    with pytest.raises(DataError, match="the recipe file of 'aat' has nothing for 'Inner attacker' "):
        parameters_table(PRINTED / "table10_parameters.csv", {**settings, "aat": settings["clean"]})
    unknown.write_text("part,parameter,value\nclean,Momentum,0.9\n")
    with pytest.raises(DataError, match="line 2: nothing is known of 'Momentum' of 'clean'"):
        parameters_table(unknown, settings)
    unknown.write_text("feature,description\nPhase,of the Fourier transform\n")
    with pytest.raises(DataError, match="line 2: there is no feature 'Phase' here"):
        features_table(unknown, FEATURES)
    unknown.write_text("dataset,resolution,reference_images,distorted_images,ratings\nTOYAMA,1x1,1,1,1\n")
    with pytest.raises(DataError, match="line 2: there is no data set 'TOYAMA' here"):
        datasets_table(unknown, registry)
    unknown.write_text("dataset,resolution\nLIVE,1x1\n")
    with pytest.raises(DataError, match="lacks the column reference_images, distorted_images, ratings"):
        datasets_table(unknown, registry)


# ------------------------------------------------------------------------------------------------- training minutes


def test_minutes_are_those_of_the_shipped_manifest():
    manifest = json.loads((ROOT / "metrics_zoo" / "weights" / "manifest.json").read_text(encoding="utf-8"))
    for training in ("base", "r", "at", "aat"):
        entry = manifest["birqa-tiny" if training == "base" else f"birqa-tiny@{training}"]
        found = training_minutes("birqa-tiny", training)
        assert (found.minutes, found.why) == (entry["minutes"], "")
        assert found.device == "cpu", "a torch without CUDA made them"
        assert f"{entry['recipe']['steps']:,} steps of {entry['recipe']['batch']}" in found.work
    assert str(training_minutes("birqa-tiny", "aat")).startswith("3.7 min on cpu: 300 steps of 16, attack of 2,400 ")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"parts": {}, "minutes": 3}, "'x' are published weights, trained elsewhere"),
        ({"file": "x"}, "the entry 'x' has no minutes"),
        ({"minutes": "long"}, "the entry 'x' has no minutes"),
        ({"minutes": -1}, "the entry 'x' has no minutes"),
        (7, "the entry 'x' is damaged"),
    ],
)
def test_minutes_that_nobody_knows(entry, why):
    found = time_of("x", entry)
    assert found.why == why and found.minutes != found.minutes and str(found) == f"– ({why})"


def test_minutes_of_weights_of_ones_own(tmp_path):
    entry = {"file": "m@aat.safetensors", "minutes": 61.5, "device": "cuda NVIDIA A100", "members": [{}, {}]}
    (tmp_path / "manifest.json").write_text(json.dumps({"m@aat": entry}))
    assert str(training_minutes("m", "aat", tmp_path)) == "61.5 min on cuda NVIDIA A100: 2 members"
    assert training_minutes("m", "r", tmp_path).why.endswith("manifest.json lists no weights 'm@r'")
    assert training_minutes("lpips-alex").why == "'lpips-alex' are published weights, trained elsewhere"


def test_minutes_are_of_the_very_weights_that_a_run_used(tmp_path):
    folder = ROOT / "metrics_zoo" / "weights"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    path, known = folder / "birqa-tiny@aat.safetensors", manifest["birqa-tiny@aat"]
    assert time_of_file(path, known["sha256"]) == training_minutes("birqa-tiny", "aat")
    assert time_of_file(path, "0" * 64).why == "no manifest.json beside birqa-tiny@aat.safetensors lists it"
    assert time_of_file(None, "").why == "it has no weights that were trained"
    assert (
        time_of_file(tmp_path / "lpips-alex", "0" * 64).why == "'lpips-alex' are published weights, trained elsewhere"
    )
    (tmp_path / "manifest.json").write_text("{")
    assert (
        time_of_file(tmp_path / "own.safetensors", "0" * 64).why == "no manifest.json beside own.safetensors lists it"
    )


def test_the_table_of_minutes_brings_cells(run):
    times = {("birqa-tiny", "base"): TrainingTime(4.9, "2,000 steps", "cpu"), ("psnr", "base"): time_of_file(None, "")}
    data = dataclasses.replace(run, tables=["training"], training_times=times)
    tables = [table for table in build_tables(data) if table.name == "training"]
    assert [table.dataset for table in tables] == list(run.datasets)
    assert tables[0].full.rows == (
        ("birqa-tiny", "4.9", "cpu", "2,000 steps"),
        ("psnr", "–", "–", "it has no weights that were trained"),
    )
    found = {(cell.at["dataset"], cell.at["metric"]): cell for cell in cells_of(data, statistics=["training_minutes"])}
    assert (found["mini", "birqa-tiny"].value, found["mini", "birqa-tiny"].state) == (4.9, "ok")
    assert (found["mini", "psnr"].state, found["mini", "psnr"].why) == (
        "missing",
        "it has no weights that were trained",
    )
