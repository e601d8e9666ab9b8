"""How a plan is made of a suite: it reads label files, runs nothing, and hashes image files as `pixels` asks for.

Where verdicts are asked for it looks at how large a few images are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from harness.contracts import Dataset, Entry
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.suite.conditions import Condition
from harness.suite.identity import identity
from harness.suite.ir_score_cells import scorers_to_map
from harness.suite.model import AttackUse, DatasetUse, DefenseUse, MetricUse, Suite
from harness.suite.over_splits import called_by_split
from harness.suite.pixels import Images, Ledgers, images_of
from harness.suite.plan import (
    CALIBRATION_SAMPLES,
    Cell,
    Endpoint,
    Fact,
    Fit,
    Plan,
    Probe,
    ScorerSpec,
    SplitSpec,
    in_hash_order,
    limit_of_maps,
)
from harness.suite.verdict_cells import added_attacks, traced_attacks, transferred_attacks, unmasked_twins

_LOOKED_AT = 3
"""Of how many entries a plan looks at the images' size."""
MOST_UNASKED = 100_000
"""Cells that a run takes on without being told that so many are meant; a slip in a `matrix` is more, soon."""
MOST_CELLS = 1_000_000
"""Cells that can be planned at once: the plan of a million takes some GB of memory."""
PROBES = 2
"""Part of a probe's identity. Raise it when a metric is asked for more."""
_UP_AND_DOWN: tuple[Endpoint, ...] = ("up", "down")
_SIGNS: Mapping[Endpoint, tuple[int, ...]] = {"": (), "up": (1,), "down": (-1,), "error": (1, -1)}


def make_plan(suite: Suite, registry: Registry, ledgers: Ledgers = lambda key: {}) -> Plan:
    """What a suite needs.

    Args:
        suite: The suite.
        registry: Where its plugins come from.
        ledgers: What the run folder recorded of image files; nothing for a folder that is not there yet.

    Raises:
        DataError: A data set's label file cannot be read.
        UserError: It asks for more cells than can be planned.
    """
    if cell_count(suite, MOST_CELLS) > MOST_CELLS:
        raise UserError(
            f"{suite.name}: more than {MOST_CELLS:,} cells, which cannot be planned at once. Take fewer metrics, "
            "attacks, budgets or values of a matrix, leave some out with 'exclude', or split the suite into several."
        )
    if suite.parts:
        return _joined(suite, [make_plan(part, registry, ledgers) for part in called_by_split(suite.parts)])
    cells: dict[str, Cell] = {}
    facts: dict[str, Fact] = {}
    fits: dict[str, Fit] = {}
    entries: dict[str, Sequence[Entry]] = {}
    slices: dict[str, int] = {}
    files: list[Path] | None = []
    images: dict[str, Images] = {}
    for use in suite.datasets:
        dataset = registry.dataset(use.name).build(use.parameters)
        found, fingerprint = images_for(use, dataset, ledgers), dataset.fingerprint()
        specs = {name: SplitSpec(use, name, fingerprint, one.digest()) for name, one in found.items()}
        split, calibration = specs[use.split], specs[use.calibration_split]
        images |= {specs[name].key: one for name, one in found.items()}
        entries[split.key] = in_hash_order(dataset.entries(use.split))
        looked_at = _files_of(dataset) if use.pixels != "all" else None
        files = None if files is None or looked_at is None else [*files, *looked_at]
        evaluated = len(entries[split.key]) if suite.limit is None else min(suite.limit, len(entries[split.key]))
        slices[split.key] = math.ceil(evaluated / suite.slice_size)
        for part in own_parts(suite, split, calibration):
            if isinstance(part, Cell):
                cells.setdefault(part.id, part)
            elif isinstance(part, Fact):
                facts.setdefault(part.id, part)
            else:
                fits.setdefault(part.id, part)
        own_cells = [cell for cell in cells.values() if cell.split.key == split.key]
        for scorer, defense in _to_map(suite, use, own_cells):
            cell = replace(_cell(suite, calibration, scorer, scorer, defense), for_maps=True)
            cells[cell.id] = cell
            entries.setdefault(calibration.key, in_hash_order(dataset.entries(use.calibration_split)))
            count = len(entries[calibration.key][: limit_of_maps(suite)])
            slices[calibration.key] = math.ceil(count / suite.slice_size)
        side = _smallest_side(dataset, entries[split.key]) if suite.verdict_samples else 0
        for source, scorer, defense in _pairs(suite):  # after the suite's own cells, which may be the same
            for part in _for_verdicts(suite, registry, split, calibration, source, scorer, defense, side):
                if isinstance(part, Cell):
                    cells.setdefault(part.id, part)
                else:
                    facts.setdefault(part.id, part)
    own = (cell for cell in cells.values() if not cell.for_verdicts)  # unmasked twins are known to keep the contract
    specs_used = {(spec.metric.label, spec.metric.weights): spec for cell in own for spec in (cell.source, cell.scorer)}
    probes = tuple(map(_probe, specs_used.values()))
    return Plan(
        suite,
        probes,
        tuple(facts.values()),
        tuple(fits.values()),
        tuple(cells.values()),
        slices,
        entries,
        None if files is None else tuple(files),
        images,
    )


def own_parts(suite: Suite, split: SplitSpec, calibration: SplitSpec) -> Iterator[Fact | Fit | Cell]:
    """The cells that a suite asks for itself on one split, in their order, after the facts and fits they need.

    Args:
        suite: The suite.
        split: The evaluated split of one of its data sets.
        calibration: The split that facts about scorers come from.
    """
    for source, scorer, defense in _pairs(suite):
        if suite.excludes(_condition(split, source, scorer, defense)):
            continue
        yield from _cells(suite, split, calibration, source, scorer, defense)
        if "self_split" in suite.directions and split.dataset.shape == "pairs":
            yield _fact(suite, split, scorer)


def many_cells(suite: Suite) -> bool:
    """Whether a suite asks for so many cells that a run wants to be told that they are meant."""
    return cell_count(suite, MOST_UNASKED) > MOST_UNASKED


def cell_count(suite: Suite, most: int) -> int:
    """How many cells a suite asks for, before any is planned; of more than `most`, only that it is more.

    Those that verdicts and maps add are not counted, and what two entries have in common is counted twice.
    """
    count = 0
    for part in suite.parts or (suite,):
        for use in part.datasets:
            for source, scorer, defense in _pairs(part):
                own = _Labels(use.label, source.metric.label, scorer.metric.label, defense.label)
                if part.excludes(Condition(*own)):
                    continue
                wanted = ((attack, _wanted(part, own, attack)) for attack in part.attacks)
                count += 1 + sum(len(budgets) * len(_endpoints(part, use, attack)) for attack, budgets in wanted)
                if count > most:
                    return count
    return count


class _Labels(NamedTuple):
    """What decides with an attack and a budget whether a cell is excluded."""

    dataset: str
    source: str
    scorer: str
    defense: str


def _wanted(suite: Suite, labels: _Labels, attack: AttackUse) -> list[tuple[str, float]]:
    """The budgets, as (norm, eps), at which an attack is run."""
    return [
        (norm, eps)
        for norm, eps in suite.budgets
        if norm in attack.norms and not suite.excludes(Condition(*labels, attack.label, norm, eps))
    ]


def _joined(suite: Suite, plans: Sequence[Plan]) -> Plan:
    """The plans of several splits as one; what two of them need alike is there once."""
    files = [plan.files for plan in plans]
    return Plan(
        suite,
        tuple({one.id: one for plan in plans for one in plan.probes}.values()),
        tuple({one.id: one for plan in plans for one in plan.facts}.values()),
        tuple({one.id: one for plan in plans for one in plan.fits}.values()),
        tuple({one.id: one for plan in plans for one in plan.cells}.values()),
        {key: count for plan in plans for key, count in plan.slices.items()},
        {key: found for plan in plans for key, found in plan.entries.items()},
        None if None in files else tuple(dict.fromkeys(file for found in files if found for file in found)),
        {key: images for plan in plans for key, images in plan.images.items()},
    )


def images_for(use: DatasetUse, dataset: Dataset, ledgers: Ledgers, *, every: bool = False) -> dict[str, Images]:
    """Split -> its image files, of the evaluated split and the one that facts come from.

    Args:
        use: How a suite uses the data set.
        dataset: The set.
        ledgers: What the run folder recorded.
        every: Whether to list them where `pixels` says that they are not looked at, too.
    """
    listed = replace(use, pixels="all") if every else use
    return {
        name: images_of(dataset, listed, name, in_hash_order(dataset.entries(name)), ledgers)
        for name in (use.split, use.calibration_split)
    }


def _to_map(suite: Suite, use: DatasetUse, cells: Sequence[Cell]) -> Iterator[tuple[ScorerSpec, DefenseUse]]:
    """The scorers that maps are fitted for, each with a defense it belongs to."""
    defended = {scorer.key: defense for _, scorer, defense in reversed(list(_pairs(suite)))}
    for scorer in scorers_to_map(suite, use, cells):
        yield scorer, defended.get(scorer.key, _UNDEFENDED)


def _files_of(dataset: Dataset) -> Sequence[Path] | None:
    """What a data set says of its files; a plugin that cannot say so loses the short way, and nothing else."""
    try:
        found = dataset.files()
        return None if found is None else [Path(path) for path in found]
    except Exception:
        return None


def _smallest_side(dataset: Dataset, entries: Sequence[Entry]) -> int:
    """Smallest side of a few images, in pixels; where they cannot be read, who needs their pixels says why."""
    try:
        images = [image for entry in entries[:_LOOKED_AT] for image in dataset.load(entry).values()]
        return min((min(image.shape[-2:]) for image in images), default=sys.maxsize)
    except Exception:
        return sys.maxsize


def _probe(spec: ScorerSpec) -> Probe:
    parts = {"metric": spec.metric.identity(), "probes": PROBES}
    return Probe(identity("probe", parts), spec.metric, spec.training)


def _fact(suite: Suite, split: SplitSpec, scorer: ScorerSpec) -> Fact:
    parts = {
        "split": split.written,
        "scorer": scorer.written,
        "samples": CALIBRATION_SAMPLES,
        "seed": suite.seed if scorer.purifiers else None,
        "slice": suite.slice_size,
    }
    return Fact(identity("fact", parts), split, scorer)


def _fit(suite: Suite, split: SplitSpec, source: ScorerSpec, attack: AttackUse, sign: int, eot: int, fact: Fact) -> Fit:
    parts = {
        "split": split.written,
        "source": source.written,
        "attack": attack.written,
        "sign": sign,
        "eot": eot,
        "fact": fact.id,
        "seed": suite.seed,
        "slice": suite.slice_size,
    }
    return Fit(identity("fit", parts), split, source, attack, sign, eot, fact.id)


def _cells(
    suite: Suite,
    split: SplitSpec,
    calibration: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
) -> Iterator[Fact | Fit | Cell]:
    """The clean cell of a scorer, then the attacked ones of (source, scorer), after the facts and fits they need."""
    threat = defense.threat if source.metric.label == scorer.metric.label else "transfer"
    yield _cell(suite, split, scorer, scorer, defense)
    labels, source_fact = _labels(split, source, scorer, defense), _fact(suite, calibration, source)
    for attack in suite.attacks:
        wanted = _wanted(suite, labels, attack)
        if not wanted:
            continue
        eot = defense.eot if threat == "adaptive" and not attack.control else 1
        fact = None if attack.control else source_fact
        if fact is not None:
            yield fact
        for endpoint in _endpoints(suite, split.dataset, attack):
            signs = _SIGNS[endpoint] if attack.fits and fact else ()
            fits = tuple(_fit(suite, calibration, source, attack, sign, eot, fact) for sign in signs if fact)
            yield from fits
            for norm, eps in wanted:
                together: tuple[float, ...] = ()
                if suite.batch_budgets and not attack.control:
                    radii = tuple(sorted(radius for other, radius in wanted if other == norm))
                    together = radii if len(radii) > 1 else ()
                condition = _Condition(attack, endpoint, norm, eps, threat, eot, fact, fits, together)
                yield _cell(suite, split, source, scorer, defense, condition)


def _for_verdicts(
    suite: Suite,
    registry: Registry,
    split: SplitSpec,
    calibration: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
    side: int,
) -> Iterator[Fact | Cell]:
    """The cells that verdicts on a scorer need beyond the suite's own; masking is of the scorer that is attacked."""
    if source.key != scorer.key or suite.excludes(_condition(split, source, scorer, defense)):
        return
    randomised = any(registry.purifier(use.name).cls.randomised for use in defense.purifiers)
    traced = () if randomised else traced_attacks(suite, registry, scorer.metric)
    wanted = [(source, *added) for added in (*added_attacks(suite, registry, scorer.metric), *traced)]
    twins = [ScorerSpec(metric) for metric in unmasked_twins(suite, registry, scorer.metric, side)]
    wanted += [(twin, *added) for twin in twins for added in transferred_attacks(suite, registry)]
    for attacked, attack, norm, eps in wanted:
        if suite.excludes(_condition(split, attacked, scorer, defense, attack.label, norm, eps)):
            continue
        direct = attacked is source
        eot = defense.eot if direct and not attack.control else 1
        fact = None if attack.control else _fact(suite, calibration, attacked)
        if fact is not None:
            yield fact
        endpoints: tuple[Endpoint, ...] = ("",) if attack.control else _UP_AND_DOWN
        for endpoint in endpoints:
            threat = defense.threat if direct else "transfer"
            condition = _Condition(attack, endpoint, norm, eps, threat, eot, fact)
            yield replace(_cell(suite, split, attacked, scorer, defense, condition), for_verdicts=True)


def _condition(
    split: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
    attack: str = "",
    norm: str = "",
    eps: float = 0.0,
) -> Condition:
    return Condition(*_labels(split, source, scorer, defense), attack, norm, eps)


def _labels(split: SplitSpec, source: ScorerSpec, scorer: ScorerSpec, defense: DefenseUse) -> _Labels:
    return _Labels(split.dataset.label, source.metric.label, scorer.metric.label, defense.label)


@dataclass(frozen=True)
class _Condition:
    """What an attacked cell has beyond a clean one."""

    attack: AttackUse | None = None
    endpoint: Endpoint = ""
    norm: str = ""
    eps: float = 0.0
    threat: str = "none"
    eot: int = 1
    fact: Fact | None = None
    fits: tuple[Fit, ...] = ()
    together: tuple[float, ...] = ()


_CLEAN = _Condition()
_UNDEFENDED = DefenseUse("base", (), "none", 1, 1)


def _pairs(suite: Suite) -> Iterator[tuple[ScorerSpec, ScorerSpec, DefenseUse]]:
    """(source, scorer, defense) of every declared combination, transfers last."""
    by_label = {metric.label: metric for metric in suite.metrics}
    for metric in suite.metrics:
        for defense in suite.defenses:
            found = _defended(metric, defense)
            if found is not None:
                yield (*found, defense)
    for source, judge in suite.transfer:
        yield ScorerSpec(by_label[source]), ScorerSpec(by_label[judge]), _UNDEFENDED


def _defended(metric: MetricUse, defense: DefenseUse) -> tuple[ScorerSpec, ScorerSpec] | None:
    """(source, scorer) of a metric under a defense; None for a metric that a trained defense leaves out.

    An oblivious attacker knows the metric: with its own weights, or under purifiers with the trained ones.
    """
    base = known = ScorerSpec(metric)
    if defense.trained is not None:
        if metric.label not in defense.trained.metrics:
            return None
        base = ScorerSpec(defense.trained.metrics[metric.label], (), defense.trained.label)
        known = base if defense.purifiers else known
    scorer = replace(base, purifiers=defense.purifiers)
    return (scorer if defense.threat == "adaptive" else known), scorer


def _endpoints(suite: Suite, dataset: DatasetUse, attack: AttackUse) -> tuple[Endpoint, ...]:
    """What an attack is run for; every other direction is chosen sample by sample between up and down."""
    if attack.control:
        return ("",)
    if dataset.shape == "triplets":
        return {"rejected_up": _UP_AND_DOWN[:1], "preferred_down": _UP_AND_DOWN[1:]}.get(suite.which, _UP_AND_DOWN)
    split = {"mos_split", "self_split", "random_sign"} & set(suite.directions)
    both: tuple[Endpoint, ...] = tuple(e for e in _UP_AND_DOWN if e in suite.directions or split)
    return (*both, "error") if "error" in suite.directions else both


def _cell(
    suite: Suite,
    split: SplitSpec,
    source: ScorerSpec,
    scorer: ScorerSpec,
    defense: DefenseUse,
    condition: _Condition = _CLEAN,
) -> Cell:
    c = condition
    fact, fits = c.fact.id if c.fact else "", [fit.id for fit in c.fits]
    searches = c.attack is not None and not c.attack.control
    precision = suite.precision if searches and c.attack and c.attack.needs_gradient else "fp32"
    patch = "p0" if searches and split.dataset.shape == "triplets" and suite.which == "p0" else ""
    parts = {
        "split": split.written,
        "source": source.written,
        "scorer": scorer.written,
        "attack": c.attack.written if c.attack else "clean",
        "sign": {"": 0, "up": 1, "down": -1}.get(c.endpoint, c.endpoint),
        "norm": c.norm,
        "eps": c.eps,
        "threat": c.threat,
        "eot": c.eot,
        "draws": defense.draws,
        "precision": precision,
        "fact": fact,
        "fit": fits if len(fits) > 1 else "".join(fits),
        "seed": suite.seed,
        "slice": suite.slice_size,
        **({"patch": patch} if patch else {}),
        **({"together": c.together} if c.together else {}),
    }
    return Cell(
        identity("cell", parts),
        split,
        source,
        scorer,
        c.attack,
        c.endpoint,
        c.norm,
        c.eps,
        c.threat,
        defense.label,
        c.eot,
        defense.draws,
        fact,
        tuple((fit.sign, fit.id) for fit in c.fits),
        patch,
        precision,
        c.together,
    )
