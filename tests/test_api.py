"""The Python door: what `robustiqa` and `harness` export, as a person uses it."""

import doctest
import importlib
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import harness
import robustiqa
from harness.errors import UserError

PUBLIC = (
    "harness",
    "robustiqa",
    *(f"harness.{name}" for name in ("api", "contracts", "errors", "engine.one_pair", "report.compare", "suite.model")),
)
TINY = {
    "name": "tiny",
    "datasets": ["mini"],
    "metrics": ["psnr", "ssim"],
    "attacks": ["fgsm", "restore"],
    "budgets": {"linf": [8 / 255]},
    "directions": ["up", "down"],
    "limit": 4,
    "save_examples": 2,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return harness.run(TINY, out=tmp_path_factory.mktemp("door") / "tiny", executor="serial", progress=False)


def test_every_public_docstring_has_an_example_and_every_example_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tested = {}
    for module in map(importlib.import_module, PUBLIC):
        for case in doctest.DocTestFinder(exclude_empty=True).find(module, globs=dict(vars(module))):
            if case.examples:
                tested[case.name.rpartition(".")[2]] = doctest.DocTestRunner().run(case)
    assert {name: result.failed for name, result in tested.items() if result.failed} == {}
    methods = {name for name in vars(harness.Run) if not name.startswith("_")}
    assert {*harness.__all__, *methods} - set(tested) == set()


def test_both_names_offer_the_same_and_import_nothing_heavy():
    code = (
        "import sys, harness, robustiqa\n"
        "assert dir(harness) == dir(robustiqa) and 'run' in dir(harness)\n"
        "slow = {'torch', 'pandas', 'scipy', 'pydantic', 'yaml', 'numpy'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(harness, name) is getattr(robustiqa, name) for name in harness.__all__)
    assert robustiqa.__version__ == harness.__version__
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        robustiqa.runn


def test_a_script_without_a_guard_runs_a_suite_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import robustiqa\nprint('begun')\n"
        "found = robustiqa.run({'name': 'clean', 'datasets': ['mini'], 'metrics': ['psnr']}, limit=4, workers=2)\n"
        "print(len(found.records()))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["begun", "4"]), done.stderr


def test_a_run_is_records_tables_a_figure_and_attacked_images(tiny):
    records = tiny.records()
    assert set(records["attack"]) == {"clean", "fgsm", "restore"} and len(records) > 0
    records["attack"] = "changed"
    assert "changed" not in set(tiny.records()["attack"]), "records are the caller's own"
    assert {"srocc", "shift"} <= set(tiny.tables)
    assert len(tiny.tables["shift"]) == 2 * 3  # two metrics; fgsm up and down, and restore
    assert tiny.figure().size == tiny.figure("mini").size
    with pytest.raises(UserError, match=re.escape("no figure 'minni'. Did you mean 'mini'?")):
        tiny.figure("minni")
    assert tiny.report_path.is_file() and tiny.failures == []
    again = harness.open_run(tiny.folder)
    assert again.records().equals(tiny.records()) and repr(again) == repr(tiny)
    page = tiny._repr_html_()
    assert "<table>" in page and "psnr" in page and "<li>" in page


def test_kept_examples_are_scored_as_score_does(tiny):
    examples = tiny.examples()
    assert len(examples) == 2 * 2 * 3
    for kept in examples:
        assert float(harness.score(kept.metric, kept.reference, kept.distorted)) == pytest.approx(kept.clean, rel=1e-5)
        assert float(harness.score(kept.metric, kept.reference, kept.attacked)) == pytest.approx(kept.score, rel=1e-5)
    assert "base64" in examples[0]._repr_html_()


def test_keys_replace_those_of_the_file_or_the_mapping(tmp_path, tiny):
    file = tmp_path / "suite.yaml"
    file.write_text("name: small\ndatasets: [mini]\nmetrics: [psnr, ssim]\nlimit: 4\n")
    for suite in (file, str(file), {"name": "small", "datasets": ["mini"], "metrics": ["psnr", "ssim"], "limit": 4}):
        found = harness.run(suite, metrics=["psnr"], out=tmp_path / "out", executor="serial", progress=False)
        assert set(found.records()["metric"]) == {"psnr"}
    attacked = {"attacks": ["fgsm"], "budgets": {"linf": [8 / 255]}, "directions": ["up"]}
    replaced = harness.run({**TINY, **attacked}, budgets={"linf": [4 / 255]}, out=tmp_path / "budget", progress=False)
    assert set(replaced.records()["eps"].round(6)) == {0.0, round(4 / 255, 6)}, "a key is replaced, not merged"
    suite = tiny._result.plan.suite
    found = harness.run(suite, limit=2, out=tmp_path / "suite", executor="serial", progress=False)
    assert isinstance(suite, harness.Suite) and found.records()["sample"].nunique() == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: harness.run({**TINY, "metrics": ["psnrr"]}), "suite: metrics.0.name: unknown metric 'psnrr'"),
        (lambda: harness.run({**TINY, "attacks": [{"name": "pgd", "step": 3}]}), "suite: attacks.0.step: 'pgd' has no"),
        (lambda: harness.run({"datasets": ["mini"], "metrics": ["psnr"]}), "suite: the key 'name' is missing."),
        (lambda: harness.run(TINY, limit=0), "limit 0: should be a whole number of at least 1."),
        (lambda: harness.run(TINY, colour="red"), "suite: colour: unknown key 'colour'"),
        (lambda: harness.run({**TINY, "extends": "no.yaml"}), "no.yaml: no such file"),
        (lambda: harness.run(TINY, workers=-1), "workers -1: should be a whole number of at least 1."),
        (lambda: harness.run(TINY, seed="4"), "seed '4': should be a whole number of at least 0."),
        (lambda: harness.run(TINY, budgets={"l2": [0]}), "suite: budgets.l2.0: should be above 0, got 0."),
        (lambda: harness.run(TINY, extends="no.yaml"), "'extends' cannot be given beside a suite"),
        (lambda: harness.run(TINY, only=3), "only 3: should be METRIC/ATTACK"),
        (lambda: harness.run(TINY, out=3), "out 3: should be a path."),
        (lambda: harness.open_run(None), "folder None: should be a path."),
        (lambda: harness.list_metrics(plugins=3), "plugins 3: should be a path or a list of paths."),
        (lambda: harness.run(TINY, plugins="none.py"), "plugin file none.py: no such file."),
        (lambda: harness.run("no.yaml"), "no.yaml: no such file."),
        (lambda: harness.run("no.yaml", metrics=["psnr"]), "no.yaml: no such file."),
        (lambda: harness.run(7), "a suite is a path, a mapping or a Suite, not int."),
        (lambda: harness.run(TINY, executor="rey"), "executor 'rey': should be serial, processes or ray."),
        (lambda: harness.run(TINY, device="banana", progress=False), "device 'banana'"),
        (lambda: harness.run(TINY, plugins=["none.py"]), "plugin file none.py: no such file."),
        (lambda: harness.open_run("nowhere"), "nowhere: no run folder"),
    ],
)
def test_a_mistake_is_a_user_error(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)):
        call()
    assert not (tmp_path / "results").exists()


REF = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
DIST = REF + 0.1


@pytest.mark.parametrize("attack", ["fgsm", {"name": "pgd", "steps": 5}, {"name": "square", "queries": 40}])
def test_an_attack_of_one_pair_moves_the_score_and_keeps_the_budget(attack):
    for direction, sense in (("up", 1), ("down", -1)):
        found = harness.attack("ssim", REF, DIST, attack, eps=4 / 255, direction=direction)
        assert sense * (found.score - found.clean) > 0 and found.linf <= 4 / 255 + 1e-6
        assert float(harness.score("ssim", REF, found.attacked)) == pytest.approx(found.score, abs=1e-6)
        assert found.forwards and found.status == "ok"


def test_attacks_of_one_pair_reach_the_closed_form():
    """PSNR is a function of the error: inside the ball its maximum is the image taken to its reference."""
    up = harness.attack("psnr", REF, DIST, {"name": "pgd", "steps": 40, "step_size": 1 / 255}, eps=0.05, direction="up")
    assert up.score == pytest.approx(20 * np.log10(1 / 0.05), abs=0.05)
    restored = harness.attack("psnr", REF, DIST, "restore", eps=0.05)
    assert restored.score == pytest.approx(20 * np.log10(1 / 0.05), abs=1e-3) and restored.direction == ""
    down = harness.attack("psnr", REF, DIST, "fgsm", eps=0.05)
    assert down.score == pytest.approx(20 * np.log10(1 / 0.15), abs=1e-3)
    l2 = harness.attack("psnr", REF, DIST, "pgd", eps=1.0, norm="l2")
    assert l2.l2 <= 1 + 1e-4 and l2.score < l2.clean


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"attack": "pdg"}, "attack 'pdg': unknown attack 'pdg'. Did you mean 'pgd'?"),
        ({"attack": {"name": "pgd", "stepz": 2}}, "attack 'pgd': stepz: 'pgd' has no parameter 'stepz'."),
        ({"attack": None}, "attack None: should be a name, or a mapping such as"),
        ({"attack": {"steps": 3}}, "attack {'steps': 3}: should be a name"),
        ({"parameters": {"name": "ssim"}}, "parameters: 'name' is no parameter of a metric."),
        ({"parameters": [1]}, "parameters [1]: should be a mapping"),
        ({"seed": -1}, "seed -1: should be a whole number of at least 0."),
        ({"seed": 2**64}, "seed 18446744073709551616: should be at most 18446744073709551615."),
        ({"eps": True}, "eps True: should be a number above 0"),
        ({"attack": "facpa"}, "attack 'facpa' learns from a data set before it attacks. Run it in a suite."),
        ({"attack": "fgsm", "norm": "l2"}, "attack 'fgsm' works in linf, not in l2."),
        ({"direction": "mos_split"}, "direction 'mos_split': should be 'up' or 'down'."),
        ({"eps": 0}, "eps 0: should be a number above 0"),
        ({"eps": 2.0}, "eps 2.0: should be a number above 0, in linf at most 1"),
        ({"norm": "l1"}, "norm 'l1': should be 'linf' or 'l2'."),
        ({"dist": DIST[:, :, :20]}, "ref has 32 x 32 pixels and dist has 20 x 32."),
        ({"metric": "birqa"}, "'birqa' needs weights"),
    ],
)
def test_a_wrong_attack_of_one_pair_is_a_user_error(arguments, said):
    with pytest.raises(UserError) as raised:
        harness.attack(**{"metric": "psnr", "ref": REF, "dist": DIST, **arguments})
    assert said in str(raised.value)


def test_notebooks_get_a_bar(monkeypatch):
    from harness.engine import progress
    from harness.engine.worker import Done

    monkeypatch.setattr(progress, "_NO_RATE_BELOW_S", 0.0)
    drawn = []

    class Handle:
        def update(self, page):
            drawn.append(page.data)

    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "display", lambda *_, **__: Handle())
    with progress.NotebookProgress() as bar:
        bar.stage("blocks", 2, 1)
        bar.began(0, SimpleNamespace(label="a & b"))
        bar.done(Done("one"))
        bar.at(0, "3 of 9 batches")
        bar.done(Done("two", 0, 1))
    assert '<progress max="2" value="0">' in drawn[0] and "attacking and scoring: 0 of 2" in drawn[0]
    assert "0 of 2; a &amp; b" in drawn[1] and "1 of 2, 0 s left; a &amp; b: 3 of 9 batches" in drawn[3]
    assert drawn[-1] == "<div>done after 0 s, 1 failed</div>"


def test_a_metric_that_fails_on_a_pair_is_a_user_error(tmp_path):
    file = tmp_path / "broken.py"
    body = "from harness.contracts import Metric, register\n"
    for name, line in (
        ("mean", "return dist.mean()"),
        ("boom", "raise ValueError('my bug')"),
        ("nan", "return dist[:, 0, 0, 0] * float('nan')"),
    ):
        body += f"\n@register('{name}')\nclass {name.title()}(Metric):\n    higher_is_better = True\n    def score(self, reference, dist):\n        {line}\n"
    file.write_text(body)
    for name, said in (
        ("mean", "score() returned shape ()"),
        ("boom", "ValueError: my bug"),
        ("nan", "gave no number (NaN)"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            harness.score(name, REF, DIST, plugins=file)
        with pytest.raises(UserError, match=f"'{name}'|{name}"):
            harness.attack(name, REF, DIST, plugins=str(file))


def test_numbers_of_numpy_are_numbers(tmp_path):
    found = harness.attack("psnr", REF, DIST, {"name": "pgd", "steps": 2}, eps=np.float32(0.25))
    assert found.eps == 0.25
    suite = {
        **TINY,
        "attacks": [{"name": "pgd", "steps": np.int64(2), "step_size": np.float64(0.01)}],
        "save_examples": 0,
    }
    found = harness.run(suite, out=tmp_path / "run", executor="serial", probes=False, progress=False)
    assert found.failures == []
