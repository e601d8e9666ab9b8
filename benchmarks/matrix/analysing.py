"""From the records of the evaluation to figures: per arm over members, contrasts, costs, and the check on masking."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cells import Cell, Work
from declared import BASE
from evaluating import member_label

from harness.flow import open_folder
from harness.plugins.registry import Registry
from harness.report.arrays import FURTHEST, LOWERING_CONTROL, RAISING_CONTROL, Evaluated, ScorerGrid, lay_out
from harness.report.rows import Measured
from harness.statistics import correlation, pairs, robustness
from harness.statistics.bootstrap import Floats, Ints, cluster_codes, ratio, sample_weights, weightings
from harness.statistics.intervals import Scale
from harness.statistics.levels import contrast, holm, two_levels
from harness.statistics.masking import not_weaker
from harness.training.measures import COLLAPSE

APART = 0.25
"""In opinions from 0 to 1, as far as more than 1 on a scale from 1 to 5."""
PRIMARY = "pair accuracy, attacked"
"""What contrasts are judged by; every other figure of a contrast stands beside it without a p-value."""

SCALES: Mapping[str, Scale] = {
    "clean SROCC": "correlation",
    "std ratio": "plain",
    "shift/σ up": "plain",
    "restore/σ": "plain",
    "shift/σ down": "plain",
    "noise/σ": "plain",
    "SROCC up": "correlation",
    "SROCC down": "correlation",
    "SROCC mos_split": "correlation",
    "SROCC up, honest": "correlation",
    "SROCC down, honest": "correlation",
    "SROCC mos_split, honest": "correlation",
    "SROCC FGSM up": "correlation",
    PRIMARY: "share",
    "pair accuracy, attacked, labels far apart": "share",
    "pair accuracy, honest": "share",
    "pair accuracy, clean": "share",
}
"""Every figure of an arm, in the order of the table."""


@dataclass(frozen=True)
class Images:
    """What all arms are evaluated on.

    Attributes:
        opinion: Labels in [0, 1], shape [N].
        codes: Number of each image's cluster, shape [N].
        clusters: How many there are, C.
        weightings: Shape [C + B, C].
        split: +1 where `mos_split` raises, -1 where it lowers, shape [N].
        name: What a cluster is called.
    """

    opinion: Floats
    codes: Ints
    clusters: int
    weightings: Ints
    split: Floats
    name: str


@dataclass(frozen=True)
class Outcome:
    """One arm on one member (or all folds): quality before, and after each attack or control by (label, endpoint)."""

    clean: Floats
    reached: Mapping[tuple[str, str], Floats]
    scale: tuple[float, float]

    def __getitem__(self, key: tuple[str, str]) -> Floats:
        return self.reached[key]


Outcomes = Mapping[str, Mapping[int, Outcome]]
"""Arm -> member -> what was measured; of folds one member, 0, that holds the images of all."""


def read_outcomes(work: Work, kind: str) -> tuple[Images, Outcomes]:
    """The records of one evaluation as arrays; images of all folds one after the other."""
    laid = lay_out(open_folder(work.folder / kind, Registry()).data)
    part = getattr(work.matrix, kind)
    folds = work.matrix.members.folds is not None
    arms = dict.fromkeys(cell.arm for cell in work.evaluated(part, kind))
    found: dict[str, dict[int, list[tuple[Floats, Mapping[tuple[str, str], Floats]]]]] = {arm: {} for arm in arms}
    for data in laid:
        for scorer in data.scorers:
            member = next(m for m in range(work.matrix.members.count) if member_label(work, m) == scorer.metric)
            if not folds or data.name == scorer.metric:
                found[scorer.defense].setdefault(0 if folds else member, []).append(_grids(scorer))
    opinion = np.concatenate([data.opinion for data in laid])
    names = [
        f"{data.name}/{data.codes[i]}" if folds else str(data.codes[i]) for data in laid for i in range(len(data.items))
    ]
    codes, clusters = cluster_codes(names)
    splits = [data.signs(data.scorers[0], "mos_split") for data in laid]
    split = np.concatenate([one[0] for one in splits if one is not None])
    images = Images(opinion, codes, clusters, weightings(codes), split, laid[0].facts.cluster_noun)
    return images, {
        arm: {m: _joined(parts, work.matrix.label_scale(arm)) for m, parts in sorted(of.items())}
        for arm, of in found.items()
        if of
    }


def _grids(scorer: ScorerGrid) -> tuple[Floats, Mapping[tuple[str, str], Floats]]:
    reached = {}
    for (setting, endpoint), one in scorer.finished.items():
        if one.state == "ok":
            reached[setting.attack, endpoint] = one.attacked.mean(axis=0)
            if setting.control:
                reached[setting.plugin, endpoint] = reached[setting.attack, endpoint]
    return scorer.clean.mean(axis=0), reached


def _joined(parts: Sequence[tuple[Floats, Mapping[tuple[str, str], Floats]]], scale: tuple[float, float]) -> Outcome:
    keys = set.intersection(*(set(reached) for _, reached in parts))
    reached = {key: np.concatenate([one[key] for _, one in parts]) for key in keys}
    return Outcome(np.concatenate([clean for clean, _ in parts]), reached, scale)


def figures(images: Images, one: Outcome) -> dict[str, Measured]:
    """Every figure of `SCALES` of one arm on one member."""
    up, down = one[FURTHEST, "up"], one[FURTHEST, "down"]
    restore, noise = one[RAISING_CONTROL, ""], one[LOWERING_CONTROL, ""]

    def srocc(quality: Floats) -> Measured:
        weights = sample_weights(images.weightings, images.codes)
        spread = correlation.weighted_srocc(quality, images.opinion, weights)
        return correlation.srocc(quality, images.opinion), spread

    def shift(quality: Floats) -> Measured:
        moved = quality - one.clean
        spread = robustness.resampled_mean_over_sigma(moved, one.clean, images.codes, images.weightings)
        return robustness.mean_over_sigma(moved, one.clean), spread

    def pair(better: Floats, worse: Floats, margin: float = 0.0) -> Measured:
        counts = pairs.pair_counts(images.opinion, better, worse, images.codes, images.clusters, margin)
        return counts.accuracy(), counts.resampled(images.weightings)

    def spread_of_labels() -> Measured:
        label = one.scale[0] + images.opinion * (one.scale[1] - one.scale[0])
        over, under = (robustness.resampled_sigma(x, images.codes, images.weightings) for x in (one.clean, label))
        return robustness.sigma(one.clean) / robustness.sigma(label), ratio(over, under)

    found = {
        "clean SROCC": srocc(one.clean),
        "std ratio": spread_of_labels(),
        "shift/σ up": shift(up),
        "restore/σ": shift(restore),
        "shift/σ down": shift(down),
        "noise/σ": shift(noise),
        "SROCC up": srocc(up),
        "SROCC down": srocc(down),
        "SROCC mos_split": srocc(np.where(images.split > 0, up, down)),
        "SROCC up, honest": srocc(restore),
        "SROCC down, honest": srocc(noise),
        "SROCC mos_split, honest": srocc(np.where(images.split > 0, restore, noise)),
        "SROCC FGSM up": srocc(one["fgsm", "up"]),
        PRIMARY: pair(down, up),
        "pair accuracy, attacked, labels far apart": pair(down, up, APART),
        "pair accuracy, honest": pair(noise, restore),
        "pair accuracy, clean": pair(one.clean, one.clean),
    }
    return {name: found[name] for name in SCALES}


Figures = Mapping[str, Mapping[int, Mapping[str, Measured]]]
"""Arm -> member -> figure."""


def all_figures(images: Images, outcomes: Outcomes) -> Figures:
    """`figures` of every arm and member."""
    return {arm: {m: figures(images, one) for m, one in of.items()} for arm, of in outcomes.items()}


def arm_rows(images: Images, found: Figures) -> Iterator[dict[str, Any]]:
    """A row per arm and figure: mean over members, its interval, and each member's own."""
    for arm, of in found.items():
        for name, scale in SCALES.items():
            measured = [one[name] for one in of.values()]
            values = [value for value, _ in measured]
            ends = two_levels(values, [spread for _, spread in measured], images.clusters, scale)
            yield {
                "arm": arm,
                "figure": name,
                "value": float(np.mean(values)),
                "low": ends.low,
                "high": ends.high,
                "members": len(values),
                "each": " ".join(f"{value:.4f}" for value in values),
                "images": len(images.opinion),
                "clusters": images.clusters,
            }


def contrast_rows(work: Work, images: Images, found: Figures) -> list[dict[str, Any]]:
    """A row per contrast and figure, over the members that both arms have; Holm over the contrasts of the first."""
    rows: list[dict[str, Any]] = []
    for asks, (first, second) in work.matrix.contrasts.items():
        shared = sorted(set(found.get(first, ())) & set(found.get(second, ())))
        for name in (PRIMARY, "clean SROCC", "SROCC mos_split"):
            row = {"asks": asks, "contrast": f"{first} - {second}", "figure": name, "members": len(shared)}
            if shared:
                parts = [(found[first][m][name], found[second][m][name]) for m in shared]
                differences = [a[0] - b[0] for a, b in parts]
                one = contrast(differences, [a[1] - b[1] for a, b in parts], images.clusters)
                row |= {"value": one.value, "low": one.low, "high": one.high, "p": one.p if name == PRIMARY else np.nan}
                row["each"] = " ".join(f"{value:+.4f}" for value in differences)
            rows.append(row)
    primary = [row for row in rows if row["figure"] == PRIMARY]
    for row, adjusted in zip(primary, holm([row.get("p", np.nan) for row in primary]), strict=True):
        row["p_holm"] = adjusted
    return rows


def masking_rows(work: Work) -> Iterator[dict[str, Any]]:
    """Per arm and endpoint of the check: whether what the evaluation reached is no weaker than each further attack."""
    if work.matrix.check is None:
        return
    evaluated, checked = (_by_item(work, kind) for kind in ("evaluation", "check"))
    for (metric, defense), (data, scorer) in checked.items():
        if (metric, defense) not in evaluated:
            continue
        whole, own = evaluated[metric, defense]
        places = [whole.items.index(item) for item in data.items]
        clean = scorer.clean.mean(axis=0)
        reached = dict(_grids(own)[1])
        for (attack, endpoint), quality in _grids(scorer)[1].items():
            if endpoint not in ("up", "down") or attack == FURTHEST:
                continue
            sign = 1.0 if endpoint == "up" else -1.0
            ours, theirs = (sign * (q - clean) for q in (reached[FURTHEST, endpoint][places], quality))
            one = not_weaker(ours, theirs, clean, data.codes, data.multiplicities)
            sigma = robustness.sigma(clean)
            yield {
                "arm": defense,
                "member": metric,
                "endpoint": endpoint,
                "attack": attack,
                "evaluation/σ": float(ours.mean() / sigma),
                "attack/σ": float(theirs.mean() / sigma),
                "difference/σ": one.value,
                "low": one.low,
                "high": one.high,
                "outcome": one.outcome,
                "images": one.samples,
            }


def _by_item(work: Work, kind: str) -> dict[tuple[str, str], tuple[Evaluated, ScorerGrid]]:
    laid = lay_out(open_folder(work.folder / kind, Registry()).data)
    folds = work.matrix.members.folds is not None
    return {
        (scorer.metric, scorer.defense): (data, scorer)
        for data in laid
        for scorer in data.scorers
        if not folds or data.name == scorer.metric
    }


def cost_rows(work: Work) -> Iterator[dict[str, Any]]:
    """Per arm what cannot be equal by definition: clean images a step, distinct images, evaluations, minutes."""
    trained = work.evaluated(work.matrix.evaluation, "evaluation")
    bases = {cell.member: _cost(work, cell) for cell in trained if cell.arm == BASE}
    for arm in (BASE, *work.matrix.arms):
        cells = [cell for cell in trained if cell.arm == arm]
        costs = [_cost(work, cell) for cell in cells]
        if not costs:
            continue
        mean = {key: float(np.mean([one[key] for one in costs])) for key in costs[0]}
        with_base = 0.0 if arm == BASE else float(np.mean([bases[cell.member]["minutes"] for cell in cells]))
        yield {"arm": arm, "says": _says(work, arm), "members": len(cells), **mean} | {
            "minutes with base": mean["minutes"] + with_base
        }


def _says(work: Work, arm: str) -> str:
    return "" if arm == BASE else work.matrix.arms[arm].says


def _cost(work: Work, cell: Cell) -> dict[str, float]:
    run = json.loads((work.run(cell) / "run.json").read_text())["members"]["only"]
    cost, last, steps = run["cost"], run["history"][-1], work.matrix.keys(cell.arm)["steps"]
    return {
        "steps": steps,
        "clean a step": cost["clean"] / steps,
        "attacked a step": cost["attacked"] / steps,
        "distinct images": cost["distinct"],
        "forwards": cost["forwards"],
        "backwards": cost["backwards"],
        "minutes": run["seconds"] / 60,
        "of them attack": cost["attack_s"] / 60,
        "val std ratio": last["spread"],
        "collapsed": float(last["collapsed"]),
    }


def collapsed(work: Work, found: Figures) -> list[str]:
    """Members whose output scale collapsed: on the validation split at the last step, or on the test split."""
    names = []
    for cell in work.evaluated(work.matrix.evaluation, "evaluation"):
        members = found.get(cell.arm, {})
        tested = members[cell.member]["std ratio"][0] if cell.member in members else np.nan  # folds are joined in 0
        last = _cost(work, cell)
        if last["collapsed"] or tested < COLLAPSE:
            test = "" if work.matrix.members.folds or np.isnan(tested) else f", test {tested:.2f}"
            names.append(f"{cell.name} (validation {last['val std ratio']:.2f}{test})")
    return names
