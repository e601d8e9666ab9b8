"""What a new user meets first: shipped suites by name, lists that say what can be used, one pair of images attacked."""

import fnmatch
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import harness
from harness.cli import main
from harness.datasets.images import read_image
from harness.engine.attacked_files import png16
from harness.errors import UserError
from harness.files import run_named
from harness.suite.shipped import copy_suite, shipped_folder, shipped_suites, suite_file

ROOT = Path(harness.__path__[0]).parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def said(capsys):
    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert (end.value.code or 0) == code, err
        return out, err

    return run


def test_everything_beside_code_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [pattern.rstrip("*") for pattern in settings["packages"]["find"]["include"]]
    assert "suites" in packages
    globs = {name: [glob.rpartition("/")[2] for glob in found] for name, found in settings["package-data"].items()}
    files = [file for package in packages for file in (ROOT / package).rglob("*") if file.is_file()]
    wanted = [file for file in files if file.suffix not in (".py", ".pyc") and not file.name.startswith(".")]
    known = {file: globs["*"] + globs.get(file.relative_to(ROOT).parts[0], []) for file in wanted}
    left_out = [str(file) for file, some in known.items() if not any(fnmatch.fnmatch(file.name, one) for one in some)]
    assert not left_out, "name them in [tool.setuptools.package-data]"
    assert {file.suffix for file in wanted if file.is_relative_to(shipped_folder())} >= {".yaml", ".csv", ".md"}


def test_every_shipped_suite_says_in_a_sentence_what_it_is_and_what_it_costs():
    suites = list(shipped_suites())
    assert len({suite.name for suite in suites}) == len(suites) > 30 and suites[0].name == "quickstart"
    for suite in suites:
        assert suite.about.endswith(".") and 20 < len(suite.about) < 200, suite
        assert suite.cost.endswith("."), f"{suite.file} lacks its line '# Cost: ...'"
        measured = "minute" in suite.cost or "hour" in suite.cost
        assert measured != suite.cost.startswith("not measured; `robustiqa plan"), suite
    assert not {"train/birqa_mini", "paper/figure4"} & {suite.name for suite in suites}, "no suites"


def test_a_name_stands_for_a_file_here_and_else_for_a_shipped_one(here, capsys):
    shipped = shipped_folder() / "quickstart.yaml"
    assert suite_file(Path("quickstart")) == suite_file(Path("quickstart.yaml")) == shipped
    assert suite_file(Path("paper/mini/table9")).name == "table9.yaml"
    assert not capsys.readouterr().err
    assert suite_file(Path("suites/quickstart.yaml")) == shipped
    assert "is not in this folder" in capsys.readouterr().err
    Path("quickstart.yaml").write_text("name: mine")
    assert suite_file(Path("quickstart")) == suite_file(Path("quickstart.yaml")) == Path("quickstart.yaml")
    with pytest.raises(UserError, match=r"quikstart: no such file, .* Did you mean 'quickstart'\?"):
        suite_file(Path("quikstart"))
    assert suite_file(Path("nowhere.yaml")) == Path("nowhere.yaml"), "of which the reader says that it is missing"
    Path("results/runs/one").mkdir(parents=True)
    assert run_named(Path("one")) == Path("results/runs/one") and run_named(Path("two")) == Path("two")


def test_commands_that_open_a_run_take_its_name(here, said):
    Path("results/runs/one").mkdir(parents=True)
    more = {
        "compare": ("one",),
        "merge": ("one", "-o", "out"),
        "publish": ("-o", "out"),
    }
    verbs = ("bundle", "check", "compare", "examples", "export", "merge", "publish", "report", "status")
    for verb in verbs:
        error = said(verb, "one", *more.get(verb, ()), code=2)[1]
        assert "results/runs/one: no run folder" in error, verb


def test_init_copies_a_suite_with_what_it_builds_on_and_overwrites_nothing(here, said):
    out, _ = said("init")
    assert "wrote quickstart.yaml" in out and "robustiqa run quickstart.yaml" in out
    assert Path("quickstart.yaml").read_bytes() == (shipped_folder() / "quickstart.yaml").read_bytes()
    copies = copy_suite("paper/mini/table9", here / "new")
    assert {one.relative_to(here / "new").as_posix() for one in copies} == {
        *("table9.yaml", "table7.yaml", "layouts/table9.yaml", "layouts/table7.yaml")
    }
    assert said("validate", "new/table9.yaml")[0].startswith("new/table9.yaml: valid.")
    (here / "new" / "table9.yaml").unlink()
    _, err = said("init", "paper/mini/table9", "--out", "new", code=2)
    assert "is there already, and nothing is overwritten" in err and not (here / "new" / "table9.yaml").exists()
    assert "Did you mean 'quickstart'?" in said("init", "quickstrat", code=2)[1]


def test_lists_say_what_each_thing_is_and_whether_it_can_be_used(here, said):
    rows = {kind: {row["name"]: row for row in found} for kind, found in json.loads(said("list", "--json")[0]).items()}
    for kind in ("metrics", "attacks", "defenses", "datasets", "recipes", "suites"):
        assert all(row["about"].endswith((".", "]")) for row in rows[kind].values()), kind
    metrics, datasets = rows["metrics"], rows["datasets"]
    ready = ("birqa-tiny", "psnr", "lpips-alex", "birqa")
    assert [metrics[name]["ready"] for name in ready] == [True, True, False, False]
    assert (
        "weights fetch lpips-alex" in metrics["lpips-alex"]["needs"]
        and "network: alex" in metrics["lpips-alex"]["about"]
    )
    assert "stem stride 8" in metrics["birqa-s8"]["about"], "a parameter in a docstring has its value"
    assert not rows["defenses"]["diffpure"]["ready"] and rows["defenses"]["diffpure-mini"]["ready"]
    assert rows["defenses"]["r"]["ready"] and rows["attacks"]["facpa"]["note"] == "learns from a data set first"
    assert datasets["mini"]["ready"] and not datasets["tid2013"]["ready"]
    (here / "data" / "tid2013").mkdir(parents=True)
    assert " human_rated.yaml with the larger" in said("list", "suites")[0], "names of files begin as they are written"
    line = next(one for one in said("list", "datasets")[0].splitlines() if "tid2013" in one)
    assert line.startswith("  tid2013") and "TID2013" in line and "needs" not in line.lower()


def test_an_unknown_name_that_a_file_here_registers_says_which(here, said):
    Path("mine.py").write_text(
        "from harness.contracts import Metric, register\n@register('deepsim')\nclass D(Metric): ...\n"
    )
    _, err = said("doctor", "--metric", "deepsim", code=2)
    assert "mine.py registers it. Add --plugin mine.py." in err


def test_doctor_probes_a_metric_with_the_weights_it_is_given(here, said):
    assert "--set weights=random" in said("doctor", "--metric", "birqa", code=2)[1]
    assert "Name the metric with --metric" in said("doctor", "--set", "weights=x", code=2)[1]
    missing = said("doctor", "--metric", "birqa-tiny", "--set", "weights=nowhere.safetensors", code=2)[1]
    assert "nowhere.safetensors" in missing, "not those that it has by default"
    found = json.loads(said("doctor", "--metric", "birqa-tiny", "--set", "weights=birqa-tiny@r", "--json")[0])
    assert {"subject": "birqa-tiny", "verdict": "ok", "detail": found[0]["detail"]} == found[0]


def test_sixteen_bits_are_written_as_they_are_read():
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(png16(image))) as opened:
        assert opened.size == (7, 5)
        high = np.asarray(opened.convert("RGB"))  # Pillow keeps the upper byte of each value
    assert np.array_equal(high, (np.round(image.double().numpy() * 65535).astype(int) >> 8).transpose(1, 2, 0))


def test_attack_writes_what_it_reports(here, said):
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("ref.png")
    grey = Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)).convert("L")
    grey.save("dist.png")
    command = [
        "attack",
        "ref.png",
        "dist.png",
        "--metric",
        "ssim",
        "--judge",
        "psnr",
        "--set",
        "steps=5",
        "--eps",
        "4/255",
    ]
    out, err = said(*command, "-o", "out", "--json")
    assert "note: DIST dist.png is expanded from grey to RGB." in err
    page = json.loads(out)
    assert page.pop("files").keys() == {one.name for one in Path("out").iterdir()}
    assert page == json.loads(Path("out/scores.json").read_text())
    assert page["attack"] == "pgd(steps=5)" and page["notes"] == ["DIST dist.png is expanded from grey to RGB."]
    floats = load_file("out/attacked.safetensors")["attacked"]
    distorted = read_image("dist.png")
    assert (floats - distorted).abs().max() == pytest.approx(4 / 255, abs=1e-6) == page["linf"]
    sixteen, eight = read_image("out/attacked.png"), read_image("out/attacked_8bit.png")
    assert (sixteen - floats).abs().max() <= 0.5 / 65535 + 1e-7 and (eight - floats).abs().max() <= 0.5 / 255 + 1e-7
    for row in page["scores"]:  # what is said is what the files get
        for name, file in (("distorted", "dist.png"), ("attacked_16bit", "out/attacked.png")):
            assert float(harness.score(row["metric"], "ref.png", file)) == pytest.approx(row[name], abs=1e-6)
        assert float(harness.score(row["metric"], "ref.png", "out/attacked_8bit.png")) == row["attacked_8bit"]
    assert page["scores"][0]["attacked"] < page["scores"][0]["distorted"]
    strip = np.asarray(Image.open("out/strip.png"), dtype=int)
    change = 0.5 + (floats - distorted) * (0.5 / page["linf"])
    for place, image in enumerate((read_image("ref.png"), distorted, floats, change)):
        left = 8 + place * (192 + 8)  # each pixel six times as large, and a gap between images
        shown = strip[8 : 8 + 192 : 6, left : left + 192 : 6]
        assert np.array_equal(shown, (image.clamp(0, 1) * 255).round().permute(1, 2, 0).int().numpy()), place
    for more, message in (
        (["--eps", "8"], "--eps 8: should be a number above 0, in linf at most 1"),
        (["--set", "stepz=3"], "neither ssim nor pgd has a parameter 'stepz'. Did you mean 'steps'?"),
        (["--set", "metric.steps=3"], "'ssim' has no parameter 'steps'"),
        (["--attack", "facpa"], "learns from a data set"),
    ):
        assert message in said(*command[:7], *more, "-o", "new", code=2)[1]
    assert not Path("new").exists()
