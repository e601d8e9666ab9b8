"""`splits: n`: one suite as n plain ones, each with a split of its own and the weights that were trained on it.

A cell of split i is that of a plain suite with `split_seed: i` and those weights, so the two share their records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.plugins.registry import Registry
from harness.suite.keys import as_defense, as_entry
from harness.suite.model import DatasetUse, Suite
from harness.suite.strict_yaml import Problem, YamlPath
from harness.wording import split_name

NUMBER = "{split}"
"""What stands for a split's number, from 0, in the names of its weights."""
_SEED = "split_seed"


def of_split(value: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What a suite with `splits` says of one split, as a suite without.

    Args:
        value: The suite as its file says it.
        index: Number of the split, from 0: what is added to `split_seed`, and stands for ``{split}`` in `weights`.
    """
    plain = {key: one for key, one in value.items() if key != "splits"}
    datasets = [as_entry(one) for one in _listed(value, "datasets")]
    plain["datasets"] = [_seeded(one, index) for one in datasets] or value.get("datasets")
    for key in ("metrics", "defenses"):
        if key in value:
            plain[key] = _own_weights(value[key], index)
    return plain


def _seeded(entry: Any, index: int) -> Any:
    if not isinstance(entry, dict):
        return entry
    first = entry.get(_SEED) or 0
    return {**entry, _SEED: first + index if isinstance(first, int) else first}


def _own_weights(value: Any, index: int) -> Any:
    """Entries with the weights of one split, wherever they name some."""
    if isinstance(value, list):
        return [_own_weights(one, index) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _of_split(one, index) if key == "weights" else _own_weights(one, index) if key == "chain" else one
        for key, one in value.items()
    }


def _of_split(weights: Any, index: int) -> Any:
    if isinstance(weights, dict):
        return {key: _of_split(one, index) for key, one in weights.items()}
    if isinstance(weights, list):
        return weights[index] if index < len(weights) else None
    return weights.replace(NUMBER, str(index)) if isinstance(weights, str) else weights


def wrong_for_splits(value: Mapping[str, Any], count: int | None, registry: Registry) -> Iterator[Problem]:
    """What cannot go with so many splits, or, for None, without any."""
    for path, weights in _weights_in(value):
        if count is None and NUMBER in str(weights):
            cure = "Add the key, or name a file."
            yield Problem(path, f"'{NUMBER}' is the number of a split, and the suite has no 'splits'. {cure}")
        elif isinstance(weights, list) and count is not None and len(weights) != count:
            cure = f"Name one for each, or one with '{NUMBER}' in it."
            yield Problem(path, f"{len(weights)} files, and there are {count} splits. {cure}")
    for i, entry in enumerate(_listed(value, "datasets") if count is not None else []):
        yield from _unsplit(("datasets", i), as_entry(entry), registry)


def _unsplit(path: YamlPath, entry: Any, registry: Registry) -> Iterator[Problem]:
    """What keeps a data set from being split anew."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not registry.knows("datasets", str(name)):
        return
    if _SEED not in [parameter.name for parameter in registry.dataset(str(name)).parameters()]:
        message = f"'{name}' has splits of its own, so 'splits' has nothing to do there. Give it a suite of its own."
        yield Problem(path, message)
    elif entry.get("folds") is not None:
        message = "'folds' and 'splits' both say how the data set is split. Remove one."
        yield Problem((*path, "folds"), message, on_key=True)
    elif entry.get("split") == "all":
        message = "'all' is the same images in every split, those of training among them. Take 'test'."
        yield Problem((*path, "split"), message)


def _weights_in(value: Mapping[str, Any]) -> Iterator[tuple[YamlPath, Any]]:
    """Every text or list under a key `weights`, with its place."""
    for key in ("metrics", "defenses"):
        for i, listed in enumerate(_listed(value, key)):
            entry = as_defense(listed)
            links = entry.get("chain") if isinstance(entry, dict) else None
            inside = () if isinstance(listed, list) else ("chain",)
            places = [((key, i), entry), *(((key, i, *inside, j), link) for j, link in enumerate(links or []))]
            for path, one in places:
                weights = one.get("weights") if isinstance(one, dict) else None
                if isinstance(weights, dict):
                    yield from (((*path, "weights", name), text) for name, text in weights.items())
                elif weights is not None:
                    yield (*path, "weights"), weights


def _listed(value: Mapping[str, Any], key: str) -> Sequence[Any]:
    entries = value.get(key)
    return entries if isinstance(entries, list) else []


def told_once(found: Sequence[Sequence[Problem]]) -> list[Problem]:
    """The problems of each split, one for each place: what is wrong with several splits is told of the first."""
    places: dict[tuple[YamlPath, bool, int], dict[int, Problem]] = {}
    for index, problems in enumerate(found):
        seen: dict[tuple[YamlPath, bool], int] = {}
        for problem in problems:
            place = problem.path, problem.on_key
            seen[place] = seen.get(place, -1) + 1
            places.setdefault((*place, seen[place]), {})[index] = problem
    return [_of_splits(problems, len(found)) for problems in places.values()]


def _of_splits(problems: Mapping[int, Problem], count: int) -> Problem:
    first, *others = problems
    problem = problems[first]
    if len(problems) == count and len({one.message for one in problems.values()}) == 1:
        return problem
    same = f" Likewise split{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}." if others else ""
    return replace(problem, message=f"split {first}: {problem.message}{same}")


def together(parts: Sequence[Suite]) -> Suite:
    """Plain suites, one for each split, as one suite over splits."""
    parts = _called_alike(parts)
    datasets = [use for part in called_by_split(parts) for use in part.datasets]
    return replace(parts[0], datasets=tuple(datasets), parts=tuple(parts))


def _called_alike(parts: Sequence[Suite]) -> Sequence[Suite]:
    """Parts whose data sets have the same labels: labels that are made of parameters leave out the split's seed."""
    labels = [tuple(map(_without_seed, part.datasets)) for part in parts]
    if len(set(labels)) > 1 or len({*labels[0]}) < len(labels[0]):
        return parts
    return [
        replace(part, datasets=tuple(replace(use, label=label) for use, label in zip(part.datasets, own, strict=True)))
        for part, own in zip(parts, labels, strict=True)
    ]


def _without_seed(use: DatasetUse) -> str:
    told = f"{_SEED}={use.parameters.get(_SEED)}"
    return use.label.replace(f"({told})", "").replace(f", {told}", "").replace(f"({told}, ", "(")


def called_by_split(parts: Sequence[Suite]) -> list[Suite]:
    """Plain suites whose data sets are called by split, so that they can stand in one plan."""
    return [
        replace(
            part,
            datasets=tuple(replace(use, label=split_name(use.label, index)) for use in part.datasets),
            exclude=tuple(
                one if one.dataset is None else replace(one, dataset=split_name(one.dataset, index))
                for one in part.exclude
            ),
        )
        for index, part in enumerate(parts)
    ]
