"""The engine end to end on toy plugins: what is recorded, what is kept, what fails and what is never run twice."""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.contracts import SampleRng
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.flow import Options, report_run, run_suite
from harness.plugins.registry import Registry
from harness.report.grouped import as_texts
from harness.suite.plan import in_hash_order
from harness.suite.planning import make_plan
from harness.suite.resolve import load_suite, validate
from harness.suite.strict_yaml import parse_text
from tests.toys.stored import records as stored_records

TOY = Path(__file__).parents[1] / "toys" / "toy.py"

BASIC = """
name: toy
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [{budgets}]}}
directions: [up, mos_split]
tables: [srocc, shift, two_afc]
"""


def basic(metrics="linear", attacks="noise, fgsm", budgets="4/255", more=""):
    return BASIC.format(metrics=metrics, attacks=attacks, budgets=budgets) + more


def records(result, **where):
    frame = result.data.records
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def stored(folder, times=False):
    """(cell, slice) -> its records as a frame without times."""
    return stored_records(folder, [] if times else ["seconds"])


def same(one, other):
    assert one.keys() == other.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True, obj=name)


def test_one_step_reaches_the_closed_form_on_a_linear_metric(run_toy, tmp_path):
    result = run_toy(basic(attacks="fgsm, pgd"), tmp_path / "run")
    for sign in (1, -1):
        for attack in ("fgsm", "pgd"):
            rows = records(result, attack=attack, sign=sign)
            moved = rows["attacked"] - rows["clean"]
            assert len(rows) == 20
            assert np.allclose(moved, sign * 4 / 255, atol=2e-4), "clipping to [0, 1] costs a few pixels at most"
            assert rows["linf"].max() <= 4 / 255 + 1e-6
    assert records(result, attack="fgsm")["forwards"].eq(1).all()
    assert records(result, attack="pgd")["backwards"].eq(10).all()


def test_lower_is_better_mirrors_higher_is_better(run_toy, tmp_path):
    result = run_toy(basic("linear, linear_lower", "fgsm"), tmp_path / "run")
    one, other = records(result, metric="linear"), records(result, metric="linear_lower")
    assert np.allclose(one["clean"].to_numpy(), -other["clean"].to_numpy(), atol=1e-7)
    up, down = one[one["sign"] == 1], other[other["sign"] == -1]
    assert np.allclose(up["attacked"].to_numpy(), -down["attacked"].to_numpy(), atol=1e-6)


def test_the_engine_projects_what_an_attack_leaves_outside(run_toy, tmp_path):
    result = run_toy(basic(attacks="far"), tmp_path / "run")
    rows = records(result, attack="far")
    assert rows["linf"].max() <= 4 / 255 + 1e-6
    assert np.allclose((rows["attacked"] - rows["clean"]) * rows["sign"], 4 / 255, atol=2e-4)


def test_keep_the_better_keeps_the_start_but_never_touches_a_control(run_toy, tmp_path):
    result = run_toy(basic("negative_mse", "worse, worse_control"), tmp_path / "run")
    attack = records(result, attack="worse", sign=1)
    assert attack["status"].eq("start").all() and attack["attacked"].equals(attack["clean"])
    control = records(result, attack="worse_control")
    assert control["status"].eq("ok").all() and (control["attacked"] < control["clean"]).all()
    assert control["sign"].eq(0).all()


def test_a_floor_keeps_the_better_of_result_and_restored_image(run_toy, tmp_path):
    """On a squared error the restored image is the best there is, in closed form; downwards it never wins."""
    attacks = "restore, {name: pgd, steps: 1}, {name: pgd, steps: 1, floor: restore, label: floored}"
    result = run_toy(basic("negative_mse", attacks), tmp_path / "run")
    plain, floored, restore = (records(result, attack=name) for name in ("pgd(steps=1)", "floored", "restore"))
    up = [one[one["endpoint"].isin(["up", ""])].set_index("item").sort_index() for one in (plain, floored, restore)]
    assert (up[0]["attacked"] < up[2]["attacked"] - 1e-6).all()
    pd.testing.assert_series_equal(up[1]["attacked"], up[2]["attacked"], check_names=False)
    assert set(up[1]["status"]) == {"floor"} and (up[1]["linf"] <= 4 / 255 + 1e-6).all()
    down = [one[one["endpoint"] == "down"].set_index("item").sort_index() for one in (plain, floored)]
    assert down[0]["attacked"].equals(down[1]["attacked"]) and set(down[1]["status"]) == {"ok"}
    table = next(table for table in result.tables if table.name == "shift")
    assert "floored" in table.protocol and "floor: restore = " in table.protocol


def test_no_gain_is_the_start_kept(run_toy, tmp_path):
    """A black-box attack with too few queries on a score in steps moves nothing, and says so of every image."""
    result = run_toy(basic("stairs", "{name: random_search, queries: 1}", "1/2550"), tmp_path / "run")
    attacked = records(result, attack="random_search(queries=1)")
    still = attacked["attacked"] == attacked["clean"]
    assert still.any() and set(attacked[still]["status"]) == {"start"} and (attacked[still]["linf"] == 0).all()


def test_images_that_equal_their_references_are_attacked_and_counted(run_toy, tmp_path):
    """Downwards they move; upwards nothing is above a reference, and the share of starts kept says so of each."""
    text = basic("psnr, gmsd", "fgsm, {name: apgd, steps: 3, label: apgd}").replace(
        "[toy]", "[{name: toy, first: 0, levels: 1}]"
    )
    text = text.replace("[up, mos_split]", "[up, down]")
    result = run_toy(text, tmp_path / "run")
    rows = result.data.records.query("attack != 'clean'")
    equal = rows[rows["identical"]]
    down, up = (equal[equal["endpoint"] == way] for way in ("down", "up"))
    assert len(down) == len(up) == 4 * 2 * 2 and (equal["zero_gradients"] >= 1).all()
    assert set(down["status"]) == {"ok"} and (down["linf"] > 0).all() and (down["attacked"] < down["clean"]).all()
    assert set(up["status"]) == {"start"} and (up["linf"] == 0).all() and up["attacked"].equals(up["clean"])
    table = next(table.frame for table in result.tables if table.name == "shift")
    table = table[table["attack"].isin(rows["attack"])]
    gained = rows.assign(gain=(rows["attacked"] - rows["clean"]) * rows["sign"] > 0)
    without = 1 - gained.groupby(["metric", "attack", "endpoint"])["gain"].mean()
    assert len(table) == len(without) == 8
    for row in table.to_dict("records"):
        assert row["start_share"] == pytest.approx(without[row["metric"], row["attack"], row["direction"]])


def test_restore_is_the_best_move_for_a_pixelwise_metric(run_toy, tmp_path):
    result = run_toy(basic("negative_mse", "restore, pgd", "8/255"), tmp_path / "run")
    restore = records(result, attack="restore").set_index("item")["attacked"]
    pgd = records(result, attack="pgd", sign=1).set_index("item")["attacked"]
    assert (restore[pgd.index] >= pgd - 1e-7).all()


def test_fit_select_restarts_black_box_and_notes(run_toy, tmp_path):
    text = basic(attacks="learnt, restarts, guess", budgets="4/255", more="slice: 4\nlimit: 8\n")
    result = run_toy(text, tmp_path / "run")
    learnt = records(result, attack="learnt")
    moved = (learnt["attacked"] - learnt["clean"]) * learnt["sign"]
    assert np.allclose(moved, 4 / 255, atol=2e-4), "one universal direction is optimal for a linear metric"
    restarts = records(result, attack="restarts")
    assert set(restarts["member"]) <= {"restart 0", "restart 1", "restart 2"} and restarts["winner"].notna().all()
    assert restarts["forwards"].eq(6).all() and restarts["backwards"].eq(3).all()
    guess = records(result, attack="guess")
    assert guess["queries"].eq(7).all() and guess["backwards"].eq(0).all()
    assert ((guess["attacked"] - guess["clean"]) * guess["sign"] > 0).mean() > 0.9, "the best corner is kept"
    assert len(list((tmp_path / "run" / "fits").glob("*.safetensors"))) == 2, "one fit per sign"


def test_a_gradient_asked_for_in_a_black_box_fails_that_cell_only(run_toy, tmp_path):
    result = run_toy(basic(attacks="cheat, fgsm"), tmp_path / "run")
    assert result.failed == 6 and len(records(result, attack="fgsm")) == 40
    assert {"black-box" in f.message for f in result.data.failures} == {True}


def test_triplets_become_two_items_with_opposite_signs(run_toy, tmp_path):
    text = basic(attacks="fgsm").replace("[toy]", "[{name: toy_triplets, references: 6}]")
    result = run_toy(text, tmp_path / "run")
    rows = records(result, attack="fgsm").set_index("item")
    assert sorted(rows.index) == sorted(f"t{i}#p{p}" for i in range(6) for p in (0, 1))
    for i in range(6):
        preferred, rejected = (1, 0) if i % 2 else (0, 1)
        assert rows.loc[f"t{i}#p{preferred}", "sign"] == -1
        assert rows.loc[f"t{i}#p{rejected}", "sign"] == 1


def test_transfer_scores_one_attack_with_another_metric(run_toy, tmp_path):
    text = basic("linear, negative_mse", "fgsm", more="transfer: [{source: linear, scorer: negative_mse}]\n")
    result = run_toy(text, tmp_path / "run")
    moved = records(result, threat="transfer", attack="fgsm").set_index(["item", "sign"])
    direct = records(result, metric="linear", attack="fgsm").set_index(["item", "sign"])
    assert set(moved["metric"]) == {"negative_mse"} and set(moved["source"]) == {"linear"}
    assert np.allclose(moved["l2"], direct.loc[moved.index, "l2"]), "the same attacked images"
    assert result.blocks == 6, "the attack on linear is shared: three slices of two sources"


def test_oblivious_and_adaptive_purification(run_toy, tmp_path):
    adaptive = "{name: flip, threat: adaptive, eot: 8, draws: 2}"
    text = basic("linear", "pgd", more=f"defenses: [base, flip, {adaptive}]\n")
    result = run_toy(text, tmp_path / "run")
    rows = records(result, attack="pgd", sign=1)
    gain = (rows["attacked"] - rows["clean"]).groupby([rows["threat"]]).mean()
    assert gain["none"] == pytest.approx(4 / 255, abs=2e-4)
    assert gain["oblivious"] < 0.6 * gain["none"], "the attack did not know of the flip"
    assert gain["oblivious"] < gain["adaptive"] < gain["none"]
    assert set(rows[rows["threat"] == "adaptive"]["draw"]) == {0, 1}
    assert rows[rows["threat"] == "adaptive"]["backwards"].eq(80).all()


def test_eot_averages_what_an_attacker_with_one_draw_overfits(run_toy, tmp_path):
    def gain(eot, attack):
        defense = f"defenses: [{{name: jitter, strength: 1.0, threat: adaptive, eot: {eot}, draws: 16}}]\n"
        text = basic("linear", attack, more=defense + "datasets: [{name: toy, size: 8}]\n").replace(
            "datasets: [toy]\n", ""
        )
        rows = records(run_toy(text, tmp_path / f"{attack}{eot}"), attack=attack, sign=1)
        assert rows["draw"].nunique() == 16
        assert rows.groupby("item")["attacked"].nunique().min() > 1, "scoring draws afresh each time"
        return float((rows["attacked"] - rows["clean"]).mean())

    one, many = gain(1, "one_draw"), gain(32, "one_draw")
    assert many > 1.2 * one, "fresh draws in scoring show what the one-draw attacker overfitted"


def test_a_sample_is_attacked_alike_in_a_run_of_8_and_of_all(run_toy, tmp_path):
    few = run_toy(basic(attacks="pgd, noise", more="limit: 8\n"), tmp_path / "few")
    many = run_toy(basic(attacks="pgd, noise"), tmp_path / "many")
    columns = ["sign", "attacked", "attacked_8bit", "linf", "l2", "clean"]
    keys = ["item", "attack", "sign"]
    left = as_texts(few.data.records).set_index(keys, drop=False)[columns]
    right = as_texts(many.data.records).set_index(keys, drop=False)[columns].loc[left.index]
    assert few.data.records["item"].nunique() == 8
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert few.data.datasets["toy"].mean_opinion == many.data.datasets["toy"].mean_opinion


def test_a_finished_run_runs_nothing_and_an_extended_one_only_what_is_new(run_toy, tmp_path):
    first = run_toy(basic(), tmp_path / "run")
    before = stored(tmp_path / "run", times=True)
    assert (first.blocks, first.cells) == (3, 12), "3 slices x (clean, noise, fgsm up, fgsm down)"
    again = run_toy(basic(), tmp_path / "run")
    assert (again.jobs, again.blocks) == (0, 0)
    budget = run_toy(basic(budgets="4/255, 8/255"), tmp_path / "run")
    assert (budget.blocks, budget.cells) == (3, 9), "noise and fgsm up and down at the new budget"
    metric = run_toy(basic("linear, negative_mse", budgets="4/255, 8/255"), tmp_path / "run")
    assert (metric.blocks, metric.cells) == (3, 21), "everything of the new metric, nothing of the old"
    after = stored(tmp_path / "run", times=True)
    same(before, {name: after[name] for name in before})
    whole = run_toy(basic("linear, negative_mse", budgets="4/255, 8/255"), tmp_path / "whole")
    assert whole.cells == 42
    same(stored(tmp_path / "run"), stored(tmp_path / "whole"))


def test_one_and_two_workers_and_serial_give_the_same_bytes(run_toy, tmp_path):
    text = basic("linear, negative_mse", "noise, pgd, restarts")
    run_toy(text, tmp_path / "serial")
    for workers in (1, 2):
        run_toy(text, tmp_path / f"w{workers}", executor="processes", workers=workers)
        same(stored(tmp_path / "serial"), stored(tmp_path / f"w{workers}"))


@pytest.mark.parametrize("metric", ["nan_at", "raises_at"])
def test_a_failing_metric_fails_its_cells_names_the_sample_and_the_rest_goes_on(run_toy, tmp_path, suite_of, metric):
    text = basic(f"linear, {{name: {metric}, below: 0.35}}", "noise, fgsm")
    result = run_toy(text, tmp_path / "run")
    assert result.failed > 0 and len(records(result, metric="linear", attack="fgsm")) == 40
    named = {f.sample for f in result.data.failures if "clean" in f.cell}
    dataset = Registry([TOY]).dataset("toy").build({})
    bad = {e.id for e in dataset.entries("test") if dataset.load(e)["ref"][0, 0, 0] < 0.35}
    assert named and named <= bad
    wording = "NaN" if metric == "nan_at" else "planted failure"
    assert all(wording in f.message for f in result.data.failures)
    again = run_toy(text, tmp_path / "run")
    assert again.cells == 0 and again.failed > 0, "a failed cell is tried again, a finished one is not"


def test_an_attack_that_returns_nan_fails_its_cell(run_toy, tmp_path):
    result = run_toy(basic(attacks="nan_attack, fgsm"), tmp_path / "run")
    assert {f.message for f in result.data.failures if "nan_attack" in f.cell} != set()
    assert all("pixels that are not finite" in f.message for f in result.data.failures)
    assert len(records(result, attack="fgsm")) == 40


def test_a_dead_workers_block_is_tried_once_more(run_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FLAG", str(tmp_path / "flag"))
    text = basic("dies_once", "noise")
    result = run_toy(text, tmp_path / "run", executor="processes", workers=1)
    assert result.failed == 0 and len(records(result, attack="noise")) == 20


def test_a_block_that_kills_its_worker_twice_is_failed_and_the_rest_goes_on(run_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FLAG", str(tmp_path / "flag"))
    text = basic("dies_always, linear", "noise", more="limit: 8\n")
    result = run_toy(text, tmp_path / "run", executor="processes", workers=1)
    assert result.failed == 2 and len(records(result, metric="linear", attack="noise")) == 8
    assert all("worker process died 2 times" in f.message for f in result.data.failures)


def test_a_folder_of_another_suite_and_a_folder_that_is_no_run_are_refused(run_toy, tmp_path):
    run_toy(basic(attacks="noise"), tmp_path / "run")
    before = sorted(str(p) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(UserError, match=r"another suite \('toy', not 'other'\).*--out"):
        run_toy(basic().replace("name: toy", "name: other"), tmp_path / "run")
    assert sorted(str(p) for p in (tmp_path / "run").rglob("*")) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty and no run folder"):
        run_toy(basic(), tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        run_toy(basic(), tmp_path / "file")


def test_slices_are_nested_prefixes_in_hash_order(registry, suite_of):
    plan = make_plan(suite_of(basic()), registry)
    few = make_plan(suite_of(basic(more="limit: 9\n")), registry)
    (key,) = plan.entries
    order = [e.id for e in plan.entries[key]]
    assert order == [e.id for e in in_hash_order(list(reversed(plan.entries[key])))] and order != sorted(order)
    assert (plan.slices[key], few.slices[key]) == (3, 2)
    assert [c.id for c in plan.cells] == [c.id for c in few.cells], "the limit is no part of identity"


def test_provenance_and_the_resolved_suite_are_saved(run_toy, tmp_path, monkeypatch):
    run_toy(
        basic(attacks="noise, {name: pgd, label: mine}", more="defenses: [base, {name: flip, threat: adaptive}]\n"),
        tmp_path / "run",
    )
    store = RunFolder(tmp_path / "run")
    (versions,) = store.read_provenance("versions")
    assert versions["torch"] == torch.__version__ and versions["device"] == "cpu"
    (invocation,) = store.read_provenance("invocations")
    assert (
        invocation["executor"] == "serial"
        and invocation["workers"] == 1
        and invocation["torch_threads_per_worker"] == 1
    )
    assert (
        invocation["fingerprints"] == {"toy test": "toy 4 5 16"}
        and invocation["command"]
        and "commit" in (invocation["git"] or {"commit": 0})
    )
    (split,) = store.read_provenance("splits")
    assert split["mean_opinion"] == pytest.approx(0.5 + 0.015) and split["items"] == 20
    registry = Registry([TOY])
    saved = load_suite(tmp_path / "run" / "suite.yaml", registry)
    assert saved.attacks[1].parameters["steps"] == 10 and saved.attacks[1].label == "mine"
    assert run_suite(saved, registry, Options(out=tmp_path / "run", executor="serial", probe=False)).jobs == 0
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9.9")
    again = run_suite(saved, registry, Options(out=tmp_path / "run", executor="serial", probe=False))
    assert again.data.versions["torch"] == torch.__version__, "the report tells what made the records"


def test_streams_of_attack_keep_and_score_are_apart_and_a_defense_draws_per_sample(run_toy, tmp_path, monkeypatch):
    used = []
    original = SampleRng.for_samples.__func__

    def spy(cls, seed, ids, purpose, device="cpu"):
        used.append((purpose, tuple(ids)))
        return original(cls, seed, ids, purpose, device)

    monkeypatch.setattr(SampleRng, "for_samples", classmethod(spy))
    text = basic("linear", "fgsm", more="defenses: [{name: jitter, threat: adaptive, eot: 2, draws: 2}]\n")
    run_toy(text.replace("[toy]", "[{name: toy_triplets, references: 3}]"), tmp_path / "run")
    purposes = {purpose for purpose, _ in used}
    assert {"fgsm", "defense/attack/fgsm", "defense/keep", "defense/score/0", "defense/score/1"} <= purposes
    assert all("#" not in i for purpose, ids in used if purpose.startswith("defense/") for i in ids), (
        "patches share a draw"
    )
    assert all("#" in i for purpose, ids in used if purpose == "fgsm" for i in ids)


def test_an_attack_sees_the_range_of_clean_quality(run_toy, tmp_path):
    result = run_toy(basic("negative_mse", "tell_scale"), tmp_path / "run")
    (fact,) = [json.loads(f.read_text()) for f in (tmp_path / "run" / "facts").glob("*.json")]
    told = records(result, attack="tell_scale")["scale"]
    assert np.allclose(told, max(fact["quality"]) - min(fact["quality"])) and told.iloc[0] != 1.0


def test_a_fact_of_a_randomised_scorer_follows_the_seed(registry, suite_of):
    def facts(seed, defense):
        text = basic(more=f"seed: {seed}\ndefenses: [{defense}]\n")
        return {fact.id for fact in make_plan(suite_of(text), registry).facts}

    adaptive = "{name: jitter, threat: adaptive}"
    assert facts(0, adaptive) != facts(1, adaptive) and facts(0, "base") == facts(1, "base")


def test_two_fits_that_differ_in_eot_alone_are_kept_apart(run_toy, tmp_path):
    a, b = (f"{{name: jitter, threat: adaptive, eot: {eot}, label: e{eot}}}" for eot in (2, 5))
    result = run_toy(basic("linear", "learnt", more=f"defenses: [{a}, {b}]\nlimit: 8\n"), tmp_path / "run")
    assert result.failed == 0 and len(list((tmp_path / "run" / "fits").glob("*.safetensors"))) == 4


def test_two_splits_of_one_data_set_are_two_data_sets(run_toy, tmp_path):
    text = basic(attacks="noise", more="limit: 8\n").replace("[toy]", "[toy, {name: toy, split: train}]")
    result = run_toy(text, tmp_path / "run")
    assert set(result.data.datasets) == {"toy", "toy train"}
    assert result.data.records.groupby("dataset")["item"].nunique().to_dict() == {"toy": 8, "toy train": 8}


def test_a_failure_is_forgotten_once_the_cause_is_mended(run_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FLAG", str(tmp_path / "flag"))
    text = basic("needs_flag, linear", "noise, fgsm")
    broken = run_toy(text, tmp_path / "run")
    assert broken.failed > 0 and broken.failures
    (tmp_path / "flag").touch()
    mended = run_toy(text, tmp_path / "run")
    assert mended.failed == 0 and not mended.failures and not list((tmp_path / "run" / "failures").iterdir())


def test_what_a_dying_block_had_finished_counts(run_toy, tmp_path):
    result = run_toy(
        basic(attacks="noise, dies_here", more="limit: 8\n"), tmp_path / "run", executor="processes", workers=1
    )
    assert {f.cell for f in result.data.failures} == {
        "toy / linear / dies_here up eps 4/255",
        "toy / linear / dies_here down eps 4/255",
    }
    assert len(records(result, attack="noise")) == 8


def test_images_below_a_metrics_minimum_are_refused(run_toy, tmp_path):
    result = run_toy(basic("{name: birqa-tiny}, linear", "noise"), tmp_path / "run")
    assert all(f.bad_input and "at least 64 px" in f.message for f in result.failures) and result.failures
    assert len(records(result, metric="linear", attack="noise")) == 20


def test_a_run_killed_while_opening_its_folder_can_go_on(run_toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".suite.yaml.abc.tmp").write_text("name: t")
    assert run_toy(basic(attacks="noise"), tmp_path / "run").failed == 0


def test_notes_cannot_overwrite_a_column(run_toy, tmp_path):
    result = run_toy(basic(attacks="overwrites, noise"), tmp_path / "run")
    assert all("note() was called 'attacked'" in f.message for f in result.failures) and result.failures


def test_a_data_set_that_raises_fails_its_slice_only(run_toy, tmp_path):
    text = basic(attacks="noise").replace("[toy]", "[{name: toy_broken}]")
    result = run_toy(text, tmp_path / "run")
    assert result.failures and all("planted" in f.message and f.sample == "test/r1/n/2" for f in result.failures)
    assert 0 < records(result, attack="noise")["item"].nunique() < 20


def test_records_of_an_older_protocol_are_refused_and_their_report_stays(run_toy, registry, tmp_path):
    run_toy(basic(attacks="noise"), tmp_path / "run")
    older = [page | {"protocol": "1"} for page in RunFolder(tmp_path / "run").read_provenance("versions")]
    RunFolder(tmp_path / "run").write_provenance("versions", older)
    before = {path: path.read_bytes() for path in (tmp_path / "run/report").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"records are of robustiqa \S+ \(protocol 1\).*'robustiqa run' with its suite"):
        report_run(tmp_path / "run", registry)
    assert before == {path: path.read_bytes() for path in before}


def test_an_unfinished_run_says_so(run_toy, suite_of, registry, tmp_path):
    run_toy(basic(attacks="noise", more="limit: 8\n"), tmp_path / "run")
    (tmp_path / "run" / "suite.yaml").write_text(basic(attacks="noise"))
    data = report_run(tmp_path / "run", registry).data
    assert any("2 of 3 blocks" in notice for notice in data.notices)


ERROR = """
name: error
datasets: [toy]
metrics: [{metrics}]
attacks: [{attacks}]
budgets: {{linf: [4/255]}}
directions: [up, error]
"""


def test_error_takes_a_linear_prediction_away_from_its_opinion(run_toy, tmp_path):
    result = run_toy(ERROR.format(metrics="linear, linear_lower", attacks="pgd, noise"), tmp_path / "run")
    for metric in ("linear", "linear_lower"):
        fact = next(
            json.loads(p.read_text()) for p in (tmp_path / "run/facts").iterdir() if f'"{metric}"' in p.read_text()
        )
        slope, intercept = fact["line"]
        rows = records(result, metric=metric, attack="pgd", endpoint="error")
        assert len(rows) == 20
        off = slope * rows["clean"] + intercept - rows["opinion"]
        assert rows["sign"].eq(np.where(slope * off >= 0, 1, -1)).all(), "it starts away from the opinion"
        assert 0 < (rows["sign"] > 0).sum() < 20
        # The metric is linear with slopes that add up to 1, so the optimum is a full step to that side.
        assert np.allclose(rows["attacked"], rows["clean"] + rows["sign"] * 4 / 255, atol=2e-4)
    table = next(table.frame for table in result.tables if table.name == "shift")
    shift = table[(table["direction"] == "error") & (table["metric"] == "linear")].iloc[0]
    clean = records(result, metric="linear", attack="clean")["clean"]
    assert shift["shift_over_sigma"] == pytest.approx(4 / 255 / clean.std(ddof=0), rel=0.02)


def test_error_leaves_the_endpoints_it_stands_beside_alone(run_toy, tmp_path):
    alone = run_toy(ERROR.format(metrics="linear", attacks="pgd").replace(", error", ""), tmp_path / "run")
    before = stored(tmp_path / "run", times=True)
    both = run_toy(ERROR.format(metrics="linear", attacks="pgd"), tmp_path / "run")
    after = stored(tmp_path / "run", times=True)
    assert both.cells == len(both.data.records.query("endpoint == 'error'")) / 20 * 3
    same(before, {name: after[name] for name in before})
    assert alone.failed == both.failed == 0


def test_error_gets_what_an_attack_learnt_for_both_signs_and_passes_eot(run_toy, tmp_path):
    suite = (
        ERROR.format(metrics="negative_mse", attacks="learnt, restarts")
        + "defenses: [{name: jitter, threat: adaptive, eot: 2}]"
    )
    result = run_toy(suite, tmp_path / "run")
    assert not result.failures
    rows = records(result, attack="learnt", endpoint="error")
    assert len(rows) == 20
    assert (tmp_path / "run/fits").is_dir()
    assert len(list((tmp_path / "run/fits").iterdir())) == 2


def test_error_without_opinions_is_refused():
    registry = Registry([TOY, TOY.with_name("faulty.py")])
    text = ERROR.format(metrics="linear", attacks="pgd").replace("[toy]", "[images_range]")
    with pytest.raises(UserError, match="'images_range' has no opinions, so the direction 'error' cannot be had"):
        validate(parse_text(text, "suite.yaml"), registry)


def test_a_metric_that_fails_everywhere_keeps_its_rows(run_toy, tmp_path):
    result = run_toy(basic("linear, wrong_shape", "noise, fgsm", more="defenses: [base, flip]\n"), tmp_path / "run")
    for table in (table for table in result.tables if table.name not in ("failures", "not_made")):
        for layout in (table.full, table.compact) if table.name != "verdicts" else (table.full,):
            lost = [row for row in layout.rows if row[0].startswith("wrong_shape")]
            flipped = {"wrong_shape + flip (oblivious)"} if table.name != "defenses" else set()  # a column of its own
            assert {row[0] for row in lost} == {"wrong_shape"} | flipped, table.name
            # Where nothing could be measured a verdict is neither passed nor failed.
            word = "not measured" if table.name == "verdicts" else "failed"
            assert any(word in cell for row in lost for cell in row), table.name
    alone = run_toy(basic("wrong_shape", "fgsm"), tmp_path / "alone")
    (failures,) = alone.tables
    assert failures.name == "failures" and "score() returned shape" in failures.full.rows[0][0]
    assert len(failures.full.rows) < len(failures.frame), "one row for each cause"
