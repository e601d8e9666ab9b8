"""The figures of triplets: 2AFC accuracy and score, clean and attacked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.report.arrays import Chosen, Evaluated, ScorerGrid, Setting
from harness.report.measure import Correlated
from harness.report.rows import (
    CONTROL,
    Bools,
    Measured,
    Row,
    choose,
    clusters_of,
    figure,
    in_order,
    mean_of,
    mean_of_known,
    start_row,
)
from harness.report.worst import asked_again, favoured_draw
from harness.statistics import bootstrap, directions, two_afc
from harness.statistics.bootstrap import Floats


def two_afc_rows(data: Evaluated, direction: str = "pair", honest: bool = False) -> Iterator[Row]:
    """2AFC accuracy (hard) and score (soft), per subset and over all.

    Args:
        data: The data set.
        direction: Names the patches attacked.
        honest: Whether the honest reference has rows as an attack has.
    """
    first, second = _patches(data)
    judge, groups, codes = data.judge[first], np.array(data.groups, dtype=object)[first], data.codes[first]
    subsets = sorted(set(groups.tolist()))
    undecided = int((judge == 0.5).sum())
    counted = {
        (kind, subset): among & (np.isin(subset, ("all", "macro")) | (groups == subset))
        for kind, among in (("hard", judge != 0.5), ("soft", ~np.isnan(judge)))
        for subset in ("all", "macro", *subsets)
    }

    def measures(quality: Floats) -> Iterator[tuple[str, str, Measured]]:
        for kind, credits in (
            ("hard", two_afc.hard_credits(quality[first], quality[second], judge)),
            ("soft", two_afc.soft_credits(quality[first], quality[second], judge)),
        ):
            parts = [
                mean_of_known(np.where(groups == name, credits, np.nan), codes, data.multiplicities) for name in subsets
            ]
            yield kind, "all", mean_of_known(credits, codes, data.multiplicities)
            if len(subsets) > 1:
                yield kind, "macro", mean_of(parts)
                yield from ((kind, name, part) for name, part in zip(subsets, parts, strict=True))

    def figures(draws: Floats) -> dict[tuple[str, str], list[Measured]]:
        out: dict[tuple[str, str], list[Measured]] = {}
        for draw in draws:
            for kind, subset, measured in measures(draw):
                out.setdefault((kind, subset), []).append(measured)
        return out

    # Who asks again takes what helps most, of a patch that is left alone, too.
    p0, p1 = directions.pair(data.judge)
    favoured = np.where(np.array(data.patches) == "p1", p1, p0).astype(np.float64)
    for scorer in data.scorers:
        clean = figures(scorer.clean)
        settings: list[Setting | None] = [*scorer.settings, *scorer.furthest, *(scorer.honest if honest else ())]
        for setting in settings or [None]:
            chosen = choose(data, scorer, setting, CONTROL if setting.control else direction) if setting else None
            for name, attacked in _patches_attacked(scorer, setting, chosen, direction):
                state = chosen.state if chosen else scorer.state
                after = figures(attacked) if state == "ok" else {}
                again = state == "ok" and asked_again(scorer.clean) and name not in (CONTROL, "")
                worst = figures(favoured_draw(favoured, attacked, scorer.clean)[0]) if again else {}
                for (kind, subset), known in clean.items():
                    if name in _ONE_PATCH and direction == "pair" and subset not in ("all", "macro"):
                        continue
                    row = start_row(data, scorer, setting, direction if name not in (CONTROL, "") else name, state)
                    row |= {"attacked": name, "kind": kind, "subset": subset, "undecided": undecided}
                    present = clusters_of(data, codes[counted[kind, subset]])
                    row |= figure("clean_accuracy", known if scorer.state == "ok" else [], present, "share")
                    attacked_figures = after.get((kind, subset), []) if setting else []
                    yield row | figure("accuracy", attacked_figures, present, "share", worst.get((kind, subset), []))


def clean_accuracies(data: Evaluated, scorer: ScorerGrid) -> list[Measured]:
    """Hard 2AFC accuracy over all triplets without an attack, of each draw; none where the scorer failed."""
    return _hard(data, scorer.clean) if scorer.state == "ok" else []


def attacked_accuracies(data: Evaluated, scorer: ScorerGrid, direction: str) -> Iterator[Correlated]:
    """Hard 2AFC accuracy over all triplets under every attack and control, `overall_accuracy_of` rows; none is of all.

    Args:
        data: The data set.
        scorer: Whose quality.
        direction: Names the patches attacked.
    """
    for setting, way in in_order(scorer, [direction], (*scorer.furthest, *scorer.honest)):
        chosen = choose(data, scorer, setting, way)
        whole = np.where(chosen.sign == 0, scorer.clean, chosen.outcome.attacked)
        attacked = chosen.outcome.attacked if setting.control else whole
        yield Correlated(setting, way, chosen.state, _hard(data, attacked) if chosen.state == "ok" else [], [])


def judged_clusters(data: Evaluated) -> Bools:
    """Which clusters have triplets that are not evenly split, shape [C]."""
    first, _ = _patches(data)
    return clusters_of(data, data.codes[first][data.judge[first] != 0.5])


def judged_subsets(data: Evaluated, least: int) -> dict[str, Bools]:
    """Subset -> which clusters have decided triplets of it, shape [C]; of those with at least so many of them."""
    first, _ = _patches(data)
    groups, decided = np.array(data.groups, dtype=object)[first], data.judge[first] != 0.5
    named = sorted({name for name in groups.tolist() if name and int((decided & (groups == name)).sum()) >= least})
    return {name: clusters_of(data, data.codes[first][decided & (groups == name)]) for name in named}


def subset_accuracies(data: Evaluated, draws: Floats, subset: str) -> list[Measured]:
    """Hard 2AFC accuracy over the triplets of one subset, for each draw of qualities [draws, items]."""
    return _hard(data, draws, subset)


def _hard(data: Evaluated, draws: Floats, subset: str | None = None) -> list[Measured]:
    first, second = _patches(data)
    judge = data.judge[first]
    credits = (two_afc.hard_credits(quality[first], quality[second], judge) for quality in draws)
    if subset is not None:
        own = np.array(data.groups, dtype=object)[first] == subset
        credits = (np.where(own, one, np.nan) for one in credits)
    return [mean_of_known(one, data.codes[first], data.multiplicities) for one in credits]


def overall_accuracy(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which of `two_afc_rows` are `overall_accuracy_of`."""
    return pd.Series([overall_accuracy_of(row) for row in frame.to_dict("records")], index=frame.index, dtype=bool)


def overall_accuracy_of(row: Mapping[Any, Any]) -> bool:
    """Whether a row is the hard figure over all triplets, with every patch attacked that the suite wants attacked.

    Rows about unattacked patches are among them.
    """
    one_of_both = row["attacked"] in _ONE_PATCH and row["direction"] == "pair"
    return row["kind"] == "hard" and row["subset"] == "all" and not one_of_both


_ONE_PATCH = ("rejected up", "preferred down")


def _patches_attacked(
    scorer: ScorerGrid, setting: Setting | None, chosen: Chosen | None, direction: str
) -> Iterable[tuple[str, Floats]]:
    if setting is None or chosen is None:
        return [("", scorer.clean)]
    if setting.control:
        return [(CONTROL, chosen.outcome.attacked)]
    attacked = chosen.outcome.attacked
    if direction != "pair":
        return [(direction.replace("_", " "), np.where(chosen.sign == 0, scorer.clean, attacked))]
    return [
        ("both", attacked),
        ("rejected up", np.where(chosen.sign > 0, attacked, scorer.clean)),
        ("preferred down", np.where(chosen.sign < 0, attacked, scorer.clean)),
    ]


def _patches(data: Evaluated) -> tuple[bootstrap.Ints, bootstrap.Ints]:
    place = {(sample, patch): i for i, (sample, patch) in enumerate(zip(data.samples, data.patches, strict=True))}
    whole = [sample for sample, patch in place if patch == "p0" and (sample, "p1") in place]
    return (
        np.array([place[sample, "p0"] for sample in whole], dtype=np.int64),
        np.array([place[sample, "p1"] for sample in whole], dtype=np.int64),
    )
