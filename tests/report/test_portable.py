"""A run folder says all that its report says: with data, weights, plugin and suite gone, every reader finds the same."""

import json
import random
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from harness.cli import main
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.compose import Overrides
from harness.suite.identity import identity
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite
from harness.suite.stored_plan import plan_read, plan_text, plan_written

PLUGIN = '''
import torch
from harness.contracts import Attack, Metric, register

@register("weighed")
class Weighed(Metric):
    """Weighed differences, of a paper of nobody."""

    cite = "@article{nobody2026weighed, title={Weighed}, author={Nobody, A.}, journal={None}, year={2026}}"
    higher_is_better = False
    needs_weights = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def score(self, reference, dist):
        return ((dist - reference).abs() * self.scale.view(1, 3, 1, 1)).flatten(1).mean(1)
'''
SUITE = """
name: moved
datasets: [{name: csv, file: ../data/pairs.csv, label: own}]
metrics: [psnr, {name: weighed, weights: weights/own.safetensors}]
attacks: [fgsm, {name: noise, label: grain}]
budgets: {linf: [4/255]}
directions: [up]
tables: [srocc]
verdicts: false
save_examples: 1
layouts:
  - name: mine
    rows: {metric: "*"}
    columns: {statistic: srocc}
    where: {attack: none}
"""
LAYOUT = "rows: {metric: [psnr, weighed]}\ncolumns: {statistic: srocc}\nwhere: {attack: none}\n"


def write_project(folder: Path) -> None:
    """A suite, a plugin, a weight file and a csv data set of three references with two levels."""
    for name in ("data", "suites/weights"):
        (folder / name).mkdir(parents=True)
    random_ = np.random.default_rng(0)
    lines = ["ref,dist,opinion,level"]
    for r in range(3):
        reference = random_.integers(40, 200, (24, 24, 3))
        Image.fromarray(reference.astype(np.uint8)).save(folder / f"data/r{r}.png")
        for level in (1, 2):
            noisy = reference + random_.normal(0, 12 * level + r, reference.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"data/r{r}_{level}.png")
            lines.append(f"r{r}.png,r{r}_{level}.png,{5 - level + r / 10},{level}")
    (folder / "data/pairs.csv").write_text("\n".join(lines) + "\n")
    save_file({"scale": torch.tensor([1.0, 2.0, 0.5])}, folder / "suites/weights/own.safetensors")
    (folder / "suites/own.yaml").write_text(SUITE)
    (folder / "plugin.py").write_text(textwrap.dedent(PLUGIN))


def said(capsys, *arguments, code=0):
    """What a command printed; of one that was refused (exit code 2) what it said of that."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    text = capsys.readouterr()
    assert end.value.code == code, text.err
    return text.err if code == 2 else text.out


def files_of_report(run: Path) -> dict[str, bytes]:
    own = {path.relative_to(run): path.read_bytes() for path in sorted((run / "report").rglob("*")) if path.is_file()}
    return {str(name): content for name, content in own.items() if name.name not in ("inputs.json", "made-from.txt")}


READERS = (
    ("status", "run"),
    ("compare", "run", "run"),
    ("tables", "run", "--layout", "own.yaml"),
    ("check", "run"),
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project, with the current folder in it."""
    write_project(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    return tmp_path


def test_a_moved_run_folder_is_read_alone(project, capsys, monkeypatch):
    there, here = project / "there", project / "elsewhere"
    run = ("run", "suites/own.yaml", "--plugin", "plugin.py", "--out", "run", "--executor", "serial", "-q")
    absolute = f"metrics.weighed.weights={there / 'suites/weights/own.safetensors'}"
    said(capsys, *run, "--set", absolute)
    assert str(there) in (there / "run/suite.yaml").read_text()
    here.mkdir()
    for folder in (there, here):
        (folder / "own.yaml").write_text(f"name: both\n{LAYOUT}")
    before = [said(capsys, *reader) for reader in READERS]
    cited = said(capsys, "cite", "run")
    first = files_of_report(there / "run")
    assert "report/layouts/mine.md" in first and "nobody2026weighed" in cited and "2 of 2 blocks" in before[0]
    assert not [name for name, content in first.items() if str(project).encode() in content]

    shutil.move(there / "run", here / "run")
    shutil.rmtree(there)
    monkeypatch.chdir(here)
    assert [said(capsys, *reader) for reader in READERS] == before
    said(capsys, "report", "run")
    assert files_of_report(here / "run") == first, "byte for byte what the run wrote"
    assert said(capsys, "cite", "run") == cited
    (here / "run/plan.json").unlink()
    with pytest.raises(SystemExit) as end:
        main(["report", "run"])
    told = capsys.readouterr().err
    assert end.value.code == 2 and "holds no plan.json" in told and "the data, the weights and the plugins" in told
    assert files_of_report(here / "run") == first


def test_relative_paths_are_those_of_the_suite_file_wherever_one_stands(project, monkeypatch):
    registry = Registry([project / "there/plugin.py"])
    suite = load_suite(Path("suites/own.yaml"), registry)
    RunFolder(project / "runs/own").open(suite)
    saved = yaml.safe_load((project / "runs/own/suite.yaml").read_text())
    assert saved["datasets"][0]["file"] == "../../there/data/pairs.csv"
    assert saved["metrics"][1]["weights"] == "../../there/suites/weights/own.safetensors"
    cells = [cell.id for cell in make_plan(suite, registry).cells]
    monkeypatch.chdir(project / "runs")
    for path in ("own/suite.yaml", "../there/suites/own.yaml", project / "there/suites/own.yaml"):
        assert [cell.id for cell in make_plan(load_suite(Path(path), registry), registry).cells] == cells
    monkeypatch.chdir(project / "there/suites")
    given = Overrides(sets=("metrics.weighed.weights=weights/own.safetensors",))  # of the command line: from here
    assert load_suite(Path("own.yaml"), registry, given).metrics[1].weights == suite.metrics[1].weights
    Path("pairs.csv").write_text("ref,dist\n")
    monkeypatch.chdir(project / "there/data")
    Path("../suites/own.yaml").write_text(SUITE.replace("../data/pairs.csv", "pairs.csv"))
    with pytest.raises(UserError, match=r"suites/pairs\.csv"):  # beside the suite before the current folder
        load_suite(Path("../suites/own.yaml"), registry)


SHIPPED = """
name: kept
datasets: [mini]
metrics: [psnr, {name: ssim, label: s}, {name: birqa-tiny}]
defenses: [base, {name: flip, threat: adaptive, eot: 2, draws: 2}, {chain: [at, jpeg], threat: oblivious}]
attacks: [fgsm, {name: pgd, steps: 2}, restore, facpa]
budgets: {linf: [2/255, 4/255], l2: [1.5]}
directions: [up, mos_split, self_split]
exclude: [{metric: s, defense: flip}, {metric: s, defense: at*}, {metric: psnr, defense: at*}]
transfer: [{source: s, scorer: birqa-tiny}]
batch_budgets: true
verdicts: 8
limit: 12
slice: 4
"""


def test_a_plan_is_the_same_once_stored(tmp_path):
    """Every cell, fact, fit, probe and block, with identities that are hashed anew from what was stored."""
    (tmp_path / "kept.yaml").write_text(SHIPPED)
    registry = Registry()
    plan = make_plan(load_suite(tmp_path / "kept.yaml", registry), registry)
    again = plan_read(json.loads(plan_text(plan_written(plan))))
    shared = [
        [
            [(c.id, c.label, c.who, c.attack_key, c.split.key, c.source.key, c.scorer.key, c.fits) for c in one.cells],
            [(fact.id, fact.split.key, fact.scorer.key) for fact in one.facts],
            [(fit.id, fit.split.key, fit.source.key, fit.attack.label, fit.sign) for fit in one.fits],
            [(probe.id, probe.label) for probe in one.probes],
            [(block.key, block.label, [cell.id for cell in block.cells]) for block in one.blocks({})],
            [[entry for cell in one.cells for entry in one.entries_of(cell)]],
        ]
        for one in (plan, again)
    ]
    assert shared[0] == shared[1] and len(plan.cells) > 100
    assert [identity("use", use.identity()) for use in again.metrics] == [
        identity("use", use.identity()) for use in plan.metrics
    ]


def test_a_damaged_plan_is_never_read_as_another(run_toy, registry, tmp_path):
    run_toy(
        "{name: t, datasets: [toy], metrics: [linear], attacks: [noise], budgets: {linf: [4/255]}}", tmp_path / "run"
    )
    path, store = tmp_path / "run/plan.json", RunFolder(tmp_path / "run")
    whole, right = path.read_bytes(), store.read_plan()
    assert right is not None and json.loads(whole)["planned"]["plan"]["suite"]["name"] == "t"
    draw = random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert store.read_plan() is None and "plan.json" in store.soundness.damaged()
    path.write_bytes(whole)
    assert store.read_plan() == right


def test_a_finished_run_whose_labels_are_spelt_as_they_were_is_finished(run_toy, tmp_path, monkeypatch):
    """Labels had 1:255 for 1/255 once; they are no part of identity, and read as they are written now."""
    from harness.engine import seal
    from harness.flow import open_folder

    text = "name: t\ndatasets: [toy]\nmetrics: [linear]\nbudgets: {linf: [4/255]}\nattacks:\n"
    text += "  - {name: pgd, matrix: {steps: [2], step_size: [1/255, 1.5/255]}}\n"
    first = run_toy(text, tmp_path / "run")
    labels = [use.label for use in first.plan.suite.attacks]
    assert labels == ["pgd(steps=2, step_size=1/255)", "pgd(steps=2, step_size=1.5/255)"]
    store, stored = first.folder, first.folder.read_plan()
    saved = seal.without_comment((tmp_path / "run/suite.yaml").read_text())
    older = saved.replace("1/255)", "1:255)").replace("1.5/255)", "1.5:255)")
    assert older.count(":255)") == 2
    store._write_suite(older, all_sealed=True)
    with monkeypatch.context() as patched:
        patched.setattr(store, "_suite_text", lambda suite: older)
        store.write_plan(first.plan.suite, stored.text.replace("1/255)", "1:255)").replace("1.5/255)", "1.5:255)"))
    opened = open_folder(tmp_path / "run", Registry())
    assert list(opened.data.attacks) == labels and opened.data.records.equals(first.data.records)
    (tmp_path / "run/plan.json").unlink()
    again = run_toy(text, tmp_path / "run")
    assert again.jobs == 0 and [cell.id for cell in again.plan.cells] == [cell.id for cell in first.plan.cells]
    assert ":255)" not in (tmp_path / "run/suite.yaml").read_text()


def test_the_plan_is_that_of_the_last_run(run_toy, registry, tmp_path):
    from harness.flow import open_folder, run_status

    text = "{name: t, datasets: [toy], metrics: [linear], attacks: [noise], budgets: {linf: [4/255]}}"
    wide = run_toy(text, tmp_path / "run")
    narrow = run_toy(text.replace("}}", "}, limit: 8}"), tmp_path / "run")
    assert narrow.jobs == 0 and run_status(tmp_path / "run", Registry())["blocks"] == 1
    opened = open_folder(tmp_path / "run", Registry())  # without the plugin
    assert opened.data.limit == 8 and opened.data.records.equals(narrow.data.records)
    assert len(run_toy(text, tmp_path / "run").data.records) == len(wide.data.records) > len(narrow.data.records)
    assert run_status(tmp_path / "run", Registry())["done"] == 3
