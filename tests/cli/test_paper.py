"""The paper's tables and figures by name: their suites say what the paper says, and one that fails does not lose the others."""

import csv
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.cli.paper_parts import small
from harness.cli.paper_parts.items import ITEMS, PaperItem, folder_of_suites, items_named, recipe_path
from harness.cli.paper_parts.missing import need_of
from harness.cli.paper_parts.small import make_small, write_page
from harness.engine.progress import Progress
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.compose import read
from harness.suite.layout_file import read_layouts
from harness.training.feature_sets import FeatureRuns
from harness.training.recipe_file import read_recipe

PAPER = folder_of_suites() / "paper"
REGISTRY = Registry()


def published(table, column):
    with next((PAPER / "published").glob(f"{table}_*.csv")).open(encoding="utf-8") as file:
        return list(dict.fromkeys(row[column] for row in csv.DictReader(file)))


def suite(name):
    return read(PAPER / name).value


def names(entries):
    return [entry if isinstance(entry, str) else entry.get("label") or entry["name"] for entry in entries]


def test_every_suite_and_recipe_is_there_and_is_somebody_s():
    named = {name for item in ITEMS for name in item.suites}
    assert named == {path.name for path in PAPER.glob("*.yaml")} - {"figure4.yaml", "figure4_mini.yaml"}
    for item in ITEMS:
        for recipe in (*item.recipes, *item.mini_recipes):
            read_recipe(recipe_path(recipe))
        assert not item.instead or (PAPER / item.instead).is_file()
        written = "".join((PAPER / name).read_text() for name in item.suites)
        assert all(path in written for path in item.retrained)
        if item.suites:
            small = read(PAPER / f"mini/{item.name}.yaml").value
            assert {one["name"] for one in small["datasets"]} <= {"mini", "mini_2afc"} and small["limit"] <= 96
            for path in (layout for part in (small, suite(item.suites[0])) for layout in part.get("layouts", [])):
                assert [spec.name for spec in read_layouts(PAPER / path)] == [item.name]
                assert (PAPER / "mini" / path).is_file()


def test_the_suites_have_the_attacks_and_budgets_of_the_paper():
    """Against the published tables and Section 5: E = {2, 4, 8, 10}/255; tables 7 and 9 at 8/255."""
    said = {"FGSM": "fgsm", "C&W": "cw", "AutoAttack": "autoattack", "FACPA": "facpa", "Zhang et al.": "zhang"}
    said |= {"SquareAttack": "square", "Parsimonious": "parsimonious"}
    controls = {"noise", "restore"}
    for table, here in (("table3", "table3.yaml"), ("table7", "table7.yaml"), ("table9", "table9.yaml")):
        attacks = {said[name] for name in published(table, "attack") if name in said}
        assert set(names(suite(here)["attacks"])) - controls == attacks
    for here in ("table3.yaml", "figure6.yaml"):
        assert suite(here)["budgets"]["linf"] == [2 / 255, 4 / 255, 8 / 255, 10 / 255]
    assert suite("table7.yaml")["budgets"] == suite("table9.yaml")["budgets"] == {"linf": [8 / 255]}
    assert suite("table4.yaml")["splits"] == suite("table6.yaml")["splits"] == 10
    assert len(suite("table8.yaml")["contrasts"]) == 7 * 6 / 2


@pytest.mark.parametrize("name", ["table3", "table8", "table9", "figure5"])
def test_what_is_missing_is_named_and_nothing_else_is_wrong(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    need = need_of(items_named([name])[0], REGISTRY)
    assert not need.other and need.hours is None and not need.done
    base, aat = {"birqa@base"}, {"birqa@base", "birqa@aat"}
    data, published, trained = {
        "table3": (
            {"kadid10k"}, {"lpips-alex", "topiq"},
            {*base, *(f"{metric}@{made}" for metric in ("lpips-alex", "topiq", "birqa") for made in ("r", "at", "aat"))},
        ),
        "table8": ({"pipal", "kadid10k"}, {"lpips-vgg", "dists", "topiq"}, aat),
        "table9": ({"bapps", "kadid10k"}, set(), aat),
        "figure5": ({"kadid10k"}, set(), aat),
    }[name]  # fmt: skip
    assert (set(need.data), set(need.published), set(need.trained)) == (data, published, trained)
    assert need.by_hand == (("256x256_diffusion_uncond",) if name == "table9" else ())
    assert "to train birqa" in need.told


def test_one_that_fails_does_not_lose_the_others_and_the_page_keeps_what_was_made(tmp_path):
    broken = PaperItem("table99", "no suite", "layout")
    made = make_small([broken, *items_named(["table1", "table10"])], tmp_path, REGISTRY, Progress(), lambda line: None)
    assert ["table99.yaml" in one.failed for one in made] == [True, False, False]
    assert "KADID-10k" in write_page(made, tmp_path).read_text()
    page = write_page(make_small(items_named(["table5"]), tmp_path, REGISTRY, Progress(), lambda line: None), tmp_path)
    text = page.read_text()
    assert all(f'id="{name}"' in text for name in ("table1", "table5", "table10"))
    assert Path(tmp_path / "table5.csv").is_file()


def test_an_unknown_table_is_refused():
    with pytest.raises(UserError, match=r"paper tabel3: no such table or figure\. Did you mean 'table3'\?"):
        items_named(["tabel3"])


def test_figure3_is_timed_again_only_when_its_protocol_or_its_metrics_change(tmp_path):
    stored = tmp_path / "fps.csv"
    page = {"protocol": {**small.protocol_words(small._SPEED)}, "rows": [{"metric": "psnr"}]}
    assert not small._timed(stored, ["psnr"])
    stored.write_text("metric\npsnr\n")
    stored.with_suffix(".json").write_text(json.dumps(page))
    assert small._timed(stored, ["psnr"]) and not small._timed(stored, ["psnr", "ssim"])
    page["protocol"]["forwards"] = 100
    stored.with_suffix(".json").write_text(json.dumps(page))
    assert not small._timed(stored, ["psnr"])


@pytest.mark.parametrize(
    "command",
    [["paper", "--mini"], ["features", str(PAPER / "figure4_mini.yaml"), "--dry-run"]],
    ids=["paper", "features"],
)
def test_a_file_in_place_of_a_folder_is_told_once(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as end:
        main([*command, "--out", str(tmp_path / "file")])
    said = capsys.readouterr()
    assert end.value.code == 2 and not said.out and (tmp_path / "file").read_text() == "mine"
    assert (
        said.err == f"error: --out {tmp_path / 'file'}: a file, and a folder is to be written. Choose another place.\n"
    )


def test_figure_4_needs_its_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(FeatureRuns, "trained", lambda runs, one: None)  # reads the recipe of each of 310
    need = need_of(items_named(["figure4"])[0], REGISTRY)
    assert need.data == ("kadid10k",) and "feature sets to train" in need.other[0]
