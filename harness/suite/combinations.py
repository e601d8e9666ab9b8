"""What of a suite is right by itself and does not go together: twice there, of no use, learnt where it is judged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.plugins.registry import Registry
from harness.suite.cell_names import shown_pattern
from harness.suite.ir_score_cells import TABLE as IR_SCORE
from harness.suite.ir_score_cells import why_no_ir_score
from harness.suite.keys import SuiteFile
from harness.suite.model import LEAST_RATED, OPINIONS, DatasetUse, IrScore, Suite, too_few_queries
from harness.suite.select import conditions_of
from harness.suite.strict_yaml import Problem, YamlPath
from harness.wording import did_you_mean

Placed = list[tuple[YamlPath, Any]]
"""What a suite lists under one key, each with its place in the file."""
_WHICH = "the patch to attack is chosen for triplets, and these data sets give pairs. Remove the key."
_OF_OPINIONS = {"srocc", "ranks", "agreement", "pair_accuracy", "per_type", "frontier"}
"""Tables that are not made of fewer rated images than a correlation needs."""


def doubled_uses(uses: Placed) -> Iterator[Problem]:
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


def doubled_budgets(file: SuiteFile) -> Iterator[Problem]:
    """Budgets that are listed twice."""
    for norm, values in file.budgets.items():
        for i, eps in enumerate(values):
            if eps in values[:i]:
                yield Problem(("budgets", norm, i), f"the budget {255 * eps:.4g}/255 is listed twice. Remove one.")


def exact_of_nothing(file: SuiteFile) -> Iterator[Problem]:
    """Exact examples asked for where no examples are."""
    if file.exact and not file.save_examples:
        message = "true says how examples are kept, and none are. Add 'save_examples: 4', or remove it."
        yield Problem(("exact",), message)


def unknown_transfers(file: SuiteFile, labels: Sequence[str]) -> Iterator[Problem]:
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


def contrasts_of_nothing(suite: Suite) -> Iterator[Problem]:
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


def at_odds_together(placed: Mapping[str, Placed], suite: Suite, registry: Registry) -> Iterator[Problem]:
    """What is right by itself and does not go together."""
    yield from _budgets_without_use(placed["attacks"], suite)
    yield from _attacks_without_use(placed, suite, registry)
    yield from _tables_without_use({use.shape for _, use in placed["datasets"]}, suite)
    yield from _directions_without_opinions(placed["datasets"], suite)
    yield from _ir_score(suite)
    yield from _learnt_where_judged(placed["datasets"], suite, registry)


def _budgets_without_use(attacks: Placed, suite: Suite) -> Iterator[Problem]:
    if not attacks:
        return
    if not suite.budgets:
        yield Problem(("attacks",), "attacks need budgets. Add 'budgets: {linf: [8/255]}'.", True)
    norms = {norm for norm, _ in suite.budgets}
    for norm in sorted(norms - {norm for _, use in attacks for norm in use.norms}):
        yield Problem(("budgets", norm), f"no attack of this suite works in {norm}. Remove the budget.", True)


def _attacks_without_use(placed: Mapping[str, Placed], suite: Suite, registry: Registry) -> Iterator[Problem]:
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


def _directions_without_opinions(datasets: Placed, suite: Suite) -> Iterator[Problem]:
    for path, use in datasets:
        for direction in ("mos_split", "error"):
            if use.labels == "none" and use.shape == "pairs" and direction in suite.directions and suite.attacks:
                message = f"'{use.name}' has no opinions, so the direction '{direction}' cannot be had."
                yield Problem(path, f"{message} Use 'self_split'.")


def _learnt_where_judged(datasets: Placed, suite: Suite, registry: Registry) -> Iterator[Problem]:
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


def empty_exclusions(suite: Suite) -> Iterator[Problem]:
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
