"""What a level is: groups without a strength, pairs that are equal, and what people themselves reach."""

import csv
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.flow import Options, report_run, run_suite
from harness.plugins.registry import Registry
from harness.statistics.ordering import level_credits, level_pairs
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from tests.toys.older import as_older

REGISTRY = Registry()


def run(folder, name, root, more=""):
    text = f"name: levels\ndatasets: [{{name: {name}, root: {root}{more}}}]\nmetrics: [psnr]\ntables: [ordering]\nslice: 16\nlimit: 16\n"
    return run_suite(validate(parse_text(text, "s"), REGISTRY), REGISTRY, Options(out=folder, executor="serial"))


@pytest.mark.parametrize(
    ("types", "share"), [(("08", "16", "17"), 0.858), (("08",), 0.996), (("16",), 0.883), (("17",), 0.694)]
)
def test_what_people_reach_on_real_images(test_data, types, share):
    """Over all three types as protocols of others count it; those whose levels alternate are why it is so low."""
    rows = [row for row in csv.DictReader((test_data / "tid2013_subset/labels.csv").open()) if row["type"] in types]
    mos = np.array([float(row["mos"]) for row in rows])
    columns = ([row[key] for row in rows] for key in ("ref", "type", "level"))
    weaker, stronger = level_pairs(*columns)
    assert len(weaker) == 240 * len(types)
    assert level_credits(mos[weaker], mos[stronger]).mean() == pytest.approx(share, abs=5e-4)
    signed = {
        row["type"] for row in rows if float(row["param"]) < 0 or (row["type"] == "17" and float(row["param"]) > 1)
    }
    assert signed == set(types) & REGISTRY.dataset("tid2013").cls.levels_not_strength.keys()


def test_l_leaves_out_groups_and_d_leaves_out_copies(tree, tmp_path):
    root = tree("kadid10k")
    shutil.copy(root / "images/I02.png", root / "images/I02_01_01.png")
    (table,) = run(tmp_path / "run", "kadid10k", root).tables
    notes = " ".join(table.notes)
    frame = table.frame.set_index("test")
    # Type 01 alone: three references with two levels each, all in order, as their scores are.
    assert frame.clean_share.tolist() == [1, 1] and frame.oracle_share["L"] == 1 and np.isnan(frame.oracle_share["D"])
    assert "no strength of distortion: 25 (signed: contrast changed by 0.3, 0.15, 0, −0.4, −0.6)." in notes
    assert "Not in D: 1 image equal to the reference in every pixel." in notes and "records this old" not in notes
    assert "oracle" in table.full.header and "with the human opinion scores in place of a metric" in notes
    as_older(tmp_path / "run")
    for path in (tmp_path / "run").glob("records/*/*.parquet"):
        records = pq.read_table(path)
        assert records["identical"].to_pylist().count(True) == 1
        pq.write_table(records.drop_columns("identical"), path)
    (old,) = report_run(tmp_path / "run", REGISTRY).tables
    # A copy scores as the reference does, which counts half.
    assert old.frame.set_index("test").clean_share["D"] == pytest.approx(11.5 / 12)
    assert "is not known of records this old" in " ".join(old.notes)


def test_the_protocol_line_says_which_scores(tree, tmp_path):
    (table,) = run(tmp_path / "run", "live", tree("live"), ", labels: realigned").tables
    assert "; human labels of dmos_realigned.mat;" in table.protocol
    assert "oracle" not in table.full.header and "L: share" not in " ".join(table.notes), "it grades no levels"
