from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """A Python number."""

    higher_is_better = True

    def score(self, reference, dist):
        return float((dist - reference).mean())
