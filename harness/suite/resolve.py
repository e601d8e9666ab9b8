"""YAML in, a validated `Suite` out. Every problem is found at once, before anything is loaded."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import torch

from harness.errors import UserError
from harness.plugins.model import Kind, Parameter, Plugin, PluginError
from harness.plugins.registry import Registry
from harness.plugins.returned import MEND, told, wrong_entries
from harness.plugins.weights.locate import RANDOM_WEIGHTS
from harness.plugins.weights.locate import check as check_weights
from harness.plugins.weights.locate import resolve as resolve_weights
from harness.suite.cell_names import shown_pattern
from harness.suite.compose import Overrides, expand, override, read
from harness.suite.conditions import Exclusion
from harness.suite.keys import DIRECTIONS, EVERY_PAIR, SuiteFile, as_entry, read_file, worded
from harness.suite.model import AttackUse, DatasetUse, DefenseUse, MetricUse, Suite, Use, too_few_queries
from harness.suite.select import conditions_of, select
from harness.suite.strict_yaml import Document, Problem, YamlPath, parse_text
from harness.suite.tables import table_names
from harness.suite.uses import metric_used, plugin_use
from harness.wording import did_you_mean, quoted

THREATS = ("oblivious", "adaptive")
_WHICH = "the patch to attack is chosen for triplets, and these data sets give pairs. Remove the key."
_NO_MAPPING = "a suite is a mapping with the keys name, datasets, metrics, ... Start from suites/quickstart.yaml."

_Placed = list[tuple[YamlPath, Any]]
"""What a suite lists under one key, each with its place in the file."""


def load_suite(path: Path, registry: Registry, overrides: Overrides | None = None) -> Suite:
    """Read and validate a suite file.

    Args:
        path: The YAML file.
        registry: Where its plugin names are looked up.
        overrides: What the command line changes.

    Raises:
        LocatedError: Everything wrong with it, each with file, line and column.
    """
    overrides = overrides or Overrides()
    document = read(path)
    override(document, overrides, lambda key, entry: _automatic_labels(registry, key, entry))
    suite = validate(document, registry)
    if overrides.only is None:
        return suite
    # Cells that only verdicts look at are not among those that were picked.
    return dataclasses.replace(select(suite, overrides.only), verdicts=bool(suite.verdicts))


def _automatic_labels(registry: Registry, key: str, entry: Mapping[str, Any]) -> set[str]:
    """What an entry without a label is called in tables, such as 'pgd(steps=5)'."""
    kind: Kind = "purifiers" if key == "defenses" else key  # type: ignore[assignment]
    if "label" in entry or not registry.knows(kind, str(entry.get("name"))):
        return set()
    try:
        plugin = registry.get(kind, entry["name"])
    except PluginError:
        return set()
    return {
        plugin_use(kind, plugin, {p.name: entry.get(p.name, p.default) for p in plugin.parameters()}, entry)["label"]
    }


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
    resolver = _Resolver(registry, document.value, problems, {p.path for p in structural})
    problems += structural
    suite = resolver.resolve(file)
    if problems or suite is None:
        raise document.report(problems)
    return suite


class _Resolver:
    """Looks up plugins and checks parameters and combinations, collecting problems."""

    def __init__(
        self, registry: Registry, value: Mapping[str, Any], problems: list[Problem], broken: set[YamlPath]
    ) -> None:
        self._registry = registry
        self._value = value
        self._problems = problems
        self._broken = broken
        self._adapters: dict[tuple[type, str], pydantic.TypeAdapter[Any]] = {}

    def resolve(self, file: SuiteFile | None) -> Suite | None:
        """The suite, or None where a problem prevents one; finds plugin problems even if the structure is wrong."""
        with torch.random.fork_rng(devices=[]):  # plugins are built to be checked, which leaves no trace
            placed = {
                "datasets": self._each("datasets", self._dataset),
                "metrics": self._each("metrics", self._metric),
                "defenses": self._each("defenses", self._defense),
                "attacks": self._each("attacks", self._attack),
            }
        for uses in placed.values():
            self._distinct(uses)
        datasets, metrics, defenses, attacks = ([use for _, use in uses] for uses in placed.values())
        defenses = defenses or [_BASE]
        directions = self._choices("directions", DIRECTIONS)
        tables = self._choices("tables", table_names())
        if file is None:
            return None
        budgets = [(norm, eps) for norm, values in file.budgets.items() for eps in values]
        for norm, values in file.budgets.items():
            for i, eps in enumerate(values):
                if eps in values[:i]:
                    self._add(("budgets", norm, i), f"the budget {255 * eps:.4g}/255 is listed twice. Remove one.")
        labels = [m.label for m in metrics]
        for i, pair in enumerate(file.transfer):
            for key, label in (("source", pair.source), ("scorer", pair.scorer)):
                if label not in labels:
                    self._add(("transfer", i, key), f"no metric '{label}' in this suite.{did_you_mean(label, labels)}")
            if pair.source == pair.scorer:
                self._add(
                    ("transfer", i), "source and scorer are the same metric; that is the ordinary attack. Remove it."
                )
        every_pair = self._value.get("transfer") == EVERY_PAIR
        pairs = itertools.permutations(labels, 2) if every_pair else ((p.source, p.scorer) for p in file.transfer)
        suite = Suite(
            name=file.name,
            seed=file.seed,
            datasets=tuple(datasets),
            metrics=tuple(metrics),
            defenses=tuple(defenses),
            attacks=tuple(attacks),
            budgets=tuple(dict.fromkeys(budgets)),
            directions=tuple(directions or file.directions),
            tables=tuple(tables or file.tables),
            transfer=tuple(pairs),
            which=file.which,
            precision=file.precision,
            batch_budgets=file.batch_budgets,
            verdicts=file.verdicts,
            limit=file.limit,
            slice_size=file.slice,
            save_examples=file.save_examples,
            exclude=tuple(Exclusion(**pattern.model_dump()) for pattern in file.exclude),
        )
        self._combinations(placed, suite)
        self._exclusions(suite)
        return None if self._problems else suite

    def resolve_metric(self, entry: Mapping[str, Any]) -> MetricUse | None:
        """One metric without a suite around it, or None where a problem prevents it."""
        return self._metric((), entry)

    def _add(self, path: YamlPath, message: str, *, on_key: bool = False) -> None:
        self._problems.append(Problem(path, message, on_key))

    def _each(self, key: str, resolve: Callable[[YamlPath, Mapping[str, Any]], Any]) -> _Placed:
        found: _Placed = []
        values = self._value.get(key)
        for i, value in enumerate(values if isinstance(values, list) else []):
            entry = as_entry(value)
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                use = resolve((key, i), entry)
                if use is not None:
                    found.append(((key, i), use))
        return found

    def _choices(self, key: str, known: Sequence[str]) -> list[str]:
        values = self._value.get(key)
        values = values if isinstance(values, list) else []
        for i, value in enumerate(values):
            if isinstance(value, str) and value not in known:
                self._add((key, i), f"unknown {key.removesuffix('s')} '{value}'.{did_you_mean(value, known)}")
        return [v for v in dict.fromkeys(v for v in values if isinstance(v, str)) if v in known]

    def _distinct(self, uses: _Placed) -> None:
        """Two of one label cannot be told apart in tables, and two that are equal but for the label are one."""
        labels: set[tuple[str, str]] = set()
        equals: dict[str, str] = {}
        for path, use in uses:
            who = (use.label, getattr(use, "threat", ""))
            what = json.dumps(use.identity(), sort_keys=True, default=sorted)
            if who in labels:
                alike = equals.get(what) == use.label
                cure = "Remove one." if alike else "Remove one, or tell them apart with 'label:'."
                self._add(path, f"'{use.label}' is listed twice. {cure}")
            elif what in equals:
                self._add(path, f"'{use.label}' is '{equals[what]}' under another label. Remove one.")
            labels.add(who)
            equals.setdefault(what, use.label)

    def _plugin(self, kind: Kind, path: YamlPath, name: str) -> Plugin[Any] | None:
        try:
            return self._registry.get(kind, name)
        except PluginError as error:
            self._add(path if path in self._broken else (*path, "name"), str(error))
            return None

    def _parameters(
        self, plugin: Plugin[Any], path: YamlPath, entry: Mapping[str, Any], own_keys: Sequence[str]
    ) -> dict[str, Any] | None:
        """Every parameter with its value, or None where one is wrong."""
        parameters = {p.name: p for p in plugin.parameters()}
        given = {k: v for k, v in entry.items() if k not in ("name", "label", *own_keys)}
        fine = True
        for key in given:
            if key not in parameters:
                known = [*parameters, *own_keys, "label"]
                self._add(
                    (*path, key), f"'{plugin.name}' has no parameter '{key}'.{did_you_mean(key, known)}", on_key=True
                )
                fine = False
        values: dict[str, Any] = {}
        for name, parameter in parameters.items():
            if name in given:
                try:
                    values[name] = _checked(self._adapter(plugin, parameter), given[name])
                except pydantic.ValidationError as error:
                    detail = error.errors()[0]
                    self._add((*path, name, *detail["loc"]), f"{worded(detail)}, got {quoted(detail['input'])}.")
                    fine = False
                except pydantic.PydanticUserError:
                    self._add(
                        (*path, name),
                        f"'{plugin.name}' from {plugin.origin} gives its parameter '{name}' a type that no file can "
                        "write. Annotate it as a number, text, or a list of them.",
                    )
                    fine = False
            elif parameter.default is inspect.Parameter.empty:
                self._add(path, f"'{plugin.name}' needs the parameter '{name}'. Give it a value.")
                fine = False
            else:
                values[name] = parameter.default
        return values if fine else None

    def _adapter(self, plugin: Plugin[Any], parameter: Parameter) -> pydantic.TypeAdapter[Any]:
        """What checks a parameter; kept, because making one takes far longer than using it."""
        key = plugin.cls, parameter.name
        if key not in self._adapters:
            self._adapters[key] = pydantic.TypeAdapter(parameter.annotation)
        return self._adapters[key]

    def _build(self, plugin: Plugin[Any], path: YamlPath, values: Mapping[str, Any]) -> Any | None:
        """An instance, so that a plugin's own checks of its parameters (ValueError) are heard now."""
        try:
            json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            self._add(
                path, f"'{plugin.name}': its parameters must be plain finite values (text, numbers, lists): {error}."
            )
            return None
        try:
            return plugin.build(values)
        except (ValueError, TypeError, RuntimeError, UserError) as error:
            self._add(path, f"'{plugin.name}': {error}")
            return None
        except Exception as error:
            self._add(path, f"'{plugin.name}' from {plugin.origin} cannot be built: {told(error)}. {MEND}")
            return None

    def _dataset(self, path: YamlPath, entry: Mapping[str, Any]) -> DatasetUse | None:
        plugin = self._plugin("datasets", path, entry["name"])
        values = self._parameters(plugin, path, entry, ["split"]) if plugin else None
        if plugin is None or values is None:
            return None
        dataset = self._build(plugin, path, values)
        if dataset is None:
            return None
        splits = tuple(dataset.splits)
        default = "test" if "test" in splits else splits[0]
        split = entry.get("split", default)
        if split not in splits:
            others = f" It gets others by {', '.join(plugin.cls.neutral)}." if splits == plugin.cls.splits else ""
            hint = did_you_mean(str(split), splits) + (others if plugin.cls.neutral else "")
            self._add((*path, "split"), f"'{plugin.name}' has no split '{split}'.{hint}")
            return None
        wrong = wrong_entries(plugin, dataset, split)
        if wrong:
            self._add(path, wrong)
            return None
        use = plugin_use("datasets", plugin, values, entry)
        if "label" not in entry and split != default:
            use["label"] += f" {split}"
        return DatasetUse(**use, split=split, splits=splits, labels=plugin.cls.labels, shape=plugin.cls.kind)

    def _metric(self, path: YamlPath, entry: Mapping[str, Any]) -> MetricUse | None:
        plugin = self._plugin("metrics", path, entry["name"])
        values = self._parameters(plugin, path, entry, ["weights"]) if plugin else None
        if plugin is None or values is None:
            return None
        weights = entry.get("weights")
        if weights is not None and not isinstance(weights, str):
            self._add((*path, "weights"), f"should be a name in the manifest or a path, got {quoted(weights)}.")
            return None
        if weights is not None and not plugin.cls.needs_weights:
            self._add((*path, "weights"), f"'{plugin.name}' has no weights. Remove the key.", on_key=True)
            return None
        use = plugin_use("metrics", plugin, values, entry)
        metric = self._build(plugin, path, values)
        if metric is None:
            return None
        if weights == RANDOM_WEIGHTS or not plugin.cls.needs_weights:
            return MetricUse(**use, weights=weights or "", weights_file=None)
        try:
            file = resolve_weights(plugin.name, weights, plugin.weights)
            if file is not None:
                check_weights(metric, file)
        except UserError as error:
            self._add((*path, "weights") if weights is not None else path, str(error))
            return None
        except (ValueError, RuntimeError):  # a null character, a lone surrogate; the home of nobody
            self._add((*path, "weights"), f"should be a name in the manifest or a path, got {quoted(weights)}.")
            return None
        if file is None:
            self._add(
                path, f"'{plugin.name}' needs weights. Name a file with 'weights:', or ask for 'weights: random'."
            )
            return None
        return MetricUse(**use, weights=file.sha256, weights_file=file.path.resolve())

    def _attack(self, path: YamlPath, entry: Mapping[str, Any]) -> AttackUse | None:
        plugin = self._plugin("attacks", path, entry["name"])
        values = self._parameters(plugin, path, entry, []) if plugin else None
        attack = self._build(plugin, path, values) if plugin and values is not None else None
        if plugin is None or values is None or attack is None:
            return None
        metrics = []
        for name in attack.uses_metrics():
            try:
                metrics.append(metric_used(name, attack, self._registry))
            except UserError as error:
                naming = [key for key, value in entry.items() if key != "name" and value == name]
                self._add((*path, *naming[:1]), str(error))
                return None
        use = plugin_use("attacks", plugin, values, entry)
        if use["label"] == "clean":
            self._add(path, "'clean' is always measured; do not list or label an attack so.")
        kind = plugin.cls
        traits = {name: getattr(kind, name) for name in ("control", "fits", "norms", "needs_gradient")}
        return AttackUse(**use, **traits, metrics=tuple(metrics))

    def _defense(self, path: YamlPath, entry: Mapping[str, Any]) -> DefenseUse | None:
        if entry["name"] == "base":
            extra = [k for k in entry if k not in ("name", "label")]
            for key in extra:
                self._add((*path, key), f"'base' is no defense and has no parameter '{key}'. Remove it.", on_key=True)
            return DefenseUse(str(entry.get("label") or "base"), (), "none", 1, 1)
        if entry["name"] not in self._registry.names("purifiers"):
            known = ["base", *self._registry.names("purifiers")]
            self._add((*path, "name"), f"unknown defense '{entry['name']}'.{did_you_mean(entry['name'], known)}")
            return None
        plugin = self._plugin("purifiers", path, entry["name"])
        values = self._parameters(plugin, path, entry, ["threat", "eot", "draws"]) if plugin else None
        if plugin is None or values is None or self._build(plugin, path, values) is None:
            return None
        threat = entry.get("threat", "oblivious")
        if threat not in THREATS:
            self._add((*path, "threat"), f"unknown threat '{threat}'.{did_you_mean(str(threat), THREATS)}")
            return None
        randomised = bool(plugin.cls.randomised)
        counts = {"eot": 20 if threat == "adaptive" and randomised else 1, "draws": 1}
        for key in counts:
            value = entry.get(key, counts[key])
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._add((*path, key), f"should be a whole number of at least 1, got {quoted(value)}.")
                return None
            counts[key] = value
        if threat == "oblivious" and "eot" in entry:
            self._add(
                (*path, "eot"),
                "an oblivious attacker does not see the defense, so 'eot' has no effect. Remove it, "
                "or set 'threat: adaptive'.",
                on_key=True,
            )
            return None
        use = Use(**plugin_use("purifiers", plugin, values, entry))
        return DefenseUse(use.label, (use,), threat, counts["eot"], counts["draws"])

    def _combinations(self, placed: Mapping[str, _Placed], suite: Suite) -> None:
        attacks, budgets = placed["attacks"], suite.budgets
        blind = [use for _, use in placed["metrics"] if not self._registry.metric(use.name).cls.differentiable]
        left = {(c.source, c.attack) for c in conditions_of(suite) if blind and not suite.excludes(c)}
        if attacks and not budgets:
            self._add(("attacks",), "attacks need budgets. Add 'budgets: {linf: [8/255]}'.", on_key=True)
        norms = {norm for norm, _ in budgets}
        for norm in sorted(norms - {norm for _, use in attacks for norm in use.norms}) if attacks else ():
            self._add(("budgets", norm), f"no attack of this suite works in {norm}. Remove the budget.", on_key=True)
        for path, use in attacks if budgets else ():
            if not use.norms & norms:
                wanted = ", ".join(sorted(use.norms))
                self._add(path, f"'{use.name}' works in {wanted}, and the suite has no budget in that norm. Add one.")
            if not use.needs_gradient or use.control:
                for message in too_few_queries(use, suite.defenses):
                    self._add(path, message)
                continue
            for metric in blind:
                if not suite.exclude or (metric.label, use.label) in left:
                    self._add(
                        path,
                        f"'{use.name}' needs gradients and the metric '{metric.label}' is not differentiable. "
                        "Take a black-box attack, or leave the metric out.",
                    )
        shapes = {use.shape for _, use in placed["datasets"]}
        if suite.which != "both" and "triplets" not in shapes:
            self._add(("which",), _WHICH)
        two_afc = {table == "two_afc" for table in suite.tables}
        if (shapes, two_afc) in (({"triplets"}, {False}), ({"pairs"}, {True})):
            kind = "two_afc is for triplets" if shapes == {"pairs"} else "triplets have only two_afc"
            self._add(("tables",), f"none of these tables can be made of these data sets: {kind}.", on_key=True)
        if suite.verdict_samples and "verdicts" not in suite.tables:
            cure = "Add 'verdicts' to the tables, or remove the key."
            self._add(("verdicts",), f"its cells are for a table that is not asked for. {cure}", on_key=True)
        for path, use in placed["datasets"]:
            for direction in ("mos_split", "error"):
                if use.labels == "none" and use.shape == "pairs" and direction in suite.directions and attacks:
                    message = f"'{use.name}' has no opinions, so the direction '{direction}' cannot be had."
                    self._add(path, f"{message} Use 'self_split'.")

    def _exclusions(self, suite: Suite) -> None:
        """A pattern that leaves nothing out is a mistake, and so are patterns that leave nothing."""
        if not suite.exclude or self._problems:
            return
        cells = conditions_of(suite)
        for i, exclusion in enumerate(suite.exclude):
            unknown = list(exclusion.unknown(cells))
            for key, known in unknown:
                pattern = shown_pattern(exclusion.written()[key])
                self._add(("exclude", i, key), f"no {key} '{pattern}' in this suite.{did_you_mean(pattern, known)}")
            if not unknown and not any(exclusion.removes(cell) for cell in cells):
                self._add(("exclude", i), "no cell matches all of this together. Remove it, or change one of its keys.")
        if all(suite.excludes(cell) for cell in cells):
            self._add(("exclude",), "nothing is left of the suite. Exclude less.", on_key=True)


_BASE = DefenseUse("base", (), "none", 1, 1)


def check_parameter(annotation: Any, value: Any) -> Any:
    """The value in its annotated type, strictly: no text for a number; a list serves for a tuple."""
    return _checked(pydantic.TypeAdapter(annotation), value)


def _checked(adapter: pydantic.TypeAdapter[Any], value: Any) -> Any:
    return adapter.validate_json(json.dumps(value), strict=True)


def resolve_metric(name: str, sets: Sequence[str], registry: Registry) -> MetricUse:
    """A metric outside of any suite, with the parameters and weights that the command line gives it.

    Args:
        name: A registered name.
        sets: ``KEY=VALUE``, the value as a suite writes it; the key ``weights`` names weights.
        registry: Where the name is looked up.

    Raises:
        UserError: Everything wrong with it, a line each.
    """
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
    resolver = _Resolver(registry, {}, problems, set())
    with torch.random.fork_rng(devices=[]):
        use = resolver.resolve_metric(entry)
    if problems or use is None:
        lines = []
        for problem in problems:
            place = ".".join(str(part) for part in problem.path if part != "name")
            message = f"{place}: {problem.message}" if place else problem.message
            named = problem.message.startswith(f"metric '{name}'")
            lines.append(problem.message if named else f"metric '{name}': {message}")
        raise UserError("\n".join(dict.fromkeys(lines)))
    return use
