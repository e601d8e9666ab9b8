"""Records put together: the same rows, whatever happens meanwhile; and what one damaged bit costs."""

import os
import random
import re
import shutil
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.cli import bundle
from harness.engine import compaction, record_files
from harness.engine.checking import check_folder
from harness.engine.compaction import compact
from harness.engine.done import done_slices
from harness.engine.record import NAMES
from harness.engine.record_files import SLICE
from harness.engine.run_folder import RunFolder, StoreError
from harness.flow import Options, reopen, report_run, run_status, run_suite
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from tests.report.test_portable import said
from tests.toys.older import as_older
from tests.toys.stored import as_appended, as_single_files, parts, records

SUITE = """
name: toy
datasets: [{name: toy, size: 8}]
metrics: [linear, negative_mse]
attacks: [noise, learnt]
budgets: {linf: [2/255, 8/255]}
directions: [up]
tables: [srocc]
limit: 12
slice: 4
"""


@pytest.fixture(scope="module")
def go(registry):
    """Run the suite in a folder."""

    def run(folder, text=SUITE, **options):
        suite = validate(parse_text(text, "suite.yaml"), registry)
        return run_suite(suite, registry, Options(out=folder, executor="serial", probe=False, **options))

    return run


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    """A finished run, compact, and its records."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert not go(folder).failures
    return folder, records(folder, ())


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "run")


def same(found, expected):
    assert found.keys() == expected.keys()
    for one, frame in found.items():
        pd.testing.assert_frame_equal(frame, expected[one], check_exact=True, obj=str(one))


def compact_files(folder):
    return sorted(folder.glob("records/compact/*.parquet"))


def report_of(folder):
    names = sorted((folder / "report/tables").glob("*.csv"))
    page = re.sub(rb"UNCHECKED: \d+ files", b"", (folder / "report/index.html").read_bytes())  # now they are sealed
    return {"page": page, **{path.name: path.read_bytes() for path in names}}


def test_a_finished_run_is_one_file_for_each_split_scorer_and_source_sorted_and_self_describing(whole):
    folder, rows = whole
    assert not list(folder.glob("records/appended/*")) and len(compact_files(folder)) == 2
    seen = set()
    for path in compact_files(folder):
        frame = pq.ParquetFile(path, page_checksum_verification=True).read().to_pandas()
        assert frame["scorer"].nunique() == frame["source"].nunique() == 1
        assert frame[["cell", "slice"]].equals(
            frame[["cell", "slice"]].sort_values(["cell", "slice"], ignore_index=True)
        )
        for (cell, index), own in frame.groupby(["cell", "slice"]):
            columns = [name for name in rows[cell, index] if name in own]
            pd.testing.assert_frame_equal(own[columns].reset_index(drop=True), rows[cell, index][columns])
            seen.add((cell, index))
    assert seen == rows.keys()
    codecs = {pq.ParquetFile(path).metadata.row_group(0).column(3).compression for path in compact_files(folder)}
    assert codecs == {"ZSTD"}


@pytest.mark.parametrize("layout", [as_appended, as_single_files, as_older])
def test_whatever_layout_it_had_the_rows_and_the_report_stay(whole, run, registry, go, layout):
    """Opened, read, put together, extended and resumed: by row and by byte what it was."""
    layout(run)
    report_run(run, registry)
    before = report_of(run)
    same(records(run, ()), whole[1])
    files = len(list((run / "records").rglob("*.parquet")))
    plan, store = reopen(run, registry)
    done = compact(store, plan)
    assert done.before[0] == files and done.after[0] == 2 and not list(run.glob("records/[0-9a-f]*[0-9]*"))
    again = compact(store, plan)
    assert again.before == again.after == done.after
    same(records(run, ()), whole[1])
    report_run(run, registry)
    assert report_of(run) == before
    assert go(run).jobs == 0 and go(run).unchanged
    kept = compact_files(run)
    more = go(run, SUITE.replace("[linear, negative_mse]", "[linear, negative_mse, psnr]"))
    assert more.blocks == 3 and set(kept) < set(compact_files(run)), "other scorers' files are left alone"
    longer = go(run, SUITE.replace("8/255]", "8/255, 16/255]"))
    assert longer.cells == 2 * 2 * 3 and len(compact_files(run)) == 3 and not set(kept) & set(compact_files(run))
    found = records(run, ())
    same({one: found[one] for one in whole[1]}, whole[1])


NOTED = {
    "about": (["a"], [1], [0.5], [None]),
    "size": ([1], [0.5], [None], [2]),
    "large": ([2**53 + 1], [0.5], [2**53 + 1], [None]),
}
"""Note -> what each of the cells in turn notes."""


def same_notes(store, expected):
    for one, table in expected.items():
        found = store.read_records(*one)
        for note in NOTED:
            assert pa.types.is_null(table[note].type) or found[note].type == table[note].type, (one, note)
            assert found[note].to_pylist() == table[note].to_pylist(), (one, note)
        assert found.select(NAMES).to_pandas().equals(table.select(NAMES).to_pandas()), one


def test_notes_of_one_name_and_different_types_stay_what_they_were_and_are_reported(run, registry, capsys):
    as_appended(run)
    store, expected = RunFolder(run), {}
    for name in store.record_names():
        file = record_files.RecordFile((run / name).read_bytes())
        tables = {part.cell: record_files.decoded(file.read([part])) for part in file.parts}
        for number, (cell, table) in enumerate(tables.items()):
            for note, values in NOTED.items():
                table = table.append_column(note, pa.array(values[number % 4] * len(table)))
            tables[cell] = table
        (run / name).unlink()
        index = file.parts[0].slice
        store.append_records(index, tables, {part.cell: part.group for part in file.parts})
        expected |= {(cell, index): table for cell, table in tables.items()}
    report_run(run, registry)
    before = report_of(run)
    halves = [shutil.copytree(run, run.with_name(name)) for name in ("left", "right")]
    for half, index in zip(halves, (0, 2), strict=True):
        for path in half.glob(f"records/appended/{index:05d}-*"):
            path.unlink()
    plan, store = reopen(run, registry)
    compact(store, plan)
    files = compact_files(run)
    assert not list(run.glob("records/appended/*")) and len(files) == 6, "texts, ints and floats of each scorer"
    same_notes(store, expected)
    said(capsys, "merge", *halves, "-o", run.with_name("both"))
    same_notes(RunFolder(run.with_name("both")), expected)
    assert {path.name for path in compact_files(run.with_name("both"))} == {path.name for path in files}
    done = compact(store, plan)
    assert done.before == done.after and compact_files(run) == files
    report_run(run, registry)
    assert report_of(run) == before
    whole = store.read_cells(dict.fromkeys(cell.id for cell in plan.cells), list(NOTED))
    assert [str(whole[note].type) for note in NOTED] == ["string", "double", "string"]
    assert [set(whole[note].to_pylist()) for note in NOTED] == [
        {"a", "1", "0.5", None},
        {1.0, 0.5, 2.0, None},
        {"9007199254740993", "0.5", None},
    ]


def test_half_a_run_of_the_layout_before_is_resumed(whole, run, go):
    as_single_files(run)
    lost = sorted(parts(run))[::2]
    for cell, index in lost:
        (run / "records" / cell / f"{index:05d}.parquet").unlink()
    assert go(run).cells == len(lost)
    drop = {one: frame.drop(columns="seconds") for one, frame in whole[1].items()}
    same(records(run), drop)


def faults(monkeypatch, at):
    """From the n-th change of the file system on, nothing works any more, as where a process was killed there."""
    left = [at]

    def failing(real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    for name in ("replace", "rename", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return left


@pytest.mark.parametrize("layout", [as_appended, as_single_files])
def test_cut_off_at_any_step_nothing_is_lost_and_nothing_is_there_twice(whole, run, registry, tmp_path, layout):
    layout(run)
    plan, _ = reopen(run, registry)
    cells = dict.fromkeys(sorted({cell for cell, _ in whole[1]}))
    expected = RunFolder(whole[0]).read_cells(cells, [*NAMES, SLICE]).to_pandas()
    for step in range(1000):
        folder = shutil.copytree(run, tmp_path / "cut")
        with pytest.MonkeyPatch.context() as patched:
            left = faults(patched, step)
            try:
                compact(RunFolder(folder), plan)
                ended = left[0] >= 0
            except KeyboardInterrupt:
                ended = False
        assert RunFolder(folder).read_cells(cells, [*NAMES, SLICE]).to_pandas().equals(expected), step
        compact(RunFolder(folder), plan)
        left_over = {path.name for path in (folder / "records").rglob("*")} - {"appended", "compact"}
        assert left_over == {path.name for path in compact_files(folder)} and len(left_over) == 2
        assert RunFolder(folder).read_cells(cells, [*NAMES, SLICE]).to_pandas().equals(expected), step
        shutil.rmtree(folder)
        if ended:
            break
    assert 9 < step < 999


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)


def test_one_bit_of_a_compact_file_costs_its_row_group_and_never_counts(whole, run, registry, go, monkeypatch, capsys):
    monkeypatch.setattr(record_files, "_GROUP_ROWS", (8, 8))
    shutil.copytree(as_appended(run), run.with_name("apart"))
    go(run)
    path = compact_files(run)[0]
    groups, content = pq.ParquetFile(path).metadata.num_row_groups, path.read_bytes()
    assert groups > 4
    plan, store = reopen(run, registry)
    own = {part[:2]: part.rows for part in record_files.parts_of(record_files.said_by(content))}
    rng, salvaged = random.Random(0), 0
    for bit in rng.sample(range(8 * len(content)), 40):
        flip(path, bit)
        store = RunFolder(run)
        store.soundness.forget()
        found = done_slices(plan, store)
        lost = {one for one in own if one[1] not in found[one[0]]}
        assert store.soundness.name(path) in store.soundness.damaged(), bit
        assert lost == own.keys() or sum(own[one] for one in lost) <= 12, bit
        salvaged += lost != own.keys()
        table = store.read_cells(dict.fromkeys(plan_cell.id for plan_cell in plan.cells))
        assert table.num_rows == sum(map(len, whole[1].values())) - sum(own[one] for one in lost)
        path.write_bytes(content)
    assert salvaged > 15
    flip(path, 8 * 300)  # in the first row group
    lost = len(own) - len({one for one in parts(run) if one in own})
    assert 0 < lost < len(own) and len(run_status(run, registry)["damaged"]) == 1
    capsys.readouterr()
    assert go(run).cells == lost and capsys.readouterr().err.count("1 damaged file") == 1
    assert not path.exists() or path.read_bytes() == content, "of clean rows, which take no time, it is the same file"
    assert not run_status(run, registry)["damaged"] and go(run).jobs == 0
    drop = {one: frame.drop(columns="seconds") for one, frame in whole[1].items()}
    same(records(run), drop)


@pytest.mark.parametrize("layout", [as_appended, lambda folder: folder], ids=["appended", "compact"])
def test_cut_copied_renamed_or_changed_it_is_noticed_and_computed_again(whole, run, registry, go, layout):
    layout(run)
    files = sorted((run / "records").rglob("*.parquet"))
    one, other, held = files[0], files[-1], len(parts(run))
    drop = {name: frame.drop(columns="seconds") for name, frame in whole[1].items()}
    content = one.read_bytes()
    deeds = {
        "cut": lambda: one.write_bytes(content[:-100]),
        "empty": lambda: one.write_bytes(b""),
        "copied": lambda: shutil.copy(one, one.with_name("copy.parquet")),
        "renamed": lambda: one.rename(one.with_name("renamed.parquet")),
        "another under its name": lambda: shutil.copy(other, one),
        "written by a program": lambda: pq.write_table(pq.ParquetFile(one).read(), one),
    }
    for deed, do in deeds.items():
        do()
        store = RunFolder(run)
        left = sum(map(len, store.held().values()))
        assert left == held if deed == "copied" else left < held, deed
        assert len(store.soundness.damaged()) == 1, deed
        for path in (run / "records").rglob("*.parquet"):
            if path not in files:
                path.unlink()
        one.write_bytes(content)
    deeds["renamed"]()
    lost = held - len(parts(run))
    assert go(run).cells == lost
    same(records(run), drop)
    assert len(compact_files(run)) == 2 and not run_status(run, registry)["damaged"]


def test_a_full_disk_leaves_records_as_they_were(whole, run, registry, go, monkeypatch, capsys):
    as_appended(run)
    real = os.fsync

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    plan, store = reopen(run, registry)
    with pytest.raises(StoreError, match=r"records.*: cannot be written \(No space left on device\).*make room"):
        compact(store, plan)
    monkeypatch.setattr(os, "fsync", real)
    assert not list((run / "records").rglob(".*.tmp"))
    same(records(run, ()), whole[1])
    assert go(run).jobs == 0 and len(compact_files(run)) == 2


def test_without_the_memory_for_it_records_stay_as_they_were(whole, run, registry, monkeypatch):
    as_appended(run)

    def too_much(*arguments):
        raise MemoryError

    plan, store = reopen(run, registry)
    with monkeypatch.context() as patched:
        patched.setattr(compaction, "sealed_file", too_much)
        with pytest.raises(StoreError, match=r"more memory than there is.*run 'robustiqa compact"):
            compact(store, plan)
    same(records(run, ()), whole[1])
    compact(store, plan)
    assert len(compact_files(run)) == 2 and not list(run.glob("records/appended/*"))


def test_a_file_that_others_put_in_the_place_of_one_that_was_read_stays(run, registry, monkeypatch):
    as_appended(run)
    path = sorted(run.glob("records/appended/*"))[0]
    real = compaction._write

    def then_replaced(*arguments):
        path.with_suffix(".new").write_bytes(path.read_bytes())
        path.with_suffix(".new").replace(path)
        return real(*arguments)

    monkeypatch.setattr(compaction, "_write", then_replaced)
    plan, store = reopen(run, registry)
    before = parts(run)
    compact(store, plan)
    assert list(run.glob("records/appended/*")) == [path] and parts(run) == before
    monkeypatch.setattr(compaction, "_write", real)
    compact(store, plan)
    assert not list(run.glob("records/appended/*")) and parts(run) == before


def test_only_the_shard_that_finds_nothing_left_puts_records_together(whole, go, tmp_path, capsys):
    folder = tmp_path / "run"
    go(folder, shard=(0, 2))
    assert "run: nothing was measured when its blocks were shared among these shards" in capsys.readouterr().err
    assert not compact_files(folder) and list(folder.glob("records/appended/*.parquet"))
    go(folder, shard=(1, 2))
    assert len(compact_files(folder)) == 2 and not list(folder.glob("records/appended/*.parquet"))
    same(records(folder), {one: frame.drop(columns="seconds") for one, frame in whole[1].items()})


def test_a_reader_finds_what_is_put_together_while_it_reads(run, registry, monkeypatch):
    """It has listed the appended files when a compaction takes them away."""
    plan, _ = reopen(run, registry)
    as_appended(run)
    listed = RunFolder.record_names

    def then_compacted(folder):
        names = listed(folder)
        monkeypatch.setattr(RunFolder, "record_names", listed)
        assert compact(RunFolder(run), plan).before[0] > 0
        return names

    before = RunFolder(run).slices_of(dict.fromkeys(cell.id for cell in plan.cells))
    (run / ".checked.json").unlink(missing_ok=True)
    monkeypatch.setattr(RunFolder, "record_names", then_compacted)
    assert RunFolder(run).slices_of(dict.fromkeys(before)) == before
    assert any(before.values())


def meanwhile(monkeypatch, do):
    """Something happens once, when the appended files have been listed."""
    walk, left = os.walk, [do]

    def walked(place, *arguments, **options):
        for folder, folders, names in walk(place, *arguments, **options):
            if str(folder).endswith("records/appended") and names and left:
                left.pop()()
            yield folder, folders, names

    monkeypatch.setattr(os, "walk", walked)
    return left


def test_whoever_reports_or_bundles_while_records_are_put_together_looks_again(
    whole, run, registry, go, monkeypatch, capsys
):
    plan, _ = reopen(run, registry)
    as_appended(run)
    left = meanwhile(monkeypatch, lambda: compact(RunFolder(run), plan))
    stamps = RunFolder(run).stamps()
    assert not left and stamps == RunFolder(run).stamps() and not any("appended" in one for one in stamps)
    monkeypatch.undo()
    as_appended(run)
    packed, real = [], bundle._pack

    def then_compacted(result, files, *arguments, **options):
        if not packed:
            compact(RunFolder(run), plan)
        packed.append(files)
        return real(result, files, *arguments, **options)

    monkeypatch.setattr(bundle, "_pack", then_compacted)
    said(capsys, "bundle", run, "-o", run.with_name("one.zip"))
    assert len(packed) == 2
    with zipfile.ZipFile(run.with_name("one.zip")) as file:
        assert sum("records/compact" in name for name in file.namelist()) == 2


def test_a_folder_that_another_run_takes_away_is_made_again(run, monkeypatch):
    """As that of pictures, when one of two runs in a folder has chosen some."""
    store, path, replace = RunFolder(run), run / "gallery/pool/one/00000.safetensors", os.replace
    taken = []

    def then_gone(source, target, *arguments, **options):
        if not taken:
            taken.append(shutil.rmtree(path.parent))
        return replace(source, target, *arguments, **options)

    monkeypatch.setattr(os, "replace", then_gone)
    store._write(path, b"content")
    assert taken and path.read_bytes() == b"content"


def test_images_of_an_example_that_is_being_written_are_not_damaged(go, tmp_path, registry):
    go(tmp_path / "run", SUITE.replace("limit: 12", "limit: 4\nsave_examples: 2"))
    plan, store = reopen(tmp_path / "run", registry)
    scores = next(tmp_path.glob("run/examples/*/*/*/scores.json"))
    content = scores.read_bytes()
    scores.unlink()
    assert not check_folder(store, plan).damaged
    scores.write_bytes(content)
    assert not RunFolder(tmp_path / "run").soundness.damaged()
