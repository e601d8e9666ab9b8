"""`splits: n`: n plain suites in one run, cell for cell, and what their tables say together."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from PIL import Image

import metrics_zoo
from harness.errors import UserError
from harness.flow import Options, open_folder, report_run, run_suite
from harness.plugins.registry import Registry
from harness.report.grouped import as_texts
from harness.suite.compose import Overrides
from harness.suite.planning import make_plan
from harness.suite.resolve import read_suite

REGISTRY = Registry()
SHIPPED = Path(metrics_zoo.__file__).parent / "weights"
TRAINED = ("birqa-tiny", "birqa-tiny@r", "birqa-tiny@mix")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Images of 15 references with made-up opinions, and weights of three splits, as `robustiqa train` names them."""
    folder, rng = tmp_path_factory.mktemp("splits"), np.random.default_rng(0)
    rows = []
    for reference in range(15):
        clean = np.kron(rng.integers(40, 215, (8, 8, 3)), np.ones((8, 8, 1)))
        Image.fromarray(clean.astype(np.uint8)).save(folder / f"r{reference:02d}.png")
        for level, spread in enumerate((4, 12, 36)):
            noisy = (clean + rng.normal(0, spread, clean.shape)).clip(0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"r{reference:02d}_{level}.png")
            rows.append((f"r{reference:02d}.png", f"r{reference:02d}_{level}.png", 5 - level - rng.uniform(0, 1.5)))
    pd.DataFrame(rows, columns=["ref", "dist", "opinion"]).to_csv(folder / "table.csv", index=False)
    for index, name in enumerate(TRAINED):
        (folder / f"seed-{index}").mkdir()
        shutil.copy(SHIPPED / f"{name}.safetensors", folder / f"seed-{index}/weights.safetensors")
    return folder


def over(material, **keys):
    return {
        "name": "over",
        "datasets": [{"name": "csv", "file": str(material / "table.csv"), "label": "made"}],
        "metrics": ["psnr", {"name": "birqa-tiny", "weights": f"{material}/seed-{{split}}/weights.safetensors"}],
        "attacks": ["noise"],
        "budgets": {"linf": [8 / 255]},
        "directions": ["up"],
        "tables": ["srocc"],
        "splits": 3,
        **keys,
    }


def alone(material, index):
    data = {"name": "csv", "file": str(material / "table.csv"), "label": "made", "split_seed": index}
    metric = {"name": "birqa-tiny", "weights": f"{material}/seed-{index}/weights.safetensors"}
    plain = over(material, datasets=[data], metrics=["psnr", metric])
    del plain["splits"]
    return plain


@pytest.fixture(scope="module")
def result(material, tmp_path_factory):
    suite = read_suite(over(material), REGISTRY)
    return run_suite(suite, REGISTRY, Options(tmp_path_factory.mktemp("runs") / "run", "serial", probe=False))


def test_a_split_is_the_plain_suite_of_its_seed_and_weights(material, result):
    """No job is left for the plain suite where the suite over splits has run, and it reads the very same rows."""
    all_rows = result.data.records
    for index in range(3):
        plain = run_suite(
            read_suite(alone(material, index), REGISTRY), REGISTRY, Options(result.folder.path, "serial", probe=False)
        )
        assert plain.jobs == 0
        rows = all_rows[all_rows["dataset"] == f"made split {index}"].drop(columns="dataset").reset_index(drop=True)
        pd.testing.assert_frame_equal(as_texts(plain.data.records).drop(columns="dataset"), as_texts(rows))
    ids = [{cell.id for cell in make_plan(read_suite(alone(material, i), REGISTRY), REGISTRY).cells} for i in range(3)]
    assert {cell.id for cell in result.plan.cells} == set.union(*ids) and sum(map(len, ids)) == len(result.plan.cells)


def test_tables_have_mean_and_standard_deviation_over_splits(result):
    """Against SciPy and NumPy on the records; n - 1, as the paper's and everyone's tables have it."""
    (table,) = [table for table in result.tables if table.dataset == "made"]
    clean = result.data.records.query("metric == 'birqa-tiny' and attack == 'clean'")
    each = [scipy.stats.spearmanr(own["clean"], own["opinion"])[0] for _, own in clean.groupby("dataset")]
    row = table.frame.query("metric == 'birqa-tiny'").iloc[0]
    assert row["clean_srocc"] == pytest.approx(np.mean(each)) and row["splits"] == 3
    assert row["clean_srocc_sd"] == pytest.approx(np.std(each, ddof=1)) and row["clean_srocc_sd"] > 0
    assert f"{np.mean(each):.2f} ± {np.std(each, ddof=1):.2f}" in [text for line in table.full.rows for text in line]
    stored = pd.read_csv(result.folder.report / "tables/srocc_by_split.csv")
    assert list(stored.query("metric == 'birqa-tiny'")["clean_srocc"]) == pytest.approx(each)
    assert "over 3 splits" in table.title and "made split" not in (result.folder.report / "tables/srocc.md").read_text()


@pytest.mark.parametrize("more", [{}, {"split_seed": 5}])
def test_splits_of_a_data_set_without_a_label_are_one_data_set(material, more):
    label = "csv(file=table.csv)"
    suite = read_suite(
        over(material, datasets=[{"name": "csv", "file": str(material / "table.csv"), **more}]), REGISTRY
    )
    assert {use.label for part in suite.parts for use in part.datasets} == {label}
    assert [use.label for use in suite.datasets] == [f"{label} split {i}" for i in range(3)]
    assert read_suite(suite.resolved(), REGISTRY).resolved() == suite.resolved()


def test_the_saved_suite_and_the_report_are_of_all_splits_again(material, result, tmp_path):
    shutil.copytree(result.folder.path, tmp_path / "run")
    again = run_suite(read_suite(over(material), REGISTRY), REGISTRY, Options(tmp_path / "run", "serial", probe=False))
    assert again.jobs == 0
    saved = yaml.safe_load((tmp_path / "run/suite.yaml").read_text())
    assert saved["splits"] == 3 and saved["metrics"][1]["weights"] == [
        f"{material}/seed-{i}/weights.safetensors" for i in range(3)
    ]
    assert read_suite(saved, REGISTRY).resolved() == saved == again.plan.suite.resolved()
    assert open_folder(tmp_path / "run", REGISTRY).finished
    assert report_run(tmp_path / "run", REGISTRY).tables[0].frame.equals(result.tables[0].frame)


def test_only_and_exclude_hold_for_every_split(material):
    picked = read_suite(over(material), REGISTRY, Overrides(only="psnr/clean"))
    assert {cell.scorer.label for cell in make_plan(picked, REGISTRY).cells} == {"psnr"}
    assert len(make_plan(picked, REGISTRY).cells) == 3
    left = read_suite(over(material, exclude=[{"dataset": "ma*", "metric": "psnr", "attack": "noise"}]), REGISTRY)
    assert {cell.scorer.label for cell in make_plan(left, REGISTRY).cells if cell.attack} == {"birqa-tiny"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"splits": 1}, "splits: should be at least 2, got 1."),
        ({"datasets": ["mini"]}, "datasets.0: 'mini' has splits of its own, so 'splits' has nothing to do there."),
        ({"splits": None}, "metrics.1.weights: '{split}' is the number of a split, and the suite has no 'splits'."),
        ({"metrics": [{"name": "birqa-tiny", "weights": ["a.safetensors", "b.safetensors"]}]},
         "metrics.0.weights: 2 files, and there are 3 splits."),
        ({"splits": 5}, "metrics.1.weights: split 3: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_splits_is_told_in_one_message(material, keys, message):
    with pytest.raises(UserError) as caught:
        read_suite({k: v for k, v in over(material, **keys).items() if v is not None}, REGISTRY)
    (line,) = str(caught.value).splitlines()
    assert message in line
    if "split 3" in message:
        assert "seed-3/weights.safetensors" in line and line.endswith("Likewise split 4.")


@pytest.mark.parametrize(("key", "value"), [("folds", 5), ("split", "all")])
def test_a_data_set_is_split_in_one_way(material, key, value):
    data = {"name": "csv", "file": str(material / "table.csv"), key: value}
    with pytest.raises(UserError, match=rf"datasets\.0\.{key}: '.*") as caught:
        read_suite(over(material, datasets=[data]), REGISTRY)
    assert len(str(caught.value).splitlines()) == 1
