"""A plugin that returns the wrong shape, type, device or range is refused by name and origin, and the rest works."""

from pathlib import Path

import pytest

from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

HERE = Path(__file__).parents[1] / "toys"
FAULTY = HERE / "faulty.py"

CASES = {
    "score_shape": "metric '{name}' from {file}: score() returned shape (1, 1); it must return a tensor of shape [1]",
    "score_type": "metric '{name}' from {file}: score() returned int64; it must return floats",
    "score_device": "metric '{name}' from {file}: score() returned a tensor on meta for images on cpu; make new tensors on "
    "the device of the images",
    "score_none": "metric '{name}' from {file}: score() returned NoneType; it must return a tensor of shape [1]",
    "no_graph": "metric '{name}' from {file}: its score does not follow the image by differentiable operations (detach, "
    "numpy, rounding?). Mend it, or set differentiable = False and take black-box attacks",
    "attack_shape": "attack '{name}' from {file}: perturb() returned shape (8, 3, 15, 16); it must return images of shape "
    "(8, 3, 16, 16)",
    "attack_type": "attack '{name}' from {file}: perturb() returned float64; it must return images of the type given, float32",
    "attack_device": "attack '{name}' from {file}: perturb() returned images on meta, given images on cpu; make new tensors on "
    "the device of the images",
    "attack_nan": "attack '{name}' from {file}: perturb() returned pixels that are not finite; images must lie in "
    "[0, 1] (8 of 8 in its batch)",
    "purifier_range": "purifier '{name}' from {file}: apply() returned pixels from",
    "purifier_type": "purifier '{name}' from {file}: apply() returned uint8; it must return images of the type given, float32",
    "purifier_shape": "purifier '{name}' from {file}: apply() returned shape (1, 16, 16); it must return images of shape "
    "(1, 3, H, W)",
    "images_bytes": "data set '{name}' from {file}: load() returned uint8 as 'dist'; images must be float32 in [0, 1]",
    "images_range": "data set '{name}' from {file}: load(), image 'dist', returned pixels from 102 to 102; images must lie in "
    "[0, 1]",
    "images_grey": "data set '{name}' from {file}: load() returned shape (1, 16, 16) as 'dist'; images must be 3 x H x W",
    "images_nameless": "data set '{name}' from {file}: load() returned the names reference, dist; it must return a mapping with "
    "ref, dist",
}


@pytest.mark.parametrize("name", CASES)
def test_a_faulty_plugin_is_named_with_its_origin_and_the_rest_works(name, tmp_path):
    registry = Registry([HERE / "toy.py", FAULTY])
    part = name.partition("_")[0]
    metric = name if part in ("score", "no") else "negative_mse"
    attack = name if part == "attack" else "fgsm" if name != "score_type" else "guess"
    defense = f"[base, {name}]" if part == "purifier" else "[base]"
    extra = f", {name}" if part == "images" else ""
    suite = f"""
name: faulty
datasets: [toy{extra}]
metrics: [linear{"" if metric == "linear" else ", " + metric}]
defenses: {defense}
attacks: [{attack}, noise]
budgets: {{linf: [4/255]}}
directions: [up]
limit: 8
"""
    result = run_suite(
        validate(parse_text(suite, "suite.yaml"), registry), registry, Options(out=tmp_path, executor="serial")
    )
    messages = {failure.message for failure in result.failures}
    assert any(CASES[name].format(name=name, file=FAULTY) in message for message in messages), messages
    assert all(f"'{name}' from {FAULTY}" in message for message in messages), messages
    assert not any(failure.bad_input for failure in result.failures)
    records = result.data.records
    fine = records[(records["metric"] == "linear") & (records["defense"] == "base") & (records["dataset"] == "toy")]
    assert set(fine["attack"]) >= {"clean", "noise"}


def test_images_outside_budget_and_box_are_projected_and_no_fault(tmp_path):
    registry = Registry([HERE / "toy.py", FAULTY])
    suite = """
name: range
datasets: [toy]
metrics: [linear]
attacks: [attack_range]
budgets: {linf: [4/255]}
directions: [up]
limit: 8
"""
    result = run_suite(
        validate(parse_text(suite, "suite.yaml"), registry), registry, Options(out=tmp_path, executor="serial")
    )
    assert not result.failures
    assert result.data.records["linf"].max() <= 4 / 255 + 1e-6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fit_none", "attack 'fit_none' from {file}: fit() returned NoneType; it must return tensors by name"),
        (
            "fit_number",
            "attack 'fit_number' from {file}: fit() returned int as 'strength'; it must return tensors by name",
        ),
        ("fit_raises", "fit fit_raises to linear: KeyError: 'layer' (faulty.py:"),
    ],
)
def test_an_attack_that_learns_nothing_usable_is_named(name, said, tmp_path):
    registry = Registry([HERE / "toy.py", FAULTY])
    suite = f"name: fits\ndatasets: [toy]\nmetrics: [linear]\nattacks: [{name}, noise]\nbudgets: {{linf: [4/255]}}\ndirections: [up]\n"
    options = Options(out=tmp_path, executor="serial", probe=False)
    result = run_suite(validate(parse_text(suite, "suite.yaml"), registry), registry, options)
    assert any(said.format(file=FAULTY) in failure.message for failure in result.failures), result.failures
    assert set(result.data.records["attack"]) == {"clean", "noise"}
