import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from harness.plugins.registry import Registry
from harness.plugins.weights import locate as weights
from harness.plugins.weights.locate import WeightFile, WeightsError, load, read_manifest, resolve
from metrics_zoo.birqa import BiRQA

SMALL = {"channels": 8, "stem_channels": 4, "head": 8}


@pytest.fixture
def small_file(tmp_path):
    """A weight file of a small BiRQA."""
    path = tmp_path / "small.safetensors"
    save_file(BiRQA(**SMALL).state_dict(), path)
    return path


@pytest.fixture
def zoo_with(tmp_path, monkeypatch):
    """Makes a folder with one entry ``small`` the zoo."""
    monkeypatch.setattr(weights, "zoo", lambda: tmp_path)
    monkeypatch.delenv("ROBUSTIQA_CACHE_DIR", raising=False)

    def write(sha256):
        entry = {"small": {"file": "small.safetensors", "sha256": sha256}}
        (tmp_path / "manifest.json").write_text(json.dumps(entry))

    return write


def test_every_shipped_weight_file_is_the_one_of_the_manifest():
    shipped = [entry for entry in read_manifest().values() if "file" in entry]
    assert read_manifest()["birqa-tiny"] in shipped
    for entry in shipped:
        content = (weights.zoo() / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["size"]
        assert entry["licence"]


def test_the_shipped_weights_say_that_their_labels_are_proxies_and_are_small():
    entry = read_manifest()["birqa-tiny"]
    assert entry["trained_on"]["labels"] == "proxy"
    assert entry["size"] < 1_000_000
    assert not entry["validation"]["collapsed"]


def test_the_shipped_weights_were_trained_on_the_embedded_data_set_as_it_is():
    entry = read_manifest()["birqa-tiny"]
    data = Registry().dataset(entry["trained_on"]["dataset"]).build({})
    assert entry["trained_on"]["fingerprint"] == data.fingerprint(), "run robustiqa train on the recipe file again"


@pytest.mark.parametrize(("asked", "default"), [(None, None), ("random", "birqa-tiny"), ("random", None)])
def test_nothing_to_load(asked, default):
    assert resolve("m", asked, default) is None


def test_a_default_is_found_in_the_manifest_and_a_path_is_hashed(small_file):
    found = resolve("birqa-tiny", None, "birqa-tiny")
    assert found == WeightFile("birqa-tiny", found.path, read_manifest()["birqa-tiny"]["sha256"])
    own = resolve("birqa-tiny", str(small_file), "birqa-tiny")
    assert own.sha256 == hashlib.sha256(small_file.read_bytes()).hexdigest()


def test_load_copies_every_tensor(small_file):
    metric = BiRQA(**SMALL)
    for parameter in metric.parameters():
        torch.nn.init.zeros_(parameter)
    load(metric, resolve("birqa", str(small_file), None))
    expected = BiRQA(**SMALL).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in metric.state_dict().items())


def test_an_altered_manifest_file_is_refused(small_file, zoo_with):
    zoo_with("0" * 64)
    found = hashlib.sha256(small_file.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=rf"small\.safetensors.*{found}, expected 0{{64}}.*restore"):
        resolve("birqa", "small", None)


def test_a_file_changed_after_it_was_resolved_is_refused(small_file, zoo_with):
    zoo_with(hashlib.sha256(small_file.read_bytes()).hexdigest())
    resolved = resolve("birqa", "small", None)
    small_file.write_bytes(small_file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsError, match="expected"):
        load(BiRQA(**SMALL), resolved)


def test_a_missing_file_is_named_with_a_cure(tmp_path, zoo_with):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: No such file.*weights: random"):
        resolve("birqa", str(tmp_path / "gone.safetensors"), None)
    zoo_with("0" * 64)
    with pytest.raises(WeightsError, match=r"small\.safetensors: No such file"):
        resolve("birqa", "small", None)


def test_a_download_is_found_in_the_cache(tmp_path, small_file, zoo_with, monkeypatch):
    zoo_with(hashlib.sha256(small_file.read_bytes()).hexdigest())
    cached = tmp_path / "cache" / "weights" / "small.safetensors"
    cached.parent.mkdir(parents=True)
    small_file.rename(cached)
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    assert resolve("birqa", "small", None).path == cached


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(WeightsError, match="Did you mean 'birqa-tiny'"):
        resolve("birqa-tiny", "birqa-tiney", None)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".PTH"])
def test_pickles_are_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"never read")
    with pytest.raises(WeightsError, match=r"pickle.*robustiqa weights convert"):
        resolve("birqa", str(path), None)


def test_a_file_that_does_not_fit_lists_the_first_differences(tmp_path, small_file):
    other = BiRQA(channels=16, stem_channels=4, head=8)
    with pytest.raises(WeightsError, match=r"has shape \(8, 16, 3, 3\), expected \(16, 16, 3, 3\).*and \d+ more"):
        load(other, resolve("birqa", str(small_file), None))
    state = BiRQA(**SMALL).state_dict()
    state["extra"] = state.pop("network.head.pools.0.exponent")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"pools\.0\.exponent is missing; extra is not part"):
        load(BiRQA(**SMALL), resolve("birqa", str(tmp_path / "other.safetensors"), None))


def test_a_web_page_and_numbers_that_are_not_finite_are_refused(tmp_path):
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load(BiRQA(**SMALL), resolve("birqa", str(page), None))
    state = BiRQA(**SMALL).state_dict()
    state["network.head.pools.0.exponent"] = torch.tensor(float("nan"))
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="not finite"):
        load(BiRQA(**SMALL), resolve("birqa", str(tmp_path / "nan.safetensors"), None))


def test_importing_and_resolving_does_not_import_torch():
    code = (
        "import sys; from harness.plugins.weights.locate import resolve; resolve('birqa-tiny', None, 'birqa-tiny'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_metric_whose_weights_are_not_shipped_says_what_to_do():
    with pytest.raises(WeightsError, match=r"'mine': its weights do not come with robustiqa. Give a file with"):
        resolve("mine", None, "mine")


def test_the_only_file_of_a_folder_or_of_the_unet_of_a_pipeline(tmp_path):
    (tmp_path / "unet").mkdir()

    def found():
        return resolve("diffpure", str(tmp_path), None, kind="purifier").path

    with pytest.raises(
        WeightsError, match=r"without \.safetensors files\. Save the model with save_pretrained\(safe_ser"
    ):
        found()
    file = tmp_path / "unet" / "model.safetensors"
    save_file({"w": torch.zeros(1)}, file)
    file.with_name("._model.safetensors").write_bytes(b"\x00\x05\x16\x07")
    assert found() == file, "what begins with a dot is no weight file"
    save_file({"w": torch.zeros(1)}, file.with_name("model.fp16.safetensors"))
    with pytest.raises(WeightsError, match=r"a folder with 2 \.safetensors files\. Name one of them"):
        found()
