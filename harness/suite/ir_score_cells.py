"""When a suite can have an IR-Score, and the clean cells on the train split that its maps are fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from harness.suite.model import NO_MAP, OPINIONS, DatasetUse, Suite
from harness.suite.plan import Cell, ScorerSpec

TABLE = "ir_score"


def why_no_ir_score(suite: Suite) -> str:
    """Why a suite has no IR-Score on any of its data sets, with the cure; empty where it has one."""
    asked = suite.ir_score
    if suite.tables and TABLE not in suite.tables:
        return f"the table '{TABLE}' is not asked for. Add it to the tables, or remove the key."
    if not any(not attack.control for attack in suite.attacks):
        return "the IR-Score is of attacks, and the suite has none. Add one, such as pgd."
    if asked.direction not in _directions_had(suite):
        return f"the suite has no direction '{asked.direction}'. Add it to 'directions'."
    pairs = [use for use in suite.datasets if use.shape == "pairs"]
    if not pairs:
        return "the IR-Score is of pairs with reference, and all data sets give triplets. Remove the key."
    if asked.needs_opinions and all(use.labels == "none" for use in pairs):
        return "no data set has opinions. Give 'reference' the label of a metric, or take 'mapping: none'."
    norms = Counter(norm for norm, _ in suite.budgets)
    if asked.rule != "mean" and max(norms.values(), default=0) < 2:
        return "it integrates over budgets, and there is one. Add others, such as linf: [2/255, 4/255, 8/255, 10/255]."
    return ""


def scorers_to_map(suite: Suite, use: DatasetUse, cells: Iterable[Cell]) -> Iterator[ScorerSpec]:
    """The scorers whose clean qualities on the train split are needed for maps, each once.

    Args:
        suite: The suite.
        use: The data set.
        cells: Its cells.
    """
    asked = suite.ir_score
    fitted = asked.mapping != NO_MAP or asked.scaler == "train"
    if not fitted or use.shape != "pairs" or not use.learns_apart or why_no_ir_score(suite):
        return
    if asked.needs_opinions and use.labels == "none":
        return
    attacked: Counter[tuple[str, ...]] = Counter()
    scorers: dict[str, ScorerSpec] = {}
    for cell in cells:
        if cell.attack is not None and not cell.attack.control and cell.threat != "transfer":
            scorers[cell.scorer.key] = cell.scorer
            attacked[cell.scorer.key, cell.threat, cell.attack.label, cell.endpoint, cell.norm] += 1
    least = 1 if asked.rule == "mean" else 2
    wanted = dict.fromkeys(key for (key, *_), count in attacked.items() if count >= least)
    if wanted and asked.reference != OPINIONS:
        domain = ScorerSpec(next(metric for metric in suite.metrics if metric.label == asked.reference))
        scorers[domain.key] = domain
        wanted[domain.key] = None
    yield from (scorers[key] for key in wanted)


def _directions_had(suite: Suite) -> set[str]:
    split = {"mos_split", "self_split", "random_sign"} & set(suite.directions)
    return {*suite.directions, *(("up", "down") if split else ())}
