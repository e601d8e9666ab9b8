"""Runs that are shared: bundled, opened from a stranger's file, merged, exported and published."""

import io
import json
import re
import shutil
import stat
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.engine import bundle
from harness.engine.bundle import run_folder_at
from harness.engine.placeless import without_places
from harness.engine.record import LABELS, STORED
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.flow import open_folder
from harness.plugins.registry import Registry
from harness.report.entries import RULES
from harness.report.leaderboard import boards_of
from harness.suite.joined import RunPlan, join
from harness.suite.planning import make_plan
from tests.report.test_portable import said, write_project
from tests.toys.stored import parts

SUITE = """
name: {name}
datasets: [{{name: toy, size: 8}}]
metrics: [{metrics}]
attacks: [noise, restore, {attacks}]
budgets: {{linf: [2/255, 8/255]}}
directions: [up, mos_split]
tables: [srocc, shift, verdicts]
slice: 10
"""
QUIET = ("-q", "--executor", "serial", "--no-probes")
PGD = "{name: pgd, steps: 10, label: pgd}"


@pytest.fixture(scope="module")
def runs(registry, tmp_path_factory):
    """Two halves of a suite by metrics, the whole, and other attacks of one of the metrics."""
    from harness.flow import Options, run_suite
    from harness.suite.resolve import validate
    from harness.suite.strict_yaml import parse_text

    place = tmp_path_factory.mktemp("runs")
    parts = {
        "left": ("linear", f"fgsm, {PGD}"),
        "right": ("negative_mse, linear_lower", f"fgsm, {PGD}"),
        "whole": ("linear, negative_mse, linear_lower", f"fgsm, {PGD}"),
        "other": ("negative_mse", "far"),
    }
    for name, (metrics, attacks) in parts.items():
        text = SUITE.format(name=name, metrics=metrics, attacks=attacks)
        suite = validate(parse_text(text, f"{name}.yaml"), registry)
        assert not run_suite(suite, registry, Options(out=place / name, executor="serial", probe=False)).failures
    return place


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    """An empty folder to work in, and a cache of its own."""
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(folder, drop=("milliseconds",)):
    found = {path.name: pd.read_csv(path, dtype=str) for path in sorted((folder / "report/tables").glob("*.csv"))}
    return {name: frame.drop(columns=[*drop], errors="ignore") for name, frame in found.items()}


def same_tables(one, other):
    assert one.keys() == other.keys() and one
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], obj=name)


def test_a_bundle_names_no_place_and_opens_where_nothing_of_the_run_is(capsys, tmp_path, monkeypatch):
    there = tmp_path / "there"
    write_project(there)
    monkeypatch.chdir(there)
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    absolute = f"datasets.own.file={there / 'data/pairs.csv'}"
    said(capsys, "run", "suites/own.yaml", "--plugin", there / "plugin.py", "--out", "run", "--set", absolute, *QUIET)
    record = sorted((there / "run/records").rglob("*.parquet"))[0]
    said(capsys, "bundle", "run", "-o", "a.zip")
    said(capsys, "bundle", "run", "-o", "b.zip")
    whole = (there / "a.zip").read_bytes()
    assert whole == (there / "b.zip").read_bytes(), "the same bytes"
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        contents = {info.filename: packed.read(info) for info in packed.infolist()}
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert not [name for name, content in contents.items() if str(tmp_path).encode() in content]
    assert contents[f"moved/{record.relative_to(there / 'run').as_posix()}"] == record.read_bytes()
    assert not [name for name in contents if "/examples/" in name or "inputs.json" in name or "/." in name]
    suite = contents["moved/suite.yaml"].decode()
    assert "file: pairs.csv" in suite and "save_examples: 0" in suite and b'"/' not in contents["moved/plan.json"]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.zip").write_bytes(whole)
    shutil.rmtree(there)
    monkeypatch.chdir(elsewhere)
    assert "2 of 2 blocks, 0 failures; all of them are done" in said(capsys, "status", "a.zip")
    assert json.loads(said(capsys, "check", "a.zip", "--json"))["damaged"] == {}
    assert "nobody2026weighed" in said(capsys, "cite", "a.zip")
    zipfile.ZipFile("a.zip").extractall("unpacked")
    assert "weighed" in said(capsys, "compare", "a.zip", "unpacked/moved")
    said(capsys, "report", "unpacked/moved")
    again = {
        path.relative_to(elsewhere / "unpacked").as_posix(): path.read_bytes()
        for path in (elsewhere / "unpacked/moved/report").rglob("*")
        if path.is_file() and path.name != "made-from.txt" and not path.name.startswith(".")
    }
    assert again == {name: one for name, one in contents.items() if "/report/" in name and "made-from" not in name}
    said(capsys, "bundle", "unpacked/moved", "-o", "c.zip")
    assert (elsewhere / "c.zip").read_bytes() == whole, "a bundle of a bundle is it again"


def test_places_are_taken_out_of_texts_and_other_slashes_are_not():
    value = {"command": ["/opt/x/robustiqa", "--out=/home/me/run"], "why": "no file '/data/a/b.png' (8/255, up/down)"}
    assert without_places([value, "C:\\Users\\me\\run", "https://doi.org/10.1/2", 3]) == [
        {"command": ["robustiqa", "--out=run"], "why": "no file 'b.png' (8/255, up/down)"},
        "run",
        "https://doi.org/10.1/2",
        3,
    ]


def test_names_of_images_that_are_paths_are_told(capsys, tmp_path, monkeypatch):
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    table = (tmp_path / "data/pairs.csv").read_text()
    (tmp_path / "data/pairs.csv").write_text(re.sub(r"(r\d(_\d)?\.png)", rf"{tmp_path}/data/\1", table))
    said(capsys, "run", "suites/own.yaml", "--plugin", "plugin.py", "--out", "run", "--set", "metrics=[psnr]", *QUIET)
    told = said(capsys, "bundle", "run", "-o", "a.zip", code=2)
    assert f"{tmp_path}/data/r" in told and "make them relative there" in told and not (tmp_path / "a.zip").exists()
    said(capsys, "bundle", "run", "-o", "a.zip", "--allow-paths")


def member(name, content=b"x", mode=stat.S_IFREG | 0o644, **fields):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


ELSEWHERE = "a name that leads out of the folder or cannot be written everywhere"
BAD = {
    "leads out": (ELSEWHERE, [member("../evil.txt")]),
    "leads out deep": (ELSEWHERE, [member("r/records/../../../evil.txt")]),
    "absolute": (ELSEWHERE, [member("/tmp/evil.txt")]),
    "of another system": (ELSEWHERE, [member("r\\..\\evil.txt")]),
    "on a drive": (ELSEWHERE, [member("C:/evil.txt")]),
    "a device": (ELSEWHERE, [member("r/records/nul")]),
    "link": ("is a link or no plain file", [member("r/records", b"/etc", stat.S_IFLNK | 0o777)]),
    "twice": ("is there twice", [member("r/facts/a.json"), member("r/facts/A.json")]),
    "too long": ("cannot be written", [member(f"r/records/{'a' * 300}")]),
    "below a file": ("cannot be written", [member("r/records/a"), member("r/records/a/b")]),
    "no run": ("no bundle of a run", [member("other/readme.txt")]),
    "two runs": ("no bundle of a run", [member("s/suite.yaml", b"name: s\n")]),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_leads_elsewhere_is_not_opened(here, kind):
    why, members = BAD[kind]
    with zipfile.ZipFile("bad.zip", "w") as packed:
        for info, content in [*([member("r/suite.yaml", b"name: r\n")] if kind != "no run" else []), *members]:
            packed.writestr(info, content)
    with pytest.raises(UserError, match=rf"bad\.zip: .*{why}"):
        run_folder_at(here / "bad.zip")
    assert not list(here.rglob("evil*")) and not list((here / "cache/bundles").iterdir())


def test_bombs_and_broken_bundles_are_not_opened(runs, here, capsys, monkeypatch):
    said(capsys, "bundle", runs / "left", "-o", "left.zip")
    whole = (here / "left.zip").read_bytes()
    monkeypatch.setattr(bundle, "MOST_UNPACKED", 10_000)
    assert "unpacked, more than" in said(capsys, "status", "left.zip", code=2)
    monkeypatch.undo()
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(here / "cache"))
    monkeypatch.chdir(here)
    for name, content in (("cut", whole[:-100]), ("hit", whole[:3000] + b"\0\0\0\0" + whole[3004:])):
        (here / f"{name}.zip").write_bytes(content)
        assert re.search("damaged|no bundle", said(capsys, "status", f"{name}.zip", code=2))
    assert not (here / "cache/bundles").exists() or not list((here / "cache/bundles").iterdir())


def test_a_tampered_record_of_a_bundle_does_not_count(runs, here, capsys):
    said(capsys, "bundle", runs / "left", "-o", "left.zip")
    with zipfile.ZipFile("left.zip") as packed, zipfile.ZipFile("forged.zip", "w") as forged:
        names = packed.namelist()
        chosen = next(name for name in names if "/records/" in name)
        for name in names:
            content = packed.read(name)
            if (
                name == chosen
            ):  # what someone edits who knows no seals: a number of the file, nothing that breaks parquet
                table = pq.read_table(io.BytesIO(content)).drop_columns("attacked")
                buffer = io.BytesIO()
                pq.write_table(table, buffer)
                content = buffer.getvalue()
            forged.writestr(name, content)
    checked = json.loads(said(capsys, "check", "forged.zip", "--json", code=1))
    assert list(checked["damaged"]) == [chosen.partition("/")[2]]
    assert "not finished" in said(capsys, "status", "forged.zip")
    assert "damaged" in said(capsys, "bundle", run_folder_at(here / "forged.zip"), "-o", "x.zip", code=2)


def test_two_halves_merged_are_the_whole(runs, here, capsys, registry):
    from harness.flow import Options, run_suite
    from harness.suite.resolve import load_suite

    said(capsys, "bundle", runs / "right", "-o", "right.zip")
    told = said(capsys, "merge", runs / "left", "right.zip", "-o", "both", "--name", "whole")
    assert "of 2 runs" in told and "Not finished" not in told
    same_tables(tables(here / "both"), tables(runs / "whole"))
    whole, both = (open_folder(folder, Registry()) for folder in (runs / "whole", here / "both"))
    assert [cell.id for cell in both.plan.cells] == [cell.id for cell in whole.plan.cells]
    assert json.loads(said(capsys, "check", "both", "--json"))["damaged"] == {}
    again = run_suite(
        load_suite(here / "both/suite.yaml", registry),
        registry,
        Options(out=here / "both", executor="serial", probe=False),
    )
    assert again.jobs == 0 and again.finished
    assert (here / "both/suite.yaml").read_bytes() == (runs / "whole/suite.yaml").read_bytes()


def test_other_attacks_of_one_metric_are_joined_and_nothing_else_is_asked_for(runs, here, capsys):
    said(capsys, "merge", runs / "whole", runs / "other", "-o", "more")
    found = open_folder(here / "more", Registry())
    assert found.finished and {"far", "fgsm"} <= set(found.data.attacks)
    far = found.data.records[found.data.records["attack"] == "far"]
    assert set(far["metric"]) == {"negative_mse"} and len(found.plan.suite.exclude) == 2
    rows = tables(here / "more")["srocc.csv"]
    kept = rows[~rows["attack"].isin(["far", "furthest of all", "lowest SROCC of all"])].reset_index(drop=True)
    whole = tables(runs / "whole")["srocc.csv"]
    whole = whole[~whole["attack"].isin(["furthest of all", "lowest SROCC of all"])].reset_index(drop=True)
    order = ["metric", "attack", "direction", "eps"]
    figures = [*order, "srocc", "srocc_low", "srocc_high", "clean_srocc"]
    kept, whole = (frame.sort_values(order, ignore_index=True)[figures] for frame in (kept, whole))
    pd.testing.assert_frame_equal(kept, whole)


def test_what_contradicts_is_refused_with_what_differs(runs, here, capsys):
    shutil.copytree(runs / "left", "changed")
    store, (cell, *_) = RunFolder(here / "changed"), sorted(cell for cell, _ in parts(here / "changed"))
    columns = {name: values.to_pylist() for name, values in zip(*_columns(store.read_records(cell, 0)), strict=True)}
    store.write_records(cell, 0, {**columns, "seconds": [9.0] * len(columns["item"])})
    said(capsys, "merge", runs / "left", "changed", "-o", "times")  # times alone are no contradiction
    store.write_records(cell, 0, {**columns, "attacked": [value + 0.5 for value in columns["attacked"]]})
    told = said(capsys, "merge", runs / "left", "changed", "-o", "both", code=2)
    count = len(columns["item"])
    assert f"attacked differs by up to 0.5 in {count} of {count} rows" in told and "toy(size=8) / linear" in told
    assert not (here / "both").exists() and not list(here.glob(".both*"))
    said(capsys, "merge", runs / "left", "changed", "-o", "both", "--first-wins")
    same_tables(tables(here / "both"), tables(runs / "left"))
    assert "MERGED: 1 place" in (here / "both/report/index.html").read_text()


def test_what_no_single_suite_can_ask_for_is_refused_and_the_rest_is_told(registry, suite_of):
    def planned(name, text):
        suite = suite_of(text)
        return RunPlan(name, make_plan(suite, registry), suite.resolved())

    text = SUITE.format(name="left", metrics="linear", attacks=PGD)
    for key, other in (
        ("seed", text + "seed: 1\n"),
        ("slice", text.replace("slice: 10", "slice: 5")),
        ("precision", text + "precision: bf16\n"),
        ("'pgd' is one attack in mine and another in hers", text.replace("steps: 10", "steps: 3")),
        ("'toy\\(size=8\\)' is one data", text.replace("name: toy, size: 8", "name: toy, size: 9, label: toy(size=8)")),
    ):
        with pytest.raises(UserError, match=key):
            join([planned("mine", text), planned("hers", other)])
    other = text.replace("label: pgd", "label: mine").replace("8/255", "4/255").replace("left", "other") + "limit: 5\n"
    found = join([planned("mine", text), planned("hers", other)])
    assert found.document["budgets"]["linf"] == pytest.approx([2 / 255, 4 / 255, 8 / 255])
    assert [use.label for use in found.plan.suite.attacks] == ["noise", "restore", "pgd"]
    assert found.document["exclude"] == [] and found.document["limit"] is None
    told = " ".join(found.told)
    assert "'mine' of hers is the 'pgd' of mine" in told and "limit: none in mine, 5 in hers" in told
    assert "the merged one is 'left'" in told


def _columns(table):
    return table.column_names, table.columns


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_is_every_record_with_what_each_column_is(runs, here, capsys, form):
    said(capsys, "export", runs / "whole", "--to", form, "-o", f"all.{form}")
    frame = pd.read_csv("all.csv") if form == "csv" else pd.read_parquet("all.parquet")
    told = pd.read_csv("all.columns.csv").set_index("column")
    assert list(told.index) == list(frame.columns) and not told["meaning"].isna().any()
    for column in (*LABELS, *STORED):
        assert told.loc[column.name, "meaning"] == column.meaning
        assert (told.loc[column.name, "unit"] if column.unit else "") == column.unit
    records = open_folder(runs / "whole", Registry()).data.records
    own = frame[frame["part"] == "suite"]
    for name in ("attacked", "attacked_8bit", "clean", "eps", "opinion"):
        assert np.array_equal(own[name].to_numpy(float), records[name].to_numpy(float), equal_nan=True), name
    assert set(frame["labels"]) == {"human"}
    steps = own.groupby(own["attack"].fillna(""))["attack.steps"].unique()
    assert list(steps["pgd"]) == [10] and np.isnan(steps["fgsm"]).all()
    if form == "parquet":
        field = pq.read_schema("all.parquet").field("eps")
        assert field.metadata[b"unit"] == b"images in [0, 1]"


def test_a_leaderboard_has_the_figures_of_the_tables_and_keeps_what_people_wrote(runs, here, capsys):
    said(capsys, "publish", runs / "whole", "-o", "board")
    files = sorted((here / "board/entries").glob("*.json"))
    entries = {json.loads(path.read_text())["metric"]["label"]: path for path in files}
    assert set(entries) == {"linear", "negative_mse", "linear_lower"}
    table = pd.read_csv(runs / "whole/report/tables/srocc.csv")
    for label, path in entries.items():
        entry = json.loads(path.read_text())
        assert entry["admissible"] and entry["data"]["n"] == 20 and entry["data"]["labels"] == "human"
        lowest = table[(table["metric"] == label) & (table["attack"] == "lowest SROCC of all")]
        for at in entry["attacked"]:
            row = lowest[(lowest["eps"] - at["eps"]).abs() < 1e-8]
            if at["direction"] in ("up", "mos_split"):
                row = row[row["direction"] == at["direction"]]
                expected = row.iloc[0][["srocc", "srocc_low", "srocc_high"]].tolist()
                assert [at["left"][key] for key in ("value", "low", "high")] == pytest.approx(expected, abs=1e-7)
            else:
                assert at["left"]["value"] == pytest.approx(row["srocc"].min(), abs=1e-7)
    page = (here / "board/index.html").read_text()
    assert "Descriptive: fewer than 8 independent references" in page and not re.search(r'(src|href)="https?:', page)
    assert all(text.partition("'")[0] in page for text in RULES.values())

    reviewed = json.loads(entries["linear"].read_text()) | {"reviewed_by": "A. <b>", "note": "by hand", "seen": 3}
    entries["linear"].write_text(json.dumps(reviewed))
    said(capsys, "publish", runs / "whole", runs / "other", "-o", "board")
    again = json.loads(entries["linear"].read_text())
    assert (again["reviewed_by"], again["note"], again["seen"]) == ("A. <b>", "by hand", 3)
    assert len(list((here / "board/entries").glob("*.json"))) == 4
    page = (here / "board/index.html").read_bytes()
    assert b"A. &lt;b&gt;" in page and b"not judged" in page
    said(capsys, "publish", "-o", "board")
    assert (here / "board/index.html").read_bytes() == page, "of the entries alone, the same bytes"


def test_ranks_of_several_runs_are_those_that_intervals_allow(runs, here, capsys):
    def entry(name, low, value, high, **more):
        data = {"dataset": "d", "split": "test", "split_key": "s", "n": 90, "clusters": 30, "labels": "human"}
        data |= {"descriptive": False, "kind": "image", "cluster_noun": "reference"}
        left = {"value": value, "low": low, "high": high}
        at = {"norm": "linf", "eps": 8 / 255, "direction": "up", "left": left, "rank_in_run": None}
        run = {"suite_digest": name, "suite": name}
        return {
            "entry": name,
            "data": data,
            "statistic": "SROCC",
            "attacked": [at],
            "run": run,
            "admissible": True,
        } | more

    four = [
        entry("b", 0.5, 0.6, 0.7),
        entry("a", 0.65, 0.7, 0.8),
        entry("c", 0.1, 0.2, 0.3),
        entry("d", 0.2, 0.25, 0.55),
    ]
    (board,) = boards_of([*four, entry("e", 0.8, 0.9, 1.0, admissible=False)])
    assert [(line.entry["entry"], line.rank) for line in board.lines] == [
        ("a", (1, 2)),
        ("b", (1, 3)),
        ("d", (2, 4)),
        ("c", (3, 4)),
    ]
    assert [line.entry["entry"] for line in board.others] == ["e"]
