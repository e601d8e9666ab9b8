"""IR-Score and MSU's scores: figures against loops over the records, and the cells that maps are fitted on."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, stats

from harness.report.arrays import FURTHEST, MEAN_OVER_ATTACKS
from harness.report.build import build_tables
from harness.suite.model import IrScore
from harness.suite.planning import make_plan

EPS = np.array([2, 4, 8, 10]) / 255
PGD = "pgd(steps=10)"


def with_train(run, **asked):
    """The run with a train split: its clean records, of which qualities and opinions are other than those evaluated."""
    clean = run.records[(run.records.attack == "clean") & (run.records.dataset == "mini")].copy()
    for name in ("clean", "attacked", "attacked_8bit"):
        clean[name] = 0.9 * clean[name] + 0.03 * np.sin(7 * clean["opinion"].astype(float))
    return dataclasses.replace(run, map_records=clean, mapped_apart=["mini"], ir_score=IrScore(**asked))


def tables_of(data, name="ir_score"):
    return [table for table in build_tables(dataclasses.replace(data, tables=[name])) if table.dataset == "mini"]


def frame_of(data, name="ir_score", **wanted):
    (table,) = tables_of(data, name)
    frame = table.frame
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def qualities(run, metric, attack, eps, defense="base", draw=0):
    r = run.records[(run.records.dataset == "mini") & (run.records.metric == metric) & (run.records.draw == draw)]
    r = r[(r.defense == defense) & (r.attack == attack) & (r.sign == 1) & ((r.eps - eps).abs() < 1e-9)]
    return r.clean.to_numpy(), r.attacked.to_numpy()


def train_of(data, metric, defense="base"):
    r = data.map_records
    return r[(r.metric == metric) & (r.defense == defense)]


def scaled_by_hand(quality, train, target):
    """Through mid-ranks of train and of the opinions, both filling [0, 1]; inside the range of train alone."""

    def ranks(sample):
        values, counts = np.unique(sample, return_counts=True)
        return values, (np.cumsum(counts) - counts / 2) / len(sample)

    x, p = ranks(train)
    y, q = ranks((target - target.min()) / np.ptp(target))
    return np.interp(np.interp(quality, x, p), q, y)


def test_mean_r_is_that_of_its_formula(run):
    data = with_train(run)
    records, learnt = run.records.copy(), data.map_records.copy()
    records["attacked"] = records.clean + 0.1 * (records.attacked - records.clean)
    learnt["clean"] = 1.6 * (learnt["clean"] - 0.5) + 0.5  # everything lies inside the range that maps are fitted on
    data = dataclasses.replace(data, records=records, map_records=learnt)
    train = train_of(data, "psnr")
    expected = []
    for eps in EPS:
        both = qualities(data, "psnr", PGD, eps)
        assert train.clean.min() < min(map(min, both)) and max(map(max, both)) < train.clean.max()
        s, changed = (scaled_by_hand(q, train.clean.to_numpy(), train.opinion.to_numpy(dtype=float)) for q in both)
        expected.append(np.log10(np.maximum(1 - s, s) / (np.abs(s - changed) + 1e-6)).mean())
    frame = frame_of(data, metric="psnr", attack=PGD)
    assert frame.eps.to_numpy() == pytest.approx(EPS) and frame.r.to_numpy() == pytest.approx(expected)
    assert (np.diff(frame.r) < 0).all(), "the stronger the attack, the lower"
    assert frame.mean_r.nunique() == 1
    assert frame.mean_r.iloc[0] == pytest.approx(integrate.trapezoid(expected, EPS) / np.ptp(EPS))
    assert (frame.mean_r_low < frame.mean_r).all() and (frame.mean_r < frame.mean_r_high).all()


def test_the_relative_area_is_that_of_a_defense_over_that_of_none(run):
    data = with_train(run, mapping="none")
    areas = {}
    for defense, draws in (("base", 1), ("flip", 2)):
        train = train_of(data, "birqa-tiny", defense).clean
        width = np.ptp(train)
        for draw in range(draws):
            pairs = [qualities(run, "birqa-tiny", PGD, eps, defense, draw) for eps in EPS]
            moved = [np.abs((attacked - clean) / width).mean() for clean, attacked in pairs]
            areas[defense, draw] = integrate.trapezoid(moved, EPS)
    wanted = np.mean([1 - areas["flip", draw] / areas["base", 0] for draw in range(2)])
    found = frame_of(data, metric="birqa-tiny", attack=PGD).drop_duplicates("defense").set_index("defense")
    assert found.relative_area["flip"] == pytest.approx(wanted)
    assert found.relative_area["base"] == 0
    assert found.relative_area_low["flip"] < wanted < found.relative_area_high["flip"]


def test_over_attacks_stand_their_mean_and_the_furthest(run):
    frame = frame_of(with_train(run), metric="ssim").drop_duplicates("attack").set_index("attack")
    assert frame.mean_r[MEAN_OVER_ATTACKS] == pytest.approx(frame.mean_r[["fgsm", PGD]].mean())
    assert frame.mean_r[FURTHEST] <= frame.mean_r[["fgsm", PGD]].min() + 1e-12


def test_headers_and_notes_say_what_was_done(run):
    (table,) = tables_of(with_train(run))
    assert "quantile map to proxy opinions, scaler train, trapezoid over budgets, attacked up" in table.title
    assert "IR, relative area" in table.full.header and not any(
        "fitted on the evaluated" in note for note in table.notes
    )
    (table,) = tables_of(with_train(run, mapping="weak", reference="ssim", scaler="test", rule="mean"))
    assert "weak map to the scores of ssim, scaler test, mean over budgets" in table.title
    (table,) = tables_of(run)
    assert any("fitted on the evaluated images" in note for note in table.notes)
    base = run.records[run.records.defense == "base"]
    (table,) = tables_of(dataclasses.replace(run, records=base))
    assert "IR, relative area" not in table.full.header and any("no defense here" in note for note in table.notes)
    dashed = tables_of(with_train(run, paper_dashes=True))[0].full.rows
    assert all((line[2] == "–") == ("flip" not in line[0]) for line in dashed)
    few = run.records[~((run.records.eps - 2 / 255).abs() < 1e-9)]
    notes = tables_of(dataclasses.replace(run, records=few))[0].notes
    assert any("Budgets are 4/255, 8/255, 10/255; the paper integrates over" in note for note in notes)


def test_images_that_hardly_moved_are_counted(run):
    records = run.records.copy()
    still = (records.metric == "psnr") & (records.attack == PGD) & records["item"].isin([f"i{i:03}" for i in range(7)])
    records.loc[still, "attacked"] = records.loc[still, "clean"]
    data = with_train(dataclasses.replace(run, records=records))
    assert set(frame_of(data, metric="psnr", attack=PGD).unmoved) == {7}
    assert any("Up to 7 of 96 images moved less than 0.0001 (psnr, pgd" in note for note in tables_of(data)[0].notes)


def test_a_scorer_without_a_map_is_named_and_the_others_have_theirs(run):
    data = with_train(run)
    records = data.map_records.copy()
    two = records.metric == "ssim"
    records.loc[two, "clean"] = np.where(records.loc[two, "opinion"] > 0.5, 1.0, 0.0)
    gone = (records.metric == "birqa-tiny") & (records.defense == "flip") & (records["item"] == "i003")
    data = dataclasses.replace(data, map_records=records[~gone])
    frame = frame_of(data)
    assert frame[frame.metric == "ssim"].mean_r.isna().all() and frame[frame.metric == "psnr"].mean_r.notna().all()
    (note,) = (note for note in tables_of(data)[0].notes if note.startswith("No map"))
    assert "ssim (fewer than 3 of its clean scores are distinct)" in note
    assert "birqa-tiny + flip (not all of its clean scores on the split that maps are fitted on are there)" in note
    none = dataclasses.replace(data, map_records=records.iloc[:0])
    assert frame_of(none).mean_r.isna().all(), "no map is fitted on what is judged because another is not there yet"
    blank = dataclasses.replace(data, map_records=records.assign(opinion=np.nan))
    assert any("opinions, which it is mapped to, have no two values" in note for note in tables_of(blank)[0].notes)


def test_msu_scores_are_those_of_an_independent_few_lines(run):
    data = dataclasses.replace(run, lower_is_better=["ssim"])
    for metric, sign in (("psnr", 1), ("ssim", -1)):
        before, after = qualities(run, metric, "fgsm", EPS[2])
        p, p_attacked = sign * before, sign * after  # as the metric gives them
        s, changed = ((x - p.min()) / np.ptp(p) for x in (p, p_attacked))
        row = (
            frame_of(data, "msu", metric=metric, attack="fgsm", direction="up").query("abs(eps - 8/255) < 1e-9").iloc[0]
        )
        assert row.absolute_gain == pytest.approx(sign * (changed - s).mean())
        assert row.relative_gain == pytest.approx(sign * ((changed - s) / (s + 1)).mean())
        assert row.classic_relative_gain == pytest.approx(sign * ((p_attacked - p) / (p + 1e-6)).mean())
        r = np.log10(np.maximum(1 - s, s) / (np.abs(s - changed) + 1e-6))
        assert row.r == pytest.approx(r.mean())
        shift = np.sign(sign * (changed - s).mean())
        assert row.wasserstein == pytest.approx(shift * stats.wasserstein_distance(s, changed))
        assert row.energy == pytest.approx(shift * stats.energy_distance(s, changed))


def test_constant_scores_have_no_scale(run):
    records = run.records.copy()
    records.loc[records.metric == "psnr", ["clean", "attacked"]] = 0.5
    frame = frame_of(dataclasses.replace(run, records=records), "msu", metric="psnr")
    assert frame[["absolute_gain", "relative_gain", "r", "wasserstein"]].isna().all(axis=None)


SUITE = """
name: maps
datasets: [{name: toy, references: 4, levels: 5}]
metrics: [linear, negative_mse]
defenses: [base, jitter]
attacks: [noise, fgsm]
budgets: {linf: [4/255, 8/255]}
directions: [up]
slice: 10
tables: [srocc, ir_score]
"""


def test_the_plan_adds_clean_cells_on_train_and_a_changed_map_runs_nothing(suite_of, run_toy, registry, tmp_path):
    plan = make_plan(suite_of(SUITE), registry)
    added = [cell for cell in plan.cells if cell.for_maps]
    assert {(cell.split.split, cell.scorer.label, cell.attack) for cell in added} == {
        ("train", name, None) for name in ("linear", "linear + jitter", "negative_mse", "negative_mse + jitter")
    }
    plain = make_plan(suite_of(SUITE.replace(", ir_score", "")), registry)
    assert [cell for cell in plan.cells if not cell.for_maps] == list(plain.cells) and plan.splits == plain.splits
    first = run_toy(SUITE, tmp_path / "run")
    assert first.finished and set(first.data.map_records["sample"].str.split("/").str[0]) == {"train"}
    assert set(first.data.records["sample"].str.split("/").str[0]) == {"test"}
    titles = [table.title for table in first.tables if table.name == "ir_score"]
    assert len(titles) == 1 and "quantile" in titles[0]
    changed = run_toy(SUITE + "ir_score: {mapping: emd, scaler: test}", tmp_path / "run")
    assert changed.blocks == 0 and any("emd map" in table.title for table in changed.tables)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("[4/255, 8/255]", "[8/255]"), "one budget"),
        (("{name: toy, ", "{name: toy, split: train, "), "train is what is evaluated"),
        (("[toy]", "[toy_triplets]"), "triplets"),
        (("tables: [srocc, ir_score]", "tables: [srocc]"), "not asked for"),
        (("[noise, fgsm]", "[noise]"), "controls alone"),
        (("[up]", "[down]"), "another direction"),
        (("tables: ", "ir_score: {mapping: none, scaler: test}\ntables: "), "nothing to fit"),
    ],
)
def test_no_cells_are_added_where_no_map_is_fitted(suite_of, registry, change, why):
    text = SUITE.replace("{name: toy, references: 4, levels: 5}", "toy") if "toy]" in change[0] else SUITE
    assert change[0] in text
    text = (
        text.replace(*change).replace("[srocc, ir_score]", "[srocc, two_afc, ir_score]")
        if "trip" in why
        else text.replace(*change)
    )
    assert not [cell for cell in make_plan(suite_of(text), registry).cells if cell.for_maps], why


def test_a_limit_leaves_maps_their_calibration_samples(suite_of, registry):
    text = SUITE.replace("references: 4", "references: 20") + "limit: 10\n"
    plan = make_plan(suite_of(text), registry)
    counts = {len(plan.entries_of(cell)) for cell in plan.cells if cell.for_maps}
    assert counts == {64} and plan.slices[next(c for c in plan.cells if c.for_maps).split.key] == 7
