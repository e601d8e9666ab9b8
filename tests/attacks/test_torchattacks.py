"""PGD against torchattacks' own, on the same metric in the same run."""

import pytest
import torch

from harness.contracts import Budget, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.registry import Registry

torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


class AsClassifier(torch.nn.Module):
    """A scorer as a classifier of one image: class 0 falls as J rises, so an untargeted attack on it maximises J.

    The range of J is small beside T, so the softmax never saturates and cross-entropy is monotone in J.
    """

    def __init__(self, scorer, ref, sign, clean, scale):
        super().__init__()
        self.scorer, self.sign, self.tau, self.scale = scorer, sign, clean + scale, scale
        self.encoded = scorer.encode(ref, SampleRng([]))

    def forward(self, images):
        z = (self.tau - self.sign * self.scorer.quality(self.encoded, images)) / self.scale
        low = torch.full_like(z, -20.0)
        return torch.stack([z, -z, low, low], dim=1)


def both(scorer, ref, dist, sign, scale):
    """(our attacked image, theirs, our gain in J, theirs) for one pair."""
    objective = ScorerObjective(
        scorer, ref, dist, torch.tensor([sign]), Budget("linf", torch.tensor([EPS])), SampleRng([])
    )
    attack = Registry().attack("pgd").build({"steps": STEPS, "step_size": STEP, "start": "zero"})
    ours = attack.perturb(objective, dist.clone(), Budget("linf", torch.tensor([EPS])), SampleRng([]))
    with torch.no_grad():
        clean = objective(dist)
    model = AsClassifier(scorer, ref, sign, clean, scale).eval()
    with torch.random.fork_rng():
        theirs = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS, random_start=False)(dist, torch.tensor([0]))
    with torch.no_grad():
        return ours, theirs, (objective(ours) - clean).item(), (objective(theirs) - clean).item()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_on_a_linear_metric_exactly(registry, sign):
    scorer = Scorer(registry.metric("linear").build({}))
    draws = SampleRng.for_samples(0, ["x"], "images")
    ref, dist = draws.uniform(3, 16, 16), draws.uniform(3, 16, 16)
    ours, theirs, _, _ = both(scorer, ref, dist, sign, 1.0)
    assert torch.allclose(ours, theirs, atol=1e-6), "they add and clamp in another order: one rounding per step"
    assert ((ours - dist).abs() > STEP).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_on_birqa_tiny_nearly_every_pixel(sign):
    registry = Registry()
    scorer = Scorer(default_metric("birqa-tiny", registry, torch.device("cpu")))
    data = registry.dataset("mini").build({})
    entries = [e for e in data.entries("test") if e.id.endswith(("coffee-0/jpeg/3", "chelsea-1/white_noise/2"))]
    assert len(entries) == 2
    for entry in entries:
        images = data.load(entry)
        ours, theirs, shift, their_shift = both(scorer, images["ref"][None], images["dist"][None], sign, 4.0)
        same = ((ours - theirs).abs() < 1e-6).float().mean().item()
        assert same >= 0.995, f"{entry.id}: {same:.4f} of the values agree"
        assert shift == pytest.approx(their_shift, rel=0.02) and shift > 0
