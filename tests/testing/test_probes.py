"""Probes: once per run folder, their measurements, and the mark on a metric that breaks its contract."""

import json

import pytest

from harness.errors import UserError

SUITE = """
name: measured
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up]
tables: [srocc, shift, pair_accuracy, two_afc]
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
    for table in (table for table in first.tables if table.name != "not_made"):
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


def test_a_metric_whose_probe_does_not_end_is_marked_too(run_toy, toy_file, tmp_path):
    result = run_toy(suite("negative_mse, dies_when_small"), tmp_path, probe=True, executor="processes", workers=1)
    assert "its probes did not end" in result.data.faults["dies_when_small"]
    assert [failure.message for failure in result.failures] == [
        "probe dies_when_small: its worker process died 2 times: it was ended by SIGKILL in metric 'dies_when_small' "
        f"from {toy_file}: score(), as the kernel does where memory runs out"
    ]
    assert all(
        {row[0] for row in t.full.rows} >= {"dies_when_small †"}
        for t in result.tables
        if t.name not in ("failures", "not_made")
    )
    assert not any("Not probed" in notice for notice in result.data.notices)


@pytest.mark.parametrize("page", ['{"faults": [1]}', "{", '{"faults": 1}'])
def test_a_damaged_page_is_made_again(run_toy, tmp_path, page, capsys):
    run_toy(suite(), tmp_path, probe=True)
    (path,) = (tmp_path / "probes").iterdir()
    before = path.read_bytes()
    path.write_text(page)
    assert run_toy(suite(), tmp_path, probe=True).jobs == 1 and path.read_bytes() == before
    assert f"1 damaged file: probes/{path.name}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["probes", "examples"])
def test_a_file_in_place_of_a_folder_is_refused_before_anything_is_written(run_toy, tmp_path, name):
    run_toy(suite(), tmp_path)
    (tmp_path / name).write_text("")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=f"{name}: no folder. Remove the file"):
        run_toy(suite(budgets="4/255, 8/255"), tmp_path)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
