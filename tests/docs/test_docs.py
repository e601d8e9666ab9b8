"""The documentation says what the code does: the generated page is current, its examples hold, links lead somewhere."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import harness
from harness.plugins.model import KINDS
from harness.plugins.registry import Registry
from harness.suite import keys as suite_file
from harness.suite.compose import LISTS, expand
from harness.suite.resolve import validate
from harness.suite.strict_yaml import LocatedError, parse_text
from harness.suite.tables import table_sources
from harness.testing import check_recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
MODELS = {name: model for name, model in vars(suite_file).items() if hasattr(model, "model_fields")}


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page():
    return (DOCS / "suite.md").read_text(encoding="utf-8")


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_suite_reference_is_up_to_date(tmp_path):
    check = [sys.executable, str(DOCS / "reference.py"), "--check"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_outdated_suite_reference_is_noticed(reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "PAGE", tmp_path / "suite.md")
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    assert reference.main() == 1, "no page"
    monkeypatch.setattr(sys, "argv", ["reference.py"])
    assert reference.main() == 0
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    assert reference.main() == 0
    with reference.PAGE.open("a") as file:
        file.write("more\n")
    assert reference.main() == 1
    assert "python docs/reference.py" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_key_has_a_description(model):
    lacking = [name for name, field in model.model_fields.items() if not (field.description or "").strip()]
    assert not lacking, "give pydantic.Field(description=...) in harness/suite/keys.py"


def test_every_direction_and_table_is_explained(page):
    explained = suite_file.DIRECTIONS_EXPLAINED
    assert set(suite_file.DIRECTIONS) == set(explained), "harness/suite/keys.py: one text for each, and no other"
    tables = {source.name: source.explains for source in table_sources()}
    assert all(f"* `{name}`: {text.split()[0]}" in page for name, text in {**explained, **tables}.items())
    protocols = (DOCS / "protocols.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in protocols for name in suite_file.DIRECTIONS), "the table of directions"


def test_every_key_and_plugin_is_on_the_page(page):
    assert re.findall(r"^### `(\w+)`$", page, re.MULTILINE) == list(suite_file.SuiteFile.model_fields)
    registry = Registry()
    shipped = [
        n for k in KINDS for n in registry.names(k) if registry.source(k, n).origin == registry.source(k, n).module
    ]
    assert re.findall(r"^#### `(.+)`$", page, re.MULTILINE) == shipped
    for parameter in registry.attack("pgd").parameters():
        assert f"| `{parameter.name}` |" in page


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


def test_the_example_suite_of_the_page_is_valid(page):
    (text,) = blocks(DOCS / "suite.md", "yaml")
    assert text == (DOCS / "examples" / "suite.yaml").read_text(encoding="utf-8")
    suite = validate(parse_text(text, "suite.yaml"), Registry())
    assert set(suite.directions) <= set(suite_file.DIRECTIONS) and len(suite.attacks) == 8
    given = set(yaml.safe_load(text))
    assert given == {name for name in suite_file.SuiteFile.model_fields if name in given}


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
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


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
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
    named = [next(iter(entry.values())) for entry in yaml.safe_load(text)["nav"]]
    assert sorted(named) == [path.name for path in PAGES]


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
