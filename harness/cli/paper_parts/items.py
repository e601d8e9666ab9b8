"""Every table and figure of the BiRQA paper by name: its suites, its recipes and its layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.suite.shipped import SUITES_FOLDER, shipped_folder
from harness.wording import did_you_mean

Becomes = Literal["layout", "datasets", "features", "parameters", "figure3", "figure4", "figure5", "figure6"]
"""What an item becomes: a laid-out table of its runs, a table that needs none, or a picture."""

_DEFENDED = ("vanilla", "penalised", "aat")


@dataclass(frozen=True)
class PaperItem:
    """A table or figure of the paper.

    Attributes:
        name: As `robustiqa paper` calls it.
        title: What it shows.
        kind: What becomes of its runs.
        suites: Suites at the paper's size, below `suites/paper`; the mini form has one suite, of the item's own name.
        instead: Where there is no suite, the file that it is made by, seen from `suites/paper`.
        recipes: What has to be trained for them, below `suites/train`, in order.
        retrained: Further weight files, which one of the recipes makes with other settings, as docs/paper.md says.
        mini_recipes: What its mini form trains first.
        mini: What the mini form has less of, in words that stand beside it.
    """

    name: str
    title: str
    kind: Becomes
    suites: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    retrained: tuple[str, ...] = ()
    mini_recipes: tuple[str, ...] = ()
    mini: str = ""
    instead: str = ""


_BASE = "defenses/birqa_base.yaml"
_ROBUST = tuple(f"defenses/{m}_{r}.yaml" for m in ("lpips_alex_heads", "topiq", "birqa") for r in _DEFENDED)
_SETS = ("live", "csiq", "tid2013", "pieapp", "pipal")
_ON_EACH = tuple(f"paper/{metric}_{name}.yaml" for name in _SETS for metric in ("birqa", "topiq", "lpips_vgg_whole"))
_MODULES = ("none", "csram", "csram_scgb")
_PROXY = "the embedded photographs, whose labels are proxies, and birqa-tiny"

ITEMS: tuple[PaperItem, ...] = (
    PaperItem("table1", "the data sets", "datasets"),
    PaperItem(
        "table2",
        "accuracy across data sets",
        "layout",
        ("table2.yaml", "table2_pipal.yaml"),
        (
            *(f"paper/{metric}_pipal.yaml" for metric in ("birqa", "topiq", "lpips_vgg_whole")),
            *("paper/lpips_vgg_whole_kadid10k.yaml", _BASE, "defenses/birqa_aat.yaml"),
        ),
        ("results/weights/paper/pipal/birqa@aat.safetensors",),
        mini=f"{_PROXY}; no other data set",
    ),
    PaperItem(
        "table3",
        "robustness of adversarially trained metrics",
        "layout",
        ("table3.yaml",),
        (_BASE, *_ROBUST),
        mini=f"16 of {_PROXY}; two budgets, weak attacks",
    ),
    PaperItem(
        "table4",
        "BiRQA without its modules",
        "layout",
        ("table4.yaml",),
        (*(f"paper/birqa_ablation_{one}.yaml" for one in _MODULES), "paper/birqa_kadid10k.yaml"),
        mini_recipes=tuple(f"paper/mini/birqa_tiny_ablation_{one}.yaml" for one in (*_MODULES, "whole")),
        mini=f"{_PROXY}, each trained for 60 steps",
    ),
    PaperItem("table5", "the features of BiRQA", "features"),
    PaperItem(
        "table6",
        "accuracy on five benchmarks",
        "layout",
        tuple(f"table6{one}.yaml" for one in ("", "_csiq", "_tid2013", "_pieapp", "_pipal")),
        _ON_EACH,
        tuple(f"results/weights/paper/{name}/{{split}}/birqa@aat.safetensors" for name in _SETS if name != "pieapp"),
        mini=f"{_PROXY}, which is made of such metrics",
    ),
    PaperItem(
        "table7",
        "2AFC accuracy under attack",
        "layout",
        ("table7.yaml",),
        (_BASE, *_ROBUST),
        mini="8 embedded triplets with proxy judges, and birqa-tiny; weak attacks, FACPA left out",
    ),
    PaperItem(
        "table8",
        "differences of SROCC",
        "layout",
        ("table8.yaml",),
        (_BASE, "defenses/birqa_aat.yaml"),
        mini=_PROXY,
    ),
    PaperItem(
        "table9",
        "purifiers beside adversarial training",
        "layout",
        ("table9.yaml",),
        (_BASE, "defenses/birqa_aat.yaml"),
        mini="8 embedded triplets with proxy judges, and birqa-tiny; weak attacks, an embedded denoiser for DiffPure",
    ),
    PaperItem("table10", "the settings of training", "parameters"),
    PaperItem(
        "figure3",
        "speed and accuracy",
        "figure3",
        ("figure3.yaml",),
        (_BASE,),
        mini=f"{_PROXY}; 3 forwards of 384 x 384 where the paper has 100 of 1920 x 1080",
    ),
    PaperItem(
        "figure4",
        "sets of features",
        "figure4",
        mini=f"{_PROXY}; 8 sets of 301, 40 steps each, 3 forwards",
        instead="figure4.yaml",
    ),
    PaperItem(
        "figure5",
        "the anchored loss and the bound of Theorem 1",
        "figure5",
        recipes=(_BASE, "defenses/birqa_aat.yaml"),
        mini_recipes=("paper/mini/birqa_tiny_aat.yaml",),
        mini=f"{_PROXY}, 40 steps",
        instead="../train/defenses/birqa_aat.yaml",
    ),
    PaperItem(
        "figure6",
        "SROCC against the budget",
        "figure6",
        ("figure6.yaml",),
        (_BASE, *(f"defenses/{one}_aat.yaml" for one in ("lpips_alex_heads", "topiq", "birqa"))),
        mini=f"32 of {_PROXY}",
    ),
)
"""In the order of the page."""


def items_named(names: Sequence[str]) -> list[PaperItem]:
    """The items of these names, or all.

    Raises:
        UserError: There is none of a name.
    """
    known = {item.name: item for item in ITEMS}
    for name in names:
        if name not in known:
            raise UserError(f"paper {name}: no such table or figure.{did_you_mean(name, list(known))}")
    return [known[name] for name in dict.fromkeys(names)] or list(ITEMS)


def folder_of_suites() -> Path:
    """Where the suites lie: in the current folder, or where they come with robustiqa.

    Raises:
        UserError: In neither.
    """
    for folder in (Path(SUITES_FOLDER), shipped_folder()):
        if (folder / "paper").is_dir():
            return folder
    raise UserError("the folder suites/paper of robustiqa is missing. Install robustiqa again.")


def recipe_path(name: str) -> Path:
    """Path of a recipe file by its name below `suites/train`."""
    return folder_of_suites() / "train" / name
