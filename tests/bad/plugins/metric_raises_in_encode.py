from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Raises in encode."""

    higher_is_better = True

    def encode(self, ref):
        return {}['weights']

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)
