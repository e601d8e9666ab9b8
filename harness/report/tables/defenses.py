"""The table of defenses: oblivious beside adaptive beside worst of draws, and the honest reference beside them all.

Table 9 of the BiRQA paper has the accuracy of each purifier under attacks on the bare metric. Here a defense also
stands as attacked through itself, and one that draws at random as an attacker sees it who asks again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from harness.report.arrays import FURTHEST, HONEST, LOWERING_CONTROL, LOWEST_SROCC, Evaluated, ScorerGrid, Setting
from harness.report.data import RunData
from harness.report.layout import Layout, at_largest_budget, figure_text, stated
from harness.report.measure import pair_accuracy_rows, srocc_rows
from harness.report.rows import Row, start_row
from harness.report.shifts import shift_rows
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.report.tables.pair_accuracy import NO_BOUND
from harness.report.triplets import overall_accuracy_of, two_afc_rows
from harness.statistics import robustness
from harness.statistics.bootstrap import Floats
from harness.statistics.masking import SHARE, TOLERANCE, Figure, not_weaker
from harness.wording import (
    MISSING,
    NO_DEFENSE,
    attack_text,
    budget_text,
    joined,
    marked,
    number,
    short_names,
    with_interval,
)

PAIRS, CHOICES = "robust pair accuracy", "2AFC accuracy"
STRONGER = "adaptive − oblivious, σ"
"""Figure of the rows that hold the two threats against each other; its direction follows."""
THREATS = {"oblivious": "oblivious: not a robustness claim", "adaptive": "adaptive"}
_PARTS = ("", "_low", "_high", "_bias", "_draw_sd", "_worst", "_worst_low", "_worst_high")
_WIDEST = 5
"""Attacks that the terminal has room for."""


def defenses_rows(data: RunData, one: Evaluated) -> Iterator[Row]:
    """One row per figure, scorer, attack, budget and direction, of metrics that have a defense; without transfers.

    `value` is the attacked figure, `clean` the clean one and `honest` that of the honest reference at the same budget,
    each with its interval, spread over draws and worst of draws; `noise_over_sigma` how far random noise of that size
    moves quality. In rows of `STRONGER` `value` is the difference of pushes and `outcome` the verdict.
    """
    defended = {scorer.metric for scorer in one.scorers if scorer.defense != NO_DEFENSE}
    noise = _noise(data, one)
    for figure, rows in _figures(data, one).items():
        kept = [row for row in rows if row["metric"] in defended and row["threat"] != "transfer"]
        honest = {_place(row): row for row in kept if row["attack"] == HONEST}
        kept = [row for row in kept if not row["control"] and row["attack"] not in (HONEST, LOWEST_SROCC)]
        if all(row["state"] == "missing" for row in kept):  # pairs, where only one end was attacked
            continue
        for row in kept:
            beside = honest.get(_place(row), {})
            yield row | {"figure": figure} | _renamed(beside, "value", "honest") | noise.get(_place(row)[:-1], {})
    yield from _compared(data, one)


def _figures(data: RunData, one: Evaluated) -> dict[str, list[Row]]:
    """Name of a figure -> its rows, the figure under "value" and its clean form under "clean"."""
    if one.facts.kind == "triplets":
        (direction,) = data.directions_of(one.facts)
        rows = [row for row in two_afc_rows(one, direction, honest=True) if overall_accuracy_of(row)]
        return {CHOICES: [_as_value(row, "accuracy", "clean_accuracy") for row in rows]}
    pairs = [row for row in pair_accuracy_rows(one) if row["attacked"] in ("", "both")]
    found = {PAIRS: [_as_value(row, "accuracy", "clean_accuracy") for row in pairs]}
    for row in srocc_rows(one, data.directions, honest=True):
        if not row["control"]:
            name = f"SROCC {row['direction']}".rstrip()
            found.setdefault(name, []).append(_as_value(row, "srocc", "clean_srocc"))
    return found


def _as_value(row: Row, name: str, clean: str) -> Row:
    start = {key: row[key] for key in row if not key.startswith((name, clean, "change", "shift_over"))}
    return start | _renamed(row, clean, "clean") | _renamed(row, name, "value")


def _renamed(row: Mapping[str, float], old: str, new: str) -> Row:
    return {new + part: row.get(old + part, np.nan) for part in _PARTS}


def _place(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("metric", "defense", "threat", "norm", "eps", "direction"))


def _noise(data: RunData, one: Evaluated) -> dict[tuple[object, ...], Row]:
    """What random noise inside the ball does to each scorer: a real change that a metric should notice."""
    labels = {setting.attack for scorer in one.scorers for setting in scorer.settings if _is_noise(setting)}
    return {
        _place(row)[:-1]: {f"noise_over_sigma{part}": row[f"shift_over_sigma{part}"] for part in _PARTS[:3]}
        for row in shift_rows(one, data.directions_of(one.facts))
        if row["attack"] in labels
    }


def _is_noise(setting: Setting) -> bool:
    return setting.control and setting.plugin == LOWERING_CONTROL


def _compared(data: RunData, one: Evaluated) -> Iterator[Row]:
    """Attacks through a defense against the same attacks on the bare metric, both scored with the defense."""
    known = {(scorer.metric, scorer.defense, scorer.threat): scorer for scorer in one.scorers}
    ways = ("up", "down") if one.facts.kind == "pairs" else tuple(data.directions_of(one.facts))
    for (metric, defense, threat), through in known.items():
        bare = known.get((metric, defense, "oblivious"))
        if threat != "adaptive" or bare is None:
            continue
        for setting in (*through.settings, *through.furthest):
            for way in ways if not setting.control else ():
                pushed = [_pushed(one, scorer, setting, way) for scorer in (through, bare)]
                if pushed[0] is None or pushed[1] is None:
                    continue
                clean = through.clean.mean(axis=0)
                found = not_weaker(pushed[0], pushed[1], clean, one.codes, one.multiplicities)
                row = start_row(one, through, setting, way, "ok")
                figures = {"value": found.value, "value_low": found.low, "value_high": found.high}
                told = {"least": found.least, "outcome": found.outcome, "samples": found.samples}
                yield row | {"figure": f"{STRONGER}, {way}"} | figures | told


def _pushed(one: Evaluated, scorer: ScorerGrid, setting: Setting, way: str) -> Floats | None:
    """How far quality went the attack's way, in the mean over draws, shape [N]; None where it was not all done."""
    chosen = one.choose(scorer, setting, way)
    if chosen.state != "ok" or scorer.state != "ok":
        return None
    pushed: Floats = robustness.push(scorer.clean, chosen.outcome.attacked, chosen.sign).mean(axis=0)
    return pushed


@table(
    "defenses",
    place=62,
    explains="Defended metrics beside the bare ones: attacked without the defense (oblivious), through it (adaptive), "
    "and for randomised ones the worst of the draws, with the honest reference and what is left of the sensitivity to "
    "noise.",
)
def defenses_table(data: RunData, one: Evaluated) -> Table | None:
    """Table 9's shape; for data sets with opinions or judges, where some metric has a defense."""
    judged = has_opinions(one) if one.facts.kind == "pairs" else not np.isnan(one.judge).all()
    if not judged or all(scorer.defense == NO_DEFENSE for scorer in one.scorers):
        return None
    rows = [row for row in defenses_rows(data, one) if row["attack"]]
    if not rows:
        return None
    pairs = one.facts.kind == "pairs"
    what = f"against {labels_text(one)}" if pairs else "agreement with the judge"
    asked = (
        "Robust pair accuracy: of two images the better is lowered and the worse one raised; how often does the better "
        "keep the higher score? 1 is always, 0.5 a coin. SROCC: does the metric still rank images as before?"
        if pairs
        else "Of two patches, does the metric prefer the one that the judge preferred (hard; 0.5 is a coin)?"
    )
    return make_table(
        "defenses",
        one,
        data,
        f"Defenses: {what}",
        f"{asked} Oblivious attacks were made without the defense and tell nothing of an attacker who knows it; what "
        "is left under adaptive ones, at the worst of the draws, is what a defense gives.",
        rows,
        _full(rows),
        _compact(rows),
        data.directions_of(one.facts),
        *_verdicts(rows),
        NO_BOUND if any(not math.isnan(row.get("honest", math.nan)) for row in rows) else _LACKING,
        ASSUMPTION if pairs else "",
    )


_LACKING = "No honest reference: it takes the controls noise and restore at the same budgets."


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each defense that both threats were run on, from the comparison that speaks most against it.

    An attacker takes the best attack, so where there are several it is the furthest of all that counts.
    """
    worst: dict[tuple[str, str], tuple[Figure, Row]] = {}
    compared = [row for row in rows if row["figure"].startswith(STRONGER)]
    strongest = {(row["metric"], row["defense"]) for row in compared if row["attack"] == FURTHEST}
    for row in compared:
        key = row["metric"], row["defense"]
        if key in strongest and row["attack"] != FURTHEST:
            continue
        found = Figure(row["value"], row["value_low"], row["value_high"], row["least"], row["samples"])
        if key not in worst or found.order < worst[key][0].order:
            worst[key] = found, row
    if not worst:
        return []
    told = [_verdict(*key, *found) for key, found in worst.items()]
    rule = f"allowed is −({TOLERANCE} σ + {100 * SHARE:.0f} % of the oblivious shift), paired over images"
    return ["Adaptive at least as strong as oblivious (" + rule + "): " + "; ".join(told) + "."]


def _verdict(metric: str, defense: str, found: Figure, row: Row) -> str:
    attack = f"{attack_text(row['attack'], row['norm'])} {row['direction']} {budget_text(row['norm'], row['eps'])}"
    least = f"least for {attack}, {with_interval(found.value, found.low, found.high, 2, True)} σ"
    reason = {
        "pass": "",
        "inconclusive": "; more images would tell",
        "FAIL": ": the attack through the defense is the weaker one. More steps or more EOT draws, or gradients that "
        "mislead (masking); until it is mended, its adaptive figures are too good",
    }[found.outcome]
    return f"{metric} + {defense} {found.outcome} ({least}){reason}"


_Line = dict[str, Row]
"""The rows of one line by their attack."""


def _lines(rows: Sequence[Row], short: Mapping[str, str]) -> dict[tuple[str, str, str, str, str], _Line]:
    """(Metric, figure, radius, defense, threat) -> its rows; what is to be compared stands together."""
    metrics, figures = (list(dict.fromkeys(row[name] for row in rows)) for name in ("metric", "figure"))
    ordered = sorted(
        rows, key=lambda row: (metrics.index(row["metric"]), figures.index(row["figure"]), row["norm"], row["eps"])
    )
    lines: dict[tuple[str, str, str, str, str], _Line] = {}
    for row in ordered:
        name = marked(row["metric"], row["broken"])
        radius = attack_text(budget_text(row["norm"], row["eps"]), row["norm"])
        key = name, row["figure"], radius, row["defense"], THREATS.get(row["threat"], MISSING)
        lines.setdefault(key, {})[short.get(row["attack"], row["attack"])] = row
    return lines


def _layout(
    lines: Mapping[tuple[str, str, str, str, str], _Line],
    attacks: Sequence[str],
    text: Callable[[Row, str], str],
    labels: Sequence[int],
    note: str,
) -> Layout:
    """One line per key; of its five parts those that `labels` numbers are shown."""
    whole = [row for line in lines.values() for row in line.values()]
    honest = any(not math.isnan(row.get("honest", math.nan)) for row in whole)
    noise = any(not math.isnan(row.get("noise_over_sigma", math.nan)) for row in whole)
    body = []
    for key, line in lines.items():
        first = next(iter(line.values()))
        cells = [text(first, "clean")]
        cells += [text(first, "honest")] if honest else []
        cells += [stated(line[name], lambda row: text(row, "value")) if name in line else MISSING for name in attacks]
        cells += [text(first, "noise_over_sigma")] if noise else []
        body.append((*(key[place] for place in labels), *cells))
    names = ("metric", "figure", "ε", "defense", "threat")
    beside = (["honest"] if honest else []), (["noise/σ"] if noise else [])
    header = (*(names[place] for place in labels), "clean", *beside[0], *attacks, *beside[1])
    return Layout(header, tuple(body), len(labels), note)


def _full(rows: Sequence[Row]) -> Layout:
    """Every figure and budget, with intervals under the figures."""
    note = (
        "honest: the figure of the honest reference inside the same ball. noise/σ: how far random noise of that size, "
        "a real loss of quality, moves the mean score; a defense that brings it near 0 made the metric blind to it. "
        f"{STRONGER}: by how much more the attack through the defense moves quality."
    )
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    return _layout(_lines(rows, {}), attacks, _cell, range(5), note)


def _cell(row: Row, name: str) -> str:
    if math.isnan(row.get(name, math.nan)):
        return MISSING
    signed = name == "noise_over_sigma" or row["figure"].startswith(STRONGER)
    text = figure_text({f"{name}_draw_sd": math.nan} | row, name, signed).replace(" [", "\n[")
    return f"{text}\n{row['outcome']}" if "outcome" in row else text


def _compact(rows: Sequence[Row]) -> Layout:
    """For the terminal: the first figure at the largest budgets, without intervals."""
    own = [row for row in at_largest_budget(rows) if row["figure"] == rows[0]["figure"]]
    short = {name: {FURTHEST: "furthest"}.get(name, text) for name, text in short_names(_named(own)).items()}
    attacks = [short[name] for name in _named(own)]
    if len(attacks) > _WIDEST:  # what is strongest says most
        attacks = [*attacks[: _WIDEST - 1], attacks[-1]]
    lines = {(*key[:4], key[4].partition(":")[0]): line for key, line in _lines(own, short).items()}
    radii = joined(list(dict.fromkeys(key[2] for key in lines)))
    note = f"{rows[0]['figure']} at ε {radii}. Oblivious: not a robustness claim."
    note += " After the stroke: worst of draws." if any(row["draws"] > 1 for row in own) else ""
    note += " The page has every figure, budget and attack."
    return _layout(lines, attacks, _short_cell, (0, 3, 4), note)


def _named(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["attack"]) for row in rows))


def _short_cell(row: Row, name: str) -> str:
    if math.isnan(row.get(name, math.nan)):
        return MISSING
    worst = row.get(f"{name}_worst", math.nan)
    return number(row[name], 2, name == "noise_over_sigma") + ("" if math.isnan(worst) else f"/{number(worst)}")
