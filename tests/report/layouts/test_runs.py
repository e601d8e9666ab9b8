import re
import shutil
from pathlib import Path

import pytest
import yaml

from harness.cli import main
from harness.report.layouts import FORMS
from harness.report.layouts.files import clear_others
from harness.suite.compose import files_of
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite, read_suite
from harness.suite.strict_yaml import LocatedError

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "layout.yaml"
SUITE = """
name: toy
datasets: [toy]
metrics: [linear, negative_mse]
attacks: [fgsm, {name: pgd, steps: 2, label: pgd}, {name: random_search, queries: 4, label: random_search}]
budgets: {linf: [8/255]}
directions: [up]
tables: [shift]
"""
INLINE = """
layouts:
  - {name: mine, rows: {metric: "*"}, columns: {statistic: [shift, srocc], attack: [fgsm]}, where: {direction: up}}
"""


def called(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def test_a_suite_writes_its_layouts_and_a_user_lays_out_the_run(run_toy, registry, toy_file, tmp_path, capsys):
    result = run_toy(SUITE + INLINE, tmp_path / "run")
    bare = make_plan(read_suite(yaml.safe_load(SUITE.replace("8/255", "0.03137254901960784")), registry), registry)
    assert [cell.id for cell in bare.cells] == [cell.id for cell in result.plan.cells], (
        "layouts are no part of identity"
    )
    written = sorted(path.name for path in (tmp_path / "run/report/layouts").iterdir())
    assert written == sorted(f"mine.{form}" for form in FORMS)
    page = (tmp_path / "run/report/layouts/mine.md").read_text(encoding="utf-8")
    assert "| linear |" in page.replace("\\", "") and "negative" in page and "Protocol: toy" in page

    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 20
    call = ["tables", tmp_path / "run", "--layout", EXAMPLE, "--plugin", toy_file]
    code, out, _ = called(capsys, *call, "--form", "tex", "--form", "csv")
    rows = (tmp_path / "run/report/own_layouts/by_knowledge.csv").read_text(encoding="utf-8").splitlines()
    assert code == 0 and "White box" in out and "not asked for by the suite: every row: Black box / Square" in out
    assert rows[0].startswith("Metric,Clean,Clean low,Clean high,White box / FGSM,") and len(rows) == 3
    assert len(list((tmp_path / "run/report/own_layouts").iterdir())) == 2

    for arguments, message in [
        ([*call[:1], tmp_path, *call[2:]], "no run folder"),
        ([*call, "--form", "pdf"], "unknown form 'pdf'"),
        ([*call[:2], "--layout", tmp_path / "none.yaml"], "none.yaml: no such file"),
        (["tables", "--layout", EXAMPLE, "--form", "tex"], "--form: nothing is written without a run. Give --out."),
        (["tables", "--layout", EXAMPLE], "has no published numbers"),
    ]:
        code, _, err = called(capsys, *arguments)
        assert code == 2 and "error: " in err and message in err


def test_what_robustiqa_fps_wrote_is_laid_out(tmp_path, capsys):
    head = "metric,fps,fps_low,fps_high,parameters,peak_memory,width,height,forwards,device,precision,threads,images\n"
    (tmp_path / "fps.csv").write_text(head + "psnr,15.25,14,16,0,,384,256,20,cpu,fp32,1,noise\n", encoding="utf-8")
    layout = "{name: speed, rows: {metric: [psnr]}, columns: {statistic: [fps, parameters, peak_memory]}, digits: 1}"
    (tmp_path / "speed.yaml").write_text(layout, encoding="utf-8")
    call = ["tables", "--layout", tmp_path / "speed.yaml", "--fps", tmp_path / "fps.csv", "--out", tmp_path / "out"]
    code, _, err = called(capsys, *call)
    page = (tmp_path / "out/speed.md").read_text(encoding="utf-8")
    assert code == 0 and re.search(r"\| psnr \| 15\.2 \| 0\.0 \| –", page), err
    assert "20 forwards of 384 x 256 on cpu in fp32" in page and "not measured: psnr: " in page.replace("\\", "")
    (tmp_path / "fps.csv").write_text("metric,fps\npsnr,3\n", encoding="utf-8")
    code, _, err = called(capsys, *call)
    assert code == 2 and "fps.csv: the column peak_memory is missing" in err


def test_a_layout_that_a_suite_has_no_more_is_removed(tmp_path):
    for name in ("old.md", "old.standalone.tex", "new.md", "notes.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    clear_others([tmp_path / "new.md"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.md", "notes.txt"]


def test_a_suite_names_files_of_layouts_beside_it(registry, tmp_path):
    (tmp_path / "deep").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "deep" / "own.yaml")
    (tmp_path / "suite.yaml").write_text(SUITE + "layouts: [deep/own.yaml]\n", encoding="utf-8")
    suite = load_suite(tmp_path / "suite.yaml", registry)
    assert [spec.name for spec in suite.layouts] == ["by_knowledge"]
    assert files_of(tmp_path / "suite.yaml") == [tmp_path / "suite.yaml", tmp_path / "deep/own.yaml"]
    again = read_suite(yaml.safe_load(yaml.safe_dump(suite.resolved())), registry)
    assert again == suite and again.layouts[0].where["budget"] == "8/255"


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        ("[own.yaml]", "own.yaml:2:1: colums: unknown key 'colums'. Did you mean 'columns'"),
        ("[none.yaml]", "none.yaml: no such file"),
        ("[3]", "suite.yaml:9:11: layouts.0: should be the name of a layout file, or a layout"),
        ("[{name: a}]", "suite.yaml:9:11: layouts.0: the key 'rows' is missing"),
    ],
)
def test_what_is_wrong_with_a_suites_layouts_is_told_at_its_place(registry, tmp_path, layouts, message):
    (tmp_path / "own.yaml").write_text("name: own\ncolums: {statistic: srocc}\nrows: {metric: '*'}\n", encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(f"{SUITE}layouts: {layouts}\n", encoding="utf-8")
    with pytest.raises(LocatedError, match=re.escape(message)):
        load_suite(tmp_path / "suite.yaml", registry)
