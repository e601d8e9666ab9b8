"""Several runs' suites as one, with one plan: entries are the same by identity, cells by theirs.

The joined suite asks for what any of the runs asked for and leaves out (`exclude`) what none did, so that nothing is
left to compute where each run was finished. It is made of stored plans alone: no data, weights or plugins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from harness.errors import UserError
from harness.suite.conditions import Condition
from harness.suite.left_out import exclusions_but
from harness.suite.model import DefenseUse, Suite, TrainedUse, Use
from harness.suite.plan import Cell, Fact, Fit, Plan, SplitSpec
from harness.suite.planning import own_parts
from harness.suite.select import conditions_of
from harness.wording import joined

_U = TypeVar("_U", Use, DefenseUse)

_DECIDING = ("seed", "slice_size", "which", "precision", "batch_budgets")
"""Of a suite, what is part of every cell's identity: it has to be the same."""
_WRITTEN = {"slice_size": "slice"}
_ACCOUNTS = ("adjust", "margin", "ir_score")
"""Of a suite, what decides how tables are made and no record: that of the first run is taken."""


@dataclass(frozen=True)
class RunPlan:
    """One of the runs.

    Attributes:
        name: What messages call it: its folder.
        plan: What it planned.
        document: Its ``suite.yaml``, as plain values.
    """

    name: str
    plan: Plan
    document: Mapping[str, Any]


@dataclass
class Joined:
    """The runs as one.

    Attributes:
        plan: What the joined suite plans.
        document: Its file, as plain values.
        told: What is to be said of it: what was taken from one run alone, and what is left to compute.
    """

    plan: Plan
    document: dict[str, Any]
    told: list[str] = field(default_factory=list)


def join(parts: Sequence[RunPlan], name: str | None = None) -> Joined:
    """Several runs as one.

    Args:
        parts: The runs, the first of which decides where suites may differ.
        name: What the joined suite is called; as the first run's if left out.

    Raises:
        UserError: They differ in what no single suite can ask for; the message says in what.
    """
    told = _refuse_different(parts)
    suites = [part.plan.suite for part in parts]
    if name is None and any(suite.name != suites[0].name for suite in suites):
        told.append(f"the suites have several names; the merged one is '{suites[0].name}' (--name gives another).")
    if any(suite.parts for suite in suites):
        return _same_over_splits(parts, name, told)
    renamed = _Labels(parts, told)
    suite, document = _suite(parts, renamed)
    suite = replace(suite, name=name or suite.name)
    wanted = {cell.id: cell for part in parts for cell in part.plan.cells if not cell.for_verdicts}
    splits = _splits(parts, suite)
    asked = {
        _condition_of(part, cell, renamed)
        for part in parts
        for cell in part.plan.cells
        if not (cell.for_verdicts or cell.for_maps)
    }
    given = list(dict.fromkeys(one for part in parts for one in part.plan.suite.exclude))
    suite = replace(suite, exclude=exclusions_but(asked, conditions_of(suite), given))
    plan = _plan(suite, parts, splits)
    if lost := [cell.label for key, cell in wanted.items() if key not in {one.id for one in plan.cells}]:
        raise UserError(
            f"No single suite asks for {lost[0]}{f' and {len(lost) - 1} more cells' if lost[1:] else ''} as "
            f"{joined([part.name for part in parts])} did. With batch_budgets, the budgets of an attack are part of "
            "each of its cells, so the runs must have the same."
        )
    added = [cell.label for cell in plan.cells if not cell.for_verdicts and cell.id not in wanted]
    if added:
        more = f" and {len(added) - 1} more" if added[1:] else ""
        told.append(f"cells that no run asked for and that no 'exclude' can leave out: {added[0]}{more}.")
    own = {"name": suite.name, "exclude": [one.written() for one in suite.exclude]}
    return Joined(plan, {**document, **own}, told)


def _refuse_different(parts: Sequence[RunPlan]) -> list[str]:
    """Say what of the suites differs and is taken from one of them.

    Raises:
        UserError: They differ in what is part of every cell.
    """
    first, told = parts[0], []
    for part in parts[1:]:
        one, other = first.plan.suite, part.plan.suite
        differing = [key for key in _DECIDING if getattr(one, key) != getattr(other, key)]
        if differing:
            said = "; ".join(
                f"{_WRITTEN.get(key, key)}: {getattr(one, key)} in {first.name}, {getattr(other, key)} in {part.name}"
                for key in differing
            )
            raise UserError(
                f"{part.name}: its cells are others than those of {first.name}, and one suite cannot ask for both "
                f"({said}). 'robustiqa compare' sets two such runs side by side."
            )
        told += [f"{key} is that of {first.name}." for key in _ACCOUNTS if getattr(one, key) != getattr(other, key)]
        if one.limit != other.limit:
            told.append(
                f"limit: {one.limit or 'none'} in {first.name}, {other.limit or 'none'} in {part.name}; the larger is "
                "taken, so cells of the other have images left to run (or run the merged suite with --limit)."
            )
        if set(one.directions) != set(other.directions):
            told.append(f"directions of {first.name} and {part.name} differ; the merged suite asks for all of them.")
        if one.verdicts != other.verdicts:
            told.append(
                f"verdicts: {one.verdicts} in {first.name}, {other.verdicts} in {part.name}; the more is taken."
            )
        if one.save_examples != other.save_examples:
            told.append("save_examples differs; the fewer is asked for, and all that are there are kept.")
    return list(dict.fromkeys(told))


class _Labels:
    """Labels of one run that stand for what another run calls otherwise."""

    def __init__(self, parts: Sequence[RunPlan], told: list[str]) -> None:
        self._told = told
        self._new: dict[tuple[str, str, str], str] = {}
        for kind in ("datasets", "metrics", "attacks", "defenses"):
            self._look(kind, parts)

    def of(self, part: RunPlan, kind: str, label: str) -> str:
        """What an entry of a run is called in the joined suite."""
        return self._new.get((part.name, kind, label), label)

    def _look(self, kind: str, parts: Sequence[RunPlan]) -> None:
        known: dict[str, tuple[str, RunPlan]] = {}
        for part in parts:
            for use in getattr(part.plan.suite, kind):
                same = _sameness(part, kind, use)
                if use.label in known:
                    self._refuse_other(kind, use, same, known[use.label], part)
                    continue
                twin = next((label for label, (other, _) in known.items() if other == same), None)
                if twin is None:
                    known[use.label] = same, part
                else:
                    self._new[part.name, kind, use.label] = twin
                    self._told.append(f"'{use.label}' of {part.name} is the '{twin}' of {known[twin][1].name}.")

    @staticmethod
    def _refuse_other(kind: str, use: Any, same: str, known: tuple[str, RunPlan], part: RunPlan) -> None:
        if known[0] == same:
            return
        what = {"datasets": "data", "metrics": "metric", "attacks": "attack", "defenses": "defense"}[kind]
        why = ""
        if kind == "datasets":
            why = " (other images, labels, filters or split)"
        elif isinstance(use, Use):
            why = f" (parameters, weights, code or version; {part.name} has {dict(use.parameters) or 'no parameters'})"
        raise UserError(
            f"'{use.label}' is one {what} in {known[1].name} and another in {part.name}{why}. Give one of the "
            "two another 'label' in its suite and run that suite again, which computes nothing anew; then merge."
        )


def _sameness(part: RunPlan, kind: str, use: Any) -> str:
    """What decides whether two entries are the same."""
    if kind == "datasets":
        return _evaluated(part.plan, use.label, use.split).key
    if isinstance(use, DefenseUse):
        training = use.trained.name if use.trained else ""
        return repr([training, *(one.identity() for one in use.purifiers), use.threat, use.eot, use.draws])
    return repr(_sorted(use.identity()))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


def _evaluated(plan: Plan, label: str, split: str) -> SplitSpec:
    """The split of a data set as it was planned."""
    specs = [cell.split for cell in plan.cells] + [fact.split for fact in plan.facts]
    found = next((one for one in specs if (one.dataset.label, one.split) == (label, split)), None)
    return found if found is not None else specs[0]


def _suite(parts: Sequence[RunPlan], labels: _Labels) -> tuple[Suite, dict[str, Any]]:
    """The suites and their files joined, without exclusions."""
    first, document = parts[0].plan.suite, dict(parts[0].document)
    every: dict[str, Any] = {}
    for kind in ("datasets", "metrics", "attacks", "defenses"):
        every[kind], document[kind] = _listed(parts, kind, labels)
    suites = [part.plan.suite for part in parts]
    values = {**_lists(suites), **_scalars(suites)}
    values |= {key: _pairs_of(parts, key, labels) for key in ("transfer", "contrasts")}
    if not all(suite.contrasts for suite in suites):  # every two metrics
        values["contrasts"] = ()
    document |= {key: list(one) if isinstance(one, tuple) else one for key, one in values.items()}
    norms = dict.fromkeys(norm for norm, _ in values["budgets"])
    document |= {
        "budgets": {norm: [eps for other, eps in values["budgets"] if other == norm] for norm in norms},
        "transfer": [{"source": source, "scorer": scorer} for source, scorer in values["transfer"]],
        "contrasts": [{"a": a, "b": b} for a, b in values["contrasts"]],
    }
    layouts = {one["name"]: one for part in reversed(parts) for one in part.document.get("layouts", ())}
    document |= {"layouts": list(layouts.values())} if layouts else {}
    values |= {kind: tuple(found) for kind, found in every.items()}
    return replace(first, **values, exclude=()), document


def _lists(suites: Sequence[Suite]) -> dict[str, Any]:
    """What suites list without entries of their own: all that any of them has."""
    budgets = list(dict.fromkeys(one for suite in suites for one in suite.budgets))
    if budgets != list(suites[0].budgets):
        norms = dict.fromkeys(norm for norm, _ in budgets)
        budgets = [one for norm in norms for one in sorted(other for other in budgets if other[0] == norm)]
    listed = {
        key: tuple(dict.fromkeys(one for suite in suites for one in getattr(suite, key)))
        for key in ("directions", "tables")
    }
    return {"budgets": tuple(budgets), **listed}


def _scalars(suites: Sequence[Suite]) -> dict[str, Any]:
    """Numbers of suites: those with which most is asked for, but images kept, of which none is to be made again."""
    limits = [suite.limit for suite in suites if suite.limit is not None]
    counts = [suite.verdicts for suite in suites if not isinstance(suite.verdicts, bool)]
    return {
        "limit": max(limits) if len(limits) == len(suites) else None,
        "save_examples": min(suite.save_examples for suite in suites),
        "exact": all(suite.exact for suite in suites),
        "verdicts": max(counts, default=0) or any(suite.verdicts for suite in suites),
    }


def _pairs_of(parts: Sequence[RunPlan], key: str, labels: _Labels) -> tuple[tuple[str, str], ...]:
    """Pairs of metrics of all suites, in the joined one's labels."""
    found = [(part, pair) for part in parts for pair in getattr(part.plan.suite, key)]
    return tuple(
        dict.fromkeys(
            (labels.of(part, "metrics", one), labels.of(part, "metrics", other)) for part, (one, other) in found
        )
    )


def _listed(parts: Sequence[RunPlan], kind: str, labels: _Labels) -> tuple[list[Any], list[Any]]:
    """The entries of one kind, each once, as the plans and as the files have them."""
    uses: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for part in parts:
        written = {entry["label"]: entry for entry in part.document[kind]}
        for use in getattr(part.plan.suite, kind):
            label = labels.of(part, kind, use.label)
            if label not in uses:
                uses[label], entries[label] = use, written[use.label]
            elif isinstance(use, DefenseUse) and use.trained is not None:
                uses[label] = _with_trained(uses[label], use, part)
                entries[label] = _with_weights(entries[label], written[use.label])
    return list(uses.values()), list(entries.values())


def _with_trained(one: DefenseUse, other: DefenseUse, part: RunPlan) -> DefenseUse:
    """A trained defense with the weights that another run has of further metrics.

    Raises:
        UserError: Two runs have different weights of one metric.
    """
    assert one.trained is not None and other.trained is not None
    metrics = dict(one.trained.metrics)
    for label, use in other.trained.metrics.items():
        if label in metrics and metrics[label].identity() != use.identity():
            raise UserError(
                f"{part.name}: its weights of '{label}' as trained by '{one.label}' are others than those of the runs "
                "before. Give the defense another 'label' in one of the suites and run it again; then merge."
            )
        metrics.setdefault(label, use)
    return replace(one, trained=TrainedUse(one.trained.name, one.trained.label, metrics, one.trained.asked))


def _with_weights(one: Any, other: Any) -> Any:
    """The file's entry of a trained defense with the weights of both."""
    if "chain" in one:
        links = zip(one["chain"], other["chain"], strict=True)
        return {**one, "chain": [_with_weights(a, b) for a, b in links]}
    if isinstance(one.get("weights"), dict) and isinstance(other.get("weights"), dict):
        return {**one, "weights": {**other["weights"], **one["weights"]}}
    return one


def _splits(parts: Sequence[RunPlan], suite: Suite) -> dict[str, tuple[SplitSpec, SplitSpec]]:
    """Label of a data set -> its evaluated split, and the one that facts come from."""
    found = {}
    for use in suite.datasets:
        specs = [
            spec
            for part in parts
            for spec in (*(c.split for c in part.plan.cells), *(f.split for f in part.plan.facts))
            if spec.dataset.label == use.label
        ]
        evaluated = next(spec for spec in specs if spec.split == use.split)
        apart = (spec for spec in specs if spec.split == use.calibration_split)
        found[use.label] = evaluated, next(apart, replace(evaluated, split=use.calibration_split))
    return found


def _condition_of(part: RunPlan, cell: Cell, labels: _Labels) -> Condition:
    """A cell in the joined suite's labels."""
    return Condition(
        labels.of(part, "datasets", cell.split.dataset.label),
        labels.of(part, "metrics", cell.source.metric.label),
        labels.of(part, "metrics", cell.scorer.metric.label),
        labels.of(part, "defenses", cell.defense),
        labels.of(part, "attacks", cell.attack.label) if cell.attack else "",
        cell.norm,
        cell.eps,
    )


def _plan(suite: Suite, parts: Sequence[RunPlan], splits: Mapping[str, tuple[SplitSpec, SplitSpec]]) -> Plan:
    """The plan of the joined suite, in the order in which `make_plan` has it."""
    cells: dict[str, Cell] = {}
    facts: dict[str, Fact] = {}
    fits: dict[str, Fit] = {}
    place = {metric.label: index for index, metric in enumerate(suite.metrics)}
    every = [cell for part in parts for cell in part.plan.cells]
    every.sort(key=lambda cell: place.get(cell.scorer.metric.label, len(place)))
    for use in suite.datasets:
        split, calibration = splits[use.label]
        for part in own_parts(suite, split, calibration):
            table: dict[str, Any] = cells if isinstance(part, Cell) else facts if isinstance(part, Fact) else fits
            table.setdefault(part.id, part)
        own = (cell for cell in every if cell.split.dataset.label == use.label)
        for added in sorted(own, key=lambda cell: cell.for_verdicts):
            if added.for_maps or added.for_verdicts:
                cells.setdefault(added.id, added)
    plans = [part.plan for part in parts]
    entries = {
        key: max((plan.entries[key] for plan in plans if key in plan.entries), key=len)
        for key in dict.fromkeys(key for plan in plans for key in plan.entries)
    }
    probes = {probe.id: probe for plan in plans for probe in plan.probes}
    return Plan(
        suite,
        tuple(sorted(probes.values(), key=lambda probe: place.get(probe.metric.label, len(place)))),
        tuple(_with_all(facts, (plan.facts for plan in plans)).values()),
        tuple(_with_all(fits, (plan.fits for plan in plans)).values()),
        tuple(cells.values()),
        {key: max(plan.slices.get(key, 0) for plan in plans) for key in entries},
        entries,
    )


_J = TypeVar("_J", Fact, Fit)


def _with_all(planned: Mapping[str, _J], stored: Any) -> dict[str, _J]:
    """What the plan needs, and what cells added for verdicts need besides."""
    return {**planned, **{one.id: one for found in stored for one in found if one.id not in planned}}


def _same_over_splits(parts: Sequence[RunPlan], name: str | None, told: list[str]) -> Joined:
    """Runs of one suite over several splits, such as shards of it.

    Raises:
        UserError: Their suites differ.
    """
    ignored = ("limit", "save_examples", "layouts", "name", "tables")
    documents = [{key: one for key, one in part.document.items() if key not in ignored} for part in parts]
    plans = [part.plan for part in parts]
    if any(one != documents[0] for one in documents) or any(
        {cell.id for cell in plan.cells} != {cell.id for cell in plans[0].cells} for plan in plans
    ):
        raise UserError(
            f"{parts[0].name}: its suite is over several splits, and such runs are merged where their suites are the "
            "same. Run one suite that asks for all, in one folder."
        )
    plan = max(plans, key=lambda one: one.suite.limit or float("inf"))
    fewest = min(one.suite.save_examples for one in plans)
    suite = replace(plan.suite, name=name or plans[0].suite.name, save_examples=fewest)
    document = {**parts[0].document, "name": suite.name, "limit": suite.limit, "save_examples": suite.save_examples}
    return Joined(replace(plan, suite=suite), document, told)
