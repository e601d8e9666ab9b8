"""Probes: once per run folder, their measurements, and the mark on a metric that breaks its contract."""

import json

import pytest

SUITE = """
name: measured
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up]
"""


def suite(metrics="negative_mse", attacks="fgsm, noise", budgets="4/255"):
    return SUITE.format(metrics=metrics, attacks=attacks, budgets=budgets)


def test_a_run_probes_each_metric_once_and_marks_one_that_breaks_its_contract(run_toy, tmp_path):
    text = suite("negative_mse, linear")
    first = run_toy(text, tmp_path, probe=True)
    assert first.jobs == first.blocks + 2 + 2, "two probes, two calibrations"
    assert run_toy(text.replace("4/255", "4/255, 8/255"), tmp_path, probe=True).jobs == 3 * 2
    assert "linear" in first.data.faults and "negative_mse" not in first.data.faults
    assert "higher_is_better says the sense of the score" in first.data.faults["linear"]
    for table in first.tables:
        names = {row[0] for row in (*table.full.rows, *table.compact.rows)}
        assert names == {"negative_mse", "linear †"}, table.name
        assert any(note.startswith("† broke its contract when probed (linear: ") for note in table.notes)
        assert set(table.frame[table.frame["metric"] == "linear"]["broken"]) != {""}
    found = [json.loads(path.read_text()) for path in (tmp_path / "probes").iterdir()]
    measured = next(page for page in found if page["metric"] == "negative_mse")
    assert measured["faults"] == [] and measured["smallest"] == 1 and measured["identical"] == 0.0
    assert measured["range"][1] == 0.0 and measured["flat"] == pytest.approx(-0.0625)
    notices = run_toy(text, tmp_path / "bare").data.notices
    assert "Not probed whether they keep their contract: negative_mse, linear." in notices
