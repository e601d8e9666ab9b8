"""YAML in, a validated `Suite` out. Every problem is found at once, before anything is loaded."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.errors import UserError
from harness.plugins.model import Kind, PluginError
from harness.plugins.registry import Registry
from harness.suite.cell_names import shown_pattern
from harness.suite.compose import Overrides, expand, override, read, read_mapping, replace_keys
from harness.suite.conditions import Condition, Exclusion
from harness.suite.defense_entries import defense_entry, with_weights
from harness.suite.entries import EntryContext, attack_entry, dataset_entry, metric_entry
from harness.suite.ir_score_cells import TABLE as IR_SCORE
from harness.suite.ir_score_cells import why_no_ir_score
from harness.suite.keys import DIRECTIONS, EVERY_PAIR, SuiteFile, as_defense, as_entry, read_file
from harness.suite.layout_file import suite_layouts
from harness.suite.model import (
    LEAST_RATED,
    OPINIONS,
    AttackUse,
    DatasetUse,
    DefenseUse,
    IrScore,
    MetricUse,
    Suite,
    too_few_queries,
)
from harness.suite.over_splits import of_split, together, told_once, wrong_for_splits
from harness.suite.select import conditions_of, select
from harness.suite.strict_yaml import Document, Problem, YamlPath, parse_text
from harness.suite.tables import table_names
from harness.suite.uses import plugin_use
from harness.wording import did_you_mean

_WHICH = "the patch to attack is chosen for triplets, and these data sets give pairs. Remove the key."
_NO_MAPPING = "a suite is a mapping with the keys name, datasets, metrics, ... Start from suites/quickstart.yaml."

_Placed = list[tuple[YamlPath, Any]]
"""What a suite lists under one key, each with its place in the file."""
_Entry = Callable[[EntryContext, YamlPath, Mapping[str, Any]], Any]
_ENTRIES: Mapping[str, _Entry] = {
    "datasets": dataset_entry,
    "metrics": metric_entry,
    "defenses": defense_entry,
    "attacks": attack_entry,
}
_OF_OPINIONS = {"srocc", "ranks", "agreement", "pair_accuracy", "per_type", "frontier"}
"""Tables that are not made of fewer rated images than a correlation needs."""
_BASE = DefenseUse("base", (), "none", 1, 1)


def load_suite(
    path: Path, registry: Registry, overrides: Overrides | None = None, keys: Mapping[str, Any] | None = None
) -> Suite:
    """Read and validate a suite file.

    Args:
        path: The YAML file.
        registry: Where its plugin names are looked up.
        overrides: What the command line changes.
        keys: Keys of the suite that replace the file's.

    Raises:
        LocatedError: Everything wrong with it, each with file, line and column.
    """
    document = read(path)
    replace_keys(document, keys or {})
    return _loaded(document, registry, overrides or Overrides())


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


def _loaded(document: Document, registry: Registry, overrides: Overrides) -> Suite:
    override(document, overrides, lambda key, entry: _automatic_labels(registry, key, entry))
    suite = validate(document, registry)
    return suite if overrides.only is None else _picked(suite, overrides.only)


def _picked(suite: Suite, only: str) -> Suite:
    """What ``--only`` leaves of a suite, of each split alike."""
    if suite.parts:
        return together([_picked(part, only) for part in suite.parts])
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
        context.problems.extend(_doubled(uses))
    directions = _choices(value, "directions", DIRECTIONS, context)
    tables = _choices(value, "tables", table_names(), context)
    if file is None:
        return None
    context.problems.extend(_doubled_budgets(file))
    labels = [use.label for _, use in placed["metrics"]]
    unread = any(problem.path[:1] in (("metrics",), ("defenses",)) for problem in context.problems)
    context.problems.extend([] if unread else _unknown_transfers(file, labels))
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
        exclude=tuple(Exclusion(**pattern.model_dump()) for pattern in file.exclude),
        ir_score=IrScore(**file.ir_score.model_dump()),
    )
    if not unread:  # or it would be missed what could not be read
        context.problems.extend(_contrasts_of_nothing(suite))
    context.problems.extend(_combinations(placed, suite, context.registry))
    if suite.exclude and not context.problems:
        context.problems.extend(_exclusions(suite))
    return None if context.problems else suite


def _evaluated(
    placed: Mapping[str, _Placed], file: SuiteFile
) -> tuple[list[MetricUse], Callable[[MetricUse, DefenseUse], bool]]:
    """The metrics, and whether one is evaluated under a defense on any data set; of sets that cannot be read, too."""
    exclusions = [Exclusion(**pattern.model_dump()) for pattern in file.exclude]

    def evaluated(metric: MetricUse, defense: DefenseUse) -> bool:
        datasets = [use.label for _, use in placed["datasets"]] or [""]
        cells = [Condition(dataset, metric.label, metric.label, defense.label) for dataset in datasets]
        return any(not any(one.removes(cell) for one in exclusions) for cell in cells)

    return [use for _, use in placed["metrics"]], evaluated


def _each(value: Mapping[str, Any], key: str, resolve: _Entry, context: EntryContext) -> _Placed:
    found: _Placed = []
    values = value.get(key)
    for i, listed in enumerate(values if isinstance(values, list) else []):
        entry = as_defense(listed) if key == "defenses" else as_entry(listed)
        if isinstance(listed, list):
            context.bare_chains.add((key, i))
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            use = _resolved(key, i, entry, resolve, context)
            if use is not None:
                found.append(((key, i), use))
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
        if isinstance(choice, str) and choice not in known:
            context.add((key, i), f"unknown {key.removesuffix('s')} '{choice}'.{did_you_mean(choice, known)}")
    return [v for v in dict.fromkeys(chosen) if v in known]


def _doubled(uses: _Placed) -> Iterator[Problem]:
    """Two of one label cannot be told apart in tables, and two that are equal but for the label are one."""
    labels: set[tuple[str, str]] = set()
    equals: dict[str, str] = {}
    for path, use in uses:
        who = (use.label, getattr(use, "threat", ""))
        # Tables of equal text in two folders name different images.
        places = dict(use.parameters) if isinstance(use, DatasetUse) else {}
        what = json.dumps([use.identity(), places], sort_keys=True, default=sorted)
        if who in labels:
            alike = equals.get(what) == use.label
            cure = "Remove one." if alike else "Remove one, or tell them apart with 'label:'."
            yield Problem(path, f"'{use.label}' is listed twice. {cure}")
        elif what in equals:
            yield Problem(path, f"'{use.label}' is '{equals[what]}' under another label. Remove one.")
        labels.add(who)
        equals.setdefault(what, use.label)


def _doubled_budgets(file: SuiteFile) -> Iterator[Problem]:
    for norm, values in file.budgets.items():
        for i, eps in enumerate(values):
            if eps in values[:i]:
                yield Problem(("budgets", norm, i), f"the budget {255 * eps:.4g}/255 is listed twice. Remove one.")


def _unknown_transfers(file: SuiteFile, labels: Sequence[str]) -> Iterator[Problem]:
    """Transfers from or to a metric that is not there, or to the same one."""
    for i, pair in enumerate(file.transfer):
        for key, label in (("source", pair.source), ("scorer", pair.scorer)):
            if label not in labels:
                hint = did_you_mean(label, labels)
                yield Problem(("transfer", i, key), f"no metric '{label}' in this suite.{hint}")
        if pair.source == pair.scorer:
            yield Problem(
                ("transfer", i), "source and scorer are the same metric; that is the ordinary attack. Remove it."
            )


def _contrasts_of_nothing(suite: Suite) -> Iterator[Problem]:
    """Contrasts with a metric that is not there, of one with itself, or made twice: p-values go by their number."""
    known, seen = suite.contrast_names, set()
    for i, pair in enumerate(suite.contrasts):
        for key, name in zip(("a", "b"), pair, strict=True):
            if name not in known:
                yield Problem(("contrasts", i, key), f"no metric '{name}' in this suite.{did_you_mean(name, known)}")
        if pair[0] == pair[1]:
            yield Problem(("contrasts", i), f"'{pair[0]}' is compared with itself. Remove it, or name another metric.")
        elif frozenset(pair) in seen:
            yield Problem(("contrasts", i), f"'{pair[0]}' and '{pair[1]}' are compared twice. Remove one.")
        seen.add(frozenset(pair))
    if suite.contrasts and suite.tables and "ranks" not in suite.tables:
        cure = "Add 'ranks' to the tables, or remove the key."
        yield Problem(("contrasts",), f"they are for the table 'ranks', which is not asked for. {cure}", True)


def _combinations(placed: Mapping[str, _Placed], suite: Suite, registry: Registry) -> Iterator[Problem]:
    """What is right by itself and does not go together."""
    yield from _budgets_without_use(placed["attacks"], suite)
    yield from _attacks_without_use(placed, suite, registry)
    yield from _tables_without_use({use.shape for _, use in placed["datasets"]}, suite)
    yield from _directions_without_opinions(placed["datasets"], suite)
    yield from _ir_score(suite)
    yield from _learnt_where_judged(placed["datasets"], suite, registry)


def _budgets_without_use(attacks: _Placed, suite: Suite) -> Iterator[Problem]:
    if not attacks:
        return
    if not suite.budgets:
        yield Problem(("attacks",), "attacks need budgets. Add 'budgets: {linf: [8/255]}'.", True)
    norms = {norm for norm, _ in suite.budgets}
    for norm in sorted(norms - {norm for _, use in attacks for norm in use.norms}):
        yield Problem(("budgets", norm), f"no attack of this suite works in {norm}. Remove the budget.", True)


def _attacks_without_use(placed: Mapping[str, _Placed], suite: Suite, registry: Registry) -> Iterator[Problem]:
    """Attacks without a budget of their norm, with too few queries, or on metrics without the gradient they need."""
    norms = {norm for norm, _ in suite.budgets}
    blind = [use for _, use in placed["metrics"] if not registry.metric(use.name).cls.differentiable]
    left = {(c.source, c.attack) for c in conditions_of(suite) if blind and not suite.excludes(c)}
    for path, use in placed["attacks"] if norms else ():
        if not use.norms & norms:
            wanted = ", ".join(sorted(use.norms))
            yield Problem(path, f"'{use.name}' works in {wanted}, and the suite has no budget in that norm. Add one.")
        if not use.needs_gradient or use.control:
            yield from (Problem(path, message) for message in too_few_queries(use, suite.defenses))
            continue
        for metric in blind:
            if not suite.exclude or (metric.label, use.label) in left:
                yield Problem(
                    path,
                    f"'{use.name}' needs gradients and the metric '{metric.label}' is not differentiable. "
                    "Take a black-box attack, or leave the metric out.",
                )


def _tables_without_use(shapes: set[str], suite: Suite) -> Iterator[Problem]:
    """Keys and tables that have nothing to work on in data sets of these shapes."""
    if suite.which != "both" and "triplets" not in shapes:
        yield Problem(("which",), _WHICH)
    two_afc = {table == "two_afc" for table in suite.tables}
    if (shapes, two_afc) in (({"triplets"}, {False}), ({"pairs"}, {True})):
        kind = "two_afc is for triplets" if shapes == {"pairs"} else "triplets have only two_afc"
        yield Problem(("tables",), f"none of these tables can be made of these data sets: {kind}.", True)
    if suite.limit is not None and suite.limit < LEAST_RATED and suite.tables and {*suite.tables} <= _OF_OPINIONS:
        yield Problem(
            ("limit",),
            f"no correlation is defined for fewer than {LEAST_RATED} images, and these tables have nothing else. "
            f"Raise it to {LEAST_RATED} or more.",
        )
    if suite.verdict_samples and "verdicts" not in suite.tables:
        cure = "Add 'verdicts' to the tables, or remove the key."
        yield Problem(("verdicts",), f"its cells are for a table that is not asked for. {cure}", True)


def _directions_without_opinions(datasets: _Placed, suite: Suite) -> Iterator[Problem]:
    for path, use in datasets:
        for direction in ("mos_split", "error"):
            if use.labels == "none" and use.shape == "pairs" and direction in suite.directions and suite.attacks:
                message = f"'{use.name}' has no opinions, so the direction '{direction}' cannot be had."
                yield Problem(path, f"{message} Use 'self_split'.")


def _learnt_where_judged(datasets: _Placed, suite: Suite, registry: Registry) -> Iterator[Problem]:
    """What is learnt of images must not be judged on them: fits of attacks, and the line to opinions of `error`."""
    left = {(c.dataset, c.attack) for c in conditions_of(suite) if not suite.excludes(c)}
    for path, use in datasets:
        if not isinstance(use, DatasetUse) or use.learns_apart:
            continue
        learnt = [f"'{one.label}' learns" for one in suite.attacks if one.fits and (use.label, one.label) in left]
        if "error" in suite.directions and use.shape == "pairs" and suite.attacks:
            learnt.append("the direction 'error' learns its line to the opinions")
        if not use.calibrated_on_train:
            cure = f"'{use.name}' is calibrated on what it evaluates: leave that out, or take another data set."
        elif "train" in use.splits:
            cure = "Evaluate another split, such as 'split: test'."
        elif "split_seed" in registry.dataset(use.name).cls.neutral:
            cure = "Add 'split_seed: 0' (train, val and test 6:2:2 by reference) or 'folds: 5' to the data set."
        else:
            cure = f"'{use.name}' has no split 'train': leave that out, or take a data set that has one."
        for who in learnt:
            yield Problem(path, f"{who} from images of '{use.label}', split {use.split}, and is judged on them. {cure}")


def _ir_score(suite: Suite) -> Iterator[Problem]:
    """Keys of the IR-Score that name what this suite has not; where they are all defaults, it is left out instead."""
    asked = suite.ir_score
    labels = [metric.label for metric in suite.metrics]
    if asked.reference not in (OPINIONS, *labels):
        hint = did_you_mean(asked.reference, [OPINIONS, *labels])
        yield Problem(("ir_score", "reference"), f"no metric '{asked.reference}' in this suite.{hint}")
    elif asked != IrScore() and (why := why_no_ir_score(suite)):
        yield Problem(("ir_score",), why, True)
    elif suite.tables == (IR_SCORE,) and (why := why_no_ir_score(suite)):
        yield Problem(("tables",), f"'{IR_SCORE}' is all that is asked for: {why}", True)


def _exclusions(suite: Suite) -> Iterator[Problem]:
    """A pattern that leaves nothing out is a mistake, and so are patterns that leave nothing."""
    cells = conditions_of(suite)
    for i, exclusion in enumerate(suite.exclude):
        unknown = list(exclusion.unknown(cells))
        for key, known in unknown:
            pattern = shown_pattern(exclusion.written()[key], exclusion.norm or "")
            yield Problem(("exclude", i, key), f"no {key} '{pattern}' in this suite.{did_you_mean(pattern, known)}")
        if not unknown and not any(exclusion.removes(cell) for cell in cells):
            yield Problem(("exclude", i), "no cell matches all of this together. Remove it, or change one of its keys.")
    if all(suite.excludes(cell) for cell in cells):
        yield Problem(("exclude",), "nothing is left of the suite. Exclude less.", True)


def resolve_metric(entry: Mapping[str, Any], registry: Registry, problems: Sequence[Problem] = ()) -> MetricUse:
    """A metric outside of any suite.

    Args:
        entry: As a suite lists it: ``name``, parameters, ``weights``.
        registry: Where the name is looked up.
        problems: What was found wrong before, to be told with the rest.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    return _alone(metric_entry, f"metric '{entry.get('name')}'", entry, registry, list(problems))


def metric_from_options(name: str, sets: Sequence[str], registry: Registry) -> MetricUse:
    """A metric with the parameters and weights that the command line gives it.

    Args:
        name: A registered name.
        sets: ``KEY=VALUE``, the value as a suite writes it; the key ``weights`` names weights.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    entry, problems = _entry_from_options(name, sets)
    return resolve_metric(entry, registry, problems)


def dataset_from_options(name: str, sets: Sequence[str], registry: Registry) -> DatasetUse:
    """A data set with the parameters and the split that the command line gives it.

    Args:
        name: A registered name.
        sets: ``KEY=VALUE``, the value as a suite writes it.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    entry, problems = _entry_from_options(name, sets)
    return _alone(dataset_entry, f"data set '{name}'", entry, registry, problems)


def _entry_from_options(name: str, sets: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    entry: dict[str, Any] = {"name": name}
    problems: list[Problem] = []
    for text in sets:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            problems.append(Problem((), f"--set {text}: should be KEY=VALUE, such as weights=mine.safetensors."))
            continue
        document = parse_text(value or "null", f"--set {text}")
        problems += document.problems
        entry[key.strip()] = document.value
    return entry, problems


def resolve_attack(entry: Mapping[str, Any], registry: Registry) -> AttackUse:
    """An attack outside of any suite.

    Args:
        entry: As a suite lists it: ``name`` and parameters.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
    return _alone(attack_entry, f"attack '{entry.get('name')}'", entry, registry, [])


_U = TypeVar("_U")


def _alone(
    read_entry: Callable[[EntryContext, YamlPath, Mapping[str, Any]], _U | None],
    who: str,
    entry: Mapping[str, Any],
    registry: Registry,
    problems: list[Problem],
) -> _U:
    """An entry without a file around it; `problems` are those found before."""
    with torch.random.fork_rng(devices=[]):
        use = read_entry(EntryContext(registry, problems), (), entry)
    if problems or use is None:
        lines = []
        for problem in problems:
            place = ".".join(str(part) for part in problem.path if part != "name")
            message = f"{place}: {problem.message}" if place else problem.message
            lines.append(problem.message if problem.message.startswith(who) else f"{who}: {message}")
        raise UserError("\n".join(dict.fromkeys(lines)))
    return use
