"""PGD on the 8-bit grid, PGD that measures its gradients, and BPDA: optima of a linear metric, and what each is for."""

import pytest
import torch

from attacks.bpda import BPDA
from attacks.pgd_on_grid import PGDOnGrid
from attacks.pgd_traced import PGDTraced
from harness.contracts import Metric
from harness.testing import check_attack

ALL = {"pgd_on_grid": PGDOnGrid, "pgd_traced": PGDTraced, "bpda": BPDA}


@pytest.mark.parametrize("name", ["pgd_traced", "bpda"])
def test_on_a_linear_metric_each_is_pgd(strike, linear, pairs, name):
    for sign in (1, -1):
        outcome = strike(name, {}, linear, pairs, sign=sign)
        best = linear.optimum(pairs[1], "linf", 8 / 255, sign)
        assert ((outcome.gain - best).abs() <= 1e-4 * best).all()


def test_on_the_grid_every_image_is_a_file_and_the_optimum_that_of_the_grid(strike, linear, pairs):
    seen = []

    class Watched(type(linear)):
        def score(self, reference, dist):
            seen.append(dist.detach())
            return super().score(reference, dist)

    ref, dist = pairs
    dist = (dist * 255).round() / 255
    outcome = strike("pgd_on_grid", {"step_size": 1.5 / 255}, Watched(), (ref, dist))
    best = linear.optimum(dist, "linf", 8 / 255, 1)
    assert ((outcome.gain - best).abs() <= 1e-4 * best).all()
    levels = torch.stack(seen) * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    coarse = strike("pgd_on_grid", {}, linear, (ref, dist + 0.3 / 255), eps=0.2 / 255)
    assert (coarse.gain == 0).all(), "no grey level lies in such a ball"


class Lying(Metric):
    """Mean of a product with fixed weights, whose gradient is `factor` times what it should be."""

    cite = ""
    higher_is_better = True

    def __init__(self, linear, factor):
        super().__init__()
        self.linear, self.factor = linear, factor

    def score(self, reference, dist):
        score = self.linear.score(reference, dist)
        return score.detach() + self.factor * (score - score.detach())


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (0.25, 0.75), (1e-8, 1.0), (-1.0, 2.0)])
def test_gradients_are_held_against_differences(strike, linear, pairs, factor, error):
    notes = strike("pgd_traced", {"steps": 4, "looks": 2}, Lying(linear, factor), pairs).objective.notes
    for name in ("gradient_error_step", "gradient_error_reference"):
        assert notes[name] == pytest.approx([error] * 4, abs=2e-3), name


def test_where_nothing_moves_there_is_no_figure(strike, linear, pairs):
    class Flat(type(linear)):
        def score(self, reference, dist):
            return 0 * super().score(reference, dist)

    notes = strike("pgd_traced", {"steps": 2}, Flat(), pairs).objective.notes
    assert all(value != value for value in notes["gradient_error_step"])


def test_bpda_follows_the_surrogate_where_the_metric_declares_one(strike, linear, pairs):
    class Rounded(Lying):
        exact_gradient = False

        def surrogate(self, reference, dist):
            return self.linear.score(reference, dist)

    best = linear.optimum(pairs[1], "linf", 8 / 255, 1)
    outcome = strike("bpda", {}, Rounded(linear, -1.0), pairs)
    assert ((outcome.gain - best).abs() <= 1e-4 * best).all()
    assert outcome.objective.ledger.backwards.tolist() == [10] * 4
    assert (strike("bpda", {}, Lying(linear, -1.0), pairs).gain < -0.9 * best).all(), "without one, its own gradient"


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_keeps_its_contract_and_no_sample_depends_on_its_batch(same_in_any_batch, curved, name):
    check_attack(ALL[name](steps=3))
    same_in_any_batch(name, {"steps": 3}, curved)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [(name, wrong) for name in ALL for wrong in ({"steps": 0}, {"step_size": 0.0})] + [("pgd_traced", {"looks": 0})],
)
def test_bad_parameters(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ALL[name](**wrong)
