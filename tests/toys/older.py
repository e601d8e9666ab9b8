"""A run folder as versions wrote it that knew no seals."""

import json
import shutil

import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from harness.engine import seal
from harness.engine.example_names import id_in
from harness.files import RESULT_FOLDERS
from tests.toys.stored import as_single_files


def as_older(folder):
    """Take seals, plan and gallery away; records are a file for each slice, and examples are called by ids alone."""
    folder = as_single_files(folder)
    for name in (".checked.json", "plan.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "gallery", ignore_errors=True)
    for path in folder.glob("examples/*"):
        path.rename(path.with_name(id_in(path.name)))
    for path in (folder / "suite.yaml", *folder.glob("examples/*/cell.txt")):
        path.write_text(seal.without_comment(path.read_text()))
    made_from = folder / "report" / "made-from.txt"
    if made_from.exists():
        lines = seal.without_comment(made_from.read_text()).splitlines()
        made_from.write_text("\n".join(line.partition("\t")[0] for line in lines))
    for path in (path for part in RESULT_FOLDERS for path in (folder / part).rglob("*") if path.is_file()):
        if path.suffix == ".json":
            value = seal.without_seal(json.loads(path.read_text()))
            if path.name in ("scores.json", "samples.json"):
                value = {
                    key: one for key, one in value.items() if key not in ("files", "examples", "exact", "exact_as_png")
                }
            path.write_text(json.dumps(value))
        elif path.suffix == ".parquet":
            pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path)
        elif path.suffix == ".safetensors" and path.parent.name == "fits":
            save_file(load_file(path), path)
    return folder
