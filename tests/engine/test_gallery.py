"""The attacked images of a report's page: which are chosen, within which bytes, and that nothing cuts the choice short."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.engine.gallery import place_of_change
from harness.engine.gallery_choice import (
    FAILED_CASE,
    LARGEST_CASE,
    LEAST_CASE,
    MEDIAN_CASE,
    GalleryOutcome,
    choose_cases,
    fitting,
    in_page,
    page_limit,
)
from harness.engine.gallery_pool import POOL_SAMPLES, Pool
from harness.engine.run_folder import RunFolder, StoreError
from harness.flow import Options, run_suite
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

SUITE = """
name: shown
datasets: [{{name: toy, size: {size}}}]
metrics: [negative_mse, linear]
attacks: [noise, restore, {attacks}]
budgets: {{linf: [4/255, 8/255]}}
directions: [up, down]
limit: {limit}
tables: [srocc]
"""


def outcome(item, excess, reference="r", group="g"):
    return GalleryOutcome(item, "up", "cell", excess, {}, reference, group)


def planted():
    """Excesses 0, 1, ..., 100 on ten references of five types; the last three of one reference and type."""
    found = [outcome(f"i{k:03}", float(k - 9), f"r{k % 10}", f"g{k % 5}") for k in range(98)]
    return [*found, *(outcome(f"i{k:03}", float(k - 9), "same", "same") for k in range(98, 101))]


def test_the_largest_the_median_and_a_failure_are_chosen_apart():
    found = planted()
    keys = {one.key for one in found}
    choice = choose_cases(found, keys, ())
    cases = {case: one.excess for case, one in choice.cases.items()}
    # The median itself, 41, is of the reference and type of the failure; its neighbour 40 is of neither.
    assert cases == {LARGEST_CASE: 91.0, MEDIAN_CASE: 40.0, FAILED_CASE: -9.0} and list(cases) == [
        LARGEST_CASE,
        MEDIAN_CASE,
        FAILED_CASE,
    ]
    assert (choice.median, choice.failed, choice.count) == (41.0, 10, 101)
    assert (
        len({one.reference for one in choice.cases.values()}) == len({one.group for one in choice.cases.values()}) == 3
    )
    # Of several failures the one that another metric shows already.
    assert choose_cases(found, keys, [("r3", "i003")]).cases[FAILED_CASE].item == "i003"
    # Fewer candidates, the chosen among them: the same choice, so that a kill between two choices changes nothing.
    kept = {one.key for one in choice.cases.values()} | {found[60].key}
    assert choose_cases(found, kept, ()).cases == choice.cases
    assert (
        list(choose_cases(found, {found[80].key}, ()).cases) == [LARGEST_CASE] and not choose_cases(found, (), ()).cases
    )


def test_an_attack_that_fails_nowhere_is_said_to():
    found = [one for one in planted() if one.excess > 0]
    cases = choose_cases(found, {one.key for one in found}, ()).cases
    assert cases[LEAST_CASE].excess == 1.0 and FAILED_CASE not in cases


def test_bytes_stay_below_the_limit_and_medians_go_first():
    assert (page_limit(1), page_limit(3), page_limit(20)) == (800_000, 800_000, 4_000_000)
    rng = np.random.default_rng(0)
    metrics = [f"m{k}" for k in range(30)]
    cases = [
        (m, case, [rng.bytes(30_000) for _ in range(3)])
        for m in metrics
        for case in (LARGEST_CASE, MEDIAN_CASE, FAILED_CASE)
    ]
    whole = 30 * 3 * 3 * in_page(b"x" * 30_000)
    assert fitting(cases, whole) == [True] * 90
    for limit in (whole - 1, 9_000_000, 5_000_000, 800_000, 0):
        stays = fitting(cases, limit)
        size = sum(
            in_page(one) for stay, (_, _, pictures) in zip(stays, cases, strict=True) if stay for one in pictures
        )
        assert size <= limit
        left = [(metric, case) for stay, (metric, case, _) in zip(stays, cases, strict=True) if stay]
        per_metric = {m: {case for metric, case in left if metric == m} for m in metrics}
        assert all(
            found in (set(), {LARGEST_CASE, FAILED_CASE}, {LARGEST_CASE, MEDIAN_CASE, FAILED_CASE})
            for found in per_metric.values()
        )
        counts = list(map(len, per_metric.values()))
        assert counts == sorted(counts, reverse=True), "the last metrics lose theirs first"
    twice = [("a", LARGEST_CASE, [b"x" * 30_000]), ("b", LARGEST_CASE, [b"x" * 30_000])]
    assert fitting(twice, in_page(b"x" * 30_000)) == [True, True], "a picture that two show counts once"


def test_a_pool_takes_no_more_images_than_fit():
    cell, other = SimpleNamespace(id="cell"), SimpleNamespace(id="other")
    pool, image = Pool(frozenset({"cell"}), quota=500), torch.zeros(3, 10, 5)
    assert [rank for rank in range(9) if pool.takes(cell, rank, image)] == [0, 1, 2] and not pool.takes(other, 0, image)
    small = [rank for rank in range(200) if pool.takes(cell, rank, torch.zeros(3, 1, 1))]
    assert small == list(range(POOL_SAMPLES)), "first in hash order"


def test_the_part_shown_is_the_square_that_is_changed_most():
    change = torch.zeros(3, 200, 300, dtype=torch.int32)
    change[1, 150, 40], change[0, 20, 250:260] = -50, 3
    assert place_of_change(change) == (23, 0, 128, 128), "the first square with the larger change"
    change[0, 20, 250:260] = 6
    top, left, height, width = place_of_change(change)
    assert top <= 20 < top + height and left <= 250 and left + width >= 260
    assert place_of_change(torch.ones(3, 100, 300)) == (0, 0, 100, 128)


def shown(folder):
    page = json.loads((folder / "gallery" / "gallery.json").read_text())
    return {(case["metric"], case["case"]): case for case in page["cases"]}


def entry_of(result, case):
    return next(one for one in result.plan.limited(result.plan.splits[0]) if one.id == case["sample"])


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "gallery").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    """The choice alone is looked at."""
    monkeypatch.setattr("harness.report.render.write_report", lambda *arguments: None)


@pytest.fixture(scope="module")
def text():
    return SUITE.format(size=12, limit=20, attacks="fgsm, restarts")


@pytest.fixture(scope="module")
def whole(registry, tmp_path_factory, text):
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.report.render.write_report", lambda *arguments: None)
        options = Options(out=folder, executor="serial", probe=False)
        return run_suite(validate(parse_text(text, "suite.yaml"), registry), registry, options)


def test_what_is_shown_is_what_the_records_say(whole):
    result, tmp_path = whole, whole.folder.path
    records, cases = result.data.records, shown(tmp_path)
    assert {metric for metric, _ in cases} == {"negative_mse", "linear"} and not (tmp_path / "gallery/pool").exists()
    at = records[(records["eps"] > 7 / 255) & (records["metric"] == "negative_mse")]
    moved = (at["attacked_8bit"] - at["clean"]) * at["sign"]
    furthest = at.assign(moved=moved)[at["sign"] != 0].groupby(["item", "sign"])["moved"].max()
    controls = at[at["control"]].set_index(["attack", "item"])
    held = [
        sign * (controls.loc["restore" if sign > 0 else "noise", item][["attacked_8bit", "clean"]].diff().iloc[1]) * -1
        for item, sign in furthest.index
    ]
    excess = furthest - np.array(held, dtype=float)
    best, case = excess.idxmax(), cases["negative_mse", LARGEST_CASE]
    assert (case["item"], case["sign"]) == best and case["excess"] == pytest.approx(excess.max(), rel=1e-9)
    assert case["median"] == pytest.approx(excess.median()) and case["count"] == len(excess) == 40
    assert case["failed"] == int((excess <= 0).sum()) and case["samples"] == 20
    # Its picture is the image that was scored: the negative mean squared error by hand, from the file and the data set.
    reference = result.registry.dataset("toy").build({"size": 12}).load(entry_of(result, case))["ref"].double().numpy()
    attacked = np.asarray(Image.open(tmp_path / "gallery" / case["folder"] / "attacked.png")).transpose(2, 0, 1) / 255
    assert case["attacked_8bit"] == pytest.approx(-np.square(attacked - reference).mean(), rel=1e-5)
    # What the other metric says of it, by hand: the linear toy is a weighted mean, asked of the picture itself.
    again = {one["metric"]: one for one in case["others"]}
    direct = records[
        (records["metric"] == "linear") & (records["attack"] == "clean") & (records["item"] == case["item"])
    ]
    assert again["linear"]["clean"] == pytest.approx(direct["clean"].item()) and set(again) == {"linear"}
    pair = (torch.from_numpy(image).float()[None] for image in (reference, attacked))
    asked = result.registry.metric("linear").build({}).score(*pair).item()
    assert again["linear"]["attacked_8bit"] == pytest.approx(asked, rel=1e-4) != again["linear"]["clean"]


@pytest.mark.parametrize("moment", ["_write", "_write_page", "drop_pool"])
def test_killed_at_the_choice_and_started_again(run_toy, tmp_path, whole, text, monkeypatch, moment):
    original, calls = getattr(RunFolder, moment), []

    def killed(self, *arguments):
        if moment == "drop_pool" or ("gallery" in str(arguments[0]) and "pool" not in str(arguments[0])):
            calls.append(arguments)
            if len(calls) == (3 if moment == "_write" else 1):
                raise StoreError("killed")
        return original(self, *arguments)

    monkeypatch.setattr(RunFolder, moment, killed)
    with pytest.raises(StoreError):
        run_toy(text, tmp_path / "killed")
    monkeypatch.undo()
    assert (tmp_path / "killed/gallery/pool").is_dir()
    assert run_toy(text, tmp_path / "killed").blocks == 0
    assert files(tmp_path / "killed") == files(whole.folder.path)
    assert run_toy(text, tmp_path / "killed").unchanged


def test_the_verb_lists_what_is_kept(run_toy, toy_file, tmp_path, capsys):
    run_toy(SUITE.format(size=12, limit=4, attacks="fgsm") + "save_examples: 2\n", tmp_path)
    arguments = ["examples", str(tmp_path), "--plugin", str(toy_file)]
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--json"])
    rows = json.loads(capsys.readouterr().out)
    page, examples = ([row for row in rows if row["kind"] == kind] for kind in ("page", "example"))
    case = shown(tmp_path)[page[0]["metric"], page[0]["case"]]
    assert page[0]["attacked_8bit"] == case["attacked_8bit"] and page[0]["excess"] == case["excess"]
    assert len(page) == len(shown(tmp_path)) and len(examples) == 2 * 2 * (2 + 2) * 2
    assert all(Path(file).is_file() for row in rows for file in row["files"].values())
    assert {row["folder"].split("/")[0] for row in rows} == {"gallery", "examples"}
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    told = capsys.readouterr().out
    assert f"{len(rows)} attacked images" in told and all(row["folder"] in told for row in rows) and "fgsm down" in told


def test_shards_choose_the_same(run_toy, tmp_path, whole, text):
    for index in (0, 1):
        run_toy(text, tmp_path / "shards", shard=(index, 2))
    assert files(tmp_path / "shards") == files(whole.folder.path)


def test_a_run_of_an_older_version_computes_nothing_and_one_that_grows_chooses_again(run_toy, tmp_path, whole, text):
    small = text.replace("limit: 20", "limit: 8")
    run_toy(small, tmp_path)
    assert {case["samples"] for case in shown(tmp_path).values()} == {8}
    grown = run_toy(text, tmp_path)
    assert {case["samples"] for case in shown(tmp_path).values()} == {20}
    largest = ("negative_mse", LARGEST_CASE)
    assert shown(tmp_path)[largest] == shown(whole.folder.path)[largest]
    for path in sorted((tmp_path / "gallery").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = run_toy(text, tmp_path)
    assert again.blocks == 0 and grown.blocks and not (tmp_path / "gallery/gallery.json").exists()
    assert not again.data.gallery.cases


def test_of_large_images_a_part_is_kept_and_scores_are_of_the_whole(run_toy, tmp_path):
    result = run_toy(SUITE.format(size=150, limit=8, attacks="fgsm"), tmp_path)
    case = shown(tmp_path)["negative_mse", LARGEST_CASE]
    assert case["size"] == [150, 150] and case["crop"][2:] == [128, 128]
    top, left, height, width = case["crop"]
    content = (tmp_path / "gallery" / case["folder"] / "distorted.png").read_bytes()
    image = result.registry.dataset("toy").build({"size": 150}).load(entry_of(result, case))["dist"]
    part = (image * 255).round()[:, top : top + height, left : left + width].permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), part)
    records = pd.DataFrame(result.data.records)
    row = records[
        (records["item"] == case["item"]) & (records["attack"] == case["attack"]) & (records["sign"] == case["sign"])
    ]
    assert case["attacked_8bit"] in set(row["attacked_8bit"])
