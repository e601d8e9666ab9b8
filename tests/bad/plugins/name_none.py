from harness.contracts import Metric, register


@register
class Bad(Metric):
    """A metric."""

    higher_is_better = True

    def score(self, reference, dist):
        return -(dist - reference).abs().flatten(1).mean(1)
