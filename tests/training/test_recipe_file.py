"""Recipe files: their mistakes, how they extend one another, and that every shipped one can be used."""

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.training.members import members_of
from harness.training.recipe_file import RecipeFile, build_plugin, read_recipe

SHIPPED = Path(__file__).parents[2] / "suites" / "train"
MATRICES = sorted(SHIPPED.rglob("matrix.yaml"))  # see tests/benchmarks
FILES = sorted(set(SHIPPED.rglob("*.yaml")) - set(MATRICES))
PAPER = sorted(path for path in FILES if path.parent.name == "paper")

GOOD = """\
name: good
metric: birqa-tiny
dataset: {name: mini}
recipe: {name: clean, warm: 0.3}
steps: 10
batch: 6
learning_rate: 0.003
output: out/weights
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="bad.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evalute_every: 5", r"bad.yaml:9:1: .*unknown key 'evalute_every'. Did you mean 'evaluate_every'"),
        ("schedule: cosin", r"bad.yaml:9:11: schedule: .*'cosin'"),
        ("gradient_clip: 0", "gradient_clip: .*greater than 0"),
        ("betas: [0.9, 1]", r"bad.yaml:9:14: betas.1: .*less than 1"),
        ("betas: 0.9", r"betas: should be two numbers: \[beta1, beta2\]"),
        ("patience: 0", "patience: .*greater than 0"),
        ("gradient_clip: inf", "gradient_clip: .*finite"),
        ("label_scale: [5, 1]", r"bad.yaml:9:14: label_scale: should be two finite numbers, .*low below high, got \[5"),
        ("label_scale: [1, 1]", "label_scale: should be two finite numbers"),
        ("label_scale: [0, inf]", "label_scale: should be two finite numbers"),
        ("label_scale: [0]", r"label_scale: should be two numbers: \[low, high\]"),
        ("seed: [", "not valid YAML"),
        ("seed: 1\nseed: 2", r"bad.yaml:10:1: .*seed"),
        ("extends: gone.yaml", "extends: .*gone.yaml: no such file"),
        ("extends: bad.yaml", "a recipe cannot extend itself"),
    ],
)
def test_mistakes_are_named(written, line, message):
    with pytest.raises(UserError, match=message):
        read_recipe(written(GOOD + line + "\n"))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["recipe.batch=99"], "--set recipe.batch=99: 'clean' gets the recipe file's own `batch`. Remove this one"),
        (["metric=folds"], "--set metric=folds: the metric 'folds' is made of trained members.*give `folds`"),
        (["metric.name=folds", "folds=5"], "the metric 'folds' is made of trained members and not trained"),
        (["learning_rate=inf"], "--set learning_rate=inf: .*finite"),
    ],
)
def test_what_would_be_no_training_is_refused(written, sets, message):
    with pytest.raises(UserError, match=message):
        read_recipe(written(GOOD), sets)


def test_a_batch_of_the_recipe_is_refused_where_it_stands(written):
    with pytest.raises(UserError, match=r"bad\.yaml:4:34: recipe\.batch: 'clean' gets the recipe file's own `batch`"):
        read_recipe(written(GOOD.replace("warm: 0.3", "warm: 0.3, batch: 99")))


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"warm": 2}, {"warm": float("nan")}])
def test_shares_lie_in_0_to_1(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=rf"recipe file r.yaml: 'clean': {name} should be in \[0, 1\], got"):
        build_plugin(Registry().recipe("clean"), Path("r.yaml"), wrong)


def test_all_mistakes_are_reported_at_once(written, tmp_path):
    with pytest.raises(UserError) as error:
        read_recipe(written("name: x\nmetric: birqa-tiny\nstepz: 3\n"))
    assert "'stepz'. Did you mean 'steps'" in str(error.value)
    assert "'dataset' is missing" in str(error.value)
    with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
        read_recipe(tmp_path / "gone.yaml")


def test_a_recipe_extends_another_and_the_command_line_has_the_last_word(written):
    written(GOOD, "good.yaml")
    path = written("extends: good.yaml\nname: other\ndataset: {test: test}\nrecipe: preference\nsteps: 20\n")
    file = read_recipe(path, ["steps=30", "metric.weights=random", "dataset.root=here", "trainable=[a.*, b]"])
    assert (file.name, file.steps, file.batch) == ("other", 30, 6)
    assert (file.dataset.name, file.dataset.test, file.dataset.parameters()) == ("mini", "test", {"root": "here"})
    assert (file.recipe.name, file.recipe.parameters()) == ("preference", {})
    assert (file.metric.name, file.metric.weights) == ("birqa-tiny", "random")
    assert file.trainable == ("a.*", "b")


def test_new_keys_at_their_defaults_are_no_part_of_a_description():
    """So that weights trained before the keys existed are described, and resumed, as they were."""
    manifest = json.loads((Path(__file__).parents[2] / "metrics_zoo/weights/manifest.json").read_text())
    assert read_recipe(SHIPPED / "birqa_tiny_mini.yaml").published() == manifest["birqa-tiny"]["recipe"]


def test_every_key_is_described_here_and_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    for name, field in RecipeFile.model_fields.items():
        assert field.description
        assert f"`{name}`" in text


def test_the_recipe_in_the_documentation_can_be_read(written):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    file = read_recipe(written(text.partition('```yaml title="mine.yaml"\n')[2].partition("```")[0]))
    assert (file.metric.weights, file.trainable, file.dataset.test) == ("lpips-alex", ("heads.*",), "test")


def test_recipes_of_every_metric_for_every_data_set_are_shipped():
    metrics = ("birqa", "birqa_tiny", "lpips_alex_heads", "lpips_vgg_whole", "topiq")
    sets = ("kadid10k", "tid2013", "live", "csiq", "pipal", "pieapp")
    ablation = {f"birqa_ablation_{modules}" for modules in ("none", "csram", "csram_scgb")}
    assert {path.stem for path in PAPER} == {f"{m}_{d}" for m in metrics for d in sets} | {"paper"} | ablation


@pytest.fixture(scope="module")
def built():
    """Builds a plugin of a recipe file; metrics, which are large, once for each set of parameters."""
    registry, known = Registry(), {}

    def build(kind, use, path, **more):
        key = (kind, use.name, json.dumps({**use.parameters(), **more}, sort_keys=True))
        if key not in known:
            known[key] = build_plugin(registry.get(kind, use.name), path, {**more, **use.parameters()})
        return known[key]

    build.registry = registry
    return build


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SHIPPED)) for path in FILES])
def test_every_shipped_recipe_can_be_used(path, built):
    from harness.training.trainable import matching, trainable

    file = read_recipe(path)
    metric = built("metrics", file.metric, path)
    recipe = built("recipes", file.recipe, path, batch=file.batch)
    if file.nonnegative:
        matching(trainable(metric, file), file.nonnegative, "nonnegative", file)
    assert file.crop is None or file.crop >= metric.minimum_size
    for member in members_of(file, Path("run"), built.registry):
        use = member.file.dataset
        data = built("datasets", use, path)
        assert {use.train, use.val, use.test or use.val} <= set(data.splits)
        assert data.kind == recipe.kind
    assert path.stem in file.name or path.parent.name in ("human_rated", "mini")
    assert Path(file.output).parts[0] in ("results", "metrics_zoo")


@pytest.mark.parametrize("path", PAPER, ids=[path.stem for path in PAPER])
def test_paper_recipes_have_the_settings_of_table_10(path):
    file = read_recipe(path)
    assert file.betas == (0.9, 0.999)  # "Optimizer: Adam; (beta_1, beta_2): 0.9/0.999"
    assert file.batch == 32  # "Batch size: 32"
    assert file.learning_rate == 1e-4  # "Learning rate: 10^-4"
    assert file.schedule == "constant"
    assert file.steps == 2500  # "Epochs: 2500", read as steps
    if file.recipe.name == "clean":  # "Loss function: alpha_1 MSE - (1 - alpha_1) PLCC, alpha_1 = 0.7"
        assert file.recipe.parameters()["alpha"] == 0.7
    assert file.recipe.name == ("preference" if path.stem.endswith("pieapp") else "clean")
    assert file.seeds == 10  # Section 5: "the mean value for 10 runs on random splits in 6:2:2 proportion"
    assert file.resplit == (not path.stem.endswith("pieapp"))
    started = path.stem.startswith(("lpips", "topiq"))
    assert (file.metric.weights is not None) == started
