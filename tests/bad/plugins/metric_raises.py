from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Raises."""

    higher_is_better = True

    def score(self, reference, dist):
        raise RuntimeError("out of luck")
