"""What a run planned, and what its report has to know of plugins, weights and data: kept in the run folder.

A report is made from this and from records alone, so that it can be made where no data set, no weight file and no
plugin of the run is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.plugins.model import Kind
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, trained_on
from harness.report.data import AttackFacts, DatasetFacts
from harness.report.training_time import TrainingTime, time_of_file
from harness.suite.layout_file import LayoutSpec
from harness.suite.layout_names import NO_ATTACK, NO_PURIFIER, NO_TRAINING, OVER_ALL
from harness.suite.model import AttackUse, DatasetUse, MetricUse, PurifierUse, Suite, Use
from harness.suite.plan import CALIBRATION_SAMPLES, Plan, SplitSpec
from harness.suite.stored_plan import adapter, plan_read, plan_text, plan_written
from harness.wording import respelt_fractions

_Pair = tuple[str, str]


@dataclass(frozen=True)
class PlanFacts:
    """What plugins, weights and data sets say of themselves, as far as a report says it; see `RunData`.

    Attributes:
        datasets: Label of a data set -> what is known of its split.
        weights: As `RunData.weights`.
        networks: As `RunData.networks`, as pairs.
        group_names: As `RunData.group_names`.
        levels_not_strength: As `RunData.levels_not_strength`.
        label_sources: As `RunData.label_sources`.
        attacks: As `RunData.attacks`.
        blind: As `RunData.blind`.
        lower_is_better: As `RunData.lower_is_better`.
        trained_on: As `RunData.trained_on`.
        training_times: As `RunData.training_times`, as pairs.
        made: As `RunData.made`.
        registered: Dimension of laid-out tables -> the names that were registered for it.
    """

    datasets: Mapping[str, DatasetFacts]
    weights: Mapping[str, str]
    networks: Sequence[tuple[_Pair, str]]
    group_names: Mapping[str, Mapping[str, str]]
    levels_not_strength: Mapping[str, Mapping[str, str]]
    label_sources: Mapping[str, str]
    attacks: Mapping[str, AttackFacts]
    blind: Sequence[str]
    lower_is_better: Sequence[str]
    trained_on: Mapping[str, str]
    training_times: Sequence[tuple[_Pair, TrainingTime]]
    made: Mapping[str, Mapping[str, str]]
    registered: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Planned:
    """What reports read of a plan."""

    plan: Plan
    facts: PlanFacts
    digest: str = ""
    """sha256 of the text that it was read from."""


def planned_text(plan: Plan, registry: Registry) -> str:
    """What the run folder keeps of a plan, as JSON."""
    return written_plan(plan, facts_of(plan, registry))


def read_planned(text: str, digest: str, layouts: Sequence[LayoutSpec] = ()) -> Planned:
    """What `planned_text` wrote.

    Args:
        text: JSON.
        digest: What tells it from others.
        layouts: Of the suite.

    Raises:
        ValueError: It is none.
    """
    page = json.loads(respelt_fractions(text))
    if not isinstance(page, dict) or page.keys() != {"plan", "facts"}:
        raise ValueError("no plan with its facts")
    plan = plan_read(page["plan"])
    plan = replace(plan, suite=replace(plan.suite, layouts=tuple(layouts)))
    return Planned(plan, adapter(PlanFacts).validate_python(page["facts"]), digest)


def facts_of(plan: Plan, registry: Registry) -> PlanFacts:
    """Everything that a report has to know of what a plan was made of.

    Args:
        plan: The plan, with data and weights where it says that they are.
        registry: Where its plugins come from.
    """
    suite = plan.suite
    sets = {use.label: registry.dataset(use.name) for use in suite.datasets}
    purifiers = [(defense.label, use) for defense in suite.defenses for use in defense.purifiers]
    texts = {(label, use.label): _weights_text(use, registry) for label, use in purifiers}
    sources = {use.label: registry.dataset(use.name).build(use.parameters).label_source() for use in suite.datasets}
    metrics = {use.label: registry.metric(use.name).cls for use in suite.metrics}
    return PlanFacts(
        datasets={split.dataset.label: _dataset_facts(plan, split) for split in plan.splits},
        weights=_weights_texts(suite, registry),
        networks=[(pair, text) for pair, text in texts.items() if text],
        group_names={label: _texts(plugin.cls.group_names) for label, plugin in sets.items()},
        levels_not_strength={label: _texts(plugin.cls.levels_not_strength) for label, plugin in sets.items()},
        label_sources={label: source for label, source in sources.items() if source},
        attacks={cell.attack.label: _attack_facts(cell.attack, registry) for cell in plan.cells if cell.attack},
        blind=[label for label, cls in metrics.items() if not cls.differentiable],
        lower_is_better=[label for label, cls in metrics.items() if not cls.higher_is_better],
        trained_on={
            name: dataset
            for name, use in suite.named_metrics
            if use.weights_file and (dataset := trained_on(use.weights_file, use.weights))
        },
        training_times=list(_training_times(suite).items()),
        made=_made(suite, registry),
        registered=registered(registry),
    )


def facts_together(found: Sequence[PlanFacts]) -> PlanFacts:
    """What several runs' plugins, weights and data sets say of themselves; of what two say, the first counts."""

    def union(name: str) -> dict[str, Any]:
        return {key: one for facts in reversed(found) for key, one in getattr(facts, name).items()}

    def listed(name: str) -> list[str]:
        return _once(getattr(facts, name) for facts in found)

    def pairs(name: str) -> list[Any]:
        return list(
            {tuple(pair): (pair, one) for facts in reversed(found) for pair, one in getattr(facts, name)}.values()
        )

    def nested(name: str) -> dict[str, dict[str, str]]:
        keys = dict.fromkeys(key for facts in found for key in getattr(facts, name))
        return {
            key: {label: one for facts in reversed(found) for label, one in getattr(facts, name).get(key, {}).items()}
            for key in keys
        }

    names = dict.fromkeys(name for facts in found for name in facts.registered)
    return PlanFacts(
        datasets=union("datasets"),
        weights=union("weights"),
        networks=pairs("networks"),
        group_names=nested("group_names"),
        levels_not_strength=nested("levels_not_strength"),
        label_sources=union("label_sources"),
        attacks=union("attacks"),
        blind=listed("blind"),
        lower_is_better=listed("lower_is_better"),
        trained_on=union("trained_on"),
        training_times=pairs("training_times"),
        made=nested("made"),
        registered={
            name: list(dict.fromkeys(one for facts in found for one in facts.registered.get(name, ())))
            for name in names
        },
    )


def _once(lists: Iterable[Sequence[str]]) -> list[str]:
    """All texts of several lists, each once."""
    return list(dict.fromkeys(one for each in lists for one in each))


def written_plan(plan: Plan, facts: PlanFacts) -> str:
    """What the run folder keeps of a plan and what is known of it, as JSON."""
    return plan_text({"plan": plan_written(plan), "facts": adapter(PlanFacts).dump_python(facts)})


def registered(registry: Registry) -> dict[str, list[str]]:
    """Dimension of laid-out tables -> the names that are registered for it."""
    kinds: dict[str, Kind] = {"dataset": "datasets", "metric": "metrics", "attack": "attacks", "defense": "purifiers"}
    names = {dimension: registry.names(kind) for dimension, kind in kinds.items()}
    return {**names, "attack": [NO_ATTACK, *OVER_ALL, *names["attack"]], "defense": [NO_PURIFIER, *names["defense"]]}


def describe_split(plan: Plan, split: SplitSpec) -> dict[str, Any]:
    """What provenance keeps of an evaluated split: its size, its mean opinion before any limit, its fingerprint."""
    return {**asdict(_dataset_facts(plan, split)), "fingerprint": split.fingerprint}


def _dataset_facts(plan: Plan, split: SplitSpec) -> DatasetFacts:
    use, entries = split.dataset, plan.entries[split.key]
    opinions = [entry.opinion for entry in entries if entry.opinion is not None]
    return DatasetFacts(
        name=use.label,
        split=split.split,
        labels=use.labels,
        kind=use.shape,
        items=len(entries),
        references=len({entry.reference_id for entry in entries}),
        mean_opinion=sum(opinions) / len(opinions) if opinions else None,
        calibration=_calibration(use),
        cluster_noun=use.cluster_noun if any(entry.cluster for entry in entries) else "reference",
    )


def _texts(words: Mapping[str, str]) -> dict[str, str]:
    """What a plugin of anyone says, as texts."""
    return {str(key): str(value) for key, value in words.items()}


def _calibration(use: DatasetUse) -> str:
    """The samples that facts come from, in words."""
    where = use.calibration_split
    if where == use.split:
        where = "itself, which has no split train beside it" if use.calibrated_on_train else "itself"
    return f"the first {CALIBRATION_SAMPLES} samples of split {where}"


def _attack_facts(use: AttackUse, registry: Registry) -> AttackFacts:
    cls = registry.attack(use.name).cls
    return AttackFacts(use.name, {**getattr(cls, "neutral", {}), **use.parameters}, cls.needs_gradient, use.floor)


def _training_times(suite: Suite) -> dict[tuple[str, str], TrainingTime]:
    """(metric, training) -> how long its weights were trained."""
    own = {(use.label, NO_TRAINING): use for use in suite.metrics}
    trained = [defense.trained for defense in suite.defenses if defense.trained]
    own |= {(label, one.label): use for one in trained for label, use in one.metrics.items()}
    return {name: time_of_file(use.weights_file, use.weights) for name, use in own.items()}


def _made(suite: Suite, registry: Registry) -> dict[str, dict[str, str]]:
    """Dimension -> label -> what the suite would call it had it given no label."""
    from harness.suite.uses import automatic_label  # not above: it imports torch, which no reader of the plan needs

    suite = suite.parts[0] if suite.parts else suite
    used: dict[str, Sequence[Use]] = {"dataset": suite.datasets, "metric": suite.metrics, "attack": suite.attacks}
    used["defense"] = [purifier for defense in suite.defenses for purifier in defense.purifiers]
    return {
        dimension: {use.label: automatic_label(registry.get(use.kind, use.name), use) for use in uses}
        for dimension, uses in used.items()
    }


def _weights_texts(suite: Suite, registry: Registry) -> dict[str, str]:
    """Metric -> what it is and which weights; of several splits the weights of each, where they differ."""
    parts = [
        {name: text for name, metric in part.named_metrics if (text := _weights_text(metric, registry))}
        for part in suite.parts or (suite,)
    ]
    texts = {name: list(dict.fromkeys(part[name] for part in parts)) for name in parts[0]}
    shared = " sha256 "
    return {
        name: found[0]
        if len(found) == 1
        else f"{found[0].partition(shared)[0]}{shared}of splits 0 to {len(parts) - 1}: "
        + ", ".join(text.partition(shared)[2] for text in found)
        for name, found in texts.items()
    }


def _weights_text(use: MetricUse | PurifierUse, registry: Registry) -> str:
    """What a metric or purifier with weights is, and which: 'BiRQA (reimplementation, stem stride 4), weights ab12...'.

    Of a plugin of an installed library, its version; empty for any other.
    """
    if not use.weights:
        return use.code if " " in use.code else ""
    plugin = registry.metric(use.name) if use.kind == "metrics" else registry.purifier(use.name)
    described = plugin.described(dict(use.parameters)) or use.name
    about = described.splitlines()[0].partition(";")[0].rstrip(".")
    if use.weights == RANDOM_WEIGHTS:
        return f"{about}, RANDOM weights: {'its scores mean' if use.kind == 'metrics' else 'it purifies'} nothing"
    return f"{about}, weights sha256 {use.weights[:12]}"
