"""The kit on metrics: every shipped one keeps its contract, and planted faults are caught."""

import pytest
import torch

from harness.contracts import Metric
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import read_manifest
from harness.testing import ConformanceError, check_metric


def test_shipped_metrics(shipped):
    """By their own weights where those are in the package; the contract but for the sense holds for random ones, too."""
    plugin = Registry().metric(shipped)
    here = {name for name, entry in read_manifest().items() if "file" in entry}
    trained = not plugin.cls.needs_weights or plugin.weights in here
    metric = default_metric(shipped, Registry(), torch.device("cpu")) if trained else plugin.build({})
    check_metric(metric, name=shipped, trained=trained)


def test_a_metric_is_left_as_it_was():
    metric = Registry().metric("birqa-tiny").build({})
    metric.train()
    before = {k: v.clone() for k, v in metric.state_dict().items()}
    check_metric(metric, trained=False)
    assert metric.training and all(p.requires_grad and p.grad is None for p in metric.parameters())
    assert all(torch.equal(before[k], v) for k, v in metric.state_dict().items())


class Mse(Metric):
    cite = ""
    higher_is_better = False

    def score(self, reference, dist):
        return (dist - reference).square().flatten(1).mean(1)


class NoSense(Mse):
    higher_is_better = "yes"


class Column(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist)[:, None]


class BatchMean(Mse):
    def score(self, reference, dist):
        error = super().score(reference, dist)
        return error / error.mean()


class ByPosition(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist) * (1 + torch.arange(len(dist)) * 1e-3)


class NanOnFlat(Mse):
    minimum_size = 2

    def score(self, reference, dist):
        return super().score(reference, dist) / reference.flatten(1).std(1) * 0 + super().score(reference, dist)


class RootOfNothing(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist).sqrt()


class WrongSign(Mse):
    higher_is_better = True


class Detached(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist.detach())


class LeftHalf(Mse):
    minimum_size = 2

    def score(self, reference, dist):
        half = dist.shape[-1] // 2
        return super().score(reference[..., :half], dist[..., :half])


class CentreCrop(Mse):
    def score(self, reference, dist):
        top, left = (side // 4 for side in dist.shape[-2:])
        window = (..., slice(top, -top or None), slice(left, -left or None))
        return super().score(reference[window], dist[window])


class FixedCrop(Mse):
    """The 224 px of a classifier; smaller images are taken whole."""

    def score(self, reference, dist):
        return super().score(reference[..., :224, :224], dist[..., :224, :224])


class NoBorder(Mse):
    """The border of super-resolution's PSNR."""

    minimum_size = 9

    def score(self, reference, dist):
        return super().score(reference[..., 4:-4, 4:-4], dist[..., 4:-4, 4:-4])


class NoLastRows(Mse):
    """Too little to empty a tile."""

    minimum_size = 3

    def score(self, reference, dist):
        return super().score(reference[..., :-2, :], dist[..., :-2, :])


class NoCorner(Mse):
    def score(self, reference, dist):
        mask = torch.ones(dist.shape[-2:])
        mask[-(dist.shape[-2] // 8) :, : dist.shape[-1] // 8] = 0
        return super().score(mask * reference, mask * dist)


class HalvedWithARemainder(Mse):
    """Faultless: an odd side's last line has no partner to be pooled with."""

    minimum_size = 2

    def score(self, reference, dist):
        return super().score(*(torch.nn.functional.avg_pool2d(images, 2) for images in (reference, dist)))


class WorstTenth(Mse):
    """Faultless: pools over the worst places of each image alone."""

    def score(self, reference, dist):
        error = (dist - reference).square().mean(1).flatten(1)
        return error.topk(max(1, error.shape[1] // 10)).values.mean(1)


class StraightThrough(Mse):
    """A surrogate gradient that says it is exact."""

    def score(self, reference, dist):
        return super().score(reference, dist + (torch.round(dist * 8) / 8 - dist).detach())


class Scaled(Mse):
    """Its backward pass is 2 % too long."""

    def score(self, reference, dist):
        error = super().score(reference, dist)
        return error * 1.02 - (error * 0.02).detach()


class Random(Mse):
    def score(self, reference, dist):
        return super().score(reference, dist + 1e-3 * torch.randn_like(dist))


class Counting(Mse):
    calls = 0

    def score(self, reference, dist):
        self.calls += 1
        return super().score(reference, dist) + self.calls


class InPlace(Mse):
    def score(self, reference, dist):
        with torch.no_grad():
            dist.mul_(0.5)
        return super().score(reference, dist)


class SpoilsEncoding(Mse):
    def encode(self, ref):
        return ref.clone()

    def score(self, reference, dist):
        error = super().score(reference, dist)
        reference += 0.01
        return error


class OtherForward(Mse):
    def forward(self, *, ref, dist):
        return super().forward(ref=ref, dist=dist) + 1e-6


class SmallOnly(Mse):
    def score(self, reference, dist):
        if dist.shape[-1] % 2:
            raise ValueError("odd width")
        return super().score(reference, dist)


class LooseEncoding(Mse):
    def encode(self, ref):
        return {"ref": ref, "mean": ref.mean()}

    def score(self, reference, dist):
        return super().score(reference["ref"], dist)


METRICS = [
    (NoSense, "higher_is_better is True or False"),
    (Column, "one float per image"),
    (BatchMean, "row i alone"),
    (ByPosition, "row i alone"),
    (NanOnFlat, "scores are finite"),
    (RootOfNothing, "gradient is finite"),
    (WrongSign, "sense of the score"),
    (Detached, "differentiable operations"),
    (LeftHalf, "whole image"),
    (CentreCrop, "whole image"),
    (FixedCrop, "whole image"),
    (NoBorder, "whole image"),
    (NoLastRows, "whole image"),
    (NoCorner, "whole image"),
    (StraightThrough, "gradient is that of the score"),
    (Scaled, "gradient is that of the score"),
    (Random, "no global random numbers"),
    (Random, "deterministic"),
    (Counting, "deterministic"),
    (InPlace, "inputs are left"),
    (SpoilsEncoding, "encoded reference can be reused"),
    (OtherForward, "keyword call"),
    (SmallOnly, "every size"),
    (LooseEncoding, "batch on axis 0"),
]


@pytest.mark.parametrize("faultless", [Mse, HalvedWithARemainder, WorstTenth])
def test_a_faultless_metric_passes(faultless):
    check_metric(faultless())


@pytest.mark.parametrize(("planted", "rule"), METRICS)
def test_planted_metric(assert_caught, planted, rule):
    assert_caught(check_metric, planted(), rule)


@pytest.mark.parametrize(
    "planted", [NanOnFlat, RootOfNothing, WrongSign, LeftHalf, FixedCrop, NoBorder, Scaled, OtherForward]
)
def test_one_fault_is_told_as_one(rules_of, planted):
    assert len(rules_of(check_metric, planted())) == 1


def test_a_size_that_is_not_scored_is_named_with_its_cure(rules_of):
    class Undeclared(NoBorder):
        minimum_size = 1

    rule = "every size from minimum_size up is scored (1 x 1 px is not: declare minimum_size = 9)"
    assert rule in rules_of(check_metric, Undeclared())
    assert any("pad inside the metric)" in rule for rule in rules_of(check_metric, SmallOnly()))


def test_a_metric_may_say_that_it_is_an_exception():
    check_metric(type("Surrogate", (StraightThrough,), {"exact_gradient": False})())
    check_metric(type("NoGradient", (Detached,), {"differentiable": False})())
    check_metric(WrongSign(), trained=False)


def test_all_faults_are_told_at_once():
    class Several(OtherForward, Scaled):
        higher_is_better = True

    with pytest.raises(ConformanceError, match=r"metric 'several' \(class Several\) breaks 3 rules") as caught:
        check_metric(Several(), name="several")
    assert "  3. " in str(caught.value) and "Cure: " in str(caught.value)
