"""How the packages are laid out: what a reader may count on without opening a file."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeGuard

import grimp
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "metrics_zoo", "attacks", "defenses", "robustiqa")

PROTOCOL = {
    "KNOWN": "what the bridge of this file reaches; the tests and docs/attack_bridges.py read it of every bridge",
    "write": "a grid as text, in the form of this file",
    "Cell": "of a plan what is to be run, of laid-out tables the figures that it leads to, with the same names",
    "REFUSED": "what the bridge of this file does not reach, with reasons; read of every bridge likewise",
}
"""Names that several modules define on purpose, with one meaning: whoever reads one goes over all of these modules."""


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def names_bound(body: list[ast.stmt]) -> Iterator[str]:
    """What the statements of a module define, imports aside."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if _is_bound(name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.If | ast.Try):
            yield from names_bound([*node.body, *node.orelse])


def test_no_public_name_is_defined_in_two_modules():
    places = defaultdict(set)
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for name in names_bound(ast.parse(path.read_text(encoding="utf-8")).body):
            if not name.startswith("_"):
                places[name].add(path.relative_to(ROOT).as_posix())
    doubled = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    assert len(places) > 500, "the packages were not found"
    assert {name: where for name, where in doubled.items() if name not in PROTOCOL} == {}
    assert set(PROTOCOL) - set(doubled) == set(), "listed, and no longer defined twice"


def test_a_newcomer_sees_nine_rooms_and_ten_files():
    shown = [path for path in (ROOT / "harness").iterdir() if path.name != "__pycache__"]
    assert len([path for path in shown if path.is_dir()]) <= 9
    assert len([path for path in shown if path.is_file()]) <= 10


def test_no_circle_of_imports_lazy_ones_included():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > 500, "the imports were not found"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_every_room_stands_on_a_floor_of_the_house():
    """What `lint-imports` holds the code to: nine floors, each room on one of them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = [room for floor in floors for room in re.split(r" [|:] ", floor)]
    there = [path for path in (ROOT / "harness").iterdir() if path.is_dir() or path.suffix == ".py"]
    assert sorted(rooms) == sorted({path.stem for path in there} - {"__init__", "__pycache__"})
    assert len(floors) == 9


TABLE = """
import pandas as pd

from harness.report.layout import Layout
from harness.report.table import Table, table


@table("counted", explains="How many images there are.")
def counted(data, one):
    layout = Layout(("metric", "images"), tuple((s.metric, str(len(one.items))) for s in one.scorers), 1)
    frame = pd.DataFrame({"metric": [s.metric for s in one.scorers], "images": len(one.items)})
    return Table("counted", one.name, "Counted", "How many?", frame, layout, layout, "")
"""
COLUMN = '    Column("status",'
SUITE = "name: one\ndatasets: [mini]\nmetrics: [psnr]\ntables: [{table}]\nlimit: 8\n"


def house_with(folder, change):
    """A copy of the packages, changed, and a command that runs a suite in it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    change(folder / "harness")

    def run(table):
        (folder / "one.yaml").write_text(SUITE.format(table=table))
        command = [sys.executable, "-m", "harness", "run", "one.yaml", "--executor", "serial", "--no-probes", "--full"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_table_costs_one_file_and_a_record_column_two_edits(tmp_path):
    def change(harness):
        (harness / "report" / "tables" / "counted.py").write_text(TABLE)
        for file, old, new in (
            ("engine/record.py", COLUMN, f'    Column("height", "whole", "px", "height of the image"),\n{COLUMN}'),
            (
                "engine/score_batch.py",
                '"status": result',
                '"height": [batch.dist.shape[-2]] * count,\n"status": result',
            ),
        ):
            path = harness / file
            assert path.read_text().count(old) == 1
            path.write_text(path.read_text().replace(old, new))

    printed = house_with(tmp_path, change)("counted")
    assert "Counted" in printed and re.search(r"psnr +8", printed)
    assert "psnr,8" in (tmp_path / "results/runs/one/report/tables/counted.csv").read_text()
    (file,) = (tmp_path / "results" / "runs" / "one" / "records").rglob("*.parquet")
    table = pq.ParquetFile(file).read()
    assert table["height"].to_pylist() == [128] * 8
    assert table.column_names[-4:] == ["height", "status", "cell", "slice"]
