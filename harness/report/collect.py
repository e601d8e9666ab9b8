"""Stored records -> what the report is made from. Runs no metric and no attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.engine.done import done_slices, record_misfit, relevant_failures
from harness.engine.record import EVERY_NAME, LABELS
from harness.engine.run_folder import RunFolder
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, trained_on
from harness.report.data import AttackFacts, DatasetFacts, Failure, RunData
from harness.report.training_time import TrainingTime, time_of_file
from harness.suite.cell_names import CLEAN
from harness.suite.layout_names import NO_PURIFIER, NO_TRAINING
from harness.suite.model import AttackUse, DatasetUse, DefenseUse, MetricUse, PurifierUse, Suite, Use
from harness.suite.plan import CALIBRATION_SAMPLES, Cell, Plan, SplitSpec
from harness.suite.uses import automatic_label
from harness.wording import split_name


def collect(plan: Plan, store: RunFolder, registry: Registry) -> RunData:
    """Gather a run's records under its suite's limit.

    Args:
        plan: The suite's plan.
        store: Its run folder.
        registry: For descriptions of weights.

    Raises:
        UserError: Records are damaged.
    """
    return RunData(
        name=plan.suite.name,
        records=_all_records(_own_cells(plan), plan, store),
        datasets={split.dataset.label: _dataset_facts(plan, split) for split in plan.splits},
        medians=_medians(plan, store),
        directions=plan.suite.directions,
        tables=plan.suite.tables,
        seed=plan.suite.seed,
        slice_size=plan.suite.slice_size,
        limit=plan.suite.limit,
        versions=_versions_of(store),
        notices=[
            *(*_unfinished(plan, store), *_unprobed(plan, store)),
            *(*store.notices(), *store.read_provenance("notices")),
        ],
        failures=_failures(plan, store),
        faults=_faults(plan, store),
        expected=list(dict.fromkeys(cell.who for cell in _own_cells(plan))),
        splits={
            split_name(use.label, i): use.label for i, part in enumerate(plan.suite.parts) for use in part.datasets
        },
        weights=_weights_texts(plan.suite, registry),
        networks={
            (defense.label, use.label): text
            for defense in plan.suite.defenses
            for use in defense.purifiers
            if (text := _weights_text(use, registry))
        },
        group_names={use.label: registry.dataset(use.name).cls.group_names for use in plan.suite.datasets},
        levels_not_strength={u.label: registry.dataset(u.name).cls.levels_not_strength for u in plan.suite.datasets},
        label_sources={
            use.label: source
            for use in plan.suite.datasets
            if (source := registry.dataset(use.name).build(use.parameters).label_source())
        },
        attacks={cell.attack.label: _attack_facts(cell.attack, registry) for cell in plan.cells if cell.attack},
        blind=[m.label for m in plan.suite.metrics if not registry.metric(m.name).cls.differentiable],
        lower_is_better=[m.label for m in plan.suite.metrics if not registry.metric(m.name).cls.higher_is_better],
        ir_score=plan.suite.ir_score,
        map_records=_all_records([cell for cell in plan.cells if cell.for_maps], plan, store),
        mapped_apart=list(dict.fromkeys(cell.split.dataset.label for cell in plan.cells if cell.for_maps)),
        which=plan.suite.which,
        contrasts=plan.suite.contrasts,
        adjust=plan.suite.adjust,
        margin=plan.suite.margin,
        precision=plan.suite.precision,
        verdicts=bool(plan.suite.verdicts),
        verdict_records=_all_records([cell for cell in plan.cells if cell.for_verdicts], plan, store),
        verdict_samples=plan.suite.verdict_samples,
        verdict_items={
            split.dataset.label: [e.id for e in plan.limited(split)[: plan.suite.verdict_samples]]
            for split in plan.splits
        },
        trainings={use.label: _parts(use) for use in plan.suite.defenses if use.trained},
        trained_on={
            name: dataset
            for name, use in plan.suite.named_metrics
            if use.weights_file and (dataset := trained_on(use.weights_file, use.weights))
        },
        training_times=_training_times(plan),
        made=_made(plan, registry),
    )


def _parts(use: DefenseUse) -> tuple[str, str]:
    """The training and the purifiers of a defense."""
    training = use.trained.label if use.trained else NO_TRAINING
    return training, "+".join(purifier.label for purifier in use.purifiers) or NO_PURIFIER


def _training_times(plan: Plan) -> dict[tuple[str, str], TrainingTime]:
    """(metric, training) -> how long its weights were trained."""
    own = {(use.label, NO_TRAINING): use for use in plan.suite.metrics}
    trained = [defense.trained for defense in plan.suite.defenses if defense.trained]
    own |= {(label, one.label): use for one in trained for label, use in one.metrics.items()}
    return {name: time_of_file(use.weights_file, use.weights) for name, use in own.items()}


def _made(plan: Plan, registry: Registry) -> dict[str, dict[str, str]]:
    """Dimension -> label -> what the suite would call it had it given no label."""
    suite = plan.suite.parts[0] if plan.suite.parts else plan.suite
    used: dict[str, Sequence[Use]] = {"dataset": suite.datasets, "metric": suite.metrics, "attack": suite.attacks}
    used["defense"] = [purifier for defense in suite.defenses for purifier in defense.purifiers]
    return {
        dimension: {use.label: automatic_label(registry.get(use.kind, use.name), use) for use in uses}
        for dimension, uses in used.items()
    }


def _own_cells(plan: Plan) -> list[Cell]:
    """The cells that a suite asks for itself, without those added for verdicts and for maps."""
    return [cell for cell in plan.cells if not (cell.for_verdicts or cell.for_maps)]


def _attack_facts(use: AttackUse, registry: Registry) -> AttackFacts:
    cls = registry.attack(use.name).cls
    return AttackFacts(use.name, {**getattr(cls, "neutral", {}), **use.parameters}, cls.needs_gradient, use.floor)


def _all_records(cells: Sequence[Cell], plan: Plan, store: RunFolder) -> pd.DataFrame:
    """The records of some cells, one under the other."""
    found = [table for cell in cells if (table := _records(cell, plan, store)) is not None]
    records = pa.concat_tables(found, promote_options="permissive").to_pandas() if found else pd.DataFrame()
    return records.reindex(columns=[*EVERY_NAME, *(c for c in records.columns if c not in EVERY_NAME)])


def _broken_rules(found: Mapping[str, Any]) -> str:
    """The rules that a probe found broken, in one line; empty if none."""
    return "; ".join(str(fault["rule"]) for fault in found["faults"])


def _unfinished(plan: Plan, store: RunFolder) -> list[str]:
    """A line for a run that is not done, so that nobody takes its tables for the whole."""
    pending = len(plan.blocks(done_slices(plan, store)))
    total = len(plan.blocks({}))
    if not pending:
        return []
    return [f"NOT FINISHED: {pending} of {total} blocks have something left to do; tables are made from what is there."]


def _unprobed(plan: Plan, store: RunFolder) -> list[str]:
    failed = {failure.cell for failure in store.failures()}
    names = [p.label for p in plan.probes if not store.has_probe(p.id) and p.id not in failed]
    return [f"Not probed whether they keep their contract: {', '.join(names)}."] if names else []


def _faults(plan: Plan, store: RunFolder) -> dict[str, str]:
    """Metric -> the rules of its contract that its probes found broken, for metrics that break any.

    With whatever weights: those of a trained defense are named where only it breaks them.
    """
    failed = {failure.cell: failure.message for failure in store.failures()}
    ended = {p.label: f"its probes did not end ({failed[p.id]})" for p in plan.probes if p.id in failed}
    probed = {p.label: _broken_rules(store.read_probe(p.id)) for p in plan.probes if store.has_probe(p.id)}
    told = ended | {label: rules for label, rules in probed.items() if rules}
    faults: dict[str, str] = {}
    for probe in plan.probes:
        label, text = probe.metric.label, told.get(probe.label, "")
        if text and text not in faults.get(label, ""):
            said = f"as {probe.label}: {text}" if probe.training else text
            faults[label] = f"{faults[label]}; {said}" if label in faults else said
    return faults


def _versions_of(store: RunFolder) -> dict[str, str]:
    """Versions the records were made with; where several took part, all of them."""
    pages: list[dict[str, str]] = store.read_provenance("versions")
    names = dict.fromkeys(name for page in pages for name in page)
    return {name: " and ".join(dict.fromkeys(page[name] for page in pages if name in page)) for name in names}


def _records(cell: Cell, plan: Plan, store: RunFolder) -> pa.Table | None:
    """The records of a cell under the limit, with the labels that people know it by."""
    wanted = range(plan.slices_of(cell))
    found = (store.records(cell.id, index, record_misfit(plan, cell)) for index in wanted)
    tables = [table for table in found if table is not None and len(table)]
    if not tables:
        return None
    table = pa.concat_tables(tables, promote_options="permissive")
    samples = pa.array([entry.id for entry in plan.entries_of(cell)], pa.string())
    table = table.filter(pc.is_in(table["sample"], samples))
    labels = {
        "dataset": cell.split.dataset.label,
        "metric": cell.scorer.metric.label,
        "defense": cell.who[2],
        "threat": cell.threat,
        "source": cell.source.label,
        "attack": cell.attack.label if cell.attack else CLEAN,
        "plugin": cell.attack.name if cell.attack else CLEAN,
        "control": cell.attack.control if cell.attack else False,
        "endpoint": cell.endpoint,
    }
    missing = {column.name for column in LABELS} - set(labels)
    if missing:
        raise AssertionError(f"columns of harness.engine.record that nothing computes: {', '.join(sorted(missing))}")
    for name, value in labels.items():
        if name in table.column_names:
            table = table.drop_columns(name)
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


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


def _calibration(use: DatasetUse) -> str:
    """The samples that facts come from, in words."""
    where = use.calibration_split
    if where == use.split:
        where = "itself, which has no split train beside it" if use.calibrated_on_train else "itself"
    return f"the first {CALIBRATION_SAMPLES} samples of split {where}"


def describe_split(plan: Plan, split: SplitSpec) -> dict[str, Any]:
    """What provenance keeps of an evaluated split: its size, its mean opinion before any limit, its fingerprint."""
    return {**asdict(_dataset_facts(plan, split)), "fingerprint": split.fingerprint}


def _medians(plan: Plan, store: RunFolder) -> dict[tuple[str, str, str], float]:
    """(data set, metric, defense) -> median clean quality on the first samples of the evaluated split."""
    facts: dict[tuple[str, str], Mapping[str, Any]] = {
        (fact.split.key, fact.scorer.key): store.read_fact(fact.id) for fact in plan.facts if store.has_fact(fact.id)
    }
    return {
        (c.split.dataset.label, c.scorer.metric.label, c.who[2]): float(facts[c.split.key, c.scorer.key]["median"])
        for c in plan.cells
        if (c.split.key, c.scorer.key) in facts and not c.for_maps
    }


def _failures(plan: Plan, store: RunFolder) -> list[Failure]:
    cells = {cell.id: cell for cell in plan.cells}
    return [
        Failure(cells[failure.cell].label, failure.sample, failure.message)
        for failure in relevant_failures(plan, store)
        if failure.cell in cells
    ]


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
