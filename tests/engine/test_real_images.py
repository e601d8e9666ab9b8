"""The engine on real images: the embedded data set, its triplets, and human-rated photographs."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.report.grouped import as_texts
from harness.suite.resolve import load_suite, validate
from harness.suite.strict_yaml import parse_text


@pytest.fixture(scope="module")
def shipped():
    return Registry()


@pytest.fixture
def run(shipped, tmp_path):
    def call(text, name="run", **options):
        suite = validate(parse_text(text, "suite.yaml"), shipped)
        return run_suite(suite, shipped, Options(out=tmp_path / name, **{"executor": "serial", **options}))

    return call


def test_psnr_agrees_with_human_scores_as_published(run, test_data, tmp_path):
    build = test_data / "tid2013_subset" / "build.py"
    subprocess.run([sys.executable, str(build), str(tmp_path / "tid")], check=True, capture_output=True)
    text = f"name: tid\ndatasets: [{{name: tid2013, root: {tmp_path / 'tid'}}}]\nmetrics: [psnr]\nattacks: []\n"
    result = run(text, executor="processes", workers=2)
    assert len(result.data.records) == 360
    (table,) = [t for t in result.tables if t.name == "srocc"]
    assert abs(float(table.frame["clean_srocc"].iloc[0]) - 0.404) < 0.003
    assert "human" in table.title and "360 images" in table.protocol and "proxy" not in table.title
    (types,) = [t for t in result.tables if t.name == "per_type"]
    blur = types.frame[types.frame["type_name"] == "08 Gaussian blur"].iloc[0]
    assert abs(blur["srocc"] - 0.967) < 0.001 and blur["references"] == 24
    (order,) = [t for t in result.tables if t.name == "ordering"]
    share = order.frame.set_index("test")["oracle_share"]["L"]
    assert share == 239 / 240, "of the pairs of blur, one is seen the other way round by people"
    told = " ".join(order.notes)
    assert all(name in told for name in ("16 Mean shift (signed", "17 Contrast change (signed", "human opinion scores"))


QUICK = """
name: quick
datasets: [mini]
metrics: [psnr, birqa-tiny]
attacks: [noise, restore, fgsm, {name: pgd, steps: 5, label: pgd}]
budgets: {linf: [8/255]}
directions: [up, mos_split, self_split]
"""


def test_same_sign_and_image_in_a_run_of_8_and_of_24_with_other_workers(run):
    few, many = run(QUICK + "limit: 8\n", "few"), run(QUICK + "limit: 24\n", "many", executor="processes", workers=2)
    columns = ["sign", "clean", "attacked", "attacked_8bit", "linf", "l2", "forwards", "status"]
    keys = ["metric", "item", "attack", "sign"]
    left = as_texts(few.data.records).set_index(keys, drop=False)[columns]
    right = as_texts(many.data.records).set_index(keys, drop=False)[columns].loc[left.index]
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert few.data.medians == many.data.medians and few.data.datasets == many.data.datasets


def test_what_quickstart_claims(run):
    result = run(QUICK + "limit: 24\n")
    frame = result.data.records
    for metric in ("psnr", "birqa-tiny"):
        mine = frame[frame["metric"] == metric]
        for attack, sign in (("fgsm", 1), ("fgsm", -1), ("pgd", 1), ("pgd", -1)):
            rows = mine[(mine["attack"] == attack) & (mine["sign"] == sign)]
            assert ((rows["attacked"] - rows["clean"]) * sign >= 0).all(), "the engine keeps the better"
            assert rows["linf"].max() <= 8 / 255 + 1e-6
        down = mine[(mine["attack"] == "pgd") & (mine["sign"] == -1)].set_index("item")["attacked"]
        noise = mine[mine["attack"] == "noise"].set_index("item")["attacked"]
        assert (down < noise[down.index]).all(), "an attack lowers more than noise of the same size"
        assert (mine[mine["attack"] == "restore"]["attacked"] > mine[mine["attack"] == "restore"]["clean"]).mean() > 0.8
    headings = [t.title for t in result.tables if t.name in ("srocc", "pair_accuracy", "shift")]
    assert headings and all("proxy" in title for title in headings)
    assert all(t.protocol for t in result.tables)


def test_24_triplets_from_mini(run):
    text = QUICK.replace("[mini]", "[mini_2afc]").replace("psnr, birqa-tiny", "ssim")
    result = run(text)
    frame = result.data.records
    assert frame["sample"].nunique() == 24 and set(frame["patch"]) == {"p0", "p1"}
    attacked = frame[frame["attack"] == "pgd"]
    assert len(attacked) == 48, "each patch in one direction only"
    preferred = np.where(attacked["judge"] > 0.5, "p1", "p0")
    assert ((attacked["patch"] == preferred) == (attacked["sign"] == -1)).all()
    (table,) = [t for t in result.tables if t.name == "two_afc"]
    assert "proxy" in table.title


def test_the_shipped_suites_are_valid(shipped):
    from pathlib import Path

    suite = load_suite(Path(__file__).parents[2] / "suites" / "quickstart.yaml", shipped)
    assert [m.label for m in suite.metrics] == ["psnr", "ssim", "birqa-tiny"] and suite.limit == 96
    assert [a.name for a in suite.attacks] == ["noise", "restore", "fgsm", "pgd"]
    assert [round(eps * 255) for _, eps in suite.budgets] == [2, 4, 8, 10]


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, toy_file):
    """Peak memory of a run of 40 and of 400 samples of 96 px; all 400 images together would take 88 MB."""

    def peak(references):
        suite = tmp_path / f"{references}.yaml"
        suite.write_text(
            f"name: m{references}\ndatasets: [{{name: toy, references: {references}, size: 96}}]\n"
            "metrics: [negative_mse]\nattacks: [noise]\nbudgets: {linf: [8/255]}\n"
        )
        code = (
            "import resource, sys\nfrom harness.cli import main\n"
            f"try: main(['run', {str(suite)!r}, '--plugin', {str(toy_file)!r}, '--executor', 'serial', '-q',"
            f" '--out', {str(tmp_path / f'r{references}')!r}])\nexcept SystemExit as end: assert not end.code\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) / 1024

    assert peak(80) - peak(8) < 30
