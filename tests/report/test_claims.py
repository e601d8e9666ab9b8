"""The paper's claims: their words are the paper's, their verdicts come out of its printed numbers, bad files are told of."""

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.errors import UserError
from harness.report.claims import (
    VERDICTS,
    as_the_paper_calls_them,
    check_called,
    claims_table,
    evaluate,
    in_direction,
    not_the_papers,
    read_claims,
    usual_names,
)
from harness.report.formula import FormulaError, read_formula, rounded_half_up
from harness.report.layouts.cells import Cell
from harness.report.printed import as_cells, frame_of, printed_cells
from harness.suite.strict_yaml import LocatedError

PAPER = Path(__file__).parents[2] / "suites" / "paper"
HEADER = "id,place,quote,formula,condition,digits,verdict,why\n"


@pytest.fixture(scope="module")
def printed():
    return printed_cells(PAPER / "published")


@pytest.fixture(scope="module")
def claims():
    return {claim.id: claim for claim in read_claims(PAPER / "claims.csv")}


@pytest.fixture
def claim_of(tmp_path):
    """A claim of one formula and condition."""

    def make(formula, condition="it > 0", digits=""):
        path = tmp_path / "claims.csv"
        path.write_text(f'{HEADER}one,here,words,"{formula}","{condition}",{digits},holds,because\n')
        return read_claims(path)[0]

    return make


@pytest.fixture
def text_of_the_paper(test_data):
    path = test_data.parent / "paper" / "birqa.txt"
    if not path.is_file():
        pytest.skip("the paper's text is not beside the test material")
    return " ".join(path.read_text(encoding="utf-8").split())


def rows_of(table):
    with (PAPER / "published" / table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------------- the paper's


def test_every_stated_verdict_comes_out_of_the_printed_numbers(claims, printed):
    table = claims_table(claims.values(), printed)
    assert dict(zip(table["id"], table["verdict"], strict=True)) == {c.id: c.verdict for c in claims.values()}
    assert set(table["verdict"]) == set(VERDICTS) and len(table) > 60


def test_the_sentences_are_the_papers(claims, text_of_the_paper):
    assert [c.id for c in claims.values() if " ".join(c.quote.split()) not in text_of_the_paper] == []


def test_gains_of_table_3_by_hand(claims, printed):
    """Over the better of R- and AT-, as whoever reads the table subtracts; no formula is used."""
    srocc = {
        (row["metric"], row["defense"], row["attack"]): float(row["value"])
        for row in rows_of("table3_kadid10k_robustness.csv")
        if row["statistic"] == "SROCC" and row["attack"] != "none"
    }
    gains = [
        round(value - max(srocc[metric, "R", attack], srocc[metric, "AT", attack]), 3)
        for (metric, defense, attack), value in srocc.items()
        if defense == "AAT"
    ]
    assert (len(gains), min(gains), max(gains)) == (12, 0.008, 0.071)
    assert evaluate(claims["aat-gain-srocc"], printed).value == pytest.approx({"low": 0.008, "high": 0.071})
    ours = [value for (metric, defense, _), value in srocc.items() if (metric, defense) == ("BiRQA", "AAT")]
    assert evaluate(claims["abstract-defended"], printed).value == {"low": min(ours), "high": max(ours)}
    assert (min(ours), max(ours)) == (0.597, 0.832)


def test_three_cells_of_table_8_fail_the_papers_own_rule_by_hand(claims, printed):
    cells = [(float(r["delta_srocc"]), float(r["ci95_halfwidth"])) for r in rows_of("table8_delta_srocc_pipal.csv")]
    failing = sorted(delta for delta, half in cells if delta > 0 and not (delta - half > 0 and delta >= 0.01))
    assert failing == [0.001, 0.002, 0.003]
    found = evaluate(claims["own-rule"], printed).value
    assert found["improvements"] - found["significant"] == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ablation-is-the-model", {"whole": 0.942, "clean": 0.954}),
        ("no-more-than-007", {"by_table_8": 0.007, "by_table_6": 0.013}),
        ("nine-of-twelve", {"ahead": 9, "of": 12}),
        ("all-but-diffpure-on-square", {"ahead": 7, "of": 8, "square": -0.022}),
        ("theorem-example", {"bound": 0.45}),
        ("three-hundred-sets", {"sets": 231 + 70}),
    ],
)
def test_values_read_off_the_papers_tables(name, value, claims, printed):
    assert evaluate(claims[name], printed).value == pytest.approx(value)


def test_tables_5_and_10_are_typed_as_they_are_printed(text_of_the_paper):
    features = rows_of("table5_features.csv")
    assert (
        all(f"{row['feature']} {row['description']}" in text_of_the_paper for row in features) and len(features) == 11
    )
    end = text_of_the_paper[text_of_the_paper.rindex("Table 10.") :]
    typed = {(row["parameter"], row["value"]) for row in rows_of("table10_parameters.csv")}
    as_printed = {
        ("Optimizer", "Adam"): "Optimizer Adam",
        ("Adam (beta_1, beta_2)", "0.9/0.999"): r"Adam (β_1, β_2) 0.9/0.999",
        ("Batch size", "32"): "Batch size 32",
        ("Epochs", "2500"): "Epochs 2500",
        ("Learning rate", "1e-4"): "Learning rate 10^{-4}",
        ("Loss function", "alpha_1 MSE - (1 - alpha_1) PLCC"): r"\alpha_1 \text{MSE} - (1 - \alpha_1) \text{PLCC}",
        ("alpha_1", "0.7"): r"\alpha_1 = 0.7",
        ("Inner attacker", "PGD-10"): "Inner attacker PGD-10",
        ("PGD step size", "2/255"): "PGD step size 2/255",
        ("PGD norm type", "linf"): "PGD norm type l_∞",
        ("Perturbation budget eps, train", "8/255"): "Perturbation budget ϵ train: 8/255",
        ("Perturbation budget eps, test", "2/255, 4/255, 8/255, 10/255"): "test: {2, 4, 8, 10}/255",
        ("Anchor spacing lambda", "0.5"): "Anchor spacing λ 0.5",
        ("AAT loss", "alpha_2 L_anchor + (1 - alpha_2) L_clean"): r"\alpha_2 \mathcal{L}_{anchor} + (1 - \alpha_2)",
        ("alpha_2", "0.5"): r"\alpha_2 = 0.5",
    }
    assert typed == set(as_printed)
    assert [words for words in as_printed.values() if words not in end] == []


# ------------------------------------------------------------------------------------------------------ the language

_NUMBERS = st.integers(0, 40).map(lambda n: f"{n / 4:g}")
_EXPRESSIONS = st.recursive(
    _NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"-{one}"),
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS, _EXPRESSIONS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_arithmetic_is_pythons(left, right, comparison):
    names = read_formula(f"a = {left}; b = a {comparison} {right}").compute(lambda *_: 0.0)
    assert names["a"] == eval(left)
    assert names["b"] is eval(f"{left} {comparison} {right}"), "quarters are exact: no slack is needed"


def frame(rows):
    at = [
        {"table": "table3", "metric": m, "training": t, "statistic": "srocc", "attack": a, "value": v}
        for m, t, a, v in rows
    ]
    return as_cells(at).assign(low=lambda f: f["value"] - 0.1, high=lambda f: f["value"] + 0.2)


SMALL = frame(
    [
        *(("A", "base", "fgsm", 0.1), ("A", "base", "cw", 0.2), ("A", "aat", "fgsm", 0.4), ("A", "aat", "cw", 0.3)),
        *(("B", "base", "fgsm", 0.5), ("B", "aat", "fgsm", 0.45)),
    ]
)
A = "table3[metric=A, statistic=srocc, "
EVERY = "table3[statistic=srocc, "


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        (f"{A}training=base, attack=fgsm]", 0.1),
        (f"{A}training=base, attack=fgsm].low", 0.0),
        (f"{A}training=base, attack=fgsm].high", 0.3),
        (f"min({A}training=base])", 0.1),
        (f"mean({A}training=base])", 0.15),
        (f"max({A}training=aat] - {A}training=base])", 0.3),
        (f"min(max({EVERY}training=base|aat], over=training))", 0.3),
        (f"cells({EVERY}training=!base])", 3),
        (f"cells({EVERY}training=base] - {EVERY}training=aat])", 3),
        (f"count({EVERY}training=base] > {EVERY}training=aat])", 1),
        (f"count(({EVERY}training=base] > .15) & ~({EVERY}attack=cw, training=base|aat] > .25))", 1),
        (f"min({A}training=aat] / {A}training=base])", 1.5),
        ("choose(11, 3)", 165),
        ("abs(1 - 3)", 2),
    ],
)
def test_what_formulas_are(formula, value, claim_of):
    if "count((" in formula:
        formula = formula.replace("training=base] > .15", "training=base|aat, attack=cw] > .15")
    assert evaluate(claim_of(formula, "it == it"), SMALL).value["it"] == pytest.approx(value)


@pytest.mark.parametrize(
    "value, digits, expected",
    [(0.295, 2, 0.30), (0.568, 2, 0.57), (0.832, 2, 0.83), (-0.005, 2, -0.01), (11.071, 0, 11), (1.75, 0, 2)],
)
def test_halves_are_rounded_away_from_zero(value, digits, expected):
    assert rounded_half_up(value, digits) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("condition", "digits", "expected"),
    [
        ("it >= .29 and it < .30", "", "holds"),
        ("it == .30", "2", "holds with rounding"),
        ("it == .30", "", "does not hold"),
        ("not it == .295", "3", "does not hold"),
    ],
)
def test_verdicts(condition, digits, expected, claim_of):
    claim = claim_of("table3[metric=A, training=base, statistic=srocc, attack=fgsm]", condition, digits)
    assert evaluate(claim, frame([("A", "base", "fgsm", 0.295)])).holds == expected


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("__import__(1)", "names begin with a letter"),
        ("open(1)", "nothing is called 'open'."),
        ("table3[]()", "a call of no function"),
        ("(1).real", "only .low and .high of cells"),
        ("min(1).low", "only .low and .high of cells"),
        ("lambda: 1", "Lambda is not in the language"),
        ("min(x for x in 1)", "GeneratorExp is not in the language"),
        ("(1, 2)", "Tuple is not in the language"),
        ("2 ** 99999999", "Pow is not in the language"),
        ("'a'", "'a' is no number"),
        ("True", "'True' is no number"),
        ("1e999", "'inf' is no number"),
        ("1and 2", "is no expression (invalid decimal literal)"),
        ("1 +", "is no expression (invalid syntax)"),
        ("(" * 300 + "1" + ")" * 300, "is no expression"),
        ("1" + " + 1" * 400, "has more than 300 parts"),
        ("1;" * 2500, "4000 are the most"),
        (" ; ", "an empty formula"),
        ("a b = 1", "'a b' is no name"),
        ("a = 1; b = c", "nothing is called 'c'. Known: a"),
        ("min(1, 2)", "min takes 1 argument"),
        ("min(1, by=a)", "'by' is no option"),
        ("abs(table3[], over=metric)", "abs takes nothing together. Leave 'over' out."),
        ("1 # and more", "what follows # would not be read"),
        ("table3[metric]", "'metric' should be DIMENSION=VALUE"),
        ("table3[metric=A, metric=B]", "'metric' stands twice. Write metric=A|B."),
        ("table3[metric=A|]", "should be DIMENSION=VALUE"),
    ],
)
def test_what_is_not_in_the_language_is_refused(formula, said):
    with pytest.raises(FormulaError) as error:
        read_formula(formula)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("1 / (1 - 1)", "a division by 0"),
        (
            "min(table3[metric=A, training=base], over=metric)",
            "no free dimension 'metric' to take together. Known: statistic, attack.",
        ),
        ("min(1, over=metric)", "it is one number already"),
        (
            "max(table3[metric=A] - table3[training=base])",
            "(training, statistic, attack) and (metric, statistic, attack)",
        ),
        ("table3[] and 1", "are for single truths"),
        ("all(table3[])", "all is of truths, such as all(a > b). Compare the numbers."),
        ("any(1)", "any is of truths"),
        ("count(table3[])", "count is of truths"),
        ("count(table3[] & table3[])", "& and | are for truths"),
        ("cells(~table3[])", "~ is for truths"),
        ("choose(3, table3[])", "should be of whole numbers"),
        ("choose(2000, 3)", "should be of whole numbers"),
    ],
)
def test_what_cannot_be_computed_names_file_line_and_claim(formula, said, claim_of, tmp_path):
    with pytest.raises(LocatedError) as error:
        evaluate(claim_of(formula), SMALL)
    assert str(error.value).startswith(f"{tmp_path / 'claims.csv'}, line 2: claim 'one': ") and said in str(error.value)


def test_misspelt_values_are_refused_with_the_closest(claim_of, printed, tmp_path):
    claim = claim_of("table3[metric=LPIPSS, training=base, statistic=srocc, attack=none]")
    with pytest.raises(LocatedError) as error:
        claims_table([claim], printed)
    assert str(error.value).startswith(f"{tmp_path / 'claims.csv'}, line 2: claim 'one': table3[metric=LPIPSS")
    assert str(error.value).endswith("table3 has no metric 'LPIPSS'. Did you mean 'LPIPS'?")
    other = claim_of("table3[metric=my own, training=base, statistic=srocc, attack=none]")
    assert claims_table([other], printed)["verdict"].item() == "cannot be told", "a run may have it"


# ------------------------------------------------------------------------------------------------------------- files


def test_everything_wrong_with_a_file_is_told_at_once(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text(
        HEADER
        + "one,here,words,1,it > 0,,holds,because\n"
        + "one,here,words,1,it > 0,,holds,because\n"
        + "two,here,words,1,it > 0,,true,because\n"
        + "three,here,,1,it > 0,,holds,because\n"
        + "four,here,words,1,,,holds,because\n"
        + "five,here,words,1,it > 0,two,holds,because\n"
        + "six,here,words,tabel3[],it > 0,,holds,because\n"
        + "seven,here,words,table3[metrik=A],it > 0,,holds,because\n"
        + "eight,here,words,1,table1[] > 0,,holds,because\n"
    )
    with pytest.raises(LocatedError) as error:
        read_claims(path)
    assert error.value.lines == [
        f"{path}, line {line}: claim '{name}': {message}"
        for line, name, message in (
            (3, "one", "stands in line 2, too. Give it another id."),
            (4, "two", f"the verdict is 'true'. Write one of: {', '.join(VERDICTS)}."),
            (5, "three", "'quote' is empty. Write it."),
            (6, "four", "formula and condition go together. Write both, or neither."),
            (7, "five", "digits are 'two'. Give the number of decimals, 0 to 6, or nothing."),
            (8, "six", "nothing is called 'tabel3'. Did you mean 'table3'?"),
            (9, "seven", "table3[metrik=A]: table3 has no dimension 'metrik'. Did you mean 'metric'?"),
            (10, "eight", "the condition asks for cells. Give them a name in the formula, and use the name."),
        )
    ]


# -------------------------------------------------------------------------------------------------------------- runs


def own_cells(changes=None, **facts):
    """Cells of Table 3 that a run would have: two metrics of three, all of whose gains are .03."""
    values = {"base": 0.5, "r": 0.6, "at": 0.7, "aat": 0.73}
    cells = []
    for metric in ("birqa", "topiq"):
        for training, value in values.items():
            for attack in ("none", "fgsm", "cw"):
                at = {"dataset": "kadid10k", "metric": metric, "training": training, "defense": "none"}
                at |= {"threat": "none", "statistic": "srocc", "attack": attack, "subset": "all"}
                if attack != "none":
                    at |= {"direction": "up", "norm": "linf", "budget": "8/255"}
                told = {"labels": "human", "limit": "none", **facts}
                cells.append(Cell({**at, **(changes or {})}, value, facts=told))
    return cells


NAMES = usual_names(PAPER / "published")


def test_what_stands_for_the_papers_metrics():
    expected = {"birqa": "BiRQA", "topiq": "TOPIQ", "lpips-alex": "LPIPS", "lpips-vgg": "LPIPS-VGG", "psnr": "PSNR"}
    assert {label: NAMES[label] for label in expected} == expected
    assert NAMES["birqa(csram=False, scgb=False, rah=False)"] == "BiRQA (no, no, no)"


def test_the_direction_is_chosen_and_never_mixed():
    cells = frame_of([*own_cells(), *own_cells({"direction": "mos_split"}), *own_cells({"direction": "pair"})])
    assert set(in_direction(cells)["direction"]) == {"", "mos_split", "pair"}
    assert set(in_direction(cells, "up")["direction"]) == {"", "up", "pair"}
    ir = frame_of(own_cells({"statistic": "ir_score"}))
    assert set(in_direction(ir)["direction"]) == {"up", ""}


def test_a_run_is_put_into_the_same_formulas(claims, printed):
    ours = as_the_paper_calls_them(frame_of(own_cells()), NAMES)
    some = [claims[name] for name in ("aat-gain-srocc", "nine-of-twelve", "aat-gain-ir-score")]
    table = claims_table(some, printed, ours).set_index("id")
    gain = table.loc["aat-gain-srocc"]
    assert (gain["verdict"], gain["verdict_here"]) == ("does not hold", "holds")
    assert gain["found_here"] == "low = 0.03, high = 0.03" and gain["cells_here"] == "12 of 36"
    assert table.loc["nine-of-twelve", "verdict_here"] == "cannot be told"
    assert table.loc["aat-gain-ir-score", "missing_here"] == "table3 has no statistic 'ir_score'"
    assert not_the_papers(frame_of(own_cells()), NAMES) == ""


def test_cells_of_another_kind_have_no_part(claims):
    for changes in ({"dataset": "mini"}, {"threat": "transfer"}, {"subset": "blur"}, {"defense": "jpeg"}):
        ours = as_the_paper_calls_them(frame_of(own_cells(changes)), NAMES)
        assert evaluate(claims["aat-gain-srocc"], ours).why == "no cell of table3"
    failed = [Cell(cell.at, math.nan, state="failed") for cell in own_cells()]
    assert (
        evaluate(claims["aat-gain-srocc"], as_the_paper_calls_them(frame_of(failed), NAMES)).holds == "cannot be told"
    )


def test_two_cells_of_one_description_are_not_chosen_from(claims, printed):
    both = [*own_cells(), *own_cells({"budget": "all"})]
    with pytest.raises(LocatedError, match="2 cells are BiRQA, aat, srocc, fgsm; they differ in budget 8/255, all"):
        evaluate(claims["aat-gain-srocc"], as_the_paper_calls_them(frame_of(both), NAMES))
    table = claims_table([claims["aat-gain-srocc"]], printed, as_the_paper_calls_them(frame_of(both), NAMES))
    assert table["verdict_here"].item() == "cannot be told" and "differ in budget" in table["missing_here"].item()


@pytest.mark.parametrize(
    ("changes", "facts", "names", "said"),
    [
        ({"dataset": "mini"}, {"labels": "proxy"}, {"mini": "kadid10k"}, "With mini for kadid10k, on proxy labels"),
        ({}, {"limit": "8"}, {}, "On part of the images (limit 8)"),
        ({}, {"split": "val"}, {}, "On split val, not test"),
        ({"dataset": "mini"}, {"labels": "proxy"}, {}, ""),
        (
            {"dataset": "pipal", "attack": "none"},
            {},
            {},
            "On pipal, of which the paper's are of the private test split",
        ),
    ],
)
def test_what_keeps_printed_numbers_from_standing_beside(changes, facts, names, said):
    assert not_the_papers(frame_of(own_cells(changes, **facts)), NAMES | names) == said


# ------------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def called(capsys):
    """Runs `robustiqa claims`: exit code, standard output and error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["claims", *map(str, arguments)])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.fixture
def few(tmp_path):
    """A file of three of the paper's claims."""
    lines = (PAPER / "claims.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    wanted = ("id,", "theorem-example,", "own-rule,", "figure6-drop,", "base-more-robust,")
    path = tmp_path / "few.csv"
    path.write_text("".join(line for line in lines if line.startswith(wanted)), encoding="utf-8")
    return path


def test_the_command(called, few):
    code, out, _ = called("--file", few)
    assert code == 0 and "bound = 0.45" in out and "The paper's numbers: 2 holds, 2 does not hold." in out
    few.write_text(few.read_text(encoding="utf-8").replace("bound == .45", "bound == .46"), encoding="utf-8")
    code, _, err = called("--file", few)
    assert code == 1 and "claim 'theorem-example' comes to 'does not hold', and the file says otherwise." in err
    code, _, err = called("--as", "mini")
    assert code == 2 and "--as mini: give LABEL=NAME" in err
    code, _, err = called("--direction", "upp")
    assert code == 2 and "--direction upp: no such direction. Did you mean 'up'?" in err
    code, _, err = called("--file", "nowhere.csv")
    assert code == 2 and "nowhere.csv cannot be read" in err


@pytest.mark.parametrize("wide", [60, 80, 200])
def test_ids_and_numbers_are_never_broken(called, few, wide, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(wide))
    code, out, _ = called("--file", few)
    assert code == 0 and all(
        one in out for one in ("theorem-example", "base-more-robust", "bound = 0.45", "improvements = ")
    )


def test_names_that_nobody_knows_are_refused(printed):
    cells = frame_of(own_cells({"dataset": "mini"}))
    check_called({"mini": "kadid10k", "birqa": "LPIPS"}, cells, printed)
    with pytest.raises(UserError) as caught:
        check_called({"mini": "kadid", "mni": "kadid10k", "birqa": "LIPPS"}, cells, printed)
    assert str(caught.value).splitlines() == [
        "--as mini=kadid: no dataset in the paper's tables is called 'kadid'. Did you mean 'kadid10k'?",
        "--as mni=kadid10k: nothing in these runs is called 'mni'. Did you mean 'mini'?",
        "--as birqa=LIPPS: no metric in the paper's tables is called 'LIPPS'. Did you mean 'LPIPS'?",
    ]


def test_sentences_about_speed_are_told_from_what_robustiqa_fps_wrote(called, tmp_path):
    head = "metric,fps,parameters,peak_memory,width,height,forwards,device,precision,threads,images\n"
    rows = "".join(
        f"{m},{fps},5500000,90,1920,1080,100,cuda,fp32,4,pdap_hdds\n" for m, fps in (("birqa", 15), ("topiq", 5))
    )
    (tmp_path / "fps.csv").write_text(head + rows, encoding="utf-8")
    code, out, err = called("--fps", tmp_path / "fps.csv", "--json")
    claims = {row["id"]: row for row in json.loads(out)["claims"]}
    assert code == 0, err
    assert (
        claims["three-times-faster"]["found_here"] == "ratio = 3" and claims["fifteen-fps"]["verdict_here"] == "holds"
    )


def test_the_command_on_a_run(called, few, run_toy, toy_file, tmp_path):
    """`linear` and `negative_mse` of the toys stand for two metrics of the paper."""
    suite = "name: toy\ndatasets: [toy]\nmetrics: [linear, negative_mse]\nattacks: [fgsm]\nbudgets: {linf: [8/255]}\n"
    run = run_toy(suite + "directions: [up]\ntables: [srocc]\n", tmp_path / "run")
    frame = next(table.frame for table in run.tables if table.name == "srocc").set_index("metric")
    names = ("--as", "toy=kadid10k", "--as", "linear=BiRQA", "--as", "negative_mse=TOPIQ")
    code, out, err = called(
        tmp_path / "run", "--file", few, "--plugin", toy_file, *names, "--direction", "up", "--json"
    )
    assert code == 0, err
    said = json.loads(out)
    assert said["not_the_papers"].startswith("With toy for kadid10k")
    claims = {row["id"]: row for row in said["claims"]}
    assert all("verdict" not in row for row in claims.values()), "printed numbers stand beside no stand-ins"
    found = claims["base-more-robust"]
    lead = frame.loc["linear", "srocc"] - frame.loc["negative_mse", "srocc"]
    numbers = [float(part.split(" = ")[1].replace("−", "-")) for part in found["found_here"].split(", ")]
    assert numbers == pytest.approx([lead, lead], abs=5e-4) and found["cells_here"] == "2 of 12"
    assert claims["theorem-example"]["missing_here"] == "it is about the paper's text alone"
    assert claims["figure6-drop"]["missing_here"] == "table3 has no training 'aat'"
    code, out, _ = called(tmp_path / "run", "--file", few, "--plugin", toy_file)
    assert code == 0 and out == "No claim has cells in these runs; --json says of each what is missing.\n"
