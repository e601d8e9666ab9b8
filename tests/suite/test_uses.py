"""What tables call a plugin with its parameters."""

import pytest


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("{name: pgd, step_size: 1/255}", "pgd(step_size=1/255)"),
        ("{name: pgd, step_size: 0.5/255}", "pgd(step_size=0.5/255)"),
        ("{name: pgd, step_size: 1.25/255}", "pgd(step_size=1.25/255)"),
        ("{name: pgd, step_size: 0.00784313725490196}", "pgd"),
        ("{name: pgd, step_size: 0.01}", "pgd(step_size=0.01)"),
        ("{name: pgd, step_size: 0.012345}", "pgd(step_size=0.012345)"),
        ("{name: pgd, step_size: 1e-12}", "pgd(step_size=1e-12)"),
        ("{name: pgd, step_size: 1}", "pgd(step_size=1)"),
        ("{name: square, p_init: 0.8}", "square(p_init=0.8)"),
        ("{name: square, p_init: 51/255}", "square(p_init=0.2)"),
        ("{name: zhang, weight: 2.0}", "zhang(weight=2)"),
    ],
)
def test_a_length_is_told_in_steps_of_1_255_and_a_share_as_a_decimal(suite_of, written, label):
    text = f"name: a\ndatasets: [toy]\nmetrics: [linear]\nattacks: [{written}]\nbudgets: {{linf: [8/255]}}\n"
    (attack,) = suite_of(text).attacks
    assert attack.label == label


def test_radii_are_written_as_in_suites():
    from harness.wording import budget_text

    told = {8: "8/255", 0.5: "0.5/255", 1.25: "1.25/255", 51: "51/255"}
    assert {steps: budget_text("linf", steps / 255) for steps in told} == told
    assert budget_text("linf", round(0.5 / 255, 9)) == "0.5/255"  # as records are laid out
    assert [budget_text("linf", eps) for eps in (0.002, 0.0123456, 1.0)] == ["0.002", "0.01235", "1"]
    assert budget_text("l2", 0.5 / 255) == "0.001961"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("psnr", {}),
        ("{name: psnr, channel: y}", {"channel": "y"}),
        ("ssim", {}),
        ("ssim-matlab", {"luma": "uint8", "downsample": True}),
        ("{name: ssim-matlab, luma: float}", {"luma": "float", "downsample": True}),
        ("ssim-matlab-rgb", {"channel": "rgb", "luma": "uint8", "downsample": True}),
    ],
)
def test_a_neutral_value_is_left_out_unless_a_preset_of_the_name_has_another(suite_of, registry, written, kept):
    (metric,) = suite_of(f"name: a\ndatasets: [toy]\nmetrics: [{written}]\n").metrics
    assert metric.parameters == kept
    built = registry.metric(metric.name).build(metric.parameters)
    assert built.luma == kept.get("luma", "float") and built.channel == kept.get("channel", built.neutral["channel"])
