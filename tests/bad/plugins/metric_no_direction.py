from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """A metric."""

    minimum_size = 1

    def score(self, reference, dist):
        return -(dist - reference).abs().flatten(1).mean(1)
