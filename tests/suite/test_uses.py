"""What tables call a plugin with its parameters."""

import pytest


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("{name: pgd, step_size: 1/255}", "pgd(step_size=1:255)"),
        ("{name: pgd, step_size: 0.5/255}", "pgd(step_size=0.5:255)"),
        ("{name: pgd, step_size: 1.25/255}", "pgd(step_size=1.25:255)"),
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
