"""YAML in, a validated `Suite` out. Every problem is found at once, before anything is loaded."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.plugins.model import Kind, PluginError
from harness.plugins.registry import Registry
from harness.suite.combinations import (
    Placed,
    at_odds_together,
    contrasts_of_nothing,
    doubled_budgets,
    doubled_uses,
    empty_exclusions,
    exact_of_nothing,
    unknown_transfers,
)
from harness.suite.compose import Overrides, expand, override, read, read_mapping, replace_keys
from harness.suite.conditions import Condition, Exclusion
from harness.suite.defense_entries import defense_entry, with_weights
from harness.suite.entries import EntryContext, attack_entry, dataset_entry, metric_entry
from harness.suite.keys import DIRECTIONS, EVERY_PAIR, SuiteFile, as_defense, as_entry, read_file
from harness.suite.layout_file import suite_layouts
from harness.suite.model import (
    DefenseUse,
    IrScore,
    MetricUse,
    Resources,
    Suite,
)
from harness.suite.over_splits import of_split, together, told_once, wrong_for_splits
from harness.suite.places import settle
from harness.suite.select import select
from harness.suite.strict_yaml import MOST_PROBLEMS, Document, Problem, YamlPath
from harness.suite.tables import table_names
from harness.suite.uses import plugin_use
from harness.wording import did_you_mean

_NO_MAPPING = "a suite is a mapping with the keys name, datasets, metrics, ... Start from what `robustiqa init` writes."

_Entry = Callable[[EntryContext, YamlPath, Mapping[str, Any]], Any]
_ENTRIES: Mapping[str, _Entry] = {
    "datasets": dataset_entry,
    "metrics": metric_entry,
    "defenses": defense_entry,
    "attacks": attack_entry,
}
_BASE = DefenseUse("base", (), "none", 1, 1)


def load_suite(
    path: Path,
    registry: Registry,
    overrides: Overrides | None = None,
    keys: Mapping[str, Any] | None = None,
    change: Callable[[Document], Document] | None = None,
) -> Suite:
    """Read and validate a suite file.

    Args:
        path: The YAML file.
        registry: Where its plugin names are looked up.
        overrides: What the command line changes.
        keys: Keys of the suite that replace the file's.
        change: What becomes of the document, with the command line's values and its paths settled, before it is
            validated; None leaves it.

    Raises:
        LocatedError: Everything wrong with it, each with file, line and column.
    """
    document = read(path)
    replace_keys(document, keys or {})
    return _loaded(document, registry, overrides or Overrides(), change or (lambda document: document))


def read_suite(
    value: Mapping[str, Any],
    registry: Registry,
    overrides: Overrides | None = None,
    keys: Mapping[str, Any] | None = None,
) -> Suite:
    """Validate a suite given as the mapping that a file would hold; what it extends is found from the current folder.

    Raises:
        LocatedError: Everything wrong with it, each with the path of its key.
    """
    document = read_mapping(value)
    replace_keys(document, keys or {})
    return _loaded(document, registry, overrides or Overrides())


def _loaded(
    document: Document,
    registry: Registry,
    overrides: Overrides,
    change: Callable[[Document], Document] = lambda document: document,
) -> Suite:
    override(document, overrides, lambda key, entry: _automatic_labels(registry, key, entry))
    relative = settle(document)
    suite = dataclasses.replace(validate(change(document), registry), relative=relative)
    return suite if overrides.only is None else _picked(suite, overrides.only)


def _picked(suite: Suite, only: str) -> Suite:
    """What ``--only`` leaves of a suite, of each split alike."""
    if suite.parts:
        return dataclasses.replace(together([_picked(part, only) for part in suite.parts]), relative=suite.relative)
    # Cells that only verdicts look at are not among those that were picked.
    return dataclasses.replace(select(suite, only), verdicts=bool(suite.verdicts))


def _automatic_labels(registry: Registry, key: str, entry: Mapping[str, Any]) -> set[str]:
    """What an entry without a label is called in tables, such as 'pgd(steps=5)'."""
    if "label" in entry:
        return set()
    if key == "defenses" and isinstance(entry.get("chain"), list):
        return {_chain_label(registry, entry["chain"])}
    kind: Kind = "purifiers" if key == "defenses" else key  # type: ignore[assignment]
    if not registry.knows(kind, str(entry.get("name"))):
        return set()
    try:
        plugin = registry.get(kind, entry["name"])
    except PluginError:
        return set()
    return {
        plugin_use(kind, plugin, {p.name: entry.get(p.name, p.default) for p in plugin.parameters()}, entry)["label"]
    }


def _chain_label(registry: Registry, chain: Sequence[Any]) -> str:
    links = [link if isinstance(link, dict) else {"name": link} for link in chain]
    automatic = (next(iter(_automatic_labels(registry, "defenses", link)), link.get("name")) for link in links)
    return "+".join(str(link.get("label") or name) for link, name in zip(links, automatic, strict=True))


def validate(document: Document, registry: Registry) -> Suite:
    """Turn a parsed document into a suite.

    Raises:
        LocatedError: Everything wrong with it.
    """
    document = expand(document)
    problems = list(document.problems)
    if not isinstance(document.value, dict):
        if not problems:
            problems.append(Problem((), _NO_MAPPING))
        raise document.report(problems)
    file, structural = read_file(document.value)
    # What stands in for a value that could not be read is not to be judged.
    unread = {problem.path for problem in problems if not problem.on_key}
    structural = [problem for problem in structural if problem.path not in unread]
    if any(problem.path == ("extends",) for problem in problems):
        structural = [problem for problem in structural if problem.path]  # what is missing may stand in the other file
    context = EntryContext(registry, problems, {problem.path for problem in structural})
    problems += structural
    layouts = suite_layouts(document, problems)
    splits = document.value.get("splits")
    unsplit = list(wrong_for_splits(document.value, splits, registry)) if splits is None or file is not None else []
    problems += unsplit
    if splits is None:
        suite = None if unsplit else _resolve(document.value, file, context)
    else:
        suite = None if problems or file is None else _resolve_splits(document.value, file, context, splits)
    if problems or suite is None:
        raise document.report(problems)
    return dataclasses.replace(suite, layouts=tuple(layouts))


def _resolve_splits(value: Mapping[str, Any], file: SuiteFile, context: EntryContext, count: int) -> Suite | None:
    """A suite over several splits, or None where a problem of one prevents it."""
    parts, found, resolved = [], [], {}  # type: ignore[var-annotated]
    for index in range(count):
        own = EntryContext(context.registry, [], adapters=context.adapters, resolved=resolved)
        parts.append(_resolve(of_split(value, index), file, own))
        found.append(own.problems)
    context.problems.extend(told_once(found))
    return None if context.problems else together([part for part in parts if part is not None])


def _resolve(value: Mapping[str, Any], file: SuiteFile | None, context: EntryContext) -> Suite | None:
    """The suite, or None where a problem prevents one; finds plugin problems even if the structure is wrong."""
    with torch.random.fork_rng(devices=[]):  # plugins are built to be checked, which leaves no trace
        placed = {key: _each(value, key, kind_of_entry, context) for key, kind_of_entry in _ENTRIES.items()}
        if file is not None:
            placed["defenses"] = list(with_weights(context, placed["defenses"], *_evaluated(placed, file)))
    for uses in placed.values():
        context.problems.extend(doubled_uses(uses))
    directions = _choices(value, "directions", DIRECTIONS, context)
    tables = _choices(value, "tables", table_names(), context)
    if file is None:
        return None
    context.problems.extend([*doubled_budgets(file), *exact_of_nothing(file)])
    labels = [use.label for _, use in placed["metrics"]]
    unread = any(problem.path[:1] in (("metrics",), ("defenses",)) for problem in context.problems)
    context.problems.extend([] if unread else unknown_transfers(file, labels))
    every_pair = value.get("transfer") == EVERY_PAIR
    pairs = itertools.permutations(labels, 2) if every_pair else ((p.source, p.scorer) for p in file.transfer)
    datasets, metrics, defenses, attacks = (tuple(use for _, use in uses) for uses in placed.values())
    suite = Suite(
        name=file.name,
        seed=file.seed,
        datasets=datasets,
        metrics=metrics,
        defenses=defenses or (_BASE,),
        attacks=attacks,
        budgets=tuple(dict.fromkeys((norm, eps) for norm, values in file.budgets.items() for eps in values)),
        directions=tuple(directions or file.directions),
        tables=tuple(tables or file.tables),
        transfer=tuple(pairs),
        contrasts=tuple((one.a, one.b) for one in file.contrasts),
        adjust=file.adjust,
        margin=file.margin,
        which=file.which,
        precision=file.precision,
        batch_budgets=file.batch_budgets,
        verdicts=file.verdicts,
        limit=file.limit,
        slice_size=file.slice,
        save_examples=file.save_examples,
        exact=file.exact,
        exclude=tuple(Exclusion(**pattern.model_dump()) for pattern in file.exclude),
        ir_score=IrScore(**file.ir_score.model_dump()),
        resources=Resources(**file.resources.model_dump()),
        cluster=tuple(file.cluster.items()),
    )
    known = [name for use in datasets for name in (use.label, use.name)]
    for name in file.cluster if not any(problem.path[:1] == ("datasets",) for problem in context.problems) else ():
        if name not in known:
            context.add(("cluster", name), f"no data set here is called '{name}'.{did_you_mean(name, known)}")
    if not unread:  # or it would be missed what could not be read
        context.problems.extend(contrasts_of_nothing(suite))
    context.problems.extend(at_odds_together(placed, suite, context.registry))
    if suite.exclude and not context.problems:
        context.problems.extend(empty_exclusions(suite))
    return None if context.problems else suite


def _evaluated(
    placed: Mapping[str, Placed], file: SuiteFile
) -> tuple[list[MetricUse], Callable[[MetricUse, DefenseUse], bool]]:
    """The metrics, and whether one is evaluated under a defense on any data set; of sets that cannot be read, too."""
    exclusions = [Exclusion(**pattern.model_dump()) for pattern in file.exclude]

    def evaluated(metric: MetricUse, defense: DefenseUse) -> bool:
        datasets = [use.label for _, use in placed["datasets"]] or [""]
        cells = [Condition(dataset, metric.label, metric.label, defense.label) for dataset in datasets]
        return any(not any(one.removes(cell) for one in exclusions) for cell in cells)

    return [use for _, use in placed["metrics"]], evaluated


def _each(value: Mapping[str, Any], key: str, resolve: _Entry, context: EntryContext) -> Placed:
    found: Placed = []
    values = value.get(key)
    for i, listed in enumerate(values if isinstance(values, list) else []):
        entry = as_defense(listed) if key == "defenses" else as_entry(listed)
        if isinstance(listed, list):
            context.bare_chains.add((key, i))
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            use = _resolved(key, i, entry, resolve, context)
            if use is not None:
                found.append(((key, i), use))
        if len(context.problems) >= MOST_PROBLEMS:
            break
    return found


def _resolved(key: str, i: int, entry: Mapping[str, Any], resolve: _Entry, context: EntryContext) -> Any:
    """An entry; one that another split has alike is not resolved again."""
    if key not in ("metrics", "attacks") or context.resolved is None:
        return resolve(context, (key, i), entry)
    text = json.dumps([key, entry], sort_keys=True, default=str)
    if text not in context.resolved:
        before = len(context.problems)
        use = resolve(context, (key, i), entry)
        if len(context.problems) > before:
            return use
        context.resolved[text] = use
    return context.resolved[text]


def _choices(value: Mapping[str, Any], key: str, known: Sequence[str], context: EntryContext) -> list[str]:
    values = value.get(key)
    chosen = [v for v in values if isinstance(v, str)] if isinstance(values, list) else []
    for i, choice in enumerate(values if isinstance(values, list) else []):
        if isinstance(choice, str) and choice not in known and len(context.problems) < MOST_PROBLEMS:
            context.add((key, i), f"unknown {key.removesuffix('s')} '{choice}'.{did_you_mean(choice, known)}")
    return [v for v in dict.fromkeys(chosen) if v in known]
