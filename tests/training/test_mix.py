"""Weights between two models: exact ends, the closed form between, and what is refused."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main
from harness.plugins.weights.locate import zoo
from harness.plugins.weights.manifest import WeightsError
from harness.training.mix import mix, parse_shares

DEFENSES = Path(__file__).parents[2] / "docs" / "defenses.md"


@pytest.fixture
def ends(tmp_path):
    """A base and a defended model of a few numbers."""
    a = {"w": torch.tensor([1.0, -2.0]), "h": torch.tensor([0.1], dtype=torch.float16), "n": torch.tensor([3])}
    b = {"w": torch.tensor([3.0, 2.0]), "h": torch.tensor([0.3], dtype=torch.float16), "n": torch.tensor([3])}
    a["zero"], b["zero"] = torch.tensor([-0.0, 1.0]), torch.tensor([1.0, -0.0])
    paths = [tmp_path / "small.safetensors", tmp_path / "small@aat.safetensors"]
    for path, tensors in zip(paths, (a, b), strict=True):
        save_file(tensors, path)
    return a, b, *map(str, paths)


def test_the_line_between_two_models(ends, tmp_path):
    a, b, first, second = ends
    out = tmp_path / "mixed"
    written = mix(first, second, (0.0, 0.25, 1.0), out)
    assert [one.path.name for one in written] == [f"small@aat@{share}.safetensors" for share in ("0", "0.25", "1")]
    found = [load_file(one.path) for one in written]
    for tensors, end in ((found[0], a), (found[2], b)):
        assert all(torch.equal(tensors[key], end[key]) for key in end)
        assert torch.equal(tensors["zero"].signbit(), end["zero"].signbit()), "the ends are theirs to the bit"
    assert found[1]["w"].tolist() == [1.5, -1.0] and found[1]["n"].tolist() == [3]
    assert found[1]["h"].dtype == torch.float16
    manifest = json.loads((out / "manifest.json").read_text())
    entry = manifest["small@aat@0.25"]
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (first, second)]
    assert [entry["mixed"][end]["sha256"] for end in ("from", "to")] == hashes and entry["mixed"]["share"] == 0.25
    assert entry["sha256"] == hashlib.sha256(written[1].path.read_bytes()).hexdigest() == written[1].sha256
    assert mix(first, second, (0.25,), out)[0].sha256 == written[1].sha256, "the same mixture may be made again"
    with pytest.raises(WeightsError, match="is there and is no mixture of small@aat and small"):
        mix(second, first, (0.25,), out, "small@aat")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": torch.zeros(3)}, r"w has shape \(2,\) and \(3,\)"),
        ({"w": torch.zeros(2, dtype=torch.float64)}, "w holds float32 and float64"),
        ({"n": torch.tensor([4])}, "n holds whole numbers that differ"),
        ({"w": torch.tensor([1.0, torch.inf])}, "w is not finite"),
        ({"extra": torch.zeros(1)}, "extra is in other alone"),
    ],
)
def test_models_of_two_kinds_are_refused(ends, tmp_path, change, words):
    _, b, first, _ = ends
    save_file({**b, **change}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=words):
        mix(first, str(tmp_path / "other.safetensors"), [0.5], out=tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists(), "nothing is written"


def test_on_the_command_line(tmp_path, capsys):
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes((zoo() / "birqa-tiny.safetensors").read_bytes())
    manifest = {"mine": {"sha256": hashlib.sha256(copy.read_bytes()).hexdigest(), "metric": "psnr"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    command = ["weights", "mix", "birqa-tiny", str(copy), "--out", str(tmp_path / "out"), "--at", ".5"]
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2 and 'birqa-tiny is of metric "birqa-tiny" and mine of "psnr"' in capsys.readouterr().err
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(SystemExit) as end:
        main([*command, "--json"])
    assert not end.value.code
    (made,) = json.loads(capsys.readouterr().out)
    assert made["share"] == 0.5 and Path(made["file"]).read_bytes() == copy.read_bytes(), "half way between equals"
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["birqa-tiny@mine@0.5"]
    assert entry["metric"] == "birqa-tiny" and entry["licence"] == "Apache-2.0"


def test_a_suite_finds_mixtures_as_the_documentation_says(tmp_path, monkeypatch, suite_of):
    command, lines = re.search(
        r"## The clean-robust frontier.*?```bash\nrobustiqa (.*?)\n```.*?```yaml\n(.*?)```",
        DEFENSES.read_text(),
        re.DOTALL,
    ).groups()
    monkeypatch.chdir(tmp_path)
    suite = (
        f"name: frontier\ndatasets: [mini]\nmetrics: [birqa-tiny]\nattacks: [fgsm]\nbudgets: {{linf: [8/255]}}\n{lines}"
    )
    for end in ([], ["--name", "mine"]):
        with pytest.raises(SystemExit) as done:
            main([*shlex.split(command), *end])
        assert not done.value.code
    assert [use.label for use in suite_of(suite).defenses] == ["base", "r@0.25", "r@0.5", "r@0.75", "r"]
    mine = suite_of(suite.replace("name: r@", "name: mine@"))
    assert [use.label for use in mine.defenses] == ["base", "mine@0.25", "mine@0.5", "mine@0.75", "r"]


@pytest.mark.parametrize("text", ["2", "-1", "nan", "", "0,a", "0,0.0"])
def test_shares_that_are_none(text):
    with pytest.raises(WeightsError, match="--at"):
        parse_shares(text)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("nix", "weights mix: no weights are called 'nix'"), ("random", "untrained weights are no file")],
)
def test_ends_that_are_none(ends, wanted, words, tmp_path):
    with pytest.raises(WeightsError, match=words):
        mix(ends[2], wanted, [0.5], out=tmp_path / "mixed")
