"""Whatever is done to the files of a run folder: it is noticed, told, and computed again, and never counts."""

import json
import os
import random
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.cli import main
from harness.engine import seal
from harness.engine.checking import check_folder, seal_folder
from harness.engine.done import asked_for, done_slices
from harness.engine.progress import Progress
from harness.engine.run_folder import RunFolder, StoreError
from harness.errors import UserError
from harness.flow import Options, reopen, report_run, run_status, run_suite
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from tests.toys.older import as_older
from tests.toys.stored import as_single_files, parts, records

SUITE = """
name: toy
datasets: [{name: toy, size: 8}]
metrics: [linear]
attacks: [noise, learnt]
budgets: {linf: [2/255, 8/255]}
directions: [up]
tables: [srocc]
limit: 8
slice: 4
save_examples: 1
exact: true
"""


@pytest.fixture(scope="module")
def whole(registry, tmp_path_factory):
    """A finished run with every kind of file."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    suite = validate(parse_text(SUITE, "suite.yaml"), registry)
    assert not run_suite(suite, registry, Options(out=folder, executor="serial")).failures
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def again(registry):
    """Run the suite in a folder."""

    def run(folder, progress=None):
        suite = validate(parse_text(SUITE, "suite.yaml"), registry)
        return run_suite(suite, registry, Options(out=folder, executor="serial"), progress)

    return run


def tables(folder):
    found = {path.name: pd.read_csv(path, dtype=str) for path in sorted((folder / "report/tables").glob("*.csv"))}
    return {name: frame.drop(columns="milliseconds", errors="ignore").to_csv() for name, frame in found.items()}


def rows(folder):
    return {one: frame.to_csv() for one, frame in records(folder).items()}


def records_of(folder, attack, eps):
    """The two record files of a cell, where each slice has its own."""
    for cell in sorted((folder / "records").glob("????????????????")):
        first = pq.ParquetFile(cell / "00000.parquet").read().to_pylist()[0]
        if first["attack"] == attack and (attack == "clean" or abs(first["eps"] - eps) < 1e-9):
            return sorted(cell.iterdir())
    raise AssertionError(f"no cell of {attack} at {eps}")


def rewritten(path, change):
    """Records changed by a program that knows nothing of seals, but keeps metadata."""
    pq.write_table(change(pq.ParquetFile(path).read()), path)


def not_a_number(table):
    column = table.column_names.index("attacked")
    return table.set_column(column, "attacked", pa.array([np.nan] * len(table)))


DAMAGES = {
    "emptied": lambda small, large: small[0].write_bytes(b""),
    "cut": lambda small, large: small[0].write_bytes(small[0].read_bytes()[:200]),
    "other budget": lambda small, large: shutil.copy(large[0], small[0]),
    "half the rows": lambda small, large: rewritten(small[0], lambda table: table.slice(0, len(table) // 2)),
    "not a number": lambda small, large: rewritten(small[0], not_a_number),
    "other slice": lambda small, large: shutil.copy(small[1], small[0]),
    "a folder": lambda small, large: small[0].unlink() or small[0].mkdir(),
}


LAYOUTS = pytest.mark.parametrize(
    "older", [as_single_files, as_older], ids=["a file for each slice", "of a version without seals"]
)


@LAYOUTS
def test_damaged_records_are_not_done(run, registry, older):
    older(run)
    small, large = records_of(run, "noise", 2 / 255), records_of(run, "noise", 8 / 255)
    content, name = small[0].read_bytes(), small[0].relative_to(run).as_posix()
    plan, store = reopen(run, registry)
    assert store.soundness.damaged() == {} and len(plan.blocks(done_slices(plan, store))) == 0
    for kind, damage in DAMAGES.items():
        damage(small, large)
        (block,) = plan.blocks(done_slices(plan, store))
        assert [cell.id for cell in block.cells] == [small[0].parent.name] and block.slice == 0, kind
        assert list(store.soundness.damaged()) == [name], kind
        assert store.records(small[0].parent.name, 0) is None, kind
        if small[0].is_dir():
            small[0].rmdir()
        small[0].write_bytes(content)
    assert not plan.blocks(done_slices(plan, store)) and not store.soundness.damaged()


@LAYOUTS
def test_damaged_records_never_count_and_are_computed_again(whole, run, registry, again, older, capsys):
    older(run)
    DAMAGES["other budget"](records_of(run, "noise", 2 / 255), records_of(run, "noise", 8 / 255))
    DAMAGES["half the rows"](records_of(run, "learnt", 2 / 255)[::-1], [])
    status = run_status(run, registry)
    assert len(status["damaged"]) == 2 and all(name.startswith("records/") for name in status["damaged"])
    assert status["blocks"] - status["done"] == 2
    told = report_run(run, registry).data
    assert any("DAMAGED: 2 damaged files: records/" in notice for notice in told.notices)
    assert any("NOT FINISHED" in notice for notice in told.notices)
    assert len(told.records) == (len(rows(whole)) - 2) * 4
    capsys.readouterr()
    result = again(run)
    assert (result.blocks, result.cells) == (2, 2) and not result.failures
    assert capsys.readouterr().err.count("2 damaged files") == 1
    assert rows(run) == rows(whole) and tables(run) == tables(whole)
    assert not result.data.notices or older is as_older
    assert not list((run / "records").glob("????????????????")), "put together"
    assert not run_status(run, registry)["damaged"] and again(run).jobs == 0


def test_a_thousand_flipped_bits_of_a_record_file_are_all_noticed(whole):
    (path,) = whole.glob("records/compact/*.parquet")
    content, name = path.read_bytes(), path.relative_to(whole).as_posix()
    assert seal.is_sealed(content) and not seal.broken(content, name)
    rng = random.Random(0)
    for bit in rng.sample(range(8 * len(content)), 1000):
        flipped = flip(content, bit)
        assert seal.is_sealed(flipped) and seal.broken(flipped, name), bit
    for bit in range(8 * content.rfind(seal.KEY.encode()), 8 * len(content)):  # the seal itself, every bit
        assert seal.is_sealed(flip(content, bit)) and seal.broken(flip(content, bit), name), bit


def flip(content, bit):
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def test_every_kind_of_file_notices_flipped_bits_and_is_made_again(whole, run, registry, again):
    """Some bits of one file of each kind; then all of them at once, and a run puts everything right."""
    rng, kinds = random.Random(1), {}
    for path in sorted(path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")):
        parts = path.relative_to(run).parts
        kinds[parts[0], path.name if parts[0] in ("provenance", "report", "examples") else path.suffix] = path
    assert len(kinds) >= 22 and {kind for kind, _ in kinds} == {
        *(
            "suite.yaml",
            "plan.json",
            "records",
            "facts",
            "fits",
            "probes",
            "examples",
            "gallery",
            "provenance",
            "report",
        )
    }
    store = RunFolder(run)
    for path in kinds.values():
        content = path.read_bytes()
        for bit in rng.sample(range(8 * len(content)), 12):
            path.write_bytes(flip(content, bit))
            store.soundness.forget()
            assert store.inspect(path, lambda cell: lambda index, table: ""), path
            assert store.soundness.name(path) in store.soundness.damaged(), (path, bit)
        path.write_bytes(content)
    plan, store = reopen(run, registry)
    assert not check_folder(store, plan).damaged
    for path in kinds.values():
        path.write_bytes(flip(path.read_bytes(), rng.randrange(8 * path.stat().st_size)))
    check_folder(RunFolder(run), plan)
    assert not again(run).failures
    plan, store = reopen(run, registry)
    found = check_folder(store, plan)
    assert not found.damaged and not found.unsealed and not found.strange
    assert rows(run) == rows(whole) and tables(run) == tables(whole)
    assert list((whole / "gallery").glob("*/*.png"))  # made again with the records that they are of
    for part in ("facts", "fits", "probes", "examples", "gallery", "suite.yaml"):
        for path in [whole / part] if part == "suite.yaml" else (whole / part).rglob("*"):
            if path.is_file():
                assert (run / path.relative_to(whole)).read_bytes() == path.read_bytes(), path


def test_every_file_says_what_it_is(whole, registry):
    plan, store = reopen(whole, registry)
    found = check_folder(store, plan)
    assert (found.unsealed, dict(found.damaged), found.strange) == ([], {}, [])
    (path,) = whole.glob("records/compact/*.parquet")
    file = pq.ParquetFile(path)
    about = json.loads(file.metadata.metadata[b"robustiqa"])
    told = {(cell, index) for one in about["holds"] for cell in one["cells"] for index in one["slices"]}
    frame = file.read().to_pandas()
    assert told == set(zip(frame["cell"], frame["slice"], strict=True)) == parts(whole) and about["schema"] == 2


def test_records_of_a_newer_version_are_refused(run):
    path = records_of(as_single_files(run), "noise", 8 / 255)[1]
    table, name = pq.ParquetFile(path).read(), path.relative_to(run).as_posix()
    about = json.loads(table.schema.metadata[b"robustiqa"])
    path.write_bytes(seal.sealed_table(table, name, {"robustiqa": json.dumps({**about, "schema": 3})}))
    with pytest.raises(StoreError, match="records have schema 3, of a newer version"):
        RunFolder(run).records(path.parent.name, 1)


def test_what_an_older_version_left_is_sealed_and_its_report_stays_as_it_is(run, registry):
    as_older(run)
    plan, store = reopen(run, registry)
    report = {path: path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()}
    assert any(path.suffix == ".csv" for path in report) and any(path.suffix == ".png" for path in report)
    seal_folder(store, plan, check_folder(store, plan))
    plan, store = reopen(run, registry)
    # Killed before the folder was looked at again: what stands beside the scores still counts.
    assert not plan.blocks(done_slices(plan, store))
    found = check_folder(store, plan)
    assert not found.unsealed and not found.damaged and not found.strange
    assert [path.name for path, content in report.items() if path.read_bytes() != content] == ["made-from.txt"]


def test_records_that_were_read_without_a_plan_are_held_against_it_later(run, registry):
    as_older(run)
    small, large = records_of(run, "noise", 2 / 255), records_of(run, "noise", 8 / 255)
    DAMAGES["other budget"](small, large)
    assert not check_folder(RunFolder(run), None).damaged
    plan, store = reopen(run, registry)
    (block,) = plan.blocks(done_slices(plan, store))
    assert [cell.id for cell in block.cells] == [small[0].parent.name]
    assert list(store.soundness.damaged()) == [small[0].relative_to(run).as_posix()]


def test_examples_that_were_looked_at_are_not_read_again(run, registry, monkeypatch):
    plan, store = reopen(run, registry)
    store.soundness.forget()
    assert not plan.blocks(done_slices(plan, store))
    store.soundness.keep()
    monkeypatch.setattr("harness.engine.page_checks.example", lambda value: "read again")
    store = RunFolder(run)
    assert not plan.blocks(done_slices(plan, store))
    monkeypatch.undo()
    image = min(run.glob("examples/*/00000/*/attacked.png"))
    image.write_bytes(image.read_bytes() + b" ")
    assert len(plan.blocks(done_slices(plan, store))) == 1
    assert list(store.soundness.damaged()) == [image.relative_to(run).as_posix()]
    image.unlink()
    assert len(plan.blocks(done_slices(plan, store))) == 1


def test_what_looks_like_a_seal_is_content():
    for name in ("suite.yaml", "examples/c/cell.txt", "report/made-from.txt", "facts/f.json"):
        for text in (seal.unfilled(name), f"robustiqa-seal:{'1' * 64}:x;"):
            value = json.dumps({"label": text, "more": [text]}, indent=1 if name.endswith("yaml") else None)
            sealed = seal.sealed_json(value, name) if name.endswith("json") else seal.sealed_text(value, name)
            assert not seal.broken(sealed, name) and seal.broken(flip(sealed, 300), name), name
            whole = seal.without_seal(json.loads(sealed)) if name.endswith("json") else None
            assert json.loads(value) == (whole or json.loads(seal.without_comment(sealed.decode())))


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "name: toy", "\xff"],
    ids=["cycle", "aliases", "other", "bytes"],
)
def test_a_plan_is_not_read_where_the_suite_is_another(run, text):
    assert RunFolder(run).read_plan() is not None
    (run / "suite.yaml").write_bytes(text.encode("latin-1"))
    assert RunFolder(run).read_plan() is None


@pytest.mark.parametrize("text", ["", "[]", '[], "planned":\n{}', '3, "planned":\n'])
def test_a_plan_without_a_seal_that_is_none_is_damaged(run, text):
    as_older(run)
    (run / "plan.json").write_text(text)
    store = RunFolder(run)
    assert store.read_plan() is None and list(store.soundness.damaged()) == ["plan.json"]


def test_a_file_of_an_older_version_is_read_told_and_sealed(whole, run, registry, again, capsys):
    as_older(run)
    status = run_status(run, registry)
    assert status["done"] == status["blocks"] and not status["damaged"] and status["unchecked"] > 10
    told = report_run(run, registry)
    assert any(re.match(r"UNCHECKED: \d+ files .* 'robustiqa check RUN --seal'", one) for one in told.data.notices)
    assert tables(run) == tables(whole) and again(run).jobs == 0
    as_older(run)
    plan, store = reopen(run, registry)
    before = check_folder(store, plan)
    assert len(before.unsealed) > 20 and not before.damaged and not before.strange
    seal_folder(store, plan, before)
    plan, store = reopen(run, registry)
    after = check_folder(store, plan)
    assert not after.unsealed and not after.damaged and after.sealed == before.sealed + len(before.unsealed)
    assert rows(run) == rows(whole)
    older = as_older(shutil.copytree(run, run.with_name("older")))
    (name,) = [path.relative_to(run) for path in records_of(run, "noise", 2 / 255)][:1]
    shutil.copy(older / name, run / name)
    assert "carries no seal" in run_status(run, registry)["damaged"][str(name)]
    assert again(run).cells == 1 and again(run).jobs == 0 and rows(run) == rows(whole)


def test_a_flip_that_no_time_tells_is_found_by_a_check(run, registry, again, monkeypatch):
    """As a disk that rots: size, times and inode stay, so what was read before is believed until it is read again."""
    assert again(run).jobs == 0
    (path,) = run.glob("records/compact/*.parquet")
    content = path.read_bytes()
    stamps = {str(one): f"as it was {one}" for one in run.rglob("*")}
    monkeypatch.setattr("harness.engine.soundness.stamp_of", lambda one: stamps.get(str(one), "missing"))
    RunFolder(run).soundness.forget()
    plan, store = reopen(run, registry)
    assert not check_folder(store, plan).damaged
    path.write_bytes(flip(content, 4000))
    assert not run_status(run, registry)["damaged"]
    report_run(run, registry)
    assert list(run_status(run, registry)["damaged"]) == [path.relative_to(run).as_posix()], (
        "it was read for the report"
    )
    path.write_bytes(content)
    assert not check_folder(*reversed(reopen(run, registry))).damaged


def test_a_suite_that_is_damaged_is_told_and_written_again(whole, run, registry, again):
    (run / "suite.yaml").write_bytes(flip((run / "suite.yaml").read_bytes(), 3000))
    with pytest.raises(
        UserError, match=r"suite\.yaml: damaged \(its bytes are not those .* 'robustiqa run' with the suite"
    ):
        run_status(run, registry)
    other = validate(parse_text(SUITE.replace("name: toy\n", "name: other\n"), "suite.yaml"), registry)
    with pytest.raises(UserError, match=r"the run folder of another suite \('toy', not 'other'\)"):
        run_suite(other, registry, Options(out=run, executor="serial"))
    assert again(run).jobs == 0 and (run / "suite.yaml").read_bytes() == (whole / "suite.yaml").read_bytes()


def test_a_suite_whose_name_cannot_be_read_is_that_of_the_plan(whole, run, registry):
    own = validate(parse_text(SUITE, "suite.yaml"), registry)
    other = validate(parse_text(SUITE.replace("name: toy\n", "name: tox\n"), "suite.yaml"), registry)
    content = (run / "suite.yaml").read_bytes()
    for damaged in (b"nbme: toy", b"name: tox", b"name: \x00oy"):
        (run / "suite.yaml").write_bytes(content.replace(b"name: toy", damaged, 1))
        with pytest.raises(UserError, match=r"the run folder of another suite \('toy', not 'tox'\)"):
            RunFolder(run).open(other)
        RunFolder(run).open(own)
        assert (run / "suite.yaml").read_bytes() == content
    (run / "suite.yaml").write_bytes(content.replace(b"name: toy", b"nbme: toy", 1))
    (run / "plan.json").unlink()
    with pytest.raises(UserError, match=r"suite\.yaml: damaged \(.*\), and its name cannot be read"):
        RunFolder(run).open(own)


def test_a_printed_report_that_was_changed_is_made_again(whole, run, again):
    path = run / "report" / "terminal.json"
    path.write_text(path.read_text().replace("0", "1"))
    assert not again(run).unchanged
    assert path.read_text().count("1") == (whole / "report" / "terminal.json").read_text().count("1")
    assert again(run).unchanged


@pytest.mark.parametrize("moment", [1, 5])
def test_a_folder_that_is_removed_while_it_runs_stays_removed(tmp_path, again, moment):
    class Remover(Progress):
        jobs = 0

        def began(self, worker, job):
            self.jobs += 1
            if self.jobs == moment:
                shutil.rmtree(tmp_path / "run")

    with pytest.raises(StoreError, match=r"the run folder was removed or renamed while the run went on"):
        again(tmp_path / "run", Remover())
    assert not (tmp_path / "run").exists()


def test_check_says_what_is_damaged_and_what_run_does(run, registry, toy_file, capsys):
    def check(*more):
        with pytest.raises(SystemExit) as end:
            main(["check", str(run), "--plugin", str(toy_file), *more])
        return end.value.code, capsys.readouterr().out

    code, out = check()
    assert code == 0 and re.search(r"run: \d+ files whole, 0 without a seal, 0 damaged\.\nLeft to run: nothing\.", out)
    path = records_of(as_single_files(run), "noise", 2 / 255)[0]
    path.write_bytes(path.read_bytes()[:200])
    strange = run / "records" / "notes.txt"
    strange.write_text("mine")
    left = shutil.copytree(path.parent, run / "records" / "0000000000000000")
    (fact,) = (run / "facts").iterdir()
    fact.write_text("{}")
    code, out = check()
    name, other = path.relative_to(run).as_posix(), (left / path.name).relative_to(run).as_posix()
    assert code == 1 and "0 without a seal, 4 damaged" in out
    assert f"damaged: {name}: its bytes are not" in out or f"damaged: {name}: it carries no seal" in out
    assert (
        f"damaged: facts/{fact.name}: it carries no seal, and every file of this folder was sealed; run computes" in out
    )
    assert re.search(rf"damaged: {other}: .*; run leaves it: it is no part of the suite\.", out)
    assert "No part of a run, and left alone: records/notes.txt." in out
    assert "Left to run: 1 calibration, 1 blocks." in out
    code, out = check("--json")
    assert code == 1 and set(json.loads(out)["damaged"]) >= {name, other}
    assert os.path.exists(strange)  # noqa: PTH110
    # What no plan needs is told by `check` alone: no run makes it anew.
    assert set(run_status(run, registry)["damaged"]) == {name, f"facts/{fact.name}"}
    plan, store = reopen(run, registry)
    (notice,) = store.notices(asked_for(plan))
    assert notice.startswith("DAMAGED: 2 damaged files: ") and other not in notice
