"""Stored records -> what the report is made from. Runs no metric and no attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from harness.engine.done import asked_for, done_slices, record_misfit, relevant_failures
from harness.engine.gallery_store import GalleryKept
from harness.engine.record import EVERY_NAME, LABELS
from harness.engine.record_files import CELL
from harness.engine.run_folder import RunFolder
from harness.report.attack_parameters import with_attack_parameters
from harness.report.data import UNFINISHED, Failure, RunData, UseFacts
from harness.report.planned import Planned
from harness.suite.cell_names import CLEAN
from harness.suite.layout_names import NO_PURIFIER, NO_TRAINING
from harness.suite.model import NO_FLOOR, AttackUse, DefenseUse, Suite, Use
from harness.suite.plan import Cell, Plan
from harness.wording import split_name


def collect(planned: Planned, store: RunFolder) -> RunData:
    """Gather a run's records under its suite's limit.

    Args:
        planned: What the run planned.
        store: Its run folder.

    Raises:
        UserError: Records are damaged.
    """
    plan, facts = planned.plan, planned.facts
    suite, own = plan.suite, _own_cells(plan)
    return RunData(
        name=suite.name,
        records=with_attack_parameters(_all_records(own, plan, store), facts.attacks),
        datasets=facts.datasets,
        medians=_medians(plan, store),
        directions=suite.directions,
        tables=suite.tables,
        seed=suite.seed,
        slice_size=suite.slice_size,
        limit=suite.limit,
        versions=_versions_of(store),
        notices=[
            *(*_unfinished(plan, store), *_unprobed(plan, store)),
            *(*store.notices(asked_for(plan)), *store.read_provenance("notices")),
        ],
        failures=_failures(plan, store),
        faults=_faults(plan, store),
        expected=list(dict.fromkeys(cell.who for cell in own)),
        splits={split_name(use.label, i): use.label for i, part in enumerate(suite.parts) for use in part.datasets},
        weights=facts.weights,
        networks=dict(facts.networks),
        group_names=facts.group_names,
        levels_not_strength=facts.levels_not_strength,
        label_sources=facts.label_sources,
        attacks=facts.attacks,
        blind=facts.blind,
        lower_is_better=facts.lower_is_better,
        ir_score=suite.ir_score,
        map_records=_all_records([cell for cell in plan.cells if cell.for_maps], plan, store),
        mapped_apart=list(dict.fromkeys(cell.split.dataset.label for cell in plan.cells if cell.for_maps)),
        which=suite.which,
        contrasts=suite.contrasts,
        adjust=suite.adjust,
        margin=suite.margin,
        precision=suite.precision,
        verdicts=bool(suite.verdicts),
        verdict_records=with_attack_parameters(
            _all_records([cell for cell in plan.cells if cell.for_verdicts], plan, store), facts.attacks
        ),
        verdict_samples=suite.verdict_samples,
        verdict_items={
            split.dataset.label: [entry.id for entry in plan.limited(split)[: suite.verdict_samples]]
            for split in plan.splits
        },
        trainings={use.label: _parts(use) for use in suite.defenses if use.trained},
        trained_on=facts.trained_on,
        training_times=dict(facts.training_times),
        made=facts.made,
        gallery=_gallery(plan, store),
        uses=_uses_of(suite),
    )


def _gallery(plan: Plan, store: RunFolder) -> GalleryKept:
    """The attacked images that are kept for the page, of what the suite asks for now."""
    kept = store.read_gallery()
    samples = {cell.id: {entry.id for entry in plan.entries_of(cell)} for cell in plan.cells} if kept.cases else {}
    asked = [case for case in kept.cases if case.about["sample"] in samples.get(case.about["cell"], ())]
    return replace(kept, cases=asked)


def _parts(use: DefenseUse) -> tuple[str, str]:
    """The training and the purifiers of a defense."""
    training = use.trained.label if use.trained else NO_TRAINING
    return training, "+".join(purifier.label for purifier in use.purifiers) or NO_PURIFIER


def _uses_of(suite: Suite) -> dict[str, dict[str, UseFacts]]:
    """Dimension -> label -> what stands behind it."""
    first = suite.parts[0] if suite.parts else suite
    return {
        "dataset": {use.label: _use_facts(use, split=use.split) for use in suite.datasets},
        "metric": {use.label: _use_facts(use) for use in first.metrics},
        "attack": {use.label: _use_facts(use) for use in first.attacks},
        "defense": {use.label: _defense_facts(use) for use in first.defenses},
    }


def _use_facts(use: Use, **more: Any) -> UseFacts:
    by_content = {
        name: value[:12] if isinstance(value, str) else value for name, value in use.contents.parameters.items()
    }
    parts: dict[str, Any] = {**use.parameters, **by_content, **more, "version": use.version}
    if use.kind == "datasets":
        parts.pop("root", None)  # where it lies decides nothing
    for name in ("weights", "code"):
        if value := getattr(use, name, ""):  # a hash, of which the beginning tells it apart, or a library's version
            parts[name] = value if " " in value else value[:12]
    if isinstance(use, AttackUse) and use.floor != NO_FLOOR:
        parts["floor"] = use.floor
    return UseFacts(use.name, parts)


def _defense_facts(use: DefenseUse) -> UseFacts:
    known = [(one.name, _use_facts(one)) for one in use.purifiers]
    names = [*([use.trained.name] if use.trained else []), *(name for name, _ in known)]
    parts = {f"{name}.{key}": value for name, facts in known for key, value in facts.parameters.items()}
    trained = use.trained.metrics if use.trained else {}
    parts |= {f"weights of {label}": metric.weights[:12] for label, metric in trained.items()}
    return UseFacts("+".join(names) or use.label, {**parts, "eot": use.eot, "draws": use.draws})


def _own_cells(plan: Plan) -> list[Cell]:
    """The cells that a suite asks for itself, without those added for verdicts and for maps."""
    return [cell for cell in plan.cells if not (cell.for_verdicts or cell.for_maps)]


def _all_records(cells: Sequence[Cell], plan: Plan, store: RunFolder) -> pd.DataFrame:
    """The records of some cells, one under the other; texts are categorical."""
    misfits = {cell.id: record_misfit(plan, cell) for cell in cells}
    table = store.read_cells(misfits, slices={cell.id: plan.slices_of(cell) for cell in cells}, encoded=True)
    table = _labelled(_limited(table, cells, plan), cells)
    records = table.to_pandas() if len(table) else pd.DataFrame()
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
    left = f"{UNFINISHED}: {pending} of {total} blocks have something left to do"
    return [f"{left}; tables are made from what is there, and say “failed” where images are still to come."]


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


def _limited(table: pa.Table, cells: Sequence[Cell], plan: Plan) -> pa.Table:
    """The rows of the samples that each cell is for; its last slice may hold more."""
    entries = [plan.entries_of(cell) for cell in cells]
    keys = [(cell.split.key, len(own)) for cell, own in zip(cells, entries, strict=True)]
    asked = dict(zip(keys, entries, strict=True))
    number = {key: place for place, key in enumerate(asked)}
    which = np.array([number[key] for key in keys], np.int64)[_cells_of(table)]
    keep = np.zeros(len(table), bool)
    sample = table["sample"].combine_chunks()
    numbers, names = (sample.indices.to_numpy(), sample.dictionary.to_pylist()) if len(table) else (keep, [])
    for place, own in enumerate(asked.values()):
        samples = {entry.id for entry in own}
        here = np.array([name in samples for name in names], dtype=bool)
        keep |= (which == place) & here[numbers]
    return table if keep.all() else table.filter(pa.array(keep))


def _cells_of(table: pa.Table) -> np.ndarray:
    """Of each row the place of its cell."""
    codes: np.ndarray = table[CELL].combine_chunks().indices.to_numpy()
    return codes


def _labelled(table: pa.Table, cells: Sequence[Cell]) -> pa.Table:
    """Records with the labels that people know their cells by, in place of the id."""
    codes = pa.array(_cells_of(table)) if len(table) else pa.array([], pa.int32())
    labels = [_labels(cell) for cell in cells]
    missing = {column.name for column in LABELS} - {name for one in labels for name in one}
    if labels and missing:
        raise AssertionError(f"columns of harness.engine.record that nothing computes: {', '.join(sorted(missing))}")
    table = table.drop_columns([CELL])
    for name in labels[0] if labels else ():
        if name in table.column_names:
            table = table.drop_columns([name])
        column = pa.array([one[name] for one in labels])
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
            numbers = column.indices.take(codes)
            table = table.append_column(name, pa.DictionaryArray.from_arrays(numbers, column.dictionary))
        else:
            table = table.append_column(name, column.take(codes))
    return table


def _labels(cell: Cell) -> dict[str, str | bool]:
    return {
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
