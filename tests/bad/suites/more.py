"""Plugins that the suites here name and toy.py has not."""

from dataclasses import dataclass

from harness.contracts import Attack, Dataset, Entry, Metric, register


@register("needs_a_gain")
class NeedsAGain(Metric):
    """A metric with a parameter that must be given."""

    higher_is_better = True

    def __init__(self, *, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def score(self, reference, dist):
        return -self.gain * (dist - reference).abs().flatten(1).mean(1)


@register("no_opinions")
class NoOpinions(Dataset):
    """Pairs that nobody has judged."""

    labels = "none"

    def entries(self, split):
        return [Entry("a/1", "a")]

    def load(self, entry):
        raise NotImplementedError

    def fingerprint(self):
        return "no opinions"


@register("round")
@dataclass(frozen=True)
class Round(Attack):
    """An attack in l2."""

    norms = frozenset({"l2"})

    def perturb(self, objective, images, budget, rng):
        return images
