"""What two runs, or two metrics of one, differ by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import verb
from harness.cli.common import AsJson, PluginFiles, console, print_json, registry_of, runs_here
from harness.errors import UserError
from harness.files import run_named
from harness.wording import tell

if TYPE_CHECKING:
    from harness.plugins.registry import Registry
    from harness.report.compare import Comparison
    from harness.report.data import RunData

_FORMS = (
    "'robustiqa compare RUN_A RUN_B' compares two runs, 'robustiqa compare RUN METRIC_A METRIC_B' two metrics of one"
)
_REASONS_SHOWN = 12
_APART = "*"
_ALL_ATTACKS = "all attacks"


@verb("Look", 5)
def _compare(
    run: Annotated[Path, typer.Argument(callback=runs_here, help="A run folder; of two runs A.", metavar="RUN")],
    second: Annotated[
        str | None,
        typer.Argument(help="Another run folder, B; or a metric of the run, A.", metavar="RUN_B|METRIC_A"),
    ] = None,
    third: Annotated[str | None, typer.Argument(help="Another metric of the run, B.", metavar="METRIC_B")] = None,
    metrics: Annotated[
        tuple[str, str] | None,
        typer.Option("--metrics", help="The same as two metrics after the run.", metavar="METRIC_A METRIC_B"),
    ] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs where both measured the same, or two metrics of one run; with paired intervals.

    Metrics are named by their labels, LABEL@DEFENSE under a defense. Exit code 0; 2 where nothing can be compared.

    Example: robustiqa compare results/runs/before results/runs/after
    Example: robustiqa compare results/runs/quickstart ssim birqa-tiny
    """
    registry = registry_of(plugin)
    two = (second, third) if second and third else None
    if bool(metrics) == bool(second):
        raise UserError(
            f"compare {run}: {_FORMS}. Name {'the metrics once' if metrics else 'what to compare it with'}."
        )
    if pair := metrics or two:
        _metrics_of(run, pair, registry, as_json)
    else:
        _two_runs(run, run_named(Path(str(second))), registry, as_json)


def _metrics_of(run: Path, pair: tuple[str, str], registry: Registry, as_json: bool) -> None:
    from harness.report.compare_metrics import compare_metrics
    from harness.report.reading import open_folder

    data = open_folder(run, registry).data
    try:
        found = compare_metrics(data, *pair)
    except UserError as error:
        raise UserError(f"{run}: {error} ({_FORMS}.)") from None
    _tell_what_lacks((run, data))
    if as_json:
        _print_json(found, "metrics")
    elif found.rows.empty:
        raise UserError(f"{run}: {pair[0]} and {pair[1]} have no figure in common.{_reasons(found)}")
    else:
        _print_metrics(found, data)


def _two_runs(run_a: Path, run_b: Path, registry: Registry, as_json: bool) -> None:
    from harness.report.compare import compare_runs
    from harness.report.reading import open_folder

    one = open_folder(run_a, registry).data
    try:
        other = open_folder(run_b, registry).data
    except UserError as error:
        from harness.report.compare_metrics import names_of_metrics

        own = names_of_metrics(one)
        hint = f" The metrics of {run_a} are {', '.join(own)}; name two." if str(run_b) in own else ""
        raise UserError(f"{error} ({_FORMS}.){hint}") from None
    _tell_what_lacks((run_a, one), (run_b, other))
    found = compare_runs(one, other, (str(run_a), str(run_b)))
    if as_json:
        _print_json(found, "runs")
    elif found.rows.empty:
        raise UserError(
            f"{run_a} and {run_b}: no condition was measured on the same images in both. Compare other runs."
            f"{_reasons(found)}"
        )
    else:
        _print_runs(found, one, other)


def _tell_what_lacks(*runs: tuple[Path, RunData]) -> None:
    from harness.engine.soundness import DAMAGED
    from harness.report.data import UNFINISHED

    for run, data in runs:
        for notice in data.notices:
            if notice.startswith((DAMAGED, UNFINISHED)):
                tell(f"note: {run}: {notice}")


def _print_json(found: Comparison, form: str) -> None:
    """The comparison as JSON, which says what was left out even where nothing can be compared.

    Raises:
        typer.Exit: Nothing can be compared.
    """
    frames = {"rows": found.rows, "parameters": found.parameters, "left_out": found.left_out}
    texts = {name: frame.to_json(orient="records", double_precision=15) for name, frame in frames.items()}
    parts = {name: json.loads(text) for name, text in texts.items()}
    print_json({"form": form, "a": found.a, "b": found.b, "in_short": list(found.sentences), **parts})
    if found.rows.empty:
        raise typer.Exit(2)


def _reasons(found: Comparison) -> str:
    """What was left out, for the end of a message."""
    told = [_left_out(row) for row in found.left_out.to_dict("records")]
    more = f"; and {len(told) - _REASONS_SHOWN} more" if len(told) > _REASONS_SHOWN else ""
    return f" Left out: {'; '.join(told[:_REASONS_SHOWN])}{more}." if told else ""


def _left_out(row: Mapping[Any, Any]) -> str:
    from harness.wording import counted

    count = f" ({counted(row['conditions'], 'condition')})" if row["conditions"] > 1 else ""
    return f"{row['what']} of {row['side']}: {row['reason']}{count}"


def _print_runs(found: Comparison, one: RunData, other: RunData) -> None:
    from harness.statistics.intervals import DESCRIPTIVE_BELOW
    from harness.wording import BROKEN

    screen, frame = console(), found.rows
    for sentence in found.sentences:
        screen.print(sentence)
    for dataset in dict.fromkeys(frame["dataset"]):
        screen.print()
        own = frame[frame["dataset"] == dataset].to_dict("records")
        _print_conditions(screen, f"{dataset}: A = {found.a}, B = {found.b}", own)
    _print_parameters(screen, found)
    _print_left_out(screen, found)
    for rules in dict.fromkeys(rules for rules in frame["broken"] if rules):
        screen.print(f"{BROKEN} broke its contract when probed: {rules}.")
    screen.print(
        "Changes are B minus A, with studentised intervals that leave out whole references (or what the data set calls "
        "independent), paired over the images that both runs have. p is adjusted (Holm) over the rows in which the "
        "runs differ: below 0.05 a change is more than chance. Could be shown: the smallest true change of SROCC that "
        "would be found at an unadjusted 5 % with a chance of 80 %. Paper's rule: the percentiles of the resampled "
        "change leave out 0 and its median is at least .01."
    )
    if (frame["clusters"] < DESCRIPTIVE_BELOW).any():
        few = f"Fewer than {DESCRIPTIVE_BELOW} independent references in some rows"
        screen.print(f"{few}: their intervals are descriptive and claim no coverage.")
    for name, a, b in (("seed", one.seed, other.seed), ("limit", one.limit, other.limit)):
        if a != b:
            screen.print(f"The runs differ in {name}: A {a or 'none'}, B {b or 'none'}.")


def _print_conditions(screen: Any, title: str, rows: Sequence[Mapping[Any, Any]]) -> None:
    """A line for each condition of a data set that two runs have."""
    from harness.wording import budget_text, marked, number, p_text, scorer_text, with_interval

    def changed(row: Mapping[Any, Any], name: str) -> str:
        text = with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 3, True)
        return f"{text}\n{row[f'{name}_verdict']}, p {p_text(row[f'{name}_p_adjusted'])}"

    def both(row: Mapping[Any, Any], name: str, own: str) -> str:
        return own if row[f"{name}_b"] in ("", row[name]) else f"{own} | {row[f'{name}_b']}"

    labels = ("metric", "attack", "ε")
    figures = (
        "n",
        "SROCC\nA",
        "SROCC\nB",
        "SROCC\nchange [95 %]",
        "could be\nshown",
        "paper's\nrule",
        "quality\nchange [95 %]",
    )
    lines = []
    for row in rows:
        metric = marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"])
        cells = (
            both(row, "metric", metric),
            f"{both(row, 'attack', row['attack'])} {row['endpoint']}".strip(),
            budget_text(row["norm"], row["eps"]) if row["norm"] else "",
            str(row["images"]),
            number(row["srocc_a"]),
            number(row["srocc_b"]),
            changed(row, "srocc_change"),
            number(row["srocc_change_smallest_shown"], 3),
            _rule(row["srocc_change"], row["srocc_change_papers_rule"]),
            changed(row, "quality_change"),
        )
        lines.append(cells)
    _print_table(screen, title, (*labels, *figures), len(labels), lines)


def _print_table(screen: Any, title: str, head: Sequence[str], labels: int, rows: Sequence[Sequence[str]]) -> None:
    """A table that goes on below itself where it is too wide; the first columns are labels, which never vanish."""
    from harness.report.screen import Columns, Paragraph, Screen, Stretch, print_screen

    before = [None, *(row[0] for row in rows)]
    starts = [row[0] != other for row, other in zip(rows, before, strict=False)]
    print_screen(Screen([Paragraph(title, "bold"), Columns(head, labels, [Stretch("", rows, starts)])]), screen)


def _rule(change: float, kept: bool) -> str:
    from harness.wording import UNDEFINED

    return UNDEFINED if math.isnan(change) else "yes" if kept else "no"


def _print_parameters(screen: Any, found: Comparison) -> None:
    """What was paired although it is not the same."""
    told: dict[str, list[str]] = {}
    for row in found.parameters.to_dict("records"):
        labels = row["label_a"] if row["label_a"] == row["label_b"] else f"{row['label_a']} | {row['label_b']}"
        own = told.setdefault(f"{'data set' if row['what'] == 'dataset' else row['what']} {labels}", [])
        own.append(f"{row['parameter']} {row['value_a']} | {row['value_b']}")
    if told:
        screen.print("Paired, and not the same (A | B):")
        for who, parts in told.items():
            screen.print(f"  {who}: {', '.join(parts)}")


def _print_left_out(screen: Any, found: Comparison) -> None:
    if len(found.left_out):
        screen.print("Left out:")
        for row in found.left_out.to_dict("records"):
            screen.print(f"  {_left_out(row)}")


def _print_metrics(found: Comparison, data: RunData) -> None:
    from harness.report.arrays import FURTHEST, LOWEST_SROCC
    from harness.report.compare_metrics import SHIFT, SROCC, told_of_first
    from harness.report.measure import ALL_TYPES, LEAST_IMAGES, LEAST_REFERENCES
    from harness.wording import counted

    screen = console()
    for sentence in found.sentences:
        screen.print(sentence)
    rows = found.rows.to_dict("records")
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        first = next(row for row in own if row["type"] == ALL_TYPES)
        about = f"{dataset}: A = {found.a}, B = {found.b}; {counted(first['images'], 'image')}, "
        about += f"{first['clusters']} independent, {_labels(first['labels'])}"
        # One line stands for all attacks: the furthest that images moved, and the lowest SROCC that any of them left.
        over = [row for row in own if row["type"] == ALL_TYPES and (row["figure"], row["attack"]) != (SROCC, FURTHEST)]
        screen.print()
        _print_pairs(screen, about, ("attack", "direction", "ε"), over, _place)
        told = {
            (row["norm"], row["eps"], row["direction"])
            for row in told_of_first(own, SHIFT, FURTHEST) + told_of_first(own, SROCC, LOWEST_SROCC)
        }
        attacks = [row["attack"] for row in over if row["figure"] == SHIFT]
        shown = FURTHEST if FURTHEST in attacks else next(iter(attacks), "")
        typed = [
            row
            for row in own
            if row["type"] != ALL_TYPES
            and row["attack"] == shown
            and (row["norm"], row["eps"], row["direction"]) in told
        ]
        if typed:
            _print_pairs(
                screen, f"by type, under {shown} at the usual budget", ("type", "n", "direction", "ε"), typed, _of_type
            )
        elif all(row["type"] == ALL_TYPES for row in own):
            few = f"{LEAST_IMAGES} images of {LEAST_REFERENCES} references"
            screen.print(f"By type of distortion: nothing, as it takes two types, and {few} in one.")
    _print_left_out(screen, found)
    screen.print(
        "Shift: how far quality moved along the attack, in standard deviations (σ) of each metric's own clean scores; "
        f"less is harder to move ↓. SROCC: what is left of it; more is better ↑. {_ALL_ATTACKS}: the furthest that an "
        "attack or a control inside the ball moved each image, and the lowest SROCC of all. A − B with 95 % intervals, "
        f"paired over what is independent. {_APART} told apart: p below 0.05, adjusted (Holm) over the rows of a table "
        "that say the same figure, those of all attacks at the usual budget for themselves. --json has every figure, "
        "and types under every attack at that budget."
    )


def _labels(labels: str) -> str:
    return {"proxy": "proxy labels (not of people)", "human": "human labels"}.get(labels, "no labels")


def _place(row: Mapping[Any, Any]) -> tuple[str, ...]:
    from harness.report.arrays import OVER_ALL
    from harness.wording import MISSING, attack_text, budget_text

    budget = budget_text(row["norm"], row["eps"]) if row["norm"] else MISSING
    attack = _ALL_ATTACKS if row["attack"] in OVER_ALL else row["attack"]
    return attack_text(attack, row["norm"]), row["direction"] or MISSING, budget


def _of_type(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return row["type_name"], str(row["images"]), *_place(row)[1:]


def _print_pairs(screen: Any, title: str, labels: Sequence[str], rows: Sequence[Mapping[Any, Any]], place: Any) -> None:
    """A line for each condition, with both figures of it."""
    from harness.report.compare_metrics import SHIFT, SROCC
    from harness.statistics.ranking import APART
    from harness.wording import MISSING, number, with_interval

    figures = [name for name in (SHIFT, SROCC) if any(row["figure"] == name for row in rows)]
    lines: dict[tuple[str, ...], dict[str, Mapping[Any, Any]]] = {}
    for row in rows:
        lines.setdefault(place(row), {})[row["figure"]] = row
    heads = {
        SHIFT: ("shift ↓\nA", "shift\nB", "shift/σ\nA − B [95 %]"),
        SROCC: ("SROCC ↑\nA", "SROCC\nB", "SROCC\nA − B [95 %]"),
    }
    columns = [head for name in figures for head in heads[name]]
    told = []
    for labelled, own in lines.items():
        cells: list[str] = []
        for name in figures:
            if (found := own.get(name)) is None:
                cells += [MISSING] * 3
                continue
            ends = (found["difference_low"], found["difference_high"])
            mark = f" {_APART}" if found["verdict"] == APART else ""
            cells += [number(found["value_a"]), number(found["value_b"])]
            cells.append(with_interval(found["difference"], *ends, 2, True) + mark)
        told.append((*labelled, *cells))
    _print_table(screen, title, (*labels, *columns), len(labels), told)
