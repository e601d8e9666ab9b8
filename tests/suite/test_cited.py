"""`robustiqa cite`: what a suite or a run used, each paper once, and what has none or is gone."""

import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.cited import cited
from harness.suite.verdict_cells import MAY_BE_ADDED, added_plugins

ROOT = Path(__file__).parents[2]
QUICKSTART = {
    "goodfellow2015explaining": "attack fgsm",
    "gushchin_birqa": "the protocol that robustiqa reimplements, metric birqa-tiny, recipe clean (training of birqa-tiny)",
    "madry2018towards": "attack pgd",
    "robustiqa": "robustiqa itself, data set mini, data set mini_2afc, attack noise, attack restore",
    "wang2004ssim": "metric ssim",
    **dict.fromkeys(
        ("xue2014gmsd", "reisenhofer2018haarpsi", "zhang2011fsim", "sheikh2006vif"),
        "data set mini, data set mini_2afc",  # whose proxy quality is made of them
    ),
}
"""By hand, from suites/quickstart.yaml and the weights manifest."""


@pytest.fixture(scope="module")
def plugins():
    return Registry()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/defenses/birqa_aat", "a recipe"),
        ("paper/layouts/table2", "a layout of a table"),
        ("paper/figure4", "a file of feature sets"),
    ],
)
def test_files_of_other_kinds_are_refused_in_one_message(name, kind, plugins):
    path = ROOT / "suites" / f"{name}.yaml"
    with pytest.raises(UserError) as error:
        cited(path, plugins)
    assert str(error.value) == f"{path}: {kind}, which cites nothing. Give a suite file, or a run folder."


@pytest.fixture
def suite(tmp_path):
    def write(text):
        path = tmp_path / "suite.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def roles(found):
    return {reference.key: what for reference, what in found.entries}


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_quickstart_names_its_papers(plugins):
    found = cited(ROOT / "suites" / "quickstart.yaml", plugins)
    assert roles(found) == QUICKSTART and found.no_paper == "metric psnr" and not found.gaps()
    text = found.bibtex()
    assert re.findall(r"@[a-z]+\{(.*),", text) == sorted(QUICKSTART) and text.count("@") == len(QUICKSTART)
    assert "% attack fgsm\n@inproceedings{goodfellow2015explaining,\n  author = {Goodfellow, Ian J. and" in text
    assert "% No paper, as declared: metric psnr.\n" in text
    paragraph = (
        "Zhou Wang, Alan C. Bovik, Hamid R. Sheikh and Eero P. Simoncelli. Image Quality Assessment: From Error "
    )
    paragraph += "Visibility to Structural Similarity. IEEE Transactions on Image Processing 13(4), 600–612, 2004."
    assert f"\n\n{paragraph}\n    for metric ssim\n" in found.text()


def test_what_a_suite_reaches_by_others(suite, plugins):
    path = suite("""
        name: reach
        datasets: [kadid10k]
        metrics: [birqa-tiny, {name: folds, metric: topiq, weights: random}, 'piq:gmsd', 'pyiqa:cover']
        defenses: [base, [aat, jpeg, {name: flip}], {name: at, threat: adaptive}]
        attacks: [zhang, {name: pgd, matrix: {momentum: [0.0, 1.0]}}, square, 'torchattacks:FAB']
        budgets: {linf: [4/255]}
    """)
    found = cited(path, plugins)
    assert {
        "lin2019kadid10k": "data set kadid10k",
        "chen2024topiq": "metric folds",
        "kastryulin2022piq": "the library behind piq:",
        "chen2022pyiqa": "the library behind pyiqa:",
        "dziugaite2016jpg": "purifier jpeg",
        "chistyakova2024increasing": "recipe penalised (training of birqa-tiny@at)",
        "zhang2022perceptual": "attack zhang",
        "wang2004ssim": "metric ssim (asked for by penalised; asked for by zhang)",
        "madry2018towards": "attack pgd",
        "dong2018boosting": "attack pgd",
        "andriushchenko2020square": "attack square",
        "croce2020fab": "attack torchattacks:FAB",
        "kim2020torchattacks": "the library behind torchattacks:",
    }.items() <= roles(found).items()
    assert "metric piq:gmsd" in roles(found)["xue2014gmsd"], "beside mini, whose proxy quality is made of it"
    assert "recipe aat (training of birqa-tiny@aat)" in roles(found)["gushchin_birqa"]
    assert found.library_only == "metric pyiqa:cover" and found.no_paper == "purifier flip"
    assert found.unknown == [], "metrics whose weights are random or another library's have no training"
    assert "(training of birqa-tiny(at)aat)" in found.bibtex(), "the sign would begin an entry"


def test_added_cells_are_cited_and_what_may_be_added_is_known(suite, plugins):
    text = """
        name: verdicts
        datasets: [{}]
        metrics: [birqa-tiny]
        attacks: [pgd]
        budgets: {{linf: [4/255]}}
        verdicts: 8
    """
    found = roles(cited(suite(text.format("mini")), plugins))
    assert found["athalye2018obfuscated"] == "attack bpda (verdicts)"
    assert found["andriushchenko2020square"] == "attack square (verdicts)"
    from harness.suite.resolve import load_suite

    added = added_plugins(load_suite(suite(text.format("mini")), plugins), plugins)
    assert {kind: sorted(names) for kind, names in MAY_BE_ADDED.items()} == {
        kind: sorted(names) for kind, names in added.items()
    }
    found = roles(cited(suite(text.format("{name: csv, table: nowhere.csv}")), plugins))
    assert found["athalye2018obfuscated"] == "attack bpda (verdicts, perhaps)"


OWN = '''
from dataclasses import dataclass

from harness.contracts import Attack, Metric, register


@register("mine")
class Mine(Metric):
    higher_is_better = False
    cite = """@article{me2026mine, author = {Me, A. \\\\& B.}, title = {Mine \\\\& yours}, journal = {J}, year = 2026}"""

    def score(self, reference, dist):
        return (dist - reference).abs().flatten(1).mean(1)


@register("quiet")
@dataclass(frozen=True)
class Quiet(Attack):
    def perturb(self, objective, images, budget, rng):
        return images
'''


def own(folder, change=("", "")):
    file = folder / "own.py"
    file.write_text(OWN.replace(*change))
    return file


def test_a_finished_run_whose_plugins_and_weights_are_gone(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "provenance").mkdir(parents=True)
    shutil.copy(ROOT / "metrics_zoo" / "weights" / "manifest.json", tmp_path)
    known = json.loads((tmp_path / "manifest.json").read_text())["birqa-tiny@r"]["sha256"]
    calls = [
        {"plugins": [str(tmp_path / "own.py")], "versions": {"robustiqa": "0.1.5"}, "weights": {"birqa-tiny@r": known}},
        {"plugins": [], "versions": {"robustiqa": "0.2.0"}, "weights": {"birqa-tiny": "0" * 64}},
    ]
    (run / "provenance" / "invocations.json").write_text(json.dumps(calls))
    (run / "suite.yaml").write_text(
        textwrap.dedent("""
        name: old
        datasets: [{name: live, root: /gone}]
        metrics:
          - {name: mine, label: mine}
          - {name: birqa-tiny, label: birqa-tiny, weights: /gone/birqa-tiny.safetensors}
        defenses: [{name: r, label: r, weights: {birqa-tiny: /gone/birqa-tiny@r.safetensors}, threat: adaptive}]
        attacks: [quiet]
        budgets: {linf: [4/255]}
    """)
    )
    code, out, err = call(capsys, "cite", run)
    assert code == 0 and "% data set live\n@article{sheikh2006statistical," in out
    assert "note = {Versions 0.1.5 and 0.2.0}," in out
    assert "recipe vanilla (training of birqa-tiny(at)r)" in out, "by the sha256 that the run kept"
    assert "note: the run was made with --plugin" in err and "me2026mine" not in out
    assert (
        "note: Not known: metric mine, of which there is no plugin here; attack quiet, of which there is no plugin here; "
        "how the weights of metric birqa-tiny were trained (birqa-tiny.safetensors).\n"
    ) in err
    code, out, err = call(capsys, "cite", run, "--plugin", own(tmp_path))
    assert "% metric mine\n@article{me2026mine,\n  author = {Me, A. \\& B.},\n  title = {Mine \\& yours}," in out
    assert "note: Declares no reference: attack quiet.\n" in err and "the run was made with" not in err


def test_over_splits_the_weights_of_every_split_count(tmp_path, suite, plugins):
    """Named by hand: split 0 has clean weights and split 1 those of `r`; a finished run lists them, a suite numbers them."""
    shipped = json.loads((ROOT / "metrics_zoo" / "weights" / "manifest.json").read_text())
    for index, name in enumerate(("birqa-tiny", "birqa-tiny@r")):
        (tmp_path / f"{index}").mkdir()
        (tmp_path / f"{index}" / "manifest.json").write_text(json.dumps({"mine": shipped[name]}))
    of_split = [f"{tmp_path}/{index}/mine.safetensors" for index in (0, 1)]
    numbered = f"'{tmp_path}/{{split}}/mine.safetensors'"
    for weights in (json.dumps(of_split), numbered):
        text = f"{{name: a, datasets: [mini], metrics: [{{name: birqa-tiny, weights: {weights}}}], splits: 2}}"
        found = cited(suite(text), plugins)
        assert "recipe clean (training of mine), recipe vanilla (training of mine)" in str(roles(found)), roles(found)
        defense = f"{{name: own, weights: {{birqa-tiny: {weights}}}}}"
        text = f"{{name: a, datasets: [mini], metrics: [{{name: birqa-tiny, weights: random}}], defenses: [{defense}], splits: 2}}"
        assert "recipe vanilla (training of mine)" in str(roles(cited(suite(text), plugins)))


def test_one_key_for_two_papers_is_refused_and_what_is_no_bibtex_is_told(tmp_path, suite):
    path = suite("""
        name: own
        datasets: [mini]
        metrics: [ssim, mine]
    """)
    taken = Registry([own(tmp_path, ("me2026mine", "wang2004ssim"))])
    with pytest.raises(UserError, match=r"metric mine and metric ssim: they give the key 'wang2004ssim' to different"):
        cited(path, taken)
    other = tmp_path / "other"
    other.mkdir()
    (gap,) = cited(path, Registry([own(other, ("journal", "jurnal"))])).unknown
    assert (
        f"metric 'mine' from {other / 'own.py'}: what to cite cannot be read: entry 'me2026mine' lacks journal. Mend"
        in gap
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "suite.yaml:1:1: no suite; a suite is a mapping"),
        ("name: a\ndatasets: [mini]\nmetrics: [psnr]\nmetrcs: [x]\n", "unknown key 'metrcs'. Did you mean 'metrics'?"),
        ("name: a\ndatasets: [mini]\nmetrics: [psnr]\ndefenses: [{chain: x}]\n", "defenses.0.chain: should be a list"),
    ],
)
def test_bad_files_get_one_message(tmp_path, capsys, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(text)
    code, out, err = call(capsys, "cite", "suite.yaml")
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert call(capsys, "cite", tmp_path)[2].startswith(f"error: {tmp_path}: no run folder (no suite.yaml). Give the ")


def test_show_prints_what_to_cite(capsys):
    assert "cite: Zhou Wang, Alan C. Bovik, Hamid" in call(capsys, "show", "ssim")[1]
