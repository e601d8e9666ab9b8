"""The documentation says what the code does: the generated page is current, its examples hold, links lead somewhere."""

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

import harness
from harness.cli.app import app, verb_names
from harness.plugins.registry import Registry
from harness.suite import keys as suite_file
from harness.suite.compose import LISTS, expand
from harness.suite.resolve import validate
from harness.suite.strict_yaml import LocatedError, parse_text
from harness.suite.tables import table_sources
from harness.testing import check_recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.glob("*.md"))
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
MODELS = {name: model for name, model in vars(suite_file).items() if hasattr(model, "model_fields")}
PLUGINS = {
    kind: f"suite_{ {'purifiers': 'defenses'}.get(kind, kind) }.md"
    for kind in ("metrics", "attacks", "purifiers", "datasets", "recipes")
}


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def section(text, heading):
    """What stands under a heading, up to the next of its level."""
    level = len(heading.split(" ")[0])
    return re.split(rf"^#{{1,{level}}} ", text.partition(f"{heading}\n")[2], flags=re.MULTILINE)[0]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_generated_pages_are_up_to_date(reference):
    assert reference.outdated(reference.pages()) == [], "run python docs/reference.py and commit the pages"


def test_an_outdated_page_is_noticed_and_written(reference, tmp_path, monkeypatch, capsys):
    page = tmp_path / "suite.md"
    monkeypatch.setattr(reference, "pages", lambda: {page: "as it should be\n"})
    for arguments, expected in (["--check"], 1), ([], 0), (["--check"], 0):
        monkeypatch.setattr(sys, "argv", ["reference.py", *arguments])
        assert reference.main() == expected
    assert page.read_text(encoding="utf-8") == "as it should be\n"
    assert f"{page}: out of date. Run python docs/reference.py" in capsys.readouterr().err


def test_every_command_and_option_is_on_its_page():
    page = text_of("cli.md")
    assert sorted(re.findall(r"^## robustiqa (\w+)$", page, re.MULTILINE)) == verb_names()
    for command in ("run", "score", "data verify", "weights mix"):
        printed = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
        told = section(page, f"{'###' if ' ' in command else '##'} robustiqa {command}")
        options = set(re.findall(r"^\W*(?:\* +)?(--[a-z-]+)", printed, re.MULTILINE)) - {"--help"}
        assert options and set(re.findall(r"^\| `(--[a-z-]+)", told, re.MULTILINE)) == options


@pytest.mark.parametrize("name", ["robustiqa", "harness.contracts", "harness.testing"])
def test_every_public_name_is_on_the_page_of_the_interface(name):
    page, module = text_of("api.md"), importlib.import_module(name)
    for public in module.__all__:
        value, told = getattr(module, public), section(page, f"### `{public}`")
        assert told or f"`{public}`" in section(page, f"## {name}"), "described, or named as described elsewhere"
        if inspect.isfunction(value):
            (signature, *_), *_ = re.findall(r"```python\n(.*?)(\n) *```|$", told, re.DOTALL)
            given = list(inspect.signature(value).parameters)
            assert re.findall(r"(?:[(,]\s*|\n    )\**(\w+): ", signature) == given
            assert inspect.getdoc(value).split()[0] in told


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_key_has_a_description(model):
    lacking = [name for name, field in model.model_fields.items() if not (field.description or "").strip()]
    assert not lacking, "give pydantic.Field(description=...) in harness/suite/keys.py"


def test_every_direction_and_table_is_explained():
    explained = suite_file.DIRECTIONS_EXPLAINED
    assert set(suite_file.DIRECTIONS) == set(explained), "harness/suite/keys.py: one text for each, and no other"
    tables = {source.name: source.explains for source in table_sources()}
    page = text_of("suite_keys.md") + text_of("suite_tables.md")
    assert all(f"* `{name}`: {text.split()[0]}" in page for name, text in {**explained, **tables}.items())
    protocols = (DOCS / "protocols.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in protocols for name in suite_file.DIRECTIONS), "the table of directions"


def test_every_key_and_plugin_has_its_place():
    keys = re.findall(r"^## `(\w+)`$", text_of("suite_keys.md"), re.MULTILINE)
    assert keys == list(suite_file.SuiteFile.model_fields)
    registry = Registry()
    for kind, page in PLUGINS.items():
        sources = {name: registry.source(kind, name) for name in registry.names(kind)}
        shipped = [name for name, source in sources.items() if source.origin == source.module]
        assert re.findall(r"^## `(.+)`$", text_of(page), re.MULTILINE) == shipped
    pgd = section(text_of("suite_attacks.md"), "## `pgd`")
    assert all(f"| `{parameter.name}` |" in pgd for parameter in registry.attack("pgd").parameters())


@pytest.mark.parametrize(
    ("kind", "name"), [("datasets", "mini"), ("metrics", "psnr"), ("defenses", "flip"), ("attacks", "pgd")]
)
def test_the_further_keys_of_entries_are_those_the_code_takes(kind, name):
    lists = {"datasets": ["mini"], "metrics": ["psnr"], kind: [{"name": name, "zzzzzzzz": 1}]}
    with pytest.raises(LocatedError) as caught:
        validate(parse_text(yaml.safe_dump({"name": "x", **lists}), "suite.yaml"), Registry())
    known = re.search(r"Known: (.*)\.$", "\n".join(caught.value.lines), re.MULTILINE)[1].split(", ")
    registry_kind = "purifiers" if kind == "defenses" else kind
    parameters = {parameter.name for parameter in Registry().get(registry_kind, name).parameters()}
    in_place_of_a_name = {suite_file.CHAIN}
    assert set(known) - parameters - {"label"} == set(suite_file.ENTRY_KEYS[kind]) - in_place_of_a_name


def test_keys_resolved_before_the_schema_are_explained():
    assert set(suite_file.ENTRY_KEYS) == set(LISTS)
    assert set(suite_file.COMPOSING_KEYS) == {"extends", "matrix"}


def test_the_example_suite_of_the_page_is_valid():
    *_, text = blocks(DOCS / "suite.md", "yaml")
    assert text == (DOCS / "examples" / "suite.yaml").read_text(encoding="utf-8")
    suite = validate(parse_text(text, "suite.yaml"), Registry())
    assert set(suite.directions) <= set(suite_file.DIRECTIONS) and len(suite.attacks) == 8
    given = set(yaml.safe_load(text))
    assert given == {name for name in suite_file.SuiteFile.model_fields if name in given}


@pytest.mark.parametrize("path", [*PAGES, README], ids=lambda path: path.name)
def test_every_suite_in_the_documentation_keeps_to_the_schema(path):
    for text in blocks(path, "yaml"):
        document = parse_text(text, path.name)
        assert not document.problems
        document.value.pop("extends", None)
        keys = expand(document).value
        keys = {"name": "x", "datasets": ["mini"], "metrics": ["psnr"], **keys}
        assert suite_file.read_file(keys)[1] == []


def test_the_recipe_of_the_plugin_page_keeps_its_contract():
    (code,) = [text for text in blocks(DOCS / "plugins.md", "python") if "Recipe" in text]
    scope = {"__name__": "example"}
    exec(code.replace('@register("all-attacked")\n', ""), scope)
    check_recipe(scope["AllAttacked"]())


def test_the_plot_of_the_plugin_page_can_be_made(tmp_path, toy_file):
    (code,) = [text for text in blocks(DOCS / "plugins.md", "python") if "open_run" in text]
    for name in ("mae", "momentum"):
        (tmp_path / f"{name}.py").write_text((DOCS / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    (tmp_path / "toy.py").write_text(toy_file.read_text(encoding="utf-8"))
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "{name: example, datasets: [toy], metrics: [mae], attacks: [momentum], budgets: {linf: [2/255, 4/255]}, limit: 8}"
    )
    files = [a for name in ("mae", "momentum", "toy") for a in ("--plugin", f"{name}.py")]
    code = code.replace('"momentum.py"]', '"momentum.py", "toy.py"]')
    for command in (["-m", "harness", "run", "suite.yaml", "-q", *files], ["-c", code]):
        line = [sys.executable, *command]
        environment = {**os.environ, "MPLBACKEND": "Agg"}
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "gain.png").stat().st_size > 1000
    assert "gain" in done.stdout and "mae" in done.stdout


@pytest.mark.parametrize(
    "path", [*PAGES, README, ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"], ids=lambda path: path.name
)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles]
            assert heading in anchors, target


def test_the_navigation_names_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    groups = [entries for group in yaml.safe_load(text)["nav"] for entries in group.values()]
    named = [page for entries in groups for entry in entries for page in entry.values()]
    assert sorted(named) == [path.name for path in PAGES]


def test_links_out_of_the_pages_lead_somewhere_in_the_site():
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_files", DOCS / "site_files.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)

    def led(page, markdown):
        return hook.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(abs_src_path=page)), None, None)

    text = "![a](../results/quickstart/srocc.md) [b](suite.md#example) [c](examples/)"
    assert led(DOCS / "index.md", text) == "![a](results/quickstart/srocc.md) [b](suite.md#example) c"
    text = "[a](../../docs/suite.md#example) [b](srocc.md) [c](https://a.b/c.md)"
    page = ROOT / "results" / "quickstart" / "README.md"
    assert led(page, text) == "[a](../../suite.md#example) [b](srocc.md) [c](https://a.b/c.md)"


def test_the_readme_reads_well_in_a_terminal():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert 'pip install -e ".[dev]" && pytest' in lines
    assert "pip install -e . && robustiqa run suites/quickstart.yaml" in lines


def test_the_metric_of_the_readme_scores():
    (code,) = blocks(README, "python")
    scope = {"__name__": "example"}
    exec(code.replace('@register("mae")\n', ""), scope)
    black = torch.zeros(2, 3, 8, 8)
    assert len(code.splitlines()) == 10 and torch.allclose(
        scope["MAE"]()(ref=black, dist=black + 0.25), torch.tensor(0.25)
    )


def test_the_answer_of_the_readme_is_what_the_results_say():
    answer = " ".join(section(README.read_text(encoding="utf-8"), "# robustiqa").split())
    results = ROOT / "results" / "quickstart"
    srocc, shift = (pd.read_csv(results / f"{name}.csv") for name in ("srocc", "shift"))
    picture = (results / "headline.svg").read_text(encoding="utf-8")

    def written(value):
        return f"{value:.2f}".replace("0.", ".")

    def at_8(frame, metric):
        mini = (frame["dataset"] == "mini") & (frame["metric"] == metric)
        return frame[mini & np.isclose(frame["eps"], 8 / 255, atol=1e-6)]

    left = {}
    for metric in ("psnr", "ssim", "birqa-tiny"):
        rows = at_8(srocc, metric)
        worst = rows[rows["attack"] == "lowest SROCC of all"].nsmallest(1, "srocc").iloc[0]
        single = at_8(shift, metric).loc[lambda rows: rows["attack"].isin(["fgsm", "pgd"])]
        excess = single["excess_over_own_control"].max()
        figures = [written(value) for value in (worst["clean_srocc"], worst["srocc"], excess)]
        assert all(figure in answer for figure in figures), (metric, figures)
        drawn = re.search(rf"{metric}: clean ([\d.]+) .*?all \S+ ([−\d.]+) .*?alone ([\d.]+) to", picture)
        assert [written(float(one.replace("−", "-"))) for one in drawn.groups()[:2]] == figures[:2]
        assert f"{metric} {written(float(drawn[3]))}" in answer, "the least that honest changes leave"
        left[metric] = worst["srocc"]
    assert (
        f"Most robust is {max(left, key=left.get)}" in answer
        and f"Last, though not told apart, is {min(left, key=left.get)}" in answer
    )


def test_the_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
    assert citation["title"] == project["name"] and citation["license"] == project["license"]["text"]
    assert citation["version"] == project["version"] == harness.__version__
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    for work in citation["references"]:
        assert work["type"] and work["title"] and work["authors"]


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        (
            "new_metric.yml",
            {
                "paper",
                "code",
                "code_licence",
                "weights",
                "weights_sha256",
                "weights_licence",
                "input_range",
                "direction",
            }
            | {"differentiable", "minimum_size", "reference_values"},
        ),
        ("new_attack.yml", {"paper", "code", "licence", "norm", "threat_model", "cost", "parameters", "test"}),
    ],
)
def test_issue_forms(form, asked):
    value = yaml.safe_load((FORMS / form).read_text(encoding="utf-8"))
    assert value["name"] and value["description"] and isinstance(value["body"], list)
    fields = [element for element in value["body"] if element["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    ids = [field["id"] for field in fields]
    labels = [field["attributes"]["label"] for field in fields]
    assert len(ids) == len(set(ids)) and len(labels) == len(set(labels)) and asked <= set(ids)
    for field in fields:
        options = field["attributes"].get("options", [])
        if field["type"] == "dropdown":
            assert options and all(isinstance(option, str) for option in options), "a bare yes or no is no text in YAML"
        if field["type"] == "checkboxes":
            assert all(isinstance(option["label"], str) for option in options)


def test_the_issue_chooser():
    assert yaml.safe_load((FORMS / "config.yml").read_text(encoding="utf-8")) == {"blank_issues_enabled": True}
