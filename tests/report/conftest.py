"""A made-up run whose shifts, ties and draws are known, for the report's tests."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from harness.engine.record import EVERY_NAME
from harness.report.data import DatasetFacts, RunData
from harness.wording import base_name

BUDGETS = (2 / 255, 4 / 255, 8 / 255, 10 / 255)
GAIN = {"psnr": 6.0, "ssim": 1.5, "birqa-tiny": 4.0}
STRENGTH = {"noise": -0.3, "restore": 0.5, "fgsm": 0.6, "pgd(steps=10)": 1.2}
CONTROLS = ("noise", "restore")


@pytest.fixture(scope="session")
def make_run():
    """The maker of synthetic runs."""
    return synthetic_run


@pytest.fixture(scope="session")
def run():
    """One synthetic run of the default size; not to be changed."""
    return synthetic_run()


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, the one that the system has; tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens a page from a file; at the end it must have said nothing on the console and asked the network for nothing.

    ``open_page(path, hash="#eps=2/255", color_scheme="dark", viewport={...})`` gives playwright's page.
    """
    contexts, wrong = [], []

    def opened(path, hash="", **options):
        contexts.append(context := chromium.new_context(**options))
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda one: None if one.url.startswith(("file:", "data:", "blob:")) else wrong.append(one.url)
        )
        page.goto(path.as_uri() + hash)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def synthetic_run(images: int = 96, references: int = 24, defense: bool = True, triplets: bool = True) -> RunData:
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(7)
    opinion = np.round(rng.uniform(0, 1, images), 2)
    for metric in GAIN:
        clean = opinion + rng.normal(0, 0.12, images)
        rows += _pairs(metric, "base", "none", metric, opinion, clean, references, rng)
        if defense and metric == "birqa-tiny":
            rows += _pairs(metric, "flip", "oblivious", metric, opinion, clean, references, rng, draws=2, share=0.5)
    datasets = {
        "mini": DatasetFacts("mini", "test", "proxy", "pairs", images, references, float(opinion.mean())),
    }
    medians = {("mini", metric, kind): 0.5 for metric in GAIN for kind in ("base", "flip")}
    if triplets:
        rows += _triplets(rng)
        datasets["mini_2afc"] = DatasetFacts("mini_2afc", "val", "proxy", "triplets", 40, 20, None)
    return RunData(
        name="synthetic",
        records=pd.DataFrame(rows)[list(EVERY_NAME)],
        datasets=datasets,
        medians=medians,
        directions=["up", "mos_split"],
        tables=[],
        seed=0,
        slice_size=32,
        limit=96,
        versions={"robustiqa": "0.1.0", "torch": "2.13.0"},
        notices=["mini is an embedded set with proxy labels: it says nothing about people."],
        failures=[],
        weights={"birqa-tiny": "sha256 ab12, BiRQA (reimplementation, stem stride 4)"},
    )


def _row(**columns: object) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(EVERY_NAME, np.nan)
    empty |= {
        "patch": "",
        "group": "",
        "control": False,
        "norm": "",
        "eps": 0.0,
        "draw": 0,
        "sign": 0,
        "endpoint": "",
        "torch": "2.13.0",
        "device": "cpu",
        "status": "ok",
    }
    empty |= {
        "forwards": 11.0,
        "backwards": 10.0,
        "queries": 0.0,
        "zero_gradients": 0.0,
        "constant_gradients": 0.0,
        "seconds": 0.02,
        "batch": 32,
        "linf": 0.0,
        "l2": 0.0,
    }
    empty["plugin"] = base_name(str(columns["attack"]))
    return empty | {"cluster": columns["reference"]} | columns


def _pairs(
    metric: str,
    defense: str,
    threat: str,
    source: str,
    opinion: np.ndarray,
    clean: np.ndarray,
    references: int,
    rng: np.random.Generator,
    draws: int = 1,
    share: float = 1.0,
) -> list[dict[str, object]]:
    rows = []
    sensitivity = rng.uniform(0.4, 1.6, len(opinion))
    for draw in range(draws):
        quality = clean + (rng.normal(0, 0.03, len(clean)) if draws > 1 else 0)
        for i, y in enumerate(opinion):
            common = {
                "dataset": "mini",
                "metric": metric,
                "defense": defense,
                "threat": threat,
                "source": source,
                "item": f"i{i:03}",
                "sample": f"i{i:03}",
                "reference": f"r{i % references:02}",
                "group": ("blur", "jpeg")[(i // references) % 2],
                "level": float(1 + i // (2 * references)),
                "opinion": y,
                "draw": draw,
                "clean": quality[i],
            }
            rows.append(_row(**common, attack="clean", pristine=1.1, attacked=quality[i], attacked_8bit=quality[i]))
            for attack, strength in STRENGTH.items():
                for eps in BUDGETS:
                    for sign in (0,) if attack in CONTROLS else (1, -1):
                        step = share * GAIN[metric] * strength * eps * 6 * sensitivity[i] * (sign or 1) / 2
                        rows.append(
                            _row(
                                **common,
                                attack=attack,
                                control=attack in CONTROLS,
                                sign=sign,
                                endpoint={1: "up", -1: "down"}.get(sign, ""),
                                norm="linf",
                                eps=eps,
                                attacked=quality[i] + step,
                                attacked_8bit=quality[i] + 0.9 * step,
                                linf=eps,
                                status="start" if attack == "fgsm" and i % 10 == 0 else "ok",
                            )
                        )
    return rows


def _triplets(rng: np.random.Generator) -> list[dict[str, object]]:
    rows = []
    judge = rng.choice([0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0], 40)
    for metric in ("ssim", "birqa-tiny"):
        for i, share in enumerate(judge):
            better = 1 if share > 0.5 else 0
            for patch in (0, 1):
                clean = 0.5 + 0.2 * (patch == better) * (i % 4 > 0) + rng.normal(0, 0.01)
                common = {
                    "dataset": "mini_2afc",
                    "metric": metric,
                    "defense": "base",
                    "threat": "none",
                    "source": metric,
                    "item": f"t{i:02}#p{patch}",
                    "sample": f"t{i:02}",
                    "patch": f"p{patch}",
                    "reference": f"t{i // 2:02}",
                    "group": ("traditional", "cnn")[i % 2],
                    "judge": share,
                    "clean": clean,
                }
                rows.append(_row(**common, attack="clean", pristine=1.1, attacked=clean, attacked_8bit=clean))
                sign = -1 if patch == better else 1
                for attack, strength in STRENGTH.items():
                    for eps in BUDGETS:
                        control = attack in CONTROLS
                        end = clean + strength * eps * 5 * GAIN[metric] / 2 * (1 if control else sign)
                        rows.append(
                            _row(
                                **common,
                                attack=attack,
                                control=control,
                                sign=0 if control else sign,
                                endpoint="" if control else {1: "up", -1: "down"}[sign],
                                norm="linf",
                                eps=eps,
                                attacked=end,
                                attacked_8bit=end,
                            )
                        )
    return rows
