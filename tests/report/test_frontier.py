"""The frontier: straight lines in closed form, points against the other tables, equal clean SROCC against numpy."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from harness.report.build import build_tables
from harness.report.figures import draw_figures
from harness.report.tables.frontier import path_of
from harness.statistics.frontier import at_level, common_levels

EPS = 8 / 255


def test_readings_on_straight_lines():
    clean = np.array([[0.9, 0.95], [0.8, 0.85], [0.6, 0.95]])
    robust = np.array([[0.0, 0.0], [0.1, 0.2], [0.5, 0.6]])
    assert at_level(clean, robust, np.array([0.7, 0.9])) == pytest.approx([0.3, 0.1]), "the first time it comes by"
    assert np.isnan(at_level(clean, robust, np.array([0.5, 0.99]))).all()
    assert at_level(clean, robust, np.array([0.9, 0.95])) == pytest.approx([0.0, 0.0]), "the base itself"
    other = np.array([[0.9, 0.95], [0.7, 0.9]])
    lowest, middle = common_levels([clean, other])
    assert lowest == pytest.approx([0.7, 0.9]) and middle == pytest.approx([0.8, 0.925])


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        ("base", ("", 0.0)),
        ("aat", ("aat", 1.0)),
        ("aat@0.25", ("aat", 0.25)),
        ("birqa-tiny@aat@.5", ("birqa-tiny@aat", 0.5)),
        ("birqa-tiny@aat", ("birqa-tiny@aat", 1.0)),
        ("aat@2", ("aat@2", 1.0)),
    ],
)
def test_labels_say_where_a_model_stands(defense, expected):
    assert path_of(defense) == expected


@pytest.fixture(scope="module")
def data(make_run):
    """Two paths that pay with noise for weaker attacks, and a third that is the first again."""
    run = make_run(images=48, references=12, defense=False, triplets=False)
    base = run.records[(run.records.metric == "birqa-tiny") & (run.records.attack != "noise")]
    base = base[(base.eps == 0) | (base.eps == EPS)]
    parts = [base]
    for path, cost, gain, seed in (("r", 0.4, 0.8, 1), ("mix", 0.2, 0.5, 2), ("twin", 0.4, 0.8, 1)):
        noise = dict(zip(base["item"].unique(), np.random.default_rng(seed).normal(size=48), strict=True))
        for share in (0.5, 1):
            moved = (base.attacked - base.clean) * (1 - gain * share)
            clean = base.clean + cost * share * base["item"].map(noise)
            name = path if share == 1 else f"{path}@{share}"
            parts.append(base.assign(defense=name, threat="adaptive", clean=clean, attacked=clean + moved))
    oblivious = base.assign(defense="flip", threat="oblivious")
    return dataclasses.replace(run, records=pd.concat([*parts, oblivious], ignore_index=True), tables=["frontier"])


def test_paths_are_compared_at_equal_clean_srocc(data):
    (table,) = build_tables(data)
    frame = table.frame[((table.frame.eps - EPS).abs() < 1e-9) & (table.frame.attack == "furthest of all")]
    points = frame[frame.kind == "point"]
    assert sorted(points.defense) == ["base", "mix", "mix@0.5", "r", "r@0.5", "twin", "twin@0.5"], "none is oblivious"
    pairs = next(iter(build_tables(dataclasses.replace(data, tables=["pair_accuracy"])))).frame
    pairs = pairs[((pairs.eps - EPS).abs() < 1e-9) & (pairs.attack == "furthest of all") & (pairs.attacked == "both")]
    assert points.set_index("defense").accuracy.to_dict() == pytest.approx(
        pairs[pairs.threat != "oblivious"].set_index("defense").accuracy.to_dict()
    )
    at = points.set_index("defense")[["clean_srocc", "accuracy"]]
    lines = {path: at.loc[["base", f"{path}@0.5", path]] for path in ("r", "mix", "twin")}
    lowest = max(line.clean_srocc.min() for line in lines.values())
    for level, clean in (
        ("lowest common clean", lowest),
        ("half way to the base", (lowest + at.clean_srocc["base"]) / 2),
    ):
        here = frame[frame.level == level]
        assert here.clean_srocc.to_numpy() == pytest.approx(clean)
        read = {path: np.interp(clean, *line[::-1].to_numpy().T) for path, line in lines.items()}
        values = here[here.kind == "equal clean SROCC"].set_index("path")
        assert values.accuracy.to_dict() == pytest.approx(read)
        assert values.over_base.to_dict() == pytest.approx({k: v - at.accuracy["base"] for k, v in read.items()})
        assert ((values.accuracy_low < values.accuracy) & (values.accuracy < values.accuracy_high)).all()
        contrasts = here[here.kind == "difference at equal clean SROCC"].set_index(["path", "against"])
        assert contrasts.accuracy["r", "mix"] == pytest.approx(read["r"] - read["mix"])
        twins = contrasts.loc["r", "twin"]
        assert twins.accuracy == twins.accuracy_low == twins.accuracy_high == 0, "paired: equal paths do not differ"
    drawn = draw_figures([table])
    assert list(drawn) == ["mini frontier"] and drawn["mini frontier"].startswith(b"\x89PNG")


def test_without_points_between_there_is_nothing_to_compare(data):
    lone = data.records[~data.records.defense.str.contains("@")]
    (table,) = build_tables(dataclasses.replace(data, records=lone))
    assert set(table.frame.kind) == {"point"} and any("weights mix" in note for note in table.notes)
