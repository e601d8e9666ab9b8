"""The sentences of a paper that are statements about numbers, computed again from the numbers.

A file of claims has a row for each: where it stands, its words, a formula over cells, a condition that must be true for
the sentence to hold, and the verdict that its author came to, which is compared with what comes out.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from harness.datasets.table_file import TableRow, read_table
from harness.errors import UserError
from harness.report.formula import (
    CellFormula,
    FormulaError,
    NoCellsError,
    Selection,
    Value,
    read_formula,
    rounded_half_up,
)
from harness.report.layouts.published import metric_names, published_tables, unlike_the_papers
from harness.report.printed import FACTS, FIGURES, PRINTED_TABLES, cells_for
from harness.suite.strict_yaml import LocatedError
from harness.wording import MISSING, did_you_mean, number

Holds = Literal["holds", "holds with rounding", "does not hold", "cannot be told"]
VERDICTS: tuple[Holds, ...] = get_args(Holds)

_COLUMNS = ("id", "place", "quote", "formula", "condition", "digits", "verdict", "why")
_LPIPS = {"lpips-alex": "LPIPS"}
"""Tables 3 and 7 name no network of LPIPS: AlexNet's, its authors' default, unless told."""
_NEARLY = 0.7
"""How alike (`difflib`) two values are of which one is the other misspelt."""
_DIRECTION, _DIRECTIONS = "mos_split", {"ir_score": "up"}
"""The direction of statistics of attacked images, as the layouts of the paper's tables have it."""


@dataclass(frozen=True)
class Claim:
    """One sentence that is a statement about numbers."""

    id: str
    place: str
    """Where it stands in the paper."""
    quote: str
    formula: CellFormula | None
    """None where the sentence is about what is printed nowhere."""
    condition: CellFormula | None
    """Whether the sentence holds, over the names of the formula."""
    digits: int | None
    """Decimals that the sentence gives its numbers with; None where rounding cannot save it."""
    verdict: Holds
    """What the author of the file found on the printed numbers."""
    why: str
    """What there is to know of it."""
    where: str
    """File and line."""


@dataclass(frozen=True)
class ClaimVerdict:
    """What a claim comes to on some cells."""

    value: Mapping[str, float]
    """Every single number of its formula, by name."""
    holds: Holds
    why: str
    """Of one that cannot be told, what is missing; else empty."""
    cells: int = 0
    """Cells that the formula was computed from."""

    @property
    def found(self) -> str:
        """Its numbers for people: "low = 0.008, high = 0.071"."""
        return ", ".join(f"{name} = {_short(value)}" for name, value in self.value.items()) or MISSING


def read_claims(path: Path) -> list[Claim]:
    """Read a file of claims.

    Args:
        path: A table with the columns id, place, quote, formula, condition, digits, verdict and why.

    Raises:
        DataError: It is no such table.
        LocatedError: Claims that cannot be used, each with file, line and id.
    """
    table = read_table(path, _COLUMNS)
    if lacking := [name for name in _COLUMNS if name not in table.columns]:
        raise LocatedError([f"{path}: the column {lacking[0]} is missing. A file of claims has {', '.join(_COLUMNS)}."])
    claims: list[Claim] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    for row in table.rows:
        if row.text("id") in lines:
            problems.append(_at(row, f"stands in line {lines[row.text('id')]}, too. Give it another id."))
        lines.setdefault(row.text("id"), row.line)
        try:
            claims.append(_claim(row))
        except FormulaError as error:
            problems.append(_at(row, str(error)))
    if problems:
        raise LocatedError(problems)
    return claims


def _at(row: TableRow, message: str) -> str:
    return f"{row.where}: claim '{row.text('id')}': {message}"


def _claim(row: TableRow) -> Claim:
    """A row as a claim.

    Raises:
        FormulaError: A cell of it cannot be used.
    """
    for name in ("id", "place", "quote", "why"):
        if not row.text(name):
            raise FormulaError(f"'{name}' is empty. Write it.")
    verdict, digits = row.text("verdict"), row.text("digits")
    finding = next((one for one in VERDICTS if one == verdict), None)
    if finding is None:
        raise FormulaError(f"the verdict is '{verdict}'. Write one of: {', '.join(VERDICTS)}.")
    if digits and not (digits.isascii() and digits.isdigit() and int(digits) <= 6):
        raise FormulaError(f"digits are '{digits}'. Give the number of decimals, 0 to 6, or nothing.")
    formula = read_formula(row.text("formula")) if row.text("formula") else None
    if (formula is None) != (not row.text("condition")):
        raise FormulaError("formula and condition go together. Write both, or neither.")
    for selection in formula.selections if formula else ():
        _check_selection(selection)
    condition = read_formula(row.text("condition"), [name for name, _ in formula.steps]) if formula else None
    if condition and condition.selections:
        raise FormulaError("the condition asks for cells. Give them a name in the formula, and use the name.")
    return Claim(
        *(row.text("id"), row.text("place"), row.text("quote"), formula, condition),
        *(int(digits) if digits else None, finding, row.text("why"), row.where),
    )


def _check_selection(selection: Selection) -> None:
    table = PRINTED_TABLES.get(selection.table)
    if table is None:
        raise FormulaError(f"nothing is called '{selection.table}'.{did_you_mean(selection.table, [*PRINTED_TABLES])}")
    for dimension in (*selection.chosen, *selection.left_out):
        if dimension not in table.dimensions:
            known = did_you_mean(dimension, table.dimensions)
            raise FormulaError(f"{selection}: {selection.table} has no dimension '{dimension}'.{known}")


def evaluate(claim: Claim, cells: pd.DataFrame) -> ClaimVerdict:
    """What a claim comes to on some cells.

    Args:
        claim: It.
        cells: The paper's (`printed_cells`) or those of runs (`frame_of`), whose metrics must be called as the paper
            calls them (`as_the_paper_calls_them`). Cells that are not "ok" count as missing.

    Raises:
        LocatedError: The formula cannot be computed on these cells, as where two of them answer to one description.
    """
    if claim.formula is None or claim.condition is None:
        return ClaimVerdict({}, "cannot be told", "no number of it is printed")
    used: set[object] = set()
    try:
        names = claim.formula.compute(_lookup_in(cells, used))
        numbers = {name: float(value) for name, value in names.items() if not isinstance(value, pd.Series | bool)}
        holds = _holds(claim, claim.condition, names, numbers)
    except NoCellsError as error:
        return ClaimVerdict({}, "cannot be told", str(error))
    except FormulaError as error:
        raise LocatedError([f"{claim.where}: claim '{claim.id}': {error}"]) from None
    return ClaimVerdict(numbers, holds, "", len(used))


def _holds(claim: Claim, condition: CellFormula, names: Mapping[str, Value], numbers: Mapping[str, float]) -> Holds:
    if _true(condition, names):
        return "holds"
    if claim.digits is not None:
        digits = claim.digits
        if _true(condition, {**names, **{name: rounded_half_up(value, digits) for name, value in numbers.items()}}):
            return "holds with rounding"
    return "does not hold"


def _true(condition: CellFormula, names: Mapping[str, Value]) -> bool:
    *_, (_, value) = condition.compute(_no_cells, names).items()
    if not isinstance(value, bool):
        raise FormulaError("the condition is no single truth. Compare numbers, or use all(...) or any(...).")
    return value


def _no_cells(selection: Selection, figure: str) -> Value:
    raise FormulaError(f"{selection}: a condition asks for no cells. Name them in the formula.")


def _lookup_in(cells: pd.DataFrame, used: set[object]) -> Callable[[Selection, str], Value]:
    """Finds what selections stand for, and notes which cells were used."""

    def lookup(selection: Selection, figure: str) -> Value:
        table = PRINTED_TABLES[selection.table]
        wanted = stands = cells_for(selection.table, cells)
        if stands.any():
            wanted = stands & cells[figure].notna() & (cells["state"] == "ok")
            for dimension, values in selection.chosen.items():
                wanted &= cells[dimension].isin(values)
            for dimension, values in selection.left_out.items():
                wanted &= ~cells[dimension].isin(values)
        found = cells[wanted]
        if found.empty:
            raise NoCellsError(_none_of(selection, cells[stands]))
        free = [dimension for dimension in table.dimensions if dimension not in selection.fixed]
        _refuse_twins(selection, found, table.dimensions)
        used.update(found.index)
        row = found[figure] if free else float(found[figure].iloc[0])
        if isinstance(row, float):
            return row
        index = pd.MultiIndex.from_frame(found[free]) if len(free) > 1 else pd.Index(found[free[0]])
        return pd.Series(row.to_numpy(float), index=index)

    return lookup


def _none_of(selection: Selection, known: pd.DataFrame) -> str:
    """Why there is no cell: nothing of the table, or a value that nothing of it has."""
    if known.empty:
        return f"no cell of {selection.table}"
    for dimension, values in selection.chosen.items():
        there = sorted(set(known[dimension]) - {""})
        if absent := [value for value in values if value not in there]:
            return f"{selection.table} has no {dimension} '{absent[0]}'"
    return f"no cell is {selection}"


def _refuse_twins(selection: Selection, found: pd.DataFrame, dimensions: Sequence[str]) -> None:
    twins = found[found.duplicated(list(dimensions), keep=False)] if len(found) > 1 else found.iloc[:0]
    if twins.empty:
        return
    first = twins[(twins[list(dimensions)] == twins[list(dimensions)].iloc[0]).all(axis=1)]
    differ = [column for column in first if column not in FIGURES and first[column].nunique() > 1]
    told = "; ".join(f"{column} {', '.join(map(str, first[column].unique()[:4]))}" for column in differ[:2])
    of = ", ".join(str(first[dimension].iloc[0]) for dimension in dimensions if first[dimension].iloc[0])
    raise FormulaError(
        f"{selection}: {len(first)} cells are {of}; they differ in {told or 'nothing that is written'}. Give runs "
        "that have one of them."
    )


def usual_names(printed: Path) -> dict[str, str]:
    """Label of a metric here -> the paper's name of it.

    Args:
        printed: `suites/paper/published`, whose `names.csv` says which metric computes the same as a printed one.

    Raises:
        UserError: The file cannot be read.
    """
    found: dict[str, str] = {}
    for published, name in metric_names(printed).items():
        if name.here:
            found.setdefault(name.here, published)
    return {**found, **_LPIPS}


def in_direction(cells: pd.DataFrame, direction: str = "") -> pd.DataFrame:
    """Cells of one direction of attack, beside those that have none and those of triplets.

    Args:
        cells: Of runs.
        direction: Such as "up". The paper does not say which is its own; by default correlations are taken where the
            attack disturbs the order (mos_split), and the IR-Score where quality is raised.
    """
    wanted = cells["statistic"].map(lambda name: direction or _DIRECTIONS.get(name, _DIRECTION))
    return cells[cells["direction"].isin(["", "pair"]) | (cells["direction"] == wanted)]


def not_the_papers(cells: pd.DataFrame, called: Mapping[str, str]) -> str:
    """Why verdicts on cells of runs cannot stand beside those on printed numbers; empty if they can.

    Args:
        cells: Of runs, not yet `as_the_paper_calls_them`.
        called: What they will be as_the_paper_calls_them by.
    """
    named, about = as_the_paper_calls_them(cells, called), published_tables()
    reasons: dict[str, None] = {}
    stand_ins: set[str] = set()
    for table in PRINTED_TABLES:
        used = cells[cells_for(table, named)]
        stand_ins |= set(used["dataset"]) & set(called)
        split = str(about.get(table, {}).get("split", ""))
        private = about.get(table, {}).get("not_here", {})
        for dataset in dict.fromkeys(named.loc[used.index, "dataset"]):
            if dataset in private:
                reasons[f"on {dataset}, of which {private[dataset]}"] = None
        facts = used[[*FACTS]].drop_duplicates().itertuples(index=False)
        for labels, limit, evaluated in facts:
            if reason := unlike_the_papers(labels, limit, evaluated, split):
                reasons[reason] = None
    whose = [f"with {' and '.join(f'{label} for {called[label]}' for label in sorted(stand_ins))}"] if stand_ins else []
    return _capital(", ".join([*whose, *reasons]))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def as_the_paper_calls_them(cells: pd.DataFrame, called: Mapping[str, str]) -> pd.DataFrame:
    """Cells with labels of suites replaced by what claims call them.

    Args:
        cells: Of runs.
        called: Label in a suite -> name in claims, of metrics, data sets, attacks, trainings or defenses.
    """
    return cells.replace({column: dict(called) for column in cells if column not in (*FIGURES, *FACTS, "state")})


def check_called(called: Mapping[str, str], ours: pd.DataFrame, printed: pd.DataFrame) -> None:
    """Refuse names of ``LABEL=NAME`` that nobody knows.

    Args:
        called: Label in a suite -> name in claims, as a user gives them.
        ours: Cells of runs, not yet `as_the_paper_calls_them`.
        printed: What `printed_cells` returned.

    Raises:
        UserError: No cell of the runs has a label, or no printed one of its dimension a name; all of them are told.
    """
    dimensions = [column for column in printed if column not in (*FIGURES, *FACTS, "state", "table")]
    here, there = (
        {name: set(frame[name]) - {""} if name in frame else set() for name in dimensions} for frame in (ours, printed)
    )
    wrong = []
    for label, name in called.items():
        own = [dimension for dimension in dimensions if label in here[dimension]]
        known = sorted(set().union(*(there[dimension] for dimension in own or dimensions)))
        if not own:
            hint = did_you_mean(label, sorted(set().union(*here.values())))
            wrong.append(f"--as {label}={name}: nothing in these runs is called '{label}'.{hint}")
        if name not in known:
            what = f"no {own[0]}" if own else "nothing"
            wrong.append(
                f"--as {label}={name}: {what} in the paper's tables is called '{name}'.{did_you_mean(name, known)}"
            )
    if wrong:
        raise UserError("\n".join(wrong))


def claims_table(claims: Iterable[Claim], printed: pd.DataFrame, ours: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every claim with what it comes to.

    Args:
        claims: What `read_claims` returned.
        printed: What `printed_cells` returned.
        ours: Cells of runs, `in_direction` and `as_the_paper_calls_them`; None for none.

    Returns:
        One row per claim: `id`, `place`, `quote`, `found` (its numbers from the printed ones), `verdict`, `why`; with
        cells of runs also `found_here`, `verdict_here`, `missing_here`, why it cannot be told, and `cells_here`, of how
        many cells it was computed of how many that the paper prints, such as "8 of 12".

    Raises:
        LocatedError: A formula asks for a misspelt value, or cannot be computed.
    """
    claims = list(claims)
    _refuse_misspelt(claims, printed, ours)
    rows = []
    for claim in claims:
        paper = evaluate(claim, printed)
        row: dict[str, object] = {"id": claim.id, "place": claim.place, "quote": claim.quote}
        row |= {"found": paper.found, "verdict": paper.holds, "why": claim.why}
        if ours is not None:
            here = _here(claim, ours)
            row |= {"found_here": here.found, "verdict_here": here.holds, "missing_here": here.why}
            row["cells_here"] = f"{here.cells} of {paper.cells or here.cells}"
        rows.append(row)
    return pd.DataFrame(rows)


def _refuse_misspelt(claims: Iterable[Claim], printed: pd.DataFrame, ours: pd.DataFrame | None) -> None:
    """Refuse values that no cell has and that are nearly those of another: others may be of runs that are not here.

    Raises:
        LocatedError: Each, with file, line and id.
    """
    problems: list[str] = []
    for claim in claims:
        for selection in claim.formula.selections if claim.formula else ():
            frames = [printed[cells_for(selection.table, printed)], *([ours] if ours is not None else [])]
            for dimension, values in (*selection.chosen.items(), *selection.left_out.items()):
                known = sorted({str(one) for frame in frames for one in frame.get(dimension, ())} - {""})
                for value in values:
                    near = difflib.get_close_matches(value, known, n=1, cutoff=_NEARLY)
                    if value not in known and near:
                        said = f"{selection}: {selection.table} has no {dimension} '{value}'. Did you mean '{near[0]}'?"
                        problems.append(f"{claim.where}: claim '{claim.id}': {said}")
    if problems:
        raise LocatedError(problems)


def _here(claim: Claim, ours: pd.DataFrame) -> ClaimVerdict:
    """On cells of runs: where two cells answer to one description, it cannot be told which is meant."""
    if claim.formula is not None and not claim.formula.selections:
        return ClaimVerdict({}, "cannot be told", "it is about the paper's text alone")
    try:
        return evaluate(claim, ours)
    except LocatedError as error:
        return ClaimVerdict({}, "cannot be told", error.lines[0].partition(f"claim '{claim.id}': ")[2])


def _short(value: float) -> str:
    """A number with as many decimals as it has, three at most."""
    if math.isfinite(value) and abs(value - round(value)) < 1e-9:
        return f"{round(value):,}".replace("-", "−")
    return number(value, 3).rstrip("0")
