"""Holes that identity had: each changes something that no name, size or version shows, and must change what is run."""

import importlib
import json
import os
import shutil
import sys
import textwrap
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.cli import main
from harness.engine.run_folder import StoreError
from harness.engine.scorer import load_metric
from harness.errors import UserError
from harness.flow import Options, run_suite
from harness.plugins import registry as registries
from harness.plugins.code import EXECUTED, code_of
from harness.plugins.registry import Registry
from harness.suite.pixels import FIXED_FILES
from harness.suite.planning import make_plan
from harness.suite.resolve import read_suite
from tests.toys.stored import all_records

HEAD = "import torch\nfrom harness.contracts import Metric, register\n"
NEAR = """
@register("near")
class Near(Metric):
    higher_is_better = True
    def __init__(self, *, table: str = "") -> None:
        super().__init__()
        {init}
    def score(self, reference, dist):
        {score}
"""
PLAIN = "return -(reference - dist).abs().flatten(1).mean(1)"


def plugin(folder, init="pass", score=PLAIN, head=""):
    file = folder / "near.py"
    file.write_text(HEAD + head + NEAR.format(init=init, score=score))
    return file


def ids(registry, metric="near", **keys):
    value = {"name": "holes", "datasets": ["mini"], "metrics": [metric], "limit": 1, **keys}
    return [cell.id for cell in make_plan(read_suite(value, registry), registry).cells]


def installed(folder, name, **metrics):
    """Metadata of a distribution that brings metrics, each "module:Class"."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = "".join(f"{metric} = {where}\n" for metric, where in metrics.items())
    (info / "entry_points.txt").write_text(f"[robustiqa.metrics]\n{points}")
    importlib.invalidate_caches()
    return info


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """A folder on the path, whose modules are forgotten in the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    registries._load.cache_clear()


# --- code


@pytest.mark.parametrize(
    ("head", "changed"),
    [
        ("import helper\n", "helper.py"),
        ("from package import inner\n", "package/inner.py"),
        ("from package import inner\n", "package/deeper.py"),
        ("from package import *\n", "package/never_named.py"),
        ("import importlib\nimportlib.import_module('package.inner')\n", "package/inner.py"),
        ("import importlib\nimportlib.import_module('pack' + 'age')\n", "helper.py"),
    ],
)
def test_a_module_that_a_plugin_imports_is_part_of_it(on_path, head, changed):
    (on_path / "package").mkdir()
    for name in ("helper", "package/__init__", "package/deeper", "package/never_named"):
        (on_path / f"{name}.py").write_text("x = 1\n")
    (on_path / "package/inner.py").write_text("def later():\n    from . import deeper\n")
    file = plugin(on_path, head=head)
    before = code_of([file]).digest()
    assert Registry([file]).metric("near").code == before == code_of([file]).digest()
    (on_path / changed).write_text("x = 2\n")
    EXECUTED.clear()  # as another process has it
    assert code_of([file]).digest() != before


def test_identity_and_the_workers_check_are_of_one_reading(on_path, monkeypatch):
    (on_path / "helper.py").write_text("x = 1\n")
    file = plugin(on_path, head="import helper\n")
    read = []
    monkeypatch.setattr(
        "harness.plugins.code.sha256_or_missing", lambda path: read.append(path) or f"reading {len(read)}"
    )
    found = Registry([file]).metric("near")
    assert not read and found.files[on_path / "helper.py"] == sha256(b"x = 1\n").hexdigest(), "what was executed"


def test_what_a_version_stands_for_is_not_read(tmp_path):
    alone = code_of([plugin(tmp_path, head="import json, numpy, harness.flow\n")])
    assert [file.name for file in alone.files] == ["near.py"]
    with_library = code_of([plugin(tmp_path, head="import pytest\n")])
    assert with_library.libraries - {"torch"} == {"pytest"} and len(with_library.files) == 1
    assert alone.digest() == alone.hashes()[tmp_path / "near.py"] != with_library.digest()


def test_a_package_developed_in_place_counts_by_content_and_an_installed_one_by_version(on_path):
    (on_path / "edited").mkdir()
    (on_path / "edited/__init__.py").write_text("from .metric import Near\n")
    (on_path / "edited/metric.py").write_text(HEAD + NEAR.format(init="pass", score=PLAIN))
    info = installed(on_path, "edited", near="edited.metric:Near")
    first = Registry().metric("near").code
    (on_path / "edited/__init__.py").write_text("from .metric import Near  # edited\n")
    registries._load.cache_clear()
    second = Registry().metric("near").code
    assert first.startswith("edited 1.0; source ") and second.startswith("edited 1.0; source ") and first != second
    (info / "RECORD").write_text("edited/__init__.py,,\nedited/metric.py,,\n")
    registries._load.cache_clear()
    assert Registry().metric("near").code == "edited 1.0"


SUITE = {"name": "holes", "datasets": ["mini"], "metrics": ["near"], "limit": 1}


@pytest.mark.parametrize(("executor", "edited"), [("processes", "near.py"), ("serial", "helper.py")])
def test_code_changed_after_the_plan_was_made_is_refused_by_the_worker(on_path, monkeypatch, executor, edited):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(on_path), os.environ.get("PYTHONPATH", "")]))
    (on_path / "helper.py").write_text(f"def nearness(reference, dist):\n    {PLAIN}\n")
    file = plugin(on_path, score="from helper import nearness; return nearness(reference, dist)")
    registry = Registry([file])
    suite = read_suite(SUITE, registry)
    text = (on_path / edited).read_text()
    (on_path / edited).write_text(text.replace("mean(1)", "sum(1)") + "# another size\n")
    options = Options(out=on_path / "run", executor=executor, workers=1, probe=False)
    with pytest.raises(StoreError, match=rf"{edited} was changed after this run was planned.*run the same command"):
        run_suite(suite, registry, options)
    assert not list((on_path / "run").rglob("*.parquet"))


# --- contents


def test_a_file_that_a_parameter_names_counts_by_content_and_not_by_name(tmp_path):
    registry = Registry([plugin(tmp_path)])
    (tmp_path / "one.bin").write_bytes(b"1")
    shutil.copy(tmp_path / "one.bin", tmp_path / "two.bin")
    one, two = ({"name": "near", "table": str(tmp_path / name)} for name in ("one.bin", "two.bin"))
    before = ids(registry, one)
    assert before == ids(registry, two) != ids(registry, {"name": "near", "table": "a word"})
    (tmp_path / "one.bin").write_bytes(b"2")
    assert ids(registry, one) != before
    folder = {"name": "near", "table": f"{tmp_path}/kept"}
    (tmp_path / "kept/inner").mkdir(parents=True)
    seen = [ids(registry, folder)]
    for content in ("1", "2"):
        (tmp_path / "kept/inner/file").write_text(content)
        seen.append(ids(registry, folder))
    assert len({tuple(one) for one in seen}) == 3


LOAD = "torch.load({!r}, weights_only=True)"
IN_OBJECT = "self.kept = Keeper(); self.kept.whole = self; self.kept.one = Keeper(); self.kept.one.table = "


@pytest.mark.parametrize(
    "init",
    [
        f"self.register_buffer('table_', {LOAD})",
        f"self.kept = {{{{'here': [{LOAD}]}}}}",
        f"self._table = {LOAD}",
        f"{IN_OBJECT}{LOAD}",
        f"self.scale = {LOAD}.sum().item()",
        f"self._names = {{{{'first': [str({LOAD}.tolist())]}}}}",
    ],
)
def test_what_a_metric_loads_when_it_is_built_counts(tmp_path, init):
    file = tmp_path / "values.pt"
    torch.save(torch.zeros(3), file)
    registry = Registry([plugin(tmp_path, init=init.format(str(file)), head="class Keeper: ...\n")])
    before = ids(registry)
    assert ids(registry) == before
    suite = read_suite(SUITE, registry)
    torch.save(torch.ones(3), file)
    assert ids(registry) != before
    result = run_suite(suite, registry, Options(out=tmp_path / "run", executor="serial", probe=False))
    assert [failure.bad_input for failure in result.failures] == [True] and not list(tmp_path.rglob("*.parquet"))
    assert "what it loads when it is built was changed meanwhile" in result.failures[0].message


def test_weights_that_a_plugin_draws_at_random_are_refused_unless_they_are_given_or_seeded(tmp_path):
    layer = "self.layer = torch.nn.Conv2d(3, 1, 1)"
    with pytest.raises(UserError, match=r"makes 'layer\.weight' anew at random .* needs_weights = True"):
        ids(Registry([plugin(tmp_path, init=layer)]))
    seeded = plugin(tmp_path, init="torch.manual_seed(3); " + layer).rename(tmp_path / "seeded.py")
    assert ids(Registry([seeded]))
    assert ids(Registry(), {"name": "birqa-tiny", "weights": "random"})


def test_what_is_random_and_beyond_the_reach_of_given_weights_is_refused(tmp_path):
    parts = {"layer": torch.nn.Linear(2, 2), "memory": torch.nn.LSTM(2, 2), "normed": torch.nn.Linear(2, 2)}
    parts["normed"] = torch.nn.utils.weight_norm(parts["normed"])
    save_file(torch.nn.ModuleDict(parts).state_dict(), tmp_path / "w.safetensors")
    init = "self.layer = torch.nn.Linear(2, 2); self.memory = torch.nn.LSTM(2, 2); "
    init += "self.normed = torch.nn.utils.weight_norm(torch.nn.Linear(2, 2)); self._same = self.layer.weight.data"
    given = {"name": "near", "weights": str(tmp_path / "w.safetensors")}

    def read(more):
        file = plugin(tmp_path, init=init + more)
        file.write_text(file.read_text().replace("higher_is_better", "needs_weights = higher_is_better"))
        return ids(Registry([file.rename(tmp_path / f"near{len(more)}.py")]), given)

    assert read("")
    with pytest.raises(UserError, match=r"makes '_drawn' anew at random .* its state dict, and that is no part of it"):
        read("; self._drawn = torch.rand(3)")


def test_a_place_on_this_machine_and_what_is_another_each_time_are_no_values(tmp_path):
    file = plugin(tmp_path, init="import time; self.made = time.time_ns(); self.at = [table, 'cuda:0']")
    use = read_suite({**SUITE, "metrics": [{"name": "near", "table": str(file)}]}, Registry([file])).metrics[0]
    assert use.contents.state == "" and set(use.contents.parameters) == {"table"}


def test_members_of_a_composed_metric_enter_by_their_own_identity(monkeypatch):
    registry = Registry()
    folds = {"name": "folds", "weights": "random", "folds": 2}
    before = ids(registry, folds)
    monkeypatch.setattr(registry.metric("birqa-tiny").cls, "version", 99)
    assert ids(registry, folds) != before


OUTER = """
@register("outer")
class Outer(Near):
    def __init__(self, *, inner: str = "near") -> None:
        Metric.__init__(self)
        self.inner = build_metric(inner, {})
"""


def test_what_an_installed_member_loads_is_seen_however_deep_it_is_and_checked_by_the_worker(on_path):
    torch.save(torch.zeros(3), on_path / "values.pt")
    init = "self.layer = torch.nn.Linear(1, 1, bias=False); torch.nn.init.ones_(self.layer.weight); "
    init += "self.register_buffer('table_', torch.load('values.pt', weights_only=True), persistent=False)"
    head = "from harness.plugins.build import build_metric\n"
    (on_path / "kept.py").write_text(HEAD + head + NEAR.format(init=init, score=PLAIN) + OUTER)
    (installed(on_path, "kept", near="kept:Near", outer="kept:Outer") / "RECORD").write_text("kept.py,,\n")
    registry = Registry()
    uses = [{"name": "folds", "weights": "random", "folds": 2, "metric": inner} for inner in ("near", "outer")]
    before = [ids(registry, use) for use in uses]
    assert [ids(registry, use) for use in uses] == before
    suites = [read_suite({**SUITE, "metrics": [use]}, registry) for use in uses]
    assert [len(one.metrics[0].contents.members) for one in suites] == [1, 1], "equal members count once"
    torch.save(torch.ones(3), on_path / "values.pt")
    assert all(ids(registry, use) != old for use, old in zip(uses, before, strict=True))
    for suite in suites:
        with pytest.raises(UserError, match="what it loads when it is built was changed meanwhile"):
            load_metric(suite.metrics[0], registry, torch.device("cpu"))


# --- pixels


def tree(root, references=4, images=10):
    """A set in TID2013's layout, of bitmaps of one size."""
    rng = np.random.default_rng(0)
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    lines = []
    for r in range(1, references + 1):
        names = [f"reference_images/I{r:02}.BMP", *(f"distorted_images/i{r:02}_01_{i}.bmp" for i in range(1, images))]
        for name in names:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name)
        lines += [f"{i % 9}.0 i{r:02}_01_{i}.bmp" for i in range(1, images)]
    (root / "mos_with_names.txt").write_text("\n".join(lines) + "\n")
    return root


def upside_down(path):
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    turned.save(path)


class Run:
    """A suite on a tree, and whether its folder has anything left to do."""

    def __init__(self, root, folder, pixels="sampled"):
        self.registry, self.folder = Registry(), folder
        self.value = {"name": "holes", "datasets": [{"name": "tid2013", "root": str(root), "pixels": pixels}]}
        self.value |= {"metrics": ["psnr"], "slice": 200}

    def __call__(self, **changed):
        value = {**self.value, **changed}
        options = Options(out=self.folder, executor="serial", probe=False)
        return run_suite(read_suite(value, self.registry), self.registry, options).jobs


@pytest.fixture
def large(tmp_path):
    """A tree of more files than are always looked at, its run, and a distorted image that is none of those."""
    root = tree(tmp_path / "tid", references=12)
    run = Run(root, tmp_path / "run")
    assert run() == 1 and run() == 0
    plan = make_plan(read_suite(run.value, run.registry), run.registry)
    (images,) = plan.images.values()
    assert len(images.paths) == 120 and len(images.fixed()) == FIXED_FILES
    free = next(path for name, path in images.paths.items() if name not in images.fixed() and name.endswith("/1"))
    return root, run, free


def test_all_references_upside_down_are_seen_and_turned_back_are_as_they_were(large):
    root, run, _ = large
    for _ in range(2):
        for path in (root / "reference_images").iterdir():
            upside_down(path)
        jobs = run()
    assert jobs == 0, "the first time something ran, the second time its records were there"
    upside_down(root / "reference_images/I01.BMP")
    assert run() == 1 and run() == 0


def test_one_image_that_is_not_among_the_fixed_is_seen(large):
    _, run, free = large
    about = free.stat()
    upside_down(free)
    os.utime(free, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert run() == 1, "its time of change is not the recorded one, whatever its time of writing says"
    assert run() == 0


def test_touching_and_copying_changes_nothing_and_a_finished_run_reads_no_image(large, tmp_path, monkeypatch):
    root, run, _ = large
    shutil.copytree(root, tmp_path / "copy")
    copied = [{**run.value["datasets"][0], "root": str(tmp_path / "copy")}]
    for path in root.rglob("*.bmp"):
        path.touch()
    assert run() == 0 and run(datasets=copied) == 0

    def refuse(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("harness.suite.pixels.sha256_or_missing", refuse)
    assert run(datasets=copied) == 0, "what was found touched was recorded"


@pytest.mark.parametrize(("pixels", "seen"), [("all", 1), ("names", 0)])
def test_all_and_names(tmp_path, pixels, seen):
    root = tree(tmp_path / "tid")
    run = Run(root, tmp_path / "run", pixels)
    assert run() == 1 and run() == 0
    upside_down(root / "distorted_images/i01_01_1.bmp")
    assert run() == seen
    assert (tmp_path / "run/pixels").exists() == (pixels == "all")


def test_only_what_records_are_made_from_is_recorded(tmp_path):
    run = Run(tree(tmp_path / "tid", references=12), tmp_path / "run")
    run(limit=2, slice=2)
    rows = all_records(tmp_path / "run")
    assert list(zip(rows["torch"], rows["device"], strict=True)) == [(torch.__version__, "cpu")] * 2
    (page,) = (tmp_path / "run/pixels").glob("*.json")
    assert FIXED_FILES <= len(json.loads(page.read_text())["files"]) <= FIXED_FILES + 4
    page.write_text("{")
    with pytest.raises(StoreError, match=r"pixels/tid2013-all-.*json: damaged"):
        run()


def test_a_set_that_does_not_say_which_files_it_reads(tmp_path):
    file = tmp_path / "set.py"
    file.write_text(
        textwrap.dedent("""
        import torch
        from harness.contracts import Dataset, Entry, register
        @register("greys")
        class Greys(Dataset):
            labels = "none"
            def entries(self, split):
                return [Entry("grey", "black")]
            def load(self, entry):
                return {"ref": torch.zeros(3, 16, 16), "dist": torch.ones(3, 16, 16)}
            def fingerprint(self):
                return "one grey"
        """)
    )
    registry = Registry([file])
    assert ids(registry, "psnr", datasets=["greys"])
    with pytest.raises(UserError, match=r"'greys' from .* does not say which files it reads.*image_files"):
        ids(registry, "psnr", datasets=[{"name": "greys", "pixels": "all"}])
    with pytest.raises(UserError, match=r"unknown pixels 'al'\. Did you mean 'all'"):
        ids(registry, "psnr", datasets=[{"name": "mini", "pixels": "al"}])


def test_data_verify(tmp_path, monkeypatch, capsys):
    root = tree(tmp_path / "tid")
    run = Run(root, tmp_path / "run")
    run()
    (tmp_path / "suite.yaml").write_text(json.dumps(run.value))

    monkeypatch.chdir(tmp_path)

    def verify(*words):
        with pytest.raises(SystemExit) as ended:
            main(["data", "verify", *words])
        return ended.value.code or 0, *capsys.readouterr()

    code, out, _ = verify("suite.yaml", "--out", "run")
    assert code == 0 and out.startswith("tid2013 all: 40 files, contents ") and "; 40 recorded, 0 changed." in out
    upside_down(root / "distorted_images/i01_01_1.bmp")
    code, out, err = verify("suite.yaml", "--out", "run", "--json")
    assert code == 1 and json.loads(out)[0]["changed"] == [str(root / "distorted_images/i01_01_1.bmp")]
    assert "i01_01_1.bmp is not what the run folder recorded" in err
    code, out, _ = verify("tid2013", "--set", f"root={root}")
    assert code == 0 and "; none recorded." in out
    code, _, err = verify("tid2014")
    assert code == 2 and "no such file or suite, and no data set" in err
