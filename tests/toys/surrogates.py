"""A metric that names a stand-in for its backward pass."""

from harness.contracts import Metric, register


@register("surrogate_rounded")
class SurrogateRounded(Metric):
    """Minus the squared error of images rounded to 32 levels, and the squared error itself as its surrogate."""

    higher_is_better = True
    exact_gradient = False

    def score(self, reference, dist):
        return self.surrogate(reference, (dist * 31).round() / 31)

    def surrogate(self, reference, dist):
        return -(dist - reference).square().flatten(1).mean(1)
