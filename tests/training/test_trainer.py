"""One member: determinism, resume, what is trained and what is not, early stop, test split, records."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats

from harness.contracts import Entry
from harness.errors import UserError
from harness.training import ImageCache, train
from harness.training.images import augmented
from harness.training.recipe_file import read_recipe
from harness.training.trainable import is_batch_norm, trainable, training_mode
from metrics_zoo.topiq import TOPIQ

TINY = "{name: birqa-tiny, channels: 8, stem_channels: 4, head: 8}"


@pytest.mark.parametrize("options", [{}, {"metric": TINY, "dataset": "stripes, side: 64"}], ids=["distance", "birqa"])
def test_a_killed_and_resumed_run_ends_with_the_same_bytes(recipe, plugins, tmp_path, killed_at, options):
    whole = train(recipe("whole", **options), tmp_path / "run-whole", plugins=plugins)
    killed_at("", 5)
    with pytest.raises(KeyboardInterrupt):
        train(recipe("resumed", **options), tmp_path / "run-resumed", plugins=plugins)
    assert not (tmp_path / "resumed").exists()
    torch.manual_seed(123)
    resumed = train(recipe("resumed", **options), tmp_path / "run-resumed", plugins=plugins)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.histories == whole.histories
    assert [point.step for point in whole.histories[0]] == [2, 4, 6]
    assert not list(tmp_path.glob("run-*/.*"))
    last = [load_file(tmp_path / run / "checkpoint.safetensors") for run in ("run-whole", "run-resumed")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_training_neither_reads_nor_moves_global_state(recipe, plugins, tmp_path):
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train(recipe("first"), tmp_path / "run-first", plugins=plugins)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert train(recipe("second"), tmp_path / "run-second", plugins=plugins).sha256 == first.sha256


def test_the_manifest_tells_where_the_weights_come_from(recipe, plugins, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"older": {"file": "older.safetensors"}}')
    result = train(recipe("out"), tmp_path / "run", plugins=plugins)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest) == ["older", "weights"]
    entry = manifest["weights"]
    assert entry["sha256"] == result.sha256
    assert entry["size"] == result.weights.stat().st_size
    assert entry["metric"] == "distance"
    assert entry["trained_on"]["labels"] == "proxy"
    assert entry["trained_on"]["fingerprint"] == "noise-6"
    assert entry["recipe"]["steps"] == 6
    assert not {"folds", "seeds", "betas", "patience"} & entry["recipe"].keys()
    assert entry["licence"] == "Apache-2.0"
    assert str(tmp_path) not in json.dumps(entry)
    best = max(point.figure for point in result.histories[0])
    assert entry["validation"]["srocc"] == round(best, 4) == round(result.summary["validation"]["mean"], 4)
    assert set(load_file(result.weights)) == set(_plain_state(plugins))


def test_a_constant_predictor_sets_off_the_alarm(recipe, plugins, tmp_path, capfd):
    result = train(recipe("flat", metric="constant"), tmp_path / "run", plugins=plugins)
    assert result.collapsed
    assert all(point.collapsed and point.spread < 0.2 for point in result.histories[0])
    assert capfd.readouterr().err.count("COLLAPSE") == 3
    assert json.loads((tmp_path / "flat" / "manifest.json").read_text())["weights"]["validation"]["collapsed"]
    assert result.summary["members"][0]["collapsed"]


def test_a_run_folder_of_another_recipe_is_refused(recipe, plugins, tmp_path):
    train(recipe("one", metric="constant"), tmp_path / "run", plugins=plugins)
    with pytest.raises(UserError, match="another recipe or data set"):
        train(recipe("one", metric="constant", extra="seed: 4\n"), tmp_path / "run", plugins=plugins)


def test_only_what_is_trainable_moves_and_batch_normalisation_never_does(recipe, plugins, tmp_path):
    start = _plain_state(plugins)
    heads = load_file(train(recipe("h", "trainable: ['heads.*']\n"), tmp_path / "run-h", plugins=plugins).weights)
    assert not torch.equal(heads["heads.weight"], start["heads.weight"])
    assert all(torch.equal(heads[key], start[key]) for key in start if key.startswith("trunk."))
    whole = load_file(train(recipe("w"), tmp_path / "run-w", plugins=plugins).weights)
    assert not torch.equal(whole["trunk.0.weight"], start["trunk.0.weight"])
    assert all(torch.equal(whole[key], start[key]) for key in start if key.startswith("trunk.1."))


def test_topiq_keeps_its_batch_normalisation_and_its_rows_apart():
    metric = TOPIQ()
    names = trainable(metric, _described(metric="topiq"))
    norms = [module for module in metric.modules() if is_batch_norm(module)]
    assert len(norms) == 53  # of ResNet50
    assert not any(p.requires_grad for module in norms for p in module.parameters())
    assert len(names) == sum(1 for _ in metric.parameters()) - 2 * 53
    training_mode(metric)
    before = [module.running_mean.clone() for module in norms]
    ref, dist = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = metric(ref=ref, dist=dist)
        assert torch.allclose(scores[:1], metric(ref=ref[:1], dist=dist[:1]), atol=1e-5)
    assert all(torch.equal(module.running_mean, old) for module, old in zip(norms, before, strict=True))


def test_nonnegative_parameters_are_held_after_every_step(recipe, plugins, tmp_path):
    start = _plain_state(plugins)
    start["heads.weight"] = torch.tensor([[1.0, -0.5, 1.0, -0.1]])
    save_file(start, tmp_path / "start.safetensors")
    metric = f"{{name: distance, weights: {tmp_path / 'start.safetensors'}}}"
    free = load_file(train(recipe("free", "", metric), tmp_path / "run-free", plugins=plugins).weights)
    assert bool((free["heads.weight"] < 0).any())
    path = recipe("held", "nonnegative: ['heads.*']\n", metric)
    held = load_file(train(path, tmp_path / "run-held", plugins=plugins).weights)
    assert bool((held["heads.weight"] >= 0).all())


def test_training_starts_from_the_weights_it_is_given(recipe, plugins, tmp_path):
    start = {key: value + 0.1 if value.is_floating_point() else value for key, value in _plain_state(plugins).items()}
    save_file(start, tmp_path / "start.safetensors")
    sets = [f"metric.weights={tmp_path / 'start.safetensors'}", "learning_rate=1e-12"]
    result = train(recipe("from"), tmp_path / "run", plugins=plugins, sets=sets)
    assert all(torch.allclose(value, start[key], atol=1e-9) for key, value in load_file(result.weights).items())
    entry = json.loads((tmp_path / "from" / "manifest.json").read_text())["weights"]
    assert len(entry["started_from"]) == 64
    assert entry["recipe"]["metric"]["weights"] == "start.safetensors"
    assert entry["licence"] != "Apache-2.0"
    with pytest.raises(UserError, match="another recipe"):
        train(recipe("from"), tmp_path / "run", plugins=plugins, sets=["learning_rate=1e-12"])
    untrained = [
        train(recipe("plain"), tmp_path / f"run-{i}", plugins=plugins, sets=sets).sha256
        for i, sets in enumerate(([], ["metric.weights=random"]))
    ]
    assert untrained[0] == untrained[1]


def test_training_stops_where_validation_gets_no_better_and_says_so(recipe, plugins, tmp_path, capfd):
    path = recipe("early", "patience: 1\nschedule: constant\n", metric="constant")
    path.write_text(path.read_text().replace("steps: 6", "steps: 40"))
    for _ in range(2):  # a finished training stays as it is
        result = train(path, tmp_path / "run", plugins=plugins)
        assert [point.step for point in result.histories[0]] == [2, 4]
        assert "stopped after step 4, 1 validation(s) without a better one" in capfd.readouterr().err
    assert result.summary["members"][0]["stopped_early"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["members"]["only"]["stopped_early"]


def test_the_test_split_is_scored_by_the_weights_that_are_kept(recipe, plugins, tmp_path):
    from harness.plugins.registry import Registry

    result = train(recipe("t"), tmp_path / "run", plugins=plugins, sets=["dataset.test=test"])
    registry = Registry(plugins)
    metric, data = registry.metric("distance").build({}).eval(), registry.dataset("stripes").build({})
    metric.load_state_dict(load_file(result.weights))
    entries = data.entries("test")
    images = [ImageCache(data, 0).item(entry) for entry in entries]
    with torch.no_grad():
        scores = np.array([-float(metric(ref=item[:1], dist=item[1:])) for item in images])
    labels = np.array([entry.opinion for entry in entries])
    test = result.summary["members"][0]["test"]
    assert test["srocc"] == pytest.approx(stats.spearmanr(scores, labels).statistic, abs=1e-6)
    assert test["plcc"] == pytest.approx(np.corrcoef(scores, labels)[0, 1], abs=1e-5)
    assert (test["pairs"], test["references"]) == (16, 2)
    assert json.loads((tmp_path / "t" / "manifest.json").read_text())["weights"]["test"]["split"] == "test"


def test_the_record_says_who_trained_what_on_what(recipe, plugins, tmp_path):
    path = recipe("rec", "seed: 7\n")
    for _ in range(2):
        result = train(path, tmp_path / "run", plugins=plugins)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [bool(invocation["finished"]) for invocation in record["invocations"]] == [True, True]
    assert record["invocations"][0]["versions"]["torch"] == torch.__version__
    assert record["invocations"][0]["threads"] == 1
    assert record["recipe"]["learning_rate"] == 0.003
    member = record["members"]["only"]
    assert (member["seed"], member["fingerprint"]) == (7, "noise-6")
    assert member["splits"]["train"] == {"split": "train", "pairs": 16, "references": 2}
    assert [point["step"] for point in member["history"]] == [2, 4, 6]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == result.summary


def test_the_image_cache_is_bounded_and_changes_nothing():
    class Counting:
        kind = "pairs"
        loads = 0

        def load(self, entry):
            self.loads += 1
            value = int(entry.id) / 255 + 1e-4
            return {"ref": torch.full((3, 4, 4), value), "dist": torch.zeros(3, 4, 4)}

    data = Counting()
    cache = ImageCache(data, 4)
    seen = [cache.item(Entry(str(i), "r")) for i in (1, 2, 1, 3, 1, 2)]
    assert data.loads == 4
    assert len(cache._items) == 2
    uncached = [ImageCache(data, 0).item(Entry(str(i), "r")) for i in (1, 2, 1, 3, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(seen, uncached, strict=True))


def test_images_of_16_bits_train_at_16_bits_and_others_at_8():
    values = torch.randint(0, 65536, (2, 3, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    deep, flat = values / 65535, (values / 257).round() / 255

    class Given:
        kind = "pairs"

        def load(self, entry):
            ref, dist = {"deep": deep, "flat": flat, "mixed": torch.stack([deep[0], flat[0]])}[entry.id]
            return {"ref": ref, "dist": dist}

    cache = ImageCache(Given(), 4)
    assert torch.equal(cache.item(Entry("deep", "r")), deep) and torch.equal(cache.item(Entry("deep", "r")), deep)
    assert torch.equal(cache.item(Entry("flat", "r")), flat) and cache._items["flat"].dtype == torch.uint8
    assert torch.equal(cache.item(Entry("mixed", "r")), torch.stack([deep[0], flat[0]]))


def test_augmentation_treats_all_images_of_an_item_alike(recipe):
    file = read_recipe(recipe("crop", "crop: 20\n"))
    image = torch.rand(3, 32, 40)
    for seed in range(8):
        item = augmented(torch.stack((image, image, image)), file, np.random.default_rng(seed))
        assert item.shape == (3, 3, 20, 20)
        assert torch.equal(item[0], item[1]) and torch.equal(item[0], item[2])


def _plain_state(plugins):
    from harness.plugins.registry import Registry

    return Registry(plugins).metric("distance").build({}).state_dict()


def _described(metric):
    from harness.training.recipe_file import RecipeFile

    keys = {"dataset": "mini", "recipe": "clean", "steps": 1, "batch": 1, "learning_rate": 1, "output": "x"}
    return RecipeFile.model_validate({"name": "x", "metric": metric, **keys})
