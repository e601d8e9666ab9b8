"""What a run folder holds of records, whichever files it lies in."""

import json
from pathlib import Path

import pandas as pd

from harness.engine import seal
from harness.engine.record import row_ids
from harness.engine.record_files import parts_of, said_by
from harness.engine.run_folder import RunFolder


def parts(folder):
    """(cell, slice) of all records."""
    return {(cell, index) for cell, slices in RunFolder(Path(folder)).held().items() for index in slices}


def records(folder, drop=("seconds",)):
    """(cell, slice) -> its records as a frame, without what the clock measured."""
    store = RunFolder(Path(folder))
    found = {}
    for cell, slices in store.held().items():
        for index in sorted(slices):
            found[cell, index] = store.read_records(cell, index).to_pandas().drop(columns=list(drop))
    return found


def all_records(folder):
    """All records as one frame, by cell and slice."""
    frames = list(records(folder, ()).values())
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def as_single_files(folder):
    """Lay records out as versions before did: a sealed file for each cell and slice, and no other."""
    store = RunFolder(Path(folder))
    tables = {(cell, index): store.read_records(cell, index) for cell, index in parts(folder)}
    for name in store.record_names():
        (store.path / name).unlink()
    for part in ("appended", "compact"):
        if (store.path / "records" / part).is_dir():
            (store.path / "records" / part).rmdir()
    for (cell, index), table in tables.items():
        path = store.path / "records" / cell / f"{index:05d}.parquet"
        about = {"schema": 1, "cell": cell, "slice": index, "rows": row_ids(table)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seal.sealed_table(table, store.soundness.name(path), {"robustiqa": json.dumps(about)}))
    return store.path


def as_appended(folder):
    """Lay records out as they lie while a run goes on: a file for each slice and source."""
    store = RunFolder(Path(folder))
    tables = {one: store.read_records(*one) for one in sorted(parts(folder))}
    said = [said_by((store.path / name).read_bytes()) for name in store.record_names()]
    groups = {part.cell: part.group for one in said for part in parts_of(one)}
    for name in store.record_names():
        (store.path / name).unlink()
    blocks = {}
    for (cell, index), table in tables.items():
        blocks.setdefault((index, groups[cell].rpartition("-")[0]), {})[cell] = table
    for (index, _), found in blocks.items():
        store.append_records(index, found, groups)
    return store.path


def remove(folder, *cells_and_slices):
    """Take the records of some (cell, slice) away, so that they are to be computed again."""
    store = RunFolder(Path(folder))
    gone = set(cells_and_slices)
    tables = {one: store.read_records(*one) for one in parts(folder) - gone}
    for name in store.record_names():
        (store.path / name).unlink()
    for (cell, index), table in tables.items():
        store.write_records(cell, index, {name: table[name].to_pylist() for name in table.column_names})
    return store.path
