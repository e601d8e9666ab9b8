"""Parameters of attacks as columns of records and of every CSV."""

import numpy as np
import pandas as pd

from harness.report.attack_parameters import with_attack_parameters
from harness.report.data import AttackFacts

SWEEP = """
name: sweep
datasets: [toy]
metrics: [linear]
attacks: [noise, {name: pgd, matrix: {steps: [1, 2], step_size: [1/255, 2/255]}}]
budgets: {linf: [4/255]}
directions: [up]
verdicts: false
"""


def test_a_sweep_is_read_from_columns(run_toy, tmp_path):
    found = run_toy(SWEEP, tmp_path)
    records = found.data.records
    pgd = records[records["attack"] != "clean"].dropna(subset="attack.steps")
    assert set(pgd["plugin"]) == {"pgd"} and len(pgd) == 4 * 20
    assert {(a, b) for a, b in zip(pgd["attack.steps"], pgd["attack.step_size"], strict=True)} == {
        (steps, size / 255) for steps in (1, 2) for size in (1, 2)
    }
    assert (
        set(pgd["attack.start"]) == {"random"}
        and records.loc[records["attack"] == "clean", "attack.start"].isna().all()
    )
    for path in sorted((tmp_path / "report/tables").glob("*.csv")):
        frame = pd.read_csv(path)
        rows = frame[frame["attack"].astype(str).str.startswith("pgd")]
        assert len(rows) == 0 or rows["attack.steps"].isin([1, 2]).all(), path
        told = rows["attack"].map(lambda label: 1 / 255 if "1/255" in label else 2 / 255)
        assert np.allclose(rows["attack.step_size"], told, atol=1e-9), path
    shift = pd.read_csv(tmp_path / "report/tables/shift.csv")
    by_steps = shift[np.isclose(shift["attack.step_size"], 2 / 255)].set_index("attack.steps")["raw_shift"]
    assert by_steps[2] > by_steps[1] > 0  # the optimum 4/255 is two steps of 2/255 away


def test_each_column_has_the_narrowest_type_of_its_values():
    attacks = {
        "a": AttackFacts("a", {"steps": 5, "eot": 1, "scale": 1, "flag": True, "sizes": [1, 2], "mode": "x"}, True),
        "b": AttackFacts("b", {"steps": 10, "scale": 0.5, "flag": False, "sizes": (3,), "mode": 2}, True, "restore"),
    }
    found = with_attack_parameters(pd.DataFrame({"attack": ["b", "a", "b"], "attack.mode": ["mine"] * 3}), attacks)
    assert found["attack.steps"].tolist() == [10, 5, 10] and found["attack.steps"].dtype == np.int64
    assert found["attack.scale"].tolist() == [0.5, 1.0, 0.5]
    assert found["attack.eot"].isna().tolist() == [True, False, True] and found["attack.eot"][1] == 1
    assert found["attack.flag"].tolist() == [False, True, False]
    assert found["attack.sizes"].tolist() == ["[3]", "[1, 2]", "[3]"]
    assert found["attack.floor"].tolist() == ["restore", None, "restore"]
    assert found["attack.mode"].tolist() == ["mine"] * 3, "a note of an attack stays"
    unknown = with_attack_parameters(pd.DataFrame({"attack": ["a", "furthest of all", None]}), attacks)
    assert unknown["attack.steps"].tolist()[0] == 5 and unknown["attack.steps"].isna().tolist() == [False, True, True]
    assert unknown["attack.flag"].tolist() == [True, None, None]
    assert with_attack_parameters(unknown[["attack"]], {}).columns.tolist() == ["attack"]
