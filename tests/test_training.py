import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import harness.training as training
from defenses.recipes.clean import Clean, plcc
from harness.contracts import Entry, Metric
from harness.errors import UserError
from harness.recipe_file import read_recipe
from harness.training import ImageCache, train

PLUGINS = '''
import torch
from torch import nn
from harness.contracts import Dataset, Entry, Metric, register


@register("stripes")
class Stripes(Dataset):
    """Random 64 px references with noise of 8 strengths; the opinion falls with the strength."""

    labels = "proxy"
    splits = ("train", "val")

    def __init__(self, *, references: int = 3) -> None:
        self.references = references

    def entries(self, split):
        return [
            Entry(f"{split}/{r}/{k}", f"{split}/{r}", opinion=1 - k / 7)
            for r in range(self.references) for k in range(8)
        ]

    def load(self, entry):
        split, r, k = entry.id.split("/")
        generator = torch.Generator().manual_seed(10 * int(r) + (split == "val"))
        ref = torch.rand(3, 64, 64, generator=generator) * 0.2 + 0.4
        noise = torch.randn(3, 64, 64, generator=generator)
        return {"ref": ref, "dist": (ref + 0.02 * int(k) * noise).clamp(0, 1)}

    def fingerprint(self):
        return f"stripes-{self.references}"


@register("constant")
class Constant(Metric):
    """Hardly ever leaves the middle of the scale."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(3.0))

    def score(self, reference, dist):
        return self.level + 1e-3 * dist.flatten(1).std(dim=1)
'''

RECIPE = """
name: stripes
metric: {metric}
dataset: {{name: stripes, references: 3}}
recipe: {{name: clean, warm: 0.3}}
steps: 10
batch: 6
learning_rate: 0.003
evaluate_every: 4
output: {output}
"""


@pytest.fixture
def plugins(tmp_path):
    path = tmp_path / "stripes_plugin.py"
    path.write_text(PLUGINS)
    return [path]


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe file whose weights go to a folder of that name, with lines replaced or added."""

    def write(name, metric="{name: birqa-tiny, channels: 8, stem_channels: 4, head: 8}", extra=""):
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(metric=metric, output=tmp_path / name / "weights") + extra)
        return path

    return write


def test_a_killed_and_resumed_run_ends_with_the_same_bytes(recipe, plugins, tmp_path, monkeypatch):
    whole = train(recipe("whole"), tmp_path / "run-whole", plugins=plugins)
    one_step = training._Training._one_step

    def killed(self, indices, attacked):
        if self.step == 7:
            raise KeyboardInterrupt
        return one_step(self, indices, attacked)

    with monkeypatch.context() as patch:
        patch.setattr(training._Training, "_one_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe("resumed"), tmp_path / "run-resumed", plugins=plugins)
    assert not (tmp_path / "resumed").exists()
    torch.manual_seed(123)
    resumed = train(recipe("resumed"), tmp_path / "run-resumed", plugins=plugins)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.history == whole.history
    assert [point.step for point in whole.history] == [4, 8, 10]
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
    assert entry["metric"] == "birqa-tiny"
    assert entry["parameters"] == {"channels": 8, "stem_channels": 4, "head": 8}
    assert entry["trained_on"]["labels"] == "proxy"
    assert entry["trained_on"]["fingerprint"] == "stripes-3"
    assert entry["recipe"]["steps"] == 10
    assert entry["licence"] == "Apache-2.0"
    assert str(tmp_path) not in json.dumps(entry)
    best = max(point.srocc for point in result.history)
    assert entry["validation"]["srocc"] == round(best, 4) == round(result.validation_srocc, 4)


def test_a_constant_predictor_sets_off_the_alarm(recipe, plugins, tmp_path, capfd):
    result = train(recipe("flat", metric="constant"), tmp_path / "run", plugins=plugins)
    assert result.collapsed
    assert all(point.collapsed and point.spread < 0.2 for point in result.history)
    assert capfd.readouterr().err.count("COLLAPSE") == 3
    assert json.loads((tmp_path / "flat" / "manifest.json").read_text())["weights"]["validation"]["collapsed"]


def test_a_run_folder_of_another_recipe_is_refused(recipe, plugins, tmp_path):
    train(recipe("one", metric="constant"), tmp_path / "run", plugins=plugins)
    with pytest.raises(UserError, match="another recipe or data set"):
        train(recipe("one", metric="constant", extra="seed: 4\n"), tmp_path / "run", plugins=plugins)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evalute_every: 5", r"bad.yaml:11:1: .*unknown key 'evalute_every'. Did you mean 'evaluate_every'"),
        ("schedule: cosin", r"bad.yaml:11:11: schedule: .*'cosin'"),
        ("gradient_clip: 0", "gradient_clip: .*greater than 0"),
        ("seed: [", "not valid YAML"),
        ("seed: 1\nseed: 2", r"bad.yaml:12:1: .*seed"),
    ],
)
def test_mistakes_in_a_recipe_file_are_named(recipe, line, message):
    with pytest.raises(UserError, match=message):
        read_recipe(recipe("bad", extra=line + "\n"))


def test_all_mistakes_are_reported_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nmetric: birqa-tiny\nstepz: 3\n")
    with pytest.raises(UserError) as error:
        read_recipe(path)
    assert "'stepz'. Did you mean 'steps'" in str(error.value)
    assert "'dataset' is missing" in str(error.value)
    with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
        read_recipe(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("warm: 0.3", "wram: 0.3", "'clean' has no parameter 'wram'. Did you mean 'warm'"),
        ("name: clean", "name: claen", "Did you mean 'clean'"),
        ("references: 3", "val: vla", "no split 'vla'. Did you mean 'val'"),
        ("metric: constant", "metric: psnr", "nothing to train"),
    ],
)
def test_what_a_recipe_file_names_must_exist(recipe, plugins, tmp_path, old, new, message):
    path = recipe("bad", metric="constant")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        train(path, tmp_path / "run", plugins=plugins)


def test_the_image_cache_is_bounded_and_changes_nothing():
    class Counting:
        loads = 0

        def load(self, entry):
            self.loads += 1
            value = int(entry.id) / 255 + 1e-4
            return {"ref": torch.full((3, 4, 4), value), "dist": torch.zeros(3, 4, 4)}

    data = Counting()
    cache = ImageCache(data, 4)
    seen = [cache.pair(Entry(str(i), "r")) for i in (1, 2, 1, 3, 1, 2)]
    assert data.loads == 4
    assert len(cache._pairs) == 2
    uncached = [ImageCache(data, 0).pair(Entry(str(i), "r")) for i in (1, 2, 1, 3, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(seen, uncached, strict=True))


def test_augmentation_treats_both_images_alike(recipe):
    file = read_recipe(recipe("crop", extra="crop: 20\n"))
    image = torch.rand(3, 32, 40)
    for seed in range(8):
        pair = training._augmented(torch.stack((image, image)), file, np.random.default_rng(seed))
        assert pair.shape == (2, 3, 20, 20)
        assert torch.equal(pair[0], pair[1])


def test_plcc_agrees_with_numpy_and_has_a_finite_gradient_where_it_is_undefined():
    x, y = torch.rand(2, 20, dtype=torch.float64)
    assert float(plcc(x, y)) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    flat = torch.full((5,), 2.0, requires_grad=True)
    plcc(flat, torch.arange(5.0)).backward()
    assert flat.grad.isfinite().all()


class _Level(Metric):
    higher_is_better = True

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)


@pytest.mark.parametrize(("step", "spread", "alpha"), [(2, 1.0, 1.0), (3, 1.0, 0.7), (3, 0.0, 1.0)])
def test_the_clean_loss_is_equation_5_after_a_warm_start(step, spread, alpha):
    dist = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = 3 + spread * torch.linspace(-1, 1, 6)
    batch = {"ref": dist, "clean": dist, "dist": dist, "target": target}
    batch |= {"step": torch.tensor(step), "steps": torch.tensor(10)}
    loss, figures = Clean(warm=0.3).loss(_Level(), batch)
    prediction = dist.flatten(1).mean(1).numpy()
    mse = np.mean((prediction - target.numpy()) ** 2)
    correlation = np.corrcoef(prediction, target.numpy())[0, 1] if spread else 0.0
    assert float(loss) == pytest.approx(alpha * mse - (1 - alpha) * correlation, abs=1e-5)
    assert figures["mse"] == pytest.approx(mse, abs=1e-5)


def test_clean_batches_are_shuffled_passes():
    entries = [Entry(str(i), "r", opinion=0.5) for i in range(10)]
    batches = Clean(batch=4).batches(entries, np.random.default_rng(0))
    drawn = [next(batches) for _ in range(5)]
    indices = np.concatenate([chosen for chosen, _ in drawn])
    assert np.bincount(indices).tolist() == [2] * 10
    assert sorted(indices[:10]) == list(range(10)) != indices[:10].tolist()
    assert not any(any(attacked) for _, attacked in drawn)
